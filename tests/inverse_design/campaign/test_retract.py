"""Results are taken back and corrected: the campaign then stands as if the old values had never been recorded."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import cache
from itertools import count
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from strategies.campaigns import SETTINGS, TARGET, FirstPairs, measured, starting_screen

from inverse_design.campaign.campaign import Campaign
from inverse_design.campaign.results import results_of
from inverse_design.campaign.store.events import OPEN_STATES, Block, Ordered, Retracted, Told
from inverse_design.campaign.store.protocol import Store, memory_store, open_store
from inverse_design.campaign.store.sql import SqlStore
from inverse_design.errors import ResultsError
from surrogates.errors import DataError, UnknownNameError


def _begun(place: str) -> Campaign:
    store = open_store(place, create=True)
    return Campaign.create(starting_screen(), target=TARGET, settings=SETTINGS, store=store, actor="ann")


@pytest.fixture
def campaign(place: str) -> Campaign:
    return _begun(place)


_NUMBERS = count()


@cache
def _shared() -> Store:
    return memory_store()


def _another() -> Campaign:
    """Begin a campaign where the database does not matter; making one takes longer than all else."""
    chosen = replace(SETTINGS, name=f"test {next(_NUMBERS)}")
    return Campaign.create(starting_screen(), target=TARGET, settings=chosen, store=_shared(), actor="ann")


@pytest.fixture
def local() -> Campaign:
    return _another()


def _verify(campaign: Campaign) -> None:
    assert isinstance(campaign.store, SqlStore)
    campaign.store.verify(campaign.name)


def _same_knowledge(one: Campaign, other: Campaign) -> None:
    first, second = one.screen(), other.screen()
    assert first.labels == second.labels
    assert torch.equal(first.effects, second.effects)
    assert (first.standard_errors is None) == (second.standard_errors is None)
    if first.standard_errors is not None and second.standard_errors is not None:
        assert torch.equal(first.standard_errors, second.standard_errors)
    status, wanted = one.status(), other.status()
    for name in ("rounds", "extras", "wells", "best", "utility", "gain", "noise", "spent", "flagged", "partial"):
        assert getattr(status, name) == getattr(wanted, name), name
    pd.testing.assert_frame_equal(one.outcomes(), other.outcomes())


def test_a_retracted_round_is_open_again_and_its_values_are_gone(campaign: Campaign) -> None:
    labels = campaign.ask(4, FirstPairs()).labels
    before = campaign.screen()
    told = measured(labels, campaign.readouts)
    campaign.tell(told)
    done = campaign.retract(campaign.wells(round_number=1), reason=" wrong\nplate ")
    assert (len(done.wells), done.waiting, done.already) == (4, tuple(labels), 0)
    assert torch.equal(campaign.screen().effects, before.effects)
    assert campaign.batch(1).states == ("ordered",) * 4
    assert campaign.ask(4, FirstPairs()).labels == labels
    assert campaign.outcomes().empty
    said = campaign.history()["what"].iloc[-1]
    assert said.startswith("4 wells (")
    assert said.endswith("retracted: wrong plate")
    assert "4 wells told" in campaign.history()["what"].iloc[-2]
    _verify(campaign)


def test_retracting_again_is_said_and_changes_nothing(campaign: Campaign) -> None:
    labels = campaign.ask(3, FirstPairs()).labels
    campaign.tell(measured(labels, campaign.readouts))
    campaign.retract(labels[:1], reason="spilt")
    before = campaign.history()
    again = campaign.retract(labels[:1], reason="spilt")
    assert (again.sequence, again.words) == (None, "1 wells had been taken back before, nothing has changed")
    pd.testing.assert_frame_equal(campaign.history(), before)
    both = campaign.retract(labels[:2], reason="spilt")
    assert (len(both.wells), both.already) == (1, 1)
    with pytest.raises(UnknownNameError, match=r"unknown measured perturbation 'G00'"):
        campaign.retract(["G00"], reason="x")
    for empty in ("", " \n "):
        with pytest.raises(DataError, match="printable reason"):
            campaign.retract(labels, reason=empty)


def test_a_growing_file_does_not_bring_a_retracted_well_back(campaign: Campaign) -> None:
    labels = campaign.ask(3, FirstPairs()).labels
    table = measured(labels, campaign.readouts)
    campaign.tell(table[:2])
    campaign.retract(labels[:1], reason="spilt")
    same = campaign.tell(table[:2])
    assert (same.sequence, same.already, same.retracted) == (None, 1, 1)
    grown = campaign.tell(table)
    assert (grown.measured, grown.already, grown.retracted) == ((labels[2],), 1, 1)
    assert campaign.batch(1).open == (labels[0],)
    fresh = campaign.tell(table.assign(r0=0.125)[:1])  # the well was measured again
    assert (fresh.measured, fresh.wells) == ((labels[0],), 1)
    assert campaign.screen().effects[campaign.screen().row_of(labels[0])][0] == 0.125
    _verify(campaign)


def test_wells_are_chosen_by_name_event_and_file(local: Campaign) -> None:
    labels = local.ask(3, FirstPairs()).labels
    first = measured(labels, local.readouts, replicate="a")
    local.tell(first)
    local.tell(measured(labels, local.readouts, replicate="b"))
    assert list(local.wells(replicate="b")["perturbation"]) == labels
    assert len(local.wells(labels[:1])) == 2
    assert len(local.wells(labels[:1], replicate="a")) == 1
    assert len(local.wells(event=int(local.wells()["event"].min()))) == 3
    by_file = local.wells(results=first.assign(r0=[*first["r0"][:2], 9.0]))
    assert list(by_file["perturbation"]) == labels[:2]  # the third was never recorded with that value
    with pytest.raises(UnknownNameError, match="unknown replicate 'c'"):
        local.wells(replicate="c")
    with pytest.raises(DataError, match="row 99 of event 1 is no recorded well"):
        local.retract(pd.DataFrame({"event": [1], "row": [99]}), reason="x")
    done = local.retract(local.wells(replicate="a"), reason="edge")
    assert (len(done.wells), done.waiting) == (3, ())  # the other replicate still counts
    assert local.status().counts["measured"] == 3


def test_a_failed_experiment_that_did_not_fail_is_told_after_retraction(campaign: Campaign) -> None:
    (label,) = campaign.ask(1, FirstPairs()).labels
    result = measured([label], campaign.readouts)
    campaign.tell(result.assign(status="failed"))
    campaign.retract([label], reason="the other clone")
    assert campaign.tell(result).measured == (label,)
    campaign.tell(measured([label], campaign.readouts, replicate="2").assign(status="failed"))
    campaign.retract(campaign.wells(replicate="1"), reason="mixed up")
    assert campaign.status().counts["failed"] == 1
    _verify(campaign)


def test_an_extra_experiment_that_is_retracted_was_never_there(campaign: Campaign) -> None:
    table = measured(["G00+G01+G02"], campaign.readouts)
    campaign.tell(table, allow_extra=True)
    campaign.retract(["G00+G01+G02"], reason="wrong campaign")
    assert (campaign.status().extras, campaign.status().wells) == (0, 0)
    assert campaign.status().counts["withdrawn"] == 1
    assert campaign.tell(table, allow_extra=True).retracted == 1
    assert campaign.tell(table.assign(r1=0.5), allow_extra=True).extra == ("G00+G01+G02",)
    _verify(campaign)


def test_a_correction_keeps_the_link_to_the_old_well(campaign: Campaign) -> None:
    labels = campaign.ask(3, FirstPairs()).labels
    table = measured(labels, campaign.readouts)
    campaign.tell(table)
    right = table[:2].assign(r0=[0.25, table["r0"][1]])
    done = campaign.correct(right, reason="decimal point")
    assert (len(done.wells), done.already) == (1, 1)
    assert campaign.screen().effects[campaign.screen().row_of(labels[0])][0] == 0.25
    assert campaign.correct(right, reason="decimal point").sequence is None
    wells = campaign.wells(labels[:1])
    assert list(wells["state"]) == ["corrected", "counts"]
    with campaign.store.reading(campaign.name) as log:
        newest = log.newest("corrected")
        assert newest is not None
        (old,) = newest.event.wells  # type: ignore[union-attr]
        assert (old.sequence, old.perturbation) == (int(wells["event"].iloc[0]), labels[0])
    assert campaign.tell(table).retracted == 1  # the file with the old value changes nothing
    with pytest.raises(ResultsError, match=r"line 2: .* was never recorded.*campaign tell"):
        campaign.correct(right.assign(replicate="new"), reason="x")
    _verify(campaign)


def test_a_correction_takes_a_retracted_well_again_and_changes_failed_ones(campaign: Campaign) -> None:
    labels = campaign.ask(2, FirstPairs()).labels
    table = measured(labels, campaign.readouts)
    campaign.tell(table.assign(status=["", "failed"]))
    campaign.retract(labels[:1], reason="mistaken")
    assert campaign.batch(1).states == ("ordered", "failed")
    campaign.correct(table, reason="it was right")
    assert campaign.batch(1).states == ("measured", "measured")
    campaign.correct(table[:1].assign(status="failed"), reason="it was not")
    assert campaign.batch(1).states == ("failed", "measured")
    _verify(campaign)


_STEPS = st.lists(
    st.tuples(st.sampled_from(["tell", "retract", "correct", "fail"]), st.integers(0, 3), st.sampled_from("ab")),
    max_size=8,
)


@settings(max_examples=8)
@given(steps=_STEPS)
def test_any_history_is_worth_what_its_counting_wells_say(steps: list[tuple[str, int, str]]) -> None:
    """Whatever was told, taken back and corrected: the same wells told once to a new campaign say the same."""
    tested, plain = _another(), _another()
    labels = tested.ask(4, FirstPairs()).labels
    assert plain.ask(4, FirstPairs()).labels == labels
    counting: dict[tuple[int, str], pd.DataFrame] = {}
    for step, (kind, number, replicate) in enumerate(steps):
        table = measured([labels[number]], tested.readouts, replicate=replicate).assign(r0=float(step), status="")
        key = number, replicate
        table["status"] = "failed" if kind == "fail" else ""
        if kind == "retract" and not tested.wells().empty:
            wells = tested.wells()
            chosen = wells[(wells["perturbation"] == labels[number]) & (wells["replicate"] == replicate)]
            if len(chosen):
                tested.retract(chosen, reason="r")
                counting.pop(key, None)
        elif kind == "correct" and key in counting:
            tested.correct(table, reason="c")
            counting[key] = table
        elif key not in counting and kind != "correct":
            try:
                if not tested.tell(table).retracted:
                    counting[key] = table
            except DataError:  # the experiment has failed, so that no further well of it is taken
                continue
    _verify(tested)
    told = sorted(counting.values(), key=lambda table: table["status"].iloc[0])  # values before failures
    if told:
        plain.tell(pd.concat(told, ignore_index=True))
    first, second = tested.screen(), plain.screen()
    assert sorted(first.labels) == sorted(second.labels)
    for label in first.labels:
        one, other = first.effects[first.row_of(label)], second.effects[second.row_of(label)]
        torch.testing.assert_close(one, other)
    states = [
        ["open" if state in OPEN_STATES else state for state in each.batch(1).states] for each in (tested, plain)
    ]
    assert states[0] == states[1]
    assert tested.status().wells == plain.status().wells


def _put(campaign: Campaign, label: str, values: np.ndarray, *, replicate: str = "1", extra: bool = False) -> None:
    """Write a well into the log as an old version may have done."""
    table = measured([label], campaign.readouts)
    found = results_of(table, vocabulary=campaign.vocabulary, readouts=campaign.readouts, key=campaign.key)
    with campaign.store.writing(campaign.name) as log:
        known = log.experiments(perturbations=[label])
        number = log.next_number() if extra else known[-1].number
        if not extra and known[-1].state == "proposed":
            log.append(Ordered((number,)), actor="old")
        block = Block(
            number=np.array([number]),
            extra=np.array([extra]),
            failed=np.array([False]),
            genes=found.genes,
            values=values,
            labels=label,
            replicates=replicate,
        )
        log.append(Told(1, 0, int(extra), 1, ()), actor="old", artefact=block.to_bytes())


_BAD: dict[str, Callable[[int], np.ndarray]] = {
    "overflows when squared": lambda width: np.full((1, width), 1e200),
    "largest number": lambda width: np.array([[0.1] * (width - 1) + [1.7e308]]),
    "overflows in single precision": lambda width: np.full((1, width), -1e39),
    "far beyond the range": lambda width: np.full((1, width), 1e7),
    "infinite": lambda width: np.array([[np.inf] + [0.0] * (width - 1)]),
    "not a number": lambda width: np.full((1, width), np.nan),
    "one not a number": lambda width: np.array([[np.nan] + [0.0] * (width - 1)]),
    "too few columns": lambda width: np.zeros((1, width - 1)),
}


@pytest.mark.parametrize("kind", _BAD)
@pytest.mark.parametrize("extra", [False, True])
def test_whatever_a_log_holds_the_campaign_answers_and_retract_mends_it(
    local: Campaign, kind: str, *, extra: bool
) -> None:
    other = _another()
    first = local.ask(3, FirstPairs()).labels
    other.ask(3, FirstPairs())
    for each in (local, other):
        each.tell(measured(first[:2], each.readouts))
    label = "G00+G01+G02" if extra else first[2]
    _put(local, label, _BAD[kind](len(local.readouts)), extra=extra)
    status = local.status()
    assert bool(status.left_out) != (kind == "one not a number")
    assert all(f"campaign retract --event {int(local.wells()['event'].max())}" in each for each in status.left_out)
    assert len(local.history()) > 4
    assert np.isfinite(status.utility)
    assert local.batch(1).labels == first
    plan = local.preview(2, FirstPairs())
    assert any("left out" in note or "lack" in note for note in plan.notes)
    local.outcomes()
    local.retract([label], reason="typo")
    _same_knowledge(local, other)
    _verify(local)
    for each in (local, other):
        each.tell(measured(first[2:], each.readouts))
    pd.testing.assert_frame_equal(
        local.ask(3, FirstPairs()).table.drop(columns="campaign"),
        other.ask(3, FirstPairs()).table.drop(columns="campaign"),
        check_exact=True,
    )


@pytest.mark.parametrize("names", ["x\ny\nx", "a\u200b\na\u202e\n\n"])
def test_line_breaks_that_an_old_log_holds_shift_no_name(local: Campaign, names: str) -> None:
    (label,) = local.ask(1, FirstPairs()).labels
    with local.store.writing(local.name) as log:
        log.append(Ordered((1,)), actor="old")
        wells = np.ones(2 + names.count("\n\n"), dtype=np.int64)
        genes = local.vocabulary.batch([local.vocabulary.parse(label)]).genes.numpy()
        block = Block(
            number=wells,
            extra=wells == 0,
            failed=wells == 0,
            genes=genes.repeat(len(wells), 0),
            values=np.full((len(wells), len(local.readouts)), 1e200),
            labels=Block.lines([label] * len(wells)),
            replicates=names,
        )
        log.append(Told(1, 0, 0, len(wells), ()), actor="old", artefact=block.to_bytes())
    assert len(local.status().left_out) == len(local.wells()) == len(wells)
    assert local.wells()["replicate"].is_unique
    assert len(local.retract([label], reason="typo").wells) == len(wells)
    assert local.tell(measured([label], local.readouts)).measured == (label,)
    _verify(local)


@pytest.mark.parametrize("value", [1e200, -1.7e308, 1e39, 1e7])
def test_values_that_no_assay_gives_are_refused_unless_accepted(local: Campaign, value: float) -> None:
    (label,) = local.ask(1, FirstPairs()).labels
    table = measured([label], local.readouts)
    typed = table.assign(r1=value)
    with pytest.raises(ResultsError, match=r"line 2: .*, column 'r1': .*--accept-extreme"):
        local.tell(typed)
    assert local.wells().empty
    assert local.tell(typed, accept_extreme=True).measured == (label,)
    assert bool(local.status().left_out) == (abs(value) > 1e15)
    with pytest.raises(ResultsError, match="--accept-extreme"):
        local.correct(table.assign(r1=2 * value if abs(value) < 1e300 else 1e300), reason="r")
    assert len(local.correct(table, reason="exponent").wells) == 1
    assert local.status().left_out == ()
    assert local.status().flagged == ()


def test_flags_go_with_the_wells_that_they_are_about(local: Campaign) -> None:
    labels = local.ask(2, FirstPairs()).labels
    table = measured([labels[0], *labels], local.readouts).assign(replicate=["a", "b", "a"], r1=[99.0, 0.1, 98.0])
    local.tell(table)
    assert len(local.status().flagged) == 2
    wells = local.wells(labels[:1], replicate="a")
    local.retract(wells, reason="unit")
    (left,) = local.status().flagged
    assert left.startswith(f"{labels[1]!r}, 'r1': 98")


def test_a_correction_is_judged_without_what_it_replaces(local: Campaign) -> None:
    labels = local.ask(2, FirstPairs()).labels
    table = measured(labels, local.readouts)
    local.tell(table.assign(r1=[99.0, 0.1]))
    assert len(local.correct(table[:1].assign(r1=98.0), reason="misread").flagged) == 1
    assert local.correct(table[:1], reason="comma").flagged == ()
    assert local.status().flagged == ()


def test_a_plan_is_made_again_when_a_result_behind_it_is_taken_back(local: Campaign) -> None:
    local.tell(measured(["G03"], local.readouts), allow_extra=True)

    class Meanwhile(FirstPairs):
        calls = 0

        def recommend(self, *arguments: object, **named: object) -> object:  # type: ignore[override]
            Meanwhile.calls += 1
            if Meanwhile.calls == 1:
                local.retract(["G03"], reason="mistaken")
            return super().recommend(*arguments, **named)  # type: ignore[arg-type]

    assert local.ask(3, Meanwhile()).fresh
    assert Meanwhile.calls == 2


def test_many_retract_and_tell_at_once_and_each_well_is_taken_back_once(place: str) -> None:
    campaign = _begun(place)
    labels = campaign.ask(4, FirstPairs()).labels
    table = measured(labels, campaign.readouts)
    campaign.tell(table[:2])

    def act(number: int) -> int:
        mine = Campaign.open(open_store(place), "test", actor=f"p{number}")
        if number % 2:
            return len(mine.retract(labels[:2], reason="twice").wells)
        return -mine.tell(table).wells

    with ThreadPoolExecutor(4) as pool:
        done = list(pool.map(act, range(8)))
    assert sum(each for each in done if each > 0) == 2
    assert sum(each for each in done if each < 0) == -2
    assert campaign.status().counts == {"proposed": 0, "ordered": 2, "measured": 2, "failed": 0, "withdrawn": 0}
    _verify(campaign)


def test_a_log_says_who_took_what_back_and_why(tmp_path: Path) -> None:
    campaign = _begun(str(tmp_path / "store.db"))
    labels = campaign.ask(1, FirstPairs()).labels
    campaign.tell(measured(labels, campaign.readouts))
    Campaign.open(campaign.store, "test", actor="bob").retract(labels, reason="contaminated")
    with campaign.store.reading("test") as log:
        newest = log.newest("retracted")
    assert newest is not None
    assert isinstance(newest.event, Retracted)
    assert (newest.actor, newest.event.reason) == ("bob", "contaminated")
    assert [well.perturbation for well in newest.event.wells] == labels
