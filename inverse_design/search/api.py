"""How a space is searched, and how its candidates are listed."""

import math
import os
from collections.abc import Iterator
from concurrent.futures import Executor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import torch
from jaxtyping import Int64
from torch import Tensor

from inverse_design.errors import SpaceError
from inverse_design.problem.likelihood import TargetLikelihood
from inverse_design.problem.mismatch import Mismatch, choose_mismatch
from inverse_design.problem.objective import Objective, SquaredDistance
from inverse_design.problem.problem import Problem
from inverse_design.problem.space import CombinationSpace
from inverse_design.problem.target import ProfileTarget
from inverse_design.search.device.tiles import usable
from inverse_design.search.dispatch import Ledger, WorkerPool, dispatch, process_pool
from inverse_design.search.exhaustive import in_ranges, pair_score, search
from inverse_design.search.survey import SpacePosterior, can_be_surveyed, normalised, surveys
from inverse_design.search.tasks import SearchTask, identity, plan_shards
from inverse_design.search.topk import Certificate, Progress, SearchResult, TopK
from surrogates.cached_fit import ALONE, BesideFit
from surrogates.data.novelty import novelty_name, seen_code
from surrogates.executors import Workers, cluster
from surrogates.models.wrappers.calibrated import FittedCalibrated


def cores() -> int:
    """Count the cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


_SHARDS_PER_WORKER = 16  # few enough to be worth the way, many enough that no worker waits for long


@dataclass(frozen=True)
class Engine:
    """Where the parts of a fit are worked on, and where a search runs; the answer does not depend on it.

    Attributes:
        scheduler: Address of a scheduler of ``dask.distributed``, such as ``tcp://10.0.0.1:8786``; its workers
            need this package.
        device: Where pairs and triples are scored in this process, such as ``"cuda"``; workers use their
            processors, and so does this process where the device is not there.
    """

    workers: int = 1  # processes of this machine; with one, all is done in this process
    scheduler: str | None = None
    ledger: Path | None = None  # file of finished shards, by which a killed search resumes
    device: str = "cpu"

    def __post_init__(self) -> None:
        """Refuse fewer than one worker, and what is no device."""
        if self.workers < 1:
            raise SpaceError(f"{self.workers} workers cannot search; give 1 or more")
        _ = self.place

    @cached_property
    def place(self) -> tuple[str, str]:
        """The device that searches, and why it is not the one that was asked for."""
        return usable(self.device)

    @property
    def crew(self) -> Workers:
        """Who works on fits: so many processes, or those of a scheduler."""
        return self.workers if self.scheduler is None else self.scheduler

    @property
    def spread(self) -> bool:
        """Whether shards were asked for: by several workers, a scheduler, or a ledger."""
        return self.workers > 1 or self.scheduler is not None or self.ledger is not None

    def search(
        self,
        objective: Objective,
        fitted: FittedCalibrated,
        space: CombinationSpace,
        top: int,
        *,
        progress: Progress | None = None,
    ) -> SearchResult:
        """Find the best candidates of a space; sets that are searched by a beam, in this process."""
        score = pair_score(objective, fitted, space)
        if not self.spread or not in_ranges(objective, fitted, space):
            return search(objective, fitted, space, top, score=score, device=self.place[0], progress=progress)
        task = SearchTask.of(objective, fitted, space)
        with self._workers() as pool:
            count, ledger = _SHARDS_PER_WORKER * pool.workers, None
            if self.ledger is not None:
                name = identity(task.pack())
                ledger = Ledger.open(self.ledger, name=name, k=top, space=space, count=count)
            shards = plan_shards(space, count) if ledger is None else ledger.plan
            return dispatch(task, top, shards=shards, pool=pool, ledger=ledger, progress=progress)

    def survey(
        self,
        likelihood: TargetLikelihood,
        fitted: FittedCalibrated,
        space: CombinationSpace,
        top: int,
        *,
        progress: Progress | None = None,
    ) -> SpacePosterior:
        """Find the best candidates of a space by their posterior probability, and what all add up to.

        It is one look at all candidates in this process, whose threads do as much as other processes could. With a
        scheduler or a ledger each expert's densities are summed here, and the search is cut into shards.

        Raises:
            ExecutorError: If workers die again and again.
            WorkerError: If the scheduler cannot be used.
            LedgerError: If the ledger is of another search or cannot be used.
        """
        if not can_be_surveyed(space) or self.scheduler is not None or self.ledger is not None:
            known = normalised(likelihood, fitted, space)
            return SpacePosterior(known, self.search(known, fitted, space, top, progress=progress), None)
        found = surveys([likelihood], fitted, space, top, device=self.place[0], progress=progress)[0]
        return SpacePosterior(found.known, found.search(top), found.log_sum)

    @contextmanager
    def _workers(self) -> Iterator[WorkerPool]:
        if self.scheduler is None:
            threads = max(1, cores() // self.workers)
            yield WorkerPool(self._processes, self.workers, threads)
            return
        with cluster(self.scheduler) as (start, threads):
            yield WorkerPool(start, threads, 1)

    def _processes(self) -> Executor:
        return process_pool(self.workers, threads=max(1, cores() // self.workers))


def search_notes(
    engine: Engine, certificate: Certificate, fitted: FittedCalibrated, space: CombinationSpace
) -> tuple[str, ...]:
    """Say what is special about sets of three and more, and where a device was not there."""
    order, (_, fallen_back) = space.orders[-1], engine.place
    notes = [fallen_back] if fallen_back else []
    if order <= 2:
        return tuple(notes)
    if math.isinf(certificate.gap):
        notes.append(
            f"warning: no bound is known for sets of order {order} under {fitted.name} and this objective: a beam"
            " looked at the most promising ones, and better ones may exist; an additive model under the objective"
            " distance is searched with a proof"
        )
    elif certificate.bound:
        notes.append(f"all sets of order {order} were searched by a bound on their {certificate.bound}: proven")
    if engine.spread and math.isinf(certificate.gap):
        notes.append(
            "warning: searched in this process alone: beams are not cut into shards, and no ledger was written"
        )
    law = fitted.law(seen_code(order))
    if law.origin != novelty_name(seen_code(order)):
        notes.append(
            f"the error law of {novelty_name(seen_code(order))!r} is borrowed from {law.origin!r}: no such set was"
            " held out"
        )
    return tuple(notes)


@dataclass(frozen=True)
class Turns:
    """A list that several searches of one space filled by turns.

    Attributes:
        searches: Every search with its own certificate, by name, in the order of their turns.
    """

    index: Int64[Tensor, "m"]  # numbers of the candidates in their space, the first choice first
    found_by: tuple[str, ...]  # which search named each
    searches: dict[str, SearchResult]


def by_turns(searches: dict[str, SearchResult], count: int) -> Turns:
    """Fill a list by turns."""
    index, whose = drafted([found.top for found in searches.values()], count)
    names = tuple(searches)
    return Turns(index, tuple(names[number] for number in whose), dict(searches))


def drafted(rankings: list[TopK], count: int) -> tuple[Int64[Tensor, "m"], tuple[int, ...]]:
    """Let rankings name candidates by turns."""
    waiting = [iter(ranking.index.tolist()) for ranking in rankings]
    listed: dict[int, int] = {}
    while len(listed) < count:
        before = len(listed)
        for number, ranking in enumerate(waiting):
            if len(listed) < count:
                named = next((each for each in ranking if each not in listed), None)
                if named is not None:
                    listed[named] = number
        if len(listed) == before:
            break
    return torch.tensor(list(listed), dtype=torch.int64), tuple(listed.values())


LIKELIHOOD, DISTANCE = "likelihood", "distance"
_LARGEST = 2  # order up to which both searches are exact


@dataclass(frozen=True)
class CandidateList:
    """Candidates in the order in which they are proposed."""

    objective: Objective  # what they are worth
    index: Int64[Tensor, "m"]  # their numbers in the space, the first choice first
    search: SearchResult  # the certified search by the objective
    turns: Turns | None = None  # all searches, where two of them took turns
    notes: tuple[str, ...] = ()  # how the list came about, unless one search ranked it


def need_not_be_made(question: Problem, space: CombinationSpace) -> bool:
    """Tell whether a state may be of no candidate's making."""
    if not isinstance(question.target, ProfileTarget) or space.orders[-1] > _LARGEST:
        return False
    return question.maker is None or not bool(space.holds(space.vocabulary.batch([question.maker])).all())


