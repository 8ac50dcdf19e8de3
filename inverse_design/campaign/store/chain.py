"""The chain of a log: the hash of each event covers its content and the hash of the event before it.

So the last hash stands for the whole log. The chain begins with the key and the name of its campaign. Whoever may
write the file can compute a chain of other events; only a head that was noted elsewhere tells that one from this.
So the heads that were seen on a machine are noted, one small file for each campaign, apart from the stores.
"""

import hashlib
import json
import os
import secrets
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from platformdirs import user_state_path

from inverse_design.errors import StoreError

WAY_BACK = "restore a backup: inverse-design campaign restore FILE"


@dataclass(frozen=True, slots=True)
class Head:
    """The end of a log."""

    sequence: int  # number of the last event, 0 before the first
    hash: str  # that stands for all events up to it

    @classmethod
    def origin(cls, key: str, name: str) -> "Head":
        """Begin the chain of a campaign."""
        return cls(0, _hashed(["inverse-design campaign", key, name]))


@dataclass(frozen=True, slots=True)
class Entry:
    """An event, word by word as it is stored."""

    sequence: int
    kind: str
    time: str
    actor: str
    payload: str
    artefact: str | None  # hash of the numbers that belong to it
    digest: str | None  # of a table of results
    hash: str  # of all this, and of what was before

    @classmethod
    def after(
        cls,
        head: Head,
        *,
        kind: str,
        time: str,
        actor: str,
        payload: str,
        artefact: str | None,
        digest: str | None,
    ) -> "Entry":
        """Make the next event of a chain."""
        sequence = head.sequence + 1
        content: list[str | int | None] = [head.hash, sequence, kind, time, actor, payload, artefact, digest]
        return cls(sequence, kind, time, actor, payload, artefact, digest, _hashed(content))

    @property
    def head(self) -> Head:
        """The log up to here."""
        return Head(self.sequence, self.hash)


def _hashed(content: list[str | int | None]) -> str:
    return hashlib.sha256(json.dumps(content, separators=(",", ":")).encode()).hexdigest()


def followed(rows: Iterable[Any], start: Head) -> Iterator[Entry]:
    """Follow a chain from one event on, row by row."""
    head = start
    for row in rows:
        if row.sequence != head.sequence + 1:
            found = (
                f"{row.sequence!r:.20} follows {head.sequence}"
                if head.sequence
                else f"it begins with {row.sequence!r:.20}"
            )
            raise StoreError(f"event {head.sequence + 1} is missing from the log ({found}); {WAY_BACK}")
        words = (row.kind, row.time, row.actor, row.payload, row.hash)
        others = (row.artefact, row.digest)
        sound = all(isinstance(each, str) for each in words)
        sound = sound and all(each is None or isinstance(each, str) for each in others)
        entry = sound and Entry.after(
            head,
            kind=row.kind,
            time=row.time,
            actor=row.actor,
            payload=row.payload,
            artefact=row.artefact,
            digest=row.digest,
        )
        if not entry or entry.hash != row.hash:
            why = "it, its hash, or the order of events was changed after it was written"
            if head.sequence == 0:
                why = "it, its hash, or the name or key of the campaign was changed after it was written"
            raise StoreError(f"event {row.sequence} does not fit the chain of the log: {why}; {WAY_BACK}")
        yield entry
        head = entry.head


@dataclass(frozen=True)
class SeenHeads:
    """What was seen of one campaign, in whatever store; a note that cannot be read or written is none."""

    key: str
    heads: dict[str, Head]  # from the place of a store to the last head that was seen there

    @classmethod
    def of(cls, key: str) -> "SeenHeads":
        """Read what was noted of a campaign."""
        try:
            noted = json.loads(_file(key).read_text(encoding="utf-8"))
            heads = {str(place): Head(int(number), str(name)) for place, (number, name) in noted.items()}
        except (OSError, ValueError, TypeError, AttributeError, RecursionError):
            return cls(key, {})
        return cls(key, heads)

    def note(self, place: str, head: Head, *, over: bool = False) -> "SeenHeads":
        """Note the head of the log in a store; one that others have noted further on is kept, unless ``over``."""
        if self.heads.get(place) == head:
            return self
        found = dict(self.of(self.key).heads)
        if over or place not in found or found[place].sequence < head.sequence:
            found[place] = head
        _note_heads(_file(self.key), found)
        return SeenHeads(self.key, found)


def key_in(place: str, name: str) -> str | None:
    """Say which campaign of that name was seen in a store."""
    return next(iter(SeenHeads.of(f"{place}\n{name}").heads), None)


def note_key(place: str, name: str, key: str) -> None:
    """Note which campaign has that name in a store."""
    _note_heads(_file(f"{place}\n{name}"), {key: Head(0, "")})


def _file(key: str) -> Path:
    name = hashlib.sha256(key.encode(errors="surrogatepass")).hexdigest()[:32]
    return user_state_path("inverse-design") / "heads" / f"{name}.json"


def _note_heads(file: Path, heads: dict[str, Head]) -> None:
    fresh = file.with_name(f".{secrets.token_hex(4)}")
    with suppress(OSError):
        file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        try:
            with os.fdopen(os.open(fresh, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600), "w") as stream:
                json.dump({each: [one.sequence, one.hash] for each, one in heads.items()}, stream)
            fresh.replace(file)
        finally:
            fresh.unlink(missing_ok=True)
