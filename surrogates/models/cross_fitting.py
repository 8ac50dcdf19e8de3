"""Errors of surrogates on conditions that they have not seen, by novelty class."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from surrogates.data.novelty import novelty_code
from surrogates.data.screen import Screen
from surrogates.data.splits import Split
from surrogates.data.vocabulary import PerturbationBatch
from surrogates.models.base import Fitted, Surrogate


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


@dataclass(frozen=True)
class SplitFit:
    """Fits to the training part of a split, and what they make of the conditions that they have not seen.

    Attributes:
        fits: One per surrogate.
        training: Numbers of the rows that they were fitted to.
        batch: The held-out perturbations.
        effects: What was measured of them.
        codes: Novelty class of each with respect to the training part.
        errors: Measured minus predicted effects of each surrogate.
        scales: Posterior scale of each prediction.
    """

    fits: tuple[Fitted, ...]
    training: Int[Tensor, "n"]
    batch: PerturbationBatch
    effects: Float[Tensor, "b g"]
    codes: Int[Tensor, "b"]
    errors: Float[Tensor, "m b g"]
    scales: Float[Tensor, "m b"]

    def without(self, batch: PerturbationBatch) -> "SplitFit":
        """Leave out what was held out of some perturbations; the fits stay as they are.

        Args:
            batch: Ids of the same vocabulary. A double whose two parts are unseen in turn is held out twice.

        Returns:
            The same fits with fewer held-out conditions.
        """
        left_out = {frozenset(row) for row in batch.genes.tolist()}
        kept = torch.tensor([frozenset(ids) not in left_out for ids in self.batch.genes.tolist()])
        kept = torch.nonzero(kept).flatten()
        return SplitFit(
            self.fits,
            self.training,
            self.batch.rows(kept),
            self.effects[kept],
            self.codes[kept],
            self.errors[:, kept],
            self.scales[:, kept],
        )


def fit_splits(
    surrogates: Sequence[Surrogate], screen: Screen, splits: Sequence[Split], *, seed: int
) -> tuple[SplitFit, ...]:
    """Fit every surrogate to every training part and predict what was held out.

    Args:
        surrogates: What to fit.
        screen: Measured effects in one context.
        splits: Training and held-out rows; a condition may be held out several times.
        seed: Fixes the fits.

    Returns:
        The fits of each split; the class of a condition is that with respect to what they were fitted to.
    """
    return tuple(_fit_split(surrogates, screen, split, seed) for split in splits)


def _fit_split(surrogates: Sequence[Surrogate], screen: Screen, split: Split, seed: int) -> SplitFit:
    training, batch = screen.rows(split.train), screen.batch.rows(split.test)
    fits = tuple(each.fit(training, seed=seed) for each in surrogates)
    posteriors = [each.predict(batch) for each in fits]
    error = torch.stack([screen.effects[split.test] - each.mean for each in posteriors])
    scale = torch.stack([each.scale for each in posteriors])
    codes = novelty_code(batch, training.single_rows >= 0)
    return SplitFit(fits, split.train, batch, screen.effects[split.test], codes, error, scale)


def pooled_errors(fits: Sequence[SplitFit]) -> tuple[HeldOutErrors, ...]:
    """Pool the errors of some splits by novelty class.

    Args:
        fits: Of the same surrogates.

    Returns:
        Errors of each class that was held out, in the order of their codes.
    """
    if not fits:
        return ()
    codes = torch.cat([each.codes for each in fits])
    errors, scales = torch.cat([each.errors for each in fits], 1), torch.cat([each.scales for each in fits], 1)
    return tuple(
        HeldOutErrors(code, errors[:, codes == code], scales[:, codes == code]) for code in codes.unique().tolist()
    )
