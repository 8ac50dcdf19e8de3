"""Predictions of doubles whose errors have a planted size."""

import torch
from jaxtyping import Bool, Float
from strategies.screens import normal, pairs_of
from torch import Tensor

from surrogates.data.vocabulary import PerturbationBatch
from surrogates.uncertainty.readout_variance import Circumstances


def doubles(genes: int, count: int, *, seed: int = 0) -> PerturbationBatch:
    """Some pairs of the first entries."""
    pairs = torch.tensor(pairs_of(genes, count, seed=seed))
    return PerturbationBatch(pairs, torch.ones(pairs.shape, dtype=torch.float64))


def described(
    batch: PerturbationBatch,
    singles: Float[Tensor, "v g"],
    *,
    seed: int = 1,
    alone: Bool[Tensor, "v"] | None = None,
    own: Bool[Tensor, "b g"] | None = None,
    unit: float = 1.0,
) -> Circumstances:
    """Describe predictions that are the sum of the parts, and something else."""
    mean = (singles[batch.genes.clamp(min=0)] * batch.present[..., None]).sum(1)
    mean = mean + 0.5 * unit * normal(*mean.shape, seed=seed)
    return Circumstances.of(
        mean,
        1 + normal(len(batch), seed=seed + 1).abs(),
        batch,
        singles=singles,
        alone=torch.ones(len(singles), dtype=torch.bool) if alone is None else alone,
        own=torch.zeros(mean.shape, dtype=torch.bool) if own is None else own,
    )
