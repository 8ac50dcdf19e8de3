"""How far planned work is: every stage is logged when it begins and when it ends, and said to whoever watches."""

import logging
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Protocol, TypeAlias

LOG = logging.getLogger("inverse_design")
_LONG = 2.0  # seconds above which a stage, or more of its parts, are worth a line


@dataclass(frozen=True)
class Stage:
    """A part of planned work, and how many seconds it will take."""

    name: str
    seconds: float


@dataclass(frozen=True)
class Pace:
    """How far work is."""

    stage: str  # what is being done
    seconds: float  # about how long all of the work will have taken
    left: float  # about how much of that is left


Watch: TypeAlias = Callable[[Pace], None]


class Tick(Protocol):
    """Is called with how many parts of a stage are done, of how many, and perhaps what is done now."""

    def __call__(self, done: int, total: int, now: str = "", /) -> None:
        """Say how far the stage is."""
        ...


class Course:
    """Goes through the stages of a plan; what is left is corrected by how long the stages took so far."""

    def __init__(self, stages: Sequence[Stage], watch: Watch | None = None) -> None:
        """Begin before the first stage."""
        self._stages = tuple(stages)
        self._watch = watch
        self._number = 0
        self._began = time.monotonic()
        self._ended = self._logged = self._began  # when the last stage did, and when its parts were logged

    @contextmanager
    def stage(self) -> Iterator[Tick]:
        """Do the next stage; what it gives is called with how many of its parts are done."""
        stage = self._stages[self._number]
        LOG.debug("%s: %s, %s left in all", stage.name, about(stage.seconds), about(self._left(0.0)))
        self._say(0.0)
        yield self._tick
        now = time.monotonic()
        took = now - self._ended
        level = logging.INFO if took > _LONG else logging.DEBUG
        self._ended = now
        self._number += 1
        left = f", {about(self._left(0.0))} left" if self._number < len(self._stages) else ""
        LOG.log(level, "%s: took %s%s", stage.name, in_words(took), left)

    def _tick(self, done: int, total: int, now: str = "", /) -> None:
        if (moment := time.monotonic()) - self._logged > _LONG:
            LOG.debug("%s: %d of %d%s", self._stages[self._number].name, done, total, f", {now}" if now else "")
            self._logged = moment
        self._say(done / total if total else 0.0)

    def _say(self, share: float) -> None:
        if self._watch is not None:
            left = self._left(share)
            self._watch(Pace(self._stages[self._number].name, time.monotonic() - self._began + left, left))

    def _left(self, share: float) -> float:
        """Foretell what is left: of the present stage by the share that is done, if that is known."""
        planned = sum(stage.seconds for stage in self._stages[: self._number])
        pace = (self._ended - self._began) / planned if planned > _SURE else 1.0
        present = time.monotonic() - self._ended
        here = max(0.0, pace * self._stages[self._number].seconds - present)
        if share > 0:
            here = present * (1 - share) / share
        return here + pace * sum(stage.seconds for stage in self._stages[self._number + 1 :])


_SURE = 1.0  # planned seconds after which it is known how well the plan holds


def in_words(seconds: float) -> str:
    """Write a duration."""
    for unit, size in (("days", 86400.0), ("h", 3600.0), ("min", 60.0)):
        if seconds >= 2 * size:
            return f"{seconds / size:,.0f} {unit}"
    return f"{seconds:.0f} s" if seconds >= 1 else "under 1 s"


def about(seconds: float) -> str:
    """Write a duration that is not known exactly."""
    return f"about {in_words(seconds)}" if seconds >= 1 else in_words(seconds)
