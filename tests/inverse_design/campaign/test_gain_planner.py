import math
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path

import pandas as pd
import pytest
import torch
from strategies.screens import pairs_of, planted_screen

from inverse_design.acquisition.joint_gain import LIKELY
from inverse_design.campaign.gain_planner import GainPlanner, require_plannable
from inverse_design.campaign.planner import PLAN_COLUMNS, Planner
from inverse_design.campaign.settings import CampaignSettings
from inverse_design.errors import NothingToProposeError, SpaceError
from inverse_design.problem.likelihood import TargetLikelihood
from inverse_design.problem.problem import ask, candidate_space
from inverse_design.problem.target import ProfileTarget, ScalarTarget, Target
from surrogates.data.catalogue import open_dataset
from surrogates.data.perturbation import Perturbation
from surrogates.data.screen import Screen
from surrogates.errors import UnknownNameError
from surrogates.models.additive import Additive, ScaledAdditive
from surrogates.models.wrappers.calibrated import Calibrated

SETTINGS = CampaignSettings("test", "the target", max_per_gene=3, random_share=0.25)
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


def planner(target: Target, **changes: object) -> GainPlanner:
    return GainPlanner(replace(SETTINGS, **changes), target, ScaledAdditive(), draws=128)


@pytest.mark.parametrize("target", [state(), RAISE], ids=["state", "readout"])
def test_a_plan_keeps_the_rules_and_is_the_same_again(target: Target) -> None:
    screen, chooser = small_screen(), planner(target)
    assert isinstance(chooser, Planner)
    pending = (Perturbation.parse("G00+G01"), Perturbation.parse("G03+G05"))
    plan = chooser.plan(screen, 8, pending=pending, seed=3)
    again = chooser.plan(screen, 8, pending=pending, seed=3)
    pd.testing.assert_frame_equal(plan.table, again.table)
    assert (plan.expected_gain, plan.model) == (again.expected_gain, again.model)
    assert tuple(plan.table.columns[: len(PLAN_COLUMNS)]) == PLAN_COLUMNS
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
    alone = chooser.plan(screen, 8, pending=(), seed=3)
    assert alone.expected_gain >= alone.table["expected_gain"].max() * (1 - 1e-9)


def test_the_pair_that_makes_the_target_comes_first() -> None:
    plan = planner(state(), random_share=0.0).plan(small_screen(), 3, pending=(), seed=0)
    assert plan.table["perturbation"].iloc[0] == "G04+G07"
    assert plan.table["predicted"].iloc[0] == plan.table["predicted"].min()


def test_singles_alone_are_enough_to_begin_and_the_plan_says_what_it_lacks() -> None:
    screen = singles()
    target = ProfileTarget("sum", screen.readouts, screen.effects[1] + screen.effects[4])
    plan = GainPlanner(replace(SETTINGS, random_share=0.0), target, Additive()).plan(screen, 4, pending=(), seed=1)
    best = plan.table["expected_gain"].idxmax()
    assert plan.table.loc[best, "perturbation"] == "G01+G04"
    assert (plan.table["lower"] <= plan.table["upper"]).all()
    for said in ("no held-out combination", "borrowed from public screens", "0 rounds could be replayed"):
        assert any(said in note for note in plan.notes), said
    assert math.isfinite(plan.expected_gain)


@pytest.mark.parametrize("gain", ["thompson", "upper_bound", "exploration", "optimum", "log_expected_improvement"])
def test_every_gain_plans(gain: str) -> None:
    plan = planner(RAISE, gain=gain).plan(singles(), 4, pending=(), seed=0)
    assert len(plan.table) == 4


