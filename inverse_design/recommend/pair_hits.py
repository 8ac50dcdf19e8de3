"""The recommender for pairs, which recommender is the default, and how any of them keeps the rules of the bench.

``pair_hits`` takes the candidates that are most probably among the best of all.
"""

import math
from dataclasses import dataclass, replace

import pandas as pd
import torch
from jaxtyping import Float
from torch import Tensor

from inverse_design.acquisition.acquisition import UtilityPosterior
from inverse_design.acquisition.batch import allowed_next
from inverse_design.errors import NothingToProposeError
from inverse_design.problem.space import CombinationSpace
from inverse_design.problem.target import is_state
from inverse_design.recommend.pair_process import MOST_COMPARED, fit_pair_process, pair_terms
from inverse_design.recommend.pairs import pair_view
from inverse_design.recommend.protocol import (
    MOST_LISTED,
    PERTURBATION,
    DecisionState,
    RandomChoice,
    Recommendation,
    Recommender,
    best_first,
)
from surrogates.data.perturbation import Perturbation
from surrogates.errors import DataError

_FEWEST_CANDIDATES = 1000  # ten times as many as count as best in the replays that `pair_hits` wins


FEWEST_PAIRS = 10  # observations below which nothing is fitted
_HALVINGS = 50


@dataclass(frozen=True)
class PairHits:
    """Measures the pairs with the largest probability of being among the ``top`` best of all.

    The best are meant as measured, noise included: that is how a screen is judged. The utility that makes one of
    the best is the one above which the process expects ``top`` of all pairs, measured ones included.
    """

    top: int = 100  # how many count as best
    length: float = 0.7  # how far apart genes that are near may be, in standard deviations of single utilities
    short_list: int = 3000  # how many candidates, by expected utility, have their probability worked out

    def __post_init__(self) -> None:
        """Refuse numbers that are out of range."""
        if self.top < 1 or self.short_list < 1 or self.length <= 0:
            raise DataError(f"{self} cannot choose; top, list and length are positive")

    def recommend(
        self, state: DecisionState, count: int, *, pending: tuple[Perturbation, ...], seed: int
    ) -> Recommendation:
        """Take the most probable hits."""
        view = pair_view(state, pending)
        if len(view.known) < FEWEST_PAIRS:
            few = f"warning: {len(view.known)} pairs are measured, and {FEWEST_PAIRS} are needed: drawn at random"
            drawn = RandomChoice().recommend(state, count, pending=pending, seed=seed)
            return replace(drawn, notes=(few,))
        terms = pair_terms(view.alone, length=self.length)
        process = fit_pair_process(terms, view.alone, view.known, view.utility)
        every = process.mean[view.pairs[:, 0], view.pairs[:, 1]]
        listed = best_first(every, max(count, self.short_list))
        mean = every[listed]
        latent, noise = process.variance(view.pairs[listed])
        spread = (latent + noise).sqrt()
        score = hit_score(mean, spread, view.utility, top=self.top)
        best = best_first(score, count)
        reach = torch.special.ndtri(torch.tensor((1 + state.level) / 2, dtype=torch.float64)) * spread[best]
        found = Recommendation.of(
            state,
            view.left.rows(listed[best]),
            utility=(mean[best], mean[best] - reach, mean[best] + reach),
            belief=UtilityPosterior(mean[best], latent[best]),
            reason=[f"among the best {self.top} with a chance of {chance:.2g}" for chance in score[best].exp()],
        )
        if len(view.known) <= MOST_COMPARED:
            return found
        known, some = f"{len(view.known):,} measured pairs", f"{MOST_COMPARED:,}"
        said = f"means rest on all {known}, uncertainties on {some} of them"
        if process.behind < len(view.known):
            said = f"means and uncertainties rest on {some} of {known}: with so little noise, all take too long"
        return replace(found, notes=(said,))


def hit_score(
    mean: Float[Tensor, "b"], spread: Float[Tensor, "b"], measured: Float[Tensor, "m"], *, top: int
) -> Float[Tensor, "b"]:
    """Find the logarithm of the probability that each candidate is among the best."""
    everything = torch.cat([measured, mean])
    low = float(everything.min() - 10 * spread.max())
    high = float(everything.max() + 10 * spread.max())
    for _ in range(_HALVINGS):
        threshold = (low + high) / 2
        expected = torch.special.ndtr((mean - threshold) / spread).sum() + (measured > threshold).sum()
        low, high = (threshold, high) if float(expected) > top else (low, threshold)
    score: Tensor = torch.special.log_ndtr((mean - high) / spread)
    return score


