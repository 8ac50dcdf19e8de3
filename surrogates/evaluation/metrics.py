"""How far predicted effects are from measured ones, and how often stated bounds hold; the scorecard's by name.

Every metric takes predicted and measured effects, one perturbation per row, and gives one number per row, so that
perturbations can be averaged and resampled: readouts of one perturbation err together. Effects are changes against
the control in the unit of the screen, often log fold change; a metric is in that unit, in its square, or a pure
number, as its documentation says.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial

import scipy
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from surrogates.errors import DataError
from surrogates.evaluation.intervals import RowStatistic, mean, median
from surrogates.uncertainty.conformal.quantiles import quantile_rank, require_count
from surrogates.uncertainty.posterior import GaussianPosterior, Interval, Posterior

RESPONDING = 0.05  # share of the readouts that are said to respond
PIT_BINS = 100
_DECILES = 10


def covered_rows(
    interval: Interval, truth: Float[Tensor, "b g"], chosen: Bool[Tensor, "b g"]
) -> Float[Tensor, "b"]:
    """Say which share of some readouts of each perturbation is within bounds."""
    return _mean_of((interval.lower <= truth) & (truth <= interval.upper), chosen)


def width_rows(interval: Interval, chosen: Bool[Tensor, "b g"]) -> Float[Tensor, "b"]:
    """Average the width of the bounds of some readouts of each perturbation."""
    return _mean_of(interval.upper - interval.lower, chosen)


def all_covered_rows(interval: Interval, truth: Float[Tensor, "b g"]) -> Float[Tensor, "b"]:
    """Tell of which perturbations every readout is within bounds."""
    return ((interval.lower <= truth) & (truth <= interval.upper)).all(1).double()


def responding_readouts(mean: Float[Tensor, "b g"], share: float = RESPONDING) -> Bool[Tensor, "b g"]:
    """Mark the readouts with the largest predicted effects, whatever their sign.

    By what was measured they must not be chosen: readouts with large measured effects are those that noise
    enlarged, and no honest interval holds for them.
    """
    count = math.ceil(share * mean.shape[1])
    first = mean.abs().argsort(dim=1, descending=True, stable=True)[:, :count]
    return torch.zeros_like(mean, dtype=torch.bool).scatter_(1, first, value=True)


def pit_shares(posterior: Posterior, truth: Float[Tensor, "b g"], bins: int = PIT_BINS) -> Float[Tensor, "b c"]:
    """Bin the probability integral transform: the normal distribution function at each measured effect.

    Of an honest posterior it is uniform. A hump in the middle means intervals that are too wide, two heaps at the
    ends intervals that are too narrow, one heap a bias [Gneiting 2007].
    """
    standard = (truth - posterior.mean) / posterior.variance.sqrt()
    transformed = torch.special.ndtr(standard.nan_to_num(0.0))  # an exact prediction without variance is 0 / 0
    number = (transformed * bins).long().clamp(max=bins - 1)
    counts = truth.new_zeros(len(truth), bins).scatter_add_(1, number, torch.ones_like(truth))
    return counts / truth.shape[1]


def pit_deviation(shares: Float[Tensor, "n c"]) -> RowStatistic:
    """Average how far the distribution function of binned transforms is from uniform, in absolute value."""
    c = shares.shape[1]
    uniform = torch.arange(1, c + 1, dtype=shares.dtype) / c
    return lambda rows: (_mean_over(shares, rows).cumsum(1) - uniform).abs().mean(1)


def pit_decile(shares: Float[Tensor, "n c"], number: int) -> RowStatistic:
    """Take the share of one tenth of the probabilities, 0.1 for an honest posterior."""
    tenth = shares.reshape(len(shares), _DECILES, -1).sum(2)[:, number]
    return lambda rows: tenth[rows].mean(1)


def expected_coverage(
    calibrated: int, held_out: int, level: float, *, probability: float = 0.99
) -> tuple[float, float]:
    """Bound the coverage that perturbations held out from an honest calibration show.

    The calibration has a true coverage of ``Beta(k, n + 1 - k)``, and so many held-out perturbations show a
    binomial share of it. An average of shares over readouts varies less, so that it is out of these bounds even
    more rarely.
    """
    require_count(calibrated, level)
    rank, tail = quantile_rank(calibrated, level), (1 - probability) / 2
    law = scipy.stats.betabinom(held_out, rank, calibrated + 1 - rank)
    return float(law.ppf(tail)) / held_out, float(law.ppf(1 - tail)) / held_out


def exact_binomial_interval(hits: int, count: int) -> tuple[float, float]:
    """Bound a probability by how often something came true (Clopper and Pearson 1934)."""
    if not count:
        return 0.0, 1.0
    found = scipy.stats.binomtest(hits, count).proportion_ci(confidence_level=0.95)
    return float(found.low), float(found.high)


def _mean_of(values: Tensor, chosen: Bool[Tensor, "b g"]) -> Float[Tensor, "b"]:
    return torch.where(chosen, values.double(), 0.0).sum(1) / chosen.sum(1)


def _mean_over(shares: Float[Tensor, "n c"], rows: Int[Tensor, "m d"]) -> Float[Tensor, "m c"]:
    """Average the drawn rows by how often each was drawn: the rows themselves would fill the memory."""
    drawn = shares.new_zeros(len(rows), len(shares)).scatter_add_(1, rows, shares.new_ones(rows.shape))
    return drawn @ shares / rows.shape[1]


def negative_log_likelihood(posterior: GaussianPosterior, truth: Float[Tensor, "b g"]) -> Float[Tensor, "b"]:
    """Score the measured effects of each perturbation under its joint normal density over all readouts.

    ``(g log(2 pi s) + log det C + (y - mean)^T C^-1 (y - mean) / s) / 2`` with the perturbation's scale ``s`` and
    its factor covariance ``C``; ``O(b g r)``, no dense covariance. Scattered coefficients enter by the matrix
    determinant lemma and the Woodbury identity, in coordinates whitened by ``s C``.
    """
    residuals, g = truth - posterior.mean, truth.shape[1]
    result = g * torch.log(2 * math.pi * posterior.scale)
    for number, covariance in enumerate(posterior.covariances):
        chosen = posterior.group == number
        root = posterior.scale[chosen].sqrt()[:, None]
        white = covariance.whiten(residuals[chosen]) / root
        result[chosen] += covariance.log_determinant + white.square().sum(1)
        if posterior.scatter is not None:
            along = posterior.scatter.directions[chosen].unbind(2)
            result[chosen] += _of_directions(white, torch.stack([covariance.whiten(u) / root for u in along], 2))
    return result / 2


def _of_directions(white: Float[Tensor, "b g"], directions: Float[Tensor, "b g k"]) -> Float[Tensor, "b"]:
    """What whitened directions add to the log determinant, and take from the squared length of an error."""
    k = directions.shape[2]
    gram = directions.transpose(1, 2) @ directions + torch.eye(k, dtype=white.dtype)
    factor = torch.linalg.cholesky(gram)
    onto = torch.linalg.solve_triangular(
        factor, torch.einsum("bgk,bg->bk", directions, white)[..., None], upper=False
    )
    change: Tensor = 2 * factor.diagonal(dim1=1, dim2=2).log().sum(1) - onto.square().sum((1, 2))
    return change


def interval_coverage_rows(posterior: Posterior, truth: Float[Tensor, "b g"], level: float) -> Float[Tensor, "b"]:
    """Say which fraction of the readouts of each perturbation lie in their central intervals."""
    return covered_rows(posterior.interval(level), truth, torch.ones_like(truth, dtype=torch.bool))


def expected_squared_errors(posterior: Posterior) -> Float[Tensor, "b"]:
    """Foretell the squared error of each row: the sum of its variances over readouts."""
    return posterior.variance.sum(1)


_ROUNDING = 1e-12


def squared_errors(prediction: Float[Tensor, "b g"], truth: Float[Tensor, "b g"]) -> Float[Tensor, "b"]:
    """Sum the squared errors of each row over readouts; divided by ``g`` it is the mean squared error."""
    return (prediction - truth).square().sum(1)


def absolute_errors(prediction: Float[Tensor, "b g"], truth: Float[Tensor, "b g"]) -> Float[Tensor, "b"]:
    """Sum the absolute errors of each row over readouts; divided by ``g`` it is the mean absolute error."""
    return (prediction - truth).abs().sum(1)


def r_squared_rows(prediction: Float[Tensor, "b g"], truth: Float[Tensor, "b g"]) -> Float[Tensor, "b"]:
    """Say which fraction of the variance of each measured row across readouts its prediction explains."""
    unexplained = squared_errors(prediction, truth) / (truth - truth.mean(1, keepdim=True)).square().sum(1)
    return torch.where(truth.amax(1) == truth.amin(1), torch.nan, 1 - unexplained)


def pearson_rows(prediction: Float[Tensor, "b g"], truth: Float[Tensor, "b g"]) -> Float[Tensor, "b"]:
    """Correlate each predicted row with the measured one; of effects, this is the literature's Pearson-delta."""
    one, other = (rows - rows.mean(1, keepdim=True) for rows in (prediction, truth))
    constant = (prediction.amax(1) == prediction.amin(1)) | (truth.amax(1) == truth.amin(1))
    correlation = (one * other).sum(1) / (one.norm(dim=1) * other.norm(dim=1))
    return torch.where(constant, torch.nan, correlation.clamp(-1, 1))


