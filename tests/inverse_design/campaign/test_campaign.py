"""Rounds of ask and tell, as people do them, in both databases."""

import shutil
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
import torch
from strategies.campaigns import SETTINGS, TARGET, FirstPairs, measured, starting_screen

from inverse_design.campaign.campaign import Campaign
from inverse_design.campaign.settings import CampaignSettings
from inverse_design.campaign.store.protocol import open_store
from inverse_design.errors import IllegalMoveError, NothingToProposeError, PlanError, ResultsError, StoreError
from inverse_design.problem.target import ProfileTarget, ScalarTarget
from inverse_design.recommend.protocol import DecisionState, Recommendation
from surrogates.data.perturbation import Perturbation
from surrogates.errors import DataError, UnknownNameError


@pytest.fixture
def campaign(place: str) -> Campaign:
    return _create(place)


@pytest.fixture
def local(tmp_path: Path) -> Campaign:
    """Where the database does not matter."""
    return _create(str(tmp_path / "store.db"))


def _create(place: str, settings: CampaignSettings = SETTINGS) -> Campaign:
    return Campaign.create(
        starting_screen(), target=TARGET, settings=settings, store=open_store(place, create=True), actor="ann"
    )


class Stubborn:
    """Proposes what it is told to, whatever is known."""

    def __init__(self, *labels: str) -> None:
        self.table = pd.DataFrame({"perturbation": list(labels)})

    def recommend(
        self, state: DecisionState, count: int, *, pending: tuple[Perturbation, ...], seed: int
    ) -> Recommendation:
        del state, count, pending, seed
        return Recommendation(self.table, expected_gain=float("nan"))


class Interrupted:
    """Something happens to the campaign while it plans, the first time."""

    def __init__(self, campaign: Campaign, *, plans: FirstPairs, happens: list[str]) -> None:
        self.campaign, self.plans, self.happens, self.calls = campaign, plans, happens, 0

    def recommend(
        self, state: DecisionState, count: int, *, pending: tuple[Perturbation, ...], seed: int
    ) -> Recommendation:
        self.calls += 1
        plan = self.plans.recommend(state, count, pending=pending, seed=seed)
        if self.happens:
            labels = [self.happens.pop()]
            labels = list(plan.table["perturbation"][:1]) if labels == ["first"] else labels
            self.campaign.tell(measured(labels, self.campaign.readouts), allow_extra=True)
        return plan


def test_asking_twice_gives_the_same_round_until_all_is_told(campaign: Campaign) -> None:
    first = campaign.ask(4, FirstPairs())
    again = Campaign.open(campaign.store, "test", actor="bob").ask(7, FirstPairs())
    assert (first.fresh, again.fresh) == (True, False)
    pd.testing.assert_frame_equal(first.table, again.table, check_exact=True)
    assert list(first.table.columns[:3]) == ["campaign", "round", "perturbation"]
    names = list(first.table["perturbation"])
    campaign.tell(measured(names[:2], campaign.readouts))
    partly = campaign.ask(4, FirstPairs())
    assert partly.states == ("measured", "measured", "proposed", "proposed")
    assert (partly.round, partly.open) == (1, tuple(names[2:]))
    campaign.tell(measured(names[2:3], campaign.readouts).assign(status="failed"))
    campaign.withdraw(names[3:], reason="no reagent")
    second = campaign.ask(4, FirstPairs())
    assert (second.round, second.fresh) == (2, True)
    assert not {*names[:2]} & {*second.table["perturbation"]}
    assert campaign.batch(1).states == ("measured", "measured", "failed", "withdrawn")


def test_a_further_round_knows_what_is_pending(campaign: Campaign) -> None:
    first, second = campaign.ask(4, FirstPairs()), campaign.ask_more(4, FirstPairs())
    assert (second.round, second.fresh) == (2, True)
    assert not {*first.table["perturbation"]} & {*second.table["perturbation"]}
    campaign.tell(measured(list(second.table["perturbation"]), campaign.readouts))
    assert campaign.ask(4, FirstPairs()).round == 1  # it is still open


def test_results_pass_through_ordered(campaign: Campaign) -> None:
    names = list(campaign.ask(3, FirstPairs()).table["perturbation"])
    assert campaign.order() == tuple(names)
    assert campaign.order() == ()
    campaign.tell(measured(names, campaign.readouts))
    campaign.tell(measured(list(campaign.ask(3, FirstPairs()).table["perturbation"]), campaign.readouts))
    kinds = ["created", "asked", "ordered", "told", "asked", "ordered", "told"]
    assert list(campaign.history()["kind"]) == kinds
    assert list(campaign.history()["sequence"]) == list(range(1, 8))


