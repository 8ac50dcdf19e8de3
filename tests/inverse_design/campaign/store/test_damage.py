"""Damage and edits are seen, bounded; ``python -m benchmarks store_damage`` does the same at length."""

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from strategies.campaigns import SETTINGS, TARGET, FirstPairs, starting_screen

from benchmarks.robustness import store_damage
from inverse_design.campaign.campaign import Campaign
from inverse_design.campaign.store.chain import Entry, Head, SeenHeads, followed
from inverse_design.campaign.store.protocol import open_store
from inverse_design.campaign.store.sql import SqlStore
from inverse_design.errors import StoreError

_TEXT = st.text(max_size=8)
_EVENTS = st.lists(
    st.tuples(_TEXT, _TEXT, _TEXT, _TEXT, st.none() | _TEXT, st.none() | _TEXT), min_size=1, max_size=6
)
_ORIGIN = Head.origin("key", "name")


def _chain(events: list[tuple[str, str, str, str, str | None, str | None]]) -> list[Entry]:
    entries, head = [], _ORIGIN
    for kind, time, actor, payload, artefact, digest in events:
        entry = Entry.after(
            head, kind=kind, time=time, actor=actor, payload=payload, artefact=artefact, digest=digest
        )
        entries.append(entry)
        head = entry.head
    return entries


@given(_EVENTS, st.data())
def test_any_change_of_a_chain_is_seen_at_its_first_event(
    events: list[tuple[str, str, str, str, str | None, str | None]], data: st.DataObject
) -> None:
    entries = _chain(events)
    assert list(followed(entries, _ORIGIN)) == entries
    place = data.draw(st.integers(0, len(events) - 1))
    field = data.draw(st.integers(0, 5))
    changed = list(events[place])
    changed[field] = f"{changed[field] or ''}x"
    other = _chain([*events[:place], tuple(changed), *events[place + 1 :]])  # type: ignore[list-item]
    assert other[-1].head != entries[-1].head
    mixed = [*other[: place + 1], *entries[place + 1 :]]
    if len(mixed) > place + 1:
        with pytest.raises(StoreError, match=f"event {place + 2} does not fit"):
            list(followed(mixed, _ORIGIN))
    with pytest.raises(StoreError, match=f"event {place + 1} does not fit"):
        list(followed([*entries[:place], _with_hash(other[place], entries[place].hash)], _ORIGIN))
    with pytest.raises(StoreError, match="event 1 does not fit"):
        list(followed(entries, Head.origin("key", "another name")))
    if place + 1 < len(events):
        with pytest.raises(StoreError, match=f"event {place + 1} is missing"):
            list(followed([*entries[:place], *entries[place + 1 :]], _ORIGIN))


def _with_hash(entry: Entry, name: str) -> Entry:
    return Entry(
        entry.sequence, entry.kind, entry.time, entry.actor, entry.payload, entry.artefact, entry.digest, name
    )


def test_a_damaged_store_answers_the_truth_or_says_the_way_back(tmp_path: Path) -> None:
    found, wrong = store_damage.measure(tmp_path, flips=12, seed=3)
    assert wrong == []
    assert found["edits"]["refused"] == found["edits"].total() >= 50
    assert found["flips"].total() == 12


