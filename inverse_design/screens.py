"""Screens under the names of this package, where people look for them first."""

from surrogates.data.io.readers import read_screen
from surrogates.data.screen import Screen

__all__ = ["Screen", "read_screen"]
