"""Conformal quantiles: by class, weighted, adaptive, and selection with them."""
