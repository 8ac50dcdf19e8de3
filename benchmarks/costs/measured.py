"""Measure every stage on screens of many sizes, and fit what it costs as a sum of products of sizes.

The coefficients are not negative, and minimise the squared relative error over all cases.
"""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from multiprocessing import get_context
from typing import Any

import numpy as np
import torch
from scipy.optimize import nnls

from benchmarks.scale.path import wanted
from benchmarks.scale.screens import LargeScreen
from inverse_design.cli.verbs.replay import DEFAULT, PERMUTED
from inverse_design.fitting import calibrated_fit
from inverse_design.planning.costs import Costs, Sizes, total, value
from inverse_design.planning.course import Pace, Watch
from inverse_design.planning.plan import Outline
from inverse_design.planning.question import Answerable, Request
from inverse_design.planning.work import ranking_outline
from inverse_design.problem.problem import ask, candidate_space
from inverse_design.problem.target import ProfileTarget, ScalarTarget
from inverse_design.proposal import propose
from inverse_design.ranking import rank
from inverse_design.recommend.protocol import RECOMMENDERS
from inverse_design.validate.outlines import replay_outline
from inverse_design.validate.replay import pairs_environment, play
from surrogates.data.screen import Screen
from surrogates.evaluation.scorecard import with_cost

COMMAND = "python -m benchmarks costs --write"
# Of each stage, what it may cost: products of sizes.
TERMS: Mapping[str, Sequence[str]] = {
    "fit": (
        "1", "conditions*readouts", "conditions*conditions*readouts", "doubles", "doubles*readouts",
        "probes*pairs", "singles*doubles*readouts", "pairs", "singles*singles*readouts",
    ),
    "fit of one": (
        "1", "conditions*readouts", "conditions*conditions*readouts", "probes*pairs", "doubles*readouts",
    ),
    "fit without doubles": ("1", "conditions*readouts", "conditions*conditions*readouts"),
    "fit of unseen parts": (
        "1", "conditions*readouts", "conditions*conditions*readouts", "conditions*conditions*conditions",
    ),
    "search": ("1", "conditions*asked", "candidates", "candidates*asked", "entries*entries*asked"),
    "search by turns": (
        "1", "conditions*asked", "candidates", "doubles*asked", "doubles*doubles", "doubles*doubles*asked",
    ),
    "calibration": (
        "1", "conditions*asked", "held_out", "held_out*candidates", "held_out*asked", "held_out*entries*asked",
        "entries*asked", "doubles*readouts",
    ),
    "calibration without doubles": ("1", "asked", "entries*asked", "asked*asked"),
    "calibration of sets": ("1", "summed"),
    "search of listed sets": ("1", "sets*readouts", "sets"),
    "search by bounds": ("1", "entries*entries*order", "entries*asked"),
    "values": ("1", "listed*asked", "conditions*asked", "listed*conditions", "listed*listed",
               "listed*conditions*asked"),
}  # fmt: skip
_HELD = ("1", "conditions*readouts", "pairs", "probes*pairs", "doubles*readouts", "doubles")
_ROUND = ("1", "candidates", "known", "count*known", "known*known", "candidates*known", "known*known*known")
BYTES: Mapping[str, Sequence[str]] = {
    "fit": _HELD,
    "fit of one": _HELD,
    "fit without doubles": ("1", "conditions", _HELD[1]),
}


@dataclass(frozen=True)
class Sample:
    """What one stage took at some sizes."""

    kind: str
    sizes: Mapping[str, float]
    seconds: float
    bytes: float | None = None


def table_of(samples: Sequence[Sample], trial_seconds: float, before: Costs) -> Costs:
    """Fit the coefficients of the stages that were measured; the others take as many trials as before."""
    kinds = sorted({each.kind for each in samples})
    pace = trial_seconds / before.trial
    seconds = {
        kind: {term: float(f"{pace * each:.4g}") for term, each in terms.items()}
        for kind, terms in before.seconds.items()
    }
    seconds |= {
        kind: coefficients(
            TERMS.get(kind, _ROUND), [(each.sizes, each.seconds) for each in samples if each.kind == kind]
        )
        for kind in kinds
    }
    held = {
        kind: coefficients(
            BYTES[kind],
            [(each.sizes, each.bytes) for each in samples if each.kind == kind and each.bytes is not None],
        )
        for kind in kinds
        if kind in BYTES
    }
    return Costs(trial_seconds, seconds, {**before.bytes, **held}, COMMAND)


def coefficients(terms: Sequence[str], measured: Sequence[tuple[Mapping[str, float], float]]) -> dict[str, float]:
    """Find the coefficients that are not negative with the least squared relative error."""
    if not measured:
        return {}
    design = np.array([[value(term, sizes) / max(cost, 1e-9) for term in terms] for sizes, cost in measured])
    scale = np.abs(design).max(0)
    scale[scale == 0] = 1.0
    found = nnls(design / scale, np.ones(len(measured)))[0] / scale
    return {term: float(f"{each:.4g}") for term, each in zip(terms, found.tolist(), strict=True) if each > 0}


class Clock:
    """Notes the processor time of each stage of some work."""

    def __init__(self) -> None:
        """Begin."""
        self._now, self._stage = time.process_time(), ""
        self.seconds: dict[str, float] = {}

    def __call__(self, pace: Pace) -> None:
        """Note that a stage began, if one did."""
        if pace.stage != self._stage:
            self.end()
            self._stage = pace.stage

    def end(self) -> None:
        """Note that the last stage ended."""
        before, self._now = self._now, time.process_time()
        if self._stage:
            self.seconds[self._stage] = self._now - before


