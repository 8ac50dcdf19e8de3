"""The likelihood of a target profile, the default objective for profiles; and what a distance is compared with."""

import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, TypeAlias, TypeVar

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from inverse_design.problem.objective import DISTANCE, Distance
from inverse_design.problem.pair_means import PairMeans, Projection, taken
from inverse_design.problem.score import (
    DoubleScore,
    LikelihoodScore,
    PairProjection,
    PooledScore,
    ProductScore,
    leading_directions,
)
from inverse_design.problem.space import CombinationSpace
from inverse_design.problem.target import AlignedProfile
from surrogates.data.canonical import content_order
from surrogates.data.novelty import SEEN_DOUBLE, novelty_code
from surrogates.data.screen import Screen
from surrogates.data.vocabulary import PerturbationBatch
from surrogates.errors import CalibrationError
from surrogates.models.wrappers.calibrated import FittedCalibrated
from surrogates.models.wrappers.cross_fitting import HeldOutPredictions
from surrogates.uncertainty.error_model import ErrorLaw, FactorCovariance, inner_product
from surrogates.uncertainty.posterior import Outcome, ScalarPosterior

T = TypeVar("T")
_KEPT = 8  # results that are kept of each question: a law and its pairs for up to four experts of a fold
_NARROW = 16  # where readouts are so many times the entries, pairs are taken to the dimensions that they span
_FEW = 256  # readouts, beyond which pairs are bounded along few directions first
_LEAST = 1e-8  # share of a target's length, below which what directions leave of it is none
_DRAWS = 256
_FEWEST = 20  # held-out doubles whose errors stand for noise


def law_on(law: ErrorLaw, target: AlignedProfile) -> ErrorLaw:
    """Restrict an error model to the readouts of a target, adding the target's own uncertainty.

    A normal distribution restricted to some readouts is the exact marginal; a readout of weight ``w`` has its
    error variance divided by ``w``.
    """
    return _law_on(law, target.columns, target.weights, target.variance)


def _law_on(
    law: ErrorLaw, columns: Int[Tensor, "m"], weights: Float[Tensor, "m"], variance: Float[Tensor, "m"]
) -> ErrorLaw:
    covariance = law.covariance
    return replace(
        law,
        offset=law.offset[columns],
        covariance=FactorCovariance(
            (covariance.diagonal[columns] + variance) / weights,
            covariance.loadings[columns] / weights.sqrt()[:, None],
        ),
        degrees=law.degrees * len(columns) / len(law.offset),
    )


_Made: TypeAlias = dict[tuple[object, ...], tuple[tuple[object, ...], Any]]


class Memo:
    """What was made last from some objects, found again by which objects they are: those hold tensors.

    Copies and pickles are empty.
    """

    def __init__(self) -> None:
        self._made: _Made = {}
        self._large: _Made = {}

    def __reduce__(self) -> tuple[type["Memo"], tuple[()]]:
        return Memo, ()

    def of(self, make: Callable[..., T], *things: object) -> T:
        """Make something, or find it again."""
        return self._from(self._made, _KEPT, make, *things)

    def last(self, make: Callable[..., T], *things: object) -> T:
        """Make something large, of which only the last is kept, or find it again."""
        return self._from(self._large, 1, make, *things)

    def forget(self) -> None:
        """Drop what is large."""
        self._large.clear()

    def _from(self, made_before: _Made, kept: int, make: Callable[..., T], *things: object) -> T:
        key = (make.__qualname__, *map(id, things))
        known = made_before.get(key)
        if known is None:
            while len(made_before) >= kept:
                made_before.pop(next(iter(made_before)), None)
            known = made_before[key] = (things, make(*things))  # no other object gets an id that is held
        made: T = known[1]
        return made


