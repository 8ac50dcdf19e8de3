"""Screens under the names of this package, where people look for them first."""

from pathlib import Path
from typing import TypeAlias

import pandas as pd

from surrogates.data.io.annotated import AnnotatedMatrix
from surrogates.data.io.readers import read_screen
from surrogates.data.screen import Screen

__all__ = ["Screen", "ScreenLike", "as_screen", "read_screen"]

ScreenLike: TypeAlias = Screen | str | Path | pd.DataFrame | AnnotatedMatrix


def as_screen(source: ScreenLike) -> Screen:
    """Take a screen as it is, or read one: a path, a DataFrame or an AnnData."""
    return source if isinstance(source, Screen) else read_screen(source)