@pytest.mark.parametrize(
    ("state", "move", "words"),
    [
        ("measured", "order", "measured to ordered: from measured it can go to nothing"),
        ("measured", "withdraw", "measured to withdrawn.*campaign retract"),
        ("failed", "withdraw", "failed to withdrawn.*another experiment"),
        ("withdrawn", "order", "withdrawn to ordered"),
        ("ordered", "order", "ordered to ordered: from ordered it can go to measured or failed or withdrawn"),
    ],
)
def test_illegal_moves_are_refused_with_the_reason(local: Campaign, state: str, move: str, words: str) -> None:
    (name,) = local.ask(1, FirstPairs()).table["perturbation"]
    result = measured([name], local.readouts)
    happen = {
        "ordered": lambda: local.order([name]),
        "measured": lambda: local.tell(result),
        "failed": lambda: local.tell(result.assign(status="failed")),
        "withdrawn": lambda: local.withdraw([name]),
    }
    happen[state]()
    before = local.history()
    with pytest.raises(IllegalMoveError, match=words):
        getattr(local, move)([name])
    pd.testing.assert_frame_equal(local.history(), before)


def test_what_was_never_asked_cannot_be_ordered(local: Campaign) -> None:
    with pytest.raises(DataError, match=r"'G00\+G01' was never asked for"):
        local.order(["G01+G00"])
    with pytest.raises(UnknownNameError, match=r"'G001'.*did you mean"):
        local.withdraw(["G001+G02"])


def test_telling_twice_changes_nothing(campaign: Campaign) -> None:
    names = list(campaign.ask(4, FirstPairs()).table["perturbation"])
    table = measured(names[:2], campaign.readouts)
    campaign.tell(table)
    before = campaign.history()
    for same in (table, table[::-1], table[table.columns[::-1]], table.drop(columns="replicate")):
        telling = campaign.tell(same)
        assert (telling.sequence, telling.already) == (None, 2)
        assert telling.words.startswith("already told")
    pd.testing.assert_frame_equal(campaign.history(), before)
    grown = campaign.tell(measured(names[:3], campaign.readouts))
    assert (grown.measured, grown.wells, grown.already) == ((names[2],), 1, 2)


def test_the_last_digits_of_a_number_make_no_other_well(local: Campaign) -> None:
    names = list(local.ask(2, FirstPairs()).table["perturbation"])
    table = measured(names, local.readouts)
    local.tell(table)
    assert local.tell(table.assign(r0=[float(f"{value:.10g}") for value in table["r0"]])).already == 2
    with pytest.raises(ResultsError, match="was told before"):
        local.tell(table.assign(r0=table["r0"] * (1 + 1e-6)))


def test_results_are_never_overwritten(local: Campaign) -> None:
    names = list(local.ask(2, FirstPairs()).table["perturbation"])
    local.tell(measured(names, local.readouts))
    other = measured(names[:1], local.readouts).assign(r1=0.25)
    with pytest.raises(ResultsError, match=r"line 2: .* was told before as .*, now as 0.25 \(event 4\)"):
        local.tell(other)
    assert local.tell(other.assign(replicate="2")).wells == 1
    with pytest.raises(ResultsError, match="now as failed"):
        local.tell(other.assign(replicate="2", status="failed"))


def test_extra_experiments_need_a_word(campaign: Campaign) -> None:
    table = measured(["G00+G01+G02", "G03"], campaign.readouts)
    with pytest.raises(ResultsError, match=r"2 perturbation.* never asked for: 'G00\+G01\+G02' \(line 2\), 'G03'"):
        campaign.tell(table)
    telling = campaign.tell(
        pd.concat([table, measured(["G03"], campaign.readouts, replicate="b")]), allow_extra=True
    )
    assert telling.extra == telling.measured == ("G00+G01+G02", "G03")
    assert campaign.tell(table).already == 2
    assert (campaign.status().extras, campaign.status().wells) == (2, 3)
    assert campaign.screen().row_of(Perturbation.parse("G00+G01+G02")) == 8


def test_a_failed_experiment_is_repeated_by_asking_again(local: Campaign) -> None:
    recommender = Stubborn("G00+G01")
    local.ask(1, recommender)
    result = measured(["G00+G01"], local.readouts)
    assert local.tell(result.assign(status="FAILED")).failed == ("G00+G01",)
    assert local.tell(result.assign(status="failed")).already == 1
    with pytest.raises(IllegalMoveError, match="failed to measured"):
        local.tell(result.assign(replicate="2"))
    assert local.ask(1, recommender).round == 2
    with pytest.raises(ResultsError, match=r"failed before, and is open again.*column 'round'"):
        local.tell(
            pd.concat([result.assign(status="failed"), measured(["G00+G01"], local.readouts, replicate="9")])
        )
    assert local.tell(result.assign(status="failed", round=2)).failed == ("G00+G01",)
    assert local.ask(1, recommender).round == 3
    assert local.tell(result.assign(round=3)).measured == ("G00+G01",)
    assert local.status().counts == {"proposed": 0, "ordered": 0, "measured": 1, "failed": 2, "withdrawn": 0}
    with pytest.raises(ResultsError, match=r"round 3 did not propose 'G00\+G02'"):
        local.tell(measured(["G00+G02"], local.readouts).assign(round=3))


