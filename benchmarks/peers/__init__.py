"""Other libraries at the same search."""
