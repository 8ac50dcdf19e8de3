"""Versions of the tables, and files that cannot be a store."""

import os
import sqlite3
import stat
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace

import pandas as pd
import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import Connection, event, text
from strategies.campaigns import SETTINGS, TARGET, FirstPairs, measured, starting_screen

from inverse_design.campaign.campaign import Campaign
from inverse_design.campaign.store import schema
from inverse_design.campaign.store.database import Database, refuse_network
from inverse_design.campaign.store.protocol import open_store
from inverse_design.campaign.store.schema import METADATA
from inverse_design.campaign.store.sql import SqlStore
from inverse_design.errors import StoreError


def _old_store(place: str, folder: Path, version: str = "0001") -> None:
    """A store of an older version, with a campaign that has been asked once."""
    fresh = open_store(folder / "fresh.db", create=True)
    assert isinstance(fresh, SqlStore)
    _campaign(fresh)
    old = Database.at(place, timeout=5.0)
    with old.writing() as connection, fresh.database.reading() as source:
        schema.migrate(connection, version)
        for table in ("campaigns", "artefacts", "events"):
            for row in source.execute(text(f"SELECT * FROM {table}")).mappings():  # noqa: S608
                kept = {name: value for name, value in row.items() if name != "hash" or table == "artefacts"}
                names = ", ".join(kept)
                wanted = ", ".join(f":{name}" for name in kept)
                connection.execute(text(f"INSERT INTO {table} ({names}) VALUES ({wanted})"), kept)  # noqa: S608
    (folder / "fresh.db").unlink()


def _campaign(store: SqlStore) -> Campaign:
    campaign = Campaign.create(starting_screen(), target=TARGET, settings=SETTINGS, store=store, actor="ann")
    campaign.ask(2, FirstPairs())
    return campaign


def _sqlite(tmp_path: Path) -> tuple[Path, Campaign]:
    path = tmp_path / "store.db"
    store = open_store(path, create=True, timeout=0.1)
    assert isinstance(store, SqlStore)
    return path, _campaign(store)


def test_migrations_make_the_tables_that_queries_know(place: str) -> None:
    store = open_store(place, create=True)
    assert isinstance(store, SqlStore)
    with store.database.reading() as connection:
        assert schema.schema_version(connection) == schema.HEAD
        assert compare_metadata(MigrationContext.configure(connection), METADATA) == []


@pytest.mark.parametrize("version", ["0001", "0002"])
def test_an_older_store_is_migrated_and_loses_nothing(place: str, version: str, tmp_path: Path) -> None:
    _old_store(place, tmp_path, version)
    campaign = Campaign.open(open_store(place), "test", actor="bob")
    assert list(campaign.history()["kind"]) == ["created", "asked"]
    names = list(campaign.ask(2, FirstPairs()).table["perturbation"])
    assert campaign.tell(measured(names, campaign.readouts)).wells == 2


def test_a_copy_is_migrated_and_put_in_place_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "store.db"
    _old_store(str(path), tmp_path)
    path.chmod(0o640)
    before = path.read_bytes()

    def fail(connection: Connection, version: str = "head") -> None:
        connection.execute(text("DROP TABLE events"))
        raise StoreError(f"no way to {version}")

    with monkeypatch.context() as patch:
        patch.setattr(schema, "migrate", fail)
        with pytest.raises(StoreError, match="no way to head"):
            open_store(path)
    assert path.read_bytes() == before
    open_store(path)
    assert path.read_bytes() != before
    assert stat.S_IMODE(path.stat().st_mode) == 0o640
    assert sorted(each.name for each in tmp_path.iterdir()) == ["store.db", "store.db.version-0001"]
    kept = tmp_path / "store.db.version-0001"
    assert stat.S_IMODE(kept.stat().st_mode) == 0o600
    with closing(sqlite3.connect(kept)) as former:
        assert former.execute("SELECT version_num FROM alembic_version").fetchall() == [("0001",)]
        assert former.execute("SELECT count(*) FROM events").fetchone() == (2,)


def test_who_waited_while_the_file_was_replaced_writes_into_the_new_one(tmp_path: Path) -> None:
    path, campaign = _sqlite(tmp_path)
    assert isinstance(campaign.store, SqlStore)
    copy = tmp_path / "copy.db"
    copy.write_bytes(path.read_bytes())
    swapped: list[bool] = []

    def swap(connection: Connection) -> None:
        del connection
        if not swapped:
            swapped.append(True)
            copy.replace(path)

    event.listen(campaign.store.database.engine, "begin", swap)
    campaign.order()
    assert swapped
    assert Campaign.open(open_store(path), "test", actor="bob").status().counts["ordered"] == 2


def test_a_newer_store_is_refused(place: str) -> None:
    store = open_store(place, create=True)
    assert isinstance(store, SqlStore)
    campaign = _campaign(store)
    with store.database.writing() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '0099'"))
    with pytest.raises(StoreError, match=r"version 0099.*knows 0003.*upgrade the package"):
        open_store(place)
    with pytest.raises(StoreError, match="version 0099"):  # it was open already
        campaign.order()


