import math
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from strategies.screens import pairs_of, planted_screen

from inverse_design.acquisition.acquisition import ACQUISITIONS
from inverse_design.acquisition.batch import BatchRules
from inverse_design.acquisition.joint_gain import LIKELY
from inverse_design.errors import NothingToProposeError
from inverse_design.problem.constraints import Constraints
from inverse_design.problem.likelihood import TargetLikelihood
from inverse_design.problem.problem import ask, candidate_space
from inverse_design.problem.target import ProfileTarget, ScalarTarget, Target
from inverse_design.recommend.gains import Gains
from inverse_design.recommend.protocol import COLUMNS, DecisionState
from surrogates.data.catalogue import open_dataset
from surrogates.data.perturbation import Perturbation
from surrogates.data.screen import Screen
from surrogates.errors import UnknownNameError
from surrogates.models.baselines import Additive, ScaledAdditive
from surrogates.models.wrappers.calibrated import Calibrated

RULES, FREE = BatchRules(most_per_gene=3, random_share=0.25), BatchRules()
RAISE = ScalarTarget("r1", "maximise")


@cache
def small_screen() -> Screen:
    return planted_screen(alone=range(8), together=pairs_of(8, 10), readouts=4)


@cache
def singles() -> Screen:
    return planted_screen(alone=range(6), together=[], readouts=4)


def state() -> ProfileTarget:
    """What a pair would do that was not measured: 0.8 times the sum of its parts."""
    screen = small_screen()
    assert "G04+G07" not in screen.labels
    wanted = 0.8 * (screen.effects[4] + screen.effects[7])
    return ProfileTarget("wanted", screen.readouts, wanted)


def shown(
    screen: Screen, target: Target, rules: BatchRules = FREE, order: str = "2", **more: Any
) -> DecisionState:
    return DecisionState(screen, target, candidate_space(screen, order, None), len(screen), rules=rules, **more)


def gains(acquisition: str = "expected_improvement", **more: Any) -> Gains:
    return Gains(acquisition, ScaledAdditive(), **{"draws": 128, **more})


@pytest.mark.parametrize("target", [state(), RAISE], ids=["state", "readout"])
def test_a_plan_keeps_the_rules_and_is_the_same_again(target: Target) -> None:
    screen = small_screen()
    known = shown(screen, target, RULES)
    pending = (Perturbation.parse("G00+G01"), Perturbation.parse("G03+G05"))
    plan = gains().recommend(known, 8, pending=pending, seed=3)
    again = gains().recommend(known, 8, pending=pending, seed=3)
    pd.testing.assert_frame_equal(plan.table, again.table)
    assert (plan.expected_gain, plan.model) == (again.expected_gain, again.model)
    assert tuple(plan.table.columns[: len(COLUMNS)]) == COLUMNS
    assert len(plan.table) == 8
    assert not set(plan.table["perturbation"]) & {*screen.labels, *(each.label for each in pending)}
    genes = [gene for label in plan.table["perturbation"] for gene in label.split("+")]
    assert max(map(genes.count, genes)) <= 3
    drawn = plan.table["chosen"] == "random"
    assert drawn.tolist() == [False] * 6 + [True] * 2
    assert (plan.table["log_probability"].isna() == ~drawn).all()
    assert (plan.table["lower"] <= plan.table["upper"]).all()
    # What is pending takes its part; without it no batch gains less than its best member.
    assert 0 < plan.expected_gain <= plan.table["expected_gain"].sum()
    alone = gains().recommend(known, 8, pending=(), seed=3)
    assert alone.expected_gain >= alone.table["expected_gain"].max() * (1 - 1e-9)


def test_the_pair_that_makes_the_target_comes_first() -> None:
    plan = gains().recommend(shown(small_screen(), state()), 3, pending=(), seed=0)
    assert plan.table["perturbation"].iloc[0] == "G04+G07"
    assert plan.table["predicted"].iloc[0] == plan.table["predicted"].min()


