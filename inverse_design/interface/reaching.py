"""The options of the benchmark of reach, as the command line and its help know them."""

from dataclasses import dataclass

from cyclopts import Parameter

from inverse_design.interface.options import ASKING, AUTOMATIC


@Parameter(name="*", group=ASKING)
@dataclass(frozen=True)
class Reaching:
    """By which model states are reached, and where the benchmark writes.

    Attributes:
        model: Forward model; automatic takes the one that identifies held-out doubles best.
        seed: Fixes everything that is random.
        json: Where to write all numbers, as .json.
    """

    model: str = AUTOMATIC
    seed: int = 0
    json: str | None = None
