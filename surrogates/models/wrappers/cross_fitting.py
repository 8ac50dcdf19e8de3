"""Perturbations that a fit has not seen, and what it predicts of them: the material of every calibration.

Errors on held-out conditions are kept by novelty class, with the pairs among which a held-out double is to be
identified. Where nothing could be held out, the error model is borrowed from other screens and the measurement.
"""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import accumulate, combinations
from typing import TypeAlias

import torch
from jaxtyping import Float, Int
from torch import Tensor

from surrogates.data.canonical import number_rows
from surrogates.data.novelty import SEEN_DOUBLE, SEEN_SINGLE, Split, fold_numbers, novelty_code
from surrogates.data.screen import Screen
from surrogates.data.vocabulary import PerturbationBatch
from surrogates.errors import CalibrationError
from surrogates.models.base import Fitted, Surrogate, pair_factored, single_effects
from surrogates.models.wrappers.denoised import fit_parts
from surrogates.models.wrappers.public_law import BORROWED, SingleSpread, public_law
from surrogates.summary import summary
from surrogates.uncertainty.conformal.quantiles import refuse_nan
from surrogates.uncertainty.error_model import ErrorLaw, FactorCovariance, StandardResiduals
from surrogates.uncertainty.forms import HeldOutFold, Table, inner_products
from surrogates.uncertainty.selection import FoldTrial


@dataclass(frozen=True)
class HeldOutFit:
    """A fitted model, and what was measured of perturbations that it has not seen.

    The unit is the perturbation. Cells, wells or replicates of one perturbation are not exchangeable with those of
    another: they share its error, so that many of them say hardly more than one.

    Attributes:
        fitted: A model that was fitted without them.
        batch: The perturbations, each once.
        effects: What was measured of each.
    """

    fitted: Fitted
    batch: PerturbationBatch
    effects: Float[Tensor, "n g"]
    __repr__ = summary

    def __post_init__(self) -> None:
        """Refuse shapes that do not fit, effects that are NaN, and rows that are no perturbations of their own."""
        if len(self.batch) != len(self.effects):
            raise CalibrationError(
                f"{len(self.batch)} held-out perturbations come with {len(self.effects)} effects"
            )
        if self.effects.shape[1] != len(self.fitted.readouts):
            raise CalibrationError(
                f"held-out effects of {self.effects.shape[1]} readouts do not fit a model of"
                f" {len(self.fitted.readouts)}"
            )
        refuse_nan(self.effects)
        numbers = number_rows(self.batch.genes)
        counts = numbers.bincount()
        if bool((counts > 1).any()):
            most = int(counts.argmax())
            label = self.fitted.vocabulary.perturbation(self.batch.genes[numbers == most][0]).label
            raise CalibrationError(
                f"{label!r} stands in {int(counts[most])} of {len(self.batch)} held-out rows. Cells, wells and"
                " replicates of one perturbation share its error: intervals calibrated on them hold for more of"
                " the same, and fail for new perturbations. Give one effect per perturbation, such as the mean of"
                " its cells"
            )

    @property
    def codes(self) -> Int[Tensor, "n"]:
        """Novelty class of each held-out perturbation, given what the model has seen."""
        return novelty_code(self.batch, self.fitted.measured_alone)


@dataclass(frozen=True)
class HeldOutPredictions:
    """What models predicted of perturbations that none of them had seen."""

    batch: PerturbationBatch  # the perturbations; one that several models held out stands there as often
    measured: Float[Tensor, "n g"]  # measured effect of each
    mean: Float[Tensor, "n g"]  # predicted effect of each
    scale: Float[Tensor, "n"]  # posterior scale of each prediction

    def __len__(self) -> int:
        return len(self.measured)

    @property
    def residuals(self) -> Float[Tensor, "n g"]:
        """Measured minus predicted."""
        return self.measured - self.mean

    def standardised(self, *, most: int | None = None) -> StandardResiduals:
        """The residuals in units of the posterior scale, for error models of at most so many factors."""
        return StandardResiduals.of(self.residuals, self.scale, most=most)

    @classmethod
    def unknown(cls, batch: PerturbationBatch, measured: Float[Tensor, "n g"]) -> "HeldOutPredictions":
        """Make room for predictions."""
        return cls(batch, measured, torch.empty_like(measured), measured.new_empty(len(measured)))

    def fill(self, first: int, fitted: Fitted, batch: PerturbationBatch) -> None:
        """Put in, from a row on, what a model predicts that has not seen these rows."""
        posterior, rows = fitted.predict(batch), slice(first, first + len(batch))
        self.mean[rows], self.scale[rows] = posterior.mean, posterior.scale

    @classmethod
    def pooled(cls, parts: Sequence["HeldOutPredictions"]) -> "HeldOutPredictions":
        """Pool what several models predicted."""
        return cls(
            _pooled([part.batch for part in parts]),
            torch.cat([part.measured for part in parts]),
            torch.cat([part.mean for part in parts]),
            torch.cat([part.scale for part in parts]),
        )


