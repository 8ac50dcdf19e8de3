"""How well a forward model predicts what it has not seen."""
