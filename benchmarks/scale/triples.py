"""How long it takes to find and to prove the best of all triples of a genome, with bounds."""

import math
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from multiprocessing import get_context

import torch
from jaxtyping import Float, Float64
from torch import Tensor

from inverse_design.problem.set_score import PairwiseSetScore
from inverse_design.problem.space import CombinationSpace
from inverse_design.search.bounded import search_bounded
from inverse_design.search.topk import Certificate
from surrogates.data.perturbation import Intervention
from surrogates.data.screen import Screen
from surrogates.data.vocabulary import Vocabulary
from surrogates.errors import DataError, UnknownNameError
from surrogates.evaluation.intervals import Row
from surrogates.evaluation.scorecard import STATUS, resident_mb

_ACTIVE = 0.2  # assumed share of genes with a strong effect: most genes of a genome do little
_NOISE = 0.1  # of the target, as a share of its norm

VARIANTS = ("realistic", "as_measured", "adversarial", "cancelling")

_World = tuple[Float64[Tensor, "v d"], Float64[Tensor, "d"]]


def effect_norms(screen: Screen) -> Float64[Tensor, "n"]:
    """Measure how large the single effects of a screen are.

    Args:
        screen: Measured effects.

    Returns:
        The Euclidean norm of each single effect.

    Raises:
        DataError: If nothing was measured alone.
    """
    alone = screen.effects[screen.batch.order == 1]
    if not len(alone):
        raise DataError(f"none of the {len(screen)} conditions was measured alone; effect norms need singles")
    norms: Tensor = torch.linalg.vector_norm(alone.double(), dim=1)
    return norms


def triple_rows(
    *,
    norms: Float[Tensor, "n"],
    genes: int = 10_000,
    dimensions: int = 64,
    k: int = 100,
    seconds: float = 120.0,
    seed: int = 0,
    variants: Sequence[str] = VARIANTS,
) -> list[Row]:
    """Time the exact search for the triples whose summed effects come nearest to a target.

    The effect of a gene has a random direction. Its norm, and the target, depend on the variant:

    - ``realistic``: a fifth of the genes has norms drawn from ``norms`` with replacement, the others are weaker
      than all of them (the smallest norm times a uniform number), since screens of chosen genes hold few weak
      ones. The target is the sum of three of the fifth, plus noise of a tenth of its norm in a random direction.
    - ``as_measured``: all norms are drawn from ``norms``; the target is made as above of any three genes.
    - ``adversarial``: all norms are the median, and the target has a random direction and the norm that the sum
      of three orthogonal effects has. No triple comes near, so that many are almost as good as the best.
    - ``cancelling``: all norms are the median, and the target is none: every entry is as good as any other.

    Each variant is searched once, in a fresh process as far as memory can be measured, with as many threads as
    here. Memory is the peak resident size while
    the effects are made and searched, above the size just before; it needs Linux's
    ``/proc`` and is left out elsewhere.

    Args:
        norms: Norms of effects in a real screen, such as :func:`effect_norms`.
        genes: Number of entries.
        dimensions: Number of columns of the effects.
        k: How many triples are kept.
        seconds: When each search has to stop.
        seed: Fixes the effects and the targets.
        variants: Which of the four.

    Returns:
        For each variant ``seconds``, the share of triples that bounds skipped ``pruned_share``, the ``gap`` to the
        best that may have been missed, whether the answer is proven ``exact``, and ``peak_mb``.

    Raises:
        UnknownNameError: If there is no such variant.
        DataError: If the norms are none, not finite, or negative, or the genes too few.
    """
    if unknown := next((one for one in variants if one not in VARIANTS), None):
        raise UnknownNameError.from_known("variant", unknown, VARIANTS)
    if genes < 3:
        raise DataError(f"{genes} genes have no triples; ask for three or more")
    if not len(norms) or not bool((norms.isfinite() & (norms >= 0)).all()):
        raise DataError(f"{len(norms)} norms must be one or more finite numbers, none of them negative")
    rows: list[Row] = []
    for variant in variants:
        case = _Case(variant, tuple(norms.tolist()), genes, dimensions, seed)
        certificate, peak = _measured(case, k, seconds)
        row = partial(_row, genes, variant)
        rows += [
            row("seconds", certificate.seconds, unit="s"),
            row("pruned_share", certificate.pruned / math.comb(genes, 3), unit="1"),
            row("gap", certificate.gap, unit="score"),
            row("exact", float(certificate.exact), unit="1"),
        ]
        rows += [] if peak is None else [row("peak_mb", peak, unit="MB")]
    return rows


