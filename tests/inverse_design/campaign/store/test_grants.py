"""Roles of a PostgreSQL store: what readers, tellers and the owner can do, asked of a server."""

import pytest
from sqlalchemy import create_engine, text
from sqlalchemy.engine import make_url
from sqlalchemy.pool import NullPool
from strategies.campaigns import SETTINGS, TARGET, FirstPairs, measured, starting_screen

from inverse_design.campaign.campaign import Campaign
from inverse_design.campaign.store.protocol import open_store
from inverse_design.campaign.store.schema import grants
from inverse_design.errors import SettingsError, StoreError

_READER, _TELLER = 'read "er"', "Teller; DROP TABLE events"


@pytest.fixture
def owned(place: str) -> str:
    """A store of the owner, with a campaign, whose grants were run."""
    Campaign.create(starting_screen(), target=TARGET, settings=SETTINGS, store=place, actor="owner")
    said = grants(schema="public", readers=[_READER], tellers=[_TELLER])
    for role in ('"read ""er"""', f'"{_TELLER}"'):  # which are those of the server, not of a database
        _run(place, f"DO $$ BEGIN CREATE ROLE {role} LOGIN; EXCEPTION WHEN duplicate_object THEN NULL; END $$")
    _run(place, said)
    return place


def _run(place: str, statements: str) -> None:
    with create_engine(place, poolclass=NullPool).begin() as connection:
        connection.exec_driver_sql(statements)


def _as(place: str, role: str) -> str:
    return make_url(place).set(username=role).render_as_string()


_CHANGES = (
    "UPDATE events SET actor = 'eve'",
    "DELETE FROM events",
    "TRUNCATE events CASCADE",
    "TRUNCATE campaigns CASCADE",
    "UPDATE artefacts SET content = ''",
    "DELETE FROM artefacts",
    "TRUNCATE artefacts CASCADE",
    "DELETE FROM campaigns",
    "UPDATE campaigns SET name = 'x'",
    "UPDATE campaigns SET head = 0",
    "UPDATE campaigns SET hash = ''",
    "INSERT INTO events (campaign, sequence, kind, time, actor, payload) VALUES (1, 99, 'told', '', '', '')",
)


@pytest.mark.parametrize("place", ["postgresql"], indirect=True)
def test_tellers_append_readers_read_and_nobody_changes_the_log(owned: str) -> None:
    teller = Campaign.open(_as(owned, _TELLER), "test", actor="teller")
    batch = teller.ask(2, FirstPairs())
    teller.order()
    assert teller.tell(measured(batch.labels, teller.readouts)).wells == 2
    reader = Campaign.open(_as(owned, _READER), "test", actor="reader")
    assert reader.head == teller.head
    assert reader.status().counts["measured"] == 2
    with pytest.raises(StoreError, match="may not be used so by your role"):
        reader.ask_more(1, FirstPairs())
    with pytest.raises(StoreError, match="may not be used so by your role"):
        Campaign.create(
            starting_screen(),
            target=TARGET,
            settings=SETTINGS.__class__(name="other", target="x"),
            store=_as(owned, _TELLER),
            actor="teller",
        )
    for role, words in (
        (_READER, "permission denied"),
        (_TELLER, "permission denied|appended"),
        (None, "appended"),
    ):
        url = owned if role is None else _as(owned, role)
        for change in _CHANGES:
            with (
                pytest.raises(Exception, match=words),
                create_engine(url, poolclass=NullPool).begin() as connection,
            ):
                connection.execute(text(change))
    assert open_store(owned).names() == ("test",)
    assert reader.head == teller.head


@pytest.mark.parametrize("place", ["postgresql"], indirect=True)
def test_a_temporary_table_of_a_teller_does_not_mislead_the_guards(owned: str) -> None:
    statements = """
        CREATE TEMP TABLE campaigns AS SELECT * FROM public.campaigns;
        UPDATE pg_temp.campaigns SET head = 98;
        INSERT INTO public.events (campaign, sequence, kind, time, actor, payload)
            SELECT id, 99, 'told', '', '', '' FROM public.campaigns;
    """
    with pytest.raises(Exception, match="appended"):
        _run(_as(owned, _TELLER), statements)


@pytest.mark.parametrize("place", ["postgresql"], indirect=True)
def test_a_guard_that_is_off_is_missed(owned: str) -> None:
    _run(owned, "ALTER TABLE events DISABLE TRIGGER events_append_only")
    with pytest.raises(StoreError, match=r"guards of the log are not those .*'events_append_only'"):
        open_store(owned)


def test_grants_quote_names_and_refuse_what_is_none() -> None:
    said = grants(schema="public", readers=["ann"], tellers=['b"ob'])
    assert 'GRANT INSERT ON "public".artefacts, "public".events TO "b""ob";' in said
    assert 'GRANT SELECT ON "public".alembic_version' in said
    assert "INSERT" not in "".join(line for line in said.splitlines() if line.endswith('"ann";'))
    for readers, tellers, words in (
        ([], [], "no role"),
        (["a"], ["a"], "twice"),
        (["a\nb"], [], "name of a role"),
    ):
        with pytest.raises(SettingsError, match=words):
            grants(schema="public", readers=readers, tellers=tellers)
