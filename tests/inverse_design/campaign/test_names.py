"""One rule for names at every door of a campaign: what comes in is printable and fills one line, or is refused."""

import unicodedata
from collections.abc import Callable
from functools import cache

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from strategies.campaigns import SETTINGS, TARGET, measured, starting_screen

from inverse_design.campaign.campaign import Campaign
from inverse_design.campaign.library import ReagentLibrary
from inverse_design.campaign.results import results_of
from inverse_design.campaign.retract import reason_of
from inverse_design.campaign.settings import settings_of
from inverse_design.campaign.store.events import Block
from inverse_design.campaign.store.protocol import memory_store, open_store
from inverse_design.problem.batch_wide import BatchWide
from surrogates.data.names import LONGEST_NAME
from surrogates.data.perturbation import Intervention
from surrogates.errors import DataError

_LIBRARY = measured(["A"], ["x"]).rename(columns={"perturbation": "gene", "replicate": "guide"})


@cache
def _campaign() -> Campaign:
    return Campaign.create(starting_screen(), target=TARGET, settings=SETTINGS, store=memory_store())


def _replicate(text: str) -> str:
    table, campaign = measured(["G00"], _campaign().readouts).assign(replicate=text, plate=text), _campaign()
    found = results_of(table, vocabulary=campaign.vocabulary, readouts=campaign.readouts, key=campaign.key)
    return Block.lines([*found.replicates, "next"]).removesuffix("\nnext")


_DOORS: dict[str, Callable[[str], str]] = {
    "gene or compound": lambda text: Intervention(text).target,
    "replicate and plate": _replicate,
    "campaign": lambda text: settings_of({"name": text, "target": "t"}).name,
    "target": lambda text: settings_of({"name": "n", "target": text}).target,
    "who acts": lambda text: Campaign.open(_campaign().store, "test", actor=text or " ").actor,
    "reason": reason_of,
    "gene of a reagent": lambda text: ReagentLibrary.of_table(_LIBRARY.assign(gene=text)).reagents[0].gene,
    "reagent": lambda text: ReagentLibrary.of_table(_LIBRARY.assign(guide=text)).reagents[0].reagent,
    "sequence": lambda text: ReagentLibrary.of_table(_LIBRARY.assign(smiles=text)).reagents[0].sequence or "-",
    "condition of a batch": lambda text: BatchWide(text, {"A": "1"}).name,
    "value of a batch": lambda text: BatchWide("medium", {"A": text}).values["A"],
}
_UNBOUNDED = {"campaign", "target", "sequence", "reason", "gene of a reagent", "reagent"}  # or of another bound


@pytest.mark.parametrize("door", _DOORS)
@settings(max_examples=40)
@given(
    text=st.text(st.characters(), max_size=LONGEST_NAME + 2) | st.text(st.characters(categories=["C", "Z", "M"]))
)
def test_what_comes_in_is_printable_or_refused(door: str, text: str) -> None:
    try:
        name = _DOORS[door](text)
    except DataError:
        return
    assert name.isprintable()
    assert name == unicodedata.normalize("NFC", name.strip())
    assert name
    assert door in _UNBOUNDED or len(name) <= LONGEST_NAME


@pytest.mark.parametrize("door", _DOORS)
@pytest.mark.parametrize(
    "text", ["a\nb", "a\0b", "a\u200bb", "a\u202eb", "a\u2028b", "a\ud800b", "a\ufe0fb", "a\x85b"]
)
def test_each_door_refuses_what_shifts_or_hides(door: str, text: str) -> None:
    if (door, text[1]) in {("reason", "\n"), ("reason", "\x85"), ("reason", "\u2028")}:
        assert reason_of(text) == "a b"
        return
    with pytest.raises(DataError, match=rf"U\+{ord(text[1]):04X}"):
        _DOORS[door](text)


@pytest.mark.parametrize("name", ["a\udcffb", "\ud800", "a\0b"])
def test_a_name_that_no_database_holds_is_refused(place: str, name: str) -> None:
    store = open_store(place, create=True)
    with pytest.raises(DataError, match=r"cannot be (asked for that name|used)|unknown campaign"):
        Campaign.open(store, name)


def test_a_path_that_no_system_takes_is_refused() -> None:
    with pytest.raises(DataError, match=r"'gone\\x00.db' is no path; remove U\+0000"):
        open_store("gone\0.db", create=True)
