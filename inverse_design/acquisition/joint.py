"""Joint expected improvement through BoTorch: qLogEI and qLogNEI on a short list, with pending points.

:class:`~inverse_design.acquisition.joint_gain.JointGain` is exact for each candidate and takes less time; these
are for those who compare with BoTorch, and for incumbents that are unsure.

Beliefs as a model of BoTorch: joint draws are the members of an ensemble over the numbers of the candidates.

BoTorch takes seconds to import, so that this module is imported by those only who use it.
"""

from dataclasses import dataclass, replace
from typing import Any

import torch
from botorch.models.ensemble import EnsembleModel
from botorch.posteriors.ensemble import EnsemblePosterior
from botorch.posteriors.posterior import Posterior
from botorch.sampling.base import MCSampler
from jaxtyping import Float
from torch import Tensor

from inverse_design.acquisition.posterior import Belief
from surrogates.errors import DataError

_AT_ONCE = 512  # candidates that BoTorch scores together


@dataclass(frozen=True)
class LogImprovement:
    """What each candidate makes of the joint expected improvement of a batch, smoothed so that none is zero.

    qLogEI against a known incumbent [Ament 2023]; qLogNEI where what was measured is unsure too: its draws, joint
    with those of the candidates, then stand in the place of the incumbent.

    Attributes:
        draws: Joint draws of the candidates' utilities, larger is better.
        incumbent: Utility of the best that is known, for qLogEI; ``None`` for qLogNEI.
        measured: Joint draws of the utilities of what was measured, for qLogNEI.
        chosen: Numbers of the candidates that are chosen or pending.
    """

    draws: Float[Tensor, "s b"]
    incumbent: float | None = None
    measured: Float[Tensor, "s n"] | None = None
    chosen: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        """Refuse both an incumbent and unsure measurements, and neither."""
        if (self.incumbent is None) == (self.measured is None):
            raise DataError(
                "give an incumbent for qLogEI, or draws of what was measured for qLogNEI: one of the two"
            )

    @classmethod
    def of(cls, belief: Belief, incumbent: float) -> "LogImprovement":
        """Take qLogEI, with nothing chosen.

        Args:
            belief: With joint draws.
            incumbent: Utility of the best that is known.

        Returns:
            The preference.
        """
        return cls(belief.joint(), incumbent)

    @classmethod
    def noisy(cls, belief: Belief, measured: Belief) -> "LogImprovement":
        """Take qLogNEI, with nothing chosen.

        Args:
            belief: Of the candidates, with joint draws.
            measured: Of what was measured, in the same draws.

        Returns:
            The preference.
        """
        return cls(belief.joint(), measured=measured.joint())

    def gains(self) -> Float[Tensor, "b"]:
        """Joint expected improvement of the chosen ones and each candidate."""
        acquisition = self._acquisition()
        numbers = torch.arange(self.draws.shape[1], dtype=torch.float64)[:, None, None]
        with torch.no_grad():
            values = [acquisition(some) for some in numbers.split(_AT_ONCE)]
        return torch.cat(values).exp()

    def adding(self, number: int) -> "LogImprovement":
        """Choose a candidate.

        Args:
            number: Which.

        Returns:
            The preference with it.
        """
        return replace(self, chosen=(*self.chosen, number))

    def _acquisition(self) -> torch.nn.Module:
        from botorch.acquisition.logei import (  # noqa: PLC0415 - seconds to import
            qLogExpectedImprovement,
            qLogNoisyExpectedImprovement,
        )

        from inverse_design.acquisition.joint import AllMembers, DrawsModel  # noqa: PLC0415 - as above

        sampler = AllMembers(len(self.draws))
        pending = torch.tensor(self.chosen, dtype=torch.float64)[:, None] if self.chosen else None
        if self.incumbent is not None:
            return qLogExpectedImprovement(
                DrawsModel(self.draws), best_f=self.incumbent, sampler=sampler, X_pending=pending
            )
        both = self.draws if self.measured is None else torch.cat([self.draws, self.measured], dim=1)
        known = torch.arange(self.draws.shape[1], both.shape[1], dtype=torch.float64)[:, None]
        return qLogNoisyExpectedImprovement(
            DrawsModel(both), X_baseline=known, sampler=sampler, X_pending=pending,
            prune_baseline=False, cache_root=False,
        )  # fmt: skip


class DrawsModel(EnsembleModel):
    """An ensemble whose members look utilities up: ``X`` holds the number of each candidate.

    BoTorch has its models as modules to be derived from; everything else here is a value.
    """

    draws: Tensor

    def __init__(self, draws: Float[Tensor, "s b"]) -> None:
        """Take joint draws.

        Args:
            draws: Utilities, one row per member.
        """
        super().__init__()
        self._num_outputs = 1
        self.register_buffer("draws", draws)

    @property
    def batch_shape(self) -> torch.Size:
        """Not a batch of models."""
        return torch.Size([])

    def forward(self, X: Float[Tensor, "*b q 1"]) -> Float[Tensor, "*b s q 1"]:
        """Look utilities up.

        Args:
            X: Numbers of candidates.

        Returns:
            Their utilities under each member.
        """
        found = self.draws[:, X[..., 0].long()]  # s, *b, q
        return found.movedim(0, -2)[..., None]


class AllMembers(MCSampler):
    """Takes every member once, the same for all candidates: the default sampler draws them anew for each."""

    def __init__(self, members: int) -> None:
        """Take as many samples as there are members.

        Args:
            members: Number of members.
        """
        super().__init__(sample_shape=torch.Size([members]))

    def forward(self, posterior: Posterior) -> Tensor:
        """Enumerate the members.

        Args:
            posterior: Of the ensemble.

        Returns:
            One sample per member.

        Raises:
            TypeError: If it has no members.
        """
        if not isinstance(posterior, EnsemblePosterior):
            raise TypeError(f"{type(posterior).__name__} has no members to enumerate")
        count, shape = posterior.ensemble_size, posterior.batch_shape
        base = torch.arange(count).view(count, *[1] * len(shape)).expand(torch.Size([count]) + shape)
        return posterior.rsample_from_base_samples(self.sample_shape, base)

    def _update_base_samples(self, posterior: Any, base_sampler: Any) -> None:  # noqa: ANN401 - of the base class
        """Nothing to keep: the members are the samples."""
