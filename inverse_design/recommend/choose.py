"""Which recommender serves a state when none is named, and how the picks of any keep the rules of the bench."""

import math
from dataclasses import replace

import pandas as pd
import torch

from inverse_design.acquisition.batch import allowed_next
from inverse_design.errors import NothingToProposeError
from inverse_design.problem.space import CombinationSpace
from inverse_design.problem.target import is_state
from inverse_design.recommend.pair_hits import FEWEST_PAIRS
from inverse_design.recommend.protocol import (
    MOST_LISTED,
    PERTURBATION,
    DecisionState,
    Recommendation,
    Recommender,
    joined_rows,
)
from surrogates.data.perturbation import Perturbation
from surrogates.data.vocabulary import PerturbationBatch

_FEWEST_CANDIDATES = 1000  # ten times as many as count as best in the replays that `pair_hits` wins


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

    Random picks come first, each as likely as any other candidate that may be taken then. The recommender is asked
    for the rest, and where its picks hold too many of one gene, asked again among the candidates that are left.
    What it says of a random pick is what it answers when that is the only candidate.

    Raises:
        NothingToProposeError: If no candidate is left.
        DataError: If the recommender cannot serve the state.
    """
    rules = state.rules
    plain = rules.most_per_gene is None and not rules.drawn(count)
    if plain or getattr(recommender, "keeps_rules", False):
        return recommender.recommend(state, count, pending=pending, seed=seed)
    drawn, logs = _random_picks(state, count, pending, seed)
    answers = _designed(recommender, state, drawn, count, pending=pending, seed=seed)
    if len(drawn):
        only = replace(state, candidates=drawn)
        answer = recommender.recommend(only, len(drawn), pending=(), seed=seed)
        order = {state.label(genes): log for genes, log in zip(drawn.genes, logs, strict=True)}
        table = answer.table.assign(chosen="random", log_probability=answer.table[PERTURBATION].map(order))
        answers.append(replace(answer, table=table))
    if not answers:
        raise NothingToProposeError("no candidate is left that keeps the rules of the batch")
    first = answers[0]
    gains = [each.expected_gain for each in answers if math.isfinite(each.expected_gain)]
    return replace(
        first,
        table=pd.concat([each.table for each in answers], ignore_index=True),
        expected_gain=max(gains, default=math.nan),
        notes=tuple(dict.fromkeys(note for each in answers for note in each.notes)),
    )


def _random_picks(
    state: DecisionState, count: int, pending: tuple[Perturbation, ...], seed: int
) -> tuple[PerturbationBatch, list[float]]:
    left, generator = state.open(pending), torch.Generator().manual_seed(seed)
    taken: list[int] = []
    logs: list[float] = []
    for _ in range(state.rules.drawn(count)):
        numbers = torch.nonzero(allowed_next(left.genes, state.rules, taken)).flatten()
        if not len(numbers):
            break
        taken.append(int(numbers[torch.randint(len(numbers), (1,), generator=generator)]))
        logs.append(-math.log(len(numbers)))
    return left.rows(torch.tensor(taken, dtype=torch.int64)), logs


def _designed(
    recommender: Recommender,
    state: DecisionState,
    drawn: PerturbationBatch,
    count: int,
    *,
    pending: tuple[Perturbation, ...],
    seed: int,
) -> list[Recommendation]:
    """Ask until the batch is full, or no candidate keeps the rules."""
    vocabulary = state.measured.vocabulary
    taken, answers = [*(vocabulary.perturbation(genes) for genes in drawn.genes)], []
    while len(taken) < count:
        try:
            left = state.open((*pending, *taken))
        except NothingToProposeError:
            break
        held = vocabulary.batch(taken).genes
        every = joined_rows(held, left.genes)
        allowed = allowed_next(every, state.rules, list(range(len(taken))))[len(taken) :]
        if not bool(allowed.any()):
            break
        narrow = replace(state, candidates=left.rows(torch.nonzero(allowed).flatten()))
        answer = recommender.recommend(narrow, count - len(taken), pending=(*pending, *taken), seed=seed)
        kept: list[int] = []
        picks = [vocabulary.parse(str(label)) for label in answer.table[PERTURBATION]]
        for number, pick in enumerate(picks):
            genes = vocabulary.batch([*taken, pick]).genes
            if bool(allowed_next(genes, state.rules, list(range(len(taken))))[-1]):
                kept.append(number)
                taken.append(pick)
        if not kept:
            break
        answers.append(replace(answer, table=answer.table.iloc[kept]))
    return answers