@dataclass(frozen=True)
class _WhitenedPairs:
    """All pairs of a space in the coordinates of an error law: what a density needs beside the target's values."""

    law: ErrorLaw
    means: PairMeans
    singles: Float[Tensor, "v _"]  # no columns where coefficients do not scatter
    scale: ProductScore
    frame: Float[Tensor, "m f"] | None = None  # orthonormal directions that all these lie in, if those are few
    leading: Float[Tensor, "m q"] | None = None  # few orthonormal directions that hold most of them
    shadow: "_WhitenedPairs | None" = None  # the same along those

    @classmethod
    def of(
        cls, law: ErrorLaw, fitted: FittedCalibrated, space: CombinationSpace, columns: Int[Tensor, "m"]
    ) -> "_WhitenedPairs | None":
        whiten, found, entries = law.covariance.whiten, fitted.latent_factors(), space.entries
        means = PairMeans.of(found, space, lambda rows: whiten(rows[:, columns]))
        if found is None or means is None:
            return None
        scale = ProductScore(found.scale.side[entries], found.scale.left[entries], found.scale.right[entries])
        singles = means.main[:, :0]
        if law.coefficient_variance > 0:
            singles = taken(fitted.singles, entries, lambda rows: whiten(rows[:, columns]))
        whole = cls(law, means, singles, scale)
        parts = [means.main, means.basis, means.output, *([singles] if singles.shape[1] else [])]
        if _narrow(space, columns) and sum(map(len, parts)) <= len(columns):
            frame = torch.linalg.qr(torch.cat(parts).T).Q
            return replace(whole.along(frame), frame=frame)
        if len(columns) <= _FEW or means.networks:
            return whole
        leading, _ = leading_directions(parts)
        return replace(whole, leading=leading, shadow=whole.along(leading))

    def along(self, frame: Float[Tensor, "m d"]) -> "_WhitenedPairs":
        """Take everything to coordinates along orthonormal directions."""
        singles = self.singles @ frame if self.singles.shape[1] else self.singles
        return _WhitenedPairs(self.law, self.means.along_all(frame), singles, self.scale)

    def score(self, target: Float[Tensor, "m"], log_prior: Float[Tensor, "v"]) -> LikelihoodScore:
        """Score all pairs by the density of a whitened target."""
        beyond, upper = 0.0, None
        if self.frame is not None:
            along = target @ self.frame
            beyond, target = float((target - self.frame @ along).square().sum()), along
        square: DoubleScore
        projection: PairProjection | None = None
        if self.shadow is None:
            square = self.means.squared_distance(target, beyond=beyond)
        else:
            square, upper = self.means.difference(target), self._shadowed(target, log_prior)
        if self.singles.shape[1]:
            known = self._along_singles
            projection = (
                self.means.projection(self.singles, target)
                if known is None
                else replace(known, own=self.singles @ target - known.own)
            )
        return LikelihoodScore(
            law=self.law,
            square=square,
            scale=self.scale,
            projection=projection,
            singles=self.singles,
            log_prior=log_prior,
            constant=class_constant(self.law),
            upper=upper,
        )

    @cached_property
    def _along_singles(self) -> Projection | None:
        """Each part's effect times prediction, which serves all targets; ``None`` where networks add to it."""
        if self.means.networks:
            return None
        return Projection(*inner_product(self.singles, self.means.main, self.means.scores, self.means.basis))

    def _shadowed(self, target: Float[Tensor, "m"], log_prior: Float[Tensor, "v"]) -> LikelihoodScore | None:
        """Score pairs along the leading directions, and along what is left of the target; see docs/algebra.md."""
        if self.leading is None or self.shadow is None:
            return None
        along = target @ self.leading
        rest = target - self.leading @ along
        rest = rest - self.leading @ (rest @ self.leading)  # twice, so that it is orthogonal to the last digit
        size = torch.linalg.vector_norm(rest)
        if size <= _LEAST * torch.linalg.vector_norm(target):  # rounding, which need not be orthogonal to anything
            rest, size = torch.zeros_like(rest), torch.zeros_like(size)
        left = self.along((rest / size.clamp(min=torch.finfo(rest.dtype).tiny))[:, None])
        return self.shadow.beside(left).score(torch.cat([along, size[None]]), log_prior)

    def beside(self, other: "_WhitenedPairs") -> "_WhitenedPairs":
        """Add coordinates along further directions."""
        return replace(
            self, means=self.means.beside(other.means), singles=torch.cat([self.singles, other.singles], dim=1)
        )


def _narrow(space: CombinationSpace, columns: Int[Tensor, "m"]) -> bool:
    return _NARROW * len(space.entries) <= len(columns)


