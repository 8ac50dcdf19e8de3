"""Any surrogate, with the error model that its own held-out predictions obey."""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TypeAlias

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from surrogates.data.novelty import SEEN_DOUBLE, Split, novelty_code, novelty_name, seen_code, splits_over_doubles
from surrogates.data.screen import Screen
from surrogates.data.vocabulary import PerturbationBatch, Vocabulary
from surrogates.errors import DataError
from surrogates.memory import give_back_free_pages
from surrogates.models.base import (
    Fitted,
    LatentFactors,
    PairFactored,
    PairFactors,
    PairScale,
    Surrogate,
    latent_factors,
    pair_factored,
    set_rows,
    single_effects,
    sum_over_interventions,
    surrogate_name,
)
from surrogates.models.wrappers.cross_fitting import (
    CrossFits,
    HeldOut,
    HeldOutFit,
    HeldOutPredictions,
    hold_out,
    laws_without_held_out,
    left_out,
)
from surrogates.models.wrappers.denoised import Denoised, fit_parts
from surrogates.summary import summary
from surrogates.team import has_team, submitted
from surrogates.uncertainty.error_model import ErrorLaw, StandardResiduals
from surrogates.uncertainty.posterior import GaussianPosterior, Scatter
from surrogates.uncertainty.selection import RANKS, LawSelection, Promise, Selection, select_law


@dataclass(frozen=True)
class HeldOutError:
    """Cross-fitted squared error of a model beside that of the additive one, on the same combinations."""

    model: float  # sum over held-out combinations and readouts
    additive: float  # the same for the sum of the measured single effects
    conditions: int  # number of held-out combinations

    @property
    def ratio(self) -> float:
        """Error relative to additive; below one is better, ``nan`` without combinations."""
        return self.model / self.additive if self.additive > 0 else float("nan")


@dataclass(frozen=True)
class Expert:
    """A surrogate with its error model, and the weight of its posterior over candidates beside those of others."""

    weight: float  # positive; those of all experts add up to one
    fitted: "FittedCalibrated"  # the surrogate, without cross-fits and experts of its own

    def __post_init__(self) -> None:
        """Refuse weights that have no logarithm: files hold experts, too."""
        if not 0 < self.weight < math.inf:
            raise DataError(f"an expert of weight {self.weight} is none; weights are positive")


@dataclass(frozen=True)
class FittedCalibrated:
    """A fitted surrogate and its error models."""

    base: Fitted  # the surrogate, fitted on all the data
    laws: Mapping[int, ErrorLaw]  # error model of each novelty class that has one, by the class's code
    singles: Float[Tensor, "v g"]  # single effect of each entry: the directions along which coefficients scatter
    selection: Selection | None  # how that of doubles of seen singles was chosen, ``None`` without such doubles
    held_out: HeldOutError  # cross-fitted error beside the additive model's
    name: str = ""  # what the surrogate is made of
    # The cross-fits, each with the perturbations that it has not seen and error models that have not seen them
    # either, at any depth: what conformal intervals and sets are calibrated on.
    cross: tuple[HeldOutFit, ...] = ()
    # By the code of a novelty class, the held-out predictions that its error model was learnt from. Those of a
    # cross-fit are of models that saw neither the perturbations which they predict nor those which the cross-fit
    # holds out: whatever is learnt from them may judge the cross-fit.
    evidence: Mapping[int, HeldOutPredictions] = field(default_factory=dict)
    # How well held-out doubles were identified, by what had not seen them; ``None`` without any.
    promise: Promise | None = None
    # Surrogates whose posteriors over candidates are averaged to name what made a target; none where this one
    # speaks alone.
    experts: tuple[Expert, ...] = ()
    __repr__ = summary

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
        """Find the error model of a novelty class; one without its own borrows from doubles of seen singles."""
        return self.laws.get(code, self.laws[SEEN_DOUBLE])

    def predict(self, batch: PerturbationBatch) -> GaussianPosterior:
        """Predict effects with calibrated covariances."""
        posterior = self.base.predict(batch)
        codes, group = torch.unique(novelty_code(batch, self.measured_alone), return_inverse=True)
        laws = [self.law(int(code)) for code in codes] or [self.laws[SEEN_DOUBLE]]
        # Nothing was done to the control: no error model moves its mean.
        offset = torch.stack([law.offset for law in laws])[group] * (batch.order > 0)[:, None]
        deviation = torch.tensor([law.coefficient_variance for law in laws], dtype=torch.float64).sqrt()[group]
        return GaussianPosterior(
            mean=posterior.mean + offset,
            scale=posterior.scale,
            covariances=tuple(law.covariance for law in laws),
            group=group,
            scatter=Scatter(self.singles, batch.genes, deviation) if bool((deviation > 0).any()) else None,
        )

    def without_offsets(self) -> "FittedCalibrated":
        """Predict the bare means of the surrogate, without the mean of its held-out errors."""
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

    def latent_factors(self) -> LatentFactors | None:
        """The mean effect of all pairs of entries measured alone, by products or by networks on sums."""
        found = latent_factors(self.base)
        if found is None:
            return None
        main = found.factors.main + self.laws[SEEN_DOUBLE].offset / 2
        return replace(found, factors=replace(found.factors, main=main))

    def set_rows(self, order: int) -> Float[Tensor, "v g"] | None:
        """Rows of the surrogate (see :class:`SetAdditive`), with the offset of a class of combinations."""
        rows = set_rows(self.base, order)
        return None if rows is None else rows + self.law(seen_code(order)).offset / order


