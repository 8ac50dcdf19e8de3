"""Calibration by novelty class: a class with too few held-out perturbations borrows from the next coarser one.

Calibrating within classes makes intervals hold in each of them (Mondrian conformal prediction [Vovk 2003]).
Classes of another order lend nothing: how far single effects are missed does not say how far combinations are.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Int
from torch import Tensor

from surrogates.data.novelty import novelty_name
from surrogates.errors import CalibrationError
from surrogates.uncertainty.conformal import attainable_level, least_count


@dataclass(frozen=True)
class ClassRows:
    """The held-out perturbations by which one novelty class is calibrated.

    Attributes:
        code: The class, a value of :func:`surrogates.data.novelty.novelty_code`.
        rows: Numbers of the perturbations.
        origin: Where they are from: the class's own name, or that of the coarser class lent from.
        borrowed: Whether the class had too few of its own.
    """

    code: int
    rows: Int[Tensor, "n"]
    origin: str
    borrowed: bool

    @property
    def line(self) -> str:
        """What stands behind an interval, in words."""
        said = f"{len(self.rows)} held-out perturbations ({self.origin})"
        return f"{novelty_name(self.code)!r} borrows from {said}" if self.borrowed else said


def class_rows(codes: Int[Tensor, "n"], code: int, level: float) -> ClassRows:
    """Choose by which held-out perturbations a class is calibrated.

    The class itself comes first, then all classes of its order.

    Args:
        codes: Novelty class of each held-out perturbation.
        code: The class to calibrate.
        level: Nominal probability: how many are needed.

    Returns:
        The rows of the finest of these that are enough.

    Raises:
        CalibrationError: If both are too few; the message names the attainable level.
    """
    order, fewest = code // 16, least_count(level)
    choices = (
        (novelty_name(code), codes == code),
        (f"all of order {order}", codes // 16 == order),
    )
    for number, (origin, chosen) in enumerate(choices):
        if int(chosen.sum()) >= fewest:
            return ClassRows(code, torch.nonzero(chosen).flatten(), origin, number > 0)
    own, alike = int((codes == code).sum()), int((codes // 16 == order).sum())
    lower = f", which support levels up to {attainable_level(alike):.3g}" if alike else ""
    raise CalibrationError(
        f"level {level:g} needs {fewest} held-out perturbations; there are {own} of class {novelty_name(code)!r}"
        f" and {alike} of order {order} in all{lower}: measure more perturbations of order {order}, or lower the"
        " level"
    )
