"""A tiny screen, a model that is fitted at once, and what the benchmark of calibration finds of them."""

from dataclasses import replace
from functools import cache

import pandas as pd
from strategies.worlds import tiny_screen

from inverse_design.validate.calibration import ClassCard, measure_calibration
from surrogates.data.screen import Screen
from surrogates.models.baselines import NoChange, ScaledAdditive
from surrogates.models.wrappers.automatic import Automatic

QUICK = Automatic((ScaledAdditive(),), (NoChange(),))
LEVELS = (0.8, 0.9)


@cache
def three_folds() -> Screen:
    """The tiny screen, of which the doubles are held out in three folds."""
    folds = [-1] * 10 + [number % 3 for number in range(16)]
    return replace(tiny_screen(), annotations=pd.DataFrame({"double_fold": folds}))


@cache
def cards() -> tuple[ClassCard, ...]:
    """Judge two classes of that screen."""
    return measure_calibration(three_folds(), QUICK, seed=0, levels=LEVELS, classes=("double-2", "single-0"))
