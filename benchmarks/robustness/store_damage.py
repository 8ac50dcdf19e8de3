"""What a damaged or edited store of campaigns answers: the truth, or a refusal that says the way back.

A small campaign of every kind of event is damaged in one place, opened as a new process would, and asked for all
that commands read: names, status, history, batches, wells, screen and the basis of the next plan. An answer is

- harmless: the truth, since nothing reads the damaged bytes,
- refused: an error of the data, in one line with the way back,
- unnoticed: another answer than the truth,
- a traceback: any other exception.

The bar is none of the last two, among random bit flips and among deliberate edits, which are made by somebody who
knows the tables, switches the guards off and on again, and computes hashes anew.

    python -m benchmarks store_damage --flips 2000
"""

import argparse
import hashlib
import random
import sqlite3
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from inverse_design.campaign.campaign import Campaign
from inverse_design.campaign.settings import CampaignSettings
from inverse_design.campaign.store.chain import Entry, Head
from inverse_design.campaign.store.protocol import open_store
from inverse_design.problem.target import ScalarTarget
from inverse_design.recommend.protocol import DecisionState, Recommendation
from surrogates.data.perturbation import Intervention, Perturbation
from surrogates.data.screen import Screen
from surrogates.data.vocabulary import EMPTY, Vocabulary
from surrogates.errors import DataError

NAME = "damage"
_GENES, _READOUTS = 12, ("growth", "marker")
_WAY_BACK = ("restore a backup", "name another")


class NextPairs:
    """Proposes the first pairs that are neither known nor pending."""

    def recommend(
        self, state: DecisionState, count: int, *, pending: tuple[Perturbation, ...], seed: int
    ) -> Recommendation:
        """Take pairs in the order of the vocabulary.

        Args:
            state: What is known.
            count: How many pairs are wanted.
            pending: What must not be proposed.
            seed: Not used.

        Returns:
            The pairs.
        """
        del seed
        names = [entry.label for entry in state.measured.vocabulary.entries]
        taken = {*state.measured.labels, *(one.label for one in pending)}
        pairs = [f"{a}+{b}" for place, a in enumerate(names) for b in names[place + 1 :]]
        chosen = [pair for pair in pairs if pair not in taken][:count]
        table = pd.DataFrame({"perturbation": chosen, "predicted": 0.5, "chosen": "designed"})
        return Recommendation(table, expected_gain=1.0, notes=("in the order of the names",))


