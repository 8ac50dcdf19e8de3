"""The verbs ``campaign verify``, ``backup``, ``restore`` and ``grants``: what keeps a store sound."""

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

from rich.console import Console

from inverse_design.campaign.store.backup import back_up, restore
from inverse_design.campaign.store.chain import WAY_BACK, Head
from inverse_design.campaign.store.database import Database
from inverse_design.campaign.store.files import require_sound
from inverse_design.campaign.store.schema import grants
from inverse_design.campaign.store.sql import SqlStore
from inverse_design.cli.campaign.options import CampaignPlace
from inverse_design.cli.campaign.place import campaign_named, open_place, store_of, warn_of_more
from inverse_design.cli.console import Manner, reply, say, show_facts, working
from inverse_design.errors import StoreError

_SHORTEST = 16  # letters of a hash that nobody meets by accident


def run_verify(*, place: CampaignPlace, head: str | None, integrity: bool, accept: bool, manner: Manner) -> None:
    """Look at everything that is stored, and say that it is what was written."""
    store = open_place(place)
    if not isinstance(store, SqlStore):
        raise StoreError("this kind of store cannot be verified")
    name = campaign_named(store, place)
    with working("verifying"):
        if integrity:
            _require_integrity(store.database)
        end = store.verify(name, accept=accept)
        noted = None if head is None else _noted(store, name, head)
    warn_of_more(store, name)

    def show(console: Console) -> None:
        said = f"{end.sequence} events replayed: every state and measurement of {name!r} follows from them"
        say(console, f"{said}, and they are what was written")
        if noted is not None:
            say(console, f"event {noted} has the hash that was noted: up to it the log is the one you saw")
        if integrity:
            say(console, "every page of the file is sound")
        show_facts(console, {"head": f"event {end.sequence}, hash {end.hash}"})

    reply(manner, {"name": name, "log": asdict(end), "noted_event": noted, "pages_sound": integrity or None}, show)


def _require_integrity(database: Database) -> None:
    if database.path is None:
        raise StoreError("--integrity looks at the pages of an SQLite file; for PostgreSQL use pg_amcheck")
    require_sound(database.path)


def _noted(store: SqlStore, name: str, head: str) -> int:
    """Find the event whose hash somebody noted."""
    wanted = head.strip().lower()
    if len(wanted) < _SHORTEST or set(wanted) - set("0123456789abcdef"):
        raise StoreError(
            f"{head!r:.80} is not a hash: give at least its first {_SHORTEST} signs, as status prints it"
        )
    with store.reading(name) as log:
        found = next((one.sequence for one in log.entries if one.hash.startswith(wanted)), None)
    if found is None:
        raise StoreError(
            f"no event of {name!r} has the hash {wanted:.16}...: the log was written anew or cut since that was"
            f" noted; {WAY_BACK}"
        )
    return found


def run_backup(destination: str, *, place: CampaignPlace, manner: Manner) -> None:
    """Copy the store while it is in use, check the copy, and say what it holds."""
    store = open_place(place)
    if not isinstance(store, SqlStore):
        raise StoreError("this kind of store cannot be backed up")
    with working("copying"):
        for name in store.names():
            store.verify(name)
        heads = back_up(store.database, Path(destination))

    def show(console: Console) -> None:
        _show_heads(console, heads)
        say(console, f"wrote {destination}")

    reply(manner, {"logs": _heads(heads), "written": [destination]}, show)


def run_restore(backup: str, *, place: CampaignPlace, force: bool, manner: Manner) -> None:
    """Put a backup into the place of the store; what was there is kept beside it."""
    database = Database.at(store_of(place), timeout=5.0)
    if database.path is None:
        raise StoreError(
            "a PostgreSQL database is restored by its own program: pg_restore --dbname=NAME campaigns.dump"
        )
    path = database.path
    with working("checking"):
        done = restore(Path(backup), path, force=force)

    def show(console: Console) -> None:
        _show_heads(console, done.heads)
        for name, lost in done.lost.items():
            say(console, f"warning: {lost} events of {name!r} were seen here that the backup lacks", "bold yellow")
        if done.aside is not None:
            say(console, f"the store that was there is kept as {done.aside}")
        say(console, f"restored {path}")

    known = {"logs": _heads(done.heads), "lost": done.lost, "kept_as": done.aside, "restored": path}
    reply(manner, known, show)


def _heads(heads: Mapping[str, Head]) -> dict[str, object]:
    return {name: asdict(head) for name, head in heads.items()}


def _show_heads(console: Console, heads: Mapping[str, Head]) -> None:
    for name, head in heads.items():
        say(console, f"{name}: event {head.sequence}, hash {head.hash}")


def run_grants(*, schema: str, readers: tuple[str, ...], tellers: tuple[str, ...], manner: Manner) -> None:
    """Print statements for the owner of a PostgreSQL store."""
    sql = grants(schema=schema, readers=readers, tellers=tellers).rstrip()
    reply(manner, {"sql": sql}, lambda console: say(console, sql))
