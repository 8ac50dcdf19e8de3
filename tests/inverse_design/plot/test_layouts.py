"""Every figure: words stand clear of each other and inside of the picture, and equal numbers give equal files."""

from collections.abc import Callable, Iterator
from functools import cache, partial
from itertools import combinations, pairwise
from pathlib import Path

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.text import Text
from matplotlib.transforms import Bbox
from scipy.stats import norm
from strategies.campaigns import SETTINGS, TARGET, FirstPairs, measured, starting_screen
from strategies.proposals import small_proposal

from inverse_design import plot
from inverse_design.campaign.campaign import Campaign
from inverse_design.campaign.store.protocol import open_store
from inverse_design.plot.style import BLUE, ORANGE, figure_of, themed
from inverse_design.validate.judged import Bin
from surrogates.errors import DataError
from surrogates.evaluation.intervals import Row
from surrogates.evaluation.metrics import exact_binomial_interval

BINS = (Bin(0.0, 0.1, 0.05, 0.25, 4), Bin(0.9, 1.0, 0.97, 0.9, 20))


def curve(metric: str, name: str, start: float) -> list[Row]:
    return [
        Row("replay", "g", name, "", f"round {at}", metric, start + at / 10, start, start + at / 5, 3, "share")
        for at in range(3)
    ]


ROWS = [row for metric in ("found", "regret") for name, at in (("ours", 0.4), ("theirs", 0.41)) for row in
        curve(metric, name, at)]  # fmt: skip


@pytest.fixture(scope="module")
def campaign(tmp_path_factory: pytest.TempPathFactory) -> Campaign:
    store = open_store(tmp_path_factory.mktemp("figures") / "store.db", create=True)
    found = Campaign.create(starting_screen(), target=TARGET, settings=SETTINGS, store=store)
    found.tell(measured(found.ask(recommender=FirstPairs()).labels, found.readouts))
    return found


DRAWN: dict[str, Callable[..., Axes]] = {
    name: partial(getattr(plot, name), small_proposal())
    for name in ("ranking", "readouts", "volcano", "pair_distances", "candidate_map", "held_out")
} | {
    "replay_curves": partial(plot.replay_curves, ROWS),
    "regret": partial(plot.replay_curves, ROWS, metric="regret"),
    "reliability_curve": partial(plot.reliability_curve, BINS),
}


def words_of(axes: Axes) -> Iterator[tuple[Text, Bbox]]:
    """Titles, labels and ticks that stand around axes, with their boxes."""
    around = [axes.title, axes._left_title, axes.xaxis.label, axes.yaxis.label]  # type: ignore[attr-defined]
    ticks = [tick.label1 for axis in (axes.xaxis, axes.yaxis) for tick in axis._update_ticks()]  # those in sight
    for each in (*around, *ticks):
        if each.get_text() and each.get_visible():
            yield each, each.get_window_extent()


def check_clear(axes: Axes) -> None:
    figure = figure_of(axes)
    with themed():
        figure.draw_without_rendering()
    for one in figure.axes:
        inside, found = one.get_window_extent().padded(-2), list(words_of(one))
        for word, box in found:
            assert not box.overlaps(inside), word.get_text()
        for (word, box), (other, at) in combinations(found, 2):
            assert not box.padded(-1).overlaps(at.padded(-1)), (word.get_text(), other.get_text())
        within = [(text, Text.get_window_extent(text)) for text in one.texts]
        for (word, box), (other, at) in combinations(within, 2):
            assert not box.padded(-1).overlaps(at.padded(-1)), (word.get_text(), other.get_text())
        for word, box in [*found, *within]:
            assert box.x0 >= figure.bbox.x0 - 1, word.get_text()
            assert box.x1 <= figure.bbox.x1 + 1, word.get_text()
            assert box.y0 >= figure.bbox.y0 - 1, word.get_text()
            assert box.y1 <= figure.bbox.y1 + 1, word.get_text()


