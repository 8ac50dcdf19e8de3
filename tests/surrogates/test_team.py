"""A fit is the same bytes whoever works on its parts."""

from collections.abc import Callable
from concurrent.futures import Executor, Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import distributed
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from strategies.screens import pairs_of, planted_screen

from surrogates import team
from surrogates.artefact import save_value
from surrogates.cached_fit import cached_fit
from surrogates.data.screen import Screen
from surrogates.errors import DataError, WorkerError
from surrogates.executors import Workers
from surrogates.models.baselines import Additive, ScaledAdditive
from surrogates.models.interaction import Interaction
from surrogates.models.wrappers.automatic import Automatic
from surrogates.models.wrappers.denoised import Denoised
from surrogates.processes import fresh_processes
from surrogates.team import fits_over, submitted, team_on

MODELS = Automatic((Additive(), Denoised(ScaledAdditive(), (2, 3)), Denoised(Interaction(), (2, 3))), unseen=())


@cache
def screen() -> Screen:
    """Seven genes, of which one was never measured alone, and their pairs."""
    return planted_screen(alone=range(6), together=pairs_of(7, 21), readouts=12, noise=0.5)


@pytest.fixture
def eager(monkeypatch: pytest.MonkeyPatch) -> None:
    """Give even small screens to workers, and refer to even small tables."""
    monkeypatch.setattr(team, "FEWEST_EFFECTS", 0)


class Here(Executor):
    """What a process does, in this one."""

    def __init__(self, *, begin: Callable[[], object]) -> None:
        begin()

    def submit(self, work: Callable[..., Any], /, *asked: Any, **_: Any) -> Future[Any]:
        found = Future[Any]()
        found.set_result(work(*asked))
        return found


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch, eager: None) -> None:  # noqa: ARG001 - as it is asked for
    monkeypatch.setattr(team, "fresh_processes", lambda _, *, begin: Here(begin=begin))


def fitted(workers: Workers) -> bytes:
    """Fit with workers, as the bytes of a file."""
    with fits_over(workers), TemporaryDirectory() as folder:
        place = Path(folder) / "fit"
        save_value(cached_fit(MODELS, screen(), seed=0, cache=None), place, origin="test")
        return place.read_bytes()


@cache
def alone() -> bytes:
    return fitted(1)


@pytest.mark.usefixtures("eager")
def test_a_process_fits_the_same_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    def one(_: int, *, begin: Callable[[], object]) -> ProcessPoolExecutor:
        return fresh_processes(1, begin=begin)  # others would be like it

    monkeypatch.setattr(team, "fresh_processes", one)
    assert fitted(8) == alone()


@pytest.mark.usefixtures("eager")
def test_a_cluster_fits_the_same_bytes() -> None:
    local = distributed.LocalCluster(1, processes=False, threads_per_worker=2, dashboard_address=None)
    with local as cluster:
        assert fitted(cluster.scheduler_address) == alone()


def test_small_screens_start_no_workers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(team, "fresh_processes", lambda *_, **__: pytest.fail("started"))
    assert fitted(8) == alone()


def test_no_worker_is_none() -> None:
    with pytest.raises(DataError, match="0 workers cannot fit anything; give 1 or more"), fits_over(0):
        pass


@given(st.lists(st.integers(0, 3), min_size=1, max_size=4), st.booleans())
def test_what_is_sent_is_referred_to_or_equal(cuts: list[int], turned: bool) -> None:  # noqa: FBT001 - hypothesis
    data = screen()
    held = team._Held.of(data)
    one = data.effects[cuts[0] :, cuts[-1] :]
    sent = {"view": one.T if turned else one, "same": data.effects, "own": one.clone(), "names": data.readouts}
    packed = held.pack(sent)
    back = held.unpack(packed)
    assert torch.equal(back["view"], sent["view"])
    assert back["view"].stride() == sent["view"].stride()
    assert torch.equal(back["own"], one)
    assert back["names"] is data.readouts
    if held.tables:
        assert back["same"] is data.effects
        assert back["view"].untyped_storage().data_ptr() == data.effects.untyped_storage().data_ptr()


def test_tables_arrive() -> None:
    data = screen()
    held = team._Held.of(data)
    there = team._arrived(*held.__reduce__()[1])
    assert torch.equal(there.screen.effects, data.effects)
    assert there.screen.singles.untyped_storage().data_ptr() in {each.data_ptr() for each in there.tables}


def doubled(data: Screen, number: int) -> tuple[int, int]:
    return torch.get_num_threads(), len(data) * number


@pytest.mark.usefixtures("here")
@pytest.mark.parametrize("workers", [1, 2])
def test_a_part_has_one_thread(workers: int) -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        with fits_over(workers), team_on(screen()):
            assert submitted(screen(), doubled, 3)() == (1, 3 * len(screen()))
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


@pytest.mark.usefixtures("here")
def test_a_worker_that_dies_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    dead = Future[Any]()
    dead.set_exception(BrokenProcessPool("terminated abruptly"))
    monkeypatch.setattr(Here, "submit", lambda *_: dead)
    with fits_over(2), pytest.raises(WorkerError, match=r"a worker died \(terminated abruptly\): use fewer"):
        cached_fit(MODELS, screen(), seed=0, cache=None)


@pytest.mark.usefixtures("here")
def test_what_cannot_be_sent_is_said() -> None:
    with fits_over(2), team_on(screen()), pytest.raises(WorkerError, match="define the model in a module"):
        submitted(screen(), lambda data, _: len(data), 0)


def test_a_full_disk_is_said(tmp_path: Path) -> None:
    with pytest.raises(WorkerError, match="set TMPDIR to a folder with more room"):
        team._Held.of(screen()).keep_in(tmp_path / "missing")
