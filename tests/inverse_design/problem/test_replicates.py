from dataclasses import replace

import pytest
import torch
from strategies.screens import normal, pairs_of, planted_screen

from inverse_design.problem.likelihood import replicates
from inverse_design.problem.target import AlignedProfile
from surrogates.errors import CalibrationError
from surrogates.models.wrappers.cross_fitting import HeldOutPredictions

READOUTS = 300
SCREEN = planted_screen(alone=range(6), together=pairs_of(6, 9), readouts=READOUTS, standard_error=0.5)
TARGET = AlignedProfile.exact(range(READOUTS), 2 * normal(READOUTS, seed=1))


def test_two_measurements_differ_by_the_noise_of_both() -> None:
    found = replicates(TARGET, SCREEN, None, variance=None, seed=0)
    assert found.mean == pytest.approx(0.5 * 2**0.5, rel=0.02)
    assert bool((found.distances.diff() >= 0).all())
    sure = replicates(TARGET, SCREEN, None, variance=torch.zeros(READOUTS).double(), seed=0)
    assert sure.mean == pytest.approx(0.5, rel=0.02)
    assert "standard errors of two measurements" in found.source


def test_singles_lend_no_noise_to_combinations_where_there_are_any() -> None:
    errors = torch.full_like(SCREEN.effects, 9.0)
    errors[SCREEN.batch.order > 1] = 0.5
    found = replicates(TARGET, replace(SCREEN, standard_errors=errors), None, variance=None, seed=0)
    assert found.mean == pytest.approx(0.5 * 2**0.5, rel=0.02)


def test_readouts_count_with_their_weights() -> None:
    errors = torch.zeros_like(SCREEN.effects)
    errors[:, 7] = 3.0
    noisy = replace(SCREEN, standard_errors=errors)
    both = AlignedProfile.exact([7, 8], torch.ones(2).double())
    weighed = replace(both, weights=torch.tensor([3.0, 1.0]).double())
    plain, more = (replicates(each, noisy, None, variance=None, seed=0).distances for each in (both, weighed))
    torch.testing.assert_close(more, plain * 1.5**0.5)


def test_without_standard_errors_doubles_of_that_size_tell_by_their_errors() -> None:
    """Thirty weak doubles are predicted well and sixty strong ones badly."""
    measured = torch.cat([0.5 * normal(30, READOUTS, seed=2), 2 * normal(60, READOUTS, seed=3)])
    error = torch.cat([torch.full((30, 1), 0.1), torch.full((60, 1), 1.0)]).double() * normal(90, READOUTS, seed=4)
    batch = SCREEN.batch.rows(torch.full((90,), 8))
    held_out = HeldOutPredictions(batch, measured, measured - error, torch.ones(90).double())
    bare = replace(SCREEN, standard_errors=None)
    weak = AlignedProfile.exact(range(READOUTS), 0.5 * normal(READOUTS, seed=1))
    found = [replicates(each, bare, held_out, variance=None, seed=0) for each in (weak, TARGET)]
    assert [each.mean for each in found] == pytest.approx([0.1, 1.0], rel=0.1)
    assert "the errors of 30 held-out doubles" in found[0].source
    with pytest.raises(CalibrationError, match="nothing tells how far two measurements are apart"):
        replicates(TARGET, bare, None, variance=None, seed=0)