@dataclass(frozen=True)
class TargetLikelihood:
    """Log density of the target under each candidate's predictive law, tempered as held-out data ask.

    A surrogate that was chosen among several has experts: each with a model, an error model and a weight. Once the
    sum of its densities over all candidates is known of each expert (see
    :func:`inverse_design.search.survey.normalised`), the utility is the log posterior probability of a
    candidate, ``log sum_m w_m exp(l_m(d) - log_sums_m)``: the linear opinion pool of their posteriors [Stone
    1961]. One expert that is sure and wrong cannot overrule the others.
    """

    target: AlignedProfile  # the profile, in the coordinates of the screen
    # Log prior weight of each vocabulary entry; a candidate's is the sum over its parts.
    log_prior: Float[Tensor, "v"]
    # Of each expert, the logarithm of the sum of its densities over all candidates; empty until they are summed:
    # then the surrogate's own law speaks alone.
    log_sums: tuple[float, ...] = ()
    # What serves other targets on the same readouts, too: the question is asked of many held-out ones.
    memo: Memo = field(default_factory=Memo, compare=False, repr=False, metadata={"cache": True})

    def utility(self, fitted: FittedCalibrated, batch: PerturbationBatch) -> ScalarPosterior:
        """Value candidates.

        The variance is what the uncertainty of the forward mean does to the log density: with
        ``m ~ N(m, e Sigma)``, ``e = v - 1`` the scale beyond that of the noise, the square
        ``(t - m)^T Sigma^-1 (t - m)`` has variance ``2 g e² + 4 e square``.
        """
        if not self.log_sums:
            return self._alone(fitted, batch)
        parts = [self._alone(expert.fitted, batch) for expert in fitted.experts]
        logs = torch.stack([part.mean + shift for part, shift in zip(parts, self._shifts(fitted), strict=True)])
        share = logs.softmax(0)
        variance = sum(each.square() * part.variance for each, part in zip(share, parts, strict=True))
        return ScalarPosterior(logs.logsumexp(0), torch.as_tensor(variance))

    def _shifts(self, fitted: FittedCalibrated) -> list[float]:
        """Log weight of each expert less the logarithm of its sum."""
        experts = zip(fitted.experts, self.log_sums, strict=True)
        return [math.log(expert.weight) - log_sum for expert, log_sum in experts]

    def _alone(self, fitted: FittedCalibrated, batch: PerturbationBatch) -> ScalarPosterior:
        codes = novelty_code(batch, fitted.measured_alone)
        mean = torch.zeros(len(batch), dtype=torch.float64)
        variance = torch.zeros_like(mean)
        for code in codes.unique().tolist():
            rows = torch.nonzero(codes == code).flatten()
            mean[rows], variance[rows] = self._of_class(fitted, batch.rows(rows), code)
        prior = batch.multi_hot(len(self.log_prior)) @ self.log_prior
        return ScalarPosterior(mean + prior, variance)

    @property
    def outcome(self) -> Outcome:
        """What an experiment shows of it: the distance to the target."""
        return Distance(self.target)

    def _of_class(
        self, fitted: FittedCalibrated, batch: PerturbationBatch, code: int
    ) -> tuple[Float[Tensor, "b"], Float[Tensor, "b"]]:
        # One power for all classes: densities raised to different powers compare in one choice of units only.
        power = fitted.law(SEEN_DOUBLE).temperature
        law = self._law(fitted, code).with_temperature(power)
        posterior = fitted.predict(batch)
        whiten, columns = law.covariance.whiten, self.target.columns
        gap = whiten(self.target.values - posterior.mean[:, columns])
        parts: list[Tensor] = []
        if law.coefficient_variance > 0:
            used, places = batch.genes.unique(return_inverse=True)
            singles = whiten(fitted.singles[used.clamp(min=0)][:, columns])
            given = (batch.genes >= 0).all(0)
            parts = [singles[at] for at, is_given in zip(places.T, given.tolist(), strict=True) if is_given]
        projections = tuple((part * gap).sum(1) for part in parts)
        gram = tuple((one * other).sum(1) for number, one in enumerate(parts) for other in parts[number:])
        square, scale = gap.square().sum(1), posterior.scale
        density = law.log_density(square, projections, gram, scale) + class_constant(law)
        excess = (scale - 1).clamp(min=0)
        slope = law.temperature / 2 / scale
        if law.degrees < float("inf"):
            slope = slope * (law.degrees + len(columns)) / (law.degrees + square / scale)
        spread = 2 * len(columns) * excess.square() + 4 * excess * square
        return density, slope.square() * spread

    def pair_score(
        self, fitted: FittedCalibrated, space: CombinationSpace
    ) -> LikelihoodScore | PooledScore | None:
        """Factorise the log density over all pairs."""
        if not self.log_sums:
            return self._score_alone(fitted, space)
        scores = [self._score_alone(expert.fitted, space) for expert in fitted.experts]
        shifts = self._shifts(fitted)
        known = tuple(each for each in scores if each is not None)
        return PooledScore(known, tuple(shifts)) if len(known) == len(scores) else None

    def _score_alone(self, fitted: FittedCalibrated, space: CombinationSpace) -> LikelihoodScore | None:
        law, columns = self._law(fitted, SEEN_DOUBLE), self.target.columns
        asked = law, fitted, space, columns
        # Of what is as large as the screen only the last is kept.
        keep = self.memo.of if _narrow(space, columns) else self.memo.last
        pairs = keep(_WhitenedPairs.of, *asked)
        target = law.covariance.whiten(self.target.values[None])[0]
        return None if pairs is None else pairs.score(target, self.log_prior[space.entries])

    def _law(self, fitted: FittedCalibrated, code: int) -> ErrorLaw:
        asked = self.target
        return self.memo.of(_law_on, fitted.law(code), asked.columns, asked.weights, asked.variance)


