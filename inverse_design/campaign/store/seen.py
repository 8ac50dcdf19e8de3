"""The heads of logs that were seen on this machine, kept apart from the stores.

A log that was cut, or written anew from its first event on, is sound in itself. Only a head that somebody noted
tells that events are gone; here the program notes it, one small file for each campaign.
"""

import hashlib
import json
import os
import secrets
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from platformdirs import user_state_path

from inverse_design.campaign.store.chain import Head


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
