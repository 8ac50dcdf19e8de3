import math
from itertools import permutations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score, precision_recall_curve
from strategies.screens import normal
from torch import Tensor

from surrogates.errors import DataError
from surrogates.evaluation.differential import average_precision_rows, precision_at_recall
from surrogates.evaluation.metrics import top_overlap_rows


@st.composite
def called(draw: st.DrawFn) -> tuple[Tensor, Tensor]:
    """Scores, often tied, and which readouts change, at least one in each row."""
    seed, levels = draw(st.integers(0, 1000)), draw(st.sampled_from([2, 5, 10**6]))
    score = (normal(3, 12, seed=seed) * levels).round()
    truth = normal(3, 12, seed=seed + 1) > draw(st.sampled_from([-2.0, 0.0, 1.0]))
    truth[:, 0] |= ~truth.any(1)
    return score, truth


@given(called())
def test_average_precision_agrees_with_scikit_learn(case: tuple[Tensor, Tensor]) -> None:
    score, truth = case
    expected = [average_precision_score(hit, row) for hit, row in zip(truth.numpy(), score.numpy(), strict=True)]
    assert average_precision_rows(score, truth).tolist() == pytest.approx(expected)


@given(called(), st.sampled_from([0.1, 0.25, 1 / 3, 0.5, 0.75, 1.0]))
def test_precision_at_recall_agrees_with_the_curve_of_scikit_learn(
    case: tuple[Tensor, Tensor], recall: float
) -> None:
    score, truth = case
    expected = []
    for hit, row in zip(truth.numpy(), score.numpy(), strict=True):
        precision, recalled, _ = precision_recall_curve(hit, row)
        expected.append(precision[recalled >= recall].max())
    assert precision_at_recall(score, truth, recall=recall).tolist() == pytest.approx(expected)


@given(called())
def test_average_precision_knows_order_only_and_no_order_of_readouts(case: tuple[Tensor, Tensor]) -> None:
    score, truth = case
    expected = average_precision_rows(score, truth)
    torch.testing.assert_close(average_precision_rows((score / 10**6).exp(), truth), expected)
    torch.testing.assert_close(average_precision_rows(score.flip(1), truth.flip(1)), expected)
    assert ((expected > 0) & (expected <= 1 + 1e-12)).all()


@given(called())
def test_more_recall_never_has_more_precision(case: tuple[Tensor, Tensor]) -> None:
    at = torch.stack([precision_at_recall(*case, recall=recall) for recall in (0.25, 0.5, 0.75, 1.0)])
    assert (at.diff(dim=0) <= 0).all()
    assert (at[-1] >= case[1].double().mean(1) - 1e-12).all()
    assert (at[0] <= 1).all()


@given(called())
def test_a_score_that_tells_nothing_gets_the_prevalence(case: tuple[Tensor, Tensor]) -> None:
    truth = case[1]
    torch.testing.assert_close(average_precision_rows(torch.zeros_like(case[0]), truth), truth.double().mean(1))
    torch.testing.assert_close(truth.double().mean(1), torch.tensor(truth.numpy().mean(1)))


@given(called())
def test_a_perfect_score_is_one(case: tuple[Tensor, Tensor]) -> None:
    perfect = case[1].double()
    torch.testing.assert_close(average_precision_rows(perfect, case[1]), torch.ones(3, dtype=torch.float64))
    assert precision_at_recall(perfect, case[1], recall=1.0).tolist() == [1, 1, 1]


def test_where_nothing_changes_precision_is_undefined() -> None:
    score = normal(2, 4, seed=0)
    truth = torch.tensor([[False] * 4, [True] * 4])
    assert math.isnan(average_precision_rows(score, truth)[0])
    assert average_precision_rows(score, truth)[1] == 1
    assert precision_at_recall(score, truth, recall=0.5).isnan().tolist() == [True, False]
    assert truth.double().mean(1).tolist() == [0, 1]


def test_infinite_scores_rank_and_undefined_ones_are_refused() -> None:
    truth = torch.tensor([[True, False, True, False]])
    assert average_precision_rows(torch.tensor([[math.inf, -math.inf, math.inf, 0.0]]), truth).tolist() == [1]
    with pytest.raises(DataError, match="nan"):
        average_precision_rows(torch.tensor([[math.nan, 0.0, 1.0, 2.0]]), truth)


@pytest.mark.parametrize("recall", [0.0, 1.5, math.nan])
def test_an_impossible_recall_is_refused(recall: float) -> None:
    with pytest.raises(DataError, match="recall"):
        precision_at_recall(normal(1, 4, seed=0), torch.ones(1, 4, dtype=torch.bool), recall=recall)


@given(seed=st.integers(0, 1000), k=st.integers(1, 9))
def test_top_overlap_intersects_the_readouts_of_largest_change(seed: int, k: int) -> None:
    prediction, truth = normal(2, 4, 9, seed=seed)
    tops = [np.argsort(-rows.abs().numpy(), axis=1)[:, :k] for rows in (prediction, truth)]
    expected = [np.intersect1d(one, other).size / k for one, other in zip(*tops, strict=True)]
    assert top_overlap_rows(prediction, truth, k=k).tolist() == pytest.approx(expected)
    torch.testing.assert_close(
        top_overlap_rows(-3 * prediction, truth, k=k), torch.tensor(expected, dtype=torch.float64)
    )


@given(
    prediction=st.lists(st.integers(0, 2), min_size=5, max_size=5),
    truth=st.lists(st.integers(0, 2), min_size=5, max_size=5),
    k=st.integers(1, 5),
)
def test_ties_are_broken_at_random_on_average(prediction: list[int], truth: list[int], k: int) -> None:
    def membership(size: list[int]) -> np.ndarray:
        """Average over every order in which ties can be broken."""
        every = np.zeros(5)
        for order in permutations(range(5)):
            every[sorted(order, key=lambda readout: -size[readout])[:k]] += 1 / math.factorial(5)
        return every

    rows = (torch.tensor([values], dtype=torch.float64) for values in (prediction, truth))
    expected = membership(prediction) @ membership(truth) / k
    assert top_overlap_rows(*rows, k=k).item() == pytest.approx(expected)


def test_no_change_overlaps_as_chance_does() -> None:
    truth = normal(3, 10, seed=0)
    assert top_overlap_rows(torch.zeros_like(truth), truth, k=4).tolist() == pytest.approx([0.4] * 3)


@pytest.mark.parametrize("k", [0, 11])
def test_a_top_that_does_not_exist_is_refused(k: int) -> None:
    with pytest.raises(DataError, match=f"top {k} of 10"):
        top_overlap_rows(normal(1, 10, seed=0), normal(1, 10, seed=1), k=k)
