"""What takes long: each in a process of its own, so that pages stay quick, and whoever asked can cancel it."""

import json
import os
import secrets
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Literal

from inverse_design.errors import InverseDesignError
from inverse_design.planning.course import Pace, about
from surrogates.errors import DataError

WORKER = (sys.executable, "-P", "-m", "inverse_design.app.worker")  # which imports from where this process does
_AT_ONCE, _WAITING, _KEPT = 2, 20, 200
UNRECORDED = "nothing was recorded, unless it was done by then"  # its answer may not have come any longer
_ENDING = threading.Lock()  # held by who ends a process
Outcome = Literal["running", "done", "refused", "cancelled"]


class BusyError(InverseDesignError):
    """So much is waiting that nothing more is taken on."""


@dataclass(frozen=True)
class Progress:
    """How far something is."""

    pace: Pace
    at: float  # when that was said

    @property
    def share(self) -> float | None:
        """The part that is done, if that is known; between two words of the work, time goes on."""
        return 1.0 - self._left / self.pace.seconds if self.pace.seconds > 0 else None

    @property
    def words(self) -> str:
        """What is being done, and for how long."""
        return self.pace.stage if self.share is None else f"{self.pace.stage}, {about(self._left)} left"

    @property
    def _left(self) -> float:
        return max(0.0, self.pace.left - (time.monotonic() - self.at))


@dataclass
class Job:
    """One task; its thread alone changes it."""

    number: str
    what: str  # in words
    kind: str  # name of the task
    about: str  # the campaign or upload that it is about
    who: str  # started it
    after: Callable[[Mapping[str, Any]], str]  # where to go, by what came of it
    back: str  # where to go if nothing came of it
    outcome: Outcome = "running"
    progress: Progress = field(default_factory=lambda: Progress(Pace("waiting", 0.0, 0.0), time.monotonic()))
    said: str = ""  # why it was refused
    found: Mapping[str, Any] = field(default_factory=dict)
    target: str = ""  # where to go, once it is done
    process: subprocess.Popen[str] | None = None


class Jobs:
    """All tasks of a server; a few run at once."""

    def __init__(self, command: Sequence[str] = WORKER) -> None:
        """Begin without any."""
        self._command = tuple(command)
        self._jobs: dict[str, Job] = {}
        self._turns, self._lock = threading.Semaphore(_AT_ONCE), threading.Lock()

    def start(self, job: Job, task: Mapping[str, object]) -> Job:
        """Start a task; one of the same kind about the same is given instead if it runs already."""
        with self._lock:
            running = [one for one in self._jobs.values() if one.outcome == "running"]
            same = next((one for one in running if (one.kind, one.about) == (job.kind, job.about)), None)
            if same is not None:
                return same
            if len(running) >= _WAITING:
                raise BusyError(
                    f"{len(running)} tasks are waiting already; cancel some, or wait until one has ended"
                )
            finished = [one.number for one in self._jobs.values() if one.outcome != "running"]
            for number in finished[: max(0, len(self._jobs) - _KEPT)]:
                del self._jobs[number]
            self._jobs[job.number] = job
        threading.Thread(target=self._run, args=(job, {"task": job.kind, **task}), daemon=True).start()
        return job

    def get(self, number: str) -> Job | None:
        """Find a task."""
        return self._jobs.get(number)

    def running(self, subject: str) -> list[Job]:
        """List the tasks about a campaign that have not ended."""
        return [one for one in tuple(self._jobs.values()) if one.about == subject and one.outcome == "running"]

    def newest(self, kind: str, subject: str) -> Job | None:
        """Find the last task of a kind about a campaign."""
        found = [one for one in tuple(self._jobs.values()) if (one.kind, one.about) == (kind, subject)]
        return found[-1] if found else None

    def cancel(self, job: Job) -> bool:
        """End a task where it is; say whether it had not ended before."""
        with self._lock:
            if job.outcome != "running":
                return False
            job.outcome = "cancelled"
            process = job.process
        if process is not None:
            _kill(process)
        return True

    def close(self) -> None:
        """Cancel everything."""
        for job in tuple(self._jobs.values()):
            self.cancel(job)

    def _run(self, job: Job, task: Mapping[str, object]) -> None:
        with self._turns:
            try:
                self._work(job, json.dumps(task))
            except (OSError, ValueError, TypeError, LookupError) as error:  # it does not start, or talks nonsense
                self._end(job, {"refused": f"the process that works on it cannot be used ({error!s:.80})"})

    def _work(self, job: Job, task: str) -> None:
        with self._lock:
            if job.outcome != "running":
                return
            job.process = process = subprocess.Popen(  # noqa: S603 - this interpreter, and a module of ours
                self._command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, start_new_session=True,
                env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
            )  # fmt: skip
        job.progress = Progress(Pace("starting", 0.0, 0.0), time.monotonic())
        try:
            self._listen(job, process, task)
        finally:
            _kill(process)

    def _listen(self, job: Job, process: subprocess.Popen[str], task: str) -> None:
        assert process.stdin is not None and process.stdout is not None  # noqa: S101, PT018 - both are pipes
        with suppress(OSError):
            process.stdin.write(task + "\n")
            process.stdin.flush()  # and left open: the process ends when this one does
        for line in process.stdout:
            said: dict[str, Any] = json.loads(line)
            if "pace" in said:
                job.progress = Progress(Pace(**said["pace"]), time.monotonic())
                continue
            self._end(job, said)
        self._end(job, {"refused": f"the process that worked on it ended without an answer; {UNRECORDED}"})

    def _end(self, job: Job, said: Mapping[str, Any]) -> None:
        with self._lock:
            if job.outcome != "running":
                return
            if "done" not in said:
                job.said, job.outcome = str(said["refused"]), "refused"
                return
            job.found = said["done"]
            try:
                job.target = job.after(job.found)
                job.outcome = "done"
            except DataError as error:
                job.said, job.outcome = str(error), "refused"


def new_number() -> str:
    """Name something so that nobody guesses it."""
    return secrets.token_hex(16)


def _kill(process: subprocess.Popen[str]) -> None:
    """End a process and all that it started."""
    with _ENDING:
        if process.returncode is None:  # else it was ended before, and its number may be that of another
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    for stream in (process.stdin, process.stdout):
        if stream is not None:
            with suppress(OSError):
                stream.close()
