"""What a scan over all pairs costs with an ensemble of networks, and what a search in two stages misses."""

import statistics
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from multiprocessing import get_context
from typing import TypeVar

import torch
from jaxtyping import Float64
from torch import Tensor

from benchmarks.scale.memory import STATUS, resident_mb
from inverse_design.problem.space import CombinationSpace
from inverse_design.search.decoded import TILE_COLUMNS, TILE_ROWS, DecodedMember, search_decoded
from inverse_design.search.topk import SearchResult
from inverse_design.search.two_stage import Plan, TwoStageResult, search_two_stage
from surrogates.data.perturbation import Intervention
from surrogates.data.vocabulary import Vocabulary
from surrogates.evaluation.rows import Row
from surrogates.models.training import Layers

_LATENT = 16  # directions in which genes differ
_NOISE = 0.2  # of every number of a member, in units of the common one's standard deviation
_LARGE = 10_000  # genes to which seconds are extrapolated
_Result = TypeVar("_Result")


@dataclass(frozen=True)
class _Problem:
    """Networks, a target, and the pairs to choose from."""

    members: tuple[DecodedMember, ...]
    target: Float64[Tensor, "o"]
    space: CombinationSpace
    k: int

    @property
    def pairs(self) -> int:
        return self.space.size

    def products(self) -> None:
        """Multiply as often as the scan does, by the same tiles, and keep nothing."""
        matrices = [weight.float().T.contiguous() for each in self.members for weight in each.layers.weights]
        size, tile = len(self.space.entries), TILE_ROWS * TILE_COLUMNS
        cells, out = torch.ones(tile, len(matrices[0])), torch.empty(tile, matrices[0].shape[1])
        for low in range(0, size, TILE_ROWS):
            for left in range(low + 1, size, TILE_COLUMNS):
                n = (min(size, low + TILE_ROWS) - low) * (min(size, left + TILE_COLUMNS) - left)
                for matrix in matrices:
                    torch.mm(cells[:n], matrix, out=out[:n])

    def scan(self) -> SearchResult:
        return search_decoded(self.members, self.target, self.k, space=self.space)

    def two_stages(self, seed: int) -> TwoStageResult:
        """Keep and probe the shares that 10^5 and 2 * 10^5 are of the pairs of 10,000 genes."""
        plan = Plan(keep=max(self.k, self.pairs // 500), probe=self.pairs // 250, seed=seed)
        return search_two_stage(self.members, self.target, self.k, space=self.space, plan=plan)


def decoded_rows(
    *,
    genes: int = 2000,
    members: int = 8,
    hidden: int = 128,
    outputs: int = 32,
    k: int = 100,
    repeats: int = 3,
    seed: int = 0,
) -> list[Row]:
    """Time the scan with an ensemble of networks, the bare products of its layers, and the search in two stages.

    The ensemble is constructed, not trained: a common network of normal numbers, in which genes differ in 16
    latent directions, and to each number of it every member adds normal noise of a fifth of its standard
    deviation. The target is what the common network makes of one pair, plus noise. In each repeat all three run,
    in alternating order, after one unmeasured turn of the products; ratios are those of the same repeat. The
    products are as many as the scan needs, of the same tiles, from and into reused buffers. Landmarks differ
    between the repeats. Memory is the peak resident size of one scan in a fresh process, above the size just
    before; it needs Linux's ``/proc`` and is left out elsewhere.

    Args:
        genes: Number of entries.
        members: Number of networks.
        hidden: Units of the one hidden layer.
        outputs: Outputs that are compared with the target.
        k: How many pairs are kept.
        repeats: How often each is timed.
        seed: Fixes the networks, the target and the landmarks.

    Returns:
        Seconds of all three, ``ratio_to_products`` and ``peak_mb`` of the scan, ``two_stage_ratio`` to the scan's
        seconds, ``recall`` of the scan's answer, ``probe_recall`` as measured without it; bounds are the smallest
        and the largest repeat. What is extrapolated to 10,000 genes, in proportion to the pairs, says so.
    """
    problem = _problem((genes, members, hidden, outputs), k=k, seed=seed)
    problem.products()
    turns = [_turn(problem, repeat, seed) for repeat in range(repeats)]
    row = partial(
        _row, f"{genes} genes, {members} networks {hidden}-{outputs}", f"measured on {problem.pairs} pairs"
    )
    large = f"extrapolated from {problem.pairs} to {_LARGE * (_LARGE - 1) // 2} pairs"
    factor = _LARGE * (_LARGE - 1) / 2 / problem.pairs
    rows = [
        row(model, "seconds", values=[each.seconds[model] for each in turns], unit="s")
        for model in sorted(turns[0].seconds)
    ]
    rows += [
        row("scan", "ratio_to_products", values=[each.ratio("scan", "products") for each in turns], unit="1"),
        row("two_stage", "two_stage_ratio", values=[each.ratio("two_stage", "scan") for each in turns], unit="1"),
        row("two_stage", "recall", values=[each.recall for each in turns], unit="1"),
        row("two_stage", "probe_recall", values=[each.probed for each in turns], unit="1"),
        _row(
            rows[0].dataset,
            large,
            "scan",
            "seconds",
            values=[factor * each.seconds["scan"] for each in turns],
            unit="s",
        ),
    ]
    if STATUS.exists():
        with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as fresh:
            peak = fresh.submit(
                _peak, (genes, members, hidden, outputs), k, seed, torch.get_num_threads()
            ).result()
        rows.append(row("scan", "peak_mb", values=[peak], unit="MB"))
    return rows


@dataclass(frozen=True)
class _Turn:
    """One repeat: seconds of each, and what two stages found of the scan's answer."""

    seconds: dict[str, float]
    recall: float
    probed: float

    def ratio(self, one: str, other: str) -> float:
        return self.seconds[one] / self.seconds[other]


def _turn(problem: _Problem, repeat: int, seed: int) -> _Turn:
    two_stages = partial(problem.two_stages, seed + repeat)
    if repeat % 2 == 0:
        (bare, _), (full, scan), (short, two) = _timed(problem.products), _timed(problem.scan), _timed(two_stages)
    else:
        (short, two), (full, scan), (bare, _) = _timed(two_stages), _timed(problem.scan), _timed(problem.products)
    found = torch.isin(scan.top.index, two.result.top.index).double().mean()
    return _Turn({"products": bare, "scan": full, "two_stage": short}, float(found), two.recall.value)


def _timed(work: Callable[[], _Result]) -> tuple[float, _Result]:
    began = time.perf_counter()
    result = work()
    return time.perf_counter() - began, result


def _row(dataset: str, variant: str, model: str, metric: str, *, values: Sequence[float], unit: str) -> Row:
    return Row(
        benchmark="decoded",
        dataset=dataset,
        model=model,
        novelty="",
        variant=variant,
        metric=metric,
        value=statistics.median(values),
        low=min(values),
        high=max(values),
        n=len(values),
        unit=unit,
    )


def _problem(sizes: tuple[int, int, int, int], *, k: int, seed: int) -> _Problem:
    genes, members, hidden, outputs = sizes
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape: int, size: float = 1.0) -> Tensor:
        return size * torch.randn(*shape, generator=generator, dtype=torch.float64)

    shapes = ((genes, _LATENT), (hidden, _LATENT), (hidden,), (outputs, hidden))
    scales = (1.0, _LATENT**-0.5, 0.5, hidden**-0.5)
    common = [normal(*shape, size=size) for shape, size in zip(shapes, scales, strict=True)]
    networks = []
    for _ in range(members):
        rows, first, bias, last = (
            each + normal(*each.shape, size=_NOISE * size) for each, size in zip(common, scales, strict=True)
        )
        networks.append(
            DecodedMember(rows @ first.T, bias, Layers((last,), (torch.zeros(outputs, dtype=torch.float64),)))
        )
    rows, first, bias, last = common
    target = last @ (first @ (rows[0] + rows[genes // 2]) + bias).relu() + normal(outputs, size=0.3)
    vocabulary = Vocabulary(tuple(Intervention(f"G{number:05d}") for number in range(genes)))
    return _Problem(tuple(networks), target, CombinationSpace.of(vocabulary, orders=(2,)), k)


def _peak(sizes: tuple[int, int, int, int], k: int, seed: int, threads: int) -> float:
    """Peak resident size during one scan above that before, in MB; runs in a process of its own."""
    torch.set_num_threads(threads)
    _problem((64, *sizes[1:]), k=k, seed=seed).scan()  # libraries load and start their threads
    problem = _problem(sizes, k=k, seed=seed)
    before = resident_mb("VmRSS")
    problem.scan()
    return resident_mb("VmHWM") - before
