"""The curves of a replay as a picture: one line for each policy, with its interval after each round."""

from collections.abc import Sequence
from itertools import pairwise

from inverse_design.benchmark.replay_rows import FOUND
from inverse_design.interface.drawing import BLUE, INK, ORANGE, PALE, dot, line, page, text
from surrogates.evaluation.rows import Row

_WIDTH, _HEIGHT, _LEFT, _RIGHT, _TOP, _BOTTOM = 760.0, 420.0, 60.0, 210.0, 56.0, 50.0
_COLOURS = (INK, "#999999", ORANGE, "#009E73", "#CC79A7", BLUE, "#56B4E9")  # Okabe and Ito
_APART = 15.0  # between names


def curves_svg(rows: Sequence[Row], *, title: str) -> str:
    """Draw which share of the best was found after each round.

    Args:
        rows: Of :func:`inverse_design.benchmark.replay_rows.replay_rows`.
        title: What was sought.

    Returns:
        The picture; each line ends at the name of its policy.
    """
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
