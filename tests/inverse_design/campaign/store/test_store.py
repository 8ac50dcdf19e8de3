"""Stores: the shipped contract in both databases, and the replay of their logs."""

from collections import Counter
from pathlib import Path

import pytest
from sqlalchemy import text
from strategies.campaigns import SETTINGS, TARGET, FirstPairs, measured, starting_screen
from strategies.contracts import check_store

from inverse_design.campaign.campaign import Campaign
from inverse_design.campaign.store.protocol import Store, open_store
from inverse_design.campaign.store.sql import SqlStore
from inverse_design.errors import StoreError


def _store(place: str) -> SqlStore:
    store = open_store(place, create=True)
    assert isinstance(store, SqlStore)
    return store


def _busy_campaign(store: Store) -> Campaign:
    """A campaign with every kind of event."""
    campaign = Campaign.create(starting_screen(), target=TARGET, settings=SETTINGS, store=store, actor="ann")
    batch = campaign.ask(4, FirstPairs())
    first, second, third, last = batch.table["perturbation"]
    campaign.order([first, third])
    campaign.tell(measured([first, second], campaign.readouts))
    campaign.tell(measured([third], campaign.readouts).assign(status="failed"))
    campaign.tell(measured([third, "G00+G01+G02"], campaign.readouts, replicate="2"), allow_extra=True)
    campaign.withdraw([last])
    campaign.ask(2, FirstPairs())
    return campaign


def test_store_keeps_the_contract(place: str) -> None:
    check_store(_store(place))


def test_a_store_that_reads_all_at_once_sees_what_the_writer_saw(place: str) -> None:
    store = _store(place)
    campaign = _busy_campaign(store)
    with store.reading(campaign.name) as log, open_store(place).reading(campaign.name) as fresh:
        assert fresh.experiments() == log.experiments()
        assert fresh.measurements(range(1, 10)) == log.measurements(range(1, 10))
        assert (
            fresh.counts()
            == log.counts()
            == Counter(one.state for one in log.experiments()) | {"proposed": 2, "ordered": 0}
        )
        assert (
            len(log.experiments()) == 8
        )  # 4 + 2 asked, and two extra: a triple, and a repetition of what had failed
    assert open_store(place).verify(campaign.name) == log.end  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    "change",
    [
        "DELETE FROM events",
        "UPDATE events SET actor = 'eve'",
        "DELETE FROM artefacts",
        "UPDATE artefacts SET content = ''",
        "UPDATE campaigns SET head = head - 1",
        "UPDATE campaigns SET name = 'other'",
        "DELETE FROM campaigns",
        "INSERT INTO events (campaign, sequence, kind, time, actor, payload) VALUES (1, 99, 'told', '', '', '')",
    ],
)
def test_the_database_itself_refuses_to_change_the_log(place: str, change: str) -> None:
    store = _store(place)
    campaign = _busy_campaign(store)
    with pytest.raises(StoreError, match="can only be appended to"), store.writing(campaign.name) as log:
        log.connection.execute(text(change))
    assert len(campaign.history()) == 9


def test_two_campaigns_of_one_store_do_not_see_each_other(place: str) -> None:
    store = _store(place)
    _busy_campaign(store)
    other = Campaign.create(
        starting_screen(),
        target=TARGET,
        settings=SETTINGS.__class__(name="other", target="x"),
        store=store,
        actor="bob",
    )
    assert sum(other.status().counts.values()) == 0
    assert other.ask(2, FirstPairs()).round == 1
    assert store.names() == ("other", "test")


def test_stores_of_one_campaign_agree_on_its_plans(tmp_path: Path, place: str) -> None:
    one = Campaign.create(starting_screen(), target=TARGET, settings=SETTINGS, store=_store(place), actor="ann")
    two = Campaign.create(
        starting_screen(), target=TARGET, settings=SETTINGS, store=_store(str(tmp_path / "two.db")), actor="bob"
    )
    tables = [each.ask(4, FirstPairs()).table.drop(columns="campaign") for each in (one, two)]
    assert tables[0].equals(tables[1])
