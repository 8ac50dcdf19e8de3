"""How sure are we: posteriors and the model of prediction errors."""
