import math
from functools import cache

import pandas as pd
import pytest
import torch
from strategies.screens import normal, pairs_of, planted_screen

from inverse_design.candidates import candidates_table, outcome_bounds, spread_table
from inverse_design.problem.explanation import Explanation
from inverse_design.problem.likelihood import TargetLikelihood, baselines
from inverse_design.problem.objective import DISTANCE, SignedProjection
from inverse_design.problem.target import AlignedProfile
from surrogates.data.screen import Screen
from surrogates.data.vocabulary import PerturbationBatch
from surrogates.models.baselines import ScaledAdditive
from surrogates.models.wrappers.calibrated import Calibrated, FittedCalibrated
from surrogates.models.wrappers.conformal import conformal
from surrogates.models.wrappers.stated_errors import Decomposition

GENES, READOUTS = 8, 6
TARGET = AlignedProfile.exact(range(READOUTS), normal(READOUTS, seed=9))
LIKELIHOOD = TargetLikelihood(TARGET, torch.zeros(GENES).double())


@cache
def screen() -> Screen:
    return planted_screen(alone=range(GENES), together=pairs_of(GENES, 20), readouts=READOUTS, noise=0.4)


@cache
def fitted() -> FittedCalibrated:
    return Calibrated(ScaledAdditive(), folds=3).fit(screen(), seed=0)


def new() -> PerturbationBatch:
    """A pair like those that were held out, and a single, of which none was."""
    return screen().vocabulary.dosed(torch.tensor([[0, 7], [2, 3]]))


def explained(count: int) -> tuple[Explanation, ...]:
    return tuple(Explanation((), (), 1.0, 0.0, f"near {number}", 0.5) for number in range(count))


def test_bounds_are_conformal_ones_around_the_expected_distance() -> None:
    found = outcome_bounds(LIKELIHOOD, fitted(), new(), 0.8)
    calibrated = conformal(fitted())
    by_hand = calibrated.scalar(LIKELIHOOD.outcome, new(), 0.8)
    assert found.name == DISTANCE
    torch.testing.assert_close(found.lower, by_hand.lower.clamp(min=0))
    torch.testing.assert_close(found.upper, by_hand.upper)
    torch.testing.assert_close(found.expected, LIKELIHOOD.outcome.predicted(calibrated.predict(new())).mean)
    assert "hold the distance of 80 % of new perturbations" in found.notes[0]
    assert "not random ones" in found.notes[-1]


def test_what_cannot_be_calibrated_is_unknown_and_says_why() -> None:
    found = outcome_bounds(LIKELIHOOD, fitted(), new(), 0.99)
    assert bool(found.lower.isnan().all())
    assert bool(found.upper.isnan().all())
    assert bool(found.expected.isfinite().all())
    assert len(found.notes) == 1
    assert found.notes[0].startswith("warning: lower and upper of 'double, 2 of 2 seen' cannot be calibrated")
    assert "needs 99" in found.notes[0]


def test_the_distance_has_a_column_only_where_it_is_bounded() -> None:
    bounds = outcome_bounds(LIKELIHOOD, fitted(), new(), 0.8)
    nothing = baselines(LIKELIHOOD.outcome, screen())
    table = candidates_table(LIKELIHOOD, fitted(), new(), bounds, explained(2), nothing=nothing)
    columns = ["rank", "perturbation", "order", "utility", DISTANCE, "lower", "upper", "beats_nothing"]
    assert list(table.columns[:8]) == columns
    assert table["beats_nothing"].tolist() == (bounds.expected < nothing.nothing).tolist()
    assert table["perturbation"].tolist() == ["G00+G07", "G02+G03"]
    assert table["rank"].tolist() == [1, 2]
    assert table["nearest_measured"].tolist() == ["near 0", "near 1"]
    assert bool((table["lower"] < table["upper"]).all())
    assert table["in_set"].isna().all()
    score = SignedProjection(TARGET)
    bounds = outcome_bounds(score, fitted(), new(), 0.8)
    nothing = baselines(score, screen())
    table = candidates_table(score, fitted(), new(), bounds, explained(2), nothing=nothing)
    assert DISTANCE not in table
    assert table["beats_nothing"].tolist() == (bounds.expected > 0).tolist()
    assert table["utility"].tolist() == pytest.approx(bounds.expected.tolist())


def test_spread_is_a_root_mean_square_over_the_readouts_that_count() -> None:
    one = torch.tensor([[1.0, 9.0, 25.0]]).double()
    parts = Decomposition(one, 4 * one, 0 * one)
    table = spread_table(parts, pd.Series(["A"]), torch.tensor([0, 2]))
    assert table.to_dict("records") == [
        {"perturbation": "A", "epistemic": math.sqrt(13), "aleatoric": math.sqrt(52), "measurement": 0.0}
    ]
