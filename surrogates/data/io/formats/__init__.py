"""Formats of files beside plain tables and .h5ad, each read by one function of the registry."""
