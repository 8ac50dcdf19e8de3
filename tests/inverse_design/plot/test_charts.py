"""Interactive figures hold the numbers that the still ones draw, and names that nothing takes for markup."""

import json
from dataclasses import replace

import numpy as np
import pytest
from matplotlib.axes import Axes
from strategies.proposals import HOSTILE, QUOTED, small_proposal

from inverse_design.plot import candidate_map, ranking, readouts
from inverse_design.plot.charts import numbers, plane_chart, ranking_chart, readouts_chart
from inverse_design.plot.predicted import compared, plane_of
from inverse_design.plot.style import Chart


def points(trace: Chart) -> list[tuple[float, float]]:
    return list(zip(trace["x"], trace["y"], strict=True))


def drawn(axes: Axes, sign: str) -> list[tuple[float, float]]:
    line = next(each for each in axes.lines if each.get_marker() == sign)
    return list(zip(line.get_xdata(), line.get_ydata(), strict=True))


def test_the_ranking_has_the_same_values_intervals_and_probabilities() -> None:
    found = small_proposal()
    chart, axes = ranking_chart(found, top=5), ranking(found, top=5)
    *spans, dots, bars = chart["data"]
    wide = [line for line in axes.lines if line.get_linewidth() == 2 and len(line.get_xdata()) == 2]
    assert np.allclose([each["x"] for each in spans], [line.get_xdata() for line in wide], rtol=1e-5)
    assert np.allclose(dots["x"], found.table["distance"][:5], rtol=1e-5)
    assert np.allclose(bars["x"], 100 * found.table["probability"][:5], rtol=1e-5)
    assert all("made this state with" in each for each in dots["hovertext"])


def test_readouts_and_the_map_have_the_same_points() -> None:
    found = small_proposal()
    chart = readouts_chart(compared(found, "readouts", rank=1, named=2, measured=None))
    marks = [each for trace in chart["data"][1:] for each in points(trace)]
    assert np.allclose(sorted(marks), sorted(drawn(readouts(found, named=2), ".")), rtol=1e-5)
    plane, axes = plane_chart(plane_of(found), found), candidate_map(found)
    for trace, sign in zip(plane["data"], (".", "o", "P", "*"), strict=True):
        assert np.allclose(points(trace), drawn(axes, sign), rtol=1e-5, atol=1e-9)


def test_names_are_no_markup() -> None:
    found = small_proposal()
    told = replace(found, table=found.table.assign(perturbation=[HOSTILE, QUOTED] * 4))
    said = json.dumps(ranking_chart(told), ensure_ascii=False)
    assert "<script" not in said
    assert "<img" not in said
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in said


def test_what_is_not_known_is_null() -> None:
    unknown = small_proposal().table.assign(probability=np.nan, lower=np.nan, upper=np.nan)
    chart = ranking_chart(replace(small_proposal(), table=unknown))
    assert "xaxis2" not in chart["layout"]
    json.dumps(chart, allow_nan=False)
    assert numbers([1.0, np.nan, np.inf]) == [pytest.approx(1.0), None, None]