def systema_rows(
    prediction: Float[Tensor, "b g"], truth: Float[Tensor, "b g"], centroid: Float[Tensor, "g"]
) -> Float[Tensor, "b"]:
    """Correlate what each row has of its own, beyond what all perturbations share (Systema).

    Correlation of plain effects rewards a model that gives every perturbation the mean effect. Here that mean is
    subtracted from both rows first (Viñas Torné et al. 2025).
    """
    return pearson_rows(_departures(prediction, centroid), _departures(truth, centroid))


def _departures(rows: Float[Tensor, "b g"], centroid: Float[Tensor, "g"]) -> Float[Tensor, "b g"]:
    """Subtract the centroid; a row that was the same mean added up in another order becomes zero, not noise."""
    departures = rows - centroid
    rounding = torch.finfo(departures.dtype).eps ** 0.5 * centroid.norm()
    return torch.where(departures.norm(dim=1, keepdim=True) <= rounding, 0, departures)


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


def spread_error_correlation(spread: Float[Tensor, "n"], errors: Float[Tensor, "n"]) -> RowStatistic:
    """Correlate the ranks of predicted spread and actual error across perturbations (Spearman).

    Does the model know which of its predictions to trust? Ranks do not care whether spread is a variance or a
    standard deviation, nor for its overall size.
    """
    return lambda rows: pearson_rows(_mid_ranks(spread[rows]), _mid_ranks(errors[rows]))


