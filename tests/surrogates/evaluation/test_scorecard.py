import math
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from surrogates.data.catalogue import open_dataset
from surrogates.data.network import Network
from surrogates.data.perturbation import Perturbation
from surrogates.data.screen import Screen
from surrogates.data.simulate import LinearCausalWorld, SaturatingWorld, singles_and_doubles
from surrogates.errors import DataError
from surrogates.evaluation.rows import Row
from surrogates.evaluation.scorecard import BASELINES, double_splits, score_forward, single_splits
from surrogates.models.additive import Additive, ScaledAdditive

NETWORK = Network(genes=12)
DESIGN = singles_and_doubles(NETWORK, doubles=40, seed=0)


@pytest.fixture(scope="module")
def screen() -> Screen:
    return SaturatingWorld(NETWORK, strength=2.0, noise=0.02).screen(DESIGN, seed=0)


def _of(rows: list[Row], model: str, novelty: str, metric: str) -> Row:
    (row,) = (row for row in rows if (row.model, row.novelty, row.metric) == (model, novelty, metric))
    return row


def test_every_double_is_held_out_once_and_every_single_is_for_training(screen: Screen) -> None:
    splits = [*double_splits(screen, seed=0)]
    assert sorted(torch.cat([split.test for split in splits]).tolist()) == [*range(12, 52)]
    for split in splits:
        assert set(split.train.tolist()) == set(range(52)) - set(split.test.tolist())


def test_doubles_with_a_part_never_measured_alone_are_not_predicted(screen: Screen) -> None:
    without = screen.rows(range(1, 52))  # G000 was not measured alone
    held = torch.cat([split.test for split in double_splits(without, seed=0)])
    assert held.numel() > 0
    assert not any("G000" in without.labels[row] for row in held)


def test_nothing_with_a_held_out_target_is_for_training(screen: Screen) -> None:
    splits = [*single_splits(screen, seed=0)]
    assert sorted(torch.cat([split.test for split in splits]).tolist()) == [*range(12)]
    for split in splits:
        held = {screen.labels[row] for row in split.test}
        touched = {row for row, label in enumerate(screen.labels) if held & set(label.split("+"))}
        assert set(split.train.tolist()) == set(range(52)) - touched


def test_rows_hold_every_model_on_both_tasks(screen: Screen) -> None:
    rows = score_forward(screen, {"unshrunk": ScaledAdditive(shrinkage=0.0)}, seed=0)
    assert len(rows) == 2 * 2 * (len(BASELINES) + 1)
    assert {row.novelty for row in rows} == {"double, 2 of 2 seen", "single, unseen"}
    assert {row.dataset for row in rows} == {"SaturatingWorld"}
    reference = _of(rows, "additive", "double, 2 of 2 seen", "mse_ratio_to_additive")
    assert (reference.value, reference.low, reference.high, reference.n) == (1, 1, 1, 40)
    scaled = _of(rows, "scaled_additive", "double, 2 of 2 seen", "mse_ratio_to_additive")
    assert 0 < scaled.low < scaled.value < scaled.high
    still = _of(rows, "no_change", "single, unseen", "mse_ratio_to_no_change")
    assert (still.value, still.n) == (1, 12)
    assert math.isnan(_of(rows, "no_change", "single, unseen", "pearson_median").value)


def test_additive_is_nearly_perfect_in_a_linear_world() -> None:
    rows = score_forward(LinearCausalWorld(NETWORK, noise=1e-3).screen(DESIGN, seed=0), {}, seed=0)
    assert _of(rows, "additive", "double, 2 of 2 seen", "pearson_median").value > 0.999
    assert _of(rows, "no_change", "double, 2 of 2 seen", "mse_ratio_to_additive").value > 1000


def test_a_screen_of_singles_is_scored_on_singles(screen: Screen) -> None:
    assert {row.novelty for row in score_forward(screen.rows(range(12)), {}, seed=0)} == {"single, unseen"}


def test_a_baseline_cannot_be_replaced(screen: Screen) -> None:
    with pytest.raises(DataError, match="'additive' is the name of a baseline"):
        score_forward(screen, {"additive": ScaledAdditive()}, seed=0)
    assert score_forward(screen.rows(range(12)), {"additive": Additive()}, seed=0)


def test_several_contexts_are_refused() -> None:
    world = LinearCausalWorld(Network(genes=4, contexts=("one", "two")))
    design = [Perturbation.parse(name) for name in world.network.names]
    with pytest.raises(DataError, match="2 contexts"):
        score_forward(world.screen(design, seed=0), {}, seed=0)


@pytest.mark.real_data
def test_known_numbers_of_norman2019(real_data: Callable[[str], Path]) -> None:
    real_data("norman2019_expr")
    rows = score_forward(open_dataset("norman2019_expr"), {}, seed=0)
    additive = _of(rows, "additive", "double, 2 of 2 seen", "pearson_median")
    assert additive.value == pytest.approx(0.694, abs=5e-4)
    assert additive.n == 126
    assert 0.72 < _of(rows, "scaled_additive", "double, 2 of 2 seen", "mse_ratio_to_additive").value < 0.76
    assert _of(rows, "perturbation_mean", "single, unseen", "mse_ratio_to_no_change").n == 104