def test_one_good_replicate_is_a_measurement(local: Campaign) -> None:
    (name,) = local.ask(1, FirstPairs()).table["perturbation"]
    wells = pd.concat([measured([name], local.readouts, replicate=each) for each in ("a", "b", "c")])
    wells["status"] = ["failed", "ok", "pending"]
    telling = local.tell(wells)
    assert (telling.measured, telling.failed, telling.wells, telling.pending) == ((name,), (), 2, 1)


@pytest.mark.parametrize("happens", [[], ["G00+G01+G02"]])
def test_a_copy_of_the_store_proposes_the_same(local: Campaign, tmp_path: Path, happens: list[str]) -> None:
    names = list(local.ask(3, FirstPairs()).table["perturbation"])
    local.tell(measured(names + happens, local.readouts), allow_extra=True)
    shutil.copyfile(tmp_path / "store.db", tmp_path / "copy.db")
    copied = Campaign.open(open_store(tmp_path / "copy.db"), "test", actor="someone else")
    preview = local.preview(4, FirstPairs()).table
    tables = [each.ask(4, FirstPairs()).table for each in (local, copied)]
    pd.testing.assert_frame_equal(*tables, check_exact=True)
    pd.testing.assert_frame_equal(tables[0].drop(columns=["campaign", "round"]), preview, check_exact=True)


def test_a_plan_outlives_results_of_other_experiments(campaign: Campaign) -> None:
    recommender = Interrupted(campaign, plans=FirstPairs(), happens=["G00+G01+G02"])
    assert campaign.ask(4, recommender).fresh
    assert recommender.calls == 1


def test_a_plan_is_made_again_when_its_own_experiment_is_told(campaign: Campaign) -> None:
    recommender = Interrupted(campaign, plans=FirstPairs(), happens=["first"])
    batch = campaign.ask(4, recommender)
    assert recommender.calls == 2
    assert set(batch.states) == {"proposed"}
    assert campaign.status().counts["measured"] == 1


def test_a_campaign_that_never_rests_is_asked_again_later(local: Campaign) -> None:
    with pytest.raises(StoreError, match="changed by others 5 times"):
        local.ask(4, Interrupted(local, plans=FirstPairs(), happens=["first"] * 9))


def test_plans_that_cannot_be_done_are_refused(local: Campaign) -> None:
    with pytest.raises(PlanError, match=r"outside the vocabulary.*'G99'"):
        local.ask(2, Stubborn("G00+G99"))
    with pytest.raises(PlanError, match="proposes 3 experiments, and 2 were asked for"):
        local.ask(2, Stubborn("G00+G01", "G00+G02", "G00+G03"))
    with pytest.raises(PlanError, match=r"'G00\+G01' twice"):
        local.ask(2, Stubborn("G00+G01", "G01+G00"))
    with pytest.raises(PlanError, match="ask for at least 1"):
        local.ask(0, FirstPairs())
    with pytest.raises(NothingToProposeError, match="no candidate that is left"):
        local.ask(2, Stubborn())
    local.ask(1, Stubborn("G00+G01"))
    with pytest.raises(PlanError, match="result is still to come"):
        local.ask_more(1, Stubborn("G01+G00"))


def test_the_budget_bounds_a_round_and_then_ends_the_campaign(tmp_path: Path) -> None:
    settings = replace(SETTINGS, budget=100.0, cost_per_well=5.0, controls=2, replicates=2, costs={"G00": 1000.0})
    local = _create(str(tmp_path / "store.db"), settings)
    batch = local.ask(4, Stubborn("G00+G01", "G01+G02", "G02+G03"))  # 10 of controls, 10 each
    assert list(batch.table["perturbation"]) == ["G01+G02", "G02+G03"]
    assert batch.notes == ("1 proposed experiments were left out: 100 of the budget are left",)
    local.tell(measured(["G01+G02", "G02+G03"], local.readouts))
    assert local.status().spent == 30
    with pytest.raises(NothingToProposeError, match=r"70 of the budget are left, and a round .* costs 1,020"):
        local.ask(4, Stubborn("G00+G05"))


