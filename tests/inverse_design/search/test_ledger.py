import json
import random
import sqlite3
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from strategies.questions import question_model, question_objective, question_space

from inverse_design.errors import LedgerError
from inverse_design.search import dispatch as module
from inverse_design.search.dispatch import Ledger, WorkerPool, dispatch
from inverse_design.search.exhaustive import search
from inverse_design.search.tasks import SearchTask, ShardAnswer, ShardTask, answer_shard, identity, plan_shards

SPACE = question_space(1, 2)
ANSWER = ShardAnswer(1, b"12345678", b"87654321", "{}")


def opened(path: Path, name: str = "one", k: int = 3, count: int = 2) -> Ledger:
    return Ledger.open(path, name=name, k=k, space=SPACE, count=count)


def sql(path: Path, *statements: str) -> None:
    with closing(sqlite3.connect(path)) as connection, connection:
        for statement in statements:
            connection.execute(statement)


def test_answers_are_kept_once(tmp_path: Path) -> None:
    path = tmp_path / "scan.db"
    ledger = opened(path)
    assert ledger.answers() == []
    ledger.add(ANSWER)
    ledger.add(ANSWER)
    assert opened(path).answers() == [ANSWER]


def test_another_plan_of_the_same_search_keeps_the_first(tmp_path: Path) -> None:
    opened(tmp_path / "scan.db")
    assert opened(tmp_path / "scan.db", count=5).plan == plan_shards(SPACE, 2)


@pytest.mark.parametrize(("changed", "said"), [({"name": "two"}, "search differ"), ({"k": 4}, "k differ")])
def test_the_ledger_of_another_search_is_refused(tmp_path: Path, changed: dict[str, str], said: str) -> None:
    opened(tmp_path / "scan.db")
    with pytest.raises(LedgerError, match=rf"'scan.db' is the ledger of another search \({said}"):
        opened(tmp_path / "scan.db", **changed)  # type: ignore[arg-type]
    assert opened(tmp_path / "scan.db").answers() == []


def test_what_is_no_ledger_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "scan.db"
    path.write_text("a table, maybe" * 100)
    with pytest.raises(LedgerError, match=r"cannot be used: .* delete it, it only saves time"):
        opened(path)
    with pytest.raises(LedgerError, match="cannot be used"):
        opened(tmp_path / "nowhere" / "scan.db")
    other = tmp_path / "other.db"
    sql(other, "CREATE TABLE scan (a INTEGER)")
    with pytest.raises(LedgerError, match="cannot be used"):
        opened(other)


def test_a_damaged_ledger_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "scan.db"
    opened(path)
    path.write_bytes(path.read_bytes().replace(b"KEY", b"\xcbEY"))
    with pytest.raises(LedgerError, match="cannot be used"):
        opened(path)


@pytest.mark.parametrize("said", ["'-1'", "'0'", "'1e9'", "'99999999'", "x'ff'", "'²'"])
def test_a_count_of_shards_that_cannot_be_is_refused(tmp_path: Path, said: str) -> None:
    opened(tmp_path / "scan.db")
    sql(tmp_path / "scan.db", f"UPDATE scan SET value = {said} WHERE key = 'shards'")  # noqa: S608 - this test's own words
    with pytest.raises(LedgerError, match=r"is damaged .*delete it"):
        opened(tmp_path / "scan.db")


@pytest.mark.parametrize(
    "change",
    [
        "candidates = x'00'", "candidates = 'text'", "scores = zeroblob(8)", "scores = 7", "certificate = '[]'",
        "certificate = CAST(x'ff' AS TEXT)", "checksum = upper(checksum)", "checksum = 0", "shard = 0",
        "shard = 7",
    ],
)  # fmt: skip
def test_a_row_that_was_changed_is_none(tmp_path: Path, change: str) -> None:
    ledger = opened(tmp_path / "scan.db")
    ledger.add(ANSWER)
    sql(tmp_path / "scan.db", f"UPDATE answers SET {change}")  # noqa: S608 - this test's own words
    assert ledger.answers() == []
    ledger.add(ANSWER)
    assert ANSWER in ledger.answers()


def test_a_row_of_another_plan_is_none(tmp_path: Path) -> None:
    opened(tmp_path / "scan.db").add(ANSWER)
    sql(tmp_path / "scan.db", "UPDATE scan SET value = '4' WHERE key = 'shards'")
    assert opened(tmp_path / "scan.db").answers() == []


def forged(answer: ShardAnswer) -> list[ShardAnswer]:
    """Answers that somebody wrote who can compute a checksum."""
    index, score, said = answer.index, answer.score, json.loads(answer.certificate)
    other = (1000).to_bytes(8, "little")
    certificates = [
        "", "[", "{}", "[" * 100_000, *(
            json.dumps(said | change) for change in (
                {"scanned": said["scanned"] + 1}, {"scanned": "1"}, {"exact": False}, {"gap": 1.0},
            )
        ),
    ]  # fmt: skip
    return [
        replace(answer, score=score[:-1] + bytes([score[-1] ^ 1])),
        replace(answer, score=b"\xff" * len(score)),
        replace(answer, index=index[8:16] + index[:8] + index[16:]),
        replace(answer, index=index[8:16] + index[:8] + index[16:], score=score[8:16] + score[:8] + score[16:]),
        replace(answer, index=index[:8] * (len(index) // 8), score=score[:8] * (len(index) // 8)),
        replace(answer, index=other + index[8:]),
        replace(answer, index=b"\xff" * 8 + index[8:]),
        replace(answer, index=index + index, score=score + score),
        replace(answer, index=index[:-1]),
        *(replace(answer, certificate=each) for each in certificates),
    ]


def test_forged_answers_are_searched_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    task = SearchTask.of(question_objective(), question_model(), SPACE)
    name, shards = identity(task.pack()), plan_shards(SPACE, 3)
    done: list[int] = []

    def counted(asked: ShardTask, content: bytes | None = None) -> ShardAnswer | None:
        answer = answer_shard(asked, content)
        done.extend([] if answer is None else [asked.shard])
        return answer

    monkeypatch.setattr(module, "answer_shard", counted)
    whole = search(question_objective(), question_model(), SPACE, 9).top
    true = [answer_shard(ShardTask(name, number, span, 9), task.pack()) for number, span in enumerate(shards)]
    answers = [each for each in true if each is not None]
    ledger = Ledger.open(tmp_path / "scan.db", name=name, k=9, space=SPACE, count=3)
    pool = WorkerPool(lambda: ThreadPoolExecutor(1), 1)
    draw = random.Random(0)  # noqa: S311 - nothing is secret
    for number, each in enumerate(forged(answers[-1])):
        kept = [one for one in answers[:-1] if draw.random() < 0.5]
        sql(ledger.path, "DELETE FROM answers")
        for one in (*kept, each):
            ledger.add(one)
        done.clear()
        found = dispatch(task, 9, shards=ledger.plan, pool=pool, ledger=ledger).top
        assert torch.equal(found.index, whole.index), number
        assert torch.equal(found.score, whole.score), number
        assert sorted(done) == sorted({*range(len(shards))} - {one.shard for one in kept}), number
    done.clear()
    dispatch(task, 9, shards=ledger.plan, pool=pool, ledger=ledger)
    assert done == []
