"""Posteriors of the utility of some candidates: the argument of every acquisition."""

from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor

from surrogates.errors import DataError
from surrogates.uncertainty.posterior import ScalarPosterior


@dataclass(frozen=True)
class UtilityPosterior:
    """A distribution over the utility of ``b`` candidates; larger utility is better.

    Attributes:
        draws: Joint draws, one row per member of an ensemble or sample of a posterior, or ``None`` where nothing
            is known of how the candidates depend on each other.
    """

    mean: Float[Tensor, "b"]  # expected utility of each
    variance: Float[Tensor, "b"]  # its variance
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
        """Take members of an ensemble, or draws of a posterior, each as likely as any other to be right.

        Raises:
            DataError: If there is no member.
        """
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
        """Take the joint draws, for what cannot do without.

        Raises:
            DataError: If there are none.
        """
        if self.draws is None:
            raise DataError(
                "this needs joint draws of the utilities: take `UtilityPosterior.of_members`, or a gain"
                " that reads means and variances only"
            )
        return self.draws
