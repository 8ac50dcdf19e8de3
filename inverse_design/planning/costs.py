"""The table of costs: seconds and bytes of each stage as a sum of products of sizes, measured on one machine.

``costs.json`` names the command that made it. A term such as ``"conditions*readouts"`` is the product of those
sizes; a stage costs the sum of its terms times what was measured of them. Another machine is as much slower as it
takes longer for a short piece of the same kind of work.
"""

import json
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import SupportsFloat

import psutil
import torch

from surrogates.data.novelty import SEEN_DOUBLE, novelty_code
from surrogates.data.screen import Screen
from surrogates.errors import amount
from surrogates.threads import limited_threads

TABLE = "costs.json"
Coefficients = Mapping[str, float]  # what one of each term costs
_LONGEST_TRIAL = 0.5  # seconds in which the speed of a machine is measured
_FEWEST_ROUNDS = 3


@dataclass(frozen=True)
class Sizes:
    """How large a screen is, as far as it costs something."""

    conditions: int
    singles: int  # entries of the vocabulary that were measured alone
    doubles: int  # conditions of two of them: what is held out
    readouts: int

    @classmethod
    def of(cls, screen: Screen) -> "Sizes":
        """Count what a screen holds."""
        alone = screen.single_rows >= 0
        doubles = int((novelty_code(screen.batch, alone) == SEEN_DOUBLE).sum())
        return cls(len(screen), int(alone.sum()), doubles if doubles > 1 else 0, len(screen.readouts))

    @property
    def line(self) -> str:
        """The whole in words."""
        return f"{amount(self.conditions, 'condition')} on {amount(self.readouts, 'readout')}"

    def terms(self, **further: SupportsFloat) -> dict[str, float]:
        """Name all sizes; pairs and probes are those by which error models are chosen."""
        from surrogates.models.wrappers.calibrated import Calibrated  # noqa: PLC0415 - models take seconds to import

        folds, probes = Calibrated.folds, Calibrated.probes
        known: dict[str, SupportsFloat] = {
            "conditions": self.conditions,
            "singles": self.singles,
            "doubles": self.doubles,
            "readouts": self.readouts,
            "pairs": min(math.comb(self.singles, 2), Calibrated.candidates),
            "probes": min(self.doubles, folds * probes),
            **further,
        }
        return {name: float(each) for name, each in known.items()}


@dataclass(frozen=True)
class Costs:
    """What was measured."""

    trial: float  # seconds that the measuring machine took for one round of the trial
    seconds: Mapping[str, Coefficients]  # of each stage, by its name
    bytes: Mapping[str, Coefficients]  # of the largest part of each stage
    command: str  # what made the table

    @classmethod
    @cache
    def measured(cls) -> "Costs":
        """Read the table of this package."""
        return cls(**json.loads(files(__package__).joinpath(TABLE).read_text(encoding="utf-8"), parse_int=float))

    def time(self, stage: str, sizes: Mapping[str, float]) -> float:
        """Foretell the seconds of a stage on the machine that was measured."""
        return total(self.seconds.get(stage, {}), sizes)

    def memory(self, stage: str, sizes: Mapping[str, float]) -> int:
        """Foretell the bytes of a stage."""
        return round(total(self.bytes.get(stage, {}), sizes))


def total(coefficients: Coefficients, sizes: Mapping[str, float]) -> float:
    """Add terms up."""
    return math.fsum(each * value(term, sizes) for term, each in coefficients.items())


def value(term: str, sizes: Mapping[str, float]) -> float:
    """Multiply the sizes that a term names; ``"1"`` is what anything costs."""
    return math.prod((sizes[name] for name in term.split("*") if name != "1"), start=1.0)


def trial(clock: Callable[[], float] = time.perf_counter) -> float:
    """Time a round of products, decompositions and passes over memory: the median of half a second of them."""
    wide = torch.linspace(-1, 1, 400 * 1500, dtype=torch.float64).reshape(400, 1500).sin()
    rounds: list[float] = []
    began = clock()
    with limited_threads():  # as the table was measured
        while len(rounds) < _FEWEST_ROUNDS or clock() - began < _LONGEST_TRIAL:
            start = clock()
            torch.linalg.eigh(wide @ wide.T)
            wide.square().neg().exp().sum()
            rounds.append(clock() - start)
    return sorted(rounds)[len(rounds) // 2]


@cache
def slowness() -> float:
    """Tell how many times longer this machine takes than the one that was measured."""
    return trial() / Costs.measured().trial


def memory_at_hand() -> int:
    """Count the bytes that can be had."""
    return int(psutil.virtual_memory().available)
