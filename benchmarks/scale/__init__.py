"""Time and memory of searches as the space grows."""
