"""Objectives: the utility of a predicted effect with its uncertainty, and what an experiment will show.

Quadratic forms of a posterior's covariance are computed without a dense matrix.
"""

import inspect
import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Literal, Protocol, TypeAlias, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor

from inverse_design.errors import TargetError
from inverse_design.problem.pair_means import PairMeans, taken
from inverse_design.problem.score import PairScore, ProductScore, RatioScore
from inverse_design.problem.space import CombinationSpace
from inverse_design.problem.target import AlignedProfile, ProfileTarget, ScalarTarget, Target
from surrogates.data.novelty import SEEN_DOUBLE
from surrogates.data.vocabulary import PerturbationBatch
from surrogates.errors import DataError
from surrogates.models.wrappers.calibrated import FittedCalibrated
from surrogates.registry import Registry
from surrogates.uncertainty.posterior import Outcome, Posterior, ScalarPosterior

# From mean and variance, both (b, g), readouts in the order of the screen's, to one number for each candidate.
OwnObjective: TypeAlias = Callable[[Tensor, Tensor], Any]
_ROWS = 256  # measured effects that are looked at together
_BLOCKS, _DRAWS = 8, 32  # so many times so many draws: those of all readouts at once would fill the memory


def quadratic_form(posterior: Posterior, rows: Float[Tensor, "b g"]) -> Float[Tensor, "b"]:
    """Variance of ``rows_i · y_i`` under a posterior: ``r^T S r`` without a dense ``S``."""
    factor = posterior.factor
    if factor is None:
        return (posterior.variance * rows.square()).sum(1)
    diagonal = posterior.variance - factor.square().sum(2)
    return (diagonal * rows.square()).sum(1) + torch.einsum("bg,bgr->br", rows, factor).square().sum(1)


def form_on(posterior: Posterior, target: AlignedProfile, rows: Float[Tensor, "b m"]) -> Float[Tensor, "b"]:
    """Take :func:`quadratic_form` over the readouts of a target only."""
    wide = rows.new_zeros(len(rows), posterior.mean.shape[1])
    wide[:, target.columns] = rows
    return quadratic_form(posterior, wide)


def traces(posterior: Posterior, target: AlignedProfile) -> tuple[Float[Tensor, "b"], Float[Tensor, "b"]]:
    """Take ``tr(W S)`` and ``tr(W S W S)`` of each perturbation's covariance ``S = D + F F^T``."""
    columns, weights = target.columns, target.weights
    variance = posterior.variance[:, columns] * weights
    factor = posterior.factor
    if factor is None:
        return variance.sum(1), variance.square().sum(1)
    rooted = factor[:, columns] * weights.sqrt()[:, None]
    diagonal = variance - rooted.square().sum(2)
    gram = torch.einsum("bmr,bms->brs", rooted, rooted)
    mixed = (diagonal[..., None] * rooted.square()).sum((1, 2))
    return variance.sum(1), diagonal.square().sum(1) + 2 * mixed + gram.square().sum((1, 2))


DISTANCE = "distance"


def squared_distance(posterior: Posterior, target: AlignedProfile) -> ScalarPosterior:
    """Foretell the weighted squared distance of an effect to a profile.

    With ``y ~ N(m, S)`` and weights ``W``, ``(t - y)^T W (t - y)`` has mean ``(t - m)^T W (t - m) + tr(W S)`` and
    variance ``2 tr(W S W S) + 4 (t - m)^T W S W (t - m)``.
    """
    root = target.weights.sqrt()
    gap = (target.values - posterior.mean[:, target.columns]) * root
    trace, square = traces(posterior, target)
    spread = form_on(posterior, target, gap * root)
    return ScalarPosterior(gap.square().sum(1) + trace, 2 * square + 4 * spread)


