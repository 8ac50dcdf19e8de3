"""The exact search over all pairs beside other searches for the same pair: time, memory, and what is found."""

import math
from dataclasses import dataclass, replace
from functools import partial
from importlib.util import find_spec

import torch

from benchmarks.peers.growth import MARK, Growth, Quantity
from benchmarks.peers.problem import PairProblem
from benchmarks.peers.process import Measured, PeerError, Trial, run_trial
from benchmarks.peers.triples import triples_beside
from inverse_design.search.topk import Progress
from surrogates.errors import DataError, UnknownNameError
from surrogates.evaluation.intervals import Row

GENES = (142, 448, 1415, 10_000)  # 10^4, 10^5, 10^6 and 5 * 10^7 pairs
EXACT, REFERENCE = "exact_scan", "numpy_loop"

_PLACE = "benchmarks.peers"
_PROPOSE = {
    EXACT: f"{_PLACE}.exact:exact_scan",
    REFERENCE: f"{_PLACE}.loops:numpy_loop",
    "python_loop": f"{_PLACE}.loops:python_loop",
    "botorch_ensemble": f"{_PLACE}.botorch:botorch_ensemble",
    "botorch_gp": f"{_PLACE}.botorch:botorch_process",
    "baybe": f"{_PLACE}.loops:baybe",
    "optuna_tpe": f"{_PLACE}.loops:optuna_tpe",
    "optuna_random": f"{_PLACE}.loops:optuna_random",
}
_NEEDS = {"baybe": "baybe"}  # libraries that are not dependencies of this package
_HOLDS_ALL = {"baybe"}  # whose memory grows with the pairs; the others take some at a time
METHODS = tuple(_PROPOSE)
_REQUIREMENTS = "benchmarks/requirements-peers.txt"

_UNITS: dict[Quantity, str] = {"seconds": "s", "cpu_seconds": "s", "peak_mb": "MB"}
_PATIENCE, _START = 3.0, 120.0  # a search is stopped after this many budgets, and seconds to start up


@dataclass(frozen=True)
class PeerReport:
    """What was measured, and what was not.

    Attributes:
        rows: Of all sizes and methods.
        skipped: Why a method was not run, one sentence each.
    """

    rows: tuple[Row, ...]
    skipped: tuple[str, ...]


@dataclass(frozen=True)
class Comparison:
    """What is compared, and how much time it may take.

    Attributes:
        genes: Sizes of the problem, ascending; all pairs of so many genes.
        methods: Some of :data:`METHODS`.
        k: How many pairs are asked for, of methods that give several.
        repeats: How often methods run that take few seconds.
        budget: Seconds that a method may be expected to take.
        threads: Of each process; by default those of this one.
        seed: Fixes the problem.
        triples: Genes whose triples are searched by bounds, beside the lines of the methods; none by default.
    """

    genes: tuple[int, ...] = GENES
    methods: tuple[str, ...] = METHODS
    k: int = 100
    repeats: int = 3
    budget: float = 600.0
    threads: int | None = None
    seed: int = 0
    triples: int | None = None

    def __post_init__(self) -> None:
        """Refuse unknown methods, and sizes that do not ascend."""
        if unknown := next((one for one in self.methods if one not in METHODS), None):
            raise UnknownNameError.from_known("method", unknown, METHODS)
        if not self.genes or list(self.genes) != sorted(set(self.genes)):
            raise DataError(f"sizes {self.genes} must ascend, so that each tells how long the next takes")
        if min(self.k, self.repeats, 1 if self.threads is None else self.threads) < 1 or not self.budget >= 0:
            raise DataError(f"{self!r} measures nothing; take positive k, repeats and threads, and a budget")

    def trial(self, method: str, genes: int) -> Trial:
        """Say what to run.

        Args:
            method: One of the methods.
            genes: One of the sizes.

        Returns:
            The search of that problem by that method.
        """
        threads = self.threads or torch.get_num_threads()
        return Trial(_PROPOSE[method], genes, self.k, self.repeats, threads, self.seed)