def _mid_ranks(values: Float[Tensor, "m n"]) -> Float[Tensor, "m n"]:
    """Rank along rows, from 0; ties get the mean of the ranks they take up."""
    ascending = values.sort(dim=1).values
    first, after = (torch.searchsorted(ascending, values, right=right) for right in (False, True))
    return (first + after - 1).double() / 2


def top_overlap_rows(
    prediction: Float[Tensor, "b g"], truth: Float[Tensor, "b g"], *, k: int
) -> Float[Tensor, "b"]:
    """Say which fraction of the ``k`` readouts that change most are among the ``k`` predicted to change most.

    Change is the absolute effect. Readouts tied at the k-th place share it: the result is what breaking ties at
    random gives on average, so that no change scores what chance does. This is cell-eval's ``overlap_at_k`` of
    effects, and its ``overlap_at_N`` with ``k`` the number of readouts that truly change.
    """
    if not 1 <= k <= truth.shape[1]:
        raise DataError(f"the top {k} of {truth.shape[1]} readouts do not exist; ask for 1 to {truth.shape[1]}")
    return (_membership(prediction.abs(), k) * _membership(truth.abs(), k)).sum(1) / k


def _membership(size: Float[Tensor, "b g"], k: int) -> Float[Tensor, "b g"]:
    """Give the chance of each readout to be among the ``k`` largest when ties are broken at random."""
    least = size.topk(k, dim=1).values[:, -1:]
    inside, tied = size > least, size == least
    shared = (k - inside.sum(1, keepdim=True)).double() / tied.sum(1, keepdim=True)
    return (inside + tied * shared).to(size.dtype)


