"""Shifts in a causal network that is known, with weights that are not (docs/causal_matching.md)."""
