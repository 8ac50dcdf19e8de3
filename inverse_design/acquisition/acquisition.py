"""Acquisitions: what measuring one more candidate is worth, given the posterior of its utility.

With ``u ~ N(m, v)`` the utility of a candidate and ``u*`` the best observed, ``z = (m - u*) / √v``:

    expected improvement     E[max(u - u*, 0)] = √v (phi(z) + z Phi(z))
    probability of it        P(u > u*) = Phi(z)
    upper bound              m + √(beta v)

The normal distribution is computed so that tails smaller than any float keep their relative accuracy. Distances
are no normal numbers: :mod:`inverse_design.acquisition.quadratic` has their gains.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from surrogates.errors import DataError
from surrogates.registry import Registry
from surrogates.uncertainty.posterior import ScalarPosterior

_CELLS = 400  # of improvements, between none and the largest

# Below this, one minus the scaled tail has lost more digits than its expansion in 1 / z².
_FAR = -1e3
_LOG_ROOT_TWO_PI = math.log(2 * math.pi) / 2
_LOG_ROOT_HALF_PI = math.log(math.pi / 2) / 2


@dataclass(frozen=True)
class UtilityPosterior:
    """A distribution over the utility of ``b`` candidates; larger utility is better."""

    mean: Float[Tensor, "b"]  # expected utility of each
    variance: Float[Tensor, "b"]  # its variance
    # Joint draws, one row per member of an ensemble or sample of a posterior, or ``None`` where nothing is known
    # of how the candidates depend on each other.
    draws: Float[Tensor, "s b"] | None = None

    def __post_init__(self) -> None:
        """Refuse shapes that do not fit, numbers that are not finite, and negative variances."""
        sizes = {self.mean.shape, self.variance.shape, *([] if self.draws is None else [self.draws.shape[1:]])}
        if len(sizes) > 1:
            raise DataError(f"means, variances and draws of {sorted(map(tuple, sizes))} candidates; one of each")
        for what, values in (("mean", self.mean), ("variance", self.variance), ("draw", self.draws)):
            if values is not None and not bool(values.isfinite().all()):
                bad = int((~values.isfinite()).sum())
                raise DataError(f"{bad} {what}(s) of the utility are not finite; leave those candidates out")
        if bool((self.variance < 0).any()):
            raise DataError(f"variance {float(self.variance.min()):g} of a utility is negative")

    @classmethod
    def of(cls, posterior: ScalarPosterior) -> "UtilityPosterior":
        """Take the mean and variance that an objective predicts."""
        return cls(posterior.mean.double(), posterior.variance.double())

    @classmethod
    def of_members(cls, members: Float[Tensor, "s b"]) -> "UtilityPosterior":
        """Take members of an ensemble, or draws of a posterior, each as likely as any other to be right."""
        if not len(members):
            raise DataError("no member tells the utility of the candidates; give at least one")
        draws = members.double()
        return cls(draws.mean(0), draws.var(0, correction=0), draws)

    def __len__(self) -> int:
        return len(self.mean)

    @property
    def deviation(self) -> Float[Tensor, "b"]:
        """Standard deviation of each utility."""
        return self.variance.sqrt()

    def joint(self) -> Float[Tensor, "s b"]:
        """Take the joint draws, for what cannot do without."""
        if self.draws is None:
            raise DataError(
                "this needs joint draws of the utilities: take `UtilityPosterior.of_members`, or a gain"
                " that reads means and variances only"
            )
        return self.draws


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
class Acquisition(Protocol):
    """What each candidate is worth, beside those that are chosen; choosing one gives another value."""

    def gains(self) -> Float[Tensor, "b"]:
        """Say what each candidate would add.

        Returns:
            One number each, larger is better; comparable within one call.
        """
        ...

    def adding(self, number: int) -> "Acquisition":
        """Choose a candidate.

        Args:
            number: Which, counted from zero.

        Returns:
            What the others are worth beside it.
        """
        ...


@dataclass(frozen=True)
class Fixed:
    """Scores that do not depend on what is chosen."""

    score: Float[Tensor, "b"]  # of each candidate

    def gains(self) -> Float[Tensor, "b"]:
        """The scores."""
        return self.score

    def adding(self, number: int) -> "Fixed":  # noqa: ARG002 - of the protocol
        """Choose a candidate."""
        return self


@dataclass(frozen=True)
class Fallback:
    """An acquisition, and another one for the time when it has nothing more to gain."""

    first: Acquisition  # what counts as long as a candidate adds anything; its gains are not negative
    then: Acquisition  # orders those that add nothing

    def gains(self) -> Float[Tensor, "b"]:
        """The gains of the first where there are any; below zero, in the order of the second, elsewhere."""
        gains, rest = self.first.gains(), self.then.gains()
        return torch.where(gains > 0, gains, rest - rest.amax() - 1)

    def adding(self, number: int) -> "Fallback":
        """Choose a candidate."""
        return Fallback(self.first.adding(number), self.then.adding(number))


@dataclass(frozen=True)
class Thompson:
    """Thompson sampling: each pick is the best candidate in a draw of its own [Thompson 1933].

    Picks are as varied as the posterior is wide. Candidates that are chosen already cannot be taken again, so that
    the picks are distinct; with fewer draws than picks the draws are used in turn.
    """

    draws: Float[Tensor, "s b"]  # joint draws of utilities
    turn: int = 0  # how many picks were made

    def gains(self) -> Float[Tensor, "b"]:
        """The utilities in the draw whose turn it is."""
        return self.draws[self.turn % len(self.draws)]

    def adding(self, number: int) -> "Thompson":  # noqa: ARG002 - of the protocol: the chooser masks what is taken
        """Choose a candidate."""
        return replace(self, turn=self.turn + 1)


def thompson(belief: UtilityPosterior, incumbent: float) -> Thompson:  # noqa: ARG001 - of all acquisitions
    """Sample from joint draws."""
    return Thompson(belief.joint())


def expected_improvement(belief: UtilityPosterior, incumbent: float) -> Fixed:
    """Expected improvement of a normal utility over the best observed, in its units [Mockus 1975; Jones 1998]."""
    excess, spread, known = _standardised(belief, incumbent)
    return Fixed(torch.where(known, excess.clamp(min=0), spread * hinge(excess / spread)))


def log_expected_improvement(belief: UtilityPosterior, incumbent: float) -> Fixed:
    """Logarithm of the expected improvement: ranks candidates also where it is smaller than any float."""
    excess, spread, known = _standardised(belief, incumbent)
    return Fixed(torch.where(known, excess.clamp(min=0).log(), spread.log() + log_hinge(excess / spread)))


def member_improvement(belief: UtilityPosterior, incumbent: float) -> Fixed:
    """Expected improvement by members: the mean over joint draws of how far each is above the best observed.

    It takes the draws as they are, so that a skewed or two-peaked utility is not mistaken for a normal one.
    """
    return Fixed((belief.joint() - incumbent).clamp(min=0).mean(0))


def probability_of_improvement(belief: UtilityPosterior, incumbent: float) -> Fixed:
    """Probability that a normal utility is above the best observed [Kushner 1964]."""
    excess, spread, known = _standardised(belief, incumbent)
    return Fixed(torch.where(known, (excess.sign() + 1) / 2, torch.special.ndtr(excess / spread)))


def upper_bound(belief: UtilityPosterior, incumbent: float, *, beta: float = 4.0) -> Fixed:  # noqa: ARG001
    """Upper confidence bound ``m + √(beta v)`` [Srinivas 2010]; a ``beta`` of zero is the greedy choice."""
    if not (math.isfinite(beta) and beta >= 0):
        raise DataError(f"beta {beta} is negative or not finite; 4 is two standard deviations")
    return Fixed(belief.mean + math.sqrt(beta) * belief.deviation)


def expected_utility(belief: UtilityPosterior, incumbent: float) -> Fixed:  # noqa: ARG001 - of all acquisitions
    """The expected utility: the greedy choice."""
    return Fixed(belief.mean)


def exploration(belief: UtilityPosterior, incumbent: float) -> Fixed:  # noqa: ARG001 - of all acquisitions
    """The standard deviation of the utility: what is known worst, good or bad."""
    return Fixed(belief.deviation)


def optimum(belief: UtilityPosterior, incumbent: float, *, k: int = 1) -> Fixed:  # noqa: ARG001
    """Share of joint draws in which a candidate is among the ``k`` best of those offered.

    For ``k = 1`` it is the probability of being the optimum; their sum over a batch is the probability that the
    batch holds it [Fromer et al. 2025]. Candidates that tie at the last place share it.
    """
    draws = belief.joint()
    if not 1 <= k <= len(belief):
        raise DataError(f"the {k} best of {len(belief)} candidates: count at least one, and not more than all")
    last = draws.topk(k, dim=1).values[:, -1:]
    above, level = (draws > last).double(), (draws == last).double()
    places: Tensor = (k - above.sum(1, keepdim=True)) / level.sum(1, keepdim=True)
    return Fixed((above + places * level).mean(0))


ACQUISITIONS: Registry[Callable[[UtilityPosterior, float], Acquisition]] = Registry(
    kind="gain",
    group="inverse_design.acquisitions",
    shipped={
        **{
            name: f"inverse_design.acquisition.acquisition:{name}"
            for name in (
                "expected_improvement", "log_expected_improvement", "member_improvement",
                "probability_of_improvement", "upper_bound", "exploration", "optimum", "thompson",
            )
        },
        "mean": "inverse_design.acquisition.acquisition:expected_utility",
        "log_improvement": "inverse_design.acquisition.joint:log_improvement",
    },
)  # fmt: skip


def batch_gain(belief: UtilityPosterior, incumbent: float) -> float:
    """Expected improvement of a whole batch: by its joint draws, else as if candidates were independent.

    Of independent ones, ``integral of 1 - prod_j Phi((u* + y - m_j) / √v_j) dy`` over improvements ``y``.
    """
    if belief.draws is not None:
        return float((belief.draws.amax(1) - incumbent).clamp(min=0).mean())
    spread = belief.deviation.clamp(min=torch.finfo(torch.float64).tiny)
    largest = float((belief.mean - incumbent + 8 * spread).max())
    if largest <= 0:
        return 0.0
    above = torch.linspace(0, largest, _CELLS, dtype=torch.float64)
    none = torch.special.log_ndtr((incumbent + above[:, None] - belief.mean) / spread).sum(1)
    return float(torch.trapezoid(-torch.expm1(none), above))


def _standardised(
    belief: UtilityPosterior, incumbent: float
) -> tuple[Float[Tensor, "b"], Float[Tensor, "b"], Bool[Tensor, "b"]]:
    """Expected excess over the best observed, standard deviation (one where it is zero), and where it is zero."""
    known = belief.variance == 0
    return belief.mean - incumbent, torch.where(known, 1.0, belief.deviation), known