@dataclass(frozen=True)
class Distance:
    """The root mean square distance of an effect to a profile, over its readouts, in the unit of the screen."""

    target: AlignedProfile  # the profile, in the coordinates of the screen; weights count as in every mean

    @property
    def name(self) -> str:
        """What to call it."""
        return DISTANCE

    def expected(self, posterior: Posterior) -> Float[Tensor, "b"]:
        """Foretell the distance without its variance, which takes far longer."""
        columns, weights = self.target.columns, self.target.weights
        gap = self.target.values - posterior.mean[:, columns]
        return ((gap.square() + posterior.variance[:, columns]) @ weights / weights.sum()).sqrt()

    def predicted(self, posterior: Posterior) -> ScalarPosterior:
        """Foretell the distance: the root of the expected square, with the variance of a first-order expansion."""
        square, total = squared_distance(posterior, self.target), self.target.weights.sum()
        tiny = torch.finfo(square.mean.dtype).tiny
        return ScalarPosterior(
            (square.mean / total).sqrt(), square.variance / (4 * square.mean.clamp(min=tiny) * total)
        )

    def measured(self, effects: Float[Tensor, "b g"]) -> Float[Tensor, "b"]:
        """Measure the distance."""
        columns, weights = self.target.columns, self.target.weights
        gaps = (self.target.values - rows[:, columns] for rows in effects.split(_ROWS))
        return (torch.cat([(gap.square() * weights).sum(1) for gap in gaps]) / weights.sum()).sqrt()

    def drawn(
        self, mean: Float[Tensor, "b g"], reach: Float[Tensor, "b"], errors: Float[Tensor, "s g"]
    ) -> Float[Tensor, "b s"]:
        """Measure ``mean_i + reach_i * errors_k`` for all rows and draws, by products instead of row by row."""
        columns, weights = self.target.columns, self.target.weights
        gap, errors = self.target.values - mean[:, columns], errors[:, columns]
        far, across = reach[:, None], (gap * weights) @ errors.T
        square = (gap.square() @ weights)[:, None] - 2 * far * across + far.square() * (errors.square() @ weights)
        return (square.clamp(min=0) / weights.sum()).sqrt()


@runtime_checkable
class Objective(Protocol):
    """The utility of candidates under a fitted model."""

    def utility(self, fitted: FittedCalibrated, batch: PerturbationBatch) -> ScalarPosterior:
        """Value candidates.

        Args:
            fitted: A surrogate with its error models.
            batch: The candidates.

        Returns:
            Mean and variance of the utility of each.
        """
        ...

    @property
    def outcome(self) -> Outcome:
        """What an experiment will show of it, for intervals that measurements can prove wrong."""
        ...

    def pair_score(self, fitted: FittedCalibrated, space: CombinationSpace) -> PairScore | None:
        """Factorise the expected utility over all pairs.

        Args:
            fitted: A surrogate with its error models.
            space: Whose entries are to be paired; all of them measured alone.

        Returns:
            The score of all pairs, or ``None`` if it does not factorise for this model.
        """
        ...


@dataclass(frozen=True)
class SquaredDistance:
    """Expected negative squared distance to a profile, each readout times its weight.

    With ``y ~ N(m, S)`` and weights ``W``, ``-(t - y)^T W (t - y)`` has mean ``-(t - m)^T W (t - m) - tr(W S)``
    and variance ``2 tr(W S W S) + 4 (t - m)^T W S W (t - m)``.
    """

    target: AlignedProfile  # the profile, in the coordinates of the screen

    def utility(self, fitted: FittedCalibrated, batch: PerturbationBatch) -> ScalarPosterior:
        """Value candidates."""
        square = squared_distance(fitted.predict(batch), self.target)
        return ScalarPosterior(-square.mean, square.variance)

    @property
    def outcome(self) -> Outcome:
        """What an experiment shows of it: the distance to the target."""
        return Distance(self.target)

    def pair_score(self, fitted: FittedCalibrated, space: CombinationSpace) -> PairScore | None:
        """Factorise the expected utility over all pairs."""
        columns, root, entries = self.target.columns, self.target.weights.sqrt(), space.entries
        found = fitted.latent_factors()
        means = PairMeans.of(found, space, lambda rows: rows[:, columns] * root)
        if found is None or means is None:
            return None
        scale = found.scale
        del found  # as large as the screen
        means.main.sub_(self.target.values * root / 2)  # no one else holds it
        score = means.squared_length(sign=-1.0)
        # the expected utility also loses scale * tr(W Sigma), and what the coefficients of both parts scatter
        law, weights = fitted.law(SEEN_DOUBLE), self.target.weights
        per_scale = float((law.covariance.variance[columns] * weights).sum())
        product = score if isinstance(score, ProductScore) else score.product
        side, left, right = product.side - per_scale * scale.side[entries], product.left, product.right
        if law.coefficient_variance > 0:
            squared = taken(fitted.singles, entries, lambda rows: rows[:, columns].square() @ weights[:, None])
            side = side - law.coefficient_variance * squared[:, 0]
        if scale.left.shape[1]:
            left = torch.cat([left, -per_scale / product.times * scale.left[entries]], dim=1)
            right = torch.cat([right, scale.right[entries]], dim=1)
        lost = replace(product, side=side, left=left, right=right)
        return lost if isinstance(score, ProductScore) else replace(score, product=lost)


