import math
from dataclasses import replace

import pytest
from strategies.worlds import tiny_screen

from inverse_design.validate.forward import (
    DEFAULT_MODELS,
    Verdict,
    forward_report,
    losses,
    named_surrogates,
    verdict,
)
from surrogates.errors import UnknownNameError
from surrogates.evaluation.intervals import Row
from surrogates.models.interaction import Interaction
from surrogates.models.registry import SURROGATES
from surrogates.models.wrappers.automatic import Automatic

RATIO = Row(
    "forward",
    "mine",
    "mine",
    "double, 2 of 2 seen",
    "all",
    "mse_ratio_to_scaled_additive",
    0.9,
    0.8,
    0.95,
    9,
    "ratio",
)


@pytest.mark.parametrize(
    ("low", "high", "said"),
    [
        (0.8, 0.95, "better"),
        (1.1, 1.3, "worse"),
        (0.8, 1.1, "unclear"),
        (1.0, 1.0, "same"),
        (1 - 1e-12, 1 + 1e-12, "same"),
        (0.8, 1.0, "unclear"),
        (math.nan, math.nan, "unclear"),
    ],
)
def test_the_interval_decides(low: float, high: float, said: Verdict) -> None:
    assert verdict(replace(RATIO, low=low, high=high)) == said


def test_models_that_do_not_win_are_named() -> None:
    unseen = replace(RATIO, novelty="single, unseen", metric="mse_ratio_to_perturbation_mean")
    rows = [
        RATIO,
        replace(RATIO, model="lost", value=1.2, low=1.1, high=1.3),
        replace(RATIO, model="additive", value=1.2, low=1.1, high=1.3),
        replace(unseen, value=0.99, low=0.9, high=1.1),
        replace(
            unseen, metric="mse_ratio_to_no_change", value=1.5, low=1.4, high=1.6
        ),  # asks for another reference
    ]
    assert losses(rows, ("mine", "lost")) == [
        "warning: 'lost' does not beat 'scaled_additive' (double, 2 of 2 seen): squared error 1.200 of its,"
        " 95 % interval 1.100 to 1.300",
        "warning: 'mine' cannot be told from 'perturbation_mean' (single, unseen): squared error 0.990 of its,"
        " 95 % interval 0.900 to 1.100",
    ]
    assert losses(rows, ("all",)) == losses(rows, ("mine", "lost"))
    assert len(losses(rows, ("additive",))) == 1
    equal = replace(RATIO, value=1.0, low=1.0, high=1.0)
    assert "'mine' does not beat 'scaled_additive'" in losses([equal], ("mine",))[0]
    assert losses([replace(equal, model="scaled_additive")], ("scaled_additive",)) == []  # itself


def test_names_become_models() -> None:
    assert named_surrogates(DEFAULT_MODELS) == {"interaction": Interaction(), "automatic": Automatic()}
    assert set(named_surrogates(("all",))) == {*SURROGATES.names(), "automatic"}
    with pytest.raises(UnknownNameError, match="did you mean 'automatic'"):
        named_surrogates(("automatik",))


def test_the_report_holds_what_was_asked_for() -> None:
    report = forward_report(tiny_screen(), ("interaction",), seed=0, classes=("double-2",))
    assert {row.novelty for row in report.rows} == {"double, 2 of 2 seen"}
    assert "interaction" in {row.model for row in report.rows}
    with pytest.raises(UnknownNameError, match="novelty class 'single'"):
        forward_report(tiny_screen(), seed=0, classes=("single",))
