"""A campaign: rounds of ask and tell on a log that never forgets."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import pandas as pd

from inverse_design.campaign.ask import Basis, basis_of, planned, record, round_cost
from inverse_design.campaign.create import begin, beginning_of, start_of, target_of
from inverse_design.campaign.planner import PERTURBATION, Batch, Plan, Planner, batch_of, open_round, stated_round
from inverse_design.campaign.record_results import Scale, Telling, order, tell, withdraw
from inverse_design.campaign.results import results_of
from inverse_design.campaign.settings import CampaignSettings, settings_of
from inverse_design.campaign.status import Advice, Status, advise, history_of, prospect_of, status_of
from inverse_design.campaign.store.protocol import Store
from inverse_design.errors import StoreError
from inverse_design.problem.target import Target
from surrogates.data.screen import Screen
from surrogates.data.vocabulary import Vocabulary

_ATTEMPTS = 5


@dataclass(frozen=True)
class Campaign:
    """A campaign in a store. All that changes is in the store: two handles of one campaign see the same.

    Example:
        >>> campaign = Campaign.open(open_store("screens.db"), "reprogramming", actor="ann")  # doctest: +SKIP
        >>> batch = campaign.ask(24, planner)  # doctest: +SKIP
        >>> campaign.tell(pd.read_csv("results.csv")).words  # doctest: +SKIP
        '24 wells told, 24 experiments measured, 0 failed'

    Attributes:
        store: Where it is kept.
        name: In the store.
        key: Identity, in whatever store: every table that is given out carries it.
        actor: Who acts through this handle.
        settings: What was fixed when it began.
        target: Where the cells should go.
    """

    store: Store
    name: str
    key: str
    actor: str
    settings: CampaignSettings
    target: Target

    @classmethod
    def create(
        cls, store: Store, settings: CampaignSettings, screen: Screen, *, target: Target, actor: str
    ) -> "Campaign":
        """Begin a campaign.

        Args:
            store: Where to keep it.
            settings: Its name is that of the campaign.
            screen: What is known already, in one context and without the target condition itself. Its vocabulary
                is what can be proposed and told.
            target: Where the cells should go.
            actor: Who begins it.

        Returns:
            The campaign.

        Raises:
            StoreError: If the store has a campaign of that name, or cannot be written.
            UnknownNameError: If the settings exclude, or give a cost to, what the screen does not know.
            TargetError: If the target has nothing in common with the screen.
        """
        begin(store, settings, screen, target=target, actor=actor)
        return cls.open(store, settings.name, actor=actor)

    @classmethod
    def open(cls, store: Store, name: str, *, actor: str) -> "Campaign":
        """Open a campaign.

        Args:
            store: Where it is kept.
            name: In the store.
            actor: Who acts through this handle.

        Returns:
            The campaign.

        Raises:
            UnknownNameError: If there is no such campaign; the message names the nearest ones.
            StoreError: If the store cannot be read.
        """
        with store.reading(name) as log:
            key, created = log.key, beginning_of(log)
        return cls(store, name, key, actor, settings_of(created.settings), target_of(created.goal))

    @property
    def readouts(self) -> tuple[str, ...]:
        """The measured variables that every result needs."""
        return self._start.readouts

    @property
    def vocabulary(self) -> Vocabulary:
        """What can be proposed and told."""
        return self._start.vocabulary

    def ask(self, count: int, planner: Planner) -> Batch:
        """Ask for the next round. As long as it has results to come, asking again gives the same round.

        Args:
            count: How many experiments are wanted.
            planner: Who plans, if there is no open round.

        Returns:
            The round.

        Raises:
            NothingToProposeError: If no candidate is left, or the budget does not reach for one.
            PlanError: If the planner proposes what cannot be done.
            StoreError: If the store cannot be written.
        """
        with self.store.reading(self.name) as log:
            there = open_round(log)
            if there is not None:
                return batch_of(log, there)
        return self._propose(count, planner, beside=False)

    def ask_more(self, count: int, planner: Planner) -> Batch:
        """Ask for a further round beside the open ones, whose experiments the planner takes into account.

        Args:
            count: How many experiments are wanted.
            planner: Who plans.

        Returns:
            The round.

        Raises:
            NothingToProposeError, PlanError, StoreError: As :meth:`ask`.
        """
        return self._propose(count, planner, beside=True)

    def preview(self, count: int, planner: Planner) -> Plan:
        """Plan the next round without recording it: what :meth:`ask` would propose.

        Args:
            count: How many experiments are wanted.
            planner: Who plans.

        Returns:
            The plan.

        Raises:
            NothingToProposeError, PlanError: As :meth:`ask`.
        """
        return planned(planner, count, self._basis(), self.settings)

    def batch(self, round_number: int | None = None) -> Batch:
        """Give a round out again.

        Args:
            round_number: Which; the newest by default.

        Returns:
            The round, and where its experiments stand now.

        Raises:
            DataError: If there is no such round.
        """
        with self.store.reading(self.name) as log:
            return batch_of(log, stated_round(log, round_number))

    def order(self, names: Sequence[str] | None = None) -> tuple[str, ...]:
        """Note that proposed experiments go to the bench.

        Args:
            names: Which perturbations; by default all that are proposed.

        Returns:
            Their canonical labels.

        Raises:
            IllegalMoveError: If one of them is not proposed; then none is ordered.
            DataError: If one of them was never asked for.
        """
        with self.store.writing(self.name) as log:
            return order(log, None if names is None else self._labels(names), actor=self.actor)

    def withdraw(self, names: Sequence[str], *, reason: str = "") -> tuple[str, ...]:
        """Note that experiments will not be done; they may be proposed again.

        Args:
            names: Which perturbations.
            reason: Why, for the history.

        Returns:
            Their canonical labels.

        Raises:
            IllegalMoveError: If one of them has a result; then none is withdrawn.
            DataError: If one of them was never asked for.
        """
        with self.store.writing(self.name) as log:
            return withdraw(log, self._labels(names), reason=reason, actor=self.actor)

    def tell(self, table: pd.DataFrame, *, allow_extra: bool = False) -> Telling:
        """Tell results: all of them are taken, or none.

        Args:
            table: One row per well: ``perturbation`` and every readout; ``replicate``, ``status`` (measured,
                failed, pending), ``campaign`` and ``round`` count if they are there, see
                :func:`inverse_design.campaign.results.results_of`.
            allow_extra: Whether results of experiments that nobody asked for are taken.

        Returns:
            What became of them. Wells that were told before change nothing.

        Raises:
            DataError: If the table is refused; the message names line, column and value.
            StoreError: If the store cannot be written.
        """
        results = results_of(table, vocabulary=self.vocabulary, readouts=self.readouts, key=self.key)
        scale = Scale.of(self.screen())
        with self.store.writing(self.name) as log:
            return tell(log, results, scale=scale, allow_extra=allow_extra, actor=self.actor)

    def screen(self) -> Screen:
        """Average all that is known.

        Returns:
            The starting screen and the told values, one row per perturbation.
        """
        return self._basis().screen

    def status(self) -> Status:
        """Say where the campaign stands.

        Returns:
            Counts, the best perturbation so far, and what was spent.
        """
        start = self._start
        with self.store.reading(self.name) as log:
            basis = basis_of(log, start, self.settings)
            return status_of(log, basis, start=start, target=self.target, settings=self.settings)

    def advice(self, considered: Plan | Batch) -> Advice:
        """Say whether a round is worth it.

        Args:
            considered: A plan of :meth:`preview`, or a round.

        Returns:
            Whether to stop, and why.
        """
        cost = round_cost(self.settings, [str(each) for each in considered.table[PERTURBATION]])
        recorded, gain = isinstance(considered, Batch), considered.expected_gain
        return advise(prospect_of(self.status(), expected_gain=gain, cost=cost, recorded=recorded), self.settings)

    def history(self) -> pd.DataFrame:
        """List everything that happened.

        Returns:
            One row per event: ``sequence``, ``time`` (UTC), ``actor``, ``kind`` and ``what``.
        """
        with self.store.reading(self.name) as log:
            return history_of(log)

    @cached_property
    def _start(self) -> Screen:
        """The starting screen, which never changes."""
        with self.store.reading(self.name) as log:
            return start_of(log)

    def _basis(self) -> Basis:
        start = self._start
        with self.store.reading(self.name) as log:
            return basis_of(log, start, self.settings)

    def _propose(self, count: int, planner: Planner, *, beside: bool) -> Batch:
        for _ in range(_ATTEMPTS):
            basis = self._basis()
            plan = planned(planner, count, basis, self.settings)
            with self.store.writing(self.name) as log:
                batch = record(log, plan, basis, count=count, beside=beside, actor=self.actor)
            if batch is not None:
                return batch
        raise StoreError(
            f"campaign {self.name!r} was changed by others {_ATTEMPTS} times while a round was planned; ask again"
        )

    def _labels(self, names: Sequence[str]) -> list[str]:
        return list(dict.fromkeys(self.vocabulary.parse(name).label for name in names))
