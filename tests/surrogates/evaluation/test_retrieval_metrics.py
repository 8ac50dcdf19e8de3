import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial.distance import cdist
from strategies.screens import normal
from torch import Tensor

from surrogates.evaluation.metrics import centroid_accuracy, discrimination_rows

SEEDS = st.integers(0, 1000)


def nothing(rows: Tensor) -> Tensor:
    """Exclude no readout."""
    return torch.zeros_like(rows, dtype=torch.bool)


@given(seed=SEEDS, b=st.integers(2, 8))
def test_centroid_accuracy_counts_rivals_that_are_farther(seed: int, b: int) -> None:
    prediction, truth = normal(2, b, 5, seed=seed)
    distances = cdist(prediction.numpy(), truth.numpy())
    expected = [sum(row[q] > row[p] for q in range(b) if q != p) / (b - 1) for p, row in enumerate(distances)]
    assert centroid_accuracy(prediction, truth).tolist() == pytest.approx(expected)


@given(seed=SEEDS, b=st.integers(1, 8))
def test_discrimination_ranks_by_absolute_differences_of_the_readouts_that_stay(seed: int, b: int) -> None:
    prediction, truth = normal(2, b, 5, seed=seed)
    excluded = normal(b, 5, seed=seed + 1) > 0.5
    expected = []
    for p in range(b):
        kept = ~excluded[p]
        distances = cdist(prediction[p : p + 1, kept].numpy(), truth[:, kept].numpy(), "cityblock")[0]
        rank = sum(distances < distances[p]) + (sum(distances == distances[p]) - 1) / 2  # all tie if nothing stays
        expected.append(1 - rank / b)
    assert discrimination_rows(prediction, truth, excluded).tolist() == pytest.approx(expected)


def test_the_own_readout_would_give_the_perturbation_away() -> None:
    truth = torch.tensor([[-9.0, 0.0, 1.0], [0.0, -9.0, 2.0], [0.0, 0.0, 3.0]])
    prediction = torch.tensor([[-9.0, 0.0, 3.0], [0.0, -9.0, 2.0], [0.0, 0.0, 3.0]])
    own = torch.tensor([[True, False, False], [False, True, False], [False, False, False]])
    assert discrimination_rows(prediction, truth, nothing(truth)).tolist() == [1, 1, 1]
    assert discrimination_rows(prediction, truth, own).tolist() == pytest.approx([2 / 3, 1, 1])


@given(seed=SEEDS, b=st.integers(2, 8))
def test_the_truth_is_best_and_the_order_of_perturbations_and_readouts_is_nothing(seed: int, b: int) -> None:
    prediction, truth = normal(2, b, 5, seed=seed)
    excluded = normal(b, 5, seed=seed + 1) > 1
    assert centroid_accuracy(truth, truth).tolist() == [1] * b
    assert discrimination_rows(truth, truth, nothing(truth)).tolist() == [1] * b
    rows, columns = torch.as_tensor(np.random.default_rng(seed).permutation(b)), torch.arange(4, -1, -1)
    for metric in (
        centroid_accuracy(prediction, truth)[rows] - centroid_accuracy(prediction[rows], truth[rows]),
        discrimination_rows(prediction, truth, excluded)[rows]
        - discrimination_rows(*(each[rows][:, columns] for each in (prediction, truth, excluded))),
    ):
        assert metric.abs().max() < 1e-12


@given(seed=SEEDS, b=st.integers(2, 8))
def test_scores_stay_within_their_bounds(seed: int, b: int) -> None:
    prediction, truth = normal(2, b, 3, seed=seed)
    assert ((centroid_accuracy(prediction, truth) >= 0) & (centroid_accuracy(prediction, truth) <= 1)).all()
    score = discrimination_rows(prediction, truth, nothing(truth))
    assert ((score >= 1 / b - 1e-12) & (score <= 1)).all()


def test_perturbations_that_did_the_same_share_their_places() -> None:
    truth = normal(1, 5, seed=0).expand(4, 5)
    prediction = normal(4, 5, seed=1)
    assert centroid_accuracy(prediction, truth).tolist() == [0.5] * 4
    assert discrimination_rows(prediction, truth, nothing(truth)).tolist() == [1 - 1.5 / 4] * 4


def test_a_prediction_that_is_the_same_for_all_is_at_chance() -> None:
    truth = normal(20, 30, seed=0)
    prediction = truth.mean(0).expand(20, 30)
    assert float(centroid_accuracy(prediction, truth).mean()) == pytest.approx(0.5)
    assert float(discrimination_rows(prediction, truth, nothing(truth)).mean()) == pytest.approx(0.5 + 0.5 / 20)


def test_a_perturbation_without_rivals_has_no_centroid_accuracy() -> None:
    assert centroid_accuracy(normal(1, 3, seed=0), normal(1, 3, seed=1)).isnan().all()
