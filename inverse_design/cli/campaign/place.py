"""The campaign that a command line names, and the store that it is in."""

import os
import stat
from pathlib import Path

from inverse_design.campaign.campaign import Campaign
from inverse_design.campaign.create import user_name
from inverse_design.campaign.store.protocol import Store, open_store
from inverse_design.campaign.store.sql import SqlStore
from inverse_design.cli.campaign.options import STORE, STORE_VARIABLE, CampaignPlace
from inverse_design.cli.console import complaints, say
from inverse_design.errors import StoreError, masked
from surrogates.errors import some_of

_LONGEST = 4096  # bytes of a file that names a store


def open_campaign(place: CampaignPlace) -> Campaign:
    """Open the campaign that is named, or the only one of the store."""
    store = open_place(place)
    campaign = Campaign.open(store, campaign_named(store, place), actor=actor_of(place))
    if isinstance(store, SqlStore):
        warn_of_more(store, campaign.name)
    return campaign


def warn_of_more(store: SqlStore, name: str) -> None:
    """Say where events were seen that a log lacks."""
    further = store.elsewhere(name)
    if further is not None:
        _warn(
            f"events of {name!r} that this log lacks were seen on this machine in {further}: is this an older, or"
            " a changed, copy?"
        )


def open_place(place: CampaignPlace, *, create: bool = False) -> Store:
    """Open the store that is named."""
    return open_store(store_of(place), create=create)


def store_of(place: CampaignPlace) -> str:
    """Say where the store is, and warn of passwords that others can read."""
    if place.store_file is not None:
        if place.store not in {STORE, os.environ.get(STORE_VARIABLE)}:
            raise StoreError("the store is named twice; give --store or --store-file")
        return _named_by(Path(place.store_file))
    if masked(place.store) != place.store and place.store != os.environ.get(STORE_VARIABLE):
        _warn(
            "a password on the command line can be read by everybody on this machine, and stays in the history of"
            f" the shell; put the URL into a file (--store-file) or into {STORE_VARIABLE}, or the password into"
            " ~/.pgpass"
        )
    return place.store


def _named_by(path: Path) -> str:
    try:
        with path.open("rb") as stream:
            mode, content = os.fstat(stream.fileno()).st_mode, stream.read(_LONGEST + 1)
        text = content.decode().strip()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is no text"
        raise StoreError(f"{str(path)!r} cannot be read ({reason}); it should hold the URL of a store") from error
    if not text or len(text.splitlines()) > 1 or len(content) > _LONGEST:
        raise StoreError(f"{str(path)!r} should hold one line, the URL of a store")
    if stat.S_IMODE(mode) & 0o077 and masked(text) != text:
        _warn(f"{str(path)!r} holds a password and may be read by others; chmod 600 {str(path)!r}")
    return text


def actor_of(place: CampaignPlace) -> str:
    """Say who acts."""
    return user_name() if place.actor is None else place.actor


def shown_store(place: CampaignPlace) -> str:
    """Name the store without a password."""
    return masked(place.store) if place.store_file is None else f"the store of {place.store_file}"


def campaign_named(store: Store, place: CampaignPlace) -> str:
    """Name the campaign: the one that was typed, or the only one of the store."""
    if place.name:
        return place.name
    names = store.names()
    if len(names) == 1:
        return names[0]
    if not names:
        raise StoreError(f"the store {shown_store(place)!r} holds no campaign; create one first")
    known = some_of(map(repr, names))
    raise StoreError(
        f"the store {shown_store(place)!r} holds {len(names)} campaigns; name one with --name: {known}"
    )


def _warn(text: str) -> None:
    say(complaints(), f"warning: {text}", "bold yellow")
