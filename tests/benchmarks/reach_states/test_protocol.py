"""Rounds until a state is reached, on environments that were played by hand, and the noise of replicates."""

import math
from dataclasses import replace

import pandas as pd
import pytest
import torch

from benchmarks.reach_states.protocol import (
    doubles_benchmark,
    doubles_of_singles,
    far_pairs,
    far_pairs_benchmark,
    reach_environments,
    reach_rows,
    reached,
    replicate_noise,
)
from inverse_design.validate.replay import Environment, Trace
from surrogates.data.perturbation import Perturbation
from surrogates.data.screen import Screen
from surrogates.errors import DataError
from surrogates.evaluation.intervals import node_bootstrap_interval
from surrogates.uncertainty.dyadic import dyadic_standard_error

LABELS = ("A", "B", "A+B", "A+C", "B+C", "C+D", "A+D", "B+D")


@pytest.fixture
def screen() -> Screen:
    effects = torch.arange(8, dtype=torch.float64)[:, None] * torch.tensor([1.0, -1.0], dtype=torch.float64)
    return Screen.from_labels(effects, [Perturbation.parse(label) for label in LABELS], ("x", "y"))


def _trace(environment: Environment, labels: list[str], sizes: tuple[int, ...]) -> Trace:
    order = [environment.screen.labels[row] for row in environment.candidates.tolist()]
    rows = torch.tensor([order.index(label) for label in labels])
    nothing = torch.full((len(rows),), torch.nan, dtype=torch.float64)
    return Trace(environment.name, "by hand", 0, rows, sizes, nothing, nothing, 0.0)


def test_rounds_are_counted_until_a_candidate_is_near_enough(screen: Screen) -> None:
    (environment,) = reach_environments(screen, torch.tensor([7]), rounds=2, count=1, start=1, seed=0)
    environments = {environment.name: environment}
    near = _trace(environment, ["A+B", "A+C", "A+D"], (1, 1, 1))
    assert reached([near], environments, 1.0).rounds.tolist() == [2]
    assert reached([near], environments, 5.0).rounds.tolist() == [0]
    never = reached([near], environments, 0.5)
    assert never.rounds.tolist() == [3]
    assert not never.arrived.any()
    assert never.regret.tolist() == [[5.0, 4.0, 1.0]]


def test_rows_compare_recommenders_in_pairs(screen: Screen) -> None:
    environments = reach_environments(screen, torch.tensor([5, 7]), rounds=1, count=1, start=1, seed=0)
    by_name = {environment.name: environment for environment in environments}
    slow = reached([_trace(environment, ["A+B", "A+C"], (1, 1)) for environment in environments], by_name, 0.1)
    quick = reached(
        [_trace(environment, ["A+B", environment.name], (1, 1)) for environment in environments], by_name, 0.1
    )
    rows = reach_rows({"slow": slow, "quick": quick}, dataset="d", ours="quick", level=0.9, seed=0)
    found = {(row.model, row.metric): row.value for row in rows}
    assert found["quick", "rounds"] == 1
    assert found["slow", "rounds_more"] == 1
    assert ("quick", "rounds_more") not in found
    assert ("quick", "coverage") not in found
    assert slow.nodes.tolist() == [screen.batch.genes[row].tolist() for row in (5, 7)]


def test_targets_that_share_a_gene_are_not_independent(screen: Screen) -> None:
    environments = reach_environments(screen, torch.tensor([3, 4, 6, 7]), rounds=1, count=1, start=1, seed=0)
    by_name = {environment.name: environment for environment in environments}
    found = reached([_trace(environment, ["A+B", "A+C"], (1, 1)) for environment in environments], by_name, 0.1)
    rows = reach_rows({"one": found}, dataset="d", ours="one", level=0.9, seed=0)
    (row,) = (row for row in rows if row.metric == "rounds")
    assert row.value == 1.75  # one of four targets is measured in the first round
    assert row.standard_error == dyadic_standard_error(found.rounds, found.nodes)
    assert (row.low, row.high) == node_bootstrap_interval(found.rounds, found.nodes, seed=0)


def test_no_replays_tell_nothing() -> None:
    with pytest.raises(DataError, match=r"0 replay\(s\)"):
        reached([], {}, 1.0)


def test_far_pairs_are_the_farthest_combinations(screen: Screen) -> None:
    assert far_pairs(screen, 1 / 3, 2, seed=0).tolist() == [6, 7]
    with pytest.raises(DataError, match="fewer than 3 targets"):
        far_pairs(screen, 1 / 3, 3, seed=0)


def test_targets_of_measured_singles_leave_out_the_others(screen: Screen) -> None:
    assert [screen.labels[row] for row in doubles_of_singles(screen).tolist()] == ["A+B"]


def test_noise_is_the_gap_of_halves_over_the_root_of_two() -> None:
    labels = {"target": ["A"] * 4 + ["B"] * 2, "query": "Q", "replicate": [1, 1, 2, 2, 1, 2]}
    wells = pd.DataFrame({**labels, "x": [0.0, 2.0, 4.0, 6.0, 0.0, 4.0], "y": [0.0, 0, 0, 0, 0, 4]})
    gaps = torch.tensor([math.sqrt(8), 4.0], dtype=torch.float64)
    assert replicate_noise(wells) == pytest.approx(float(gaps.quantile(0.9)) / math.sqrt(2))


@pytest.mark.real_data
def test_a_far_pair_is_reached_sooner_by_profiles_than_by_chance() -> None:
    benchmark = far_pairs_benchmark(seed=0, targets=2, rounds=2)
    chosen = {name: benchmark.recommenders[name] for name in ("random", "likeliest and nearest")}
    _, results = replace(benchmark, recommenders=chosen).play(seed=0)
    assert results["likeliest and nearest"].rounds.mean() < results["random"].rounds.mean()


@pytest.mark.real_data
def test_doubles_are_found_in_the_first_round_from_singles_alone() -> None:
    _, results = doubles_benchmark(seed=0, targets=5, rounds=2).play(seed=0)
    assert results["match"].rounds.mean() < 1.2 < results["random"].rounds.mean()
