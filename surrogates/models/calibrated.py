"""Any surrogate, with the error law that its own held-out predictions obey."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from surrogates.data.folds import fold_numbers
from surrogates.data.novelty import SEEN_DOUBLE, novelty_code, novelty_name, seen_code
from surrogates.data.screen import Screen
from surrogates.data.splits import Split, splits_over_doubles
from surrogates.data.vocabulary import PerturbationBatch, Vocabulary
from surrogates.errors import DataError
from surrogates.models.assumed_law import laws_without_held_out
from surrogates.models.base import (
    Fitted,
    PairFactored,
    PairFactors,
    PairScale,
    Surrogate,
    pair_factored,
    set_rows,
    surrogate_name,
)
from surrogates.models.held_out import HeldOutFit
from surrogates.models.singles import single_effects
from surrogates.uncertainty.posterior import GaussianPosterior
from surrogates.uncertainty.residuals import ErrorLaw
from surrogates.uncertainty.selection import HeldOutFold, Selection, pooled_residuals, select_law

# Without factors the prediction of each candidate is a row of its own, and rows are multiplied with each other.
_STREAMED_CANDIDATES = 1000


@dataclass(frozen=True)
class HeldOutError:
    """Cross-fitted squared error of a model beside that of the additive one, on the same combinations.

    Attributes:
        model: Sum over held-out combinations and readouts.
        additive: The same for the sum of the measured single effects.
        conditions: Number of held-out combinations.
    """

    model: float
    additive: float
    conditions: int

    @property
    def ratio(self) -> float:
        """Error relative to additive; below one is better, ``nan`` without combinations."""
        return self.model / self.additive if self.additive > 0 else float("nan")


@dataclass(frozen=True)
class FittedCalibrated:
    """A fitted surrogate and its error laws.

    Attributes:
        base: The surrogate, fitted on all the data.
        laws: Error law of each novelty class that has one, by the class's code.
        singles: Single effect of each entry: the directions along which coefficients scatter.
        selection: How the law of doubles of seen singles was chosen, ``None`` without such doubles.
        held_out: Cross-fitted error beside the additive model's.
        name: What the surrogate is made of.
        cross: The cross-fits, each with laws learnt from the others' held-out perturbations: what conformal
            intervals and sets are calibrated on.
    """

    base: Fitted
    laws: Mapping[int, ErrorLaw]
    singles: Float[Tensor, "v g"]
    selection: Selection | None
    held_out: HeldOutError
    name: str = ""
    cross: tuple[HeldOutFit, ...] = ()

    @property
    def vocabulary(self) -> Vocabulary:
        """What the ids of a batch mean."""
        return self.base.vocabulary

    @property
    def readouts(self) -> tuple[str, ...]:
        """Names of the readouts."""
        return self.base.readouts

    @property
    def measured_alone(self) -> Bool[Tensor, "v"]:
        """Whether each entry was measured alone."""
        return self.base.measured_alone

    def law(self, code: int) -> ErrorLaw:
        """Find the error law of a novelty class; one without its own borrows from doubles of seen singles.

        Args:
            code: A value of :func:`surrogates.data.novelty.novelty_code`.

        Returns:
            The law; its ``origin`` names the class that it was learnt from.
        """
        return self.laws.get(code, self.laws[SEEN_DOUBLE])

    def predict(self, batch: PerturbationBatch) -> GaussianPosterior:
        """Predict effects with calibrated covariances.

        Args:
            batch: Ids of the vocabulary.

        Returns:
            Normal effects, each with the covariance of its novelty class.
        """
        posterior = self.base.predict(batch)
        codes, group = torch.unique(novelty_code(batch, self.measured_alone), return_inverse=True)
        laws = [self.law(int(code)) for code in codes] or [self.laws[SEEN_DOUBLE]]
        # Nothing was done to the control: no error law moves its mean.
        offset = torch.stack([law.offset for law in laws])[group] * (batch.order > 0)[:, None]
        return GaussianPosterior(
            mean=posterior.mean + offset,
            scale=posterior.scale,
            covariances=tuple(law.covariance for law in laws),
            group=group,
        )

    def without_offsets(self) -> "FittedCalibrated":
        """Predict the bare means of the surrogate, without the mean of its held-out errors.

        Returns:
            The same laws with offsets of zero.
        """
        bare = {code: replace(law, offset=torch.zeros_like(law.offset)) for code, law in self.laws.items()}
        return replace(self, laws=bare)

    @property
    def factorises(self) -> bool:
        """Whether the pairs of the surrogate are scored by products."""
        return pair_factored(self.base) is not None

    def pair_factors(self) -> PairFactors:
        """Factors of the mean effect of all pairs of entries measured alone."""
        factors = _pair_factored(self.base).pair_factors()
        return PairFactors(factors.main + self.laws[SEEN_DOUBLE].offset / 2, factors.scores, factors.basis)

    def pair_scale(self) -> PairScale:
        """Factors of the posterior scale of all pairs."""
        return _pair_factored(self.base).pair_scale()

    def set_rows(self, order: int) -> Float[Tensor, "v g"] | None:
        """Rows of the surrogate (see :class:`SetAdditive`), with the offset of a class of combinations."""
        rows = set_rows(self.base, order)
        return None if rows is None else rows + self.law(seen_code(order)).offset / order


@dataclass(frozen=True)
class Calibrated:
    """Fits a surrogate, predicts held-out combinations by cross-fitting, and learns how those predictions miss.

    Attributes:
        base: The surrogate.
        folds: Number of folds over combinations.
        candidates: At most this many pairs stand beside the true one when laws are chosen.
        probes: At most this many combinations of each fold are identified to choose the law.
    """

    base: Surrogate
    folds: int = 5
    candidates: int = 6000
    probes: int = 60

    def __post_init__(self) -> None:
        """Refuse settings that leave nothing to learn from or nothing to tell apart."""
        if self.folds < 2:
            raise DataError(f"folds is {self.folds}; at least 2 are needed, so that some data stay to learn from")
        if self.candidates < 1:
            raise DataError(f"candidates is {self.candidates}; take 1 or more pairs beside the true one")

    def fit(self, screen: Screen, *, seed: int) -> FittedCalibrated:
        """Cross-fit, choose the error law, and fit on everything.

        Args:
            screen: Measured effects in one context.
            seed: Fixes folds and candidates.

        Returns:
            The fitted surrogate with its laws.
        """
        fits = [self.base.fit(each, seed=seed) for each in self.learnt_from(screen, seed=seed)]
        return self.learn(screen, fits, seed=seed)

    def learnt_from(self, screen: Screen, *, seed: int) -> tuple[Screen, ...]:
        """List what the surrogate is fitted to.

        Args:
            screen: Measured effects in one context.
            seed: Fixes folds.

        Returns:
            The screen, and the training part of each fold.
        """
        return screen, *(screen.rows(split.train) for split in self._splits(screen, seed))

    def learn(self, screen: Screen, fits: Sequence[Fitted], *, seed: int) -> FittedCalibrated:
        """Choose the error law of a surrogate that has been fitted.

        Args:
            screen: Measured effects in one context.
            fits: The surrogate fitted to each screen of :meth:`learnt_from`.
            seed: Fixes folds and candidates.

        Returns:
            The fitted surrogate with its laws.
        """
        fitted, *fits = fits
        singles, _ = single_effects(screen)
        name = surrogate_name(self.base)
        splits = self._splits(screen, seed)
        held_out = [self._hold_out(screen, split, fit, seed) for split, fit in zip(splits, fits, strict=True)]
        laws = laws_without_held_out(screen)
        whole = FittedCalibrated(fitted, laws, singles, None, HeldOutError(0.0, 0.0, 0), name)
        if not held_out:
            return whole
        selection = select_law(held_out)

        def learnt(folds: Sequence[HeldOutFold]) -> dict[int, ErrorLaw]:
            law = pooled_residuals(folds).law(
                selection.choice, temperature=selection.temperature, origin=novelty_name(SEEN_DOUBLE)
            )
            # Without standard errors seen singles borrow from the doubles: nothing better is known of their noise.
            return laws | {SEEN_DOUBLE: law} if screen.standard_errors is not None else {SEEN_DOUBLE: law}

        whole = replace(whole, selection=selection, held_out=_held_out_error(held_out))
        cross = tuple(
            HeldOutFit(
                replace(
                    whole,
                    base=fit,
                    laws=learnt([other for other in held_out if other is not fold]),
                    singles=fold.singles,
                ),
                screen.batch.rows(split.test),
                fold.measured,
            )
            for split, fit, fold in zip(splits, fits, held_out, strict=True)
        )
        return replace(whole, laws=learnt(held_out), cross=cross)

    def _splits(self, screen: Screen, seed: int) -> list[Split]:
        return splits_over_doubles(screen, folds=self.folds, seed=seed)

    def _hold_out(self, screen: Screen, split: Split, fitted: Fitted, seed: int) -> HeldOutFold:
        """Predict held-out doubles and other pairs by a fit that has not seen them."""
        rows = split.test
        count = self.candidates if pair_factored(fitted) else min(self.candidates, _STREAMED_CANDIDATES)
        pairs, truth = _candidate_pairs(screen, rows, count, seed)
        atoms, weights, scale = _as_sums(fitted, pairs)
        return HeldOutFold(
            measured=screen.effects[rows],
            truth=truth,
            atoms=atoms,
            weights=weights,
            scale=scale,
            parts=pairs,
            singles=single_effects(screen.rows(split.train))[0],
            probed=fold_numbers([screen.labels[int(row)] for row in rows], folds=len(rows), seed=seed).argsort()[
                : self.probes
            ],
        )


def _candidate_pairs(
    screen: Screen, rows: Int[Tensor, "m"], count: int, seed: int
) -> tuple[Int[Tensor, "c 2"], Int[Tensor, "m"]]:
    """The held-out pairs first, then all other pairs of entries measured alone, or a random part of them."""
    truth = screen.batch.genes[rows][:, :2]
    seen = torch.nonzero(screen.single_rows >= 0).flatten()
    v = len(screen.vocabulary)
    if len(seen) * (len(seen) - 1) // 2 <= count:
        others = torch.combinations(seen, 2)
    else:
        generator = torch.Generator().manual_seed(seed)
        drawn = seen[torch.randint(len(seen), (2 * count, 2), generator=generator)].sort(1).values
        others = torch.unique(drawn[drawn[:, 0] < drawn[:, 1]], dim=0)
        others = others[torch.randperm(len(others), generator=generator)[:count]]
    taken = torch.isin(others[:, 0] * v + others[:, 1], truth[:, 0] * v + truth[:, 1])
    return torch.cat([truth, others[~taken]]), torch.arange(len(rows))


def _as_sums(
    fitted: Fitted, pairs: Int[Tensor, "c 2"]
) -> tuple[Float[Tensor, "a g"], Float[Tensor, "c a"], Float[Tensor, "c"]]:
    """Predictions of pairs as weighted sums of few rows; without factors each is its own row."""
    batch = fitted.vocabulary.dosed(pairs)
    factored = pair_factored(fitted)
    if factored is None:
        posterior = fitted.predict(batch)
        return posterior.mean, torch.eye(len(pairs), dtype=torch.float64), posterior.scale
    factors, scale = factored.pair_factors(), factored.pair_scale()
    first, second = pairs.T
    products = factors.scores[first] * factors.scores[second]
    return (
        torch.cat([factors.main, factors.basis]),
        torch.cat([batch.multi_hot(len(fitted.vocabulary)), products], dim=1),
        scale.side[first] + scale.side[second] + (scale.left[first] * scale.right[second]).sum(1),
    )


def _held_out_error(folds: list[HeldOutFold]) -> HeldOutError:
    pairs = [fold.parts[fold.truth] for fold in folds]
    additive = sum(
        float((fold.measured - fold.singles[each].sum(1)).square().sum())
        for fold, each in zip(folds, pairs, strict=True)
    )
    model = sum(float(fold.residuals.square().sum()) for fold in folds)
    return HeldOutError(model, additive, sum(len(fold.measured) for fold in folds))


def _pair_factored(fitted: Fitted) -> PairFactored:
    factored = pair_factored(fitted)
    if factored is None:
        raise TypeError(f"{type(fitted).__name__} does not factorise over pairs; stream it instead")
    return factored
