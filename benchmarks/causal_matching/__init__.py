"""A study of shifts of means in causal models whose graph is unknown."""
