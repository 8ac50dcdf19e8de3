"""The campaign that a command line names."""

from inverse_design.campaign.campaign import Campaign
from inverse_design.campaign.create import user_name
from inverse_design.campaign.store.protocol import Store, open_store
from inverse_design.cli.campaign.options import Place
from inverse_design.errors import StoreError, masked


def open_campaign(place: Place) -> Campaign:
    """Open the campaign that is named, or the only one of the store.

    Raises:
        StoreError: If the store cannot be opened, or holds several campaigns and none is named.
        UnknownNameError: If there is no campaign of that name.
    """
    store = open_store(place.store)
    return Campaign.open(store, place.name or _only(store, place), actor=actor_of(place))


def actor_of(place: Place) -> str:
    """Say who acts."""
    return user_name() if place.actor is None else place.actor


def shown_store(place: Place) -> str:
    """Name the store without a password."""
    return masked(place.store)


def _only(store: Store, place: Place) -> str:
    names = store.names()
    if len(names) == 1:
        return names[0]
    if not names:
        raise StoreError(f"the store {shown_store(place)!r} holds no campaign; create one first")
    shown = ", ".join(map(repr, names[:8])) + (f" and {len(names) - 8} more" if len(names) > 8 else "")
    raise StoreError(
        f"the store {shown_store(place)!r} holds {len(names)} campaigns; name one with --name: {shown}"
    )
