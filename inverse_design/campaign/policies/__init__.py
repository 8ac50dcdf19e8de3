"""Policies: ways to choose experiments, one per file, and their names."""
