"""The ranking, the scorecard and the curves of a replay as plain SVG."""

import math
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import pandas as pd

from inverse_design.cli.grid import decimals_for, fixed
from inverse_design.plot.drawing import BLUE, INK, ORANGE, PALE, dot, line, page, square, text
from inverse_design.validate.forward import RATIO, verdict
from inverse_design.validate.replay_rows import FOUND
from surrogates.data.io.whole_file import write_whole
from surrogates.evaluation.rows import Row

_ROW, _TOP, _LEFT, _WIDTH, _RIGHT = 22.0, 56.0, 200.0, 760.0, 30.0
_RATIO_TICKS = (1 / 4, 1 / 2, 1.0, 2.0, 4.0)
_NUMBER = 70.0  # room for the value behind each line


def ranking_svg(
    table: pd.DataFrame, *, title: str, level: float, marked: str = "", nothing: float = math.nan
) -> str:
    """Draw what an experiment with each candidate will show, with its interval."""
    bounded = "distance" if "distance" in table else "utility"
    table = table.fillna({"lower": table[bounded], "upper": table[bounded]})
    low, high = _range([*table["lower"], *table["upper"], nothing])
    ticks = [low + (high - low) * step / 4 for step in range(5)]
    height = _TOP + _ROW * len(table) + 44
    decimals = decimals_for(ticks)
    across_all = f"; line across: doing nothing, {fixed(nothing, decimals)}" if math.isfinite(nothing) else ""

    def across(value: float) -> float:
        return _LEFT + (value - low) / (high - low) * (_WIDTH - _LEFT - _RIGHT)

    body = [
        text(12.0, 24.0, title, size=15),
        text(12.0, 42.0, f"dot: expected {bounded}; line: {100 * level:.3g} % interval{across_all}"),
    ]
    for tick in ticks:
        at = across(tick)
        body.append(line(at, _TOP - 6, at, height - 38, PALE))
        body.append(text(at, height - 20, fixed(tick, decimals), anchor="middle"))
    if math.isfinite(nothing):
        body.append(line(across(nothing), _TOP - 6, across(nothing), height - 38, INK))
    places = table[["lower", bounded, "upper"]].to_numpy(float).tolist()
    for number, (name, row) in enumerate(zip(table["perturbation"], places, strict=True)):
        body += _candidate(name, [across(value) for value in row], _TOP + _ROW * number + 8, marked)
    better = "smaller" if bounded == "distance" else "larger"
    body.append(text((_LEFT + _WIDTH) / 2, height - 4, f"{bounded} ({better} is better)", anchor="middle"))
    return page(body, _WIDTH, height, title)


def scorecard_svg(rows: Sequence[Row], *, title: str) -> str:
    """Draw the squared error of each model relative to the reference of each novelty class, best first."""
    panels = _panels(rows)
    height = _TOP + _ROW * sum(len(panel) + 2 for panel in panels) + 24
    body = [
        text(12.0, 24.0, title, size=15),
        text(12.0, 42.0, "line: 95 % interval; circle: better, square: worse, ring: cannot tell"),
    ]
    for ratio in _RATIO_TICKS:
        at = _across_ratio(ratio)
        body.append(line(at, _TOP - 2, at, height - 38, INK if ratio == 1 else PALE))
        body.append(text(at, height - 20, f"{ratio:g}", anchor="middle"))
    y = _TOP + 10
    for panel in panels:
        reference = panel[0].metric.removeprefix(RATIO)
        body.append(text(12.0, y + 4, f"{panel[0].novelty} (n = {panel[0].n}), relative to {reference}", size=13))
        for number, row in enumerate(panel, 1):
            body += _ratio_line(row, y + _ROW * number)
        y += _ROW * (len(panel) + 2)
    body.append(
        text((_LEFT + _WIDTH) / 2, height - 4, "ratio of squared errors (smaller is better)", anchor="middle")
    )
    return page(body, _WIDTH, height, title)


def write_svg(text: str, path: Path) -> None:
    """Write a picture whole or not at all."""
    write_whole(path, lambda temporary: temporary.write_text(text, encoding="utf-8"))


def _panels(rows: Sequence[Row]) -> list[list[Row]]:
    """Take the first ratio of each novelty class, without the model that it refers to, the smallest first."""
    panels = []
    for novelty in dict.fromkeys(row.novelty for row in rows):
        ratios = [row for row in rows if row.novelty == novelty and row.metric.startswith(RATIO)]
        shown = [
            row
            for row in ratios
            if row.metric == ratios[0].metric != RATIO + row.model and math.isfinite(row.value)
        ]
        if shown:
            panels.append(sorted(shown, key=lambda row: row.value))
    return panels


