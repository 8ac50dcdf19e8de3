"""What a proposal takes from a screen in memory to its list: processor time and memory, fit and search apart."""

import math
import resource
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from itertools import pairwise
from multiprocessing import get_context

from benchmarks.scale.screens import LargeScreen
from inverse_design.fitting import calibrated_fit
from inverse_design.problem.problem import ask
from inverse_design.problem.target import ProfileTarget
from inverse_design.proposal import propose
from surrogates.data.screen import Screen
from surrogates.evaluation.scorecard import with_cost


@dataclass(frozen=True)
class Step:
    """What one step took."""

    seconds: float  # of processor time, all threads
    copies: float  # memory at most, beside what was there before, in copies of the effects


@dataclass(frozen=True)
class PathCost:
    """What a proposal took; a step that was stopped has ``nan``."""

    asked: LargeScreen
    fit: Step
    search: Step  # the proposal less the fit; its memory is that of the whole proposal

    @property
    def seconds(self) -> float:
        """Processor time of both."""
        return self.fit.seconds + self.search.seconds


def path_cost(asked: LargeScreen, *, limit: int) -> PathCost:
    """Measure a proposal in a process of its own, which is stopped after so many seconds of processor time."""
    context = get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=context, initializer=_limited, initargs=(limit,)) as executor:
        try:
            fit, whole = executor.submit(measured, asked).result()
        except BrokenProcessPool:
            stopped = Step(math.nan, math.nan)
            return PathCost(asked, stopped, stopped)
    return PathCost(asked, fit, Step(whole.seconds - fit.seconds, whole.copies))


def growth(costs: Sequence[PathCost]) -> list[float]:
    """Find the exponents with which the time of a proposal grows, from one screen to the next larger one."""
    return [
        math.log(after.seconds / before.seconds) / math.log(after.asked.singles / before.asked.singles)
        for before, after in pairwise(costs)
    ]


def wanted(screen: Screen) -> ProfileTarget:
    """Ask for a state that a pair of the screen's genes would reach."""
    return ProfileTarget("wanted", screen.readouts, 0.7 * (screen.effects[0] + screen.effects[1]))


def _limited(seconds: int) -> None:
    resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds))


def measured(asked: LargeScreen) -> tuple[Step, Step]:
    """Measure the fit, and the whole proposal, in this process."""
    small = LargeScreen(12, 12).draw()
    propose(small, wanted(small))  # libraries load and start their threads
    screen = asked.draw()
    # A single that is the target is an entry of the vocabulary that was not measured alone.
    target = wanted(screen) if asked.doubles else screen.labels[0]
    fit = _step(screen, lambda: calibrated_fit(ask(screen, target).training, None, unseen=False, seed=0))
    return fit, _step(screen, lambda: propose(screen, target))


def _step(screen: Screen, work: Callable[[], object]) -> Step:
    began = time.process_time()
    _, cost = with_cost(work)
    return Step(time.process_time() - began, cost.peak_mb * 1e6 / (8 * screen.effects.numel()))
