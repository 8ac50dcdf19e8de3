"""The project's own measurements, as tidy rows."""