def test_a_head_that_was_seen_is_missed_until_the_log_is_accepted(tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    campaign = Campaign.create(starting_screen(), target=TARGET, settings=SETTINGS, store=path, actor="ann")
    older = path.read_bytes()
    campaign.ask(2, FirstPairs())
    path.write_bytes(older)
    with pytest.raises(StoreError, match=r"ends with event 1, and event 2 .* was seen here.*verify --accept"):
        Campaign.open(path, "test")
    store = open_store(path)
    assert isinstance(store, SqlStore)
    assert store.verify("test", accept=True).sequence == 1
    assert Campaign.open(path, "test").head.sequence == 1


def test_a_copy_elsewhere_is_opened_and_the_longer_log_is_named(tmp_path: Path) -> None:
    path, copy = tmp_path / "store.db", tmp_path / "copy.db"
    campaign = Campaign.create(starting_screen(), target=TARGET, settings=SETTINGS, store=path, actor="ann")
    copy.write_bytes(path.read_bytes())
    campaign.ask(2, FirstPairs())
    store = open_store(copy)
    assert isinstance(store, SqlStore)
    assert store.elsewhere("test") == f"{path} (event 2; here are 1)"


def test_a_copy_that_went_another_way_is_named(tmp_path: Path) -> None:
    path, copy = tmp_path / "store.db", tmp_path / "copy.db"
    campaign = Campaign.create(starting_screen(), target=TARGET, settings=SETTINGS, store=path, actor="ann")
    copy.write_bytes(path.read_bytes())
    campaign.ask(2, FirstPairs())
    Campaign.open(copy, "test").ask(1, FirstPairs())
    store = open_store(path)
    assert isinstance(store, SqlStore)
    assert store.elsewhere("test") == f"{copy} (event 2; here are 2)"
    copy.unlink()
    assert store.elsewhere("test") is None


def test_another_campaign_of_the_same_name_is_missed(tmp_path: Path) -> None:
    path, other = tmp_path / "store.db", tmp_path / "other.db"
    for each in (path, other):
        Campaign.create(starting_screen(), target=TARGET, settings=SETTINGS, store=each, actor="ann")
    path.write_bytes(other.read_bytes())
    with pytest.raises(StoreError, match="is another campaign than the one that was seen here"):
        Campaign.open(path, "test")
    store = open_store(path)
    assert isinstance(store, SqlStore)
    store.verify("test", accept=True)
    assert Campaign.open(path, "test").head.sequence == 1
    path.unlink()  # to begin anew is nobody's edit
    Campaign.create(starting_screen(), target=TARGET, settings=SETTINGS, store=path, actor="ann")
    assert Campaign.open(path, "test").head.sequence == 1


def test_a_weakened_guard_is_missed(tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    open_store(path, create=True)
    for statement in ("SELECT 1", "DELETE FROM events"):
        with closing(sqlite3.connect(path)) as connection, connection:
            connection.execute("DROP TRIGGER events_no_update")
            connection.execute(f"CREATE TRIGGER events_no_update BEFORE UPDATE ON events BEGIN {statement}; END")
        with pytest.raises(StoreError, match=r"guards of the log .*'events_no_update'"):
            open_store(path)


def test_notes_of_heads_that_cannot_be_used_are_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    noted = SeenHeads.of("key").note("here", Head(3, "c")).note("there", Head(5, "e"))
    assert SeenHeads.of("key") == noted
    assert noted.note("here", Head(2, "b")).heads["here"] == Head(3, "c")
    assert noted.note("here", Head(2, "b"), over=True).heads["here"] == Head(2, "b")
    (file,) = (tmp_path / "inverse-design" / "heads").iterdir()
    assert file.stat().st_mode & 0o077 == 0
    for spoiled in (b"", b"[1]", b'{"here": 3}', b'{"here": ["x", "y"]}', b"\xff", b"[" * 100_000):
        file.write_bytes(spoiled)
        assert SeenHeads.of("key").heads == {}
    monkeypatch.setenv("XDG_STATE_HOME", str(file))  # no folder: nothing can be noted
    assert SeenHeads.of("key").note("here", Head(3, "c")).heads == {"here": Head(3, "c")}


def test_open_reads_only_new_events_again(tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    campaign = Campaign.create(starting_screen(), target=TARGET, settings=SETTINGS, store=path, actor="ann")
    other = Campaign.open(path, "test", actor="bob")
    for _ in range(3):
        campaign.ask_more(1, FirstPairs())
    store = other.store
    assert isinstance(store, SqlStore)
    read: list[int] = []

    def count(entries: list[Entry], start: Head) -> list[Entry]:
        found = list(followed(entries, start))
        read.append(len(found))
        return found

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("inverse_design.campaign.store.sql.followed", count)
        assert len(other.history()) == 4
        assert len(other.history()) == 4
    assert read == [4, 1]  # the last one that was known, and what is new
