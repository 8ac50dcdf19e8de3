"""A function of mean and variance ranks as an objective of ours with the same values does."""

import math

import numpy as np
import pytest
import torch
from strategies.screens import label, pairs_of, planted_screen
from torch import Tensor

from inverse_design.problem.objective import FunctionObjective, OwnObjective, SignedProjection
from inverse_design.problem.target import ScalarTarget
from inverse_design.proposal import propose
from surrogates.errors import DataError
from surrogates.models.baselines import ScaledAdditive
from surrogates.models.wrappers.calibrated import Calibrated

TOGETHER = pairs_of(7, 15)
SCREEN = planted_screen(alone=range(7), together=TOGETHER, readouts=4)
FITTED = Calibrated(ScaledAdditive()).fit(SCREEN, seed=0)
UP = ScalarTarget("r1", "maximise")


def test_the_mean_of_a_readout_is_its_projection() -> None:
    own = propose(SCREEN, UP, objective=lambda mean, _: mean[:, 1], surrogate="scaled_additive").table
    ours = propose(SCREEN, UP, surrogate="scaled_additive").table
    assert own["perturbation"].tolist() == ours["perturbation"].tolist()
    np.testing.assert_allclose(own["utility"], ours["utility"], atol=1e-9)
    widths = [each["upper"] - each["lower"] for each in (own, ours)]
    np.testing.assert_allclose(*widths, rtol=0.3)  # in units of a spread that is known from draws
    assert own["beats_nothing"].tolist() == ours["beats_nothing"].tolist()


def test_the_spread_of_the_outcome_is_that_of_the_effect() -> None:
    posterior = FITTED.predict(SCREEN.batch)
    own = FunctionObjective(lambda mean, _: mean[:, 1]).predicted(posterior)
    ours = SignedProjection(UP.on(SCREEN.readouts)).predicted(posterior)
    torch.testing.assert_close(own.mean, ours.mean)
    ratio = own.variance / ours.variance
    assert 0.9 < float(ratio.mean()) < 1.1  # of 256 draws each
    assert bool((own.variance > 0).all())


def test_variance_is_what_measured_effects_have_none_of() -> None:
    objective = FunctionObjective(lambda mean, variance: mean[:, 0] - variance[:, 0].sqrt())
    posterior = FITTED.predict(SCREEN.batch)
    torch.testing.assert_close(objective.measured(SCREEN.effects), SCREEN.effects[:, 0])
    assert bool((objective.predicted(posterior).mean < posterior.mean[:, 0]).all())
    assert bool(objective.utility(FITTED, SCREEN.batch).variance.isnan().all())


def test_numpy_is_taken() -> None:
    def numbers(mean: Tensor, variance: Tensor) -> np.ndarray:
        found: np.ndarray = mean.numpy().max(1) - variance.numpy().mean(1)
        return found

    table = propose(SCREEN, label(TOGETHER[0]), objective=numbers, surrogate="additive", top=3).table
    assert table["utility"].is_monotonic_decreasing
    assert "distance" not in table


@pytest.mark.parametrize(
    ("function", "said"),
    [
        (lambda mean, _: mean.sum(), r"of shape \(\) for 2 candidates; give one number for each row"),
        (lambda mean, _: mean, r"of shape \(2, 4\) for 2 candidates"),
        (lambda mean, _: mean[:, 0] * math.nan, "is nan for 2 of 2 candidates; give finite numbers"),
    ],
)
def test_what_is_no_number_for_each_candidate_is_refused(function: OwnObjective, said: str) -> None:
    with pytest.raises(DataError, match=said):
        FunctionObjective(function).measured(SCREEN.effects[:2])
