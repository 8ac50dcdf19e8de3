"""The beginning of a campaign: what is checked and written before the first round."""

import re
import secrets
from itertools import chain

from inverse_design.campaign.events import Created
from inverse_design.campaign.goal import goal_of
from inverse_design.campaign.settings import CampaignSettings, settings_as_json
from inverse_design.campaign.starting_screen import require_one_context, screen_from_bytes, screen_to_bytes
from inverse_design.campaign.store import Log, Store
from inverse_design.errors import StoreError
from inverse_design.problem.target import Target
from surrogates.data.screen import Screen
from surrogates.data.vocabulary import Vocabulary
from surrogates.errors import UnknownNameError


def begin(store: Store, settings: CampaignSettings, screen: Screen, *, target: Target, actor: str) -> None:
    """Check what a campaign stands on, and write its first event.

    Args:
        store: Where to keep it.
        settings: Its name is that of the campaign.
        screen: What is known already.
        target: Where the cells should go.
        actor: Who begins it.

    Raises:
        StoreError: If the store has a campaign of that name, or cannot be written.
        UnknownNameError: If the settings exclude, or give a cost to, what the screen does not know.
        TargetError: If the target has nothing in common with the screen.
        DataError: If the screen holds several contexts.
    """
    require_beginning(settings, screen, target)
    created = Created(settings_as_json(settings), goal_of(target), len(screen))
    key = f"{_stem(settings.name)}-{secrets.token_hex(4)}"
    store.create(settings.name, key, created, screen=screen_to_bytes(screen), actor=actor)


def require_beginning(settings: CampaignSettings, screen: Screen, target: Target) -> None:
    """Check settings, screen and target against each other; no store is needed.

    Args:
        settings: Of the campaign.
        screen: What is known already.
        target: Where the cells should go.

    Raises:
        UnknownNameError: If the settings exclude, or give a cost to, what the screen does not know.
        TargetError: If the target has nothing in common with the screen.
        DataError: If the screen holds several contexts.
    """
    target.on(screen.readouts)
    _require_names(settings, screen.vocabulary)
    require_one_context(screen)


def beginning_of(log: Log) -> Created:
    """Read how a campaign began.

    Args:
        log: Of the campaign.

    Returns:
        Its first event.
    """
    created = log.newest("created")
    if created is None or not isinstance(created.event, Created):
        raise StoreError(f"the log of campaign {log.key!r} has no beginning; restore it from a copy")
    return created.event


def start_of(log: Log) -> Screen:
    """Read the starting screen.

    Args:
        log: Of the campaign.

    Returns:
        The screen.
    """
    created = log.newest("created")
    if created is None or created.artefact is None:
        raise StoreError(f"the log of campaign {log.key!r} has no starting screen; restore it from a copy")
    return screen_from_bytes(log.artefact(created.artefact))


def _stem(name: str) -> str:
    return re.sub(r"[^A-Za-z0-9]+", "-", name).strip("-").lower()[:40] or "campaign"


def _require_names(settings: CampaignSettings, vocabulary: Vocabulary) -> None:
    known = frozenset(vocabulary.targets) | frozenset(vocabulary.ids)
    for name in (*settings.exclude, *chain.from_iterable(settings.incompatible), *settings.costs):
        if name not in known:
            raise UnknownNameError.from_known("gene or compound", name, known)
