"""The tree-structured Parzen estimator of Optuna, to which the genes of a pair are two names."""

from collections import defaultdict
from dataclasses import dataclass
from typing import Any

import torch

from inverse_design.campaign.game import Choice, Known, Pool
from surrogates.data.vocabulary import PerturbationBatch
from surrogates.errors import DataError

_SLOTS = ("first", "second")


@dataclass(frozen=True)
class StateTrial:
    """Asks Optuna for two genes, one experiment after another.

    Most pairs that it names are no candidates. Then an open candidate with the first of the two genes is taken at
    random, or with the second, or any.
    """

    def choose(self, pool: Pool, known: Known, count: int, *, seed: int) -> Choice:
        """Tell what was revealed, and ask.

        Args:
            pool: What is known from the start; all candidates must be pairs.
            known: What was revealed since.
            count: How many experiments.
            seed: Fixes the sampler.

        Returns:
            The choice.

        Raises:
            DataError: If a candidate is not a pair.
        """
        if bool((pool.candidates.order != 2).any()):
            raise DataError("Optuna is asked for two genes, and some candidates are no pairs; take another policy")
        study = _told(pool, known, seed)
        open_pairs = _OpenPairs.of(pool.candidates, known.open_rows(pool).tolist(), seed)
        names = _names(pool.candidates)
        rows = []
        for _ in range(count):
            trial = study.ask(names)
            rows.append(open_pairs.take(*(trial.params[name] for name in _SLOTS)))
        return Choice(torch.tensor(rows))


@dataclass(frozen=True)
class _OpenPairs:
    """Candidates that are left; rows of each gene in an order drawn at random."""

    row_of: dict[tuple[int, int], int]
    rows_with: dict[int, list[int]]
    rows: list[int]
    free: set[int]

    @classmethod
    def of(cls, candidates: PerturbationBatch, free: list[int], seed: int) -> "_OpenPairs":
        order = torch.randperm(len(free), generator=torch.Generator().manual_seed(seed)).tolist()
        rows = [free[number] for number in order]
        row_of, rows_with = {}, defaultdict(list)
        for row in rows:
            first, second = candidates.genes[row, :2].tolist()
            row_of[first, second] = row
            rows_with[first].append(row)
            rows_with[second].append(row)
        return cls(row_of, rows_with, rows, set(rows))

    def take(self, first: int, second: int) -> int:
        """Take the pair out, or what stands in for it."""
        wanted = self.row_of.get((min(first, second), max(first, second)))
        named = [] if wanted is None else [wanted]
        stand_ins = (*named, *self.rows_with.get(first, ()), *self.rows_with.get(second, ()), *self.rows)
        row: int = next(row for row in stand_ins if row in self.free)
        self.free.remove(row)
        return row


def _names(candidates: PerturbationBatch) -> dict[str, Any]:
    from optuna.distributions import CategoricalDistribution  # noqa: PLC0415 - slow to import, only needed here

    return {
        name: CategoricalDistribution(candidates.genes[:, slot].unique().tolist())
        for slot, name in enumerate(_SLOTS)
    }


def _told(pool: Pool, known: Known, seed: int) -> Any:  # noqa: ANN401 - a study, of a library that is imported late
    """Make a study of what was revealed."""
    import optuna  # noqa: PLC0415

    before = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    try:
        study = optuna.create_study(direction="maximize", sampler=optuna.samplers.TPESampler(seed=seed % 2**32))
    finally:
        optuna.logging.set_verbosity(before)
    names = _names(pool.candidates)
    for row, worth in zip(known.rows.tolist(), known.utility.tolist(), strict=True):
        genes = dict(zip(_SLOTS, pool.candidates.genes[row].tolist(), strict=False))
        study.add_trial(optuna.trial.create_trial(params=genes, distributions=names, value=worth))
    return study
