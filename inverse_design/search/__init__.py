"""Exact search over a space."""
