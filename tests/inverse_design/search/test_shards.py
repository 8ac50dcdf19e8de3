import itertools
from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from strategies.questions import question_model, question_objective, question_space
from strategies.spaces import plain_space

from inverse_design.errors import SpaceError
from inverse_design.problem.constraints import Constraints, Group
from inverse_design.problem.counting import pair_row
from inverse_design.search import tasks as shards
from inverse_design.search.exhaustive import search
from inverse_design.search.tasks import (
    SearchTask,
    ShardAnswer,
    ShardTask,
    answer_of,
    answer_shard,
    identity,
    merged,
    plan_shards,
    plausible,
)
from inverse_design.search.topk import TopK
from surrogates.errors import DataError

LIMITS = Constraints(
    groups=(Group("family", ("G00", "G01", "G02", "G03")),),
    incompatible=(("G04", "G05"),),
    costs=tuple((f"G{number:02d}", 1.0 + number) for number in range(12)),
    budget=15.0,
)


@given(st.integers(2, 30))
def test_the_row_of_a_pair_is_its_first_item(items: int) -> None:
    pairs = list(itertools.combinations(range(items), 2))
    assert [pair_row(items, number) for number in range(len(pairs))] == [first for first, _ in pairs]
    assert pair_row(items, len(pairs)) == items


def test_the_row_of_a_pair_of_very_many_items() -> None:
    items = 3_000_000_000
    for row in (0, 1, items // 2, items - 2):
        start = items * (items - 1) // 2 - (items - row) * (items - row - 1) // 2
        assert [pair_row(items, number) for number in (start, start + items - row - 2)] == [row, row]


@given(st.integers(2, 25), st.sampled_from([(1,), (2,), (1, 2), (2, 3), (1, 2, 3)]), st.integers(1, 40))
def test_plans_are_without_gaps_and_never_cut_a_row_of_pairs(
    entries: int, orders: tuple[int, ...], count: int
) -> None:
    if orders[-1] > entries:
        return
    space = plain_space(entries, orders=orders)
    plan = plan_shards(space, count)
    assert [plan[0][0], plan[-1][1]] == [0, space.size]
    assert all(one[1] == two[0] for one, two in itertools.pairwise(plan))
    assert all(first < stop for first, stop in plan)
    assert len(plan) <= count + 2 * len(orders)
    edges = {first for first, _ in plan}
    assert all(space.span(order)[0] in edges for order in orders)
    if 2 in orders:
        first, stop = space.span(2)
        rows = {first + number for number in _row_starts(entries)}
        assert {edge for edge in edges if first <= edge < stop} <= rows


def _row_starts(items: int) -> list[int]:
    lengths = [items - 1 - row for row in range(items - 1)]
    return [0, *itertools.accumulate(lengths)][: items - 1]


def test_bad_plans() -> None:
    with pytest.raises(SpaceError, match="0 shards cannot hold a space"):
        plan_shards(plain_space(4), 0)
    with pytest.raises(SpaceError, match="too large to be searched one by one"):
        plan_shards(plain_space(20_000, orders=(6,)), 4)


@pytest.mark.parametrize("kind", ["likelihood", "distance"])
@pytest.mark.parametrize("orders", [(1,), (2,), (1, 2)])
@pytest.mark.parametrize("count", [1, 2, 7])
@pytest.mark.parametrize("constraints", [None, LIMITS])
def test_shards_in_any_order_give_the_bytes_of_the_whole(
    kind: str, orders: tuple[int, ...], count: int, constraints: Constraints | None
) -> None:
    objective, model = question_objective(kind), question_model()
    space = question_space(*orders, constraints=constraints)
    whole = search(objective, model, space, 9)
    content = SearchTask.of(objective, model, space).pack()
    plan = plan_shards(space, count)
    tasks = [ShardTask(identity(content), number, span, 9) for number, span in enumerate(plan)]
    answers = [answer_shard(task, content) for task in reversed(tasks)]
    found = merged([each for each in answers if each is not None], 9, space)
    assert _bytes(found.top) == _bytes(whole.top)
    assert found.certificate.scanned == whole.certificate.scanned
    assert found.certificate.masked == whole.certificate.masked
    assert found.certificate.ruled_out == whole.certificate.ruled_out == space.ruled_out
    assert bool(space.valid(space.take(whole.top.index)).all())


@pytest.mark.parametrize("count", [1, 5])
@pytest.mark.parametrize(
    ("orders", "constraints"),
    [((3,), LIMITS), ((1, 2, 3), None), ((1, 2, 3), LIMITS), ((4,), Constraints(required=("G02",)))],
)
def test_sets_that_are_searched_by_bounds_are_cut_into_shards(
    count: int, orders: tuple[int, ...], constraints: Constraints | None
) -> None:
    objective, model = question_objective("distance"), question_model()
    space = question_space(*orders, constraints=constraints)
    whole = search(objective, model, space, 9)
    assert whole.certificate.bound == "largest pair"
    task, plan = SearchTask.of(objective, model, space), plan_shards(space, count)
    content = task.pack()
    tasks = [ShardTask(identity(content), number, span, 9) for number, span in enumerate(plan)]
    answers = [each for each in (answer_shard(one, content) for one in reversed(tasks)) if each is not None]
    assert plausible(answers, task, plan, 9) == answers
    found = answer_of(answers, 9, task, plan)
    assert _bytes(found.top) == _bytes(whole.top)
    seen = found.certificate
    assert (seen.exact, seen.gap, seen.bound) == (True, 0.0, "largest pair")
    assert seen.scanned + seen.pruned == space.size
    worse = replace(answers[0], score=answers[0].score[:-8] + bytes(8))
    assert plausible([worse], task, plan, 9) == []


def _bytes(top: TopK) -> tuple[bytes, bytes]:
    return top.index.numpy().tobytes(), top.score.numpy().tobytes()


def test_the_search_task_is_needed_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shards, "_HELD", shards._Held())
    task = SearchTask.of(question_objective(), question_model(), question_space())
    content = task.pack()
    tasks = [
        ShardTask(identity(content), number, span, 3) for number, span in enumerate(plan_shards(task.space, 3))
    ]
    assert answer_shard(tasks[0]) is None
    assert answer_shard(tasks[0], content) is not None
    assert answer_shard(tasks[1]) is not None
    with pytest.raises(DataError, match="is another one"):
        answer_shard(ShardTask("another", 0, tasks[0].span, 3), content)