def _pooled(parts: Sequence[PerturbationBatch]) -> PerturbationBatch:
    return PerturbationBatch(torch.cat([part.genes for part in parts]), torch.cat([part.dose for part in parts]))


HeldOut: TypeAlias = tuple[PerturbationBatch, Float[Tensor, "n g"]]  # perturbations and what was measured of each


@dataclass(frozen=True)
class CrossFits:
    """One surrogate fitted to a screen and to it without each fold, and its predictions of held-out rows."""

    whole: Fitted  # to everything
    alone: tuple[Fitted, ...]  # without each fold
    tests: tuple[HeldOut, ...]  # what each fold holds out
    every: HeldOutPredictions | None  # all folds, each as predicted by the fit without it; ``None`` without folds
    # For each fold all others, the next one first, each as predicted by a fit that saw neither of the two; of two
    # folds the other one, by the fit without it.
    nested: tuple[HeldOutPredictions, ...]

    @classmethod
    def several(cls, fits: Iterable[Sequence[Fitted]], tests: Sequence[HeldOut]) -> tuple["CrossFits", ...]:
        """Collect the fits of several surrogates, which come in the order of :func:`left_out`.

        They share one table of what was measured: all folds twice, so that the others of each lie together.
        """
        run, folds = iter(fits), len(tests)
        whole = next(run)
        if not folds:
            return tuple(cls(fit, (), (), None, ()) for fit in whole)
        batch, measured = _pooled([each for each, _ in tests] * 2), torch.cat([each for _, each in tests] * 2)
        ends = [0, *accumulate(len(each) for each, _ in (*tests, *tests))]

        def turn(first: int, last: int) -> HeldOut:
            rows = slice(ends[first], ends[last])
            return batch.rows(rows), measured[rows]

        tests = tuple(turn(fold, fold + 1) for fold in range(folds))
        turns = [turn(0, folds), *(turn(fold + 1, fold + folds) for fold in range(folds))]
        known = [[HeldOutPredictions.unknown(*each) for each in turns] for _ in whole]

        def fill_nested(fold: int, other: int, some: Sequence[Fitted]) -> None:
            place = fold + 1 + (other - fold - 1) % folds
            for (_, *nested), fit in zip(known, some, strict=True):
                nested[fold].fill(ends[place] - ends[fold + 1], fit, tests[other][0])

        alone = [next(run) for _ in tests]
        for fold, some in enumerate(alone):
            for (every, *_), fit in zip(known, some, strict=True):
                every.fill(ends[fold], fit, tests[fold][0])
            if folds == 2:
                fill_nested(1 - fold, fold, some)
        for (one, other), some in zip(left_out(folds)[folds + 1 :], run, strict=True):
            fill_nested(one, other, some)
            fill_nested(other, one, some)
        own = zip(whole, zip(*alone, strict=True), known, strict=True)
        return tuple(cls(fit, without, tests, every, tuple(nested)) for fit, without, (every, *nested) in own)


def left_out(folds: int) -> list[tuple[int, ...]]:
    """List the folds that each cross-fit is made without: none, each, and each pair where that leaves a third."""
    return [(), *combinations(range(folds), 1), *(combinations(range(folds), 2) if folds > 2 else ())]


@dataclass(frozen=True)
class HeldOutErrors:
    """Cross-fitted errors of some surrogates on the conditions of one novelty class."""

    code: int  # the class, as numbered by :func:`surrogates.data.novelty.novelty_code`
    errors: Float[Tensor, "m b g"]  # measured minus predicted effects of each surrogate
    scales: Float[Tensor, "m b"]  # posterior scale of each prediction
    # How much each condition counts, so that all targets that the fits had not seen count the same: conditions of
    # one target err alike. One where every part was seen.
    shares: Float[Tensor, "b"]
    splits: Int[Tensor, "b"]  # which split held each condition out
    conditions: Int[Tensor, "b"]  # equal where the same perturbation was held out by several splits

    @property
    def support(self) -> int:
        """Number of held-out conditions."""
        return self.errors.shape[1]

    @property
    def independent(self) -> int:
        """Number of held-out targets, or of conditions where every part was seen."""
        return round(float(self.shares.sum()))


