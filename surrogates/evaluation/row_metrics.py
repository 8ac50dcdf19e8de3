"""The metrics of the scorecard by name: one number for each held-out perturbation, and how they are summed up."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from surrogates.evaluation.likelihood import interval_coverage_rows, negative_log_likelihood
from surrogates.evaluation.metrics import (
    RowStatistic,
    absolute_errors,
    median,
    pearson_rows,
    r_squared_rows,
    squared_errors,
    systema_rows,
)
from surrogates.evaluation.ranking_metrics import top_overlap_rows
from surrogates.evaluation.retrieval_metrics import centroid_accuracy, discrimination_rows
from surrogates.uncertainty.posterior import GaussianPosterior, Posterior

FEWEST_READOUTS = 5  # a correlation across fewer says nothing
MOST_RIVALS = 2_000  # the time of comparing each held-out perturbation with each grows by the square
_TOP = 50
_LEVEL = 0.9


@dataclass(frozen=True)
class HeldOut:
    """What a model says of the held-out perturbations of one class in one fold, and what was measured.

    Attributes:
        posterior: The prediction.
        truth: Measured effects.
        centroid: Mean effect of the training conditions.
        own: Readouts that are targets of the perturbation itself.
    """

    posterior: Posterior
    truth: Float[Tensor, "b g"]
    centroid: Float[Tensor, "g"]
    own: Bool[Tensor, "b g"]

    @property
    def mean(self) -> Float[Tensor, "b g"]:
        """Predicted effects."""
        return self.posterior.mean


@dataclass(frozen=True)
class RowMetric:
    """One number per perturbation, and what becomes of many.

    Attributes:
        unit: Of the numbers.
        values: From predictions and truth to the numbers; ``nan`` where undefined.
        summary: From numbers to their statistic.
        across_readouts: Whether it compares readouts with each other, so that it takes several.
        across_rivals: Whether it compares the held-out perturbations with each other.
    """

    unit: str
    values: Callable[[HeldOut], Float[Tensor, "b"]]
    summary: Callable[[Float[Tensor, "n"]], RowStatistic]
    across_readouts: bool = False
    across_rivals: bool = False

    def of(self, held: HeldOut) -> Float[Tensor, "b"]:
        """Compute the numbers.

        Args:
            held: Predictions and truth.

        Returns:
            One per perturbation; ``nan`` where there are too few readouts, no rivals, or too many of them.
        """
        b, g = held.truth.shape
        lacking = self.across_readouts and g < FEWEST_READOUTS
        if lacking or (self.across_rivals and not 2 <= b <= MOST_RIVALS):
            return held.truth.new_full((b,), torch.nan)
        return self.values(held)


def mean(values: Float[Tensor, "n"]) -> RowStatistic:
    """Take the mean over the drawn rows that have a value.

    Args:
        values: One number per row, ``nan`` where undefined.

    Returns:
        The statistic, for :func:`surrogates.evaluation.metrics.bootstrap_interval`.
    """
    return lambda rows: values[rows].nanmean(1)


def _per_readout(
    errors: Callable[[Float[Tensor, "b g"], Float[Tensor, "b g"]], Float[Tensor, "b"]], held: HeldOut
) -> Float[Tensor, "b"]:
    return errors(held.mean, held.truth) / held.truth.shape[1]


def _top_overlap(held: HeldOut) -> Float[Tensor, "b"]:
    if held.truth.shape[1] < 2 * _TOP:  # most of the readouts would be among the top
        return held.truth.new_full((len(held.truth),), torch.nan)
    return top_overlap_rows(held.mean, held.truth, k=_TOP)


def _negative_log_likelihood(held: HeldOut) -> Float[Tensor, "b"]:
    if not isinstance(held.posterior, GaussianPosterior):
        return held.truth.new_full((len(held.truth),), torch.nan)
    return negative_log_likelihood(held.posterior, held.truth) / held.truth.shape[1]


_across = partial(RowMetric, across_readouts=True)
_rivals = partial(RowMetric, across_readouts=True, across_rivals=True)

# A metric is added by one line here. Errors are per readout.
ROW_METRICS: Mapping[str, RowMetric] = {
    "mse": RowMetric("squared effect", partial(_per_readout, squared_errors), mean),
    "mae": RowMetric("effect", partial(_per_readout, absolute_errors), mean),
    "pearson_median": _across("correlation", lambda held: pearson_rows(held.mean, held.truth), median),
    "systema_pearson_median": _across(
        "correlation", lambda held: systema_rows(held.mean, held.truth, held.centroid), median
    ),
    "r_squared_median": _across("share", lambda held: r_squared_rows(held.mean, held.truth), median),
    "top_50_overlap": _across("share", _top_overlap, mean),
    "centroid_accuracy": _rivals("share", lambda held: centroid_accuracy(held.mean, held.truth), mean),
    "discrimination": _rivals("share", lambda held: discrimination_rows(held.mean, held.truth, held.own), mean),
    "negative_log_likelihood": RowMetric("nats per readout", _negative_log_likelihood, mean),
    "coverage_90": RowMetric(
        "share", lambda held: interval_coverage_rows(held.posterior, held.truth, _LEVEL), mean
    ),
}