@dataclass(frozen=True)
class SignedProjection:
    """Projection of the effect on a direction: the default for signatures, and for readouts to raise or lower."""

    # The direction, in the coordinates of the screen; each readout counts with its value times weight.
    target: AlignedProfile

    def utility(self, fitted: FittedCalibrated, batch: PerturbationBatch) -> ScalarPosterior:
        """Value candidates."""
        return self.predicted(fitted.predict(batch))

    @property
    def name(self) -> str:
        """What to call the outcome."""
        return "projection"

    @property
    def outcome(self) -> Outcome:
        """What an experiment shows of it: the projection itself."""
        return self

    def predicted(self, posterior: Posterior) -> ScalarPosterior:
        """Foretell the projection."""
        direction = self._direction.expand(len(posterior.mean), -1)
        return ScalarPosterior(self.measured(posterior.mean), form_on(posterior, self.target, direction))

    def measured(self, effects: Float[Tensor, "b g"]) -> Float[Tensor, "b"]:
        """Project effects."""
        return effects[:, self.target.columns] @ self._direction

    def pair_score(self, fitted: FittedCalibrated, space: CombinationSpace) -> PairScore | None:
        """Factorise the expected utility over all pairs."""
        means = PairMeans.of(fitted.latent_factors(), space, lambda rows: rows[:, self.target.columns])
        return None if means is None else means.along(self._direction)

    @property
    def _direction(self) -> Float[Tensor, "m"]:
        return self.target.values * self.target.weights


@dataclass(frozen=True)
class Correlation:
    """Weighted Pearson or cosine correlation of the expected effect with a profile.

    The variance is that of a first-order expansion in the effect.
    """

    target: AlignedProfile  # the profile, in the coordinates of the screen
    kind: Literal["pearson", "cosine"]  # whether both are centred first

    def utility(self, fitted: FittedCalibrated, batch: PerturbationBatch) -> ScalarPosterior:
        """Value candidates."""
        return self.predicted(fitted.predict(batch))

    @property
    def name(self) -> str:
        """What to call the outcome."""
        return self.kind

    @property
    def outcome(self) -> Outcome:
        """What an experiment shows of it: the correlation itself."""
        return self

    def predicted(self, posterior: Posterior) -> ScalarPosterior:
        """Foretell the correlation."""
        tiny = torch.finfo(torch.float64).tiny
        wanted, rows = self._weighted(self.target.values), self._weighted(posterior.mean[:, self.target.columns])
        unit = wanted / wanted.norm().clamp(min=tiny)
        length = rows.norm(dim=1).clamp(min=tiny)
        value = rows @ unit / length
        gradient = self._pulled_back((unit - value[:, None] * rows / length[:, None]) / length[:, None])
        return ScalarPosterior(value, form_on(posterior, self.target, gradient))

    def measured(self, effects: Float[Tensor, "b g"]) -> Float[Tensor, "b"]:
        """Correlate effects with the profile."""
        tiny = torch.finfo(torch.float64).tiny
        wanted, rows = self._weighted(self.target.values), self._weighted(effects[:, self.target.columns])
        correlation: Tensor = (rows @ wanted) / (rows.norm(dim=1) * wanted.norm()).clamp(min=tiny)
        return correlation

    def pair_score(self, fitted: FittedCalibrated, space: CombinationSpace) -> PairScore | None:
        """Factorise the correlation over all pairs into a numerator and a squared length."""
        columns = self.target.columns
        means = PairMeans.of(fitted.latent_factors(), space, lambda rows: self._weighted(rows[:, columns]))
        if means is None:
            return None
        wanted = self._weighted(self.target.values)
        unit = wanted / wanted.norm().clamp(min=torch.finfo(torch.float64).tiny)
        return RatioScore(means.along(unit), means.squared_distance(torch.zeros_like(wanted)))

    def _weighted(self, rows: Float[Tensor, "*b m"]) -> Float[Tensor, "*b m"]:
        """Centre if Pearson, and scale by the root of the weights, so that plain inner products are weighted."""
        weights = self.target.weights
        if self.kind == "pearson":
            rows = rows - (rows @ weights / weights.sum())[..., None]
        return rows * weights.sqrt()

    def _pulled_back(self, gradient: Float[Tensor, "b m"]) -> Float[Tensor, "b m"]:
        """Turn a gradient in weighted coordinates into one in effects; it is centred already."""
        return gradient * self.target.weights.sqrt()


