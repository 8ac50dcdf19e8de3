"""Errors of surrogates on conditions that they have not seen, by novelty class."""

from collections import defaultdict
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
from surrogates.models.denoised import fit_together


@dataclass(frozen=True)
class HeldOutErrors:
    """Cross-fitted errors of some surrogates on the conditions of one novelty class.

    Attributes:
        code: The class, as numbered by :func:`surrogates.data.novelty.novelty_code`.
        errors: Measured minus predicted effects of each surrogate.
        scales: Posterior scale of each prediction.
        shares: How much each condition counts, so that all targets that the fits had not seen count the same:
            conditions of one target err alike. One where every part was seen.
    """

    code: int
    errors: Float[Tensor, "m b g"]
    scales: Float[Tensor, "m b"]
    shares: Float[Tensor, "b"]

    @property
    def support(self) -> int:
        """Number of held-out conditions."""
        return self.errors.shape[1]

    @property
    def independent(self) -> int:
        """Number of held-out targets, or of conditions where every part was seen."""
        return round(float(self.shares.sum()))


@dataclass(frozen=True)
class SplitFit:
    """Fits to the training part of a split, and what they make of the conditions that they have not seen.

    Attributes:
        fits: One per surrogate.
        training: Numbers of the rows that they were fitted to.
        batch: The held-out perturbations.
        effects: What was measured of them.
        codes: Novelty class of each with respect to the training part.
        hidden: Targets of each that are not in the training part alone.
        errors: Measured minus predicted effects of each surrogate.
        scales: Posterior scale of each prediction.
    """

    fits: tuple[Fitted, ...]
    training: Int[Tensor, "n"]
    batch: PerturbationBatch
    effects: Float[Tensor, "b g"]
    codes: Int[Tensor, "b"]
    hidden: tuple[frozenset[str], ...]
    errors: Float[Tensor, "m b g"]
    scales: Float[Tensor, "m b"]


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
    fits = fit_together(surrogates, training, seed=seed)
    posteriors = [each.predict(batch) for each in fits]
    error = torch.stack([screen.effects[split.test] - each.mean for each in posteriors])
    scale = torch.stack([each.scale for each in posteriors])
    alone = training.single_rows >= 0
    codes = novelty_code(batch, alone)
    targets = screen.vocabulary.targets
    hidden = tuple(
        frozenset(targets[entry] for entry in ids if entry >= 0 and not alone[entry])
        for ids in batch.genes.tolist()
    )
    return SplitFit(fits, split.train, batch, screen.effects[split.test], codes, hidden, error, scale)


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
    hidden = [each for fit in fits for each in fit.hidden]
    return tuple(
        HeldOutErrors(
            code,
            errors[:, codes == code],
            scales[:, codes == code],
            shares_of_targets([each for each, own in zip(hidden, codes.tolist(), strict=True) if own == code]),
        )
        for code in codes.unique().tolist()
    )


def shares_of_targets(hidden: Sequence[frozenset[str]]) -> Float[Tensor, "b"]:
    """Weigh conditions so that every target counts the same.

    A condition with ``k`` unseen targets is worth ``1/k`` to each. What it counts is that worth divided by the
    worth of all conditions of the target, summed over its targets.

    Args:
        hidden: Unseen targets of each condition.

    Returns:
        One number per condition, their sum the number of targets; one for a condition without unseen targets.
    """
    worth: dict[str, float] = defaultdict(float)
    for targets in hidden:
        for target in targets:
            worth[target] += 1 / len(targets)
    shares = [
        sum(1 / len(targets) / worth[target] for target in sorted(targets)) if targets else 1.0
        for targets in hidden
    ]
    return torch.tensor(shares, dtype=torch.float64)
