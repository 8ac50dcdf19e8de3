import math
from collections.abc import Callable
from dataclasses import replace
from importlib import import_module

import pytest
import torch
from torch import Tensor

from benchmarks.peers import process as peers_process
from benchmarks.peers import run as peers
from benchmarks.peers.exact import exact_scan
from benchmarks.peers.growth import Growth
from benchmarks.peers.loops import numpy_loop, python_loop
from benchmarks.peers.problem import PairProblem
from benchmarks.peers.process import Measured, PeerError, Trial, measure, run_trial
from benchmarks.peers.run import METHODS, Comparison, measure_peers
from surrogates.errors import DataError, UnknownNameError

Search = Callable[[PairProblem, int], Tensor]
PROBLEM = PairProblem.drawn(40, seed=1)


def brute_force(problem: PairProblem) -> list[tuple[float, int, int]]:
    """Every pair by its definition, the best first."""
    found = []
    for i in range(problem.genes):
        for j in range(i + 1, problem.genes):
            square = (problem.target - problem.rows[:, i] - problem.rows[:, j]).square().sum(1)
            found.append((-float((-square - problem.incumbent).clamp(min=0).mean()), i, j))
    return sorted(found)


def test_a_problem_is_repeatable_and_its_planted_pair_is_the_best() -> None:
    again, other = (PairProblem.drawn(40, seed=seed) for seed in (1, 2))
    assert torch.equal(PROBLEM.rows, again.rows)
    assert not torch.equal(PROBLEM.rows, other.rows)
    assert brute_force(PROBLEM)[0][1:] == tuple(PROBLEM.planted.tolist())
    measured = {tuple(pair) for pair in PROBLEM.measured.tolist()}
    assert len(measured) == len(PROBLEM.measured) == len(PROBLEM.utilities)
    assert tuple(PROBLEM.planted.tolist()) not in measured
    with pytest.raises(DataError, match="3 genes have too few pairs"):
        PairProblem.drawn(3)


@pytest.mark.parametrize("pairs", [1, 90, 10_000])
def test_blocks_spell_every_pair_once(pairs: int) -> None:
    spelled = torch.cat(list(PROBLEM.blocks(pairs)))
    assert torch.equal(spelled, torch.triu_indices(40, 40, 1).T)


def library(module: str, name: str) -> Search:
    """A search that loads a library which warns while it is imported."""
    search: Search = getattr(import_module(f"benchmarks.peers.{module}"), name)
    return search


def finds_what_brute_force_finds(search: Search) -> None:
    right = brute_force(PROBLEM)
    k = sum(value < 0 for value, _, _ in right)
    assert 5 < k < len(right)
    assert search(PROBLEM, k).tolist() == [pair for _, *pair in right[:k]]


@pytest.mark.parametrize("search", [exact_scan, numpy_loop, python_loop])
def test_exhaustive_searches_find_what_brute_force_finds(search: Search) -> None:
    finds_what_brute_force_finds(search)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_botorch_on_the_ensemble_finds_it_too() -> None:
    finds_what_brute_force_finds(library("botorch", "botorch_ensemble"))


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    ("module", "name"),
    [("botorch", "botorch_process"), ("loops", "optuna_tpe"), ("loops", "optuna_random")],
)
def test_other_searches_give_pairs(monkeypatch: pytest.MonkeyPatch, module: str, name: str) -> None:
    search, problem = library(module, name), PairProblem.drawn(9, dimensions=2, measured=12, seed=3)
    monkeypatch.setattr(f"benchmarks.peers.{module}._TRIALS", 20, raising=False)
    found = search(problem, 5)
    assert 1 <= len(found) <= 5
    assert bool((found[:, 0] < found[:, 1]).all())
    assert int(found.min()) >= 0
    assert int(found.max()) < 9


def measured(seconds: float, found: tuple[tuple[int, int], ...] = ()) -> Measured:
    return Measured((seconds, seconds, 9 * seconds), (2 * seconds,), 3 * seconds, found)


def test_growth_is_read_off_the_line_through_the_two_largest_sizes() -> None:
    growth = Growth().extended(10, measured(1.0))
    assert growth.at("seconds", 10) == 1.0
    assert growth.at("seconds", 50) == pytest.approx(5.0)
    growth = growth.extended(20, measured(1.5)).extended(40, measured(3.0))
    assert growth.at("cpu_seconds", 100) == pytest.approx(2 * (3.0 + 0.075 * 60))
    assert growth.at("peak_mb", 20) == pytest.approx(4.5)
    assert growth.source == "linear from 20 and 40"
    assert growth.affordable(100, 7.5)
    assert not growth.affordable(100, 7.4)
    assert not replace(growth, failed=True).affordable(100, 100.0)
    assert growth.extended(80, measured(2.0)).at("seconds", 160) == 2.0  # a line never descends
    assert Growth().affordable(10**9, 0.0)
    assert math.isnan(Growth().at("seconds", 10))