def default_recommender(state: DecisionState) -> tuple[str, str]:
    """Name the recommender that wins the replays for this kind of target, and say why.

    A readout or a signature to move, over pairs, with at least 10 pairs measured and 1,000 to choose from:
    ``pair_hits``. Everything else, such as a state to be reached, or other combinations: ``gains``.
    """
    space, measured = state.candidates, state.measured
    pairs = int((measured.batch.order == 2).sum())
    if is_state(state.target):
        return "gains", "a state is to be reached"
    if not _only_pairs(state):
        return "gains", "not only pairs may be proposed"
    if pairs < FEWEST_PAIRS:
        return "gains", f"a direction over pairs, of which {pairs} are measured; from {FEWEST_PAIRS} on, pair_hits"
    size = space.size if isinstance(space, CombinationSpace) else len(space)
    if not _FEWEST_CANDIDATES <= size <= MOST_LISTED:
        return (
            "gains",
            f"a direction over {size:,} pairs; pair_hits is for {_FEWEST_CANDIDATES:,} to {MOST_LISTED:,}",
        )
    return "pair_hits", "a direction over pairs: it finds most of the best in replays"


def _only_pairs(state: DecisionState) -> bool:
    space = state.candidates
    return space.orders == (2,) if isinstance(space, CombinationSpace) else bool((space.order == 2).all())


def recommend_within(
    recommender: Recommender, state: DecisionState, count: int, *, pending: tuple[Perturbation, ...], seed: int
) -> Recommendation:
    """Recommend a batch that keeps the rules of the bench, whoever recommends.

    Random picks come first, each as likely as any other candidate that may be taken then. Of the recommender's
    picks those are taken that keep the rules; while they are too few, it is asked for twice as many. What it says
    of the random picks, and of the gain of the batch, is what it answers when the batch is all that is offered.
    """
    rules = state.rules
    plain = rules.most_per_gene is None and not rules.drawn(count)
    if plain or getattr(recommender, "keeps_rules", False):
        return recommender.recommend(state, count, pending=pending, seed=seed)
    vocabulary = state.measured.vocabulary
    logs = _random_picks(state, count, pending, seed)
    drawn, wanted = tuple(logs), count - len(logs)
    kept: list[Perturbation] = []
    table, notes = pd.DataFrame(), tuple[str, ...]()
    while wanted and len(kept) < count - len(drawn):
        try:
            answer = recommender.recommend(state, wanted, pending=(*pending, *drawn), seed=seed)
        except NothingToProposeError:
            break
        picks = [vocabulary.parse(str(label)) for label in answer.table[PERTURBATION]]
        numbers = _within(picks, drawn, state, count - len(drawn))
        kept, table, notes = [picks[number] for number in numbers], answer.table.iloc[numbers], answer.notes
        if len(picks) < wanted:
            break
        wanted *= 2
    batch = vocabulary.batch([*kept, *drawn])
    whole = recommender.recommend(replace(state, candidates=batch), len(batch), pending=(), seed=seed)
    at_random = {each.label: log for each, log in logs.items()}
    random = whole.table[whole.table[PERTURBATION].isin(list(at_random))]
    random = random.assign(
        chosen="random", log_probability=random[PERTURBATION].map(at_random), reason="drawn at random"
    )
    tables = [each for each in (table, random) if len(each)]
    return replace(whole, table=pd.concat(tables, ignore_index=True), notes=notes or whole.notes)


def _random_picks(
    state: DecisionState, count: int, pending: tuple[Perturbation, ...], seed: int
) -> dict[Perturbation, float]:
    """Draw candidates, with the logarithm of the probability of each when it was drawn."""
    left, generator = state.open(pending), torch.Generator().manual_seed(seed)
    taken: list[int] = []
    logs: list[float] = []
    for _ in range(state.rules.drawn(count)):
        numbers = torch.nonzero(allowed_next(left.genes, state.rules, taken)).flatten()
        if not len(numbers):
            break
        taken.append(int(numbers[torch.randint(len(numbers), (1,), generator=generator)]))
        logs.append(-math.log(len(numbers)))
    named = [state.measured.vocabulary.perturbation(left.genes[number]) for number in taken]
    return dict(zip(named, logs, strict=True))


def _within(
    picks: list[Perturbation], drawn: tuple[Perturbation, ...], state: DecisionState, count: int
) -> list[int]:
    """Number the first picks that keep the rules beside those before them and the drawn ones."""
    genes = state.measured.vocabulary.batch([*drawn, *picks]).genes
    taken, kept = list(range(len(drawn))), list[int]()
    for number in range(len(picks)):
        if len(kept) < count and bool(allowed_next(genes, state.rules, taken)[len(drawn) + number]):
            taken.append(len(drawn) + number)
            kept.append(number)
    return kept
