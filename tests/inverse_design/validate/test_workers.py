"""What is measured does not depend on the number of workers."""

import pickle
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import cache, partial
from pathlib import Path
from typing import Any, Self
from unittest.mock import MagicMock

import distributed
import pandas as pd
import pytest
from strategies.judged import QUICK, three_folds
from strategies.screens import pairs_of, planted_screen

from inverse_design.cli.app import main
from inverse_design.validate.calibration import measure_calibration
from inverse_design.validate.calibration_rows import calibration_rows
from inverse_design.validate.forward import forward_report
from inverse_design.validate.reach import measure_reach
from inverse_design.validate.retrieval import METHODS, OWN_READOUTS, YARDSTICK, measure_retrieval, retrieval_rows
from surrogates.data.screen import Screen
from surrogates.evaluation import workers
from surrogates.evaluation.intervals import Row
from surrogates.evaluation.workers import Workers
from surrogates.models.baselines import Additive
from surrogates.models.wrappers.calibrated import Calibrated

FAST = {name: METHODS[name] for name in (YARDSTICK, OWN_READOUTS)}


class Elsewhere:
    """What processes do with work and results, in this one."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """Nothing is left."""

    def map(self, work: Callable[[Any], Any], parts: Sequence[Any]) -> Iterator[Any]:
        """Send a part there, and its result back."""
        for part in parts:
            there, sent = pickle.loads(pickle.dumps((work, part)))  # noqa: S301 - ours
            yield pickle.loads(pickle.dumps(there(sent)))  # noqa: S301 - ours


@pytest.fixture
def elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workers, "fresh_processes", lambda *_, **__: Elsewhere())


def told(rows: Sequence[Row]) -> list[str]:
    """Spell rows out to the last digit, but for what a clock or the memory says."""
    return [repr(row) for row in rows if row.metric not in {"fit_seconds", "peak_mb"}]


def retrieval(workers: Workers) -> list[Row]:
    report = measure_retrieval(three_folds(), seed=0, methods=FAST, workers=workers)
    return retrieval_rows(report, three_folds(), dataset="d", seed=0)


def calibration(workers: Workers) -> list[Row]:
    asked = partial(measure_calibration, three_folds(), QUICK, seed=0, levels=(0.8,), most_held_out=4)
    return calibration_rows(asked(classes=("single-0",), workers=workers), dataset="d", model="m", seed=0)


def forward(workers: Workers) -> list[Row]:
    return forward_report(three_folds(), ("interaction",), seed=0, classes=("double-2",), workers=workers).rows


def reach(workers: Workers) -> list[Row]:
    few = Calibrated(Additive(), folds=2)
    return measure_reach(planted(), dataset="d", seed=0, model=few, workers=workers).rows


@cache
def planted() -> Screen:
    every = planted_screen(alone=range(7), together=pairs_of(7, 12), readouts=4, noise=0.6)
    folds = [-1] * 7 + [number % 2 for number in range(12)]
    return replace(every, annotations=pd.DataFrame({"double_fold": folds}))


@pytest.mark.usefixtures("elsewhere")
@pytest.mark.parametrize("measured", [retrieval, calibration, forward, reach])
def test_several_workers_find_the_same_to_the_last_digit(measured: Callable[[Workers], list[Row]]) -> None:
    alone = told(measured(1))
    assert len(alone) > 5
    assert told(measured(2)) == alone


def test_processes_find_the_same() -> None:
    assert told(retrieval(2)) == told(retrieval(1))


@pytest.mark.parametrize("measured", [retrieval, forward])
def test_a_cluster_finds_the_same(measured: Callable[[Workers], list[Row]]) -> None:
    local = distributed.LocalCluster(1, processes=False, threads_per_worker=2, dashboard_address=None)
    with local as cluster:
        assert told(measured(cluster.scheduler_address)) == told(measured(1))


def test_a_cluster_of_another_version_is_refused_by_the_verb(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    place = tmp_path / "screen.csv"
    planted().to_frame().to_csv(place)
    client = MagicMock()
    client.run.return_value = {"tcp://a:1": "0.0.1"}
    monkeypatch.setattr(distributed, "Client", lambda *_, **__: client)
    code = main(["benchmark", "forward", str(place), "--scheduler", "tcp://10.0.0.1:8786"])
    said = " ".join(capsys.readouterr().err.split())
    assert code == 3, said
    assert "the worker 'tcp://a:1' of the scheduler has inverse-design 0.0.1, and this process" in said
    assert "run programs as you" in said  # as the address is not one of tls
