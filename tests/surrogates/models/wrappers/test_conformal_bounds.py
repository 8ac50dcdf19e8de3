from dataclasses import dataclass, replace
from functools import cache

import pytest
import torch
from jaxtyping import Bool
from strategies.screens import normal, pairs_of, planted_screen
from torch import Tensor

from surrogates.data.vocabulary import PerturbationBatch, Vocabulary
from surrogates.models.wrappers.conformal import Bounded, FittedConformal, Reach, bounds_by_class
from surrogates.models.wrappers.cross_fitting import HeldOutFit
from surrogates.uncertainty.conformal.quantiles import plus_bounds
from surrogates.uncertainty.posterior import GaussianPosterior, isotropic

GENES = 10
PLAN = planted_screen(alone=range(GENES), together=pairs_of(GENES, 45), readouts=4)


@dataclass(frozen=True)
class Shifted:
    """Predicts a constant; some entries it has not seen."""

    shift: float
    hidden: tuple[int, ...] = ()
    vocabulary: Vocabulary = PLAN.vocabulary
    readouts: tuple[str, ...] = ("G00", "G01", "G02", "r")

    @property
    def measured_alone(self) -> Bool[Tensor, "v"]:
        return ~torch.isin(torch.arange(GENES), torch.tensor(self.hidden))

    def predict(self, batch: PerturbationBatch) -> GaussianPosterior:
        mean = torch.full((len(batch), 4), self.shift, dtype=torch.float64)
        return isotropic(mean, torch.linspace(0.5, 2, 4).double())


@cache
def doubles() -> PerturbationBatch:
    return PLAN.batch.rows(slice(GENES, None))


def held(fitted: Shifted, rows: Tensor, *, seed: int = 5) -> HeldOutFit:
    return HeldOutFit(fitted, doubles().rows(rows), normal(45, 4, seed=seed)[rows])


def of_own(batch: PerturbationBatch) -> Tensor:
    return torch.stack([(batch.genes == gene).any(1) for gene in (0, 1, 2)] + [torch.zeros(len(batch)).bool()], 1)


def test_own_readouts_are_calibrated_by_own_readouts() -> None:
    folds = [held(Shifted(0.1 * n), torch.arange(n, 40, 2)) for n in range(2)]
    new = doubles().rows(slice(40, None))
    spread = torch.linspace(0.5, 2, 4).double().sqrt()
    bounded = Bounded(lambda posterior: Reach.alike(posterior.mean, posterior.variance.sqrt()))
    plain = bounds_by_class(Shifted(0.0), folds, new, bounded, 0.8)
    apart = bounds_by_class(Shifted(0.0), folds, new, replace(bounded, own_apart=True), 0.8)
    scores = [(fold.effects - 0.1 * n).abs() / spread for n, fold in enumerate(folds)]
    marks = [of_own(fold.batch) for fold in folds]
    centres, spreads = [torch.full((4,), 0.1 * n).double() for n in range(2)], [spread] * 2
    own = plus_bounds(centres, spreads, [score[mark] for score, mark in zip(scores, marks, strict=True)], 0.8)
    every = plus_bounds([each[None] for each in centres], [spread[None]] * 2, scores, 0.8)
    asked = of_own(new)
    assert bool(asked.any())
    for found, before, wanted, otherwise in zip(apart, plain, own, every, strict=True):
        torch.testing.assert_close(before, otherwise.expand_as(before))
        torch.testing.assert_close(found, torch.where(asked, wanted.expand_as(found), otherwise))


def test_too_few_own_readouts_are_calibrated_like_the_others() -> None:
    without = torch.nonzero(~of_own(doubles()).any(1)).flatten()
    folds = [held(Shifted(0.0), without)]
    bounded = Bounded(lambda posterior: Reach.alike(posterior.mean, posterior.variance.sqrt()))
    plain = bounds_by_class(Shifted(0.0), folds, doubles(), bounded, 0.8)
    apart = bounds_by_class(Shifted(0.0), folds, doubles(), replace(bounded, own_apart=True), 0.8)
    for one, other in zip(plain, apart, strict=True):
        assert torch.equal(one, other)


@pytest.mark.parametrize("level", [0.5, 0.8])
def test_half_seen_combinations_are_bounded_by_fits_that_have_seen_the_same_half(level: float) -> None:
    """Entry 9 is unseen in all; each fold hides two more."""
    folds = []
    for fold, hidden in enumerate([(0, 1), (2, 3), (4, 5)]):
        one_hidden = torch.isin(doubles().genes, torch.tensor((*hidden, 9))).sum(1) == 1
        rows = torch.nonzero(one_hidden & ~(doubles().genes == 9).any(1)).flatten()
        folds.append(held(Shifted(float(fold), (*hidden, 9)), rows, seed=fold))
    new = torch.nonzero((doubles().genes == 9).any(1)).flatten()
    fitted = FittedConformal(Shifted(0.0, (9,)), tuple(folds))
    found = fitted.interval(doubles().rows(new), level)
    for number, row in enumerate(new.tolist()):
        seen = int(doubles().genes[row].min())
        used = [fold for fold in folds if seen not in fold.fitted.hidden]  # type: ignore[attr-defined]
        assert len(used) == (2 if seen < 6 else 3)
        centres = [fold.fitted.predict(doubles().rows(slice(0, 1))).mean for fold in used]
        scores = [(fold.effects - centre).abs() for fold, centre in zip(used, centres, strict=True)]
        lower, upper = plus_bounds(centres, [torch.ones(1, 4).double()] * len(used), scores, level)
        torch.testing.assert_close(found.lower[number], lower[0])
        torch.testing.assert_close(found.upper[number], upper[0])


def test_all_fits_count_where_those_that_know_as_much_are_too_few() -> None:
    genes = doubles().genes
    rows = [torch.nonzero(torch.isin(genes, torch.tensor((gene, 9))).sum(1) == 1).flatten()[:5] for gene in (0, 1)]
    folds = tuple(held(Shifted(0.0, (gene, 9)), each, seed=gene) for gene, each in enumerate(rows))
    new = torch.nonzero((genes == torch.tensor([0, 9])).all(1)).flatten()
    assert [int(each) for each in genes[new][0]] == [0, 9]
    found = FittedConformal(Shifted(0.0, (9,)), folds).interval(doubles().rows(new), 0.9)
    # Ten rows support the level, the five of the fold that has seen entry 0 do not.
    every = torch.cat([fold.effects.abs() for fold in folds])
    torch.testing.assert_close(found.upper[0], every.amax(0))


def test_reaches_below_and_above_are_kept_apart() -> None:
    centre = normal(6, 4, seed=1)
    reach = Reach(centre, normal(6, 4, seed=2).exp(), normal(6, 4, seed=3).exp())
    truth = normal(6, 4, seed=4)
    off = truth - centre
    wanted = torch.where(off > 0, off / reach.upwards, -off / reach.downwards)
    torch.testing.assert_close(reach.errors(truth), wanted)
    parts = [
        Reach(*(each[rows] for each in (centre, reach.downwards, reach.upwards)))
        for rows in (slice(2), slice(2, 6))
    ]
    again = Reach.joined(parts)
    assert not again.alike_in_both
    assert torch.equal(again.upwards, reach.upwards)
    assert torch.equal(again.only(off > 0).upwards, reach.upwards[off > 0])
    alike = Reach.joined([Reach.alike(centre, centre.abs()), Reach.alike(centre, centre.abs())])
    assert alike.alike_in_both
    assert alike.only(torch.cat([off, off]) > 0).alike_in_both
