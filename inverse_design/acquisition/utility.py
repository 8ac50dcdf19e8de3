"""Utilities in the unit of a measurement: minus the distance to a state, or the projection on a direction.

Gains are read in the unit of what an experiment shows, so that an expected gain can be compared with a price. The
best observed utility is corrected for measurement noise where its size is known.
"""

from dataclasses import dataclass
from functools import cached_property

import torch
from jaxtyping import Float, Int
from torch import Tensor

from inverse_design.acquisition.quadratic import ErrorAxes, NormalScores
from inverse_design.problem.target import AlignedProfile, Target, is_state
from surrogates.data.screen import Screen
from surrogates.errors import DataError
from surrogates.uncertainty.error_model import FactorCovariance

_NUMBERS_AT_ONCE = 2**22  # of the factors of squares that are taken at a time


@dataclass(frozen=True)
class EffectLaw:
    """Normal effects on the readouts of a target, each candidate on its own."""

    mean: Float[Tensor, "b m"]  # expected effects
    shared: Float[Tensor, "b m j"]  # directions of low-rank errors of each candidate's own; there may be none
    covariances: tuple[FactorCovariance, ...]  # distinct covariances of the rest of the errors
    group: Int[Tensor, "b"]  # which of them each candidate has
    spread: Float[Tensor, "b"]  # factor on it

    @property
    def variance(self) -> Float[Tensor, "b m"]:
        """Variance of each effect."""
        own = torch.stack([each.variance for each in self.covariances])[self.group]
        return self.shared.square().sum(2) + self.spread[:, None] * own

    def along(self, direction: Float[Tensor, "m"]) -> Float[Tensor, "b"]:
        """Take the variance of a weighted sum of effects."""
        own = [
            each.diagonal @ direction.square() + (direction @ each.loadings).square().sum()
            for each in self.covariances
        ]
        low = torch.einsum("bmj,m->bj", self.shared, direction).square().sum(1)
        return low + self.spread * torch.stack(own)[self.group]


