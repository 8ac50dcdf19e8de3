import os
import signal
import subprocess
import sys
import textwrap
import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from strategies.questions import question_model, question_objective, question_space

from inverse_design.errors import LedgerError, SpaceError
from inverse_design.search import api as module
from inverse_design.search import tasks
from inverse_design.search.api import Engine
from inverse_design.search.exhaustive import search
from inverse_design.search.topk import SearchResult, TopK
from surrogates.errors import WorkerError

TESTS = Path(__file__).parents[2]


def asked(engine: Engine, *orders: int) -> SearchResult:
    return engine.search(question_objective(), question_model(), question_space(*orders), 9)


def content(top: TopK) -> tuple[bytes, bytes]:
    return top.index.numpy().tobytes(), top.score.numpy().tobytes()


def whole(*orders: int) -> tuple[bytes, bytes]:
    return content(search(question_objective(), question_model(), question_space(*orders), 9).top)


def test_processes_give_the_same_bytes() -> None:
    objective, model, space = question_objective("distance"), question_model(), question_space(1, 2, 3)
    found = Engine(workers=2).search(objective, model, space, 9)
    assert found.certificate.exact
    assert content(found.top) == content(search(objective, model, space, 9).top)


def test_a_ledger_of_another_search_is_refused(tmp_path: Path) -> None:
    Path(tmp_path / "scan.db").write_text("not a ledger" * 100)
    with pytest.raises(LedgerError, match="cannot be used"):
        asked(Engine(ledger=tmp_path / "scan.db"))


def test_a_scheduler_that_asks_for_certificates_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    distributed = pytest.importorskip("distributed")

    def refuse(address: str, **_: str) -> None:
        raise TypeError(f"TLS expects a certificate at {address}")

    monkeypatch.setattr(distributed, "Client", refuse)
    with pytest.raises(WorkerError, match="'tls://here:1' cannot be reached: TLS expects"):
        asked(Engine(scheduler="tls://here:1"))


_KILLED = """
    import os, signal, sys
    from pathlib import Path
    from strategies.questions import question_model, question_objective, question_space
    from concurrent.futures import ThreadPoolExecutor
    from inverse_design.search.api import Engine
    from inverse_design.search.dispatch import Ledger

    plain, left = Ledger.add, [5]

    def add(ledger, answer):
        plain(ledger, answer)
        left[0] -= 1
        if left[0] == 0:
            os.kill(os.getpid(), signal.SIGKILL)

    Ledger.add = add
    Engine._processes = lambda self: ThreadPoolExecutor(1)
    engine = Engine(workers=1, ledger=Path(sys.argv[1]))
    engine.search(question_objective(), question_model(), question_space(1, 2), 9)
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="signals of POSIX")
def test_a_killed_search_resumes_with_the_same_bytes(tmp_path: Path) -> None:
    path = tmp_path / "scan.db"
    child = subprocess.run(  # noqa: S603 - this test's own script
        [sys.executable, "-c", textwrap.dedent(_KILLED), str(path)],
        env=os.environ | {"PYTHONPATH": str(TESTS), "OMP_NUM_THREADS": "1"},
        check=False,
    )
    assert child.returncode == -signal.SIGKILL
    done: list[int] = []
    engine = Engine(ledger=path)
    found = engine.search(
        question_objective(),
        question_model(),
        question_space(1, 2),
        9,
        progress=lambda searched, _: done.append(searched),
    )
    assert done[0] > 0
    assert content(found.top) == whole(1, 2)


@pytest.mark.slow
def test_a_lost_worker_of_a_cluster_costs_its_shard(monkeypatch: pytest.MonkeyPatch) -> None:
    distributed = pytest.importorskip("distributed")
    monkeypatch.setattr(module, "_SHARDS_PER_WORKER", 6)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with distributed.LocalCluster(
            n_workers=2, threads_per_worker=1, processes=True, host="127.0.0.1", dashboard_address=None
        ) as cluster:
            killed: list[int] = []

            def lose(searched: int, _: int) -> None:
                if searched and not killed:
                    killed.append(next(iter(cluster.workers.values())).pid)
                    os.kill(killed[0], signal.SIGKILL)

            found = Engine(scheduler=cluster.scheduler_address).search(
                question_objective(), question_model(), question_space(1, 2), 9, progress=lose
            )
            assert killed
    assert content(found.top) == whole(1, 2)


def test_a_scheduler_that_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    distributed = pytest.importorskip("distributed")

    def refuse(*_: object, **__: object) -> None:
        raise OSError("timed out")

    monkeypatch.setattr(distributed, "Client", refuse)
    with pytest.raises(WorkerError, match=r"'tcp://127.0.0.1:9' cannot be reached: timed out"):
        asked(Engine(scheduler="tcp://127.0.0.1:9"))


def test_a_search_task_is_packed_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    packed: list[int] = []
    spell = tasks.to_bytes
    monkeypatch.setattr(tasks, "to_bytes", lambda *each: packed.append(1) or spell(*each))
    monkeypatch.setattr(Engine, "_processes", lambda _: ThreadPoolExecutor(1))
    asked(Engine(ledger=tmp_path / "scan.db"))
    assert packed == [1]


def test_shards_of_sets_are_kept_in_a_ledger(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Engine, "_processes", lambda _: ThreadPoolExecutor(2))
    engine = Engine(workers=2, ledger=tmp_path / "scan.db")
    found = engine.search(question_objective("distance"), question_model(), question_space(3), 9)
    alone = search(question_objective("distance"), question_model(), question_space(3), 9)
    assert content(found.top) == content(alone.top)
    monkeypatch.setattr(Engine, "_processes", lambda _: pytest.fail("nothing is left to be done"))
    again = engine.search(question_objective("distance"), question_model(), question_space(3), 9)
    assert content(again.top) == content(alone.top)
    assert again.certificate.pruned == found.certificate.pruned


def test_no_workers() -> None:
    with pytest.raises(SpaceError, match="0 workers cannot search"):
        Engine(workers=0)


@pytest.mark.parametrize("device", ["meta", "no-such-place"])
def test_what_is_no_device_is_refused(device: str) -> None:
    with pytest.raises(SpaceError, match=f"device '{device}' cannot be used: .*; take cpu"):
        Engine(device=device)
