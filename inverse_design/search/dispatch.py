"""Search tasks on any executor: issued again when slow, and repeated when a worker is lost.

A ledger, one SQLite file, keeps what is finished, so that a killed search goes on where it stopped.
"""

import sqlite3
import statistics
import time
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, BrokenExecutor, Executor, Future, wait
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from inverse_design.errors import ExecutorError, LedgerError
from inverse_design.search.tasks import SearchTask, Shard, ShardAnswer, ShardTask, answer_shard, identity, merged
from inverse_design.search.topk import Progress, SearchResult

_FORMAT = "2"
_SCHEMA = """
CREATE TABLE IF NOT EXISTS scan (key TEXT PRIMARY KEY, value TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS answers (
    shard INTEGER PRIMARY KEY, candidates BLOB NOT NULL, scores BLOB NOT NULL, certificate TEXT NOT NULL
);
"""


@dataclass(frozen=True)
class Ledger:
    """Finished shards of one search. Each is one transaction: it is there whole or not at all."""

    path: Path  # the file

    @classmethod
    def open(cls, path: Path, *, name: str, k: int, shards: tuple[Shard, ...]) -> "Ledger":
        """Open the ledger of a search, or start one.

        Raises:
            LedgerError: If the file is no ledger, that of another search, or cannot be written.
        """
        ledger = cls(path)
        wanted = {"format": _FORMAT, "search": name, "k": str(k)}
        with ledger._connected() as connection:
            connection.executescript(_SCHEMA)
            connection.execute("BEGIN IMMEDIATE")
            found = dict(connection.execute("SELECT key, value FROM scan"))
            if not found:
                plan = ",".join(f"{first}-{stop}" for first, stop in shards)
                rows = [*wanted.items(), ("plan", plan)]
                connection.executemany("INSERT INTO scan VALUES (?, ?)", rows)
            connection.commit()
        different = [key for key, value in wanted.items() if found and found.get(key) != value]
        if different:
            raise LedgerError(
                f"{path.name!r} is the ledger of another search ({', '.join(different)} differ): give a new file,"
                " or repeat the command that started it"
            )
        return ledger

    @property
    def plan(self) -> tuple[Shard, ...]:
        """The shards of the search."""
        with self._connected() as connection:
            (text,) = connection.execute("SELECT value FROM scan WHERE key = 'plan'").fetchone()
        spans = [each.split("-") for each in text.split(",")]
        return tuple((int(first), int(stop)) for first, stop in spans)

    def add(self, answer: ShardAnswer) -> None:
        """Keep an answer; a second one for the same shard is the same and changes nothing.

        Raises:
            LedgerError: If it cannot be written.
        """
        row = (answer.shard, answer.index, answer.score, answer.certificate)
        with self._connected() as connection, connection:
            connection.execute("INSERT OR IGNORE INTO answers VALUES (?, ?, ?, ?)", row)

    def answers(self) -> list[ShardAnswer]:
        """Read all finished shards.

        Raises:
            LedgerError: If the file cannot be read.
        """
        with self._connected() as connection:
            rows = connection.execute("SELECT shard, candidates, scores, certificate FROM answers").fetchall()
        return [ShardAnswer(*row) for row in rows]

    @contextmanager
    def _connected(self) -> Iterator[sqlite3.Connection]:
        try:
            with closing(sqlite3.connect(self.path, timeout=30)) as connection:
                yield connection
        except sqlite3.Error as error:
            raise LedgerError(f"the ledger {str(self.path)!r} cannot be used: {error}") from error


_SLOW = 3.0  # times the median: a shard that takes longer is given to an idle worker as well
_TRIES = 3  # a shard that three executors did not survive is at fault itself
_LOOK = 0.5  # seconds between looks for slow shards


@dataclass(frozen=True)
class WorkerPool:
    """Who works."""

    start: Callable[[], Executor]  # starts an executor; called again when one has died
    workers: int  # how many shards it works on at a time
    threads: int | None = None  # how many threads each worker uses; ``None`` for its own setting


def dispatch(
    task: SearchTask,
    k: int,
    *,
    shards: tuple[Shard, ...],
    pool: WorkerPool,
    ledger: Ledger | None = None,
    progress: Progress | None = None,
) -> SearchResult:
    """Search all shards of a space on the workers of a pool.

    The answer is the same, bit for bit, for any plan, number of workers and order of completion, because
    :class:`~inverse_design.search.topk.TopK` is. The task travels to a worker that does not have it yet, once.

    Raises:
        ExecutorError: If executors die again and again; what is in the ledger stays.
        DataError: If a score is not finite.
    """
    content = task.pack()
    known = {} if ledger is None else {answer.shard: answer for answer in ledger.answers()}
    state = _ShardStates(content, identity(content), k, shards, pool.threads, known)
    while state.left:
        executor = pool.start()
        try:
            _work(state, executor, pool.workers, ledger, progress)
        except BrokenExecutor as error:
            state.lost(error)
        finally:
            for future in state.running:
                future.cancel()
            executor.shutdown(wait=False)
    return merged(list(state.done.values()), k, task.space)


@dataclass
class _ShardStates:
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
    state: _ShardStates, executor: Executor, workers: int, ledger: Ledger | None, progress: Progress | None
) -> None:
    """Keep an executor busy until every shard is done."""
    total = sum(stop - first for first, stop in state.shards)
    waiting = deque(state.left)
    if progress is not None:
        progress(state.searched, total)
    while state.left:
        while waiting and len(state.running) < workers:
            state.give(executor, waiting.popleft())
        slow = state.slowest() if not waiting and len(state.running) < workers else None
        if slow is not None:
            state.give(executor, slow)
        finished, _ = wait(state.running, timeout=_LOOK, return_when=FIRST_COMPLETED)
        for future in finished:
            shard, since = state.running[future]
            answer = future.result()  # a dead executor raises here, with the shard still counted as running
            del state.running[future]
            if answer is None:
                state.give(executor, shard, state.content)
            elif shard not in state.done:
                state.seconds.append(time.monotonic() - since)
                state.done[shard] = answer
                if ledger is not None:
                    ledger.add(answer)
        if finished and progress is not None:
            progress(state.searched, total)
