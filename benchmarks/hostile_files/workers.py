"""Processes that read mutants and may die of them; each death, and each read that takes too long, is counted."""

import multiprocessing
import signal
import tempfile
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.context import ForkServerContext
from multiprocessing.process import BaseProcess
from pathlib import Path

import psutil

LONGEST = 5.0  # seconds of a processor that reading a small file may take
_WAITED = 60.0  # seconds after which a read that does not compute is given up


@dataclass(frozen=True)
class Outcome:
    """What became of one mutant."""

    number: int
    verdict: str  # read, refused, traceback, crash, hang or memory
    what: str  # sample and reader
    change: str  # what was done to the sample
    said: str  # by whom it was refused, or how it failed


@dataclass
class _Worker:
    process: BaseProcess
    pipe: Connection
    number: int = -1
    what: str = ""
    change: str = ""
    since: float = 0.0  # when the read began
    computed: float = 0.0  # processor time before it


def outcomes(numbers: Iterable[int], *, seed: int, workers: int, only: str = "") -> Iterator[Outcome]:
    """Make and read mutants, each by its number alone, in processes that are replaced when they die."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["benchmarks.hostile_files.workers", "benchmarks.hostile_files.reading"])
    left = iter(numbers)
    running = [each for each in (_started(context, seed, only) for _ in range(workers)) if _next(each, left)]
    try:
        while running:
            ready = set(wait([each.pipe for each in running], timeout=0.5))
            for worker in list(running):
                if worker.pipe in ready:
                    found = _message(worker)
                elif _hangs(worker):
                    found = Outcome(worker.number, "hang", worker.what, worker.change, f"over {LONGEST} s")
                else:
                    found = None
                if found is None:
                    continue
                yield found
                running.remove(worker)
                heir = worker
                if found.verdict in {"crash", "hang"}:
                    _ended(worker)
                    heir = _started(context, seed, only)
                if _next(heir, left):
                    running.append(heir)
                else:
                    _ended(heir)
    finally:
        for worker in running:
            _ended(worker)


def _hangs(worker: _Worker) -> bool:
    return bool(worker.what) and (
        _seconds(worker.process) - worker.computed > LONGEST or time.monotonic() - worker.since > _WAITED
    )


def _seconds(process: BaseProcess) -> float:
    """Processor time of a process, which other work on the machine does not lengthen."""
    try:
        times = psutil.Process(process.pid).cpu_times()
    except psutil.NoSuchProcess:
        return 0.0
    return float(times.user + times.system)


def _message(worker: _Worker) -> Outcome | None:
    """Take what a worker says: what it is about to read, or what became of it; or find that it died."""
    try:
        kind, *rest = worker.pipe.recv()
    except (EOFError, ConnectionResetError):
        worker.process.join(5)
        code = worker.process.exitcode or 0
        name = signal.Signals(-code).name if code < 0 else f"exit {code}"
        return Outcome(worker.number, "crash", worker.what, worker.change, name)
    if kind == "made":
        worker.what, worker.change = rest
        worker.since, worker.computed = time.monotonic(), _seconds(worker.process)
        return None
    return Outcome(worker.number, rest[0], worker.what, worker.change, rest[1])


def _started(context: ForkServerContext, seed: int, only: str) -> _Worker:
    ours, theirs = context.Pipe()
    process = context.Process(target=serve, args=(theirs, seed, only), daemon=True)
    process.start()
    theirs.close()
    return _Worker(process, ours)


def _next(worker: _Worker, left: Iterator[int]) -> bool:
    number = next(left, None)
    if number is None:
        return False
    worker.number, worker.what, worker.change = number, "", ""
    worker.pipe.send(number)
    return True


def _ended(worker: _Worker) -> None:
    worker.pipe.close()
    if worker.process.is_alive():
        worker.process.kill()
    worker.process.join()


def serve(pipe: Connection, seed: int, only: str) -> None:
    """Read the mutants whose numbers arrive, until the pipe closes."""
    from benchmarks.hostile_files.mutants import draw  # noqa: PLC0415 - loaded once, before workers are forked
    from benchmarks.hostile_files.reading import limit_memory, outcome  # noqa: PLC0415
    from benchmarks.hostile_files.samples import samples  # noqa: PLC0415

    limit_memory()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        known = [each for each in samples(folder) if only in f"{each.name}{each.ending}"]
        while True:
            try:
                number = pipe.recv()
            except EOFError:
                return
            drawn = draw(known, folder, seed=seed, number=number)
            pipe.send(("made", drawn.what, drawn.change))
            pipe.send(("done", *outcome(drawn.reader, drawn.path)))
