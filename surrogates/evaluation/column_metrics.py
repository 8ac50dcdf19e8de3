"""How well differences between perturbations are predicted, readout by readout: for screens of few readouts.

A correlation over perturbations is a function of means, of the first and second moments. Each perturbation gives
its moments, and resampled perturbations average them.
"""

import torch
from jaxtyping import Float, Int
from torch import Tensor

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
