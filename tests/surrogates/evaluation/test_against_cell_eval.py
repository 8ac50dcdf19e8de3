"""The independent evaluator cell-eval computes the same numbers from the same cells."""

import anndata
import numpy as np
import polars as pl
import pytest
import torch
from cell_eval._types import DEComparison, DEResults, PerturbationAnndataPair
from cell_eval.metrics import _anndata as judge
from cell_eval.metrics._de import compute_pr_auc, de_overlap_metric
from torch import Tensor

from surrogates.evaluation.differential import average_precision_rows
from surrogates.evaluation.metrics import (
    absolute_errors,
    discrimination_rows,
    pearson_rows,
    squared_errors,
    top_overlap_rows,
)

CONTROL, CELLS = "control", 20
PERTURBATIONS = [f"G{number}" for number in range(6)]
READOUTS = np.array([f"G{number}" for number in range(50)])


def _cells(effects: np.ndarray, *, seed: int) -> anndata.AnnData:
    """Draw cells of the control and of each perturbation, in shuffled rows."""
    generator = np.random.default_rng(seed)
    label = generator.permutation(np.repeat([CONTROL, *PERTURBATIONS], CELLS))
    centres = {CONTROL: np.zeros(len(READOUTS)), **dict(zip(PERTURBATIONS, effects, strict=True))}
    matrix = 3 + np.stack([centres[each] for each in label]) + generator.normal(size=(len(label), len(READOUTS)))
    cells = anndata.AnnData(matrix)
    cells.obs["perturbation"], cells.var_names = label, READOUTS
    return cells


def _population(cells: anndata.AnnData, label: str) -> Tensor:
    return torch.as_tensor(cells.X[(cells.obs["perturbation"] == label).to_numpy()])


def _effects(cells: anndata.AnnData) -> Tensor:
    control = _population(cells, CONTROL).mean(0)
    return torch.stack([_population(cells, name).mean(0) - control for name in PERTURBATIONS])


@pytest.fixture(scope="module")
def pair() -> PerturbationAnndataPair:
    """Give measured cells beside those of a poor predictor, so that no score is at its bound throughout."""
    generator = np.random.default_rng(0)
    truth = 0.5 * generator.normal(size=(6, 50))
    prediction = 0.1 * truth + 0.4 * generator.normal(size=(6, 50))
    own = np.arange(6)
    truth[own, own] = prediction[own, own] = -3.0  # a knock-down shows in its own gene
    return PerturbationAnndataPair(_cells(truth, seed=1), _cells(prediction, seed=2), "perturbation", CONTROL)


@pytest.fixture(scope="module")
def rows(pair: PerturbationAnndataPair) -> tuple[Tensor, Tensor]:
    return _effects(pair.pred), _effects(pair.real)


def _in_order(values: dict[str, float]) -> list[float]:
    return [values[name] for name in PERTURBATIONS]


def test_errors(pair: PerturbationAnndataPair, rows: tuple[Tensor, Tensor]) -> None:
    assert (squared_errors(*rows) / 50).tolist() == pytest.approx(_in_order(judge.mse_delta(pair)))
    assert (absolute_errors(*rows) / 50).tolist() == pytest.approx(_in_order(judge.mae_delta(pair)))


def test_correlation(pair: PerturbationAnndataPair, rows: tuple[Tensor, Tensor]) -> None:
    assert pearson_rows(*rows).tolist() == pytest.approx(_in_order(judge.pearson_delta(pair)))


def test_discrimination(pair: PerturbationAnndataPair, rows: tuple[Tensor, Tensor]) -> None:
    own = torch.as_tensor(np.array(PERTURBATIONS)[:, None] == READOUTS)
    for excluded, exclude in ((own, True), (torch.zeros_like(own), False)):
        expected = _in_order(judge.discrimination_score(pair, metric="l1", exclude_target_gene=exclude))
        assert discrimination_rows(*rows, excluded).tolist() == pytest.approx(expected)
    hidden, shown = (discrimination_rows(*rows, excluded) for excluded in (own, torch.zeros_like(own)))
    assert hidden.unique().numel() > 1
    assert (hidden < shown).any(), "the case must tell the own readout from the others"


def _calls(change: Tensor, fdr: Tensor) -> DEResults:
    """Write changes and their significance as the evaluator's table of differential expression."""
    columns = {"log2_fold_change": change, "p_value": fdr, "fdr": fdr}
    names = {"target": np.repeat(PERTURBATIONS, len(READOUTS)), "feature": np.tile(READOUTS, len(PERTURBATIONS))}
    return DEResults(pl.DataFrame(names | {name: values.flatten().numpy() for name, values in columns.items()}))


@pytest.mark.parametrize("k", [5, 20])
def test_top_overlap(rows: tuple[Tensor, Tensor], k: int) -> None:
    everything = torch.zeros_like(rows[0])
    comparison = DEComparison(*(_calls(change, everything) for change in rows[::-1]))
    expected = _in_order(de_overlap_metric(comparison, k=k))
    assert top_overlap_rows(*rows, k=k).tolist() == pytest.approx(expected)
    assert 0 < min(expected) < max(expected) < 1


def test_average_precision_of_the_same_score(rows: tuple[Tensor, Tensor]) -> None:
    fdr = [torch.exp(-4 * change.abs()) for change in rows]
    comparison = DEComparison(*(_calls(*each) for each in zip(rows[::-1], fdr[::-1], strict=True)))
    score = -fdr[0].clamp(1e-10, 1).log10()
    expected = _in_order(compute_pr_auc(comparison))
    assert average_precision_rows(score, fdr[1] < 0.05).tolist() == pytest.approx(expected)
    assert max(expected) < 1
