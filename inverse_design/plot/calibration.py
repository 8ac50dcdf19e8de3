"""The calibration card as a picture: coverage, probability integral transform, reliability."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from inverse_design.plot.drawing import BLUE, INK, ORANGE, PALE, box, dot, line, page, square, text
from inverse_design.validate.judged import Bin
from surrogates.evaluation.coverage import exact_binomial_interval
from surrogates.evaluation.rows import Row

_SIDE, _LEFT, _GAP, _TOP, _LOW = 200.0, 58.0, 48.0, 112.0, 110.0
_BAND = "#C8DCEB"
_SHIFT = 4.0  # so that two marks of one level do not hide each other


@dataclass(frozen=True)
class _Axes:
    """A rectangle on the page: probabilities across, shares upwards."""

    left: float
    top: float
    width: float
    height: float
    lowest: float = 0.0
    highest: float = 1.0

    def x(self, value: float) -> float:
        return self.left + (value - self.lowest) / (1 - self.lowest) * self.width

    def y(self, value: float) -> float:
        place = (value - self.lowest) / (self.highest - self.lowest)
        return self.top + (1 - min(max(place, 0.0), 1.0)) * self.height

    @property
    def ticks(self) -> list[float]:
        step = 0.2 if self.lowest else 0.25
        return [self.lowest + step * number for number in range(1 + round((1 - self.lowest) / step))]

    def frame(self, headings: Sequence[str], across: str, ticks: Sequence[float]) -> list[str]:
        above = enumerate(reversed(headings))
        drawn = [text(self.left, self.top - 8 - 16 * number, words, size=12) for number, words in above]
        for tick in self.ticks:
            drawn.append(line(self.x(tick), self.top, self.x(tick), self.top + self.height, PALE))
            drawn.append(text(self.x(tick), self.top + self.height + 15, f"{tick:g}", anchor="middle", size=11))
        for tick in ticks:
            drawn.append(line(self.left, self.y(tick), self.left + self.width, self.y(tick), PALE))
            drawn.append(text(self.left - 6, self.y(tick) + 4, f"{tick:g}", anchor="end", size=11))
        middle = self.left + self.width / 2
        return [*drawn, text(middle, self.top + self.height + 32, across, anchor="middle", size=11)]


def calibration_svg(rows: Sequence[Row], bins: Mapping[str, Sequence[Bin]], *, title: str) -> str:
    """Draw a column for each novelty class (coverage above the transform), and reliability below."""
    shown = [row for row in rows if row.variant == rows[0].variant] if rows else []
    classes = list(dict.fromkeys(row.novelty for row in shown))
    columns = max(len(classes), len(bins), 3)
    width = _LEFT + columns * (_SIDE + _GAP)
    second = _TOP + _SIDE + 76
    third = second + _LOW + 92
    height = (third + _SIDE + 48) if bins else second + _LOW + 48
    variant = f" ({rows[0].variant.replace('_', ' ')})" if rows else ""
    body = [text(12.0, 24.0, f"{title}{variant}", size=15), *_legend()]
    for number, novelty in enumerate(classes):
        own = {row.metric: row for row in shown if row.novelty == novelty}
        left = _LEFT + number * (_SIDE + _GAP)
        body += _coverage(_Axes(left, _TOP, _SIDE, _SIDE, _floor(shown)), novelty, own)
        body += _transform(left, second, own)
    for number, (name, found) in enumerate(bins.items()):
        body += _reliability(_Axes(_LEFT + number * (_SIDE + _GAP), third, _SIDE, _SIDE), name, found)
    return page(body, width, height, title)


def _legend() -> list[str]:
    y = 46.0
    return [
        dot(18.0, y, BLUE),
        text(28.0, y + 4, "conformal intervals"),
        square(162.0, y, ORANGE),
        text(172.0, y + 4, "the posterior's own"),
        box(304.0, y - 6, 12.0, 12.0, _BAND),
        text(322.0, y + 4, "what so few calibrating perturbations may give; lines: 95 % intervals"),
    ]


def _coverage(axes: _Axes, novelty: str, rows: Mapping[str, Row]) -> list[str]:
    prefix, suffix = "posterior_coverage_", "_all"
    said = [
        name.removeprefix(prefix).removesuffix(suffix)
        for name in rows
        if name.startswith(prefix) and name.endswith(suffix)
    ]
    n = max((row.n for name, row in rows.items() if name.startswith(prefix)), default=0)
    drawn = axes.frame((f"{novelty} (n = {n})", "coverage of single readouts"), "nominal level", axes.ticks)
    drawn.append(line(axes.x(axes.lowest), axes.y(axes.lowest), axes.x(1.0), axes.y(1.0), INK))
    for each in said:
        at = axes.x(float(each) / 100)
        expected = rows.get(f"calibration_{each}")
        if expected is not None and math.isfinite(expected.low):
            drawn.append(
                box(at - 6, axes.y(expected.high), 12.0, axes.y(expected.low) - axes.y(expected.high), _BAND)
            )
        drawn += _mark(axes, at + _SHIFT, rows.get(f"posterior_coverage_{each}_all"), ORANGE)
        drawn += _mark(axes, at - _SHIFT, rows.get(f"coverage_{each}_all"), BLUE)
    return drawn


def _floor(rows: Sequence[Row]) -> float:
    """Begin the axes of coverage where there is something to see: levels are close together at the upper end."""
    lows = [row.low for row in rows if "coverage_" in row.metric and row.metric.endswith("_all")]
    lows += [min(row.value, row.low) for row in rows if row.metric.startswith("calibration_")]
    return 0.4 if min((low for low in lows if math.isfinite(low)), default=0.0) >= 0.4 else 0.0


def _mark(axes: _Axes, at: float, row: Row | None, colour: str) -> list[str]:
    if row is None or not math.isfinite(row.value):
        return []
    sign = dot if colour == BLUE else square
    return [line(at, axes.y(row.low), at, axes.y(row.high), colour, width=2), sign(at, axes.y(row.value), colour)]


def _transform(left: float, top: float, rows: Mapping[str, Row]) -> list[str]:
    deciles = [rows[f"pit_decile_{number}"] for number in range(1, 11) if f"pit_decile_{number}" in rows]
    highest = max(0.2, *(row.high for row in deciles)) if deciles else 0.2
    axes = _Axes(left, top, _SIDE, _LOW, highest=highest)
    drawn = axes.frame(("share of readouts",), "posterior probability of the measured value", (0.0, 0.1, 0.2))
    for number, row in enumerate(deciles):
        low, high = axes.x(number / 10), axes.x((number + 1) / 10)
        drawn.append(box(low + 1, axes.y(row.value), high - low - 2, axes.y(0.0) - axes.y(row.value), BLUE))
        drawn.append(line((low + high) / 2, axes.y(row.low), (low + high) / 2, axes.y(row.high), INK))
    drawn.append(line(axes.left, axes.y(0.1), axes.left + axes.width, axes.y(0.1), INK))
    return drawn


def _reliability(axes: _Axes, variant: str, bins: Sequence[Bin]) -> list[str]:
    heading = ("reliability of the first candidate", f"share that came true, {variant.replace('_', ' ')}")
    drawn = axes.frame(heading, "stated probability", axes.ticks)
    drawn.append(line(axes.x(0.0), axes.y(0.0), axes.x(1.0), axes.y(1.0), INK))
    for each in bins:
        low, high = exact_binomial_interval(round(each.found * each.n), each.n)
        at = axes.x(each.stated)
        drawn.append(line(at, axes.y(low), at, axes.y(high), BLUE, width=2))
        drawn.append(dot(at, axes.y(each.found), BLUE))
        drawn.append(text(at + 6, axes.y(each.found) + 13, str(each.n), size=10))
    return drawn
