"""Figures of a proposal and of a campaign."""

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure
from strategies.campaigns import TARGET, starting_screen
from strategies.proposals import named_screen, small_proposal

from inverse_design.plot import candidate_map, held_out, pair_distances, ranking, readouts
from inverse_design.plot.candidates import hover_titles
from inverse_design.plot.style import BLUE, GREY, ORANGE
from inverse_design.proposal import propose
from surrogates.errors import DataError


def test_the_ranking_has_a_line_for_each_candidate_and_marks_the_truth() -> None:
    found = small_proposal()
    truth = str(found.table["perturbation"].iloc[2])
    axes = ranking(found, top=5, truth=truth)
    labels = [each.get_text() for each in axes.get_yticklabels()]
    assert labels == [f"{each} (truth)" if each == truth else each for each in found.table["perturbation"][:5]]
    dots = [line for line in axes.lines if line.get_gid()]
    inside = found.table["in_set"].tolist()
    wanted = [ORANGE if place == 2 else BLUE if inside[place] else GREY for place in range(5)]
    assert [line.get_color() for line in dots] == wanted
    assert [float(line.get_xdata()[0]) for line in dots] == found.table["distance"].tolist()[:5]
    spans = [tuple(line.get_xdata()) for line in axes.lines if line.get_linewidth() == 2]
    assert spans == list(zip(found.table["lower"][:5], found.table["upper"][:5], strict=True))
    assert "smaller is better" in axes.get_xlabel()
    assert axes.get_ylim()[0] > axes.get_ylim()[1]  # the first stands on top


def test_probabilities_are_bars_beside_the_ranking() -> None:
    found = small_proposal()
    (beside,) = ranking(found, top=4).child_axes
    assert [bar.get_width() for bar in beside.patches] == found.table["probability"].tolist()[:4]


def test_readouts_stand_at_what_is_wanted_and_predicted() -> None:
    found = small_proposal()
    axes = readouts(found, named=2)
    cloud = next(line for line in axes.lines if line.get_marker() == ".")
    assert np.array_equal(cloud.get_xdata(), found.target.on(found.fitted.readouts).values.numpy())
    marks = {line.get_color(): line for line in axes.lines if line.get_gid()}
    why = found.explanations[0]
    named = [each.readout for each in (*why.fixes[:2], *why.breaks[:2])]
    assert [text.get_text() for text in axes.texts] == named
    assert set(marks) <= {BLUE, ORANGE}


def test_measured_effects_are_rings() -> None:
    screen, found = named_screen(), small_proposal()
    measured = pd.Series(screen.effects[-1].numpy(), index=list(screen.readouts))
    axes = readouts(found, measured=measured)
    rings = next(line for line in axes.lines if line.get_label() == "measured")
    assert np.array_equal(rings.get_xdata(), rings.get_ydata())  # the target is that measurement


def test_pairs_have_the_distance_of_their_predicted_mean() -> None:
    found = small_proposal()
    axes = pair_distances(found, entries=4)
    grid = axes.images[0].get_array()
    assert grid.shape == (4, 4)
    assert np.array_equal(grid, grid.T)
    aligned = found.target.on(found.fitted.readouts)
    label = str(found.table["perturbation"].iloc[0])
    vocabulary = found.space.vocabulary
    mean = found.fitted.predict(vocabulary.batch([vocabulary.parse(label)])).mean[0, aligned.columns]
    assert grid[0, 1] == pytest.approx(float((mean - aligned.values).square().mean().sqrt()))
    assert axes.texts[0].get_text() == "1"


def test_the_map_has_candidates_target_and_control() -> None:
    axes = candidate_map(small_proposal(), named=3)
    names = [text.get_text() for text in axes.get_legend().get_texts()]
    assert names == ["candidates", "listed", "control", "target"]
    assert [text.get_text() for text in axes.texts] == ["1", "2", "3"]


def test_held_out_truths_are_counted() -> None:
    found = small_proposal()
    assert found.fitted.promise is not None
    assert f"n = {len(found.fitted.promise.parts)} doubles" in held_out(found).get_title(loc="left")


def test_figures_are_drawn_where_they_are_told() -> None:
    figure = Figure()
    given = figure.subplots(1, 5)
    drawn = [draw(small_proposal(), ax=ax) for draw, ax in zip(
        (ranking, readouts, pair_distances, candidate_map, held_out), given, strict=True
    )]  # fmt: skip
    assert all(one is other for one, other in zip(drawn, given, strict=True))


def test_what_has_no_state_is_not_compared() -> None:
    found = propose(starting_screen(), TARGET, surrogate="additive", top=3)
    assert ranking(found).get_xlabel().startswith("utility (larger is better)")
    for draw in (readouts, pair_distances, candidate_map):
        with pytest.raises(DataError, match=r"is no state, and .* compares with one"):
            draw(found)
    with pytest.raises(DataError, match="no combination could be held out"):
        held_out(found)


def test_no_such_row() -> None:
    with pytest.raises(DataError, match="rank 9 is not within the 8 rows"):
        readouts(small_proposal(), rank=9)


def test_hover_titles_speak_of_all_rows() -> None:
    titles = hover_titles(small_proposal())
    assert titles["candidate-0"].startswith(f"1. {small_proposal().table['perturbation'].iloc[0]}: distance ")
    assert len(titles) == 16
