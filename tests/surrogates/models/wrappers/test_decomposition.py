from dataclasses import replace

import torch
from strategies.screens import pairs_of, planted_screen

from surrogates.data.novelty import SEEN_DOUBLE
from surrogates.data.screen import Screen
from surrogates.models.baselines import ScaledAdditive
from surrogates.models.interaction import Interaction
from surrogates.models.wrappers.calibrated import Calibrated, FittedCalibrated
from surrogates.models.wrappers.ensemble import Ensemble
from surrogates.models.wrappers.stated_errors import decompose, state_errors


def screen(standard_error: float = 0.2) -> Screen:
    return planted_screen(
        alone=range(8), together=pairs_of(8, 20), readouts=6, noise=0.5, bend=0.3, standard_error=standard_error
    )


def every_pair(fitted: FittedCalibrated) -> torch.Tensor:
    return fitted.vocabulary.dosed(torch.combinations(torch.arange(len(fitted.vocabulary)), 2))


def test_members_that_agree_leave_nothing_to_the_model() -> None:
    fitted = Calibrated(ScaledAdditive()).fit(screen(), seed=0)
    found = decompose(fitted, every_pair(fitted), screen())
    assert not found.epistemic.any()
    stated = state_errors(fitted).predict(every_pair(fitted)).variance
    torch.testing.assert_close(found.aleatoric, stated)
    torch.testing.assert_close(found.total, stated)


def test_the_disagreement_of_members_is_epistemic() -> None:
    fitted = Calibrated(Ensemble(Interaction(components=4, leading=2), members=5)).fit(screen(), seed=0)
    batch = every_pair(fitted)
    members = [member.predict(batch) for member in fitted.base.members]
    means = torch.stack([each.mean for each in members])
    scale = torch.stack([each.scale for each in members]).mean(0)
    law = fitted.law(SEEN_DOUBLE).covariance.variance
    said = means.var(0, correction=0) + (scale - 1).clamp(min=0)[:, None] * law
    stated = state_errors(fitted).predict(batch).variance
    for standard_error in (0.2, 0.0):
        found = decompose(fitted, batch, screen(standard_error))
        torch.testing.assert_close(found.epistemic, torch.minimum(said, stated - standard_error**2))
        torch.testing.assert_close(found.total, stated)
        assert bool((found.epistemic > 0.01 * stated).any())


def test_measurement_is_what_the_standard_errors_say_and_no_more_than_what_is_there() -> None:
    fitted = Calibrated(ScaledAdditive()).fit(screen(), seed=0)
    batch = every_pair(fitted)
    found = decompose(fitted, batch, screen())
    torch.testing.assert_close(found.measurement, torch.full_like(found.measurement, 0.04))
    loud = decompose(fitted, batch, screen(50.0))
    assert torch.equal(loud.measurement, loud.aleatoric)
    silent = decompose(fitted, batch, replace(screen(), standard_errors=None))
    assert not silent.measurement.any()
