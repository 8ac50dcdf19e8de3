"""Search tasks on any executor: issued again when slow, and repeated when a worker is lost.

A ledger, one SQLite file, keeps what is finished, so that a killed search goes on where it stopped.
"""

import hashlib
import json
import sqlite3
import statistics
import time
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, BrokenExecutor, Executor, Future, ProcessPoolExecutor, wait
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import torch

from inverse_design.errors import ExecutorError, LedgerError
from inverse_design.problem.space import CombinationSpace
from inverse_design.search.tasks import (
    SearchTask,
    Shard,
    ShardAnswer,
    ShardTask,
    answer_of,
    answer_shard,
    identity,
    plan_shards,
    plausible,
)
from inverse_design.search.topk import Progress, SearchResult
from surrogates.processes import fresh_processes

_FORMAT = "3"
_MOST_SHARDS = 1 << 16
_SCHEMA = """
CREATE TABLE IF NOT EXISTS scan (key TEXT PRIMARY KEY, value TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS answers (
    shard INTEGER PRIMARY KEY, candidates BLOB NOT NULL, scores BLOB NOT NULL, certificate TEXT NOT NULL,
    checksum TEXT NOT NULL
);
"""
_ROWS = """
SELECT shard, candidates, scores, certificate, checksum FROM answers
WHERE typeof(shard) || typeof(candidates) || typeof(scores) || typeof(certificate) = 'integerblobblobtext'
"""
_WAY_OUT = "delete it, it only saves time: the search then begins anew"


@dataclass(frozen=True)
class Ledger:
    """Finished shards of one search. Each is one transaction: it is there whole or not at all.

    It is a cache, and not believed: a row whose checksum does not fit is searched again, and candidates are scored
    again before they are used (:func:`.tasks.plausible`).
    """

    path: Path  # the file
    name: str  # identity of the search
    k: int  # how many candidates are kept
    count: int  # of shards that were asked for
    plan: tuple[Shard, ...]  # the shards, which follow from their count

    @classmethod
    def open(cls, path: Path, *, name: str, k: int, space: CombinationSpace, count: int) -> "Ledger":
        """Open the ledger of a search, or start one; it keeps the count of shards that it began with."""
        wanted = {"format": _FORMAT, "search": name, "k": str(k)}
        with _connected(path) as connection:
            connection.executescript(_SCHEMA)
            connection.execute("BEGIN IMMEDIATE")
            found = dict(connection.execute("SELECT key, value FROM scan"))
            if not found:
                found = {**wanted, "shards": str(count)}
                connection.executemany("INSERT INTO scan VALUES (?, ?)", found.items())
            connection.commit()
        different = [key for key, value in wanted.items() if found.get(key) != value]
        if different:
            raise LedgerError(
                f"{path.name!r} is the ledger of another search ({', '.join(different)} differ): give a new file,"
                " or repeat the command that started it"
            )
        said = str(found.get("shards"))
        if not (said.isascii() and said.isdigit() and len(said) < 9 and 0 < int(said) <= _MOST_SHARDS):
            raise LedgerError(f"the ledger {str(path)!r} is damaged (a count of {said!r:.20} shards); {_WAY_OUT}")
        return cls(path, name, k, int(said), plan_shards(space, int(said)))

    def add(self, answer: ShardAnswer) -> None:
        """Keep an answer; a second one for the same shard is the same and changes nothing."""
        row = (answer.shard, answer.index, answer.score, answer.certificate, self._checksum(answer))
        with _connected(self.path) as connection, connection:
            connection.execute("INSERT OR REPLACE INTO answers VALUES (?, ?, ?, ?, ?)", row)

    def answers(self) -> list[ShardAnswer]:
        """Read the finished shards whose checksums fit."""
        with _connected(self.path) as connection:
            rows = connection.execute(_ROWS).fetchall()
        found = [(ShardAnswer(*row), checksum) for *row, checksum in rows if 0 <= row[0] < len(self.plan)]
        return [answer for answer, checksum in found if checksum == self._checksum(answer)]

    def _checksum(self, answer: ShardAnswer) -> str:
        """Hash an answer together with the search and the plan that it belongs to."""
        content = [self.name, self.k, self.count, answer.shard, answer.index.hex(), answer.score.hex()]
        return hashlib.sha256(json.dumps([*content, answer.certificate]).encode()).hexdigest()


@contextmanager
def _connected(path: Path) -> Iterator[sqlite3.Connection]:
    try:
        with closing(sqlite3.connect(path, timeout=30)) as connection:
            connection.execute("PRAGMA trusted_schema = OFF")
            connection.text_factory = lambda content: content.decode(errors="replace")
            yield connection
    except (sqlite3.Error, UnicodeDecodeError, MemoryError) as error:  # SQLite quotes a damaged schema
        raise LedgerError(
            f"the ledger {str(path)!r} cannot be used: {error}; if it is damaged, {_WAY_OUT}"
        ) from error


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
    """
    content = task.pack()
    kept = [] if ledger is None else ledger.answers()
    known = {answer.shard: answer for answer in plausible(kept, task, shards, k)}
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
    return answer_of(list(state.done.values()), k, task, shards)


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


def process_pool(workers: int, *, threads: int) -> ProcessPoolExecutor:
    """Start fresh processes, each of so many threads."""
    return fresh_processes(workers, begin=partial(torch.set_num_threads, threads))