def test_singles_alone_are_enough_to_begin_and_the_plan_says_what_it_lacks() -> None:
    screen = singles()
    target = ProfileTarget("sum", screen.readouts, screen.effects[1] + screen.effects[4])
    plan = Gains(surrogate=Additive()).recommend(shown(screen, target), 4, pending=(), seed=1)
    best = plan.table["expected_gain"].idxmax()
    assert plan.table.loc[best, "perturbation"] == "G01+G04"
    assert (plan.table["lower"] <= plan.table["upper"]).all()
    for said in ("no held-out combination", "borrowed from public screens", "0 rounds could be replayed"):
        assert any(said in note for note in plan.notes), said
    assert math.isfinite(plan.expected_gain)


@pytest.mark.parametrize("acquisition", ACQUISITIONS.names())
def test_every_acquisition_recommends(acquisition: str) -> None:
    plan = gains(acquisition).recommend(shown(singles(), RAISE), 4, pending=(), seed=0)
    assert len(plan.table) == 4


@pytest.mark.parametrize("standard_error", [None, 0.3])
def test_the_joint_improvement_of_botorch_chooses_what_our_own_does(standard_error: float | None) -> None:
    screen = planted_screen(alone=range(8), together=pairs_of(8, 10), readouts=4, standard_error=standard_error)
    pending = (Perturbation.parse("G04+G07"),)
    own, botorch = (
        gains(name, draws=1024).recommend(shown(screen, RAISE), 3, pending=pending, seed=0).table
        for name in ("expected_improvement", "log_improvement")
    )
    assert {*own["perturbation"]} == {*botorch["perturbation"]}


@pytest.mark.parametrize("order", ["3", "4", "both"])
def test_every_order_plans(order: str) -> None:
    screen = planted_screen(alone=range(6), together=pairs_of(6, 8), readouts=4)
    allowed = {1, 2} if order == "both" else {int(order)}
    plan = gains().recommend(shown(screen, RAISE, order=order), 3, pending=(), seed=0)
    labels = plan.table["perturbation"]
    assert {label.count("+") + 1 for label in labels} <= allowed
    assert (plan.table["expected_gain"] >= 0).all()
    assert math.isfinite(plan.expected_gain)
    assert any("were searched by a bound" in note for note in plan.notes) == (order in {"3", "4"})


def test_a_list_and_the_space_of_the_same_candidates_give_the_same_batch() -> None:
    known = shown(small_screen(), state(), RULES)
    listed = replace(known, candidates=known.open())
    one, other = (gains().recommend(each, 6, pending=(), seed=2) for each in (known, listed))
    pd.testing.assert_frame_equal(one.table, other.table, rtol=1e-9)


def test_candidates_of_a_list_need_no_single_effects() -> None:
    whole = small_screen()
    lacking = whole.rows([row for row, label in enumerate(whole.labels) if label != "G02"])
    pairs = lacking.vocabulary.batch([Perturbation.parse(label) for label in ("G02+G04", "G05+G07")])
    known = DecisionState(lacking, RAISE, pairs, len(lacking))
    table = gains().recommend(known, 3, pending=(), seed=0).table
    assert sorted(table["perturbation"]) == ["G02+G04", "G05+G07"]
    assert dict(zip(table["perturbation"], table["novelty"], strict=True))["G02+G04"] == "double, 1 of 2 seen"


def test_an_unknown_gain_names_the_nearest() -> None:
    with pytest.raises(UnknownNameError, match="upper_bound"):
        gains("uper_bound").recommend(shown(singles(), RAISE), 4, pending=(), seed=0)


def test_nothing_is_left_when_everything_is_pending_or_excluded() -> None:
    screen = planted_screen(alone=range(3), together=[(0, 1)], readouts=4)
    waiting = (Perturbation.parse("G00+G02"), Perturbation.parse("G01+G02"))
    with pytest.raises(NothingToProposeError):
        Gains(surrogate=Additive(), draws=16).recommend(shown(screen, RAISE), 2, pending=waiting, seed=0)
    one = Gains(surrogate=Additive(), draws=16).recommend(shown(screen, RAISE), 5, pending=waiting[:1], seed=0)
    assert one.table["perturbation"].tolist() == ["G01+G02"]


