"""Readers of files: dialects, design columns, cells to effects, public sources."""
