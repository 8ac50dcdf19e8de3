"""The command line, its tables and its files."""