def test_incompatible_pairs_are_not_proposed() -> None:
    screen = planted_screen(alone=range(3), together=[(0, 1)], readouts=4)
    apart = candidate_space(screen, "2", Constraints(incompatible=(("G00", "G02"),)))
    known = replace(shown(screen, RAISE), candidates=apart)
    plan = Gains(surrogate=Additive(), draws=16).recommend(known, 5, pending=(), seed=0)
    assert plan.table["perturbation"].tolist() == ["G01+G02"]


def test_without_hope_the_batch_is_what_most_probably_made_the_target() -> None:
    screen = small_screen()
    reached = ProfileTarget("reached", screen.readouts, screen.effects[-1])  # nothing comes nearer than it is
    pending = (Perturbation.parse("G04+G07"),)
    plan = gains().recommend(shown(screen, reached), 4, pending=pending, seed=0)
    assert plan.expected_gain == 0
    assert any("most probably made the target" in note for note in plan.notes)
    fitted = Calibrated(ScaledAdditive()).fit(screen, seed=0)
    space = candidate_space(screen, "2", None)
    every = space.take(torch.arange(space.size))
    every = every.rows(torch.nonzero(space.holds(every)).flatten())
    likelihood = TargetLikelihood(reached.on(screen.readouts), torch.zeros(len(screen.vocabulary)).double())
    order = likelihood.utility(fitted, every).mean.argsort(descending=True)
    labels = [fitted.vocabulary.perturbation(genes).label for genes in every.genes[order]]
    assert plan.table["perturbation"].tolist() == [label for label in labels if label != "G04+G07"][:4]


def test_where_hope_ends_the_batch_goes_on_with_what_most_probably_made_the_target() -> None:
    screen = small_screen()
    plan = Gains(surrogate=ScaledAdditive()).recommend(shown(screen, state()), 18, pending=(), seed=0)
    (note,) = (note for note in plan.notes if "the rest of the batch is what most probably made" in note)
    promising = int(note.partition(" ")[0])
    assert 0 < promising < 17
    fitted = Calibrated(ScaledAdditive()).fit(screen, seed=0)
    likelihood = TargetLikelihood(state().on(screen.readouts), torch.zeros(len(screen.vocabulary)).double())
    batch = screen.vocabulary.batch([Perturbation.parse(label) for label in plan.table["perturbation"]])
    worth = likelihood.utility(fitted, batch).mean.tolist()
    assert worth[promising:] == sorted(worth[promising:], reverse=True)
    chances = plan.table["probability"].tolist()
    assert min(chances[:promising]) >= LIKELY > max(chances[promising:])
    assert plan.table["perturbation"].nunique() == 18


@pytest.mark.slow
@pytest.mark.real_data
def test_a_held_out_double_is_asked_for_first_on_real_data(real_data: Callable[[str], Path]) -> None:
    real_data("norman2019_expr")
    truth = "CBFA2T3+FEV"  # whose distance to the prediction of another pair is smaller
    question = ask(open_dataset("norman2019_expr").with_readouts(range(0, 2000, 4)), truth)
    known = shown(question.training, question.target)
    plan = gains(listed=20, draws=16).recommend(known, 8, pending=(), seed=0)
    assert plan.table["perturbation"][0] == truth


def test_pending_experiments_lower_what_a_batch_adds() -> None:
    known, waiting = shown(small_screen(), state()), (Perturbation.parse("G04+G07"),)
    alone, beside = (gains().recommend(known, 1, pending=each, seed=0) for each in ((), waiting))
    assert beside.expected_gain < alone.expected_gain
    assert torch.tensor(beside.expected_gain) >= 0
