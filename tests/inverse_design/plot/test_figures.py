from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree as ET

import matplotlib as mpl
import pytest
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from strategies.judged import cards

from inverse_design.cli.verbs.calibration import reliability_of
from inverse_design.plot import calibration_figure, curves_figure, scorecard_figure, svg_of, write_figure
from inverse_design.plot.style import BLUE, INK, ORANGE, new_axes
from inverse_design.validate.calibration_rows import calibration_rows
from inverse_design.validate.replay import FOUND
from surrogates.evaluation.intervals import Row


def score(model: str, value: float, low: float, high: float, novelty: str = "single, unseen") -> Row:
    metric = "mse_ratio_to_no_change"
    return Row("forward", "mine", model, novelty, "all_readouts", metric, value, low, high, 20, "ratio")


SCORES = [
    score("no_change", 1.0, 1.0, 1.0),
    score("good", 0.5, 0.25, 0.75),
    score("bad", 1.5, 1.1, 2.0),
    score("open", 0.9, 0.8, 1.1),
    score("<far>", 800.0, 700.0, 900.0),
]


def share(model: str, number: int, value: float) -> Row:
    return Row("replay", "game", model, "", f"round {number}", FOUND, value, value - 0.1, value + 0.1, 3, "share")


def names_of(axes: Axes) -> list[str]:
    return [label.get_text() for label in axes.get_yticklabels()]


def signs_of(axes: Axes) -> list[tuple[str, str, str, float]]:
    """Colour, marker, filling and place along x of each value, from the top of the picture down."""
    marks = [each for each in axes.lines if each.get_marker() not in {"None", "", None}]
    return [
        (
            str(each.get_color()),
            str(each.get_marker()),
            str(each.get_markerfacecolor()),
            float(each.get_xdata()[0]),
        )
        for each in marks
    ]


def test_the_scorecard_shows_the_best_first_and_what_cannot_be_told_as_a_ring() -> None:
    (axes,) = scorecard_figure(SCORES, title="a < b").axes
    assert names_of(axes) == ["good", "open", "bad", "<far>"]
    assert axes.get_title(loc="left") == "single, unseen (n = 20), relative to no_change"
    found = signs_of(axes)
    assert [(colour, marker, filled) for colour, marker, filled, _ in found] == [
        (BLUE, "o", BLUE), (INK, "o", "white"), (ORANGE, "s", ORANGE), (ORANGE, "s", ORANGE)
    ]  # fmt: skip
    places = [at for *_, at in found]
    assert places == sorted(places)
    assert places[-1] <= axes.get_xlim()[1]  # what is far off stands at the edge, its number beside it
    assert [text.get_text() for text in axes.texts] == ["0.500", "0.900", "1.500", "800"]


def test_each_novelty_class_is_a_panel_of_the_scorecard() -> None:
    more = [replace(row, novelty="double, 2 of 2 seen") for row in SCORES[:3]]
    first, second = scorecard_figure([*SCORES, *more], title="t").axes
    assert (names_of(first), names_of(second)) == (["good", "open", "bad", "<far>"], ["good", "bad"])


def test_curves_are_named_at_their_ends_and_no_name_stands_on_another() -> None:
    starts = {"ours": 0.41, "theirs": 0.4, "a": 0.1}
    rows = [share(name, number, at + number / 10) for name, at in starts.items() for number in range(3)]
    (axes,) = curves_figure(rows, title="t").axes
    heights = {text.get_text(): text.xyann[1] for text in axes.texts}  # type: ignore[attr-defined]
    assert sorted(heights, key=heights.__getitem__) == ["a", "theirs", "ours"]
    assert heights["ours"] - heights["theirs"] >= 0.05
    lines = [line for line in axes.lines if len(line.get_xdata()) == 3]
    assert list(lines[2].get_ydata()) == pytest.approx([0.1, 0.2, 0.3])


