"""Which readouts differ between two groups of cells, by how much, and how well a score finds them."""

import torch
from jaxtyping import Bool, Float
from scipy import stats
from torch import Tensor

from surrogates.errors import DataError

_AT_ONCE = 512  # readouts that are ranked together: bounds the memory for many cells


def rank_sum_p_values(treated: Float[Tensor, "n g"], control: Float[Tensor, "m g"]) -> Float[Tensor, "g"]:
    """Test for each readout whether treated cells rank higher or lower than control cells [Wilcoxon 1945]."""
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
    """
    adjusted = stats.false_discovery_control(rank_sum_p_values(treated, control).numpy())
    return torch.from_numpy(adjusted) < level


def delogged(cells: Float[Tensor, "n g"]) -> Float[Tensor, "n g"]:
    """Undo ``log1p``."""
    return cells.clamp(min=0).expm1()


def log2_fold_change(
    treated: Float[Tensor, "*b g"], control: Float[Tensor, "*b g"], *, pseudocount: float = 1.0
) -> Float[Tensor, "*b g"]:
    """Compare means of :func:`delogged` values: ``log2((treated + c) / (control + c))``."""
    if not pseudocount > 0:
        raise DataError(f"pseudocount {pseudocount} is not positive; readouts without counts need one")
    return torch.log2((treated + pseudocount) / (control + pseudocount))


def average_precision_rows(score: Float[Tensor, "b g"], truth: Bool[Tensor, "b g"]) -> Float[Tensor, "b"]:
    """Sum up precision over the steps of recall, as readouts are called changed from the highest score down.

    The area under the precision-recall curve without interpolation, ``sum_k (recall_k - recall_k-1) precision_k``
    over the distinct scores, so that tied readouts are called together. To compare rows, set it against
    :func:`prevalence_rows`, which is what a constant score gets.
    """
    precision, _, changed = _curve(score, truth)
    return (precision * changed).sum(1) / changed.sum(1)


def precision_at_recall(
    score: Float[Tensor, "b g"], truth: Bool[Tensor, "b g"], *, recall: float
) -> Float[Tensor, "b"]:
    """Find the best precision of each row among the score thresholds that recall enough."""
    if not 0 < recall <= 1:
        raise DataError(f"recall is {recall}; it must be above 0 and at most 1")
    precision, recalled, changed = _curve(score, truth)
    best = torch.where(recalled >= recall, precision, 0).amax(1)
    return torch.where(changed.any(1), best, torch.nan)


def _curve(
    score: Float[Tensor, "b g"], truth: Bool[Tensor, "b g"]
) -> tuple[Float[Tensor, "b g"], Float[Tensor, "b g"], Bool[Tensor, "b g"]]:
    """Call all readouts of at least each one's score: precision, recall, and whether that one changes."""
    if bool(score.isnan().any()):
        raise DataError("a score is nan; give readouts that were not scored the lowest score")
    ascending, order = score.sort(dim=1)
    changed = truth.gather(1, order)
    first = torch.searchsorted(ascending, ascending)  # of the readouts tied with each
    hits = changed.flip(1).cumsum(1).flip(1).gather(1, first).double()
    return hits / (score.shape[1] - first), hits / changed.sum(1, keepdim=True), changed
