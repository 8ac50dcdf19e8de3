"""Choose the error model by what it is for: to tell which perturbation made a held-out effect.

Each fold of held-out combinations is identified among many candidates by a model that has not seen it; the
criterion is the mean log posterior probability of the truth under a uniform prior, at the best temperature. It is
a proper score, so that it also calibrates the probabilities.

Nothing that judges a fold has seen it, at any depth. The error model that judges fold ``a`` is learnt from the
residuals of the folds ``b != a`` under models that saw neither ``a`` nor ``b``: residuals of models that were
trained on ``a`` carry the errors of ``a``, and an error model that knows them identifies ``a`` far better than it
will identify anything new. What is promised of new perturbations is the score of each fold under the error model,
the shape and the temperature that were chosen on the other folds.
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TypeAlias

import torch
from jaxtyping import Bool, Float, Float32, Int
from torch import Tensor

from surrogates.memory import give_back_free_pages
from surrogates.uncertainty.dyadic import dyadic_standard_error
from surrogates.uncertainty.error_model import ErrorLaw, FactorCovariance, LawChoice, StandardResiduals
from surrogates.uncertainty.forms import FoldProducts, HeldOutFold, WantedProducts

RANKS = (0, 5, 10, 20, 40, 80)
SHRINKAGES = (0.0, 0.1, 0.5, 1.0)
COEFFICIENT_VARIANCES = (0.0, 1e-4, 3e-4, 1e-3, 3e-3, 1e-2, 3e-2, 1e-1, 3e-1)
TAILS = (math.inf, 10.0, 1.5, 0.3)
FEWEST_TO_CHOOSE = 20
_AXES: tuple[Callable[[LawChoice], list[LawChoice]], ...] = (
    lambda choice: [replace(choice, rank=each) for each in RANKS],
    lambda choice: [replace(choice, shrinkage=each) for each in SHRINKAGES],
    lambda choice: [replace(choice, coefficient_variance=each) for each in COEFFICIENT_VARIANCES],
    lambda choice: [replace(choice, tails=each) for each in TAILS],
)
_MOST_SWEEPS = 3
# Log temperatures stand on a grid of this step; between its points log probabilities are interpolated.
_STEP = 0.25
_LOWEST, _HIGHEST = -48, 4  # of the grid: temperatures of 6e-6 to 2.7
_COARSE = 8  # every so many points of the grid are looked at first
_NOTHING = -80.0  # log probabilities below are none; those of denormal numbers take ten times as long
_NUMBERS = 2**24  # in products that are kept for later choices of the same covariance, 128 MiB
_DENSITIES = 2**25  # of candidates that are compared, kept until their power is found, 128 MiB for several choices
_REACH = 3  # points of the grid that are looked at on either side of the best of the law before


@dataclass(frozen=True)
class FoldTrial:
    """A fold to be identified, and the residuals that its error model may be learnt from."""

    fold: HeldOutFold  # the fold, and candidates as a model predicts them that has not seen it
    others: StandardResiduals  # residuals of all other folds, each under a model that has seen neither of the two
    # The fold with fewer candidates, among which error models are compared; what is chosen is tempered, and
    # promised, among all.
    fewer: HeldOutFold | None = None


@dataclass(frozen=True)
class Selection:
    """A chosen error model and how well it identifies the held-out combinations that it was chosen on."""

    choice: LawChoice  # what was chosen
    temperature: float  # power of the likelihood at which held-out probabilities score best
    log_score: float  # mean log posterior probability of the truth
    support: int  # number of held-out combinations that were identified


@dataclass(frozen=True)
class Promise:
    """What held-out combinations say of how well new ones will be identified."""

    parts: Int[Tensor, "p 2"]  # vocabulary ids of the two parts of each identified combination
    fold: Int[Tensor, "p"]  # which fold held it out
    # Its log posterior probability under what was chosen on all folds: what choices are compared by.
    chosen: Float[Tensor, "p"]
    without: Float[Tensor, "k p"]  # the same under what was chosen without each fold, a line per fold

    @property
    def log_probability(self) -> Float[Tensor, "p"]:
        """Log posterior probability of each truth, by error models and choices that have not seen its fold."""
        return self.without.gather(0, self.fold[None])[0]

    @property
    def mean(self) -> float:
        """Mean log posterior probability that a new combination can expect, in nats."""
        return float(self.log_probability.mean())

    @property
    def standard_error(self) -> float:
        """Of the mean, knowing that combinations share genes; ``nan`` for fewer than two."""
        return dyadic_standard_error(self.log_probability, self.parts)


@dataclass(frozen=True)
class LawSelection:
    """The error model that was chosen on all folds, those chosen without each, and what they promise."""

    chosen: Selection  # on all folds: for the fit to everything
    without: tuple[Selection, ...]  # on all folds but one, one for each
    promise: Promise  # scores of the held-out combinations


def select_law(trials: Sequence[FoldTrial]) -> LawSelection:
    """Choose rank, shrinkage, coefficient variance, tails and temperature by cross-fitted identification.

    The grid is searched one coordinate after the other until nothing changes: once on all folds, and once without
    each.
    """
    give_back_free_pages()
    support = sum(len(trial.fold.measured) for trial in trials)
    scores = _Scores([replace(trial, fold=trial.fewer or trial.fold) for trial in trials], kept=_NUMBERS)
    fold, fewer = scores.fold, any(trial.fewer is not None for trial in trials)
    trials = [replace(trial, fewer=None) for trial in trials]
    # Factors beyond this leave too few residuals to estimate what they do not explain.
    most = min(0.7 * support * (1 - 1 / len(trials)), trials[0].fold.measured.shape[1] - 1)
    ranks = [rank for rank in RANKS if rank <= most] if support >= FEWEST_TO_CHOOSE else []
    everyone = torch.ones(len(fold), dtype=torch.bool)
    masks = [everyone, *(fold != each for each in range(len(trials)))]
    # The variance of a single readout is its mean over readouts.
    shrinkages = SHRINKAGES if trials[0].fold.measured.shape[1] > 1 else (LawChoice().shrinkage,)
    choices = [_search(scores, mask, ranks, shrinkages) for mask in masks]
    if fewer:  # among all candidates only what was chosen is tried: its products are not kept for others
        scores = _Scores(trials, near=scores.tempered)
    give_back_free_pages()
    scores.selections(list(dict.fromkeys(choices)), everyone)  # together: some share a covariance
    found = [scores.selections([choice], mask)[0] for choice, mask in zip(choices, masks, strict=True)]
    rows = [scores.at(selection.choice, selection.temperature) for selection in found]
    parts = torch.cat([trial.fold.parts[trial.fold.truth] for trial in trials])
    return LawSelection(found[0], tuple(found[1:]), Promise(parts, fold, rows[0], torch.stack(rows[1:])))


def _search(
    scores: "_Scores", rows: Bool[Tensor, "p"], ranks: Sequence[int], shrinkages: Sequence[float]
) -> LawChoice:
    """Find the error model that identifies some of the held-out combinations best."""
    if not ranks:
        return LawChoice()
    best = scores.selections([LawChoice(ranks[len(ranks) // 2], shrinkages[len(shrinkages) // 3], 1e-3)], rows)[0]
    for _ in range(_MOST_SWEEPS):
        before = best.choice
        for varied in _AXES:
            allowed = [each for each in varied(best.choice) if each.rank in ranks and each.shrinkage in shrinkages]
            tried = scores.selections(allowed, rows)
            best = max([best, *tried], key=lambda each: each.log_score)
        if best.choice == before:
            break
    return best.choice


_Known: TypeAlias = tuple[ErrorLaw, FoldProducts]  # of one fold, under a covariance


class _Scores:
    """Log posterior probabilities of all truths by error model and temperature, kept for reuse."""

    def __init__(
        self, trials: Sequence[FoldTrial], *, kept: int = 0, near: "Mapping[LawChoice, Tempered] | None" = None
    ) -> None:
        self._trials = trials
        self._near = near or {}  # among fewer candidates, with like temperatures
        self._kept = kept  # how many numbers in products are kept for later choices of the same covariance
        self.tempered: dict[LawChoice, Tempered] = {}
        self._products: dict[tuple[int, float], list[_Known]] = {}
        self._wanted = [WantedProducts.of(trial.fold) if kept else None for trial in trials]
        sizes = torch.tensor([len(trial.fold.truth) for trial in trials])
        self.fold = torch.arange(len(trials)).repeat_interleave(sizes)

    def selections(self, choices: Sequence[LawChoice], rows: Bool[Tensor, "p"]) -> list[Selection]:
        """Temper error models on some of the rows."""
        self._learn([choice for choice in choices if choice not in self.tempered])
        return [Selection(each, *self.tempered[each].best(rows), int(rows.sum())) for each in choices]

    def at(self, choice: LawChoice, temperature: float) -> Float[Tensor, "p"]:
        """Log posterior probability of every truth."""
        return self.tempered[choice].at(math.log(temperature))

    def _learn(self, choices: Sequence[LawChoice]) -> None:
        """Those that share a covariance share the whitening, which costs most."""
        shapes: dict[tuple[int, float], list[LawChoice]] = {}
        for choice in choices:
            shapes.setdefault((choice.rank, choice.shrinkage), []).append(choice)
        folds = [self.fold == each for each in range(len(self._trials))]
        for shape, shared in shapes.items():
            known = self._products_of(shape)
            together = max(1, _DENSITIES // sum(products.densities for _, products in known))
            for first in range(0, len(shared), together):
                some = shared[first : first + together]
                for choice, blocks in zip(some, zip(*_behind(known, some), strict=True), strict=True):
                    last = self._near.get(choice) or next(reversed(self.tempered.values()), None)
                    self.tempered[choice] = temper(blocks, folds, start=last.peak if last else None)

    def _products_of(self, shape: tuple[int, float]) -> list[_Known]:
        """Multiply the rows of all folds under a covariance, unless that is known."""
        known = self._products.pop(shape, None)
        if known is None:
            known = [
                _multiplied(trial, LawChoice(*shape), wanted)
                for trial, wanted in zip(self._trials, self._wanted, strict=True)
            ]
        self._products[shape] = known  # the last one: the first ones make room
        while len(self._products) * sum(each.numbers for _, each in known) > self._kept:
            del self._products[next(iter(self._products))]
        return known


def _multiplied(trial: FoldTrial, choice: LawChoice, wanted: WantedProducts | None) -> _Known:
    """Multiply the rows of a fold; factors of the covariance are used up by that, and let go."""
    law = trial.others.law(choice)
    plain = replace(law, covariance=FactorCovariance.independent(law.covariance.diagonal))
    return plain, FoldProducts.of(trial.fold, law, wanted)


def _behind(known: Sequence[_Known], choices: Sequence[LawChoice]) -> Iterator[list["BehindBest"]]:
    """Go through folds and blocks of rows, each under all choices."""
    for law, products in known:
        laws = [_with_choice(law, choice) for choice in choices]
        truths, size = products.fold.truths, (len(products.fold.truth), len(products.fold.parts))
        # Forms are larger than what is kept of them: it has one place, so that theirs is free again.
        room = [torch.empty(size, dtype=torch.float32).split(len(truths[0])) for _ in choices]
        for truth, block, *places in zip(truths, products.forms(), *room, strict=True):
            yield [
                BehindBest.of(each.log_density(*block), truth, into=place)
                for each, place in zip(laws, places, strict=True)
            ]


def _with_choice(law: ErrorLaw, choice: LawChoice) -> ErrorLaw:
    """Give an error model the scatter and the tails of another choice of the same covariance."""
    degrees = choice.tails * len(law.offset)
    return replace(law, coefficient_variance=choice.coefficient_variance, degrees=degrees)


@dataclass(frozen=True)
class Tempered:
    """Log posterior probabilities of held-out truths at neighbouring temperatures of a grid."""

    lowest: int  # the first of the temperatures, as a number of the grid
    rows: Float[Tensor, "t p"]  # one line per temperature

    @property
    def peak(self) -> int:
        """Number of the best temperature of the grid, over all rows."""
        return self.lowest + int(self.rows.mean(1).argmax())

    def best(self, used: Bool[Tensor, "p"]) -> tuple[float, float]:
        """Find the best temperature on some rows: the top of the parabola through three points."""
        means = self.rows[:, used].mean(1)
        at = min(max(int(means.argmax()), 1), len(means) - 2)
        before, here, after = means[at - 1 : at + 2].tolist()
        curvature = 2 * here - before - after
        shift = min(max((after - before) / (2 * curvature), -1.0), 1.0) if curvature > 0 else 0.0
        place = (self.lowest + at + shift) * _STEP
        return math.exp(place), float(self.at(place)[used].mean())

    def at(self, log_temperature: float) -> Float[Tensor, "p"]:
        """Interpolate every row by the cubic through the four nearest temperatures of the grid."""
        place = log_temperature / _STEP - self.lowest
        first = min(max(math.floor(place) - 1, 0), len(self.rows) - 4)
        nodes = range(first, first + 4)
        weights = [
            math.prod((place - other) / (node - other) for other in nodes if other != node) for node in nodes
        ]
        return torch.tensor(weights, dtype=self.rows.dtype) @ self.rows[first : first + 4]


@dataclass(frozen=True)
class BehindBest:
    """By how much log densities are below the best of their row."""

    truths: Float[Tensor, "n"]
    candidates: Float32[Tensor, "n c"]  # small where they count: single precision is exact enough, and fast

    @classmethod
    def of(
        cls, density: Float[Tensor, "n c"], truth: Int[Tensor, "n"], *, into: Float32[Tensor, "n c"] | None = None
    ) -> "BehindBest":
        """Compare densities of candidates with the best, and the number of the true one of each row."""
        behind = density - density.amax(1, keepdim=True)
        return cls(behind.gather(1, truth[:, None])[:, 0], behind.float() if into is None else into.copy_(behind))

    def at(self, number: int) -> Float[Tensor, "n"]:
        """Log posterior probability of each truth if likelihoods are raised to a power of the grid."""
        power = math.exp(number * _STEP)
        sums = (power * self.candidates).clamp_(min=_NOTHING).exp_().sum(1)
        return power * self.truths - sums.double().log()


def temper(
    blocks: Sequence[BehindBest], subsets: Sequence[Bool[Tensor, "p"]] = (), *, start: int | None = None
) -> Tempered:
    """Raise likelihoods to all powers among which the best may lie.

    The mean log probability is concave in the power, so that a best one which lies inside a range is the best of
    all; the range grows until that holds on all rows, and on all rows but those of each subset.
    """
    known: dict[int, Tensor] = {}

    def rows(number: int) -> Float[Tensor, "p"]:
        if number not in known:
            known[number] = torch.cat([each.at(number) for each in blocks])
        return known[number]

    if start is None:
        start = max(range(_LOWEST, _HIGHEST + 1, _COARSE), key=lambda number: float(rows(number).mean()))
    low, high = max(_LOWEST, start - _REACH), min(_HIGHEST, start + _REACH)
    while True:
        table = torch.stack([rows(number) for number in range(low, high + 1)])
        everyone = torch.ones(table.shape[1], dtype=torch.bool)
        masks = [everyone, *(~each for each in subsets if bool((~each).any()))]
        peaks = [low + int(table[:, mask].mean(1).argmax()) for mask in masks]
        if min(peaks) == low > _LOWEST:
            low = max(_LOWEST, low - _REACH)
        elif max(peaks) == high < _HIGHEST:
            high = min(_HIGHEST, high + _REACH)
        else:
            return Tempered(low, table)
