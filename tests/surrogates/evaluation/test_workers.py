from concurrent.futures.process import BrokenProcessPool
from typing import NoReturn

import pytest
import torch

from surrogates.errors import WorkerError
from surrogates.evaluation import workers
from surrogates.evaluation.workers import in_order
from surrogates.threads import given_threads


def test_a_part_has_one_thread_whoever_works_on_it() -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        found = in_order(lambda part: (part, torch.get_num_threads(), given_threads()), [3, 4], workers=1)
        assert list(found) == [(3, 1, 1), (4, 1, 1)]  # given: a large screen has no more, either
        assert torch.get_num_threads() == given_threads() == 2
    finally:
        torch.set_num_threads(before)


def test_a_worker_that_dies_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def died(*_: object, **__: object) -> NoReturn:
        raise BrokenProcessPool("terminated abruptly")

    monkeypatch.setattr(workers, "fresh_processes", died)
    with pytest.raises(WorkerError, match=r"a worker died \(terminated abruptly\): use fewer workers"):
        list(in_order(str, [1, 2], workers=2))