def begin(path: Path) -> None:
    """Write a campaign with every kind of event.

    Args:
        path: Of a file that is not there yet.
    """
    vocabulary = Vocabulary(tuple(Intervention(f"G{number:02d}") for number in range(_GENES)))
    effects = torch.randn(_GENES, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    batch = vocabulary.dosed(torch.tensor([[gene, EMPTY] for gene in range(_GENES)]))
    screen = Screen(effects, batch, vocabulary, _READOUTS, ("",) * _GENES)
    settings = CampaignSettings(name=NAME, target="growth", random_share=0.0, batch_size=6)
    target = ScalarTarget("growth", "minimise")
    campaign = Campaign.create(screen, target=target, settings=settings, store=path, actor="ann")
    for seed in range(3):
        labels = campaign.ask(6, NextPairs()).labels
        campaign.order(labels[:5])
        values = np.random.default_rng(seed).normal(size=(10, 2))
        table = pd.DataFrame({"perturbation": labels[:5] * 2, "replicate": ["1"] * 5 + ["2"] * 5})
        campaign.tell(table.assign(growth=values[:, 0], marker=values[:, 1]))
        campaign.withdraw(labels[5:], reason="no reagent")
    campaign.ask(6, NextPairs())


def answers(path: Path) -> dict[str, Any]:
    """Read all that commands read of a store, as a new process would.

    Args:
        path: Of the store.

    Returns:
        The answers, as values that can be compared.
    """
    store = open_store(path, timeout=0.2)
    campaign = Campaign.open(store, NAME, actor="bob")
    status, screen = campaign.status(), campaign.screen()
    rounds = [campaign.batch(number) for number in range(1, status.rounds + 1)]
    again = campaign.ask()
    with store.reading(NAME) as log:
        wells = log.measurements([one.number for one in log.experiments()])
        digests = [log.told(str(one.artefact)) for one in log.events()]
    return {
        "names": store.names(),
        "campaign": (campaign.key, campaign.settings, repr(campaign.target)),
        "status": status,
        "history": campaign.history().to_csv(),
        "rounds": [(one.table.to_csv(), one.states, one.expected_gain, one.notes) for one in rounds],
        "open": (again.table.to_csv(), again.states, again.fresh),
        "screen": (screen.labels, screen.effects.tolist()),
        "start": (campaign.readouts, campaign.vocabulary.entries),
        "wells": wells,
        "digests": digests,
        "head": campaign.head,
    }


def judged(path: Path, truth: Mapping[str, Any]) -> tuple[str, str]:
    """Judge what a damaged store answers.

    Args:
        path: Of the store.
        truth: What it answered before.

    Returns:
        The verdict, and what was said.
    """
    try:
        found = answers(path)
    except DataError as error:
        said = str(error)
        if "\n" in said or not any(each in said for each in _WAY_BACK):
            return "no way back", said
        return "refused", said
    except Exception as error:  # noqa: BLE001 - what a user would see as a traceback is what is counted
        return "traceback", repr(error)
    different = [name for name, value in truth.items() if found[name] != value]
    return ("unnoticed", ", ".join(different)) if different else ("harmless", "")


def flipped(content: bytes, draw: random.Random) -> tuple[bytes, str]:
    """Flip one bit: half of the time, of a byte that is not zero, since much of a small file is empty.

    Args:
        content: Of a file.
        draw: Where.

    Returns:
        The damaged content, and where it was damaged.
    """
    place, bit = draw.randrange(len(content)), draw.randrange(8)
    if draw.random() < 0.5:
        place = draw.choice([at for at, byte in enumerate(content) if byte])
    damaged = bytearray(content)
    damaged[place] ^= 1 << bit
    return bytes(damaged), f"bit {bit} of byte {place}"


@dataclass(frozen=True)
class Edit:
    """A change that somebody makes on purpose, with the guards switched off."""

    what: str
    make: Callable[[sqlite3.Connection], object]


def _sql(*statements: str) -> Callable[[sqlite3.Connection], object]:
    def make(connection: sqlite3.Connection) -> None:
        for statement in statements:
            connection.execute(statement)

    return make


def _rechained(*statements: str) -> Callable[[sqlite3.Connection], object]:
    """Change something, and compute the whole chain and the counter anew."""

    def make(connection: sqlite3.Connection) -> None:
        _sql(*statements)(connection)
        for number, key, name in connection.execute("SELECT id, key, name FROM campaigns").fetchall():
            head = Head.origin(key, name)
            columns = "kind, time, actor, payload, artefact, digest"
            wanted = f"SELECT sequence, {columns} FROM events WHERE campaign = ? ORDER BY sequence"  # noqa: S608
            for sequence, *content in connection.execute(wanted, (number,)).fetchall():
                said = dict(zip(columns.split(", "), content, strict=True))
                head = Entry.after(head, **said).head
                place = (head.hash, number, sequence)
                connection.execute("UPDATE events SET hash = ? WHERE campaign = ? AND sequence = ?", place)
            connection.execute("UPDATE campaigns SET head = ?, hash = ? WHERE id = ?", (*_end(head), number))

    return make


def _end(head: Head) -> tuple[int, str]:
    return head.sequence, head.hash


def _swapped(first: int, second: int, columns: str) -> tuple[str, ...]:
    """Swap the content of two events, column by column."""
    names = columns.split(", ")
    kept = ", ".join(f"{name} = (SELECT {name} FROM swap WHERE place = {{}})" for name in names)  # noqa: S608
    return (
        f"CREATE TEMP TABLE swap AS SELECT sequence AS place, {columns} FROM events"  # noqa: S608
        f" WHERE sequence IN ({first}, {second})",
        f"UPDATE events SET {kept.format(*[second] * len(names))} WHERE sequence = {first}",  # noqa: S608
        f"UPDATE events SET {kept.format(*[first] * len(names))} WHERE sequence = {second}",  # noqa: S608
        "DROP TABLE swap",
    )


def _array(*, rename: bool) -> Callable[[sqlite3.Connection], object]:
    """Change one number of a told table; with its hash, and all references to it."""

    def make(connection: sqlite3.Connection) -> None:
        wanted = "SELECT a.hash, content FROM artefacts a JOIN events ON artefact = a.hash WHERE sequence = 4"
        name, content = connection.execute(wanted).fetchone()
        changed = bytearray(content)
        changed[-30] ^= 1
        changed[len(changed) // 2] ^= 4
        fresh = hashlib.sha256(changed).hexdigest() if rename else name
        connection.execute(
            "UPDATE artefacts SET hash = ?, content = ? WHERE hash = ?", (fresh, bytes(changed), name)
        )
        connection.execute("UPDATE events SET artefact = ? WHERE artefact = ?", (fresh, name))

    return make


def _rehashed(sequence: int, statement: str) -> Callable[[sqlite3.Connection], object]:
    """Change an event and its own hash, but not those that follow."""

    def make(connection: sqlite3.Connection) -> None:
        _sql(statement)(connection)
        wanted = "SELECT kind, time, actor, payload, artefact, digest FROM events WHERE sequence = ?"
        before = connection.execute("SELECT hash FROM events WHERE sequence = ?", (sequence - 1,)).fetchone()[0]
        said = dict(
            zip(
                ("kind", "time", "actor", "payload", "artefact", "digest"),
                connection.execute(wanted, (sequence,)).fetchone(),
                strict=True,
            )
        )
        entry = Entry.after(Head(sequence - 1, before), **said)
        connection.execute("UPDATE events SET hash = ? WHERE sequence = ?", (entry.hash, sequence))

    return make


_ALL = "kind, time, actor, payload, artefact, digest"
_DROP_LAST = "DELETE FROM events WHERE sequence = (SELECT max(sequence) FROM events)"
_COUNT = "UPDATE campaigns SET head = (SELECT max(sequence) FROM events)"
_LAST_HASH = "UPDATE campaigns SET hash = (SELECT hash FROM events ORDER BY sequence DESC LIMIT 1)"
_CLOSE = "UPDATE events SET sequence = sequence - 1 WHERE sequence > 6"
_TWICE = (
    "INSERT INTO events SELECT campaign, 15, kind, time, actor, payload, artefact, NULL, hash FROM events"
    " WHERE sequence = 3"
)
_LATER = "UPDATE events SET time = '2020-01-01T00:00:00.000+00:00' WHERE sequence = 4"
_SETTINGS = (
    "UPDATE events SET payload = replace(payload, '\"batch_size\": 6', '\"batch_size\": 96') WHERE sequence = 1"
)
_GOAL = "UPDATE events SET payload = replace(payload, '\"minimise\"', '\"maximise\"') WHERE sequence = 1"
_ACTOR = "UPDATE events SET actor = 'eve' WHERE sequence = 3"

EDITS = (
    Edit("who acted", _sql(_ACTOR)),
    Edit("who acted, with its hash", _rehashed(3, _ACTOR)),
    Edit("who acted, with the chain", _rechained(_ACTOR)),
    Edit("who acted last, with its hash", _rehashed(14, "UPDATE events SET actor = 'eve' WHERE sequence = 14")),
    Edit("when", _sql(_LATER)),
    Edit("when, with its hash", _rehashed(4, _LATER)),
    Edit("when, with the chain", _rechained(_LATER)),
    Edit("the settings", _sql(_SETTINGS)),
    Edit("the settings, with the chain", _rechained(_SETTINGS)),
    Edit("the target", _sql(_GOAL)),
    Edit("the target, with the chain", _rechained(_GOAL)),
    Edit("a value", _array(rename=False)),
    Edit("a value and its hash", _array(rename=True)),
    Edit("a value, its hash and the chain", lambda each: (_array(rename=True)(each), _rechained()(each))),
    Edit("the last event deleted", _sql(_DROP_LAST)),
    Edit("the last event deleted, and counted", _sql(_DROP_LAST, _COUNT)),
    Edit("the last event deleted, counted and hashed", _sql(_DROP_LAST, _COUNT, _LAST_HASH)),
    Edit("the last three deleted, counted and hashed", _sql(*[_DROP_LAST] * 3, _COUNT, _LAST_HASH)),
    Edit("all events but the first deleted", _sql("DELETE FROM events WHERE sequence > 1", _COUNT, _LAST_HASH)),
    Edit("all events deleted", _sql("DELETE FROM events")),
    Edit("an event in the middle deleted", _sql("DELETE FROM events WHERE sequence = 6")),
    Edit("one deleted and the others renumbered", _sql("DELETE FROM events WHERE sequence = 6", _CLOSE)),
    Edit("one deleted, renumbered and counted", _sql("DELETE FROM events WHERE sequence = 6", _CLOSE, _COUNT)),
    Edit("one deleted, renumbered, chained", _rechained("DELETE FROM events WHERE sequence = 6", _CLOSE)),
    Edit("the first event deleted", _sql("DELETE FROM events WHERE sequence = 1")),
    Edit("two events swapped", _sql(*_swapped(3, 5, _ALL))),
    Edit("two events swapped with their hashes", _sql(*_swapped(3, 5, f"{_ALL}, hash"))),
    Edit("two arrays swapped", _sql(*_swapped(4, 8, "artefact"))),
    Edit("two arrays swapped, with the chain", _rechained(*_swapped(4, 8, "artefact"))),
    Edit("the contents of two arrays swapped", _sql(
        "CREATE TEMP TABLE two AS SELECT a.hash AS name, b.content AS content FROM artefacts a JOIN artefacts b"
        " ON a.hash <> b.hash WHERE a.hash IN (SELECT artefact FROM events WHERE sequence IN (4, 8))"
        " AND b.hash IN (SELECT artefact FROM events WHERE sequence IN (4, 8))",
        "UPDATE artefacts SET content = (SELECT content FROM two WHERE name = hash) WHERE hash IN"
        " (SELECT name FROM two)",
        "DROP TABLE two",
    )),
    Edit("an array deleted", _sql(
        "DELETE FROM artefacts WHERE hash = (SELECT artefact FROM events WHERE sequence = 4)"
    )),
    Edit("the starting screen emptied", _sql(
        "UPDATE artefacts SET content = x'' WHERE hash = (SELECT artefact FROM events WHERE sequence = 1)"
    )),
    Edit("an array as text", _sql("UPDATE artefacts SET content = CAST(content AS TEXT)")),
    Edit("an array as a large number", _sql("UPDATE artefacts SET content = 4611686018427387904")),
    Edit("an event repeated", _sql(_TWICE)),
    Edit("an event repeated, and counted", _sql(_TWICE, _COUNT, _LAST_HASH)),
    Edit("an event repeated, with the chain", _rechained(_TWICE)),
    Edit("a kind", _sql("UPDATE events SET kind = 'withdrawn' WHERE sequence = 3")),
    Edit("a kind, with the chain", _rechained("UPDATE events SET kind = 'withdrawn' WHERE sequence = 3")),
    Edit("an unknown kind, with the chain", _rechained("UPDATE events SET kind = 'erased' WHERE sequence = 5")),
    Edit("an empty payload, with the chain", _rechained("UPDATE events SET payload = '{}' WHERE sequence = 6")),
    Edit("the digest of a table", _sql("UPDATE events SET digest = 'd' WHERE sequence = 4")),
    Edit("the key of the campaign", _sql("UPDATE campaigns SET key = 'other-key'")),
    Edit("the key of the campaign, with the chain", _rechained("UPDATE campaigns SET key = 'other-key'")),
    Edit("the name of the campaign, with the chain", _rechained("UPDATE campaigns SET name = 'other'")),
    Edit("a guard that lets everything pass", _sql(
        "CREATE TRIGGER events_no_update BEFORE UPDATE ON events WHEN 0 BEGIN SELECT RAISE(ABORT, ''); END",
        _ACTOR,
        "UPDATE events SET actor = 'ann' WHERE sequence = 3",
    )),
    Edit("a further trigger", _sql(
        "CREATE TRIGGER later AFTER INSERT ON events BEGIN DELETE FROM artefacts; END"
    )),
    Edit("the counter", _sql("UPDATE campaigns SET head = head + 1")),
    Edit("the counter as text", _sql("UPDATE campaigns SET head = 'many'")),
    Edit("the hash of the counter", _sql("UPDATE campaigns SET hash = upper(hash)")),
    Edit("another campaign of this name", _sql("UPDATE events SET campaign = 7", "UPDATE campaigns SET id = 8")),
    Edit("a number with a blank", _sql("UPDATE events SET sequence = '3 ' WHERE sequence = 3")),
    Edit("an older version of the tables", _sql("UPDATE alembic_version SET version_num = '0002'")),
    Edit("a version that never was", _sql("UPDATE alembic_version SET version_num = '0000x'")),
    Edit("no version", _sql("DELETE FROM alembic_version")),
    Edit("a table renamed", _sql("ALTER TABLE artefacts RENAME TO arrays")),
    Edit("a column renamed", _sql("ALTER TABLE events RENAME COLUMN actor TO who")),
    Edit("a view for a table", _sql(
        "ALTER TABLE events RENAME TO real_events",
        "CREATE VIEW events AS SELECT campaign, sequence, kind, time, 'eve' AS actor, payload, artefact, digest,"
        " hash FROM real_events",
    )),
)  # fmt: skip


def edited(path: Path, edit: Edit) -> None:
    """Make an edit in a store, with its guards off, and set them again.

    Args:
        path: Of the store.
        edit: What to change.
    """
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        guards = connection.execute("SELECT name, sql FROM sqlite_master WHERE type = 'trigger'").fetchall()
        for name, _ in guards:
            connection.execute(f"DROP TRIGGER {name}")
        edit.make(connection)
        for _, statement in guards:
            try:
                connection.execute(statement)
            except sqlite3.OperationalError:  # its table is gone
                continue


def spoiled(content: bytes) -> dict[str, bytes]:
    """Damage a file as a whole.

    Args:
        content: Of the file.

    Returns:
        What it may look like then, by what happened to it.
    """
    half = len(content) // 2
    return {
        "cut to half": content[:half],
        "cut by a page": content[:-4096],
        "cut by a byte": content[:-1],
        "emptied": b"",
        "only its header": content[:100],
        "a page of zeros": content[:8192] + bytes(4096) + content[12288:],
        "two pages swapped": content[:4096] + content[8192:12288] + content[4096:8192] + content[12288:],
        "as text": content.decode("latin-1").encode(),
    }


def measure(folder: Path, *, flips: int, seed: int) -> tuple[dict[str, Counter[str]], list[str]]:
    """Damage a store again and again, always at the same place.

    Args:
        folder: Empty.
        flips: How many random bits.
        seed: Of the places.

    Returns:
        How often each verdict was given, by kind of damage; and what was wrong, in words.
    """
    path = folder / "store.db"
    begin(path)
    content, truth = path.read_bytes(), answers(path)
    found: dict[str, Counter[str]] = {"flips": Counter(), "edits": Counter(), "files": Counter()}
    wrong: list[str] = []

    def judge(kind: str, what: str) -> None:
        verdict, said = judged(path, truth)
        found[kind][verdict] += 1
        if verdict not in {"refused", "harmless"} or (verdict == "harmless" and kind != "flips"):
            wrong.append(f"{kind}: {what}: {verdict}: {said:.300}")
        for beside in folder.glob("store.db*"):
            beside.unlink()

    draw = random.Random(seed)  # noqa: S311 - nothing is secret
    for _ in range(flips):
        damaged, place = flipped(content, draw)
        path.write_bytes(damaged)
        judge("flips", place)
    for edit in EDITS:
        path.write_bytes(content)
        edited(path, edit)
        judge("edits", edit.what)
    for what, damaged in spoiled(content).items():
        path.write_bytes(damaged)
        judge("files", what)
    return found, wrong


def main() -> None:
    """Damage a store, and print what it answered."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--flips", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args()
    started = time.perf_counter()
    with tempfile.TemporaryDirectory() as name:
        found, wrong = measure(Path(name), flips=asked.flips, seed=asked.seed)
    for kind, verdicts in found.items():
        print(f"{kind}: {verdicts.total()}, " + ", ".join(f"{count} {each}" for each, count in verdicts.items()))
    print(f"{time.perf_counter() - started:.0f} s")
    for line in wrong:
        print(line)


if __name__ == "__main__":
    main()
