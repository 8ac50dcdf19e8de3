"""Standard errors from layers that hold halves or replicates of the effects."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float

from surrogates.data.io.annotated import CellMatrix
from surrogates.data.io.h5ad_file import in_memory
from surrogates.errors import DataError

_REPLICATE = re.compile(r"(half|rep|replicate|biorep|bio_rep|split)[_.\- ]?(\d{1,2}|[ab])", re.IGNORECASE)
_FEWEST_FOR_PRIOR = 10  # entries with any variance, below which entries are pooled


@dataclass(frozen=True)
class Moderated:
    """Squared standard errors of means over replicates, each drawn towards what its row and column say."""

    squared: Float[np.ndarray, "n g"]
    prior_free: float  # degrees of freedom that row and column weigh; infinite where they say it all


def replicate_layers(names: Sequence[str]) -> tuple[str, ...]:
    """Find the layers that hold replicates, by names such as ``half_1``, ``rep_2`` and ``replicate_3``."""
    found: dict[str, list[str]] = {}
    for name in sorted(names):
        if parts := _REPLICATE.fullmatch(name):
            found.setdefault(parts[1].casefold(), []).append(name)
    several = [tuple(each) for each in found.values() if len(each) > 1]
    return several[0] if len(several) == 1 else ()


def errors_of_layers(
    layers: Mapping[str, CellMatrix], names: Sequence[str]
) -> tuple[Float[np.ndarray, "n g"], str]:
    """Take the standard error of the mean over layers, and say how."""
    values = np.stack([in_memory(layers[name]) for name in names])
    if not np.isfinite(values).all():
        raise DataError(
            f"layers {', '.join(names)} are replicates by their names, but hold values that are not finite;"
            " correct them, or remove the layers"
        )
    found = moderated(values)
    weigh = "their product alone" if np.isinf(found.prior_free) else f"{found.prior_free:.1f} degrees of freedom"
    said = (
        f"between layers {', '.join(names)} ({len(names) - 1} degree(s) of freedom), moderated towards row times"
        f" column ({weigh})"
    )
    return np.sqrt(found.squared), said


def moderated(replicates: Float[np.ndarray, "r n g"]) -> Moderated:
    """Estimate the variance of means over few replicates, borrowing from the row and the column of each entry.

    With ``s^2`` the sample variance of ``r`` replicates, of ``d = r - 1`` degrees of freedom, and ``m`` the
    product of the means of ``s^2`` over its row (a condition has few or many cells) and its column (a readout is
    noisy or not) over the mean of all, the moderated variance is ``(d0 m + d s^2) / (d0 + d)``. The prior's
    degrees of freedom ``d0`` follow from the spread of ``log(s^2 / m)``, whose variance is ``trigamma(d / 2) +
    trigamma(d0 / 2)`` if ``s^2`` is a scaled F. With two halves ``d = 1``, so that an entry alone would say almost
    nothing. Smyth, Stat Appl Genet Mol Biol 3:3 (2004), there with one prior variance for all.
    """
    free = len(replicates) - 1
    own = replicates.var(axis=0, ddof=1)
    overall = own.mean()
    if overall <= 0:
        return Moderated(np.zeros_like(own), np.inf)
    product = own.mean(axis=1, keepdims=True) * own.mean(axis=0, keepdims=True) / overall
    spread = own > 0
    prior = np.inf
    if spread.sum() >= _FEWEST_FOR_PRIOR:
        excess = np.log(own[spread] / product[spread]).var(ddof=1) - _polygamma(1, free / 2)
        prior = 2 * _trigamma_inverse(excess) if excess > 0 else np.inf
    variance = product if np.isinf(prior) else (prior * product + free * own) / (prior + free)
    return Moderated(variance / len(replicates), prior)


def _polygamma(order: int, x: float) -> float:
    return float(torch.special.polygamma(order, torch.tensor(x, dtype=torch.float64)))


def _trigamma_inverse(value: float) -> float:
    """Solve ``trigamma(x) = value`` by Newton's method on its reciprocal, which is almost a straight line."""
    if value > 1e7:
        return float(value**-0.5)
    x = 0.5 + 1 / value
    for _ in range(50):
        at = _polygamma(1, x)
        step = at * (1 - at / value) / _polygamma(2, x)
        x += step
        if abs(step) < 1e-10 * x:
            break
    return float(x)
