"""Utilities as a model of BoTorch: joint draws are the members of an ensemble over the numbers of the candidates.

BoTorch takes seconds to import, so that this module is imported by those only who use it.
"""

from typing import Any

import torch
from botorch.models.ensemble import EnsembleModel
from botorch.posteriors.ensemble import EnsemblePosterior
from botorch.posteriors.posterior import Posterior
from botorch.sampling.base import MCSampler
from jaxtyping import Float
from torch import Tensor


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
        """Enumerate the members.

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
