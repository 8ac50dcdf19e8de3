"""How policies for pairs see a pool: two genes for each candidate, and what each gene is worth alone."""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from inverse_design.acquisition.worth import measured_utility
from inverse_design.campaign.game import Pool
from surrogates.errors import DataError


@dataclass(frozen=True)
class PairView:
    """A pool of pairs.

    Attributes:
        pairs: Genes of each candidate.
        alone: Utility of each gene alone, in standard units; zero where it was not measured.
    """

    pairs: Int[Tensor, "c 2"]
    alone: Float[Tensor, "v"]

    def parts(self) -> Float[Tensor, "c 2"]:
        """Look up what the genes of each candidate are worth alone.

        Returns:
            The lower and the higher of the two, in standard units.
        """
        return self.alone[self.pairs].sort(dim=1).values


def pair_view(pool: Pool) -> PairView:
    """See a pool as pairs.

    Args:
        pool: Candidates and what is known of their parts.

    Returns:
        The view.

    Raises:
        DataError: If a candidate is no pair, or fewer than two genes were measured alone.
    """
    candidates = pool.candidates
    if bool((odd := candidates.order != 2).any()):
        label = pool.before.vocabulary.perturbation(candidates.genes[int(odd.nonzero()[0])]).label
        raise DataError(f"candidate {label!r} is no pair; this policy needs pairs only")
    rows = pool.before.single_rows
    if int((rows >= 0).sum()) < 2:
        raise DataError("fewer than two genes were measured alone; this policy needs their effects")
    utility = measured_utility(pool.target, pool.before)[rows[rows >= 0]]
    alone = torch.zeros(len(rows), dtype=torch.float64)
    alone[rows >= 0] = (utility - utility.mean()) / utility.std().clamp(min=1e-12)
    return PairView(candidates.genes[:, :2], alone)
