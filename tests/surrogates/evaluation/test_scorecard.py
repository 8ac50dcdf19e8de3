import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import torch
from strategies.screens import planted_screen

from surrogates.data.catalogue import open_dataset
from surrogates.data.novelty import CLASSES, double_splits, forward_protocols, target_splits
from surrogates.data.perturbation import Perturbation
from surrogates.data.screen import Screen
from surrogates.data.simulate import LinearCausalWorld, Network, SaturatingWorld, singles_and_doubles
from surrogates.errors import DataError
from surrogates.evaluation.intervals import Row, node_bootstrap_interval
from surrogates.evaluation.metrics import ROW_METRICS, pearson_rows
from surrogates.evaluation.scorecard import BASELINES, judge, measure_forward, score_forward
from surrogates.models.baselines import Additive, FittedMean, ScaledAdditive
from surrogates.uncertainty.dyadic import dyadic_standard_error

NETWORK = Network(genes=12)
DESIGN = singles_and_doubles(NETWORK, doubles=40, seed=0)
CLASS_NAMES = ["double, 2 of 2 seen", "double, 1 of 2 seen", "double, 0 of 2 seen", "single, unseen"]


@dataclass(frozen=True)
class Refusing:
    """Takes only screens in which everything was measured alone."""

    def fit(self, screen: Screen, *, seed: int) -> FittedMean:
        if not bool((screen.single_rows >= 0).all()):
            raise DataError(f"seed {seed}: an entry was not measured alone")
        return BASELINES["no_change"].fit(screen, seed=seed)  # type: ignore[return-value]


@pytest.fixture(scope="module")
def screen() -> Screen:
    return SaturatingWorld(NETWORK, strength=2.0, noise=0.02).screen(DESIGN, seed=0)


@pytest.fixture(scope="module")
def rows(screen: Screen) -> list[Row]:
    return score_forward(screen, {"unshrunk": ScaledAdditive(shrinkage=0.0)}, seed=0)


def _of(rows: list[Row], model: str, novelty: str, metric: str) -> Row:
    (row,) = (row for row in rows if (row.model, row.novelty, row.metric) == (model, novelty, metric))
    return row


def test_rows_hold_every_model_metric_and_class(rows: list[Row]) -> None:
    assert list(dict.fromkeys(row.novelty for row in rows)) == CLASS_NAMES
    assert len(rows) == len(CLASS_NAMES) * (len(BASELINES) + 1) * (3 + len(ROW_METRICS) + 2)
    assert {row.dataset for row in rows} == {"SaturatingWorld"}
    reference = _of(rows, "additive", "double, 2 of 2 seen", "mse_ratio_to_additive")
    assert (reference.value, reference.low, reference.high, reference.n) == (1, 1, 1, 40)
    scaled = _of(rows, "scaled_additive", "double, 2 of 2 seen", "mse_ratio_to_additive")
    assert 0 < scaled.low < scaled.value < scaled.high
    assert _of(rows, "scaled_additive", "single, unseen", "mse_ratio_to_scaled_additive").value == 1
    still = _of(rows, "no_change", "single, unseen", "mse_ratio_to_no_change")
    assert (still.value, still.n) == (1, 12)
    assert math.isnan(_of(rows, "no_change", "single, unseen", "pearson_median").value)


def test_each_class_has_every_perturbation_once(screen: Screen, rows: list[Row]) -> None:
    held: dict[int, set[int]] = {0: set(), 1: set()}
    for split in target_splits(screen, seed=0):
        alone = {screen.labels[row] for row in split.train if "+" not in screen.labels[row]}
        for row in split.test.tolist():
            if "+" in screen.labels[row]:
                held[len(alone & set(screen.labels[row].split("+")))].add(row)
    assert _of(rows, "additive", "double, 1 of 2 seen", "mse").n == len(held[1])
    assert _of(rows, "additive", "double, 0 of 2 seen", "mse").n == len(held[0])


