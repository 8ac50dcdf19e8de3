"""Joint expected improvement through BoTorch: qLogEI and qLogNEI on a short list, with pending points.

:class:`~inverse_design.acquisition.joint_gain.JointGain` is exact for each candidate and takes less time; these
are for those who compare with BoTorch, and where what was measured is unsure.
"""

from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Tensor

from inverse_design.acquisition.posterior import UtilityPosterior

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
        from botorch.acquisition.logei import (  # noqa: PLC0415 - seconds to import
            qLogExpectedImprovement,
            qLogNoisyExpectedImprovement,
        )

        from inverse_design.acquisition.botorch_model import AllMembers, DrawsModel  # noqa: PLC0415 - as above

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
