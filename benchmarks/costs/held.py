"""Whether proposals take what their plans say: public and synthetic screens, each in a process of its own."""

import resource
import time
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from multiprocessing import get_context

import torch

from benchmarks.scale.path import wanted
from benchmarks.scale.screens import LargeScreen
from inverse_design.errors import InverseDesignError
from inverse_design.planning.costs import Costs, trial
from inverse_design.planning.question import Request
from inverse_design.problem.target import ProfileTarget
from inverse_design.proposal import propose
from surrogates.data.catalogue import open_dataset
from surrogates.data.screen import Screen
from surrogates.errors import SurrogatesError
from surrogates.evaluation.scorecard import with_cost

SYNTHETIC: tuple[tuple[int, ...], ...] = (
    (250, 8000), (500, 8000), (1000, 8000), (2000, 8000), (250, 8000, 130), (500, 2000, 200),
)  # fmt: skip


@dataclass(frozen=True)
class Held:
    """What a plan said, and what the proposal took."""

    planned: float  # seconds
    took: float
    planned_mb: float
    took_mb: float


def held(case: str | tuple[int, ...]) -> tuple[str, Held]:
    """Plan and do a proposal in this process; of a public screen the last double is the state, or a single."""
    torch.set_num_threads(1)
    small = LargeScreen(12, 12).draw()
    propose(small, wanted(small))  # libraries load
    if not isinstance(case, str):
        screen = LargeScreen(*case).draw()
        said = f"{case[0]:,} singles, {len(screen) - case[0]:,} doubles x {case[1]:,}"
        return said, _one(screen, wanted(screen) if len(screen) > case[0] else screen.labels[0])
    screen = open_dataset(case)
    context = min(screen.contexts)
    screen = screen.in_context(context) if len(set(screen.contexts)) > 1 else screen
    pairs = torch.nonzero(screen.batch.order == 2).flatten().tolist()
    return case, _one(screen, screen.labels[pairs[-1] if pairs else -1])


def _one(screen: Screen, target: str | ProfileTarget) -> Held:
    prepared = Request(cache=None).prepared(screen, target)
    outline = prepared.asked.outline(again=prepared.tamed is not None)
    pace = trial(time.process_time) / Costs.measured().trial
    planned = pace * sum(work.seconds for works in outline.stages.values() for work in works)
    began = time.process_time()
    _, cost = with_cost(lambda: propose(screen, target, cache=None))
    return Held(planned, time.process_time() - began, outline.price().bytes / 1e6, cost.peak_mb)


def _limited(seconds: int) -> None:
    resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds))


def measured(case: str | tuple[int, ...], limit: int) -> tuple[str, Held | None]:
    """Measure in a process that is stopped after so many seconds; nothing if it was, or if it refused."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn"), initializer=_limited, initargs=(limit,)) as pool:
        try:
            return pool.submit(held, case).result()
        except (BrokenProcessPool, InverseDesignError, SurrogatesError):
            return str(case), None


def line_of(found: Held) -> str:
    """Lay out what was planned, what it took, and their ratio."""
    ratio, held_mb = found.planned / found.took, found.planned_mb / max(found.took_mb, 1e-3)
    return (
        f"{found.planned:>11.1f}{found.took:>9.1f}{ratio:>7.2f}{found.planned_mb:>12,.0f}{found.took_mb:>9,.0f}"
        f"{held_mb:>7.2f}"
    )