def _ratio_line(row: Row, y: float) -> list[str]:
    found = verdict(row)
    lower, middle, upper = map(_across_ratio, (row.low, row.value, row.high))
    colour = {"better": BLUE, "worse": ORANGE}.get(found, INK)
    sign = (
        square(middle, y, colour)
        if found == "worse"
        else f'<circle cx="{middle:.1f}" cy="{y:.1f}" r="4.5" stroke="{colour}" stroke-width="2"'
        f' fill="{colour if found == "better" else "white"}"/>'
    )
    return [
        text(_LEFT - 12, y + 4, row.model, anchor="end"),
        line(lower, y, upper, y, colour, width=2),
        sign,
        text(_WIDTH - 6, y + 4, fixed(row.value, 3 if row.value < 100 else 0), anchor="end"),
    ]


def _across_ratio(ratio: float) -> float:
    first, last = math.log(_RATIO_TICKS[0]), math.log(_RATIO_TICKS[-1])
    place = (math.log(ratio) - first) / (last - first) if ratio > 0 else 0.0
    return _LEFT + min(1.0, max(0.0, place)) * (_WIDTH - _LEFT - _NUMBER)


def _candidate(name: str, places: Sequence[float], y: float, marked: str) -> list[str]:
    lower, middle, upper = places
    truth = name == marked
    colour = ORANGE if truth else BLUE
    sign = square(middle, y, colour) if truth else dot(middle, y, colour)
    label = f"{name} (truth)" if truth else name
    return [text(_LEFT - 12, y + 4, label, anchor="end"), line(lower, y, upper, y, colour, width=2), sign]


def _range(numbers: Sequence[float]) -> tuple[float, float]:
    values = [value for value in numbers if math.isfinite(value)]
    low, high = min(values, default=0.0), max(values, default=1.0)
    return (low, high) if high > low else (low - 0.5, high + 0.5)


_WIDTH, _HEIGHT, _LEFT, _RIGHT, _TOP, _BOTTOM = 760.0, 420.0, 60.0, 210.0, 56.0, 50.0
_COLOURS = (INK, "#999999", ORANGE, "#009E73", "#CC79A7", BLUE, "#56B4E9")  # Okabe and Ito
_APART = 15.0  # between names


def curves_svg(rows: Sequence[Row], *, title: str) -> str:
    """Draw which share of the best was found after each round."""
    found = [row for row in rows if row.metric == FOUND]
    names = tuple(dict.fromkeys(row.model for row in found))
    curves = {name: [row for row in found if row.model == name] for name in names}
    rounds = len(curves[names[0]])
    body = [
        text(12.0, 24.0, title, size=15),
        text(12.0, 42.0, "mean over seeds; bars: 95 % interval over seeds and genes"),
    ]
    for share in (0.0, 0.25, 0.5, 0.75, 1.0):
        body.append(line(_LEFT, _up(share), _WIDTH - _RIGHT, _up(share), PALE))
        body.append(text(_LEFT - 8, _up(share) + 4, f"{share:g}", anchor="end"))
    body += [
        text(_across(number, rounds), _HEIGHT - _BOTTOM + 20, str(number), anchor="middle")
        for number in range(rounds)
    ]
    body.append(text((_LEFT + _WIDTH - _RIGHT) / 2, _HEIGHT - 10, "round (0: random start)", anchor="middle"))
    places = _label_places({name: _up(curve[-1].value) for name, curve in curves.items()})
    for number, (name, curve) in enumerate(curves.items()):
        colour = _COLOURS[number % len(_COLOURS)]
        body += _curve(curve, colour)
        body.append(line(_WIDTH - _RIGHT + 6, _up(curve[-1].value), _WIDTH - _RIGHT + 20, places[name], colour))
        body.append(text(_WIDTH - _RIGHT + 24, places[name] + 4, name))
    return page(body, _WIDTH, _HEIGHT, title)


def _curve(curve: Sequence[Row], colour: str) -> list[str]:
    points = [(_across(number, len(curve)), _up(row.value)) for number, row in enumerate(curve)]
    body = [line(*start, *end, colour, width=2) for start, end in pairwise(points)]
    for (x, y), row in zip(points, curve, strict=True):
        body += [line(x, _up(row.low), x, _up(row.high), colour), dot(x, y, colour)]
    return body


def _label_places(ends: dict[str, float]) -> dict[str, float]:
    """Push names apart so that none stands on another, from the lowest line up."""
    places: dict[str, float] = {}
    last = _HEIGHT - _BOTTOM + _APART
    for name in sorted(ends, key=lambda each: ends[each], reverse=True):
        last = min(ends[name], last - _APART)
        places[name] = last
    return places


def _across(number: int, rounds: int) -> float:
    return _LEFT + (_WIDTH - _RIGHT - _LEFT) * number / max(1, rounds - 1)


def _up(share: float) -> float:
    return _HEIGHT - _BOTTOM - (_HEIGHT - _BOTTOM - _TOP) * share
