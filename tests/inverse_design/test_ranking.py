import math
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path

import pandas as pd
import pytest
import torch
from strategies.screens import pairs_of, planted_screen

from inverse_design.errors import NothingToProposeError
from inverse_design.problem.likelihood import TargetLikelihood
from inverse_design.problem.target import ProfileTarget, ScalarTarget
from inverse_design.ranking import MEASURED, Ranking, rank
from surrogates.data.catalogue import open_dataset
from surrogates.data.screen import Screen
from surrogates.errors import DataError, UnknownNameError
from surrogates.models.baselines import ScaledAdditive

PAIRS = ["G04+G07", "G06+G07", "G00+G01", "G02+G04", "G03+G06"]


@cache
def screen() -> Screen:
    return planted_screen(alone=range(8), together=pairs_of(8, 10), readouts=4, noise=0.3, standard_error=0.1)


def state() -> ProfileTarget:
    """What the first of the pairs would do."""
    return ProfileTarget("wanted", screen().readouts, 0.8 * (screen().effects[4] + screen().effects[7]))


@cache
def ranked() -> Ranking:
    listed = [*PAIRS, screen().labels[-1]]
    return rank(
        screen(), state(), listed, costs=[4.0, 1.0, 1.0, 2.0, 1.0, 1.0], budget=5.0, surrogate=ScaledAdditive()
    )


def test_a_list_is_ranked_by_gain_per_cost_and_its_intervals_hold_the_gain() -> None:
    table = ranked().table
    assert table["rank"].tolist() == list(range(1, 7))
    assert set(table["perturbation"]) == {*PAIRS, screen().labels[-1]}
    assert table["gain_per_cost"].is_monotonic_decreasing
    assert (table["gain_per_cost"] == table["expected_gain"] / table["cost"]).all()
    new = table[table["novelty"] != MEASURED]
    assert (new["gain_lower"] <= new["expected_gain"]).all()
    assert (new["expected_gain"] <= new["gain_upper"]).all()
    assert table.loc[table["expected_gain"].idxmax(), "perturbation"] == "G04+G07"
    assert table["probability"].between(0, 1).all()


def test_without_gains_what_most_probably_made_the_target_comes_first() -> None:
    reached = ProfileTarget("reached", screen().readouts, screen().effects[-1])
    plain = replace(screen(), standard_errors=None)  # its own measurement is as near as can be
    found = rank(plain, reached, PAIRS, surrogate=ScaledAdditive())
    assert (found.table["expected_gain"] == 0).all()
    assert any("how probably each made the target" in note for note in found.notes)
    batch = plain.vocabulary.batch([plain.vocabulary.parse(label) for label in found.table["perturbation"]])
    likelihood = TargetLikelihood(reached.on(plain.readouts), torch.zeros(len(plain.vocabulary)).double())
    density = likelihood.utility(found.fitted, batch).mean
    assert density.tolist() == sorted(density.tolist(), reverse=True)
    assert found.table["distance"].tolist() != sorted(found.table["distance"])  # another order than by distance


def test_a_state_in_another_unit_is_told_before_the_list() -> None:
    tiny = replace(state(), values=state().values / 1000)
    said = "warning: target 'wanted' does not seem to be a change against the control in the unit of the screen"
    assert any(note.startswith(said) for note in rank(screen(), tiny, PAIRS, surrogate=ScaledAdditive()).notes)
    assert not any(note.startswith(said) for note in ranked().notes)


@pytest.mark.slow
@pytest.mark.real_data
def test_the_held_out_double_of_a_real_screen_is_first_of_its_neighbours(
    real_data: Callable[[str], Path],
) -> None:
    real_data("norman2019_expr")
    near = ["AHR+KLF1", "CBFA2T3+FEV", "FEV+ISL2", "FEV+MAP7D1"]
    every_fourth = open_dataset("norman2019_expr").with_readouts(range(0, 2000, 4))
    found = rank(every_fourth, "AHR+FEV", [*near, "AHR+FEV"], surrogate=ScaledAdditive())
    assert found.table["perturbation"][0] == "AHR+FEV"
    assert found.table["distance"].idxmin() > 0  # others are predicted nearer


def test_what_was_measured_is_told_and_gains_nothing() -> None:
    row = ranked().table.iloc[-1]
    assert row["perturbation"] == screen().labels[-1]
    assert row["expected_gain"] == row["probability"] == 0.0
    assert "measured already" in row["reason"]
    assert not row["chosen"]
    effects = screen().effects[-1]
    assert row["distance"] == pytest.approx(float((state().values - effects).square().mean().sqrt()))
    assert any("1 of 6 experiments were measured already" in note for note in ranked().notes)


