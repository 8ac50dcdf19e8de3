"""A user's list of experiments, found to be worth ranking, and what that will cost."""

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from inverse_design.errors import NothingToProposeError
from inverse_design.fitting import SurrogateLike, beside_fit
from inverse_design.planning.plan import Plan
from inverse_design.planning.question import as_stated
from inverse_design.planning.work import ranking_outline
from inverse_design.problem.batch_wide import refuse_batch_wide
from inverse_design.problem.constraints import Constraint, Constraints
from inverse_design.problem.problem import (
    STANDARD,
    Problem,
    ask,
    data_remarks,
    range_remark,
    readout_remark,
    scale_remark,
)
from inverse_design.screens import ScreenLike
from inverse_design.targets import TargetLike
from surrogates.cached_fit import BesideFit
from surrogates.data.perturbation import Perturbation
from surrogates.data.screen import Screen
from surrogates.data.vocabulary import PerturbationBatch
from surrogates.errors import DataError, UnknownNameError, amount, shown
from surrogates.executors import Workers
from surrogates.fit_cache import USER_CACHE, FitCache


def plan_ranking(
    screen: ScreenLike,
    target: TargetLike,
    experiments: Sequence[str | Perturbation],
    **stated: Any,  # noqa: ANN401 - as for ListedExperiments
) -> Plan:
    """Say what a ranking will cost, before anything is fitted.

    Args:
        screen: As for :func:`rank`.
        target: What is wanted.
        experiments: Labels or perturbations.
        stated: What else is asked, as for :func:`rank`: ``costs``, ``budget``, ``constraints``, ``surrogate``,
            ``standardise``, ``seed``, ``cache``, ``workers``.

    Returns:
        The stages with their seconds on this machine, and the memory that they take.

    Raises:
        UnknownNameError, DataError, NothingToProposeError: As :func:`rank`.
        TypeError: If something else is stated.
    """
    return ListedExperiments.of(screen, target, experiments, **stated).plan


@dataclass(frozen=True)
class ListedExperiments:
    """A list of experiments, found to be worth ranking."""

    question: Problem
    batch: PerturbationBatch  # what the constraints leave of the list
    prices: Float[Tensor, "b"]
    done: Bool[Tensor, "b"]  # whether each was measured
    budget: float | None
    by_cost: bool  # whether costs are stated
    surrogate: SurrogateLike
    seed: int
    cache: FitCache | None
    workers: Workers
    remarks: tuple[str, ...]

    @classmethod
    def of(  # noqa: PLR0913 - the verb's own words
        cls,
        screen: ScreenLike,
        target: TargetLike,
        experiments: Sequence[str | Perturbation],
        *,
        costs: Sequence[float] | None = None,
        budget: float | None = None,
        constraints: Constraints | Sequence[Constraint] | None = None,
        surrogate: SurrogateLike = None,
        standardise: bool = False,
        seed: int = 0,
        cache: FitCache | None = USER_CACHE,
        workers: Workers = 1,
    ) -> "ListedExperiments":
        """Read a list; what cannot be ranked is refused."""
        refuse_batch_wide(constraints, "rank")
        read, wanted = as_stated(screen, target, standardise=standardise)
        question = ask(read, wanted)
        batch = _parsed(experiments, question.training)
        prices = _prices(costs, len(batch))
        kept = _allowed(batch, question.training, constraints)
        batch, prices, left_out = batch.rows(kept), prices[kept], len(batch) - len(kept)
        aligned = question.target.on(question.training.readouts)
        remarks: tuple[str, ...] = ()
        if left_out:
            remarks = (f"{left_out} of {len(experiments)} experiments are ruled out by the constraints",)
        remarks += (f"unit: {STANDARD}",) if standardise else readout_remark(question.training, question.target)
        remarks += (*data_remarks(read), *scale_remark(question, aligned))
        remarks += range_remark(question.target, aligned, question.training)
        done = _measured(batch, question.training)
        _require_new(done, prices, budget)
        by_cost = costs is not None
        return cls(question, batch, prices, done, budget, by_cost, surrogate, seed, cache, workers, remarks)

    @property
    def unseen(self) -> bool:
        """Whether a part of an experiment was never measured alone."""
        alone = self.question.training.single_rows >= 0
        return bool((~alone[self.batch.genes.clamp(min=0)] & self.batch.present).any())

    @property
    def plan(self) -> Plan:
        """Say what the ranking will cost."""
        count, kept = int((~self.done).sum()), self.beside.has_fit
        return ranking_outline(
            self.question, count, surrogate=self.surrogate, unseen=self.unseen, workers=self.workers, kept=kept
        ).price()

    @cached_property
    def beside(self) -> BesideFit:
        """Where the fit is kept."""
        training = self.question.training
        return beside_fit(training, self.surrogate, unseen=self.unseen, seed=self.seed, cache=self.cache)