def test_a_database_of_another_program_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "other.db"
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE songs (title TEXT)")
    with pytest.raises(StoreError, match=r"of another program .with a table 'songs'"):
        open_store(path, create=True)


def test_what_is_no_store_is_refused(tmp_path: Path) -> None:
    text_file = tmp_path / "notes.txt"
    text_file.write_text("not a database, but long enough to be looked at " * 30, encoding="utf-8")
    with pytest.raises(StoreError, match="is not a database; name another file"):
        open_store(text_file)
    with pytest.raises(StoreError, match="there is no store"):
        open_store(tmp_path / "absent.db")
    assert not (tmp_path / "absent.db").exists()
    with pytest.raises(StoreError, match="is a folder"):
        open_store(tmp_path)
    with pytest.raises(StoreError, match="there is no folder"):
        open_store(tmp_path / "absent" / "store.db", create=True)
    with pytest.raises(StoreError, match="neither an SQLite file nor a PostgreSQL"):
        open_store("mysql://ann:secret@server/screens")
    with pytest.raises(StoreError, match="in memory would be lost"):
        open_store("sqlite:///:memory:")


def test_a_server_that_does_not_answer_is_named_without_its_password() -> None:
    with pytest.raises(StoreError, match="cannot be used") as refused:
        open_store("postgresql://ann:secret@127.0.0.1:1/screens")
    assert "secret" not in str(refused.value)
    assert "ann:***@127.0.0.1" in str(refused.value)


def test_a_read_only_store_can_be_read_and_not_written(tmp_path: Path) -> None:
    path, campaign = _sqlite(tmp_path)
    before = path.read_bytes()
    locked = Campaign.open(open_store(f"sqlite:///file:{path}?mode=ro&uri=true"), "test", actor="bob")
    assert locked.status().rounds == 1
    with pytest.raises(StoreError, match="may not be written"):
        locked.tell(measured(list(campaign.batch().open), campaign.readouts))
    assert path.read_bytes() == before


def test_a_locked_store_says_so_and_is_unharmed(tmp_path: Path) -> None:
    path, campaign = _sqlite(tmp_path)
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        with pytest.raises(StoreError, match="locked by another program"):
            campaign.order()
        other.execute("ROLLBACK")
    assert len(campaign.order()) == 2


@pytest.mark.parametrize("place", ["postgresql"], indirect=True)
def test_a_locked_campaign_says_so_in_postgresql(place: str) -> None:
    store = open_store(place, create=True, timeout=0.2)
    assert isinstance(store, SqlStore)
    campaign = _campaign(store)
    with store.writing("test"), pytest.raises(StoreError, match="locked by another program"):
        campaign.order()
    assert len(campaign.order()) == 2


def test_a_full_disk_leaves_the_store_as_it_was(tmp_path: Path) -> None:
    path, campaign = _sqlite(tmp_path)
    assert isinstance(campaign.store, SqlStore)
    before = campaign.history()
    pages = path.stat().st_size // 4096

    def limit(connection: sqlite3.Connection, record: object) -> None:
        del record
        connection.execute(f"PRAGMA max_page_count = {pages}")

    engine = campaign.store.database.engine
    event.listen(engine, "connect", limit)
    many = [f"G0{i}+G0{j}+G0{k}" for i in range(8) for j in range(i) for k in range(j)]
    table = pd.concat([measured(many, campaign.readouts, replicate=str(well)) for well in range(40)])
    with pytest.raises(StoreError, match="disk, which is full"):
        campaign.tell(table, allow_extra=True)
    event.remove(engine, "connect", limit)
    assert campaign.history().equals(before)
    assert campaign.tell(table, allow_extra=True).wells == len(table)


@pytest.mark.skipif(os.name != "posix", reason="paths of mounts are those of Linux")
@pytest.mark.parametrize(
    ("kind", "place", "network"),
    [
        ("nfs4", "/srv/lab", True),
        ("cifs", "/srv/lab", True),
        ("fuse.sshfs", "/srv/lab", True),
        ("ext4", "/srv/lab", False),
        ("nfs", "/srv/other", False),
        ("nfs", "/srv/lab/our screens", True),
        ("nfs", "/srv/la", False),
    ],
)
def test_files_on_a_network_are_refused(
    monkeypatch: pytest.MonkeyPatch, kind: str, place: str, *, network: bool
) -> None:
    mounts = [SimpleNamespace(mountpoint="/", fstype="ext4"), SimpleNamespace(mountpoint=place, fstype=kind)]
    monkeypatch.setattr("psutil.disk_partitions", lambda **_: mounts)
    path = Path("/srv/lab/our screens/store.db")
    if network:
        with pytest.raises(StoreError, match=f"network file system .*{kind}.*PostgreSQL"):
            refuse_network(path)
        mounts.append(SimpleNamespace(mountpoint=place, fstype="ext4"))  # a local disk hides the share
    refuse_network(path)


def test_a_system_without_a_list_of_mounts_refuses_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(*, all: bool) -> None:  # noqa: A002, ARG001 - its own name
        raise FileNotFoundError

    monkeypatch.setattr("psutil.disk_partitions", absent)
    refuse_network(Path("/srv/lab/store.db"))