def test_status_knows_the_best_and_advice_weighs_the_round(local: Campaign) -> None:
    start = starting_screen()
    names = list(local.ask(2, FirstPairs()).table["perturbation"])
    best = float(start.effects[:, 0].min()) - 3.0
    local.tell(measured(names, local.readouts).assign(r0=[best, 0.0]))
    status = local.status()
    assert (status.best, status.utility) == (names[0], pytest.approx(-best))
    assert status.gain == pytest.approx(3.0)
    plan = local.preview(2, FirstPairs())
    advice = local.advice(plan)
    assert (advice.stop, advice.expected_gain) == (True, pytest.approx(1 / 10))
    assert "3% of the gain so far, 3 (the least that is worth a round is 5%)" in advice.reason
    assert not local.advice(replace(plan, expected_gain=0.2)).stop


def test_values_out_of_scale_are_flagged_and_taken(local: Campaign) -> None:
    (name,) = local.ask(1, FirstPairs()).table["perturbation"]
    telling = local.tell(measured([name], local.readouts).assign(r1=1e4))
    assert len(telling.flagged) == 1
    assert f"'{name}', 'r1': 10000 is" in telling.flagged[0]
    assert local.status().flagged == telling.flagged
    assert "out of scale" in local.history()["what"].iloc[-1]


def test_a_campaign_keeps_its_target_and_model(tmp_path: Path) -> None:
    target = ProfileTarget(
        "state", ("r0", "r2"), torch.tensor([0.1, -1 / 3]).double(), weights=torch.tensor([1.0, 2])
    )
    store = open_store(tmp_path / "store.db", create=True)
    Campaign.create(starting_screen(), target=target, settings=SETTINGS, store=store, actor="ann")
    opened = Campaign.open(store, "test", actor="bob")
    assert isinstance(opened.target, ProfileTarget)
    assert opened.target.values.tolist() == target.values.tolist()
    assert opened.settings == SETTINGS

    class Keeping(FirstPairs):
        def recommend(
            self, state: DecisionState, count: int, *, pending: tuple[Perturbation, ...], seed: int
        ) -> Recommendation:
            return replace(super().recommend(state, count, pending=pending, seed=seed), model=b"fitted")

    opened.ask(2, Keeping())
    with store.reading("test") as log:
        asked = log.newest("asked")
        assert asked is not None
        assert log.artefact(str(asked.artefact)) == b"fitted"


def test_what_a_campaign_cannot_begin_with_is_refused(tmp_path: Path) -> None:
    store, screen = open_store(tmp_path / "store.db", create=True), starting_screen()
    with pytest.raises(UnknownNameError, match="unknown readout 'r9'"):
        Campaign.create(screen, target=ScalarTarget("r9", "maximise"), settings=SETTINGS, store=store, actor="ann")
    with pytest.raises(UnknownNameError, match=r"'G0'.*did you mean"):
        Campaign.create(
            screen, target=TARGET, settings=replace(SETTINGS, exclude=("G0",)), store=store, actor="ann"
        )
    two = replace(screen, contexts=("a",) * 4 + ("b",) * 4)
    with pytest.raises(DataError, match="one context, and the screen holds 'a', 'b'"):
        Campaign.create(two, target=TARGET, settings=SETTINGS, store=store, actor="ann")
    assert store.names() == ()
    Campaign.create(screen, target=TARGET, settings=SETTINGS, store=store, actor="ann")
    with pytest.raises(StoreError, match="has a campaign 'test' already"):
        Campaign.create(screen, target=TARGET, settings=SETTINGS, store=store, actor="ann")
    with pytest.raises(UnknownNameError, match="unknown campaign 'tset': did you mean 'test'"):
        Campaign.open(store, "tset", actor="ann")
    with pytest.raises(DataError, match="no round yet"):
        Campaign.open(store, "test", actor="ann").batch()


def test_a_filled_plate_map_is_told_with_its_controls(local: Campaign) -> None:
    (name,) = local.ask(1, FirstPairs()).table["perturbation"]
    controls = pd.DataFrame({"perturbation": "control", "replicate": ["1", "2", "3"], "role": "control"})
    controls = controls.assign(**{name: [3.0, 3.01, 3.02] for name in local.readouts})
    telling = local.tell(pd.concat([measured([name], local.readouts), controls], ignore_index=True))
    assert (telling.measured, telling.wells, telling.controls) == ((name,), 1, 3)
    assert telling.words.endswith("1 experiment measured, 0 failed, 3 control wells left out")
    assert telling.flagged[0].startswith("controls, 'r0': the mean 3.01 of 3 wells")
    assert local.status().flagged == telling.flagged
    nothing = local.tell(controls)
    assert (nothing.sequence, nothing.words.split(",")[0]) == (None, "no well of an experiment has a result")
