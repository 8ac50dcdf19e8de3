"""Held-out doubles and the pairs beside which a model has to name them."""

import torch
from jaxtyping import Float, Int
from torch import Tensor

from surrogates.data.folds import fold_numbers
from surrogates.data.screen import Screen
from surrogates.data.splits import Split
from surrogates.models.base import Fitted, pair_factored
from surrogates.models.singles import single_effects
from surrogates.uncertainty.selection import HeldOutFold

# Without factors the prediction of each candidate is a row of its own, and rows are multiplied with each other.
_STREAMED = 1000


def hold_out(
    screen: Screen, split: Split, fitted: Fitted, *, candidates: int, probes: int, seed: int
) -> HeldOutFold:
    """Lay candidates beside held-out doubles, as a fit predicts them that has not seen the doubles.

    Args:
        screen: Measured effects in one context.
        split: Which doubles are held out.
        fitted: Fitted to the training part.
        candidates: At most this many pairs stand beside the true one; 1,000 if the model does not factorise.
        probes: At most this many of the doubles are to be identified.
        seed: Fixes candidates and probes.

    Returns:
        The fold.
    """
    rows = split.test
    count = candidates if pair_factored(fitted) else min(candidates, _STREAMED)
    pairs, truth = candidate_pairs(screen, rows, count, seed)
    atoms, weights, scale = _as_sums(fitted, pairs)
    order = fold_numbers([screen.labels[int(row)] for row in rows], folds=len(rows), seed=seed).argsort()
    return HeldOutFold(
        measured=screen.effects[rows],
        truth=truth,
        atoms=atoms,
        weights=weights,
        scale=scale,
        parts=pairs,
        singles=single_effects(screen.rows(split.train))[0],
        probed=order[:probes],
    )


def candidate_pairs(
    screen: Screen, rows: Int[Tensor, "m"], count: int, seed: int
) -> tuple[Int[Tensor, "c 2"], Int[Tensor, "m"]]:
    """List held-out pairs first, then all other pairs of entries measured alone, or a random part of them.

    Args:
        screen: Measured effects.
        rows: The held-out doubles.
        count: At most this many pairs beside them.
        seed: Fixes the random part.

    Returns:
        Vocabulary ids of each pair, and the number of each held-out one among them.
    """
    truth = screen.batch.genes[rows][:, :2]
    seen = torch.nonzero(screen.single_rows >= 0).flatten()
    v = len(screen.vocabulary)
    if len(seen) * (len(seen) - 1) // 2 <= count:
        others = torch.combinations(seen, 2)
    else:
        generator = torch.Generator().manual_seed(seed)
        drawn = seen[torch.randint(len(seen), (2 * count, 2), generator=generator)].sort(1).values
        others = torch.unique(drawn[drawn[:, 0] < drawn[:, 1]], dim=0)
        others = others[torch.randperm(len(others), generator=generator)[:count]]
    taken = torch.isin(others[:, 0] * v + others[:, 1], truth[:, 0] * v + truth[:, 1])
    return torch.cat([truth, others[~taken]]), torch.arange(len(rows))


def _as_sums(
    fitted: Fitted, pairs: Int[Tensor, "c 2"]
) -> tuple[Float[Tensor, "a g"], Float[Tensor, "c a"], Float[Tensor, "c"]]:
    """Predictions of pairs as weighted sums of few rows; without factors each is its own row."""
    batch = fitted.vocabulary.dosed(pairs)
    factored = pair_factored(fitted)
    if factored is None:
        posterior = fitted.predict(batch)
        return posterior.mean, torch.eye(len(pairs), dtype=torch.float64), posterior.scale
    factors, scale = factored.pair_factors(), factored.pair_scale()
    first, second = pairs.T
    products = factors.scores[first] * factors.scores[second]
    return (
        torch.cat([factors.main, factors.basis]),
        torch.cat([batch.multi_hot(len(fitted.vocabulary)), products], dim=1),
        scale.side[first] + scale.side[second] + (scale.left[first] * scale.right[second]).sum(1),
    )