@dataclass(frozen=True)
class SplitFit:
    """Fits to the training part of a split, and what they make of the conditions that they have not seen."""

    fits: tuple[Fitted, ...]  # one per surrogate
    training: Int[Tensor, "n"]  # numbers of the rows that they were fitted to
    batch: PerturbationBatch  # the held-out perturbations
    effects: Float[Tensor, "b g"]  # what was measured of them
    codes: Int[Tensor, "b"]  # novelty class of each with respect to the training part
    hidden: tuple[frozenset[str], ...]  # targets of each that are not in the training part alone
    errors: Float[Tensor, "m b g"]  # measured minus predicted effects of each surrogate
    scales: Float[Tensor, "m b"]  # posterior scale of each prediction


def fit_splits(
    surrogates: Sequence[Surrogate], screen: Screen, splits: Sequence[Split], *, seed: int
) -> tuple[SplitFit, ...]:
    """Fit every surrogate to every training part and predict what was held out."""
    fits = fit_parts(surrogates, screen, [split.train for split in splits], seed=seed)
    return tuple(_of_split(each, screen, split) for each, split in zip(fits, splits, strict=True))


def _of_split(fits: tuple[Fitted, ...], screen: Screen, split: Split) -> SplitFit:
    training, batch = screen.rows(split.train), screen.batch.rows(split.test)
    posteriors = [each.predict(batch) for each in fits]
    error = torch.stack([screen.effects[split.test] - each.mean for each in posteriors])
    scale = torch.stack([each.scale for each in posteriors])
    alone = training.single_rows >= 0
    codes = novelty_code(batch, alone)
    targets = screen.vocabulary.targets
    hidden = tuple(
        frozenset(targets[entry] for entry in ids if entry >= 0 and not alone[entry])
        for ids in batch.genes.tolist()
    )
    return SplitFit(fits, split.train, batch, screen.effects[split.test], codes, hidden, error, scale)


def pooled_errors(fits: Sequence[SplitFit]) -> tuple[HeldOutErrors, ...]:
    """Pool the errors of some splits by novelty class."""
    if not fits:
        return ()
    codes = torch.cat([each.codes for each in fits])
    errors, scales = torch.cat([each.errors for each in fits], 1), torch.cat([each.scales for each in fits], 1)
    hidden = [each for fit in fits for each in fit.hidden]
    splits = torch.arange(len(fits)).repeat_interleave(torch.tensor([len(each.batch) for each in fits]))
    conditions = number_rows(torch.cat([each.batch.genes for each in fits]))
    return tuple(
        HeldOutErrors(
            code,
            errors[:, codes == code],
            scales[:, codes == code],
            shares_of_targets([each for each, own in zip(hidden, codes.tolist(), strict=True) if own == code]),
            splits[codes == code],
            conditions[codes == code],
        )
        for code in codes.unique().tolist()
    )


def shares_of_targets(hidden: Sequence[frozenset[str]]) -> Float[Tensor, "b"]:
    """Weigh conditions so that every target counts the same.

    A condition with ``k`` unseen targets gives ``1/k`` to each. What it counts is that share divided by the
    sum over all conditions of the target, summed over its targets.
    """
    worth: dict[str, float] = defaultdict(float)
    for targets in hidden:
        for target in targets:
            worth[target] += 1 / len(targets)
    shares = [
        sum(1 / len(targets) / worth[target] for target in sorted(targets)) if targets else 1.0
        for targets in hidden
    ]
    return torch.tensor(shares, dtype=torch.float64)


# Without factors the prediction of each candidate is a row of its own, and rows are multiplied with each other.
_STREAMED = 1000
# Error models are compared among at most so many candidates, made of so many entries beside those of the truths.
_COMPARED, _ENTRIES = 20_000, 1000
_FEW = 4  # tables with more than so many times the rows that are wanted are not made again