def calibration(rows: list[Row], *, bins: bool = False) -> list[Axes]:
    found = {"all_readouts": reliability_of(cards()[0])} if bins else {}
    figure = calibration_figure(rows, found, title="Calibration of <mine> & yours")
    return [axes for axes in figure.axes if axes.get_visible()]


def test_the_card_has_a_column_for_each_class() -> None:
    shown = calibration(calibration_rows(cards(), dataset="d", model="m", seed=0), bins=True)
    titles = [axes.get_title(loc="left").splitlines() for axes in shown]
    assert ["double, 2 of 2 seen (n = 16)", "coverage of single readouts"] in titles
    assert ["single, unseen (n = 10)", "coverage of single readouts"] in titles
    assert titles[-1] == ["reliability of the first candidate", "share that came true, all readouts"]
    dots = [colour for axes in shown for colour, *_ in signs_of(axes) if colour == BLUE]
    # One for each class and level that it could be calibrated at, and one for each bin.
    assert len(dots) == sum(len(card.behind) for card in cards()) + len(reliability_of(cards()[0]))


def test_more_coverage_stands_higher() -> None:
    rows = calibration_rows(cards()[:1], dataset="d", model="m", seed=0)

    def height_of(coverage: float) -> float:
        some = [
            replace(row, value=coverage, low=coverage, high=coverage) if row.metric == "coverage_90_all" else row
            for row in rows
        ]
        axes = calibration(some)[0]
        dot = next(line for line in axes.lines if line.get_marker() == "o" and 0.88 < line.get_xdata()[0] < 0.9)
        return float(axes.transData.transform((0.9, dot.get_ydata()[0]))[1])

    assert height_of(1.0) > height_of(0.99)


def test_nothing_to_draw_is_an_empty_picture(tmp_path: Path) -> None:
    for number, figure in enumerate((calibration_figure([], {}, title="t"), scorecard_figure([], title="t"))):
        write_figure(figure, tmp_path / f"{number}.svg")
        assert ET.fromstring((tmp_path / f"{number}.svg").read_text()).tag.endswith("svg")  # noqa: S314


@pytest.mark.parametrize(("ending", "start"), [(".svg", b"<?xml"), (".png", b"\x89PNG"), (".pdf", b"%PDF")])
def test_the_same_numbers_give_the_same_file(tmp_path: Path, ending: str, start: bytes) -> None:
    def written(name: str) -> bytes:
        path = tmp_path / f"{name}{ending}"
        write_figure(scorecard_figure(SCORES, title="a < b"), path)
        return path.read_bytes()

    first, second = written("one"), written("two")
    assert first == second
    assert first.startswith(start)


def test_words_stay_words_and_the_caller_s_settings_stay(tmp_path: Path) -> None:
    before = dict(mpl.rcParams)
    figure: Figure = scorecard_figure([*SCORES, score("$C$+D", 2.0, 1.0, 3.0)], title="a < b")
    write_figure(figure, tmp_path / "a.svg")
    assert dict(mpl.rcParams) == before
    root = ET.fromstring((tmp_path / "a.svg").read_text())  # noqa: S314
    texts = {each.text for each in root.iter() if each.tag.endswith("text")}
    assert {"a < b", "<far>", "$C$+D"} <= texts


def test_a_figure_of_a_page_has_ids_of_its_own_and_hover_titles() -> None:
    axes = new_axes(2.0, 2.0)
    axes.plot([1.0], [2.0], "o", gid="candidate-0")
    axes.set_title('a <g id="b" href="#c"> url(#d)')
    text = svg_of(axes.figure, name="one", titles={"candidate-0": "<b>A & B"})
    root = ET.fromstring(text)  # noqa: S314
    ids = {each.get("id") for each in root.iter() if each.get("id")}
    assert ids
    assert all(str(each).startswith("one-") for each in ids)
    assert "<title>&lt;b&gt;A &amp; B</title>" in text
    assert 'a <g id="b" href="#c"> url(#d)' in "".join(root.itertext())
    links = {each.get("{http://www.w3.org/1999/xlink}href") for each in root.iter()} - {None}
    assert links <= {f"#{each}" for each in ids}
