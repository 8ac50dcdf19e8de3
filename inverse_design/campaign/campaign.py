"""A campaign: rounds of ask and tell on an append-only log."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import pandas as pd

from inverse_design.campaign.ask import Basis, basis_of, planned, record, round_cost, round_outline, state_of
from inverse_design.campaign.create import begin, beginning_of, settings_for, start_of, target_of_goal, user_name
from inverse_design.campaign.record_results import Telling, order, tell, withdraw
from inverse_design.campaign.results import Results, results_of
from inverse_design.campaign.retract import (
    Correction,
    Retraction,
    correct,
    reason_of,
    retract,
    select_wells,
    wells_of_results,
)
from inverse_design.campaign.rounds import Batch, batch_of, missed_shares, open_round, outcomes_of, stated_round
from inverse_design.campaign.scale import AssayRange, Scale
from inverse_design.campaign.settings import CampaignSettings, settings_of
from inverse_design.campaign.status import Advice, Status, advise, history_of, prospect_of, status_of
from inverse_design.campaign.store.chain import Head
from inverse_design.campaign.store.protocol import Store, memory_store, open_store
from inverse_design.campaign.wells import well_table
from inverse_design.errors import StoreError
from inverse_design.planning.plan import Outline, Plan
from inverse_design.problem.problem import ask
from inverse_design.problem.target import Target
from inverse_design.recommend.protocol import PERTURBATION, DecisionState, Recommendation, Recommender
from inverse_design.screens import ScreenLike, as_screen
from inverse_design.targets import TargetLike, target_of
from surrogates.data.names import name_of
from surrogates.data.screen import Screen
from surrogates.data.vocabulary import Vocabulary
from surrogates.errors import amount
from surrogates.executors import Workers
from surrogates.fit_cache import USER_CACHE, FitCache
from surrogates.summary import as_html, lines_of
from surrogates.team import fits_over

_ATTEMPTS = 5


@dataclass(frozen=True)
class Campaign:
    """A campaign in a store. All that changes is in the store: two handles of one campaign see the same.

    Example:
        >>> campaign = Campaign.create(screen, target="CEBPE+KLF1", batch_size=2, surrogate="additive")
        >>> batch = campaign.ask()
        >>> campaign.tell(measured(batch.labels)).words
        '2 wells told, 2 experiments measured, 0 failed'

    Attributes:
        store: Where it is kept.
        name: In the store.
        key: Identity, in whatever store: every table that is given out carries it.
        actor: Who acts through this handle.
        settings: What was fixed when it began.
        target: Where the cells should go.
        cache: Where fits are kept, and looked up; ``None`` to fit in any case.
        workers: Processes that share a long fit, or the address of a scheduler of ``dask.distributed``.
    """

    store: Store
    name: str
    key: str
    actor: str
    settings: CampaignSettings
    target: Target
    cache: FitCache | None = USER_CACHE
    workers: Workers = 1

    @classmethod
    def create(
        cls,
        screen: ScreenLike,
        *misplaced: object,
        target: TargetLike,
        settings: CampaignSettings | None = None,
        store: Store | str | Path | None = None,
        actor: str | None = None,
        **stated: object,
    ) -> "Campaign":
        """Begin a campaign.

        Args:
            screen: What is known already, in one context: a screen, or what :func:`read_screen` reads as
                it is. Its vocabulary is what can be proposed and measured.
            misplaced: Nothing: all else is named.
            target: Where the cells should go: anything that :func:`inverse_design.propose` takes. The label of a
                condition takes that condition out of what is known.
            settings: Of the campaign; its name is that of the campaign.
            store: Where to keep it: a store, the path of a file, or the URL of a database; by default in memory,
                without a file, as long as the process lives.
            actor: Who begins it; by default the user.
            stated: Single settings, such as ``batch_size=8``.

        Raises:
            StoreError: If the store has a campaign of that name, or cannot be written.
            SettingsError: If a setting is unknown or out of range.
            UnknownNameError: If the settings exclude, or give a cost to, what the screen does not know.
            TargetError: If the target has nothing in common with the screen.
            TypeError: If the call is one of an older release, with the store first.
        """
        if misplaced:
            raise TypeError(
                "write Campaign.create(screen, target=..., settings=..., store=..., actor=...): the screen comes"
                " first, and all else by name"
            )
        screen = as_screen(screen)
        question = ask(screen, target_of(target, screen))
        called = question.target.name if question.maker is None else question.maker.label
        chosen = settings_for(settings, stated, called)
        place = memory_store() if store is None else _opened(store, create=True)
        begin(place, chosen, question.training, target=question.target, actor=actor or user_name())
        return cls.open(place, chosen.name, actor=actor)

    @classmethod
    def open(cls, store: Store | str | Path, name: str, *, actor: str | None = None) -> "Campaign":
        """Open a campaign, in a store as for :meth:`create`; ``actor`` acts through this handle.

        Raises:
            UnknownNameError: If there is no such campaign; the message names the nearest ones.
            StoreError: If the store cannot be read.
        """
        place = _opened(store, create=False)
        with place.reading(name) as log:
            key, created = log.key, beginning_of(log)
        settings, target = settings_of(created.settings), target_of_goal(created.goal)
        return cls(place, name, key, name_of(actor or user_name(), "name of who acts"), settings, target)

    def __repr__(self) -> str:
        with self.store.reading(self.name) as log:
            counts = {state: count for state, count in log.counts().items() if count}
        done = ", ".join(f"{count} {state}" for state, count in counts.items()) or "nothing asked for yet"
        return lines_of(
            f"Campaign {self.name!r} for {self.target.name!r}: {done}",
            f"started from {amount(len(self._start), 'condition')} on {amount(len(self.readouts), 'readout')}",
            "ask() for a round, tell(table) its results; status(), history()",
        )

    def _repr_html_(self) -> str:
        return as_html(repr(self).splitlines(), self.outcomes(), rows=20)

    @property
    def readouts(self) -> tuple[str, ...]:
        """The measured variables that every result needs."""
        return self._start.readouts

    @property
    def vocabulary(self) -> Vocabulary:
        """What can be proposed and measured."""
        return self._start.vocabulary

    @property
    def head(self) -> Head:
        """The end of the log: number and hash of the last event; the hash stands for all events up to it."""
        with self.store.reading(self.name) as log:
            return log.end

    def ask(self, count: int | None = None, recommender: Recommender | str | None = None) -> Batch:
        """Ask for the next round. As long as it has results to come, asking again gives the same round.

        Args:
            count: How many experiments are wanted; by default the batch size of the settings.
            recommender: What chooses the experiments, or its name, if there is no open round; by default that of
                the settings, and if they name none, the one that wins the replays for this kind of target.

        Raises:
            NothingToProposeError: If no candidate is left, or the budget does not reach for one.
            PlanError: If the recommender names what cannot be done.
            StoreError: If the store cannot be written.
        """
        with self.store.reading(self.name) as log:
            there = open_round(log)
            if there is not None:
                return batch_of(log, there)
        return self._propose(count, recommender, beside=False)

    def ask_more(self, count: int | None = None, recommender: Recommender | str | None = None) -> Batch:
        """Ask, as :meth:`ask` does, for a further round beside the open ones, which its recommender considers."""
        return self._propose(count, recommender, beside=True)

    def plan(
        self, count: int | None = None, recommender: Recommender | str | None = None, *, more: bool = False
    ) -> Plan:
        """Say what :meth:`ask`, or :meth:`ask_more`, will cost before anything is fitted."""
        with self.store.reading(self.name) as log:
            if not more and open_round(log) is not None:
                return Outline("the open round, given out again", {}).price()
        basis, wanted = self._basis(), self.settings.batch_size if count is None else count
        state = self._state(basis)
        return round_outline(recommender, wanted, basis.seed, state, self.settings, workers=self.workers).price()

    def preview(self, count: int | None = None, recommender: Recommender | str | None = None) -> Recommendation:
        """Plan the next round without recording it: what :meth:`ask` would propose."""
        basis, wanted = self._basis(), self.settings.batch_size if count is None else count
        return self._planned(recommender, wanted, basis)

    def outcomes(self) -> pd.DataFrame:
        """Set what was stated of each experiment beside what was measured.

        Returns:
            One row per measured experiment of a round: ``round``, ``perturbation``, ``predicted``, ``lower``,
            ``upper``, ``chosen`` and ``measured``, all in the unit of the outcome (a distance, a projection).
        """
        return self._outcomes(self._basis())

    def batch(self, round_number: int | None = None) -> Batch:
        """Give a round out again, the newest by default, with where its experiments stand now."""
        with self.store.reading(self.name) as log:
            return batch_of(log, stated_round(log, round_number))

    def order(self, names: Sequence[str] | None = None) -> tuple[str, ...]:
        """Note that proposed experiments go to the bench, by default all; give their canonical labels.

        Raises:
            IllegalMoveError: If one of them is not proposed; then none is ordered.
            DataError: If one of them was never asked for.
        """
        with self.store.writing(self.name) as log:
            return order(log, None if names is None else self._labels(names), actor=self.actor)

    def withdraw(self, names: Sequence[str], *, reason: str = "") -> tuple[str, ...]:
        """Note that experiments will not be done, so that they may be proposed again; give their canonical labels.

        Raises:
            IllegalMoveError: If one of them has a result; then none is withdrawn.
            DataError: If one of them was never asked for.
        """
        why = reason_of(reason) if reason else ""
        with self.store.writing(self.name) as log:
            return withdraw(log, self._labels(names), reason=why, actor=self.actor)

    def tell(self, table: pd.DataFrame, *, allow_extra: bool = False, accept_extreme: bool = False) -> Telling:
        """Tell results: all of them are taken, or none.

        Args:
            table: One row per well: ``perturbation`` (a column, or the row names) and every readout, empty where
                it was not measured; ``replicate``, ``status`` (measured, failed, pending), ``campaign`` and
                ``round`` count if they are there, see :func:`inverse_design.campaign.results.results_of`.
            allow_extra: Whether results of experiments that nobody asked for are taken.
            accept_extreme: Whether values that no assay gives, farther out than 10,000 times the range of the
                starting screen, are taken.

        Returns:
            What became of them. Wells that were recorded before change nothing.

        Raises:
            DataError: If the table is refused; the message names line, column and value.
            StoreError: If the store cannot be written.
        """
        results, scale, assay = self._results(table), Scale.of(self.screen()), AssayRange.of(self._start)
        with self.store.writing(self.name) as log:
            return tell(
                log,
                results,
                scale=scale,
                assay=assay,
                allow_extra=allow_extra,
                accept_extreme=accept_extreme,
                actor=self.actor,
            )

    def wells(
        self,
        names: Sequence[str] | None = None,
        *,
        round_number: int | None = None,
        replicate: str | None = None,
        event: int | None = None,
        results: pd.DataFrame | None = None,
    ) -> pd.DataFrame:
        """List recorded wells that fulfil all that is stated; by default all.

        Args:
            names: Of which perturbations.
            round_number: Of which round.
            replicate: Of which name.
            event: Recorded by which event of the history.
            results: Those that this table of results holds, with the values that it holds.

        Returns:
            One row per well: ``event`` and ``row``, which identify it, ``experiment``, ``round``,
            ``perturbation``, ``replicate``, ``failed`` and ``state`` (counts, retracted, corrected).

        Raises:
            DataError: If nothing was recorded of what is stated; the message names the nearest.
        """
        labels, told = None if names is None else self._labels(names), None
        if results is not None:
            told = self._results(results)
        with self.store.reading(self.name) as log:
            found = well_table(log) if told is None else wells_of_results(log, well_table(log), told)
        return select_wells(found, labels=labels, round_number=round_number, replicate=replicate, event=event)

    def retract(self, wells: Sequence[str] | pd.DataFrame, *, reason: str) -> Retraction:
        """Take results back: the log keeps them, and nothing is computed from them any longer.

        Args:
            wells: Rows of :meth:`wells`, or labels of perturbations, of which all wells are meant; wells that had
                been taken back before change nothing.
            reason: Why, for the history.

        Raises:
            DataError: If nothing was recorded of what is named, or there is no reason.
            StoreError: If the store cannot be written.
        """
        chosen = wells if isinstance(wells, pd.DataFrame) else self.wells(wells)
        with self.store.writing(self.name) as log:
            return retract(log, chosen, reason=reason, actor=self.actor)

    def correct(self, table: pd.DataFrame, *, reason: str, accept_extreme: bool = False) -> Correction:
        """Replace the values of recorded wells, also of such as were retracted; the log keeps the old ones.

        Args:
            table: As for :meth:`tell`; a well is found by perturbation and replicate, and if it has these values
                already, nothing changes.
            reason: Why, for the history.
            accept_extreme: As for :meth:`tell`.

        Raises:
            DataError: If the table is refused, or one of its wells was never recorded; then nothing is replaced.
            StoreError: If the store cannot be written.
        """
        results, start = self._results(table), self._start
        with self.store.writing(self.name) as log:
            return correct(
                log, results, start=start, reason=reason, accept_extreme=accept_extreme, actor=self.actor
            )

    def screen(self) -> Screen:
        """Average all that is known: one row per perturbation of which every readout is known."""
        return self._basis().screen

    def status(self) -> Status:
        """Count experiments, and say which perturbation is best so far, and what was spent."""
        start = self._start
        with self.store.reading(self.name) as log:
            basis = basis_of(log, start, self.settings, self.target)
            return status_of(log, basis, start=start, target=self.target, settings=self.settings)

    def advice(self, considered: Recommendation | Batch) -> Advice:
        """Say whether a round, or a plan of :meth:`preview`, is worth it."""
        cost = round_cost(self.settings, [str(each) for each in considered.table[PERTURBATION]])
        recorded, gain = isinstance(considered, Batch), considered.expected_gain
        if gain is not None and math.isnan(gain):
            gain = None
        return advise(prospect_of(self.status(), expected_gain=gain, cost=cost, recorded=recorded), self.settings)

    def history(self) -> pd.DataFrame:
        """List all events: ``sequence``, ``time`` (UTC), ``actor``, ``kind`` and ``what``."""
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
            return basis_of(log, start, self.settings, self.target)

    def _outcomes(self, basis: Basis) -> pd.DataFrame:
        with self.store.reading(self.name) as log:
            return outcomes_of(log, basis.known, self.target)

    def _results(self, table: pd.DataFrame) -> Results:
        if PERTURBATION not in table and not pd.api.types.is_numeric_dtype(table.index):
            table = table.reset_index(names=PERTURBATION)
        return results_of(table, vocabulary=self.vocabulary, readouts=self.readouts, key=self.key)

    def _state(self, basis: Basis) -> DecisionState:
        """What a round is decided on."""
        missed = missed_shares(self._outcomes(basis))
        return state_of(
            basis, self.settings, self.target, started=len(self._start), missed=missed, cache=self.cache
        )

    def _planned(self, recommender: Recommender | str | None, count: int, basis: Basis) -> Recommendation:
        with fits_over(self.workers):
            return planned(recommender, count, basis, self._state(basis), self.settings)

    def _propose(self, stated: int | None, recommender: Recommender | str | None, *, beside: bool) -> Batch:
        count = self.settings.batch_size if stated is None else stated
        for _ in range(_ATTEMPTS):
            basis = self._basis()
            plan = self._planned(recommender, count, basis)
            with self.store.writing(self.name) as log:
                batch = record(log, plan, basis, count=count, beside=beside, actor=self.actor)
            if batch is not None:
                return batch
        raise StoreError(
            f"campaign {self.name!r} was changed by others {_ATTEMPTS} times while a round was planned; ask again"
        )

    def _labels(self, names: Sequence[str]) -> list[str]:
        return list(dict.fromkeys(self.vocabulary.parse(name).label for name in names))


def _opened(store: Store | str | Path, *, create: bool) -> Store:
    return open_store(store, create=create) if isinstance(store, str | Path) else store
