import threading
import time
from collections.abc import Callable
from concurrent.futures import BrokenExecutor, Executor, Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import torch
from strategies.questions import question_model, question_objective, question_space

from inverse_design.errors import ExecutorError
from inverse_design.search import dispatch as module
from inverse_design.search.dispatch import Ledger, WorkerPool, dispatch
from inverse_design.search.exhaustive import search
from inverse_design.search.tasks import SearchTask, ShardAnswer, ShardTask, answer_shard, identity, plan_shards
from inverse_design.search.topk import SearchResult, TopK


def search_task() -> SearchTask:
    return SearchTask.of(question_objective(), question_model(), question_space(1, 2))


def threads(count: int) -> WorkerPool:
    return WorkerPool(lambda: ThreadPoolExecutor(count), count)


def found(pool: WorkerPool, count: int, **words: Any) -> SearchResult:
    return dispatch(search_task(), 9, shards=plan_shards(search_task().space, count), pool=pool, **words)


def same(one: TopK, other: TopK) -> bool:
    return torch.equal(one.index, other.index) and torch.equal(
        one.score.view(torch.int64), other.score.view(torch.int64)
    )


def whole() -> TopK:
    return search(question_objective(), question_model(), question_space(1, 2), 9).top


@pytest.mark.parametrize("count", [1, 2, 4, 8])
def test_any_number_of_shards_and_workers_gives_the_same_bytes(count: int) -> None:
    steps: list[tuple[int, int]] = []
    result = found(threads(count), count, progress=lambda *step: steps.append(step))
    assert same(result.top, whole())
    assert steps == sorted(steps)
    assert steps[-1] == (78, 78)


def test_what_the_ledger_holds_is_not_searched_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []

    def counted(task: ShardTask, content: bytes | None = None) -> ShardAnswer | None:
        answer = answer_shard(task, content)
        if answer is not None:
            asked.append(task.shard)
        return answer

    monkeypatch.setattr(module, "answer_shard", counted)
    shards = plan_shards(search_task().space, 6)
    name = identity(search_task().pack())
    ledger = Ledger.open(tmp_path / "scan.db", name=name, k=9, space=search_task().space, count=6)
    for number in (0, 3):
        answer = answer_shard(ShardTask(name, number, shards[number], 9), search_task().pack())
        assert answer is not None
        ledger.add(answer)
    assert same(found(threads(2), 6, ledger=ledger).top, whole())
    assert sorted(asked) == [number for number in range(len(shards)) if number not in {0, 3}]
    asked.clear()
    assert same(found(threads(2), 6, ledger=ledger).top, whole())
    assert asked == []


class Mortal(Executor):
    """Dies at some call."""

    def __init__(self, lives: int) -> None:
        self.lives = lives
        self.threads = ThreadPoolExecutor(1)

    def submit(self, fn: Callable[..., Any], /, *args: Any, **words: Any) -> Future[Any]:
        self.lives -= 1
        if self.lives < 0:
            future: Future[Any] = Future()
            future.set_exception(BrokenExecutor("a worker was killed"))
            return future
        return self.threads.submit(fn, *args, **words)

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:  # noqa: FBT001, FBT002
        self.threads.shutdown(wait=wait, cancel_futures=cancel_futures)


def test_an_executor_that_dies_costs_the_shards_it_had() -> None:
    started: list[Mortal] = []

    def start() -> Executor:
        started.append(Mortal(3))
        return started[-1]

    assert same(found(WorkerPool(start, 2), 8).top, whole())
    assert len(started) > 1


def test_executors_that_always_die_are_given_up(tmp_path: Path) -> None:
    name, space = identity(search_task().pack()), search_task().space
    ledger = Ledger.open(tmp_path / "scan.db", name=name, k=9, space=space, count=5)
    with pytest.raises(ExecutorError, match="died 3 times, 0 of"):
        found(WorkerPool(lambda: Mortal(0), 2), 5, ledger=ledger)
    assert same(found(threads(1), 5, ledger=ledger).top, whole())


def test_a_slow_shard_is_given_to_an_idle_worker_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_LOOK", 0.02)
    asked: list[int] = []
    release, last = threading.Event(), len(plan_shards(search_task().space, 4)) - 1

    def stuck(task: ShardTask, content: bytes | None = None) -> ShardAnswer | None:
        asked.append(task.shard)
        if task.shard == last and asked.count(last) == 1:
            release.wait(20)
        return answer_shard(task, content)

    monkeypatch.setattr(module, "answer_shard", stuck)
    began = time.monotonic()
    try:
        assert same(found(threads(2), 4).top, whole())
    finally:
        release.set()
    assert asked.count(last) == 2
    assert time.monotonic() - began < 15


def test_errors_of_the_question_are_not_repeated(monkeypatch: pytest.MonkeyPatch) -> None:
    def wrong(*_: object) -> ShardAnswer:
        raise ValueError("no such score")

    monkeypatch.setattr(module, "answer_shard", wrong)
    with pytest.raises(ValueError, match="no such score"):
        found(threads(2), 4)
