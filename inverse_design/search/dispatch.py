"""Shards handed to any executor: resumed from a ledger, re-issued when slow, repeated when a worker is lost."""

import statistics
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import FIRST_COMPLETED, BrokenExecutor, Executor, Future, wait
from dataclasses import dataclass, field

from inverse_design.errors import ExecutorError
from inverse_design.search.ledger import Ledger
from inverse_design.search.parcel import Parcel, identity
from inverse_design.search.shards import Shard, ShardAnswer, ShardTask, answer_shard, merged
from inverse_design.search.topk import Progress, SearchResult

_SLOW = 3.0  # times the median: a shard that takes longer is given to an idle worker as well
_TRIES = 3  # a shard that three executors did not survive is at fault itself
_LOOK = 0.5  # seconds between looks for slow shards


@dataclass(frozen=True)
class Crew:
    """Who works.

    Attributes:
        start: Starts an executor; called again when one has died.
        workers: How many shards it works on at a time.
        threads: How many threads each worker uses; ``None`` for its own setting.
    """

    start: Callable[[], Executor]
    workers: int
    threads: int | None = None


def dispatch(
    parcel: Parcel,
    k: int,
    *,
    shards: tuple[Shard, ...],
    crew: Crew,
    ledger: Ledger | None = None,
    progress: Progress | None = None,
) -> SearchResult:
    """Search all shards of a space on the workers of a crew.

    The answer is the same, bit for bit, for any plan, number of workers and order of completion, because
    :class:`~inverse_design.search.topk.TopK` is. The parcel travels to a worker that does not have it yet, once.

    Args:
        parcel: The question.
        k: How many candidates.
        shards: The plan.
        crew: Who works.
        ledger: Of this search and plan; what is in it is not searched again.
        progress: Called with how many combinations were searched, of how many.

    Returns:
        The best candidates of the whole space, with the certificate.

    Raises:
        ExecutorError: If executors die again and again; what is in the ledger stays.
        DataError: If a score is not finite.
    """
    content = parcel.pack()
    known = {} if ledger is None else {answer.shard: answer for answer in ledger.answers()}
    board = _Board(content, identity(content), k, shards, crew.threads, known)
    while board.left:
        executor = crew.start()
        try:
            _work(board, executor, crew.workers, ledger, progress)
        except BrokenExecutor as error:
            board.lost(error)
        finally:
            for future in board.running:
                future.cancel()
            executor.shutdown(wait=False)
    return merged(list(board.done.values()), k, parcel.space)


@dataclass
class _Board:
    """Which shards are done, which are being searched, and since when."""

    content: bytes
    name: str
    k: int
    shards: tuple[Shard, ...]
    threads: int | None
    done: dict[int, ShardAnswer]
    running: dict[Future[ShardAnswer | None], tuple[int, float]] = field(default_factory=dict)
    seconds: list[float] = field(default_factory=list)
    tries: dict[int, int] = field(default_factory=dict)

    @property
    def left(self) -> list[int]:
        return [shard for shard in range(len(self.shards)) if shard not in self.done]

    @property
    def searched(self) -> int:
        return sum(self.shards[shard][1] - self.shards[shard][0] for shard in self.done)

    def give(self, executor: Executor, shard: int, content: bytes | None = None) -> None:
        task = ShardTask(self.name, shard, self.shards[shard], self.k, self.threads)
        self.running[executor.submit(answer_shard, task, content)] = (shard, time.monotonic())

    def slowest(self) -> int | None:
        """A shard that one worker has had for long, and no other has."""
        busy = [shard for shard, _ in self.running.values()]
        if not self.seconds:
            return None
        limit = time.monotonic() - _SLOW * statistics.median(self.seconds) - _LOOK
        late = [
            (since, shard) for shard, since in self.running.values() if since < limit and busy.count(shard) == 1
        ]
        return min(late)[1] if late else None

    def lost(self, error: BrokenExecutor) -> None:
        """Count the shards that were being searched when an executor died."""
        for shard, _ in self.running.values():
            self.tries[shard] = self.tries.get(shard, 0) + 1
        self.running.clear()
        worst = max(self.tries.values(), default=0)
        if worst >= _TRIES:
            done = f"{len(self.done)} of {len(self.shards)} shards are done"
            raise ExecutorError(
                f"the workers died {worst} times, {done} ({error}): use fewer workers or give them more memory,"
                " and resume from the ledger"
            ) from error


def _work(
    board: _Board, executor: Executor, workers: int, ledger: Ledger | None, progress: Progress | None
) -> None:
    """Keep an executor busy until every shard is done."""
    total = sum(stop - first for first, stop in board.shards)
    waiting = deque(board.left)
    if progress is not None:
        progress(board.searched, total)
    while board.left:
        while waiting and len(board.running) < workers:
            board.give(executor, waiting.popleft())
        slow = board.slowest() if not waiting and len(board.running) < workers else None
        if slow is not None:
            board.give(executor, slow)
        finished, _ = wait(board.running, timeout=_LOOK, return_when=FIRST_COMPLETED)
        for future in finished:
            shard, since = board.running[future]
            answer = future.result()  # a dead executor raises here, with the shard still on the board
            del board.running[future]
            if answer is None:
                board.give(executor, shard, board.content)
            elif shard not in board.done:
                board.seconds.append(time.monotonic() - since)
                board.done[shard] = answer
                if ledger is not None:
                    ledger.add(answer)
        if finished and progress is not None:
            progress(board.searched, total)
