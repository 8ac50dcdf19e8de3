"""How long the exact search over all pairs takes, beside the bare matrix products of the same size."""

import statistics
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from functools import partial
from multiprocessing import get_context
from typing import NamedTuple

import torch

from benchmarks.scale.search_cases import EffectShape, SearchCase, asked
from inverse_design.problem.score import ProductScore
from inverse_design.problem.space import CombinationSpace
from inverse_design.search.scan import search_pairs
from surrogates.data.perturbation import Intervention
from surrogates.data.vocabulary import Vocabulary
from surrogates.evaluation.intervals import Row
from surrogates.evaluation.scorecard import STATUS, resident_mb

_BLOCK = 512
_SHALLOW = 256  # effects on fewer readouts than this are scored whole, so that their spectrum does not matter


def search_rows(
    *,
    genes: int = 10_000,
    dimensions: Sequence[int] = (64, 1000),
    k: int = 1000,
    members: int = 8,
    shape: EffectShape | None = None,
    repeats: int = 5,
    seed: int = 0,
) -> list[Row]:
    """Time the exact search over all pairs and the bare product ``left @ right.T``, turn by turn.

    Three problems: factors of independent normal numbers, about which nothing can be pruned; distances of effects
    with the spectrum and the norms of a real screen, where factors have many columns; and expected improvement
    over an ensemble, whose members add noise to common normal factors, beside as many bare products, for the first
    of the dimensions. The incumbent is the best of 20,000 random pairs under the first member.

    A bare product is the full square in single precision, by blocks into one reused buffer, in the same process
    and with as many threads; it keeps nothing. The square in one piece, which takes 400 MB for 10,000 entries, is
    timed as well: it is slower, as it writes to memory. The search starts from double-precision factors and
    includes their conversion. After one unmeasured turn, each repeat runs all three, the search at one end or the
    other; ratios are those of the same repeat. Memory is the peak resident size during one search in a fresh
    process, above the size just before; it needs Linux's ``/proc`` and is left out elsewhere.

    Args:
        genes: Number of entries.
        dimensions: Numbers of columns of the factors; each gives one variant.
        k: How many pairs are kept.
        members: Of the ensemble; with fewer than two there is none.
        shape: What effects are like; by default there are normal factors only.
        repeats: How often both are timed.
        seed: Fixes the factors.

    Returns:
        ``seconds`` of all three and, of the search, ``ratio_to_product`` (by blocks), ``ratio_to_square`` (in one
        piece) and ``peak_mb``, with the smallest and the largest repeat as bounds; ``n`` is the number of repeats.
    """
    cases = [SearchCase(genes, columns, seed) for columns in dimensions]
    if shape is not None:
        cases += [replace(case, shape=shape) for case in cases if case.columns > _SHALLOW]
    if members > 1:
        cases.append(replace(cases[0], members=members))
    return [row for case in cases for row in _case_rows(case, k, repeats)]


def _case_rows(case: SearchCase, k: int, repeats: int) -> list[Row]:
    timed = _times(case, k, repeats)
    row = partial(_row, case)
    searched = case.searched
    rows = [
        row(case.bare, "seconds", values=[each.blocks for each in timed], unit="s"),
        row(case.whole, "seconds", values=[each.square for each in timed], unit="s"),
        row(searched, "seconds", values=[each.search for each in timed], unit="s"),
        row(searched, "ratio_to_product", values=[each.search / each.blocks for each in timed], unit="1"),
        row(searched, "ratio_to_square", values=[each.search / each.square for each in timed], unit="1"),
    ]
    if STATUS.exists():
        with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as fresh:
            peak = fresh.submit(_peak, case, k, torch.get_num_threads()).result()
        rows.append(row(searched, "peak_mb", values=[peak], unit="MB"))
    return rows


def _row(case: SearchCase, model: str, metric: str, *, values: list[float], unit: str) -> Row:
    return Row(
        benchmark="search",
        dataset=case.dataset,
        model=model,
        novelty="",
        variant=str(case.columns),
        metric=metric,
        value=statistics.median(values),
        low=min(values),
        high=max(values),
        n=len(values),
        unit=unit,
    )


class _Turn(NamedTuple):
    """Seconds that one repeat took."""

    blocks: float
    square: float
    search: float


def _times(case: SearchCase, k: int, repeats: int) -> list[_Turn]:
    """Time the bare products and the search, for each repeat."""
    scores = case.scores()
    factors = [(each.left.float(), each.right.float()) for each in scores]
    work = (
        partial(_bare_products, factors, torch.empty(_BLOCK, case.genes)),
        partial(_bare_squares, factors),
        partial(_search, scores, k, _space(case.genes)),
    )
    for each in work:
        each()
    turns = []
    for repeat in range(repeats):
        order = reversed(work) if repeat % 2 else work
        seconds = {each: _seconds(each) for each in order}
        turns.append(_Turn(*(seconds[each] for each in work)))
    return turns


def _seconds(work: Callable[[], None]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def _bare_products(factors: Sequence[tuple[torch.Tensor, torch.Tensor]], out: torch.Tensor) -> None:
    for left, right in factors:
        for start in range(0, len(left), _BLOCK):
            rows = left[start : start + _BLOCK]
            torch.mm(rows, right.T, out=out[: len(rows)])


def _bare_squares(factors: Sequence[tuple[torch.Tensor, torch.Tensor]]) -> None:
    for left, right in factors:
        torch.mm(left, right.T)


def _search(scores: tuple[ProductScore, ...], k: int, space: CombinationSpace) -> None:
    search_pairs(asked(scores), k, space=space)


def _space(genes: int) -> CombinationSpace:
    return CombinationSpace.of(Vocabulary(tuple(Intervention(f"G{one:06d}") for one in range(genes))), orders=(2,))


def _peak(case: SearchCase, k: int, threads: int) -> float:
    """Peak resident size during one search above that before, in MB; runs in a process of its own."""
    torch.set_num_threads(threads)
    _search(replace(case, genes=64).scores(), 10, _space(64))  # libraries load and start their threads
    scores, space = case.scores(), _space(case.genes)
    before = resident_mb("VmRSS")
    _search(scores, k, space)
    return resident_mb("VmHWM") - before
