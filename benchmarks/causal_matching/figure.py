"""Distances to a target mean against experiments, as a picture: one panel for each family of networks."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from benchmarks.causal_matching.rows import DISTANCE
from inverse_design.plot.drawing import BLUE, INK, ORANGE, PALE, dot, line, page, text
from surrogates.evaluation.rows import Row

_PANEL, _GAP, _HEIGHT = 270.0, 50.0, 420.0
_LEFT, _RIGHT, _TOP, _BOTTOM = 60.0, 210.0, 76.0, 50.0
_COLOURS = ("#999999", "#E69F00", "#CC79A7", "#009E73", "#56B4E9", BLUE, INK, ORANGE)  # Okabe and Ito
_LINE = 20.0  # of the list of names


@dataclass(frozen=True)
class _Axis:
    """A logarithmic axis of whole decades.

    Attributes:
        low: Exponent at the bottom.
        high: Exponent at the top.
    """

    low: int
    high: int

    def up(self, value: float) -> float:
        share = (math.log10(max(value, 10.0**self.low)) - self.low) / (self.high - self.low)
        return _HEIGHT - _BOTTOM - (_HEIGHT - _BOTTOM - _TOP) * share


def distances_svg(rows: Sequence[Row], *, title: str) -> str:
    """Draw the squared distance after each round, on a logarithmic axis.

    Args:
        rows: Of :func:`benchmarks.causal_matching.rows.causal_rows`.
        title: What is shown.

    Returns:
        The picture.
    """
    shown = [row for row in rows if row.metric == DISTANCE]
    families = tuple(dict.fromkeys(row.dataset for row in shown))
    names = tuple(dict.fromkeys(row.model for row in shown))
    positive = [row.value for row in shown if row.value > 0] or [1.0]
    low = math.floor(math.log10(min(positive)))
    axis = _Axis(low, max(low + 1, math.ceil(math.log10(max(positive)))))
    width = _LEFT + len(families) * (_PANEL + _GAP) - _GAP + _RIGHT
    body = [
        text(12.0, 24.0, title, size=15),
        text(12.0, 42.0, "mean over worlds; bars: 95 % interval of the mean"),
    ]
    for place, family in enumerate(families):
        left = _LEFT + place * (_PANEL + _GAP)
        body += _frame(left, family, axis)
        for number, name in enumerate(names):
            curve = [row for row in shown if row.dataset == family and row.model == name]
            body += _curve(curve, left, axis, _COLOURS[number % len(_COLOURS)])
    for number, name in enumerate(names):
        colour, at = _COLOURS[number % len(_COLOURS)], _TOP + 10 + number * _LINE
        body.append(line(width - _RIGHT + 16, at, width - _RIGHT + 34, at, colour, width=2))
        body.append(text(width - _RIGHT + 40, at + 4, name))
    return page(body, width, _HEIGHT, title)


def _frame(left: float, family: str, axis: _Axis) -> list[str]:
    body = [text(left + _PANEL / 2, _TOP - 12, family, anchor="middle", size=13)]
    for exponent in range(axis.low, axis.high + 1):
        height = axis.up(10.0**exponent)
        body.append(line(left, height, left + _PANEL, height, PALE))
        body.append(text(left - 8, height + 4, f"{10.0**exponent:g}", anchor="end"))
    body.append(text(left + _PANEL / 2, _HEIGHT - 10, "experiments", anchor="middle"))
    return body


def _curve(curve: Sequence[Row], left: float, axis: _Axis, colour: str) -> list[str]:
    step = _PANEL / max(1, len(curve) - 1)
    points = [(left + step * number, axis.up(row.value)) for number, row in enumerate(curve)]
    body = [line(*start, *end, colour, width=2) for start, end in pairwise(points)]
    for (x, y), row in zip(points, curve, strict=True):
        body += [line(x, axis.up(row.low), x, axis.up(row.high), colour), dot(x, y, colour)]
    every = max(1, (len(curve) - 1) // 4)
    return body + [
        text(x, _HEIGHT - _BOTTOM + 20, row.variant.split()[0], anchor="middle")
        for number, ((x, _), row) in enumerate(zip(points, curve, strict=True))
        if number % every == 0 and colour == _COLOURS[0]
    ]