def test_numbers_equal_those_of_a_slow_loop(screen: Screen, rows: list[Row]) -> None:
    errors: dict[str, dict[int, list[float]]] = {"additive": {}, "scaled_additive": {}}
    correlations: dict[int, list[float]] = {}
    for split in target_splits(screen, seed=0):
        training = screen.rows(split.train)
        alone = {label for label in training.labels if "+" not in label}
        for row in split.test.tolist():
            if len(alone & set(screen.labels[row].split("+"))) != 1:
                continue
            truth = screen.effects[row]
            for name, found in errors.items():
                fitted = BASELINES[name].fit(training, seed=0)
                predicted = fitted.predict(screen.batch.rows(torch.tensor([row]))).mean
                found.setdefault(row, []).append(float((predicted[0] - truth).square().sum()))
                if name == "additive":
                    correlations.setdefault(row, []).append(float(pearson_rows(predicted, truth[None])))
    sums = {name: sum(sum(each) / len(each) for each in found.values()) for name, found in errors.items()}
    novelty = "double, 1 of 2 seen"
    ratio = _of(rows, "additive", novelty, "mse_ratio_to_scaled_additive").value
    assert ratio == pytest.approx(sums["additive"] / sums["scaled_additive"], rel=1e-9)
    middle = torch.tensor([sum(each) / len(each) for each in correlations.values()]).quantile(0.5)
    assert _of(rows, "additive", novelty, "pearson_median").value == pytest.approx(float(middle), rel=1e-5)
    assert max(map(len, correlations.values())) == 2  # held out in two folds, counted once


def test_bounds_and_errors_know_that_doubles_share_genes(screen: Screen, rows: list[Row]) -> None:
    (protocol,) = forward_protocols(screen, [CLASSES["double-2"]], seed=0)
    found = judge(screen, ScaledAdditive(shrinkage=0.0), protocol, seed=0)
    scores = found.scores[CLASSES["double-2"]]
    nodes, values = screen.batch.genes[scores.conditions], scores.column("mse")
    row = _of(rows, "unshrunk", "double, 2 of 2 seen", "mse")
    assert (row.low, row.high) == pytest.approx(node_bootstrap_interval(values, nodes, seed=0))
    assert row.standard_error == pytest.approx(dyadic_standard_error(values, nodes))
    assert row.standard_error > float(values.std() / len(values) ** 0.5)
    assert math.isnan(_of(rows, "unshrunk", "double, 2 of 2 seen", "mse_ratio_to_additive").standard_error)


def test_the_order_of_rows_does_not_matter(screen: Screen, rows: list[Row]) -> None:
    shuffled = screen.rows(torch.randperm(len(screen), generator=torch.Generator().manual_seed(3)))
    again = score_forward(shuffled, {"unshrunk": ScaledAdditive(shrinkage=0.0)}, seed=0)
    for one, other in zip(again, rows, strict=True):
        assert (one.model, one.metric, one.novelty, one.n) == (other.model, other.metric, other.novelty, other.n)
        if one.metric not in {"fit_seconds", "peak_mb"}:
            assert one.value == pytest.approx(other.value, rel=1e-6, abs=1e-9, nan_ok=True)


def test_additive_is_nearly_perfect_in_a_linear_world() -> None:
    rows = score_forward(LinearCausalWorld(NETWORK, noise=1e-3).screen(DESIGN, seed=0), {}, seed=0)
    novelty = "double, 2 of 2 seen"
    assert _of(rows, "additive", novelty, "pearson_median").value > 0.999
    assert _of(rows, "additive", novelty, "systema_pearson_median").value > 0.99
    assert _of(rows, "additive", novelty, "r_squared_median").value > 0.99
    assert _of(rows, "additive", novelty, "centroid_accuracy").value > 0.99
    assert _of(rows, "additive", novelty, "discrimination").value > 0.9
    assert _of(rows, "no_change", novelty, "mse_ratio_to_additive").value > 1000
    assert math.isnan(_of(rows, "additive", novelty, "top_50_overlap").value)  # 12 readouts


def test_likelihood_and_coverage_tell_an_overconfident_posterior() -> None:
    screen = planted_screen(alone=range(8), together=[(a, a + 1) for a in range(7)], noise=0.3)
    novelty = "double, 2 of 2 seen"
    rows = score_forward(screen, {}, seed=0)
    coverage = _of(rows, "scaled_additive", novelty, "coverage_90").value
    assert 0.5 < coverage <= 1
    wide = _of(rows, "no_change", novelty, "negative_log_likelihood").value
    assert _of(rows, "scaled_additive", novelty, "negative_log_likelihood").value < wide


def test_a_screen_of_singles_is_scored_on_singles(screen: Screen) -> None:
    assert {row.novelty for row in score_forward(screen.rows(range(12)), {}, seed=0)} == {"single, unseen"}