def judge_of(held_out: HeldOutFit) -> FittedCalibrated:
    """Take a cross-fit as the surrogate with an error law that judges what it has not seen."""
    if not isinstance(held_out.fitted, FittedCalibrated):
        raise TypeError(f"{type(held_out.fitted).__name__} has no error law, so that it identifies nothing")
    return held_out.fitted


@dataclass(frozen=True)
class Calibrated:
    """Fits a surrogate, predicts held-out combinations by cross-fitting, and learns how those predictions miss.

    An error model that judges a fold must not know its errors, and residuals of models that were trained on the
    fold do. So the surrogate is fitted without each fold, and once more without each pair of folds: what the two
    fits without ``a`` and ``b`` miss of ``b`` is what the error model of ``a`` is learnt from.

    Attributes:
        base: The surrogate.
        folds: Number of folds over combinations.
        candidates: All pairs of entries measured alone stand beside the true one when laws are chosen and truths
            promised; of more than this many (100,000 are those of 447 entries) only a random part does.
        probes: At most this many combinations of each fold are identified to choose the law.
    """

    base: Surrogate
    folds: int = 5
    candidates: int = 100_000
    probes: int = 60

    def __post_init__(self) -> None:
        """Refuse settings that leave nothing to learn from or nothing to distinguish."""
        if self.folds < 2:
            raise DataError(f"folds is {self.folds}; at least 2 are needed, so that some data stay to learn from")
        if self.candidates < 1:
            raise DataError(f"candidates is {self.candidates}; take 1 or more pairs beside the true one")

    def fit(self, screen: Screen, *, seed: int) -> FittedCalibrated:
        """Cross-fit, choose the error model, and fit on everything."""
        return next(fit_calibrated((self,), screen, seed=seed))

    def parts(self, screen: Screen, *, seed: int) -> list[Int[Tensor, "_"]]:
        """List the rows that the surrogate is fitted to.

        Args:
            screen: Measured effects in one context.
            seed: Fixes folds.

        Returns:
            All, those without each fold, and those without each pair of folds, where that leaves a fold.
        """
        tests = [split.test for split in self._splits(screen, seed)]
        kept = torch.ones(len(left_out(len(tests))), len(screen), dtype=torch.bool)
        for number, folds in enumerate(left_out(len(tests))):
            for fold in folds:
                kept[number, tests[fold]] = False
        return [torch.nonzero(each).flatten() for each in kept]

    def tests(self, screen: Screen, *, seed: int) -> list[HeldOut]:
        """List what each fold holds out.

        Args:
            screen: Measured effects in one context.
            seed: Fixes folds.

        Returns:
            Perturbations and their measured effects.
        """
        return [
            (screen.batch.rows(split.test), screen.effects[split.test]) for split in self._splits(screen, seed)
        ]

    def learn(self, screen: Screen, fits: CrossFits, *, seed: int) -> Callable[[], FittedCalibrated]:
        """Begin to choose the error model of a surrogate that has been fitted.

        Args:
            screen: Measured effects in one context.
            fits: The surrogate fitted to all of :meth:`parts`.
            seed: Fixes folds and candidates.

        Returns:
            What waits for the choice, and gives the fitted surrogate with its error models.
        """
        singles, _ = single_effects(screen)
        laws = laws_without_held_out(screen)
        name = surrogate_name(self.base)
        whole = FittedCalibrated(fits.whole, laws, singles, None, HeldOutError(0.0, 0.0, 0), name)
        splits, every = self._splits(screen, seed), fits.every
        if every is None:
            return lambda: whole
        standard = [others.standardised(most=max(RANKS)) for others in fits.nested]
        chosen = submitted(screen, _select, (self, list(zip(splits, fits.alone, standard, strict=True)), seed))
        # Without standard errors seen singles borrow from the doubles: nothing better is known of their noise.
        known = laws if screen.standard_errors is not None else {}

        def learnt(
            fitted: FittedCalibrated,
            selection: Selection,
            evidence: HeldOutPredictions,
            residuals: StandardResiduals,
        ) -> FittedCalibrated:
            law = residuals.law(
                selection.choice, temperature=selection.temperature, origin=novelty_name(SEEN_DOUBLE)
            )
            return replace(
                fitted,
                laws={**known, SEEN_DOUBLE: law},
                selection=selection,
                evidence={SEEN_DOUBLE: evidence},
            )

        def finished() -> FittedCalibrated:
            found, error = chosen(), _held_out_error(every, singles)
            residuals = every.standardised(most=max(RANKS))
            best = replace(learnt(whole, found.chosen, every, residuals), held_out=error)
            cross = tuple(
                HeldOutFit(learnt(replace(best, base=fit), selection, others, own), *test)
                for fit, selection, others, own, test in zip(
                    fits.alone, found.without, fits.nested, standard, fits.tests, strict=True
                )
            )
            return replace(best, cross=cross, promise=found.promise)

        return finished

    def holds_out(self, screen: Screen, *, seed: int) -> bool:
        """Tell whether anything can be held out to learn an error model from."""
        return bool(self._splits(screen, seed))

    def _splits(self, screen: Screen, seed: int) -> list[Split]:
        return splits_over_doubles(screen, folds=self.folds, seed=seed)