def test_what_is_measured_is_judged_and_what_is_not_is_marked(monkeypatch: pytest.MonkeyPatch) -> None:
    took = {"exact_scan": 1.0, "numpy_loop": 2.0, "optuna_random": 4.0, "botorch_gp": 30.0}

    def run(trial: Trial, *, timeout: float) -> Measured:  # noqa: ARG001
        method = next(one for one, place in peers._PROPOSE.items() if place == trial.propose)
        if method == "optuna_tpe":
            raise PeerError("no luck")
        problem = PairProblem.drawn(trial.genes, seed=trial.seed)
        right = tuple(tuple(pair) for _, *pair in brute_force(problem)[: trial.k])
        found = {"optuna_random": right[1:2], "botorch_gp": right[:1]}.get(method, right)
        return measured(took[method] * trial.genes, found)

    monkeypatch.setattr(peers, "run_trial", run)
    done = []
    asked = Comparison(genes=(6, 12), methods=(*took, "optuna_tpe", "baybe"), k=3, budget=300.0, threads=1, seed=1)
    monkeypatch.setattr(peers, "find_spec", lambda _: None)
    report = measure_peers(asked, progress=lambda *at: done.append(at))
    assert done == [(number, 10) for number in range(1, 11)]
    assert report.skipped == (
        "baybe: baybe is not installed; see benchmarks/requirements-peers.txt",
        "optuna_tpe, 15 pairs: no luck",
    )
    small, large = (
        {(row.model, row.metric): row for row in report.rows if row.variant == variant}
        for variant in ("15 pairs", "66 pairs")
    )
    assert {model for model, _ in small} == set(took)
    assert small["botorch_gp", "seconds"].value == 180.0
    assert small["botorch_gp", "seconds"].n == 3
    assert small["botorch_gp", "cpu_ratio"].value == pytest.approx(30.0)
    assert small["optuna_random", "top1"].value == 0.0
    assert 0 < small["optuna_random", "worth"].value < 1
    assert ("optuna_random", "topk") not in small
    assert small["exact_scan", "topk"].value == small["botorch_gp", "top1"].value == 1.0
    marked = "~ botorch_gp, linear from 15"
    assert large[marked, "seconds"].value == pytest.approx(180.0 * 66 / 15)
    assert large[marked, "seconds"].n == 0
    assert {metric for model, metric in large if model == marked} == {
        "seconds", "cpu_seconds", "cpu_ratio",
    }  # fmt: skip


def test_a_process_of_its_own_tells_what_it_took() -> None:
    trial = Trial("benchmarks.peers.loops:numpy_loop", 40, 5, 2, 1, 1)
    told, here = run_trial(trial, timeout=60.0), measure(trial)
    assert told.found == here.found == tuple(tuple(pair) for _, *pair in brute_force(PROBLEM)[:5])
    assert len(told.seconds) == len(told.cpu_seconds) == 2
    assert min(told.seconds) > 0
    assert told.peak_mb is None or 0 <= told.peak_mb < 200


def test_a_search_that_fails_or_hangs_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    trial = Trial("benchmarks.peers.loops:none", 40, 5, 1, 1, 1)
    with pytest.raises(PeerError, match="stopped after 0 s"):
        run_trial(trial, timeout=0.01)
    monkeypatch.setattr(peers_process.sys, "executable", "/bin/false")
    with pytest.raises(PeerError, match="exit code 1"):
        run_trial(trial, timeout=10.0)


def test_comparisons_that_make_no_sense_are_refused() -> None:
    with pytest.raises(UnknownNameError, match="botorch_ensemble"):
        Comparison(methods=("botorch_ensembl",))
    for genes in ((), (10, 10), (20, 10)):
        with pytest.raises(DataError, match="must ascend"):
            Comparison(genes=genes)
    for wrong in ({"k": 0}, {"repeats": 0}, {"threads": 0}, {"budget": -1.0}, {"budget": math.nan}):
        with pytest.raises(DataError, match="measures nothing"):
            Comparison(**wrong)
    assert set(METHODS) >= {"exact_scan", "numpy_loop", "baybe"}
