"""Our policy for pairs: the candidates that are most probably among the best of the whole pool."""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from inverse_design.campaign.game import Choice, Known, Pool
from inverse_design.campaign.policies.fixed import RandomChoice
from inverse_design.campaign.policies.pair_process import PairProcess, fit_pair_process
from inverse_design.campaign.policies.pair_terms import Likeness, pair_terms
from inverse_design.campaign.policies.pairs import pair_view
from surrogates.errors import DataError

_FEWEST = 10  # observations below which nothing is fitted
_HALVINGS = 50


@dataclass(frozen=True)
class PairHits:
    """Measures the pairs with the largest probability of being among the ``top`` best of all.

    The best are meant as measured, noise included: that is how a screen is judged. The utility that makes one of
    the best is the one above which the process expects ``top`` of all pairs, measured ones included.

    Attributes:
        top: How many count as best.
        terms: Of the kernel, see :mod:`inverse_design.campaign.policies.pair_terms`.
        length: How far apart genes that are near may be, in standard deviations of single utilities.
        short_list: How many candidates, by expected utility, have their probability worked out.
        level: Nominal probability of the stated bounds.
    """

    top: int = 100
    terms: tuple[tuple[Likeness, Likeness], ...] = (("same", "any"), ("same", "near"), ("near", "near"))
    length: float = 0.7
    short_list: int = 3000
    level: float = 0.9

    def __post_init__(self) -> None:
        """Refuse numbers that are out of range, and a kernel without terms."""
        if self.top < 1 or self.short_list < 1 or self.length <= 0 or not 0 < self.level < 1 or not self.terms:
            raise DataError(f"{self} cannot choose; top, list, length and terms are positive, the level below one")

    def choose(self, pool: Pool, known: Known, count: int, *, seed: int) -> Choice:
        """Take the most probable hits.

        Args:
            pool: What is known from the start: what genes do alone, and descriptors if a term asks for them.
            known: What was revealed since; at random while that is less than ten.
            count: How many experiments.
            seed: Fixes those.

        Returns:
            The choice, with bounds on what will be measured.

        Raises:
            DataError: If a candidate is no pair.
        """
        view = pair_view(pool)
        if len(known) < _FEWEST:
            return RandomChoice().choose(pool, known, count, seed=seed)
        terms = pair_terms(
            self.terms,
            view.alone,
            length=self.length,
            vocabulary=pool.before.vocabulary,
            descriptors=pool.descriptors,
        )
        process = fit_pair_process(terms, view.alone, view.pairs[known.rows], known.utility)
        free = known.open_rows(pool)
        mean = process.mean[view.pairs[free, 0], view.pairs[free, 1]]
        listed = mean.argsort(descending=True, stable=True)[: max(count, self.short_list)]
        spread = _spread(process, view.pairs[free[listed]])
        score = hit_score(mean[listed], spread, known.utility, top=self.top)
        best = score.argsort(descending=True, stable=True)[:count]
        reach = torch.special.ndtri(torch.tensor((1 + self.level) / 2, dtype=torch.float64)) * spread[best]
        middle = mean[listed[best]]
        return Choice(free[listed[best]], middle - reach, middle + reach)


def hit_score(
    mean: Float[Tensor, "b"], spread: Float[Tensor, "b"], measured: Float[Tensor, "m"], *, top: int
) -> Float[Tensor, "b"]:
    """Find the logarithm of the probability that each candidate is among the best.

    Args:
        mean: Expected utility of each candidate.
        spread: Its standard deviation, positive.
        measured: Utilities that are known already.
        top: How many count as best, among candidates and measured ones.

    Returns:
        ``log P(u > t)`` of normal utilities, with ``t`` so that ``top`` above it are expected in all.
    """
    everything = torch.cat([measured, mean])
    low = float(everything.min() - 10 * spread.max())
    high = float(everything.max() + 10 * spread.max())
    for _ in range(_HALVINGS):
        threshold = (low + high) / 2
        expected = torch.special.ndtr((mean - threshold) / spread).sum() + (measured > threshold).sum()
        low, high = (threshold, high) if float(expected) > top else (low, threshold)
    score: Tensor = torch.special.log_ndtr((mean - high) / spread)
    return score


def _spread(process: PairProcess, pairs: Int[Tensor, "b 2"]) -> Float[Tensor, "b"]:
    latent, noise = process.variance(pairs)
    return (latent + noise).sqrt()