@dataclass(frozen=True)
class _Case:
    """What makes a world."""

    variant: str
    norms: tuple[float, ...]
    genes: int
    dimensions: int
    seed: int

    @property
    def world(self) -> _World:
        norms = torch.tensor(self.norms, dtype=torch.float64)
        generator = torch.Generator().manual_seed(self.seed)
        return _WORLDS[self.variant](norms, self.genes, self.dimensions, generator)


def _row(genes: int, variant: str, metric: str, value: float, *, unit: str) -> Row:
    return Row(
        benchmark="triples",
        dataset=f"{genes} random rows",
        model="bounded_search",
        novelty="",
        variant=variant,
        metric=metric,
        value=value,
        low=value,
        high=value,
        n=1,
        unit=unit,
    )


def _realistic(norms: Tensor, genes: int, dimensions: int, generator: torch.Generator) -> _World:
    strong = max(3, round(_ACTIVE * genes))
    sizes = _resampled(norms, genes, generator)
    sizes[strong:] = norms.min() * torch.rand(genes, generator=generator, dtype=torch.float64)[strong:]
    return _planted(_directions(genes, dimensions, generator) * sizes[:, None], strong, generator)


def _as_measured(norms: Tensor, genes: int, dimensions: int, generator: torch.Generator) -> _World:
    sizes = _resampled(norms, genes, generator)
    return _planted(_directions(genes, dimensions, generator) * sizes[:, None], genes, generator)


def _adversarial(norms: Tensor, genes: int, dimensions: int, generator: torch.Generator) -> _World:
    directions = _directions(genes + 1, dimensions, generator) * norms.median()
    return directions[:-1], directions[-1] * 3**0.5


def _cancelling(norms: Tensor, genes: int, dimensions: int, generator: torch.Generator) -> _World:
    rows, target = _adversarial(norms, genes, dimensions, generator)
    return rows, torch.zeros_like(target)


_WORLDS: dict[str, Callable[[Tensor, int, int, torch.Generator], _World]] = {
    "realistic": _realistic,
    "as_measured": _as_measured,
    "adversarial": _adversarial,
    "cancelling": _cancelling,
}


def _resampled(norms: Tensor, genes: int, generator: torch.Generator) -> Float64[Tensor, "v"]:
    return norms[torch.randint(len(norms), (genes,), generator=generator)]


def _directions(count: int, dimensions: int, generator: torch.Generator) -> Float64[Tensor, "v d"]:
    rows = torch.randn(count, dimensions, generator=generator, dtype=torch.float64)
    return torch.nn.functional.normalize(rows, dim=1)


def _planted(rows: Float64[Tensor, "v d"], among: int, generator: torch.Generator) -> _World:
    """Make the target of three of the first rows, and noise."""
    members = torch.randperm(among, generator=generator)[:3]
    target = rows[members].sum(0)
    noise = _directions(1, rows.shape[1], generator)[0]
    return rows, target + _NOISE * torch.linalg.vector_norm(target) * noise


def _measured(case: _Case, k: int, seconds: float) -> tuple[Certificate, float | None]:
    """Search once, with the peak memory where the system tells it."""
    if not STATUS.exists():
        return _search(case, k, seconds), None
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as fresh:
        return fresh.submit(_peak, case, k, seconds, torch.get_num_threads()).result()


def _peak(case: _Case, k: int, seconds: float, threads: int) -> tuple[Certificate, float]:
    """Search, and give the peak resident size above that before, in MB; runs in a process of its own."""
    torch.set_num_threads(threads)
    _search(replace(case, genes=64), 10, seconds)  # libraries load and start their threads
    before = resident_mb("VmRSS")
    certificate = _search(case, k, seconds)
    return certificate, resident_mb("VmHWM") - before


def _search(case: _Case, k: int, seconds: float) -> Certificate:
    entries = tuple(Intervention(f"G{number:06d}") for number in range(case.genes))
    space = CombinationSpace.of(Vocabulary(entries), orders=(3,))
    score = PairwiseSetScore.of_distance(*case.world, 3)
    return search_bounded(score, k, space=space, seconds=seconds).certificate