@dataclass(frozen=True)
class FunctionObjective:
    """The utility of candidates by a user's function; larger is better.

    What an experiment will show of it is the same function of the measured effect, whose variance is zero. The
    function may be anything, so that pairs are scored one by one.
    """

    function: OwnObjective

    @property
    def name(self) -> str:
        """What to call the outcome."""
        return "objective"

    @property
    def outcome(self) -> Outcome:
        """What an experiment shows of it: the function of the effect itself."""
        return self

    def utility(self, fitted: FittedCalibrated, batch: PerturbationBatch) -> ScalarPosterior:
        """Value candidates; their variance, which takes draws, is left to the outcome."""
        posterior = fitted.predict(batch)
        mean = self._value(posterior.mean, posterior.variance)
        return ScalarPosterior(mean, torch.full_like(mean, math.nan))

    def predicted(self, posterior: Posterior) -> ScalarPosterior:
        """Predict the outcome, with the variance of draws of the effect."""
        blocks = (posterior.sample(_DRAWS, seed=seed) for seed in range(_BLOCKS))
        values = torch.cat([self.measured(drawn.flatten(0, 1)).reshape(drawn.shape[:2]) for drawn in blocks])
        return ScalarPosterior(self._value(posterior.mean, posterior.variance), values.var(0))

    def measured(self, effects: Float[Tensor, "b g"]) -> Float[Tensor, "b"]:
        """Value measured effects."""
        return self._value(effects, torch.zeros_like(effects))

    def pair_score(self, fitted: FittedCalibrated, space: CombinationSpace) -> PairScore | None:  # noqa: ARG002
        """Nothing is known of the function that would factorise it."""
        return None

    def _value(self, mean: Float[Tensor, "b g"], variance: Float[Tensor, "b g"]) -> Float[Tensor, "b"]:
        found = torch.as_tensor(self.function(mean, variance), dtype=torch.float64)
        if found.shape != (len(mean),):
            raise DataError(
                f"the objective gave numbers of shape {tuple(found.shape)} for {len(mean)} candidates; give one"
                " number for each row of mean and variance"
            )
        if len(bad := torch.nonzero(~torch.isfinite(found)).flatten()):
            raise DataError(
                f"the objective is {float(found[bad[0]])} for {len(bad)} of {len(mean)} candidates; give finite"
                " numbers, also where the variance is zero"
            )
        return found


ObjectiveName: TypeAlias = str

# An objective is called with ``target``, and with ``log_prior`` if it has an argument or a field of that name.
OBJECTIVES: Registry[Callable[..., Objective]] = Registry(
    kind="objective",
    group="inverse_design.objectives",
    shipped={
        "likelihood": "inverse_design.problem.likelihood:TargetLikelihood",
        "distance": "inverse_design.problem.objective:SquaredDistance",
        "pearson": "inverse_design.problem.objective:pearson",
        "cosine": "inverse_design.problem.objective:cosine",
        "projection": "inverse_design.problem.objective:SignedProjection",
    },
)
_OF_PROFILES = ("likelihood", "pearson", "cosine")


def pearson(target: AlignedProfile) -> Correlation:
    """Weighted Pearson correlation with a profile."""
    return Correlation(target, "pearson")


def cosine(target: AlignedProfile) -> Correlation:
    """Weighted cosine of the angle to a profile."""
    return Correlation(target, "cosine")


def make_objective(
    target: Target, aligned: AlignedProfile, name: ObjectiveName | None, log_prior: Float[Tensor, "v"]
) -> Objective:
    """Choose the objective that fits a target."""
    profile = isinstance(target, ProfileTarget)
    wanted = name or ("likelihood" if profile else "projection")
    kind, given = OBJECTIVES.load(wanted), {"target": aligned, "log_prior": log_prior}
    if not profile:
        reach = isinstance(target, ScalarTarget) and target.goal == "reach"
        if reach and name is None:
            return SquaredDistance(aligned)
        if wanted in _OF_PROFILES or (wanted == "projection" and reach):
            raise TargetError(f"objective {wanted!r} cannot judge target {target.name!r}")
    return kind(**{key: value for key, value in given.items() if key in inspect.signature(kind).parameters})
