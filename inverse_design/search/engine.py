"""How a space is searched: in this process, on several processes, or on the workers of a scheduler."""

from collections.abc import Callable, Iterator
from concurrent.futures import Executor, ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import torch

from inverse_design.errors import ExecutorError, SpaceError
from inverse_design.problem.objective import Objective
from inverse_design.problem.space import CombinationSpace
from inverse_design.search.dispatch import Crew, dispatch
from inverse_design.search.exhaustive import in_ranges, pair_score, search
from inverse_design.search.ledger import Ledger
from inverse_design.search.parcel import Parcel, identity
from inverse_design.search.shards import plan_shards
from inverse_design.search.topk import Progress, SearchResult
from inverse_design.search.workload import Workload, cores, workload
from surrogates.models.calibrated import FittedCalibrated

_SHARDS_PER_WORKER = 16  # few enough to be worth the way, many enough that no worker waits for long


@dataclass(frozen=True)
class Engine:
    """Where a search runs; the answer does not depend on it.

    Attributes:
        workers: Processes of this machine; with one, the search runs in this process.
        scheduler: Address of a scheduler of ``dask.distributed``, such as ``tcp://10.0.0.1:8786``; its workers
            need this package.
        ledger: File of finished shards, by which a killed search resumes.
        approve: Called with what the search will cost before it starts; raises to stop it.
        device: Where pairs are multiplied in this process, such as ``"cuda"``; workers use their processors.
    """

    workers: int = 1
    scheduler: str | None = None
    ledger: Path | None = None
    approve: Callable[[Workload], None] | None = None
    device: str = "cpu"

    def __post_init__(self) -> None:
        """Refuse fewer than one worker, and a device that is not there."""
        if self.workers < 1:
            raise SpaceError(f"{self.workers} workers cannot search; give 1 or more")
        try:
            torch.empty(1, device=self.device).cpu()
        except (RuntimeError, AssertionError, NotImplementedError) as error:
            reason = str(error).splitlines()[0]
            raise SpaceError(f"device {self.device!r} cannot be used: {reason}; take cpu") from error

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
        """Find the best candidates of a space; sets that are searched by bounds or by a beam, in this process.

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
        if not self.spread or not in_ranges(objective, fitted, space):
            return search(objective, fitted, space, top, score=score, device=self.device, progress=progress)
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
            threads = max(1, cores() // self.workers)
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
