"""The ranking as a picture: a dot and an interval for each candidate, as plain SVG."""

import math
from collections.abc import Sequence
from html import escape
from pathlib import Path

import pandas as pd

from inverse_design.interface.console import printable
from inverse_design.interface.numbers import decimals_for, fixed
from inverse_design.interface.outputs import write_whole

_BLUE, _ORANGE, _INK, _PALE = "#0072B2", "#D55E00", "#222222", "#DDDDDD"  # Okabe and Ito
_ROW, _TOP, _LEFT, _WIDTH, _RIGHT = 22.0, 56.0, 200.0, 760.0, 30.0


def ranking_svg(table: pd.DataFrame, *, title: str, level: float, marked: str = "") -> str:
    """Draw the utility of each candidate with its interval.

    Args:
        table: Of a proposal.
        title: What the candidates are for.
        level: Nominal probability of the intervals.
        marked: The candidate to mark: by a square, a colour and a word.

    Returns:
        The picture.
    """
    low, high = _range(table)
    ticks = [low + (high - low) * step / 4 for step in range(5)]
    height = _TOP + _ROW * len(table) + 44
    decimals = decimals_for(ticks)

    def across(value: float) -> float:
        return _LEFT + (value - low) / (high - low) * (_WIDTH - _LEFT - _RIGHT)

    body = [
        _text(12.0, 24.0, title, size=15),
        _text(12.0, 42.0, f"dot: expected utility; line: {level:.0%} interval"),
    ]
    for tick in ticks:
        at = across(tick)
        body.append(_line(at, _TOP - 6, at, height - 38, _PALE))
        body.append(_text(at, height - 20, fixed(tick, decimals), anchor="middle"))
    places = table[["lower", "utility", "upper"]].to_numpy(float).tolist()
    for number, (name, row) in enumerate(zip(table["perturbation"], places, strict=True)):
        body += _candidate(name, [across(value) for value in row], _TOP + _ROW * number + 8, marked)
    body.append(_text((_LEFT + _WIDTH) / 2, height - 4, "utility (larger is better)", anchor="middle"))
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH:g} {height:g}" width="{_WIDTH:g}"'
        f' height="{height:g}" font-family="sans-serif" role="img"><title>{escape(printable(title))}</title>'
        f'<rect width="100%" height="100%" fill="white"/>\n' + "\n".join(body) + "\n</svg>\n"
    )


def write_svg(text: str, path: Path) -> None:
    """Write a picture whole or not at all.

    Args:
        text: The picture.
        path: Where.
    """
    write_whole(path, lambda temporary: temporary.write_text(text, encoding="utf-8"))


def _candidate(name: str, places: Sequence[float], y: float, marked: str) -> list[str]:
    lower, middle, upper = places
    truth = name == marked
    colour = _ORANGE if truth else _BLUE
    sign = (
        f'<rect x="{middle - 5:.1f}" y="{y - 5:.1f}" width="10" height="10" fill="{colour}"/>'
        if truth
        else f'<circle cx="{middle:.1f}" cy="{y:.1f}" r="4.5" fill="{colour}"/>'
    )
    label = f"{name} (truth)" if truth else name
    return [_text(_LEFT - 12, y + 4, label, anchor="end"), _line(lower, y, upper, y, colour, width=2), sign]


def _range(table: pd.DataFrame) -> tuple[float, float]:
    values: Sequence[float] = [value for value in (*table["lower"], *table["upper"]) if math.isfinite(value)]
    low, high = min(values, default=0.0), max(values, default=1.0)
    return (low, high) if high > low else (low - 0.5, high + 0.5)


def _text(x: float, y: float, text: str, *, anchor: str = "start", size: int = 12) -> str:
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" font-size="{size}" text-anchor="{anchor}" fill="{_INK}">'
        f"{escape(printable(text))}</text>"
    )


def _line(x1: float, y1: float, x2: float, y2: float, colour: str, *, width: int = 1) -> str:
    return (
        f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" stroke="{colour}" stroke-width="{width}"/>'
    )