def _parsed(experiments: Sequence[str | Perturbation], screen: Screen) -> PerturbationBatch:
    if not len(experiments):
        raise DataError("the list of experiments is empty; give one per line")
    labels = [each if isinstance(each, str) else each.label for each in experiments]
    if empty := [number for number, label in enumerate(labels, 1) if not label.strip()]:
        raise DataError(f"experiment {empty[0]} is the control, which changes nothing; remove it")
    parsed = [_experiment(number, label, screen) for number, label in enumerate(labels, 1)]
    counts = Counter(each.label for each in parsed)
    if twice := [label for label, count in counts.items() if count > 1]:
        rows = [str(number) for number, each in enumerate(parsed, 1) if each.label == twice[0]]
        raise DataError(
            f"experiment {twice[0]!r} stands in rows {' and '.join(rows)} (the order of genes does not matter);"
            " keep one of them"
        )
    return screen.vocabulary.batch(parsed)


def _experiment(number: int, label: str, screen: Screen) -> Perturbation:
    try:
        return screen.vocabulary.parse(label)
    except UnknownNameError as error:
        raise UnknownNameError(f"experiment {number}, {shown(label)}: {error}") from error


def _prices(costs: Sequence[float] | None, count: int) -> Float[Tensor, "b"]:
    if costs is None:
        return torch.ones(count, dtype=torch.float64)
    if len(costs) != count:
        raise DataError(f"{len(costs)} costs beside {count} experiments; give one for each")
    for number, cost in enumerate(costs, 1):
        if not (math.isfinite(cost) and cost >= 0):
            raise DataError(f"cost {cost} of experiment {number} is negative or not finite; give what it costs")
    return torch.tensor(list(costs), dtype=torch.float64)


def _allowed(
    batch: PerturbationBatch, screen: Screen, constraints: Constraints | Sequence[Constraint] | None
) -> Int[Tensor, "n"]:
    kept = torch.nonzero(Constraints.of(constraints).allows(batch, screen.vocabulary)).flatten()
    if not len(kept):
        raise NothingToProposeError(
            f"the list has {amount(len(batch), 'experiment')}, all ruled out by the constraints"
        )
    return kept


def _measured(batch: PerturbationBatch, screen: Screen) -> Bool[Tensor, "b"]:
    known = set(screen.labels)
    return torch.tensor([screen.vocabulary.perturbation(genes).label in known for genes in batch.genes])


def _require_new(done: Bool[Tensor, "b"], prices: Float[Tensor, "b"], budget: float | None) -> None:
    """Before anything is fitted."""
    if bool(done.all()):
        raise NothingToProposeError(f"the list has {amount(len(done), 'experiment')}, all measured already")
    if budget is not None and float(prices[~done].min()) > budget:
        raise NothingToProposeError(
            f"the budget of {budget:,.6g} is below the cheapest experiment, which costs"
            f" {float(prices[~done].min()):,.6g}"
        )