def fit_calibrated(calibrated: Sequence[Calibrated], screen: Screen, *, seed: int) -> Iterator[FittedCalibrated]:
    """Fit surrogates with their error models on the same folds; what their fits have in common is done once."""
    if not has_team(screen):
        return (learnt() for learnt in _begun(calibrated, screen, seed=seed))
    # A worker chooses error models of those that are fitted at once while others shrink single effects.
    begun: dict[int, Callable[[], FittedCalibrated]] = {}
    for shrunk in (False, True):
        some = [number for number, each in enumerate(calibrated) if isinstance(each.base, Denoised) == shrunk]
        begun |= zip(some, _begun([calibrated[number] for number in some], screen, seed=seed), strict=True)
    return (begun.pop(number)() for number in range(len(calibrated)))


def _begun(
    calibrated: Sequence[Calibrated], screen: Screen, *, seed: int
) -> Iterator[Callable[[], FittedCalibrated]]:
    """Fit some surrogates, and begin to choose their error models one after the other."""
    if not calibrated:
        return
    first = calibrated[0]
    fits = fit_parts([each.base for each in calibrated], screen, first.parts(screen, seed=seed), seed=seed)
    found = list(CrossFits.several(fits, first.tests(screen, seed=seed)))
    for each in calibrated:  # cross-fits are as large as the screen: in one process they go one by one
        yield each.learn(screen, found.pop(0), seed=seed)


_Fold: TypeAlias = tuple[Split, Fitted, StandardResiduals]  # with a fit and residuals that have not seen it


def _select(screen: Screen, asked: tuple[Calibrated, Sequence[_Fold], int]) -> LawSelection:
    """Choose the error model of a surrogate by how it identifies the doubles of all folds."""
    by, folds, seed = asked
    found = select_law([
        hold_out(screen, *fold, candidates=by.candidates, probes=by.probes, seed=seed) for fold in folds
    ])  # fmt: skip
    give_back_free_pages()
    return found


def _held_out_error(predicted: HeldOutPredictions, singles: Float[Tensor, "v g"]) -> HeldOutError:
    sums = sum_over_interventions(singles, predicted.batch)
    return HeldOutError(
        model=float(predicted.residuals.square().sum()),
        additive=float((predicted.measured - sums).square().sum()),
        conditions=len(predicted),
    )


def _pair_factored(fitted: Fitted) -> PairFactored:
    factored = pair_factored(fitted)
    if factored is None:
        raise TypeError(f"{type(fitted).__name__} does not factorise over pairs; stream it instead")
    return factored