def test_answers_survive_the_way() -> None:
    objective, model, space = question_objective(), question_model(), question_space(1, 2)
    result = search(objective, model, space, 5)
    answer = ShardAnswer.of(4, result)
    again = answer.result(5)
    assert _bytes(again.top) == _bytes(result.top)
    assert again.certificate == result.certificate
    empty = ShardAnswer.of(0, type(result)(TopK.empty(3), result.certificate)).result(3)
    assert (len(empty.top), empty.top.k) == (0, 3)


def test_parcels_hold_the_question_and_only_that() -> None:
    space = question_space(1, 2, constraints=LIMITS)
    task = SearchTask.of(question_objective(), question_model(), space)
    content = task.pack()
    again = SearchTask.unpack(content)
    assert again.pack() == content
    assert again.fitted.cross == ()
    assert again.space.summary == space.summary
    assert again.space.limits == space.limits
    batch = again.space.batch(0, again.space.size)
    assert torch.equal(again.space.valid(batch), space.valid(batch))


@pytest.mark.parametrize(
    "spoil", [lambda _: b"", lambda content: content[:50], lambda content: b"x" * len(content)]
)
def test_what_is_no_parcel_is_refused(spoil: object) -> None:
    content = SearchTask.of(question_objective(), question_model(), question_space()).pack()
    with pytest.raises(DataError, match="not an intact"):
        SearchTask.unpack(spoil(content))  # type: ignore[operator]
