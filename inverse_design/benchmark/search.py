"""How long the exact search over all pairs takes, beside the bare matrix product of the same size."""

import statistics
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context

import torch

from inverse_design.benchmark.memory import STATUS, resident_mb
from inverse_design.problem.score import ProductScore
from inverse_design.problem.space import CombinationSpace
from inverse_design.search.pairs import search_pairs
from surrogates.data.perturbation import Intervention
from surrogates.data.vocabulary import Vocabulary
from surrogates.evaluation.rows import Row

_BLOCK = 512


def search_rows(
    *,
    genes: int = 10_000,
    dimensions: Sequence[int] = (64, 1000),
    k: int = 1000,
    repeats: int = 5,
    seed: int = 0,
) -> list[Row]:
    """Time the exact search over all pairs and the bare product ``left @ right.T``, turn by turn.

    Factors are independent normal numbers: nothing about them can be pruned. The bare product is the full
    square in single precision, by blocks into one reused buffer, in the same process and with as many threads;
    it keeps nothing. The search starts from double-precision factors and includes their conversion. After one
    unmeasured turn, each repeat runs both, in alternating order; the ratio is that of the same repeat. Memory is
    the peak resident size during one search in a fresh process, above the size just before; it needs Linux's
    ``/proc`` and is left out elsewhere.

    Args:
        genes: Number of entries.
        dimensions: Numbers of columns of the factors; each gives one variant.
        k: How many pairs are kept.
        repeats: How often both are timed.
        seed: Fixes the factors.

    Returns:
        ``seconds`` of both and ``ratio_to_product`` and ``peak_mb`` of the search, with the smallest and the
        largest repeat as bounds; ``n`` is the number of repeats.
    """
    rows: list[Row] = []
    for columns in dimensions:
        timed = _times(genes, columns, k, repeats, seed)
        ratios = [scan / bare for bare, scan in timed]
        row = partial(_row, genes, columns)
        rows += [
            row("bare_product", "seconds", values=[bare for bare, _ in timed], unit="s"),
            row("exact_scan", "seconds", values=[scan for _, scan in timed], unit="s"),
            row("exact_scan", "ratio_to_product", values=ratios, unit="1"),
        ]
        if STATUS.exists():
            with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as fresh:
                peak = fresh.submit(_peak, genes, columns, k, seed, torch.get_num_threads()).result()
            rows.append(row("exact_scan", "peak_mb", values=[peak], unit="MB"))
    return rows


def _row(genes: int, columns: int, model: str, metric: str, *, values: list[float], unit: str) -> Row:
    return Row(
        benchmark="search",
        dataset=f"{genes} normal rows",
        model=model,
        novelty="",
        variant=str(columns),
        metric=metric,
        value=statistics.median(values),
        low=min(values),
        high=max(values),
        n=len(values),
        unit=unit,
    )


def _times(genes: int, columns: int, k: int, repeats: int, seed: int) -> list[tuple[float, float]]:
    """Seconds of the bare product and of the search, for each repeat."""
    side, left, right = _factors(genes, columns, seed)
    product = partial(_bare_product, left.float(), right.float(), torch.empty(_BLOCK, genes))
    search = partial(_search, side, left, right, k, _space(genes))
    product()
    search()
    timed = []
    for repeat in range(repeats):
        if repeat % 2:
            scan, bare = _seconds(search), _seconds(product)
        else:
            bare, scan = _seconds(product), _seconds(search)
        timed.append((bare, scan))
    return timed


def _seconds(work: Callable[[], None]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def _bare_product(left: torch.Tensor, right: torch.Tensor, out: torch.Tensor) -> None:
    for start in range(0, len(left), _BLOCK):
        rows = left[start : start + _BLOCK]
        torch.mm(rows, right.T, out=out[: len(rows)])


def _search(side: torch.Tensor, left: torch.Tensor, right: torch.Tensor, k: int, space: CombinationSpace) -> None:
    search_pairs(ProductScore(side, left, right), k, space=space)


def _factors(genes: int, columns: int, seed: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    side = torch.randn(genes, generator=generator, dtype=torch.float64)
    left = torch.randn(genes, columns, generator=generator, dtype=torch.float64)
    right = torch.randn(genes, columns, generator=generator, dtype=torch.float64)
    return side, left, right


def _space(genes: int) -> CombinationSpace:
    return CombinationSpace.of(Vocabulary(tuple(Intervention(f"G{one:06d}") for one in range(genes))), orders=(2,))


def _peak(genes: int, columns: int, k: int, seed: int, threads: int) -> float:
    """Peak resident size during one search above that before, in MB; runs in a process of its own."""
    torch.set_num_threads(threads)
    _search(*_factors(64, columns, seed), 10, _space(64))  # libraries load and start their threads
    factors, space = _factors(genes, columns, seed), _space(genes)
    before = resident_mb("VmRSS")
    _search(*factors, k, space)
    return resident_mb("VmHWM") - before