def test_the_chosen_set_is_within_the_budget_and_gains_as_much_as_its_best_member() -> None:
    table, bought = ranked().table, ranked().affordable
    assert bought is not None
    chosen = table[table["chosen"]]
    assert sorted(bought.numbers.tolist()) == chosen.index.tolist()
    assert bought.cost == chosen["cost"].sum() <= 5.0
    best = table.loc[table["cost"] <= 5.0, "expected_gain"].max()
    assert bought.expected >= best * (1 - 1e-9)
    assert 0.5 <= bought.share <= 1.0


def test_gains_that_are_rare_and_tiny_spend_the_budget_whatever_the_seed() -> None:
    """The best measured is so near that no draw of a thousand would improve on it."""
    near = ProfileTarget("near", screen().readouts, screen().effects[-1] + 0.02)
    every = [f"G0{i}+G0{j}" for i in range(8) for j in range(i + 1, 8) if f"G0{i}+G0{j}" not in screen().labels]
    found = [
        rank(screen(), near, listed, costs=costs, budget=30.0, surrogate=ScaledAdditive(), seed=0)
        for listed, costs in (
            (every, [2.0 + i % 3 for i in range(len(every))]),
            (every[::-1], [2.0 + i % 3 for i in range(len(every))][::-1]),
        )
    ]
    for one in found:
        bought, table = one.affordable, one.table
        assert bought is not None
        assert 0 < table["expected_gain"].max() < 1e-3
        left = table[~table["chosen"].astype(bool)]
        assert (left["expected_gain"] <= bought.expected * (1 + 1e-9)).all()
        assert (left.loc[left["expected_gain"] > 0, "cost"] > 30.0 - bought.cost).all()
        assert any("likely to gain anything" in note for note in one.notes)
    chosen = [set(one.table.loc[one.table["chosen"].astype(bool), "perturbation"]) for one in found]
    assert chosen[0] == chosen[1]


def test_the_order_of_genes_and_of_rows_does_not_matter() -> None:
    turned = ["+".join(reversed(label.split("+"))) for label in reversed([*PAIRS, screen().labels[-1]])]
    costs = [1.0, 1.0, 2.0, 1.0, 1.0, 4.0]
    again = rank(screen(), state(), turned, costs=costs, budget=5.0, surrogate=ScaledAdditive())
    columns = ["perturbation", "distance", "lower", "upper", "expected_gain", "gain_upper", "novelty", "reason"]
    pd.testing.assert_frame_equal(again.table[columns], ranked().table[columns])


def test_readouts_to_raise_and_conditions_of_the_screen_are_targets() -> None:
    up = rank(screen(), ScalarTarget("r1", "maximise"), PAIRS[:2], surrogate=ScaledAdditive())
    assert up.table["expected_gain"].is_monotonic_decreasing
    assert "projection" in up.table
    assert not {"cost", "gain_per_cost", "chosen"} & set(up.table)
    assert up.affordable is None
    known = screen().labels[-1]
    held_out = rank(screen(), known, [known, PAIRS[1]], surrogate=ScaledAdditive())
    assert MEASURED not in held_out.table["novelty"].tolist()


@pytest.mark.parametrize(
    ("arguments", "error", "said"),
    [
        ({"experiments": []}, DataError, "empty"),
        ({"experiments": ["G04+G07", "G04+G99"]}, UnknownNameError, "experiment 2, 'G04.G99': unknown gene"),
        ({"experiments": ["G04+G07", "G06+G07", "G07+G04"]}, DataError, "rows 1 and 3"),
        ({"experiments": ["G04+G07", ""]}, DataError, "control"),
        ({"experiments": PAIRS[:2], "costs": [1.0]}, DataError, "1 costs beside 2"),
        ({"experiments": PAIRS[:2], "costs": [1.0, math.nan]}, DataError, "experiment 2"),
        ({"experiments": PAIRS[:2], "costs": [1.0, -2.0]}, DataError, "-2.0"),
        ({"experiments": PAIRS[:2], "costs": [3.0, 2.0], "budget": 1.0}, NothingToProposeError, "costs 2"),
        ({"experiments": ["G00", "G01"]}, NothingToProposeError, "measured already"),
    ],
)
def test_lists_that_cannot_be_ranked(arguments: dict[str, object], error: type[Exception], said: str) -> None:
    with pytest.raises(error, match=said):
        rank(screen(), state(), **arguments)  # refused before anything is fitted