def sampled(outline: Outline, work: Callable[[Watch], object]) -> Iterator[Sample]:
    """Do some work, and sort what its stages took under their names in the table."""
    clock = Clock()
    _, cost = with_cost(lambda: work(clock))
    clock.end()
    for name, seconds in clock.seconds.items():
        parts = outline.stages[name]
        known = sum(total(Costs.measured().seconds[part.kind], part.sizes) for part in parts[:-1])
        held = cost.peak_mb * 1e6 if parts[-1].kind in BYTES else None
        yield Sample(parts[-1].kind, parts[-1].sizes, max(1e-3, seconds - known), held)


def of_target(screen: Screen, target: ProfileTarget | str, **settings: Any) -> Iterator[Sample]:  # noqa: ANN401 - of propose
    """Measure a proposal."""
    settings["cache"] = None
    outline = Answerable.of(Request(**settings), screen, target).outline(again=False)
    yield from sampled(outline, lambda clock: propose(screen, target, progress=clock, **settings))


def of_list(screen: Screen, experiments: int) -> Iterator[Sample]:
    """Measure a ranking by a simple model."""
    space = candidate_space(screen, "2", None)
    labels = [screen.vocabulary.perturbation(genes).label for genes in space.batch(0, experiments).genes]
    outline = ranking_outline(ask(screen, wanted(screen)), experiments, surrogate="scaled_additive", unseen=False)
    work = partial(rank, screen, wanted(screen), labels, surrogate="scaled_additive")
    yield from sampled(outline, lambda clock: work(progress=clock))


def of_unseen(screen: Screen) -> Iterator[Sample]:
    """Measure what perturbations of unseen parts take beside the rest of a fit; some are not measured alone."""
    fewer = screen.rows(range(len(screen) // 10, len(screen)))
    began = time.process_time()
    calibrated_fit(fewer, None, unseen=False, seed=0)
    middle = time.process_time()
    calibrated_fit(fewer, None, unseen=True, seed=0)
    seconds = time.process_time() - middle - (middle - began)
    yield Sample("fit of unseen parts", Sizes.of(fewer).terms(), max(1e-3, seconds))


def of_replay(screen: Screen) -> Iterator[Sample]:
    """Measure a round of each policy that replays play by default."""
    target = ScalarTarget(screen.readouts[0], "minimise")
    few = int((screen.batch.order == 2).sum()) // 4
    environment = pairs_environment(screen, target, start=few, rounds=2, count=min(100, few))
    for name in dict.fromkeys(policy.removeprefix(PERMUTED) for policy in DEFAULT):
        recommender = RECOMMENDERS.load(name)()
        recommender.recommend(environment.state(torch.arange(20)), 2, pending=(), seed=0)  # libraries load
        began = time.process_time()
        play(environment, recommender, seed=0)
        work = replay_outline(environment, (name,), seeds=1, workers=1).stages["replay"][0]
        yield Sample(work.kind, work.sizes, (time.process_time() - began) / environment.rounds)


MEASURES: Mapping[str, Callable[[Screen], Iterator[Sample]]] = {
    "state": lambda screen: of_target(screen, wanted(screen)),
    "label": lambda screen: of_target(screen, screen.labels[-1]),
    "one model": lambda screen: of_target(screen, wanted(screen), surrogate="scaled_additive"),
    "sets": lambda screen: of_target(screen, wanted(screen), surrogate="scaled_additive", order="3"),
    "listed sets": lambda screen: of_target(
        screen, wanted(screen), surrogate="scaled_additive", order="3", objective="cosine"
    ),
    "short list": lambda screen: of_list(screen, 20),
    "list": lambda screen: of_list(screen, 300),
    "unseen parts": of_unseen,
    "replay": of_replay,
}
# What is measured, on screens of so many singles, readouts and doubles.
CASES: Mapping[str, Sequence[tuple[int, ...]]] = {
    "label": (
        (60, 500), (120, 2000), (250, 8000), (500, 2000), (1000, 1000), (6000, 2), (4000, 4000), (60, 1000, 60),
        (100, 4000, 100), (300, 500, 130), (300, 1, 20000),
    ),
    "state": ((12, 50, 40), (60, 500, 40), (120, 2000, 100), (120, 1000, 300), (250, 1000, 130)),
    "one model": ((60, 1000, 60), (120, 1000, 100), (250, 500, 200)),
    "sets": ((60, 500, 40), (200, 200, 40), (400, 200, 40), (2000, 60, 40)),
    "listed sets": ((20, 500, 40), (40, 200, 40)),
    "list": ((60, 500, 40), (60, 2000, 40), (150, 500, 40)),
    "short list": ((60, 500, 40), (60, 2000, 40)),
    "unseen parts": ((60, 500), (150, 1000), (60, 500, 40), (120, 300, 100)),
    "replay": ((25, 1, 200), (60, 1, 200), (60, 1, 1500)),
}  # fmt: skip


def measure(case: tuple[str, LargeScreen]) -> list[Sample]:
    """Measure one case in this process, on one thread."""
    torch.set_num_threads(1)
    small = LargeScreen(12, 12).draw()
    propose(small, wanted(small))  # libraries load
    what, screen = case
    return list(MEASURES[what](screen.draw()))


def alone(case: tuple[str, LargeScreen]) -> list[Sample]:
    """Measure one case in a process of its own."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as executor:
        return executor.submit(measure, case).result()
