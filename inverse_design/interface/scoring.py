"""The options of the benchmark of forward models, as the command line and its help know them."""

from dataclasses import dataclass

from cyclopts import Parameter

from inverse_design.interface.options import ASKING, Words


@Parameter(name="*", group=ASKING)
@dataclass(frozen=True)
class Scoring:
    """What the benchmark of forward models compares, and where it writes.

    Attributes:
        models: Forward models A,B, or all; interaction and automatic by default. The baselines are always there.
        classes: Novelty classes A,B of double-2, double-1, double-0 and single-0 (the number says how many parts
            were measured alone); by default all.
        seed: Fixes everything that is random.
        json: Where to write all numbers, as .json.
        picture: Where to draw the errors, as .svg.
    """

    models: Words = ()
    classes: Words = ()
    seed: int = 0
    json: str | None = None
    picture: str | None = None
