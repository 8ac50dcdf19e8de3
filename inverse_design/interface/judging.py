"""The options of the benchmark of calibration, as the command line and its help know them."""

from dataclasses import dataclass

from cyclopts import Parameter

from inverse_design.interface.options import ASKING, AUTOMATIC, Words


@Parameter(name="*", group=ASKING)
@dataclass(frozen=True)
class Judging:
    """What the benchmark of calibration judges, and where it writes.

    Attributes:
        model: Forward model; automatic takes the one that identifies held-out doubles best.
        levels: Nominal probabilities A,B between 0 and 1; by default 0.5,0.8,0.9,0.95.
        classes: Novelty classes A,B of double-2, double-1, double-0 and single-0 (the number says how many parts
            were measured alone); by default all.
        seed: Fixes everything that is random.
        json: Where to write all numbers, as .json.
        picture: Where to draw coverage, transforms and reliability, as .svg.
    """

    model: str = AUTOMATIC
    levels: Words = ()
    classes: Words = ()
    seed: int = 0
    json: str | None = None
    picture: str | None = None
