import sqlite3
from pathlib import Path

import pytest

from inverse_design.errors import LedgerError
from inverse_design.search.dispatch import Ledger
from inverse_design.search.tasks import ShardAnswer

PLAN = ((0, 4), (4, 9))


def opened(path: Path, name: str = "one", k: int = 3, shards: tuple[tuple[int, int], ...] = PLAN) -> Ledger:
    return Ledger.open(path, name=name, k=k, shards=shards)


def test_answers_are_kept_once(tmp_path: Path) -> None:
    path = tmp_path / "scan.db"
    ledger = opened(path)
    assert ledger.answers() == []
    answer = ShardAnswer(1, b"12345678", b"87654321", "{}")
    ledger.add(answer)
    ledger.add(answer)
    assert opened(path).answers() == [answer]


def test_another_plan_of_the_same_search_keeps_the_first(tmp_path: Path) -> None:
    opened(tmp_path / "scan.db")
    assert opened(tmp_path / "scan.db", shards=((0, 9),)).plan == PLAN


@pytest.mark.parametrize(("changed", "said"), [({"name": "two"}, "search differ"), ({"k": 4}, "k differ")])
def test_the_ledger_of_another_search_is_refused(tmp_path: Path, changed: dict[str, str], said: str) -> None:
    opened(tmp_path / "scan.db")
    with pytest.raises(LedgerError, match=rf"'scan.db' is the ledger of another search \({said}"):
        opened(tmp_path / "scan.db", **changed)  # type: ignore[arg-type]
    assert opened(tmp_path / "scan.db").answers() == []


def test_what_is_no_ledger_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "scan.db"
    path.write_text("a table, maybe" * 100)
    with pytest.raises(LedgerError, match="cannot be used"):
        opened(path)
    with pytest.raises(LedgerError, match="cannot be used"):
        opened(tmp_path / "nowhere" / "scan.db")
    other = tmp_path / "other.db"
    with sqlite3.connect(other) as connection:
        connection.execute("CREATE TABLE scan (a INTEGER)")
    connection.close()
    with pytest.raises(LedgerError, match="cannot be used"):
        opened(other)
