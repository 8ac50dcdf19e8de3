import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import pytest
import torch

from inverse_design.search import scan as pipeline
from inverse_design.search.scan import pipelined


@pytest.fixture
def threads() -> Iterator[Callable[[int], None]]:
    before = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(before)


def said(number: int, known: int) -> tuple[int, int]:
    return number, known


def run(count: int) -> list[tuple[int, int]]:
    """Each task says its number and how many results were there when it was made."""
    seen: list[tuple[int, int]] = []
    for each in pipelined(partial(said, number, len(seen)) for number in range(count)):
        seen.append(each)  # noqa: PERF402 - the next task looks at it
    return seen


@pytest.mark.parametrize("count", [0, 1, 2, 30])
def test_what_a_task_knows_does_not_depend_on_threads(count: int, threads: Callable[[int], None]) -> None:
    threads(1)
    alone = run(count)
    threads(3)
    assert run(count) == alone
    assert [number for number, _ in alone] == list(range(count))
    # at first each task knows all that went before; later the last few are still on their way
    assert [known for _, known in alone[:3]] == list(range(min(count, 2))) + [1] * (count > 2)
    assert all(number - known < pipeline._AHEAD for number, known in alone)


def test_tasks_run_in_other_threads_of_one_thread_each(threads: Callable[[int], None]) -> None:
    threads(2)
    barrier = threading.Barrier(2, timeout=10)

    def meet() -> tuple[int, int]:
        barrier.wait()  # breaks if tasks come one after the other
        return threading.get_ident(), torch.get_num_threads()

    met = list(pipelined([lambda: (0, 1), lambda: (0, 1), *[meet] * 4]))[2:]
    assert len({ident for ident, _ in met}) == 2
    assert threading.get_ident() not in {ident for ident, _ in met}
    assert {count for _, count in met} == {1}
    assert torch.get_num_threads() == 2
    with ThreadPoolExecutor(1) as later:  # a thread that starts afterwards is none of the search's
        assert later.submit(torch.get_num_threads).result() == 2


def test_an_error_of_a_task_is_raised_in_its_turn() -> None:
    def fail() -> int:
        raise ValueError("task two")

    results = pipelined([lambda: 1, fail, lambda: 3])
    assert next(results) == 1
    with pytest.raises(ValueError, match="task two"):
        list(results)
