"""One search in a process of its own, so that its time, its threads and its memory are its own.

Run as ``python -m benchmarks.peers.process '{"propose": ..., ...}'``; the last line of the output is
what was measured, as JSON.
"""

import json
import os
import subprocess
import sys
import time
from dataclasses import asdict, dataclass
from importlib import import_module

import torch

from benchmarks.peers.problem import PairProblem
from inverse_design.errors import InverseDesignError
from surrogates.evaluation.scorecard import STATUS, resident_mb

_TINY = 12  # genes of the problem that makes libraries load and start their threads
_SHORT = 5.0  # seconds: what takes longer altogether is not repeated
_THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")


class PeerError(InverseDesignError):
    """A search did not end well."""


@dataclass(frozen=True)
class Trial:
    """What to run.

    Attributes:
        propose: The search, as ``module:function``.
        genes: Of the problem.
        k: How many pairs to ask for.
        repeats: How often, if that is short.
        threads: How many.
        seed: Of the problem.
    """

    propose: str
    genes: int
    k: int
    repeats: int
    threads: int
    seed: int


@dataclass(frozen=True)
class Measured:
    """What a search took, and what it found.

    Attributes:
        seconds: Wall time of each repeat.
        cpu_seconds: Processor time of each repeat, of all threads.
        peak_mb: Peak resident size above that before the problem was made; ``None`` where no system tells.
        found: Pairs, the best first.
    """

    seconds: tuple[float, ...]
    cpu_seconds: tuple[float, ...]
    peak_mb: float | None
    found: tuple[tuple[int, int], ...]


def run_trial(trial: Trial, *, timeout: float) -> Measured:
    """Run a search in a fresh process.

    Args:
        trial: What to run.
        timeout: Seconds after which it is stopped.

    Returns:
        What was measured.

    Raises:
        PeerError: If it fails or takes too long.
    """
    words = [sys.executable, "-m", "benchmarks.peers.process", json.dumps(asdict(trial))]
    threads = dict.fromkeys(_THREADS, str(trial.threads))
    try:
        done = subprocess.run(  # noqa: S603 - this interpreter, and words of our own
            words, env=os.environ | threads, capture_output=True, text=True, timeout=timeout, check=False
        )
    except subprocess.TimeoutExpired as stopped:
        raise PeerError(f"stopped after {timeout:.0f} s") from stopped
    if done.returncode:
        last = done.stderr.strip().splitlines()[-1:] or [f"exit code {done.returncode}"]
        raise PeerError(last[0])
    told = json.loads(done.stdout.splitlines()[-1])
    return Measured(
        seconds=tuple(told["seconds"]),
        cpu_seconds=tuple(told["cpu_seconds"]),
        peak_mb=told["peak_mb"],
        found=tuple((one, other) for one, other in told["found"]),
    )


def measure(trial: Trial) -> Measured:
    """Run a search here.

    Args:
        trial: What to run.

    Returns:
        What was measured, after the search of a tiny problem that is not.
    """
    torch.set_num_threads(trial.threads)
    module, _, name = trial.propose.partition(":")
    propose = getattr(import_module(module), name)
    propose(PairProblem.drawn(_TINY, seed=trial.seed), 1)
    before = resident_mb("VmRSS") if STATUS.exists() else None
    problem = PairProblem.drawn(trial.genes, seed=trial.seed)
    seconds: list[float] = []
    processor: list[float] = []
    while not seconds or (len(seconds) < trial.repeats and sum(seconds) < _SHORT):
        began, spent = time.perf_counter(), time.process_time()
        found = propose(problem, trial.k)
        seconds.append(time.perf_counter() - began)
        processor.append(time.process_time() - spent)
    peak = None if before is None else max(0.0, resident_mb("VmHWM") - before)
    return Measured(tuple(seconds), tuple(processor), peak, tuple((int(i), int(j)) for i, j in found))


if __name__ == "__main__":
    sys.stdout.write("\n" + json.dumps(asdict(measure(Trial(**json.loads(sys.argv[1]))))) + "\n")
