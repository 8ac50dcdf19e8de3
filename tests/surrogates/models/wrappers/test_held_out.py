from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from strategies.screens import gene, normal, pairs_of, planted_screen
from strategies.streamed import Predicting

from surrogates.data.novelty import novelty_code
from surrogates.data.perturbation import Perturbation
from surrogates.data.screen import Screen
from surrogates.data.vocabulary import PerturbationBatch
from surrogates.errors import CalibrationError
from surrogates.models.baselines import Additive
from surrogates.models.wrappers.conformal import FittedConformal
from surrogates.models.wrappers.cross_fitting import HeldOutFit
from surrogates.uncertainty.conformal.quantiles import conformal_quantile
from surrogates.uncertainty.posterior import GaussianPosterior, isotropic

GENES = 12
PAIRS = pairs_of(GENES, GENES * (GENES - 1) // 2)
SCREEN = planted_screen(alone=range(8), together=[*pairs_of(8, 10), (0, 8), (8, 9), (0, 1, 2)], readouts=5)
FITTED = Additive().fit(SCREEN, seed=0)


def test_the_class_is_that_given_what_the_fit_has_seen() -> None:
    held_out = HeldOutFit(FITTED, SCREEN.batch, SCREEN.effects)
    assert held_out.codes.tolist() == [17] * 8 + [34] * 10 + [33, 32, 51]
    less = Additive().fit(SCREEN.rows(range(1, 8)), seed=0)
    assert torch.equal(
        HeldOutFit(less, SCREEN.batch, SCREEN.effects).codes, novelty_code(SCREEN.batch, less.measured_alone)
    )


def test_nothing_held_out_is_allowed() -> None:
    assert HeldOutFit(FITTED, SCREEN.batch.rows(slice(0, 0)), SCREEN.effects[:0]).codes.tolist() == []


def test_shapes_that_do_not_fit_are_refused() -> None:
    with pytest.raises(CalibrationError, match="21 held-out perturbations come with 20 effects"):
        HeldOutFit(FITTED, SCREEN.batch, SCREEN.effects[1:])
    with pytest.raises(CalibrationError, match="effects of 4 readouts do not fit a model of 5"):
        HeldOutFit(FITTED, SCREEN.batch, SCREEN.effects[:, 1:])


def test_effects_that_are_not_numbers_are_refused() -> None:
    effects = SCREEN.effects.clone()
    effects[3, 2] = torch.nan
    with pytest.raises(CalibrationError, match="NaN, the first at 3, 2"):
        HeldOutFit(FITTED, SCREEN.batch, effects)


@given(st.lists(st.integers(0, 20), min_size=1, max_size=12))
def test_only_perturbations_each_once_are_taken(rows: list[int]) -> None:
    index = torch.tensor(rows)
    if len(set(rows)) == len(rows):
        assert len(HeldOutFit(FITTED, SCREEN.batch.rows(index), SCREEN.effects[index]).codes) == len(rows)
        return
    with pytest.raises(CalibrationError, match=r"stands in \d+ of \d+ held-out rows"):
        HeldOutFit(FITTED, SCREEN.batch.rows(index), SCREEN.effects[index])


def test_cells_are_refused_with_the_reason() -> None:
    cells = torch.tensor([8] * 3 + [9] * 7 + [10] * 2)
    said = (
        rf"'{SCREEN.labels[9]}' stands in 7 of 12 held-out rows\. Cells, wells and replicates of one perturbation"
        r" share its error: .* fail for new perturbations\. Give one effect per perturbation, such as the mean"
    )
    said = said.replace("+", r"\+")
    with pytest.raises(CalibrationError, match=said):
        HeldOutFit(FITTED, SCREEN.batch.rows(cells), SCREEN.effects[cells] + normal(12, 5, seed=1))


def test_another_width_of_the_same_ids_is_no_other_perturbation() -> None:
    one = SCREEN.vocabulary.batch([Perturbation.parse(gene(0)), Perturbation.parse(gene(1))], slots=3)
    again = PerturbationBatch(one.genes[[0, 1, 0]], one.dose[[0, 1, 0]])
    with pytest.raises(CalibrationError, match="'G00' stands in 2 of 3"):
        HeldOutFit(FITTED, again, normal(3, 5, seed=0))


def remember(screen: Screen) -> Predicting:
    """Know what it was fitted to by heart, as flexible models nearly do, and add up whatever is new."""
    held = Additive().fit(screen, seed=0)
    residuals = screen.effects - held.predict(screen.batch).mean

    def rule(batch: PerturbationBatch) -> GaussianPosterior:
        same = (batch.genes[:, None] == screen.batch.genes).all(2).double()
        mean = held.predict(batch).mean + same @ residuals
        return isotropic(mean, torch.ones(len(screen.readouts)).double())

    return Predicting(held, rule)


def shares_covered(world: int) -> tuple[float, float]:
    """How many new perturbations the bounds hold: calibrated on held-out cells, and on held-out perturbations."""
    truth = planted_screen(alone=range(GENES), together=PAIRS, readouts=4, noise=1.0, seed=10 * world)
    learnt, held_out, new = (truth.rows(range(*each)) for each in ((0, 42), (42, 61), (61, 78)))
    cells = learnt.effects[:, None] + 0.2 * normal(42, 10, 4, seed=world)  # ten cells of each perturbation
    fitted = remember(replace(learnt, effects=cells[:, :6].mean(1)))
    scores = (cells[:, 6:] - fitted.predict(learnt.batch).mean[:, None]).abs().flatten(0, 1)
    errors = (new.effects - fitted.predict(new.batch).mean).abs()
    bounds = FittedConformal.split(fitted, held_out).interval(new.batch, 0.9)
    inside = (bounds.lower <= new.effects) & (new.effects <= bounds.upper)
    return float((errors <= conformal_quantile(scores, 0.9)).double().mean()), float(inside.double().mean())


def test_cells_would_calibrate_for_more_of_the_same_and_fail_for_what_is_new() -> None:
    by_cells, by_perturbations = torch.tensor([shares_covered(world) for world in range(15)]).mean(0).tolist()
    assert by_cells < 0.4
    assert by_perturbations == pytest.approx(0.9, abs=0.04)
