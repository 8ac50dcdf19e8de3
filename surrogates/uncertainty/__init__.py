"""How sure are we: posteriors and the law of the prediction errors."""