def measure_peers(asked: Comparison, *, progress: Progress | None = None) -> PeerReport:
    """Search the same pairs by several methods, each in a fresh process with as many threads.

    The problem is that of :class:`PairProblem`: expected improvement over an ensemble. ``botorch_gp`` and
    ``baybe`` model the measured utilities by a Gaussian process instead, and may prefer another pair. Times are
    those from the problem to the proposal, without the imports and a tiny problem before; memory is the peak
    resident size above that before the problem is made.

    A method is not run where the line through its two largest sizes says that it takes longer than the budget:
    its time is then read off that line, and so is the memory of ``baybe``, which holds all pairs; the model of the
    row begins with ``~``.

    Args:
        asked: What to compare.
        progress: Called with how many searches are done or left out, of how many.

    Returns:
        For each size and method ``seconds``, ``cpu_seconds``, ``peak_mb``, and ``cpu_ratio``, the processor time
        in units of that of the exact scan; if it was run also ``top1``, whether its first pair is the right one,
        ``topk``, which share it has of those of the right ``k`` that improve (of methods that give ``k``), and
        ``worth``, that of its first pair as a share of the best. What is right is told by ``numpy_loop`` in double
        precision, if it is among the methods. ``n`` is the number of runs, 0 for what was read off a line.
        For triples see :func:`triples_beside`.
    """
    missing = {one: _NEEDS[one] for one in asked.methods if one in _NEEDS and find_spec(_NEEDS[one]) is None}
    skipped = [f"{one}: {name} is not installed; see {_REQUIREMENTS}" for one, name in missing.items()]
    growths = {one: Growth() for one in asked.methods if one not in missing}
    rows: list[Row] = []
    for at, genes in enumerate(asked.genes):
        for number, method in enumerate(growths):
            growths[method], complaint = _grown(growths[method], asked, method, genes)
            skipped += [complaint] if complaint else []
            if progress is not None:
                progress(at * len(growths) + number + 1, len(asked.genes) * len(growths))
        problem = PairProblem.drawn(genes, seed=asked.seed)
        rows += [row for method in growths for row in _rows(method, growths, problem, asked.k)]
    if asked.triples is not None:
        size = {"genes": asked.triples, "dimensions": problem.rows.shape[2]}
        rows += triples_beside(growths, **size, k=asked.k, seconds=asked.budget, seed=asked.seed)
    return PeerReport(tuple(rows), tuple(skipped))


def _grown(growth: Growth, asked: Comparison, method: str, genes: int) -> tuple[Growth, str]:
    """Run a method at one more size if there is time for it; tell what went wrong."""
    pairs = math.comb(genes, 2)
    if not growth.affordable(pairs, asked.budget):
        return growth, ""
    try:
        measured = run_trial(asked.trial(method, genes), timeout=_PATIENCE * asked.budget + _START)
    except PeerError as failure:
        return replace(growth, failed=True), f"{method}, {pairs:,} pairs: {failure}"
    return growth.extended(pairs, measured), ""


def _rows(method: str, growths: dict[str, Growth], problem: PairProblem, k: int) -> list[Row]:
    """What one method took and found at one size, measured or not."""
    pairs, growth = math.comb(problem.genes, 2), growths[method]
    if not growth.points:
        return []
    measured = growth.measured(pairs)
    label = method if measured else f"{MARK} {method}, {growth.source}"
    row = partial(_row, problem, label, n=len(measured.seconds) if measured else 0)
    told = [name for name in _UNITS if measured or name != "peak_mb" or method in _HOLDS_ALL]
    rows = [row(name, growth.at(name, pairs), unit=_UNITS[name]) for name in told]
    exact = growths.get(EXACT, Growth()).at("cpu_seconds", pairs)
    rows.append(row("cpu_ratio", growth.at("cpu_seconds", pairs) / exact, unit="1"))
    reference = growths.get(REFERENCE, Growth()).measured(pairs)
    if measured and reference:
        judged = _judged(measured, reference, problem, k)
        rows += [row(name, value, unit="1") for name, value in judged.items()]
    return [one for one in rows if not math.isnan(one.value)]


def _judged(measured: Measured, reference: Measured, problem: PairProblem, k: int) -> dict[str, float]:
    """Compare what was found with what is right."""
    right = torch.tensor(reference.found)
    worth = problem.worth(right)
    improving = {pair for pair, value in zip(reference.found, worth.tolist(), strict=True) if value > 0}
    judged = {"top1": float(measured.found[:1] == reference.found[:1])}
    if len(measured.found) >= min(k, len(reference.found)) > 1 and improving:
        judged["topk"] = len(improving & set(measured.found)) / len(improving)
    if worth[0] > 0:
        judged["worth"] = float(problem.worth(torch.tensor(measured.found[:1]))) / float(worth[0])
    return judged


def _row(problem: PairProblem, model: str, metric: str, value: float, *, n: int, unit: str) -> Row:
    members, genes, dimensions = problem.rows.shape
    return Row(
        benchmark="peers",
        dataset=f"{members} additive members in {dimensions} dimensions, {genes:,} genes",
        model=model,
        novelty="",
        variant=f"{math.comb(genes, 2):,} pairs",
        metric=metric,
        value=value,
        low=math.nan,
        high=math.nan,
        n=n,
        unit=unit,
    )
