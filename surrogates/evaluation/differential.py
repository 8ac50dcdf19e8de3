"""Which readouts differ between two groups of cells, and by how much."""

import torch
from jaxtyping import Bool, Float
from scipy import stats
from torch import Tensor

from surrogates.errors import DataError

_AT_ONCE = 512  # readouts that are ranked together: bounds the memory for many cells


def rank_sum_p_values(treated: Float[Tensor, "n g"], control: Float[Tensor, "m g"]) -> Float[Tensor, "g"]:
    """Test for each readout whether treated cells rank higher or lower than control cells [Wilcoxon 1945].

    Args:
        treated: Treated cells.
        control: Control cells.

    Returns:
        Two-sided p values by the normal approximation with correction for ties and for continuity; one where all
        cells are equal.

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

    Args:
        treated: Treated cells.
        control: Control cells.
        level: Accepted fraction of false discoveries.

    Returns:
        Whether each readout differs, by :func:`rank_sum_p_values`.

    Raises:
        DataError: If a group has no cells, or a value is not a number.
    """
    adjusted = stats.false_discovery_control(rank_sum_p_values(treated, control).numpy())
    return torch.from_numpy(adjusted) < level


def delogged(cells: Float[Tensor, "n g"]) -> Float[Tensor, "n g"]:
    """Undo ``log1p``.

    Args:
        cells: Log-normalised values; below zero, where only predictions get, they count as zero.

    Returns:
        Size-normalised values.
    """
    return cells.clamp(min=0).expm1()


def log2_fold_change(
    treated: Float[Tensor, "*b g"], control: Float[Tensor, "*b g"], *, pseudocount: float = 1.0
) -> Float[Tensor, "*b g"]:
    """Compare means of :func:`delogged` values: ``log2((treated + c) / (control + c))``.

    Args:
        treated: Means over treated cells.
        control: Means over control cells.
        pseudocount: The ``c``, in units of the de-logged values; one is that of ``log1p``. The smaller it is, the
            larger the noise of readouts that few cells express.

    Returns:
        Logarithms to base 2.

    Raises:
        DataError: If the pseudocount is not positive.
    """
    if not pseudocount > 0:
        raise DataError(f"pseudocount {pseudocount} is not positive; readouts without counts need one")
    return torch.log2((treated + pseudocount) / (control + pseudocount))