@pytest.mark.parametrize("order", ["1", "3", "4", "both"])
def test_every_order_plans(order: str) -> None:
    screen = planted_screen(alone=range(6), together=pairs_of(6, 8), readouts=4)
    chooser = planner(RAISE, order=order, random_share=0.0)
    allowed = {1, 2} if order == "both" else {int(order)}
    if order == "1":
        with pytest.raises(NothingToProposeError):
            require_plannable(chooser.settings, screen)
        return
    plan = chooser.plan(screen, 3, pending=(), seed=0)
    labels = plan.table["perturbation"]
    assert {label.count("+") + 1 for label in labels} <= allowed
    assert (plan.table["expected_gain"] >= 0).all()
    assert math.isfinite(plan.expected_gain)
    assert any("were searched by a bound" in note for note in plan.notes) == (order in {"3", "4"})


def test_what_cannot_be_planned_is_refused_before_it_begins() -> None:
    with pytest.raises(UnknownNameError, match="scaled_additive"):
        require_plannable(replace(SETTINGS, surrogate="scaled_aditive"), singles())
    with pytest.raises(UnknownNameError, match="expected_improvement"):
        require_plannable(replace(SETTINGS, gain="expected_improvment"), singles())
    with pytest.raises(SpaceError):
        require_plannable(replace(SETTINGS, order="6"), planted_screen(alone=range(4), together=[], readouts=4))
    require_plannable(replace(SETTINGS, order="6"), singles())


def test_an_unknown_gain_names_the_nearest() -> None:
    with pytest.raises(UnknownNameError, match="upper_bound"):
        planner(RAISE, gain="uper_bound").plan(singles(), 4, pending=(), seed=0)


def test_nothing_is_left_when_everything_is_pending_or_excluded() -> None:
    screen = planted_screen(alone=range(3), together=[(0, 1)], readouts=4)
    waiting = (Perturbation.parse("G00+G02"), Perturbation.parse("G01+G02"))
    with pytest.raises(NothingToProposeError):
        GainPlanner(SETTINGS, RAISE, Additive(), draws=16).plan(screen, 2, pending=waiting, seed=0)
    one = GainPlanner(SETTINGS, RAISE, Additive(), draws=16).plan(screen, 5, pending=waiting[:1], seed=0)
    assert one.table["perturbation"].tolist() == ["G01+G02"]


def test_incompatible_pairs_are_not_proposed() -> None:
    apart = replace(SETTINGS, incompatible=(("G00", "G02"),))
    screen = planted_screen(alone=range(3), together=[(0, 1)], readouts=4)
    plan = GainPlanner(apart, RAISE, Additive(), draws=16).plan(screen, 5, pending=(), seed=0)
    assert plan.table["perturbation"].tolist() == ["G01+G02"]


def test_without_hope_the_batch_is_what_most_probably_made_the_target() -> None:
    screen = small_screen()
    reached = ProfileTarget("reached", screen.readouts, screen.effects[-1])  # nothing comes nearer than it is
    chooser = planner(reached, random_share=0.0, max_per_gene=None)
    pending = (Perturbation.parse("G04+G07"),)
    plan = chooser.plan(screen, 4, pending=pending, seed=0)
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
    settings = replace(SETTINGS, random_share=0.0, max_per_gene=None)
    plan = GainPlanner(settings, state(), ScaledAdditive()).plan(screen, 18, pending=(), seed=0)
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
    settings = replace(SETTINGS, random_share=0.0, max_per_gene=None)
    chooser = GainPlanner(settings, question.target, ScaledAdditive(), listed=20, draws=16)
    plan = chooser.plan(question.training, 8, pending=(), seed=0)
    assert plan.table["perturbation"][0] == truth


def test_pending_experiments_lower_what_a_batch_adds() -> None:
    chooser = planner(state(), random_share=0.0)
    alone = chooser.plan(small_screen(), 1, pending=(), seed=0)
    beside = chooser.plan(small_screen(), 1, pending=(Perturbation.parse("G04+G07"),), seed=0)
    assert beside.expected_gain < alone.expected_gain
    assert torch.tensor(beside.expected_gain) >= 0