@pytest.mark.parametrize("name", DRAWN)
def test_words_stand_clear_of_each_other_and_of_the_marks(name: str) -> None:
    check_clear(DRAWN[name]())


def test_words_stand_clear_in_figures_of_a_campaign(campaign: Campaign) -> None:
    for draw in (plot.campaign_curve, plot.campaign_coverage):
        check_clear(draw(campaign))


@pytest.mark.parametrize(
    ("name", "ending", "start"),
    [("ranking", ".svg", b"<?xml"), ("candidate_map", ".png", b"\x89PNG"), ("volcano", ".pdf", b"%PDF")],
)
def test_equal_numbers_give_equal_files(name: str, ending: str, start: bytes, tmp_path: Path) -> None:
    files = [tmp_path / f"{number}{ending}" for number in range(2)]
    for file in files:
        plot.write_figure(figure_of(DRAWN[name]()), file)
    first, second = (file.read_bytes() for file in files)
    assert first.startswith(start)
    assert first == second


def test_a_volcano_has_what_a_normal_law_says_of_each_readout() -> None:
    found = small_proposal()
    axes = plot.volcano(found, named=2)
    cloud = next(line for line in axes.lines if line.get_marker() == ".")
    vocabulary = found.space.vocabulary
    posterior = found.fitted.predict(
        vocabulary.batch([vocabulary.parse(str(found.table["perturbation"].iloc[0]))])
    )
    columns = found.target.on(found.fitted.readouts).columns
    mean, deviation = posterior.mean[0, columns].numpy(), posterior.variance[0, columns].sqrt().numpy()
    assert np.array_equal(cloud.get_xdata(), mean)
    expected = [-np.log10(2 * norm.cdf(-abs(at) / wide)) for at, wide in zip(mean, deviation, strict=True)]
    assert np.allclose(cloud.get_ydata(), expected)
    why = found.explanations[0]
    assert [text.get_text() for text in axes.texts] == [each.readout for each in (*why.fixes[:2], *why.breaks[:2])]
    marks = {(line.get_color(), line.get_marker()) for line in axes.lines if line.get_gid()}
    assert marks <= {(BLUE, "o"), (ORANGE, "s")}  # told apart without colours, too


def test_reliability_has_its_numbers_and_exact_intervals() -> None:
    axes = plot.reliability_curve(BINS)
    dots = [(line.get_xdata()[0], line.get_ydata()[0]) for line in axes.lines if line.get_marker() == "o"]
    assert dots == [(0.05, 0.25), (0.97, 0.9)]
    spans = [
        tuple(line.get_ydata()) for line in axes.lines if line.get_linewidth() == 1.5 and line.get_marker() != "o"
    ]
    assert spans == [exact_binomial_interval(1, 4), exact_binomial_interval(18, 20)]
    assert axes.get_title(loc="left") == "n = 24"


def test_regret_is_drawn_from_zero_and_names_its_policies() -> None:
    axes = plot.replay_curves(ROWS, metric="regret")
    assert axes.get_ylim()[0] == 0
    assert {text.get_text() for text in axes.texts} == {"ours", "theirs"}
    assert axes.get_title(loc="left").startswith("utility below the best of all: mean over 3 seeds")
    with pytest.raises(DataError, match="no curve 'coverage' among the rows; curves are found, regret"):
        plot.replay_curves(ROWS, metric="coverage")


@cache
def ticks_of(name: str) -> list[float]:
    axes = DRAWN[name]()
    low, high = sorted(axes.get_xlim())
    return [float(tick) for tick in axes.get_xticks() if low <= tick <= high]


@pytest.mark.parametrize("name", ["ranking", "readouts", "volcano", "candidate_map"])
def test_ticks_are_round(name: str) -> None:
    ticks = ticks_of(name)
    assert len(ticks) >= 3
    step = min(b - a for a, b in pairwise(ticks))
    digits = step / 10 ** np.floor(np.log10(step))
    assert min(abs(digits - each) for each in (1, 2, 2.5, 5, 10)) < 1e-6
