"""Screens under the names of this package, where people look for them first."""

from pathlib import Path
from typing import TypeAlias

import pandas as pd

from surrogates.data.io.annotated import AnnotatedMatrix
from surrogates.data.io.notes import COUNTS
from surrogates.data.io.readers import read_screen
from surrogates.data.screen import Screen
from surrogates.errors import DataError, some_of

__all__ = ["Screen", "ScreenLike", "as_screen", "one_context", "read_screen"]

ScreenLike: TypeAlias = Screen | str | Path | pd.DataFrame | AnnotatedMatrix


def as_screen(source: ScreenLike) -> Screen:
    """Take a screen as it is, or read one: a path, a DataFrame or an AnnData."""
    return source if isinstance(source, Screen) else read_screen(source)


def one_context(screen: Screen, context: str | None) -> Screen:
    """Take one context, the only one if none is named."""
    if COUNTS in screen.provenance:
        raise DataError(f"{screen.provenance[COUNTS]}; --no-normalise takes them as they are")
    if context is not None:
        return screen.in_context(context)
    contexts = sorted(set(screen.contexts))
    if len(contexts) > 1:
        known = some_of(map(repr, contexts))
        raise DataError(f"the data hold {len(contexts)} contexts; name one with --context: {known}")
    return screen
