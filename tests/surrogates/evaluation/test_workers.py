from concurrent.futures.process import BrokenProcessPool
from typing import NoReturn

import pytest
import torch

from surrogates.errors import WorkerError
from surrogates.evaluation import workers
from surrogates.evaluation.workers import in_order


def test_a_part_has_one_thread_whoever_works_on_it() -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        assert list(in_order(lambda part: (part, torch.get_num_threads()), [3, 4], workers=1)) == [(3, 1), (4, 1)]
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


def test_a_worker_that_dies_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def died(*_: object, **__: object) -> NoReturn:
        raise BrokenProcessPool("terminated abruptly")

    monkeypatch.setattr(workers, "fresh_processes", died)
    with pytest.raises(WorkerError, match=r"a worker died \(terminated abruptly\): use fewer workers"):
        list(in_order(str, [1, 2], workers=2))
