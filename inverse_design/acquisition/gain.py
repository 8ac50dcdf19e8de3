"""Acquisitions of single experiments, from the posterior of their utility.

With ``u ~ N(m, v)`` the utility of a candidate, ``u*`` the best observed one and ``z = (m - u*) / √v``:

    expected improvement     E[max(u - u*, 0)] = √v (phi(z) + z Phi(z))
    probability of it        P(u > u*) = Phi(z)
    upper bound              m + √(beta v)

The normal law is computed so that tails smaller than any float keep their relative accuracy. Distances are no
normal numbers: :mod:`inverse_design.acquisition.quadratic` has their gains.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from inverse_design.acquisition.posterior import UtilityPosterior
from surrogates.errors import DataError
from surrogates.registry import Registry

# Below this, one minus the scaled tail has lost more digits than its expansion in 1 / z².
_FAR = -1e3
_LOG_ROOT_TWO_PI = math.log(2 * math.pi) / 2
_LOG_ROOT_HALF_PI = math.log(math.pi / 2) / 2


def hinge(z: Float[Tensor, "*b"]) -> Float[Tensor, "*b"]:
    """Take ``E[max(z + e, 0)]`` of a standard normal ``e``: ``phi(z) + z Phi(z)``."""
    return log_hinge(z).exp()


def log_hinge(z: Float[Tensor, "*b"]) -> Float[Tensor, "*b"]:
    """Take the logarithm of :func:`hinge`, accurate for every z.

    Directly above -1; below by the scaled complementary error function, ``phi(z) (1 - |z| erfcx(-z / √2) √(π/2))``
    [Ament et al. 2023, equation 9]; far below by ``phi(z) / z² (1 - 3 / z² + 15 / z⁴)``.
    """
    near = z.clamp(min=-1.0)
    direct = (_density(near) + near * torch.special.ndtr(near)).log()
    middle = z.clamp(min=_FAR, max=-1.0)
    scaled = torch.special.erfcx(-middle / math.sqrt(2)) * middle.abs()
    tail = _log_density(middle) + _log_one_less(scaled.log() + _LOG_ROOT_HALF_PI)
    far = z.clamp(max=_FAR)
    inverse = far.square().reciprocal()
    beyond = _log_density(far) - 2 * far.abs().log() + (inverse * (15 * inverse - 3)).log1p()
    return torch.where(z > -1, direct, torch.where(z > _FAR, tail, beyond))


def _density(z: Float[Tensor, "*b"]) -> Float[Tensor, "*b"]:
    return _log_density(z).exp()


def _log_density(z: Float[Tensor, "*b"]) -> Float[Tensor, "*b"]:
    return -z.square() / 2 - _LOG_ROOT_TWO_PI


def _log_one_less(logarithm: Float[Tensor, "*b"]) -> Float[Tensor, "*b"]:
    """``log(1 - exp(x))`` for negative x [Mächler 2012]."""
    small = (-torch.expm1(logarithm)).log()
    return torch.where(logarithm > -math.log(2), small, (-logarithm.exp()).log1p())


@runtime_checkable
class Gain(Protocol):
    """The worth of measuring each candidate."""

    def score(self, belief: UtilityPosterior, incumbent: float) -> Float[Tensor, "b"]:
        """Score candidates.

        Args:
            belief: What is believed of their utility.
            incumbent: Utility of the best that is known.

        Returns:
            One score each, larger is better; comparable within one call.
        """
        ...


@dataclass(frozen=True)
class ExpectedImprovement:
    """Expected improvement over the incumbent of a normal utility, in its units [Mockus 1975; Jones 1998]."""

    def score(self, belief: UtilityPosterior, incumbent: float) -> Float[Tensor, "b"]:
        """Score candidates."""
        excess, spread, known = _standardised(belief, incumbent)
        return torch.where(known, excess.clamp(min=0), spread * hinge(excess / spread))


@dataclass(frozen=True)
class LogExpectedImprovement:
    """Logarithm of the expected improvement: ranks candidates also where it is smaller than any float."""

    def score(self, belief: UtilityPosterior, incumbent: float) -> Float[Tensor, "b"]:
        """Score candidates."""
        excess, spread, known = _standardised(belief, incumbent)
        return torch.where(known, excess.clamp(min=0).log(), spread.log() + log_hinge(excess / spread))


@dataclass(frozen=True)
class MemberImprovement:
    """Expected improvement by members: the mean over joint draws of how far each is above the incumbent.

    It takes the draws as they are, so that a skewed or two-peaked utility is not mistaken for a normal one.
    """

    def score(self, belief: UtilityPosterior, incumbent: float) -> Float[Tensor, "b"]:
        """Score candidates.

        Raises:
            DataError: If the belief has no draws.
        """
        return (belief.joint() - incumbent).clamp(min=0).mean(0)


@dataclass(frozen=True)
class ProbabilityOfImprovement:
    """Probability that a normal utility is above the incumbent [Kushner 1964]."""

    def score(self, belief: UtilityPosterior, incumbent: float) -> Float[Tensor, "b"]:
        """Score candidates."""
        excess, spread, known = _standardised(belief, incumbent)
        return torch.where(known, (excess.sign() + 1) / 2, torch.special.ndtr(excess / spread))


@dataclass(frozen=True)
class ReachProbability:
    """Probability that a normal utility reaches a threshold, whatever the incumbent is."""

    threshold: float  # utility to be reached: such as minus the distance within which replicates of the target lie

    def __post_init__(self) -> None:
        """Refuse a threshold that is not finite."""
        if not math.isfinite(self.threshold):
            raise DataError(f"threshold {self.threshold} is not finite; give the utility that is enough")

    def score(self, belief: UtilityPosterior, incumbent: float) -> Float[Tensor, "b"]:  # noqa: ARG002 - of the protocol
        """Score candidates."""
        return ProbabilityOfImprovement().score(belief, self.threshold)


@dataclass(frozen=True)
class UpperBound:
    """Upper confidence bound ``m + √(beta v)`` [Srinivas 2010]."""

    beta: float = 4.0  # squared number of standard deviations, not negative; zero is the greedy choice

    def __post_init__(self) -> None:
        """Refuse a weight that is negative or not finite."""
        if not (math.isfinite(self.beta) and self.beta >= 0):
            raise DataError(f"beta {self.beta} is negative or not finite; 4 is two standard deviations")

    def score(self, belief: UtilityPosterior, incumbent: float) -> Float[Tensor, "b"]:  # noqa: ARG002 - of the protocol
        """Score candidates."""
        return belief.mean + math.sqrt(self.beta) * belief.deviation


@dataclass(frozen=True)
class Mean:
    """The expected utility: the greedy choice."""

    def score(self, belief: UtilityPosterior, incumbent: float) -> Float[Tensor, "b"]:  # noqa: ARG002 - of the protocol
        """Score candidates."""
        return belief.mean


@dataclass(frozen=True)
class Exploration:
    """The standard deviation of the utility: what is known worst, good or bad."""

    def score(self, belief: UtilityPosterior, incumbent: float) -> Float[Tensor, "b"]:  # noqa: ARG002 - of the protocol
        """Score candidates."""
        return belief.deviation


GAINS: Registry[Callable[[], Gain]] = Registry(
    kind="gain",
    group="inverse_design.gains",
    shipped={
        "expected_improvement": "inverse_design.acquisition.gain:ExpectedImprovement",
        "log_expected_improvement": "inverse_design.acquisition.gain:LogExpectedImprovement",
        "member_improvement": "inverse_design.acquisition.gain:MemberImprovement",
        "probability_of_improvement": "inverse_design.acquisition.gain:ProbabilityOfImprovement",
        "upper_bound": "inverse_design.acquisition.gain:UpperBound",
        "mean": "inverse_design.acquisition.gain:Mean",
        "exploration": "inverse_design.acquisition.gain:Exploration",
        "optimum": "inverse_design.acquisition.posterior:Optimum",
    },
)


def per_cost(score: Float[Tensor, "b"], cost: Float[Tensor, "b"]) -> Float[Tensor, "b"]:
    """Divide gains by what the experiments cost.

    Raises:
        DataError: If a cost is not positive and finite, or a gain is negative.
    """
    if not bool(((cost > 0) & cost.isfinite()).all()):
        bad = cost[~((cost > 0) & cost.isfinite())][0]
        raise DataError(f"cost {float(bad):g} is not positive and finite; gain per cost needs one that is")
    if bool((score < 0).any()):
        raise DataError(f"gain {float(score.min()):g} is negative: per cost, it would favour what costs most")
    return score / cost


def _standardised(
    belief: UtilityPosterior, incumbent: float
) -> tuple[Float[Tensor, "b"], Float[Tensor, "b"], Bool[Tensor, "b"]]:
    """Expected excess over the incumbent, standard deviation (one where it is zero), and where it is zero."""
    known = belief.variance == 0
    return belief.mean - incumbent, torch.where(known, 1.0, belief.deviation), known
