"""The campaigns of a store as pages show them: what follows from a log is computed once for each end of it."""

import threading
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path

import pandas as pd

from inverse_design.campaign.campaign import Campaign
from inverse_design.campaign.rounds import Batch
from inverse_design.campaign.status import Advice, Status, facts_of
from inverse_design.campaign.store.chain import Head
from inverse_design.campaign.store.events import Created
from inverse_design.campaign.store.protocol import Log, Store, WritableLog, open_store
from inverse_design.errors import StoreError
from inverse_design.plot.campaigns import campaign_coverage, campaign_curve
from inverse_design.plot.style import figure_of, svg_of
from inverse_design.report.campaigns import campaign_page
from inverse_design.validate.campaigns import coverage_of
from surrogates.errors import UnknownNameError
from surrogates.evaluation.intervals import Row

_KEPT = 32  # views
_DIGITS = 16  # of a hash, in a form
_REPORT = "report"
_DRAWING = threading.Lock()  # the style of a figure is one for all threads


class StaleError(Exception):
    """The campaign is not what it was when the form was made."""


def revision_of(head: Head) -> str:
    """Name the end of a log in a form."""
    return f"{head.sequence}-{head.hash[:_DIGITS]}"


class _RehearsedError(Exception):
    """A rehearsal has ended."""


@dataclass(frozen=True)
class CheckedStore:
    """A store that changes only what is as it was when a form was made; a rehearsal changes nothing."""

    store: Store
    revision: str
    rehearsal: bool = False

    def names(self) -> tuple[str, ...]:
        """List the campaigns."""
        return self.store.names()

    def create(self, name: str, key: str, created: Created, *, screen: bytes, actor: str) -> None:
        """Begin a campaign."""
        self.store.create(name, key, created, screen=screen, actor=actor)

    @contextmanager
    def reading(self, name: str) -> Iterator[Log]:
        """Open a campaign to read it."""
        with self.store.reading(name) as log:
            yield log

    @contextmanager
    def writing(self, name: str) -> Iterator[WritableLog]:
        """Open a campaign to change it, or to see what a change would do."""
        with suppress(_RehearsedError), self.store.writing(name) as log:
            if revision_of(log.end) != self.revision:
                raise StaleError
            yield log
            if self.rehearsal:
                raise _RehearsedError  # which leaves the log as it was


@dataclass(frozen=True)
class View:
    """A campaign as it stands at one end of its log."""

    campaign: Campaign
    head: Head
    _drawings: dict[str, str] = field(default_factory=dict, repr=False, compare=False)

    @property
    def revision(self) -> str:
        """The end of the log, for forms."""
        return revision_of(self.head)

    @cached_property
    def status(self) -> Status:
        """Where it stands."""
        return self.campaign.status()

    @cached_property
    def facts(self) -> dict[str, str]:
        """What there is to say, by name."""
        return facts_of(self.status, self.campaign.settings, self.campaign.target, self.head)

    @cached_property
    def batches(self) -> tuple[Batch, ...]:
        """All rounds, the newest first."""
        return tuple(self.campaign.batch(number) for number in range(self.status.rounds, 0, -1))

    @cached_property
    def coverage(self) -> tuple[list[Row], list[str]]:
        """How often the stated bounds held, and where they did too seldom."""
        return coverage_of(self.campaign) if self.status.counts.get("measured") else ([], [])

    @cached_property
    def advice(self) -> Advice | None:
        """Whether the open round is worth it."""
        return self.campaign.advice(self.batches[0]) if self.status.open and self.batches else None

    @cached_property
    def history(self) -> pd.DataFrame:
        """Everything that happened."""
        return self.campaign.history()

    def since(self, revision: str) -> pd.DataFrame:
        """List what happened after the end of the log that a form was made from."""
        return self.history[self.history["sequence"] > int(revision.partition("-")[0])]

    @cached_property
    def wells(self) -> pd.DataFrame:
        """All recorded wells."""
        return self.campaign.wells()

    def drawing(self, name: str) -> str:
        """Draw the curve or the coverage, once."""
        with _DRAWING:
            if name not in self._drawings:
                draw = {"curve": campaign_curve, "coverage": campaign_coverage}[name]
                self._drawings[name] = svg_of(figure_of(draw(self.campaign)), name=name)
            return self._drawings[name]

    def report(self) -> str:
        """Write the page to send, once."""
        with _DRAWING:
            if _REPORT not in self._drawings:
                said = campaign_page(self.campaign, facts=self.facts, advice=self.advice)
                self._drawings[_REPORT] = said.html()
            return self._drawings[_REPORT]


class Shelf:
    """All campaigns of one store."""

    def __init__(self, place: str) -> None:
        """Open the store; a file that is not there is made."""
        self.place = place
        self._store: Store | None = open_store(place, create=True)
        self._campaigns: dict[str, Campaign] = {}  # by key
        self._views: OrderedDict[tuple[str, str], View] = OrderedDict()
        self._lock = threading.Lock()

    def store(self) -> Store:
        """Give the store, which is opened anew after a failure: it may be another file."""
        if "://" not in self.place and not Path(self.place).exists():
            raise StoreError(f"the store {self.place!r} is gone; put it back, or restore a backup")
        if self._store is None:
            self._store = open_store(self.place)
        return self._store

    def reset(self) -> None:
        """Forget the store after a failure."""
        self._store = None
        self._campaigns.clear()

    def listed(self) -> list[View]:
        """Look at all campaigns, by name."""
        return [self.view(key) for key in self._keys()]

    def view(self, key: str) -> View:
        """Look at a campaign as it stands now."""
        campaign = self.campaign(key)
        self.store()
        head = campaign.head
        place = (key, head.hash)
        with self._lock:
            found = self._views.get(place)
            if found is None:
                found = self._views[place] = View(campaign, head)
                while len(self._views) > _KEPT + len(self._campaigns):
                    self._views.popitem(last=False)
            self._views.move_to_end(place)
            return found

    def campaign(self, key: str) -> Campaign:
        """Find a campaign by its key."""
        found = self._campaigns.get(key)
        if found is None:
            self._keys()
            found = self._campaigns.get(key)
        if found is None:
            raise UnknownNameError(f"there is no campaign {key!r} in this store")
        return found

    def checked(self, key: str, revision: str, *, actor: str, rehearsal: bool = False) -> Campaign:
        """Take a campaign to change it, if it is as it was when the form was made."""
        store = CheckedStore(self.store(), revision, rehearsal)
        return replace(self.campaign(key), store=store, actor=actor)

    def _keys(self) -> list[str]:
        """List the keys of all campaigns, by name; those that were not known are opened."""
        store, known = self.store(), {one.name: one for one in tuple(self._campaigns.values())}
        found = [known.get(name) or Campaign.open(store, name) for name in store.names()]
        self._campaigns.update((each.key, each) for each in found)
        return [each.key for each in found]