def hold_out(
    screen: Screen,
    split: Split,
    fitted: Fitted,
    others: StandardResiduals,
    *,
    candidates: int,
    probes: int,
    seed: int,
) -> FoldTrial:
    """Lay candidates beside some held-out doubles, as a fit predicts them that has not seen the doubles."""
    places = fold_numbers(screen.places[split.test], folds=len(split.test), seed=seed)
    rows = split.test[places.argsort()[:probes]]
    factored = pair_factored(fitted)
    pairs, truth = candidate_pairs(screen, rows, candidates if factored else min(candidates, _STREAMED), seed)
    measured, own = screen.effects[rows], single_effects(screen)[0]  # no single is held out

    def singles() -> Float[Tensor, "v g"]:
        return own

    if factored is None:
        posterior = fitted.predict(fitted.vocabulary.dosed(pairs))
        mean, numbers = posterior.mean, torch.arange(len(pairs))[:, None]
        none = mean.new_empty(len(pairs), 0)
        fold = HeldOutFold(measured, truth, lambda: mean, numbers, mean[:0], none, posterior.scale, pairs, singles)
        return FoldTrial(fold, others)
    factors = factored.pair_factors()
    scores, basis = factors.scores, factors.basis
    table = singles if torch.equal(factors.main, own) else lambda: factored.pair_factors().main
    some = None
    if len(pairs) > len(rows) + _COMPARED:
        some, known = candidate_pairs(screen, rows, _COMPARED, seed, entries=_ENTRIES)
        entries, numbers = some.unique(return_inverse=True)
        few = singles if len(entries) == len(own) else lambda: own[entries]
        summed = few if table is singles else _rows_of(table, factors.main, entries)
    del factors  # as large as the screen, and so is what follows
    scale = factored.pair_scale()

    def weights(pairs: Int[Tensor, "c 2"]) -> tuple[Float[Tensor, "c r"], Float[Tensor, "c"]]:
        first, second = pairs.T
        across = inner_products(scale.left, scale.right, (first, second))
        return scores[first] * scores[second], scale.side[first] + scale.side[second] + across

    fold = HeldOutFold(measured, truth, table, pairs, basis, *weights(pairs), pairs, singles)
    if some is None:
        return FoldTrial(fold, others)
    fewer = HeldOutFold(measured, known, summed, numbers, basis, *weights(some), numbers, few)
    return FoldTrial(fold, others, fewer)


def _rows_of(table: Table, made: Float[Tensor, "n g"], rows: Int[Tensor, "m"]) -> Table:
    """Take some rows of a table; few of many are kept where it has to be made, which takes longer."""
    if _FEW * len(rows) > len(made):
        return table if len(rows) == len(made) else lambda: table()[rows]
    few = made[rows]
    return lambda: few


def candidate_pairs(
    screen: Screen, rows: Int[Tensor, "m"], count: int, seed: int, *, entries: int | None = None
) -> tuple[Int[Tensor, "c 2"], Int[Tensor, "m"]]:
    """List held-out pairs first, then all other pairs of entries measured alone, or a random part of them.

    Where ``entries`` is given, only those of the held-out pairs and so many others make further pairs.
    """
    truth = screen.batch.genes[rows][:, :2]
    seen = torch.nonzero(screen.single_rows >= 0).flatten()
    # So that names do not matter where some are drawn.
    seen = seen[screen.places[screen.single_rows[seen]].argsort()]
    v = len(screen.vocabulary)
    generator = torch.Generator().manual_seed(seed)
    if entries is not None and len(seen) > entries:
        held = torch.isin(seen, truth)
        drawn = torch.randperm(len(seen), generator=generator)
        seen = seen[torch.cat([drawn[held[drawn]], drawn[~held[drawn]][:entries]]).sort().values]
    if len(seen) * (len(seen) - 1) // 2 <= count:
        others = torch.combinations(seen, 2).sort(1).values
    else:
        drawn = torch.randint(len(seen), (2 * count, 2), generator=generator).sort(1).values
        keys = (drawn[:, 0] * len(seen) + drawn[:, 1])[drawn[:, 0] < drawn[:, 1]].unique()
        distinct = torch.stack([keys // len(seen), keys % len(seen)], 1)
        others = seen[distinct[torch.randperm(len(distinct), generator=generator)[:count]]].sort(1).values
    taken = torch.isin(others[:, 0] * v + others[:, 1], truth[:, 0] * v + truth[:, 1])
    return torch.cat([truth, others[~taken]]), torch.arange(len(rows))


# How far the likelihood of many correlated readouts is trusted when no held-out perturbation can show it.
_EFFECTIVE_READOUTS = 50.0


def laws_without_held_out(screen: Screen) -> dict[int, ErrorLaw]:
    """Lend doubles the variance that public screens let expect, and seen singles the noise of two measurements.

    Without standard errors nothing is known of the noise: half the mean square of the single effects stands in.
    """
    spread = SingleSpread.of(*single_effects(screen))
    if screen.standard_errors is None:
        alone = _diagonal_law((spread.raw + spread.centre.square()) / 2, "no held-out data")
    else:
        alone = _diagonal_law(2 * screen.standard_errors.square().mean(0), "standard errors")
    return {SEEN_DOUBLE: _diagonal_law(2 * public_law().ratio * spread.variance, BORROWED), SEEN_SINGLE: alone}


def _diagonal_law(variance: Float[Tensor, "g"], origin: str) -> ErrorLaw:
    floor = variance.mean() * 1e-3 + torch.finfo(torch.float64).eps
    return ErrorLaw(
        offset=torch.zeros_like(variance),
        covariance=FactorCovariance.independent(variance.clamp(min=float(floor))),
        coefficient_variance=0.0,
        degrees=float("inf"),
        temperature=min(1.0, _EFFECTIVE_READOUTS / len(variance)),
        support=0,
        origin=origin,
    )
