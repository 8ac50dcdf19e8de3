"""Backups: made while others write, checked, and put back without overwriting anything in silence."""

import os
import sqlite3
import stat
from contextlib import closing
from pathlib import Path

import pytest
from strategies.campaigns import SETTINGS, TARGET, FirstPairs, starting_screen

from inverse_design.campaign.campaign import Campaign
from inverse_design.campaign.store.backup import ASIDE, back_up, dump_line, restore
from inverse_design.campaign.store.database import Database
from inverse_design.campaign.store.events import Ordered
from inverse_design.campaign.store.sql import SqlStore
from inverse_design.errors import StoreError


@pytest.fixture
def begun(tmp_path: Path) -> Campaign:
    """A campaign in a file that has asked one round."""
    campaign = Campaign.create(
        starting_screen(), target=TARGET, settings=SETTINGS, store=tmp_path / "store.db", actor="ann"
    )
    campaign.ask(2, FirstPairs())
    return campaign


def _database(campaign: Campaign) -> Database:
    assert isinstance(campaign.store, SqlStore)
    return campaign.store.database


def _damage(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[100:4096] = bytes(3996)
    path.write_bytes(content)


def test_a_damaged_store_is_restored_and_kept_beside(begun: Campaign, tmp_path: Path) -> None:
    path, copy = tmp_path / "store.db", tmp_path / "backup.db"
    with closing(sqlite3.connect(path, isolation_level=None)) as writer:
        writer.execute("BEGIN IMMEDIATE")  # another process that writes does not stand in the way
        assert back_up(_database(begun), copy) == {"test": begun.head}
    assert stat.S_IMODE(copy.stat().st_mode) == 0o600
    head = begun.head
    begun.order()
    path.chmod(0o640)
    _damage(path)
    (tmp_path / "store.db-journal").write_bytes(b"of a program that was killed")
    with pytest.raises(StoreError, match="campaign restore FILE"):
        Campaign.open(path, "test")
    done = restore(copy, path, force=False)
    assert (done.heads, done.lost) == ({"test": head}, {"test": 1})
    assert done.aside == tmp_path / f"store.db.{ASIDE}"
    assert not (tmp_path / "store.db-journal").exists()
    assert stat.S_IMODE(path.stat().st_mode) == 0o640
    assert Campaign.open(path, "test").head == head  # which is what is seen here now
    assert len([each for each in tmp_path.iterdir() if each.name.startswith(".")]) == 0


def test_a_sound_store_that_holds_more_is_set_aside_only_if_asked(begun: Campaign, tmp_path: Path) -> None:
    path, copy = tmp_path / "store.db", tmp_path / "backup.db"
    back_up(_database(begun), copy)
    begun.order()
    before = path.read_bytes()
    with pytest.raises(StoreError, match=r"is sound, and holds 1 events of 'test' that the backup lacks"):
        restore(copy, path, force=False)
    assert path.read_bytes() == before
    for number in (1, 2):
        done = restore(copy, path, force=True)
        assert done.aside is not None
        assert done.aside.name == f"store.db.{ASIDE}" + ("" if number == 1 else "-2")
    assert (tmp_path / f"store.db.{ASIDE}").read_bytes() == before


def test_a_backup_goes_where_no_store_is(begun: Campaign, tmp_path: Path) -> None:
    copy = tmp_path / "backup.db"
    back_up(_database(begun), copy)
    done = restore(copy, tmp_path / "new.db", force=False)
    assert done.aside is None
    assert Campaign.open(tmp_path / "new.db", "test").head == begun.head


def test_what_is_damaged_is_neither_backed_up_nor_restored(begun: Campaign, tmp_path: Path) -> None:
    path, copy = tmp_path / "store.db", tmp_path / "backup.db"
    back_up(_database(begun), copy)
    with pytest.raises(StoreError, match="is there already; name a new file"):
        back_up(_database(begun), copy)
    with closing(sqlite3.connect(copy)) as connection, connection:
        connection.execute("DROP TRIGGER artefacts_no_update")
        connection.execute("UPDATE artefacts SET content = x'00'")
    before = path.read_bytes()
    with pytest.raises(StoreError, match="guards of the log"):
        restore(copy, path, force=True)
    assert path.read_bytes() == before
    with pytest.raises(StoreError, match="there is no file"):
        restore(tmp_path / "absent.db", path, force=True)
    with pytest.raises(StoreError, match="is the store itself"):
        restore(path, path, force=True)
    os.link(copy, tmp_path / "other.db")
    with pytest.raises(StoreError, match="guards of the log"):
        back_up(Database.at(tmp_path / "other.db", timeout=1.0), tmp_path / "second.db")
    assert not (tmp_path / "second.db").exists()


def test_a_store_that_is_being_written_is_not_replaced(
    begun: Campaign, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, copy = tmp_path / "store.db", tmp_path / "backup.db"
    back_up(_database(begun), copy)
    monkeypatch.setattr("inverse_design.campaign.store.files.PATIENCE", 0.1)
    with closing(sqlite3.connect(path, isolation_level=None)) as writer:
        writer.execute("BEGIN IMMEDIATE")
        with pytest.raises(StoreError, match="is being written by another program"):
            restore(copy, path, force=True)


def test_a_postgresql_database_is_dumped_by_its_own_program(tmp_path: Path) -> None:
    database = Database.at("postgresql://ann:s3cret@server:5433/our screens", timeout=1.0)
    said = "pg_dump --format=custom --file=campaigns.dump --host=server --port=5433 --username=ann"
    assert dump_line(database) == f"{said} '--dbname=our screens'"
    with pytest.raises(StoreError, match="back it up with: pg_dump") as refused:
        back_up(database, tmp_path / "backup.db")
    assert "s3cret" not in str(refused.value)


def test_a_new_store_is_private(tmp_path: Path) -> None:
    before = os.umask(0o022)
    try:
        path = tmp_path / "store.db"
        campaign = Campaign.create(starting_screen(), target=TARGET, settings=SETTINGS, store=path, actor="ann")
        modes = {path.name: stat.S_IMODE(path.stat().st_mode)}
        with campaign.store.writing("test") as log:
            log.append(Ordered(()), actor="ann")
            modes |= {each.name: stat.S_IMODE(each.stat().st_mode) for each in tmp_path.iterdir()}
    finally:
        os.umask(before)
    assert modes == {"store.db": 0o600, "store.db-journal": 0o600}
