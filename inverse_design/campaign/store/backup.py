"""Backups of a store in one SQLite file: made while it is in use, checked first, and put back whole."""

import shlex
from dataclasses import dataclass
from pathlib import Path

from inverse_design.campaign.store.chain import Head, SeenHeads, note_key
from inverse_design.campaign.store.database import Database
from inverse_design.campaign.store.files import copied, place_new, replaced, require_sound
from inverse_design.campaign.store.schema import HEAD, schema_version
from inverse_design.campaign.store.sql import SqlStore
from inverse_design.errors import StoreError

ASIDE = "before-restore"


@dataclass(frozen=True)
class Restored:
    """What became of a restored backup."""

    heads: dict[str, Head]  # the end of each log, by the name of its campaign
    aside: Path | None  # where the store that was there is kept
    lost: dict[str, int]  # how many events of a campaign were seen in that place after the last one of the backup


def back_up(database: Database, destination: Path) -> dict[str, Head]:
    """Copy a store into a new file, and check the copy."""
    if database.path is None:
        raise StoreError(
            f"{database.shown!r} is not a file; back it up with: {dump_line(database)}"
            " and restore that with pg_restore"
        )
    if destination.exists():
        raise StoreError(f"{str(destination)!r} is there already; name a new file")
    with copied(database.path, destination) as copy:
        heads = _checked(copy)
        place_new(copy, destination, over=False)
    return {name: head for name, (_, head) in heads.items()}


def dump_line(database: Database) -> str:
    """Write the command that backs a PostgreSQL database up; the password is asked for, or that of .pgpass."""
    url = database.engine.url
    words = [
        f"--{name}={value}"
        for name, value in (
            ("host", url.host or url.query.get("host")),
            ("port", url.port),
            ("username", url.username),
        )
        if value
    ]
    return " ".join(
        [
            "pg_dump",
            "--format=custom",
            "--file=campaigns.dump",
            *map(shlex.quote, words),
            shlex.quote(f"--dbname={url.database}"),
        ]
    )


def restore(backup: Path, place: Path, *, force: bool) -> Restored:
    """Put a backup into the place of a store, which is kept beside it."""
    if not backup.is_file():
        raise StoreError(f"there is no file {str(backup)!r}; name a backup")
    if place.exists() and backup.samefile(place):
        raise StoreError(f"{str(backup)!r} is the store itself; name its backup")
    with copied(backup, place) as copy:
        found = _checked(copy)
        if place.exists() and not force:
            _require_need(place, found)
        with replaced(place, ASIDE) as aside:
            place_new(copy, place, over=aside is not None)
    lost = dict[str, int]()
    there = Database.at(place, timeout=5.0).place
    for name, (key, head) in found.items():
        seen = SeenHeads.of(key)
        if there is not None:
            before = seen.heads.get(there, head)
            lost |= {name: before.sequence - head.sequence} if before.sequence > head.sequence else {}
            seen.note(there, head, over=True)
            note_key(there, name, key)
    return Restored({name: head for name, (_, head) in found.items()}, aside, lost)


def _checked(path: Path) -> dict[str, tuple[str, Head]]:
    """Look at every page and every event of a file; give key and end of each campaign."""
    require_sound(path)
    database = Database.at(path, timeout=5.0)
    store, found = SqlStore(database, noting=False), {}
    with database.reading() as connection:
        version = schema_version(connection)
    if version != HEAD:
        raise StoreError(
            f"{str(path)!r} is a store of version {version or 'none'}, not {HEAD}: put a copy of it in its"
            " place by hand, and open that (campaign status), which migrates it"
        )
    for name in store.names():
        head = store.verify(name)
        with store.reading(name) as log:
            found[name] = (log.key, head)
    return found


def _require_need(place: Path, found: dict[str, tuple[str, Head]]) -> None:
    try:
        present = _checked(place)
    except StoreError:
        return
    for name, (_, head) in present.items():
        kept = found[name][1].sequence if name in found else 0
        if head.sequence > kept:
            raise StoreError(
                f"{str(place)!r} is sound, and holds {head.sequence - kept} events of {name!r} that the backup"
                " lacks; nothing needs to be restored, or set it aside with --force"
            )
