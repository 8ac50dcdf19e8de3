"""Plans: which stages work has, how long each will take, and how much memory, before any of it is done."""

import logging
import math
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import pandas as pd

from inverse_design.planning.costs import Costs, memory_at_hand, slowness
from inverse_design.planning.course import LOG, Course, Stage, Watch, about, in_words
from surrogates.data.io.untrusted.sizes import in_units
from surrogates.summary import as_html, lines_of

_WORTH_A_TRIAL = 5.0  # seconds below which nothing hangs on how fast this machine is


@dataclass(frozen=True)
class Plan:
    """What some work will cost.

    Attributes:
        what: The work and its sizes, in words.
        stages: Its parts in their order, each with its seconds on this machine.
        bytes: About how much memory it takes at most, beside what is held now.
        available: How much memory can be had.
        remedies: What would fit, where this does not.
        notes: What the table of costs does not know.
    """

    what: str
    stages: tuple[Stage, ...]
    bytes: int
    available: int
    remedies: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def seconds(self) -> float:
        """About how long the work takes, without what was done before it is planned: reading and starting."""
        return math.fsum(stage.seconds for stage in self.stages)

    def begin(self, watch: Watch | None = None) -> Course:
        """Begin the work: the plan is logged, and a warning if it may not fit the memory."""
        level = logging.INFO if self.seconds > _WORTH_A_TRIAL else logging.DEBUG
        LOG.log(level if self.fits else logging.WARNING, "%s", self.line)
        return Course(self.stages, watch)

    @property
    def fits(self) -> bool:
        """Whether the memory suffices."""
        return self.bytes <= self.available

    @property
    def line(self) -> str:
        """The whole in one line, such as ``105 singles, 131 doubles, 5,045 readouts: about 35 s, 1.2 GB``."""
        more = "" if self.fits else f" of memory, of which {in_units(self.available)} can be had"
        return f"{self.what}: {about(self.seconds)}, {in_units(self.bytes)}{more}"

    def as_json(self) -> dict[str, object]:
        """Lay everything out for programs."""
        return {
            "what": self.what,
            "seconds": self.seconds,
            "bytes": self.bytes,
            "available_bytes": self.available,
            "fits": self.fits,
            "stages": [{"name": stage.name, "seconds": stage.seconds} for stage in self.stages],
            "remedies": list(self.remedies),
            "notes": list(self.notes),
        }

    def __repr__(self) -> str:
        stages = ", ".join(f"{stage.name} {in_words(stage.seconds)}" for stage in self.stages)
        return lines_of(f"Plan for {self.line}", stages, *self.remedies[:1], *self.notes[:1])

    def _repr_html_(self) -> str:
        table = pd.DataFrame({
            "stage": [stage.name for stage in self.stages],
            "seconds": [stage.seconds for stage in self.stages],
        })  # fmt: skip
        return as_html([f"Plan for {self.line}", *self.remedies, *self.notes], table)


@dataclass(frozen=True)
class Work:
    """A part of a stage that is to be priced."""

    kind: str  # its name in the table of costs
    sizes: Mapping[str, float]  # the sizes that its terms name
    share: float = 1.0  # how many times it is done, or the part of it that one of several workers does
    processes: int = 1  # how many do it at a time, each with its own memory

    @property
    def seconds(self) -> float:
        """What it takes on the machine that was measured."""
        return self.share * Costs.measured().time(self.kind, self.sizes)

    def memory(self, readouts: float) -> int:
        """What it holds at most if at most so many readouts are read."""
        fewer = {name: min(self.sizes[name], readouts) for name in ("readouts", "asked") if name in self.sizes}
        return self.processes * Costs.measured().memory(self.kind, {**self.sizes, **fewer})


@dataclass(frozen=True)
class Outline:
    """The stages of some work, which are to be priced."""

    what: str  # the work and its sizes, in words
    stages: Mapping[str, Sequence[Work]]  # the parts of each stage, by its name
    notes: tuple[str, ...] = ()  # what the table of costs does not know
    processes: int = 1  # how many work at a time, each with its own memory

    def price(self) -> Plan:
        """Price all stages on this machine; its speed is only measured where the work takes long."""
        found = [Stage(name, math.fsum(work.seconds for work in works)) for name, works in self.stages.items()]
        if sum(stage.seconds for stage in found) > _WORTH_A_TRIAL:
            found = [replace(stage, seconds=stage.seconds * slowness()) for stage in found]
        every = [work for works in self.stages.values() for work in works]
        free, memory = memory_at_hand(), self.processes * _memory(every, math.inf)
        remedies = _remedies(every, free // self.processes) if memory > free else ()
        return Plan(self.what, tuple(found), memory, free, remedies, self.notes)


def _memory(works: Sequence[Work], readouts: float) -> int:
    return max((work.memory(readouts) for work in works), default=0)


def _remedies(works: Sequence[Work], free: int) -> tuple[str, ...]:
    """Say with how many readouts the work would fit."""
    most = int(max(work.sizes["readouts"] for work in works))
    fitting = bisect_right(range(most), free, key=lambda readouts: _memory(works, readouts + 1.0))
    if fitting:
        return (f"{fitting:,} of its {most:,} readouts would fit: name them with --readouts",)
    return ("no number of readouts would fit: take fewer genes or compounds (--allow), or a larger machine",)