@dataclass(frozen=True)
class Nearness:
    """Minus the root mean square distance to a profile, over its readouts with their weights."""

    target: AlignedProfile  # the profile

    @property
    def name(self) -> str:
        """What it is made of."""
        return "distance"

    def utility(self, effects: Float[Tensor, "*b m"]) -> Float[Tensor, "*b"]:
        """Value effects."""
        return -(self._square(effects) / self._total).sqrt()

    def variance(self, effects: Float[Tensor, "b m"], noise: Float[Tensor, "b m"]) -> Float[Tensor, "b"]:
        """Carry noise over to the distance ``d``, whose gradient is ``w x / (W d)`` for gaps ``x``."""
        weights, gaps = self.target.weights, self.target.values - effects
        tiny = torch.finfo(effects.dtype).tiny
        spread = (weights.square() * gaps.square() * noise).sum(1)
        return spread / (self._total * self._square(effects)).clamp(min=tiny)

    def without_noise(self, effects: Float[Tensor, "b m"], noise: Float[Tensor, "b m"]) -> Float[Tensor, "b"]:
        """Take the expected square of the noise off the square of the distance."""
        square = self._square(effects) - (self.target.weights * noise).sum(1)
        return -(square.clamp(min=0) / self._total).sqrt()

    def improvement(self, law: EffectLaw, incumbent: float) -> NormalScores:
        """Compare distances with that of the best, by saddle points."""
        unit, (_, m, j) = float(self._total.sqrt()), law.shared.shape
        best = torch.tensor([max(-incumbent, 0.0) * unit], dtype=torch.float64)
        gap = self.target.values - law.mean
        found, order = [], []
        for number, covariance in enumerate(law.covariances):
            axes = self._axes_of(covariance)
            at_once = max(1, _NUMBERS_AT_ONCE // (m * (1 + j + axes.loadings.shape[1])))
            for rows in torch.nonzero(law.group == number).flatten().split(at_once):
                if len(rows):
                    found.append(axes.square(gap[rows], law.shared[rows], law.spread[rows]).scores(best))
                    order.append(rows)
        place = torch.cat([*order, torch.zeros(0, dtype=torch.int64)]).argsort()
        return NormalScores.joined(found).rows(place).in_units(unit)

    def _axes_of(self, covariance: FactorCovariance) -> ErrorAxes:
        """Turn a covariance once for all lists of candidates that have it: that takes the cube of the readouts."""
        for known, axes in self._turned:
            pairs = ((known.diagonal, covariance.diagonal), (known.loadings, covariance.loadings))
            if all(torch.equal(*pair) for pair in pairs):
                return axes
        self._turned.append((covariance, ErrorAxes.of(covariance, self.target.weights)))
        return self._turned[-1][1]

    @cached_property
    def _turned(self) -> list[tuple[FactorCovariance, ErrorAxes]]:
        return []

    @property
    def _total(self) -> Float[Tensor, ""]:
        return self.target.weights.sum()

    def _square(self, effects: Float[Tensor, "*b m"]) -> Float[Tensor, "*b"]:
        values, weights = self.target.values.to(effects.dtype), self.target.weights.to(effects.dtype)
        square: Tensor = (values - effects).square() @ weights
        return square


@dataclass(frozen=True)
class Advance:
    """How far effects go in a direction: of a signature, or of a readout to raise or lower."""

    target: AlignedProfile  # the direction; each readout counts with its value times weight

    @property
    def name(self) -> str:
        """What it is made of."""
        return "projection"

    def utility(self, effects: Float[Tensor, "*b m"]) -> Float[Tensor, "*b"]:
        """Value effects."""
        along: Tensor = effects @ self._direction.to(effects.dtype)
        return along

    def variance(self, effects: Float[Tensor, "b m"], noise: Float[Tensor, "b m"]) -> Float[Tensor, "b"]:  # noqa: ARG002 - of the protocol
        """Carry noise over to the projection."""
        spread: Tensor = noise @ self._direction.square()
        return spread

    def without_noise(self, effects: Float[Tensor, "b m"], noise: Float[Tensor, "b m"]) -> Float[Tensor, "b"]:  # noqa: ARG002 - of the protocol
        """Value measured effects: noise does not change the expectation of a projection."""
        return self.utility(effects)

    def improvement(self, law: EffectLaw, incumbent: float) -> NormalScores:
        """Compare projections, which are normal, with that of the best."""
        return NormalScores.of_normal(self.utility(law.mean) - incumbent, law.along(self._direction).sqrt())

    @property
    def _direction(self) -> Float[Tensor, "m"]:
        return self.target.values * self.target.weights


Utility = Nearness | Advance  # larger is better


def utility_of(target: Target, aligned: AlignedProfile) -> Utility:
    """Choose the utility of effects for a target."""
    return Nearness(aligned) if is_state(target) else Advance(aligned)


def measured_utility(target: Target, screen: Screen) -> Float[Tensor, "n"]:
    """Value what was measured."""
    aligned = target.on(screen.readouts)
    return utility_of(target, aligned).utility(screen.effects[:, aligned.columns])


def utility_error(target: Target, screen: Screen) -> float | None:
    """Say how exactly a utility is known, to first order."""
    if screen.standard_errors is None:
        return None
    aligned = target.on(screen.readouts)
    noise = screen.standard_errors[:, aligned.columns].square()
    variance = utility_of(target, aligned).variance(screen.effects[:, aligned.columns], noise)
    return float(variance.median().sqrt())


@dataclass(frozen=True)
class Incumbent:
    """The best measured condition."""

    label: str  # its name
    measured: float  # its utility as measured
    utility: float  # posterior mean of the utility of its true state: what candidates have to improve upon


def best_measured(utility: Utility, target: AlignedProfile, screen: Screen) -> Incumbent:
    """Find the condition whose true state is best, given its measurement and that of all others."""
    if not len(screen):
        raise DataError("nothing was measured, so there is nothing to improve upon; begin with a few experiments")
    measured = utility.utility(screen.effects[:, target.columns])
    utilities, _ = true_utility(utility, target, screen)
    best = int(utilities.argmax())
    return Incumbent(screen.labels[best], float(measured[best]), float(utilities[best]))


def true_utility(
    utility: Utility, target: AlignedProfile, screen: Screen
) -> tuple[Float[Tensor, "n"], Float[Tensor, "n"]]:
    """Mean and variance of the utility of the true state of everything that was measured.

    The best of many noisy readings owes part of that to its noise. With standard errors every utility is drawn
    towards the mean of all, ``u_i + s_i² / (tau² + s_i²) (mean - u_i)``, with ``tau²`` the scatter that noise does
    not explain [empirical Bayes; Morris 1983]; without them, a reading is taken as it is.
    """
    effects = screen.effects[:, target.columns]
    if screen.standard_errors is None:
        exact = utility.utility(effects)
        return exact, torch.zeros_like(exact)
    noise = screen.standard_errors[:, target.columns].square()
    return shrunk(utility.without_noise(effects, noise), utility.variance(effects, noise))


def shrunk(
    values: Float[Tensor, "n"], variance: Float[Tensor, "n"]
) -> tuple[Float[Tensor, "n"], Float[Tensor, "n"]]:
    """Draw noisy numbers towards their mean, by as much as noise explains their scatter; give the rest."""
    if len(values) < 2:
        return values, variance
    centre = values.mean()
    scatter = (values.var() - variance.mean()).clamp(min=0)
    kept = torch.where(variance > 0, scatter / (scatter + variance).clamp(min=torch.finfo(values.dtype).tiny), 1.0)
    return centre + kept * (values - centre), kept * variance
