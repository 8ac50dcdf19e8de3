"""Damaged and crafted files of every kind that is read; what becomes of the process that reads them."""
