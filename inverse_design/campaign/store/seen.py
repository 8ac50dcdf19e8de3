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
    """What was seen of one campaign, in whatever store; a note that cannot be read or written is none.

    Attributes:
        heads: From the place of a store to the last head that was seen there.
    """

    key: str
    heads: dict[str, Head]

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
        file = _file(self.key)
        fresh = file.with_name(f".{secrets.token_hex(4)}")
        with suppress(OSError):
            file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            try:
                with os.fdopen(os.open(fresh, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600), "w") as stream:
                    json.dump({each: [one.sequence, one.hash] for each, one in found.items()}, stream)
                fresh.replace(file)
            finally:
                fresh.unlink(missing_ok=True)
        return SeenHeads(self.key, found)

    def furthest(self) -> tuple[str, Head] | None:
        """Say where the longest log of this campaign was seen."""
        return max(self.heads.items(), key=lambda each: each[1].sequence, default=None)


def _file(key: str) -> Path:
    name = hashlib.sha256(key.encode(errors="surrogatepass")).hexdigest()[:32]
    return user_state_path("inverse-design") / "heads" / f"{name}.json"
