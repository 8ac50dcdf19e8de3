import pytest
import torch
from strategies.screens import normal, planted_screen

from surrogates.data.novelty import CLASSES, forward_protocols
from surrogates.data.perturbation import Perturbation
from surrogates.data.screen import Screen
from surrogates.evaluation import metrics
from surrogates.evaluation.metrics import ROW_METRICS, HeldOutEffects, discrimination_rows, squared_errors
from surrogates.evaluation.scorecard import judge
from surrogates.models.baselines import Additive
from surrogates.uncertainty.posterior import isotropic


def _held(b: int, g: int) -> HeldOutEffects:
    truth = normal(b, g, seed=0)
    posterior = isotropic(truth + 0.1 * normal(b, g, seed=1), torch.ones(g, dtype=torch.float64))
    return HeldOutEffects(posterior, truth, truth.mean(0), torch.zeros(b, g, dtype=torch.bool))


def test_metrics_are_undefined_without_enough_to_compare(monkeypatch: pytest.MonkeyPatch) -> None:
    defined = {
        size: {name for name, metric in ROW_METRICS.items() if not metric.of(_held(*size)).isnan().any()}
        for size in ((6, 100), (6, 99), (6, 4), (1, 100))
    }
    rivals = {"centroid_accuracy", "discrimination"}
    assert defined[6, 100] == {*ROW_METRICS}
    assert defined[6, 99] == {*ROW_METRICS} - {"top_50_overlap"}
    assert defined[6, 4] == {"mse", "mae", "negative_log_likelihood", "coverage_90"}
    assert {*ROW_METRICS} - defined[1, 100] == {*rivals, "systema_pearson_median"}  # one row is its own centroid
    monkeypatch.setattr(metrics, "MOST_RIVALS", 5)
    assert all(ROW_METRICS[name].of(_held(6, 100)).isnan().all() for name in rivals)


def test_errors_are_per_readout() -> None:
    held = _held(4, 10)
    difference = held.mean - held.truth
    torch.testing.assert_close(ROW_METRICS["mse"].of(held), difference.square().mean(1))
    torch.testing.assert_close(ROW_METRICS["mae"].of(held), difference.abs().mean(1))


def test_rivals_are_of_the_same_fold_and_own_targets_are_left_out() -> None:
    screen = planted_screen(alone=range(10), together=[], readouts=12)
    named = Screen.from_labels(
        screen.effects,
        [Perturbation.parse(label) for label in screen.labels],
        [*screen.labels[:7], *screen.readouts[7:]],
    )
    (protocol,) = forward_protocols(named, [CLASSES["single-0"]], seed=0)
    judgement = judge(named, Additive(), protocol, seed=0)
    scores = judgement.scores[CLASSES["single-0"]]
    assert len(judgement.costs) == 5
    assert scores.conditions.tolist() == [*range(10)]
    for split in protocol.splits:
        predicted = Additive().fit(named.rows(split.train), seed=0).predict(named.batch.rows(split.test)).mean
        truth = named.effects[split.test]
        own = torch.tensor([[label == readout for readout in named.readouts] for label in named.labels])[
            split.test
        ]
        torch.testing.assert_close(
            scores.column("discrimination")[split.test], discrimination_rows(predicted, truth, own)
        )
        torch.testing.assert_close(scores.column("mse")[split.test], squared_errors(predicted, truth) / 12)
