"""How well differences between perturbations are predicted, readout by readout: for screens of few readouts.

A correlation over perturbations is a function of means, of the first and second moments. Each perturbation gives
its moments, and resampled perturbations average them. Differential expression between two groups of cells stands
here, too.
"""

import torch
from jaxtyping import Bool, Float, Int
from scipy import stats
from torch import Tensor

from surrogates.errors import DataError
from surrogates.evaluation.metrics import RowStatistic

_ROUNDING = 1e-12


def moments(prediction: Float[Tensor, "b g"], truth: Float[Tensor, "b g"]) -> Float[Tensor, "b 5 g"]:
    """Multiply predicted and measured effects out."""
    return torch.stack([prediction, truth, prediction.square(), truth.square(), prediction * truth], 1)


def pearson_across(found: Float[Tensor, "n 5 g"]) -> RowStatistic:
    """Correlate predicted with measured effects over perturbations, averaged over readouts."""

    def statistic(rows: Int[Tensor, "m d"]) -> Float[Tensor, "m"]:
        predicted, measured, predicted2, measured2, product = _means(found, rows)
        variance, own = predicted2 - predicted.square(), measured2 - measured.square()
        constant = (variance <= _ROUNDING * predicted2) | (own <= _ROUNDING * measured2)
        correlation = (product - predicted * measured) / (variance * own).sqrt()
        return torch.where(constant, torch.nan, correlation.clamp(-1, 1)).nanmean(1)

    return statistic


def r_squared_across(found: Float[Tensor, "n 5 g"]) -> RowStatistic:
    """Say which share of the variance over perturbations is predicted, averaged over readouts."""

    def statistic(rows: Int[Tensor, "m d"]) -> Float[Tensor, "m"]:
        _, measured, predicted2, measured2, product = _means(found, rows)
        own = measured2 - measured.square()
        share = 1 - (predicted2 - 2 * product + measured2) / own
        return torch.where(own <= _ROUNDING * measured2, torch.nan, share).nanmean(1)

    return statistic


def _means(found: Float[Tensor, "n 5 g"], rows: Int[Tensor, "m d"]) -> Float[Tensor, "5 m g"]:
    # Column by column: drawn rows times all columns would not fit into memory.
    columns = torch.stack([column[rows].mean(1) for column in found.flatten(1).T], 1)
    return columns.reshape(len(rows), 5, -1).transpose(0, 1)


_AT_ONCE = 512  # readouts that are ranked together: bounds the memory for many cells


def rank_sum_p_values(treated: Float[Tensor, "n g"], control: Float[Tensor, "m g"]) -> Float[Tensor, "g"]:
    """Test for each readout whether treated cells rank higher or lower than control cells [Wilcoxon 1945].

    Raises:
        DataError: If a group has no cells, or a value is not a number.
    """
    if not (len(treated) and len(control)):
        raise DataError(f"{len(treated)} treated and {len(control)} control cells; a comparison needs both")
    both = torch.cat([treated, control])
    if bool(both.isnan().any()):
        raise DataError("the cells hold NaN, which has no rank; remove those cells")
    p_values = torch.ones(both.shape[1], dtype=torch.float64)
    varying = torch.nonzero(both.amax(0) > both.amin(0)).flatten()
    for part in varying.split(_AT_ONCE):
        found = stats.mannwhitneyu(treated[:, part].numpy(), control[:, part].numpy(), method="asymptotic")
        p_values[part] = torch.from_numpy(found.pvalue)
    return p_values


def differential_readouts(
    treated: Float[Tensor, "n g"], control: Float[Tensor, "m g"], *, level: float = 0.05
) -> Bool[Tensor, "g"]:
    """Find the readouts that differ, with a bounded rate of false discoveries [Benjamini & Hochberg 1995].

    The more cells, the smaller the differences that are found: compare how many readouts differ between contexts
    only beside their numbers of cells.

    Raises:
        DataError: If a group has no cells, or a value is not a number.
    """
    adjusted = stats.false_discovery_control(rank_sum_p_values(treated, control).numpy())
    return torch.from_numpy(adjusted) < level


def delogged(cells: Float[Tensor, "n g"]) -> Float[Tensor, "n g"]:
    """Undo ``log1p``."""
    return cells.clamp(min=0).expm1()


def log2_fold_change(
    treated: Float[Tensor, "*b g"], control: Float[Tensor, "*b g"], *, pseudocount: float = 1.0
) -> Float[Tensor, "*b g"]:
    """Compare means of :func:`delogged` values: ``log2((treated + c) / (control + c))``.

    Raises:
        DataError: If the pseudocount is not positive.
    """
    if not pseudocount > 0:
        raise DataError(f"pseudocount {pseudocount} is not positive; readouts without counts need one")
    return torch.log2((treated + pseudocount) / (control + pseudocount))