def centroid_accuracy(prediction: Float[Tensor, "b g"], truth: Float[Tensor, "b g"]) -> Float[Tensor, "b"]:
    """Say which fraction of the other perturbations lie farther from each prediction than its own.

    The distance is Euclidean, and equal distances count half (Systema, Viñas Torné et al. 2025).
    """
    distances = torch.cdist(
        prediction, truth, compute_mode="donot_use_mm_for_euclid_dist"
    )  # so that ties are exact
    b = len(truth)
    return 1 - _nearer_rivals(distances, torch.arange(b)) / (b - 1)


def discrimination_rows(
    prediction: Float[Tensor, "b g"], truth: Float[Tensor, "b g"], excluded: Bool[Tensor, "b g"]
) -> Float[Tensor, "b"]:
    """Rank the perturbation that each prediction is for among all, by the sum of absolute differences.

    This is the perturbation discrimination score of the Virtual Cell Challenge as cell-eval computes it
    (``discrimination_score_l1``): ``1 - rank / b``, where the rank counts from 0 the perturbations whose measured
    effects are nearer to the prediction. Its best value is 1 and its worst ``1 / b``. The older definition,
    ``1 - 2 rank / b``, is twice this score minus one. Equal distances count half, where cell-eval lets its sorting
    decide.
    """
    ranks = prediction.new_empty(len(prediction))
    for row, keep in enumerate(~excluded):
        distances = torch.cdist(prediction[row, keep][None], truth[:, keep], p=1)
        ranks[row] = _nearer_rivals(distances, torch.tensor([row]))
    return 1 - ranks / len(truth)


def _nearer_rivals(distances: Float[Tensor, "m b"], own: Int[Tensor, "m"]) -> Float[Tensor, "m"]:
    """Count the columns that are nearer than each row's own one, equally near ones half."""
    mine = distances.gather(1, own[:, None])
    ties = (distances == mine).sum(1) - 1
    return (distances < mine).sum(1) + ties.to(distances.dtype) / 2


FEWEST_READOUTS = 5  # a correlation across fewer says nothing
MOST_RIVALS = 2_000  # the time of comparing each held-out perturbation with each grows by the square
_TOP = 50
_LEVEL = 0.9


@dataclass(frozen=True)
class HeldOutEffects:
    """What a model says of the held-out perturbations of one class in one fold, and what was measured."""

    posterior: Posterior  # the prediction
    truth: Float[Tensor, "b g"]  # measured effects
    centroid: Float[Tensor, "g"]  # mean effect of the training conditions
    own: Bool[Tensor, "b g"]  # readouts that are targets of the perturbation itself

    @property
    def mean(self) -> Float[Tensor, "b g"]:
        """Predicted effects."""
        return self.posterior.mean


@dataclass(frozen=True)
class RowMetric:
    """One number per perturbation, and what becomes of many."""

    unit: str  # of the numbers
    values: Callable[[HeldOutEffects], Float[Tensor, "b"]]  # one number per perturbation, ``nan`` where undefined
    summary: Callable[[Float[Tensor, "n"]], RowStatistic]  # from numbers to their statistic
    across_readouts: bool = False  # whether it compares readouts with each other, so that it takes several
    across_rivals: bool = False  # whether it compares the held-out perturbations with each other

    def of(self, held: HeldOutEffects) -> Float[Tensor, "b"]:
        """Compute the numbers."""
        b, g = held.truth.shape
        lacking = self.across_readouts and g < FEWEST_READOUTS
        if lacking or (self.across_rivals and not 2 <= b <= MOST_RIVALS):
            return held.truth.new_full((b,), torch.nan)
        return self.values(held)


def _per_readout(
    errors: Callable[[Float[Tensor, "b g"], Float[Tensor, "b g"]], Float[Tensor, "b"]], held: HeldOutEffects
) -> Float[Tensor, "b"]:
    return errors(held.mean, held.truth) / held.truth.shape[1]


def _top_overlap(held: HeldOutEffects) -> Float[Tensor, "b"]:
    if held.truth.shape[1] < 2 * _TOP:  # most of the readouts would be among the top
        return held.truth.new_full((len(held.truth),), torch.nan)
    return top_overlap_rows(held.mean, held.truth, k=_TOP)


def _negative_log_likelihood(held: HeldOutEffects) -> Float[Tensor, "b"]:
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
