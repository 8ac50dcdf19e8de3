import torch
from strategies.screens import pairs_of, planted_screen

from surrogates.models.baselines import Additive, NoChange, PerturbationMean, ScaledAdditive
from surrogates.models.wrappers.ensemble import Residual
from surrogates.testing import check_surrogate

SCREEN = planted_screen(alone=range(6), together=pairs_of(7, 10), readouts=5)


def test_contract() -> None:
    check_surrogate(Residual(ScaledAdditive(), NoChange()), SCREEN)
    check_surrogate(Residual(NoChange(), Additive()), SCREEN)


def test_a_correction_of_nothing_leaves_the_base() -> None:
    base = ScaledAdditive().fit(SCREEN, seed=0).predict(SCREEN.batch).mean
    corrected = Residual(ScaledAdditive(), NoChange()).fit(SCREEN, seed=0)
    torch.testing.assert_close(corrected.predict(SCREEN.batch).mean, base)


def test_the_correction_is_fitted_to_what_is_left_over() -> None:
    base = ScaledAdditive().fit(SCREEN, seed=0).predict(SCREEN.batch).mean
    corrected = Residual(ScaledAdditive(), PerturbationMean()).fit(SCREEN, seed=0)
    offset = (SCREEN.effects - base).mean(0)
    torch.testing.assert_close(corrected.predict(SCREEN.batch).mean, base + offset)
    expected = (SCREEN.effects - base - offset).square().mean(0)
    torch.testing.assert_close(corrected.variance, expected)