def test_one_readout_is_scored_across_perturbations(screen: Screen) -> None:
    one = screen.with_readouts([0])
    rows = score_forward(one, {}, seed=0)
    novelty = "double, 2 of 2 seen"
    assert math.isnan(_of(rows, "additive", novelty, "pearson_median").value)
    splits = [*double_splits(one, seed=0)]
    predicted = torch.cat([
        Additive().fit(one.rows(split.train), seed=0).predict(one.batch.rows(split.test)).mean
        for split in splits
    ])  # fmt: skip
    truth = one.effects[torch.cat([split.test for split in splits])]
    expected = float(torch.corrcoef(torch.cat([predicted, truth], 1).T)[0, 1])
    assert _of(rows, "additive", novelty, "pearson_across").value == pytest.approx(expected, rel=1e-9)
    share = 1 - float((truth - predicted).square().sum() / (truth - truth.mean()).square().sum())
    row = _of(rows, "additive", novelty, "r_squared_across")
    assert row.value == pytest.approx(share, rel=1e-9)
    assert row.low < row.value < row.high
    assert math.isnan(_of(rows, "no_change", novelty, "pearson_across").value)


def test_only_wanted_classes_are_fitted(screen: Screen) -> None:
    told: list[tuple[int, int, str]] = []
    report = measure_forward(
        screen, {}, seed=0, classes=("double-0",), progress=lambda done, of, what: told.append((done, of, what))
    )
    assert {row.novelty for row in report.rows} == {"double, 0 of 2 seen"}
    (protocol,) = forward_protocols(screen, [CLASSES["double-0"]], seed=0)
    fits = len(BASELINES) * len(protocol.splits)
    assert [done for done, _, _ in told] == [*range(fits + 1)]
    assert {of for _, of, _ in told} == {fits}
    assert told[0][2] == "no_change, fold 1"


def test_a_class_of_one_perturbation_is_not_shown() -> None:
    screen = planted_screen(alone=range(6), together=[(0, 1)])
    assert {row.novelty for row in score_forward(screen, {}, seed=0)} == {"single, unseen"}


def test_refusals_are_listed_and_do_not_stop_the_others(screen: Screen) -> None:
    classes = ("double-2", "single-0")
    report = measure_forward(screen, {"refusing": Refusing()}, seed=0, classes=classes)
    (refusal,) = report.refusals
    assert (refusal.model, refusal.reason) == ("refusing", "seed 0: an entry was not measured alone")
    assert refusal.novelty == "single, unseen"
    assert {row.novelty for row in report.rows if row.model == "refusing"} == {"double, 2 of 2 seen"}
    assert {row.novelty for row in report.rows if row.model == "additive"} == {CLASS_NAMES[0], CLASS_NAMES[3]}
    with pytest.raises(DataError, match="'refusing' refuses the data"):
        score_forward(screen.rows(range(6)), {"refusing": Refusing()}, seed=0)


def test_nothing_to_hold_out_is_refused(screen: Screen) -> None:
    doubles = screen.rows(range(12, 52))
    with pytest.raises(DataError, match=r"nothing of double-2.* 0 single\(s\) and 40 double\(s\)"):
        score_forward(doubles, {}, seed=0)


def test_a_baseline_cannot_be_replaced(screen: Screen) -> None:
    with pytest.raises(DataError, match="'additive' is the name of a baseline"):
        score_forward(screen, {"additive": ScaledAdditive()}, seed=0)
    assert score_forward(screen.rows(range(12)), {"additive": Additive()}, seed=0)


def test_several_contexts_are_refused() -> None:
    world = LinearCausalWorld(Network(genes=4, contexts=("one", "two")))
    design = [Perturbation.parse(name) for name in world.network.names]
    with pytest.raises(DataError, match="2 contexts"):
        score_forward(world.screen(design, seed=0), {}, seed=0)


def test_bounds_hold_the_same_seed_and_move_with_another(screen: Screen) -> None:
    few = screen.rows(range(12))
    one, same, other = (
        _of(score_forward(few, {}, seed=seed), "additive", "single, unseen", "mse_ratio_to_no_change")
        for seed in (0, 0, 1)
    )
    assert one == same
    assert replace(one, value=0.0, low=0.0, high=0.0) == replace(other, value=0.0, low=0.0, high=0.0)
    assert one.low != other.low


@pytest.mark.real_data
def test_known_numbers_of_norman2019(real_data: Callable[[str], Path]) -> None:
    real_data("norman2019_expr")
    rows = score_forward(open_dataset("norman2019_expr"), {}, seed=0)
    additive = _of(rows, "additive", "double, 2 of 2 seen", "pearson_median")
    assert additive.value == pytest.approx(0.694, abs=5e-4)
    assert additive.n == 126
    assert 0.72 < _of(rows, "scaled_additive", "double, 2 of 2 seen", "mse_ratio_to_additive").value < 0.76
    assert _of(rows, "perturbation_mean", "single, unseen", "mse_ratio_to_no_change").n == 104
    assert _of(rows, "additive", "double, 2 of 2 seen", "top_50_overlap").value > 0.3