def best_by_turns(
    likelihood: TargetLikelihood,
    fitted: FittedCalibrated,
    space: CombinationSpace,
    top: int,
    *,
    engine: Engine,
    seed: int,
    progress: Progress | None = None,
    beside: BesideFit = ALONE,
) -> CandidateList:
    """Search by the likelihood with a mismatch and by the expected distance, and fill a list by turns."""
    mismatch = choose_mismatch(fitted, likelihood.target, seed=seed, beside=beside)
    missed = replace(likelihood, target=mismatch.on(likelihood.target, fitted), log_sums=())
    if fitted.experts:  # their sums weigh them
        found = engine.survey(missed, fitted, space, top, progress=progress)
    else:
        found = SpacePosterior(missed, engine.search(missed, fitted, space, top, progress=progress), None)
    likelihood.memo.forget()  # the other search brings as much
    nearest = SquaredDistance(likelihood.target)
    turns = by_turns(
        {
            LIKELIHOOD: found.search,
            DISTANCE: _second(engine).search(nearest, fitted, space, top, progress=progress),
        },
        top,
    )
    return CandidateList(found.likelihood, turns.index, turns.searches[LIKELIHOOD], turns, (_in_words(mismatch),))


def _second(engine: Engine) -> Engine:
    place = engine.ledger
    return engine if place is None else replace(engine, ledger=place.with_stem(f"{place.stem}-{DISTANCE}"))


def _in_words(mismatch: Mismatch) -> str:
    chosen = "assumed, as too few doubles could be held out"
    if mismatch.support:
        chosen = f"chosen on {mismatch.support} held-out doubles"
    return (
        "no candidate need have made this state: rows take turns between the likelihood, which allows for a"
        f" mismatch of {mismatch.multiple:g} times the error variance ({chosen}), and the expected distance;"
        " probability and in_set are about which candidate made it"
    )
