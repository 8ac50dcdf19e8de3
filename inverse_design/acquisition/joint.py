"""Joint expected improvement through BoTorch: qLogEI and qLogNEI on a short list, with pending points.

:class:`~inverse_design.acquisition.joint_gain.JointGain` is exact for each candidate and takes less time; these
are for those who compare with BoTorch, and where what was measured is unsure. BoTorch takes seconds to import, so
that this module is imported by those only who use it.
"""

from dataclasses import dataclass, replace
from typing import Any

import torch
from botorch.acquisition.logei import qLogExpectedImprovement, qLogNoisyExpectedImprovement
from botorch.models.ensemble import EnsembleModel
from botorch.posteriors.ensemble import EnsemblePosterior
from botorch.posteriors.posterior import Posterior
from botorch.sampling.base import MCSampler
from jaxtyping import Float
from torch import Tensor

from inverse_design.acquisition.acquisition import UtilityPosterior

_AT_ONCE = 64  # candidates that BoTorch scores together


@dataclass(frozen=True)
class LogImprovement:
    """What each candidate makes of the joint expected improvement of a batch, smoothed so that none is zero.

    qLogEI against a known best value [Ament 2023]; qLogNEI where what was measured is unsure too: its best in each
    draw, joint with those of the candidates, then stands in the place of that value.
    """

    draws: Float[Tensor, "s b"]  # joint draws of the candidates' utilities, larger is better
    incumbent: float | Float[Tensor, "s"]  # utility of the best that is known, or its draws
    chosen: tuple[int, ...] = ()  # numbers of the candidates that are chosen or pending

    def gains(self) -> Float[Tensor, "b"]:
        """Joint expected improvement of the chosen ones and each candidate."""
        acquisition = self._acquisition()
        numbers = torch.arange(self.draws.shape[1], dtype=torch.float64)[:, None, None]
        with torch.no_grad():
            values = [acquisition(some) for some in numbers.split(_AT_ONCE)]
        return torch.cat(values).exp()

    def adding(self, number: int) -> "LogImprovement":
        """Choose a candidate."""
        return replace(self, chosen=(*self.chosen, number))

    def _acquisition(self) -> torch.nn.Module:
        sampler = AllMembers(len(self.draws))
        pending = torch.tensor(self.chosen, dtype=torch.float64)[:, None] if self.chosen else None
        if isinstance(self.incumbent, float):
            return qLogExpectedImprovement(
                DrawsModel(self.draws), best_f=self.incumbent, sampler=sampler, X_pending=pending
            )
        both = torch.cat([self.draws, self.incumbent[:, None]], dim=1)
        return qLogNoisyExpectedImprovement(
            DrawsModel(both), X_baseline=torch.tensor([[both.shape[1] - 1.0]], dtype=torch.float64),
            sampler=sampler, X_pending=pending, prune_baseline=False, cache_root=False,
        )  # fmt: skip


def log_improvement(belief: UtilityPosterior, incumbent: float) -> LogImprovement:
    """Take qLogEI."""
    return LogImprovement(belief.joint(), incumbent)


class DrawsModel(EnsembleModel):
    """An ensemble whose members look utilities up: ``X`` holds the number of each candidate.

    BoTorch has its models as modules to be derived from; everything else here is a value.
    """

    draws: Tensor

    def __init__(self, draws: Float[Tensor, "s b"]) -> None:
        """Take joint draws."""
        super().__init__()
        self._num_outputs = 1
        self.register_buffer("draws", draws)

    @property
    def batch_shape(self) -> torch.Size:
        """Not a batch of models."""
        return torch.Size([])

    def forward(self, X: Float[Tensor, "*b q 1"]) -> Float[Tensor, "*b s q 1"]:
        """Look utilities up."""
        found = self.draws[:, X[..., 0].long()]  # s, *b, q
        return found.movedim(0, -2)[..., None]


class AllMembers(MCSampler):
    """Takes every member once, the same for all candidates: the default sampler draws them anew for each."""

    def __init__(self, members: int) -> None:
        """Take as many samples as there are members."""
        super().__init__(sample_shape=torch.Size([members]))

    def forward(self, posterior: Posterior) -> Tensor:
        """Enumerate the members."""
        if not isinstance(posterior, EnsemblePosterior):
            raise TypeError(f"{type(posterior).__name__} has no members to enumerate")
        count, shape = posterior.ensemble_size, posterior.batch_shape
        base = torch.arange(count).view(count, *[1] * len(shape)).expand(torch.Size([count]) + shape)
        return posterior.rsample_from_base_samples(self.sample_shape, base)

    def _update_base_samples(self, posterior: Any, base_sampler: Any) -> None:  # noqa: ANN401 - of the base class
        """Nothing to keep: the members are the samples."""