def class_constant(law: ErrorLaw) -> float:
    """Find what makes densities of different novelty classes comparable, less what all normal ones share."""
    half, nu = len(law.offset) / 2, law.degrees / 2
    tails = math.lgamma(nu + half) - math.lgamma(nu) - half * math.log(nu) if math.isfinite(nu) else 0.0
    return law.temperature * (tails - law.covariance.log_determinant / 2)


@dataclass(frozen=True)
class Replicates:
    """Distances between a target and a new measurement of the perturbation that made it."""

    distances: Float[Tensor, "s"]  # draws of it, ascending, one at least
    source: str  # what they are drawn from, in words

    @property
    def mean(self) -> float:
        """Their mean."""
        return float(self.distances.mean())


def replicates(
    target: AlignedProfile,
    screen: Screen,
    held_out: HeldOutPredictions | None,
    *,
    variance: Float[Tensor, "m"] | None,
    seed: int,
) -> Replicates:
    """Draw how far a new measurement is from a target that the same perturbation made.

    Both measurements are noisy: their difference has the sum of two squared standard errors as its variance. That
    of the new one is taken from a combination of the screen, drawn at random. Without standard errors the noise
    cannot be separated from the error of a prediction, and differences are drawn from the errors of held-out
    doubles, of the third whose effects are nearest in size to the target, as errors grow with effects. Those hold
    the noise of one measurement, that of the measurements which were learnt from, and what the model misses: where
    it misses little, about the noise of two or three measurements.
    """
    generator = torch.Generator().manual_seed(seed)
    at_zero = Distance(replace(target, values=torch.zeros_like(target.values)))
    if screen.standard_errors is None:
        if held_out is None:
            raise CalibrationError("nothing tells how far two measurements are apart: no double was held out")
        sizes = at_zero.measured(held_out.measured)
        size = float((target.values.square() @ target.weights / target.weights.sum()).sqrt())
        nearest = (sizes - size).abs().argsort()[: max(_FEWEST, len(held_out) // 3)]
        differences = held_out.residuals[nearest]
        source = (
            f"the errors of {len(differences)} held-out doubles with effects of about that size, as the screen has"
            " no standard errors"
        )
    else:
        rows = screen.places.argsort()
        combinations = rows[screen.batch.order[rows] > 1]
        pool = screen.standard_errors[combinations if len(combinations) else rows].square()
        first, second = torch.randint(len(pool), (2, _DRAWS), generator=generator)
        both = pool[first].clone()
        both[:, target.columns] += pool[second][:, target.columns] if variance is None else variance
        noise = torch.randn(both.shape, generator=generator, dtype=torch.float64)
        differences = both.sqrt() * noise[:, content_order(screen.effects.T).argsort()]
        source = "the standard errors of two measurements"
    return Replicates(at_zero.measured(differences).sort().values, source)


@dataclass(frozen=True)
class Baselines:
    """The outcome of doing nothing, and that of the best measured condition."""

    name: str  # what is compared: ``"distance"`` to the target, of which less is better; of a score more is
    nothing: float  # of doing nothing: of a distance, the root mean square of the target over its readouts
    best: float  # of the best measured condition, as it was measured
    best_label: str  # which condition that is

    def beaten(self, outcome: Float[Tensor, "b"]) -> Bool[Tensor, "b"]:
        """Tell which outcomes are better than that of doing nothing."""
        return outcome < self.nothing if self.name == DISTANCE else outcome > self.nothing

    @property
    def line(self) -> str:
        """Both in words, such as ``doing nothing 0.563; best measured, CEBPA+KLF1, 0.402``."""
        return f"doing nothing {self.nothing:.3g}; best measured, {self.best_label}, {self.best:.3g}"


def baselines(outcome: Outcome, screen: Screen) -> Baselines:
    """Find what candidates have to beat."""
    measured = outcome.measured(screen.effects)
    at = int(measured.argmin() if outcome.name == DISTANCE else measured.argmax())
    nothing = float(outcome.measured(torch.zeros_like(screen.effects[:1]))[0])
    return Baselines(outcome.name, nothing, float(measured[at]), screen.labels[at])
