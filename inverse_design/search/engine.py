"""How a space is searched: in this process, on several processes, or on the workers of a scheduler."""

import math
import os
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from inverse_design.errors import ExecutorError, SpaceError
from inverse_design.problem.objective import Objective
from inverse_design.problem.ranking import pair_row
from inverse_design.problem.score import PairScore
from inverse_design.problem.space import CombinationSpace
from inverse_design.search.dispatch import Crew, dispatch
from inverse_design.search.exhaustive import pair_score, search, search_span
from inverse_design.search.ledger import Ledger
from inverse_design.search.parcel import Parcel, identity
from inverse_design.search.shards import plan_shards
from inverse_design.search.topk import Progress, SearchResult
from surrogates.models.calibrated import FittedCalibrated

_SHARDS_PER_WORKER = 16  # few enough to be worth the way, many enough that no worker waits for long
_TRIED = (1 << 21, 1 << 12)  # candidates by which the rate is measured: by products, and streamed
_WORKING = 100_000_000  # bytes that a search takes beside the factors


@dataclass(frozen=True)
class Workload:
    """What a search will cost, from a small part of it.

    Attributes:
        candidates: How many combinations.
        summary: The same in words.
        seconds: About how long it takes.
        cores: On how many cores of this machine.
        memory: About how many bytes it takes.
    """

    candidates: int
    summary: str
    seconds: float
    cores: int
    memory: int

    @property
    def line(self) -> str:
        """In words, such as ``49,995,000 pairs, about 3 min on 2 cores, 400 MB``."""
        return (
            f"{self.summary}, about {_duration(self.seconds)} on {self.cores} cores, {self.memory / 1e6:,.0f} MB"
        )


@dataclass(frozen=True)
class Engine:
    """Where a search runs; the answer does not depend on it.

    Attributes:
        workers: Processes of this machine; with one, the search runs in this process.
        scheduler: Address of a scheduler of ``dask.distributed``, such as ``tcp://10.0.0.1:8786``; its workers
            need this package.
        ledger: File of finished shards, by which a killed search resumes.
        approve: Called with what the search will cost before it starts; raises to stop it.
    """

    workers: int = 1
    scheduler: str | None = None
    ledger: Path | None = None
    approve: Callable[[Workload], None] | None = None

    def __post_init__(self) -> None:
        """Refuse fewer than one worker."""
        if self.workers < 1:
            raise SpaceError(f"{self.workers} workers cannot search; give 1 or more")

    def search(
        self,
        objective: Objective,
        fitted: FittedCalibrated,
        space: CombinationSpace,
        top: int,
        *,
        progress: Progress | None = None,
    ) -> SearchResult:
        """Find the best candidates of a space.

        Args:
            objective: What candidates are worth.
            fitted: The surrogate.
            space: What may be proposed.
            top: How many.
            progress: Called with how many candidates were scored, of how many.

        Returns:
            The best, with the certificate.

        Raises:
            ExecutorError: If workers die again and again, or the scheduler cannot be reached.
            LedgerError: If the ledger is of another search or cannot be used.
        """
        score = pair_score(objective, fitted, space)
        if self.approve is not None:
            self.approve(workload(objective, fitted, space, score=score))
        if self.workers == 1 and self.scheduler is None and self.ledger is None:
            return search(objective, fitted, space, top, score=score, progress=progress)
        parcel = Parcel.of(objective, fitted, space)
        with self._crew() as crew:
            shards = plan_shards(space, _SHARDS_PER_WORKER * crew.workers)
            ledger = None
            if self.ledger is not None:
                ledger = Ledger.open(self.ledger, name=identity(parcel.pack()), k=top, shards=shards)
                shards = ledger.plan
            return dispatch(parcel, top, shards=shards, crew=crew, ledger=ledger, progress=progress)

    @contextmanager
    def _crew(self) -> Iterator[Crew]:
        if self.scheduler is None:
            threads = max(1, _cores() // self.workers)
            yield Crew(self._processes, self.workers, threads)
            return
        try:
            from distributed import Client  # noqa: PLC0415 - an extra; seconds to import
        except ImportError as error:
            raise ExecutorError(
                "a scheduler needs the extra `cluster`: pip install 'inverse-design[cluster]'"
            ) from error
        try:
            client: Any = Client(self.scheduler, timeout="20s")  # type: ignore[no-untyped-call]
        except (OSError, ValueError) as error:
            raise ExecutorError(f"the scheduler {self.scheduler!r} cannot be reached: {error}") from error
        with client:
            threads = sum(client.nthreads().values())
            if threads == 0:
                raise ExecutorError(f"the scheduler {self.scheduler!r} has no workers; start some")
            yield Crew(client.get_executor, threads, 1)

    def _processes(self) -> Executor:
        return ProcessPoolExecutor(self.workers, mp_context=get_context("spawn"))


def workload(
    objective: Objective, fitted: FittedCalibrated, space: CombinationSpace, *, score: PairScore | None
) -> Workload:
    """Find out what a search will cost by searching a little of each order.

    Args:
        objective: What candidates are worth.
        fitted: The surrogate.
        space: What may be proposed.
        score: The objective's score of all pairs; ``None`` if they have to be streamed.

    Returns:
        The cost on this machine.
    """
    seconds = 0.0
    for order in space.orders:
        first, stop = space.span(order)
        quick = score is not None and order == 2
        tried = _first_part(space, order, _TRIED[0] if quick else _TRIED[1])
        if tried > first:
            began = time.perf_counter()
            search_span(objective, fitted, space, 1, span=(first, tried), score=score if quick else None)
            seconds += (time.perf_counter() - began) * (stop - first) / (tried - first)
    summary = replace(space, excluded=space.excluded[:0]).summary
    factors = 24 * len(space.entries) * len(fitted.readouts)
    return Workload(space.size, summary, seconds, _cores(), factors + _WORKING)


def _first_part(space: CombinationSpace, order: int, count: int) -> int:
    """One past the last number of a part to try; of pairs, whole rows."""
    first, stop = space.span(order)
    end = min(stop, first + count)
    if order == 2 and end < stop:
        items = len(space.entries)
        row = max(1, pair_row(items, end - first))
        end = stop - math.comb(items - row, 2)
    return end if end < 2**63 else first


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _duration(seconds: float) -> str:
    for unit, size in (("days", 86400.0), ("h", 3600.0), ("min", 60.0)):
        if seconds >= 2 * size:
            return f"{seconds / size:,.0f} {unit}"
    return f"{max(1.0, seconds):.0f} s"
