"""Errors of surrogates on conditions that they have not seen, by novelty class."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from surrogates.data.novelty import novelty_code
from surrogates.data.screen import Screen
from surrogates.data.splits import Split
from surrogates.models.base import Surrogate


@dataclass(frozen=True)
class HeldOutErrors:
    """Cross-fitted errors of some surrogates on the conditions of one novelty class.

    Attributes:
        code: The class, as numbered by :func:`surrogates.data.novelty.novelty_code`.
        errors: Measured minus predicted effects of each surrogate.
        scales: Posterior scale of each prediction.
    """

    code: int
    errors: Float[Tensor, "m b g"]
    scales: Float[Tensor, "m b"]

    @property
    def support(self) -> int:
        """Number of held-out conditions."""
        return self.errors.shape[1]


def cross_fit(
    surrogates: Sequence[Surrogate], screen: Screen, splits: Sequence[Split], *, seed: int
) -> tuple[HeldOutErrors, ...]:
    """Fit every surrogate to every training part and predict what was held out.

    Args:
        surrogates: What to fit.
        screen: Measured effects in one context.
        splits: Training and held-out rows; a condition may be held out several times.
        seed: Fixes the fits.

    Returns:
        Errors of each novelty class that was held out, in the order of their codes; the class of a condition is
        that with respect to what the surrogates were fitted to.
    """
    codes, errors, scales = [], [], []
    for split in splits:
        training, batch = screen.rows(split.train), screen.batch.rows(split.test)
        posteriors = [each.fit(training, seed=seed).predict(batch) for each in surrogates]
        codes.append(novelty_code(batch, training.single_rows >= 0))
        errors.append(torch.stack([screen.effects[split.test] - each.mean for each in posteriors]))
        scales.append(torch.stack([each.scale for each in posteriors]))
    if not codes:
        return ()
    code, error, scale = torch.cat(codes), torch.cat(errors, 1), torch.cat(scales, 1)
    return tuple(
        HeldOutErrors(each, error[:, code == each], scale[:, code == each]) for each in torch.unique(code).tolist()
    )
