"""How long do exact searches take on a device, beside the bare products of the same size there?

Pairs of products, expected improvement over eight members, eight networks of 128 and 32 units, a likelihood, and
all triples. A bare product is the full square in single precision, in one piece and kept; of networks, the product
of hidden layers that are there already; of a likelihood, one product of its singles. Scores are on the device
before; ranking in double precision and the proof are included. Without the device a small case is measured on the
processors. Lists of small cases are compared with those of the processors.

Run: python -m benchmarks device --device cuda --json device.json
"""

import argparse
import math
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TypeVar

import torch
from jaxtyping import Float64
from torch import Tensor

from benchmarks.scale.decoded import decoded_case
from benchmarks.scale.ensembles import EnsembleImprovement
from benchmarks.scale.search_cases import SearchCase, asked
from inverse_design.cli.console import output, say
from inverse_design.problem.pair_means import HiddenPairs, NetworkScore
from inverse_design.problem.score import LikelihoodScore, PairScore, ProductScore
from inverse_design.problem.set_score import PairwiseSetScore
from inverse_design.problem.space import CombinationSpace
from inverse_design.search.bounded import search_bounded
from inverse_design.search.device.pairs import search_pairs_on
from inverse_design.search.device.tiles import DeviceTiles, device_tiles, usable
from inverse_design.search.device.triples import search_triples_on
from inverse_design.search.exhaustive import pair_score
from inverse_design.search.scan import search_pairs
from inverse_design.search.topk import SearchResult
from surrogates.data.perturbation import Intervention
from surrogates.data.vocabulary import Vocabulary
from surrogates.evaluation.intervals import Row, write_json
from surrogates.models.base import LatentNetwork

T = TypeVar("T")

_MEMBERS, _HIDDEN = 8, (128, 32)
_COMPARED = 400  # entries of the cases whose lists are compared
_SMALL = 600  # entries where there is no device
_LAYERS = 1 << 18  # hidden layers of a bare product of networks


@dataclass(frozen=True)
class DeviceCase:
    """One problem, and the bare products that it is timed beside."""

    name: str
    score: Callable[[int], PairScore]  # of so many entries
    bare: Callable[[PairScore, str], Callable[[], None]]  # makes the products once
    most: int = 10_000  # entries


def main() -> None:
    """Measure case after case, and print each."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--genes", type=int, help="entries; by default 10000 on a device, and 600 without one")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    device, fallen_back = usable(given.device)
    genes = given.genes or (_SMALL if device == "cpu" else 10_000)
    name = torch.cuda.get_device_name(device) if device.startswith("cuda") else device
    say(output(), fallen_back or f"{name}, torch {torch.__version__}")
    say(output(), f"{genes:,} entries, best 1,000; seconds: median [fastest, slowest] of {given.repeats}")
    rows = [row for case in device_cases(given.seed) for row in _timed(case, genes, device, given.repeats)]
    rows += _triples(genes, device, given.repeats, given.seed)
    if given.json:
        write_json(rows, given.json)


def device_cases(seed: int) -> list[DeviceCase]:
    """Make the problems."""
    products = {
        f"pairs, {columns} dimensions": partial(_product, columns=columns, seed=seed) for columns in (64, 1000)
    }
    return [
        *(DeviceCase(name, score, _bare_products) for name, score in products.items()),
        DeviceCase(f"expected improvement of {_MEMBERS}", partial(_improvement, seed=seed), _bare_products),
        DeviceCase(f"{_MEMBERS} networks {_HIDDEN[0]}-{_HIDDEN[1]}", partial(_networks, seed=seed), _bare_layers),
        DeviceCase("likelihood of networks", partial(_likelihood, seed=seed), _bare_likelihood, most=2000),
    ]


def _timed(case: DeviceCase, genes: int, device: str, repeats: int) -> list[Row]:
    small = min(genes, _COMPARED)
    few, space = case.score(small), _space(small)
    same = _lists(search_pairs_on(device_tiles(few, device), few, 100, space=space)) == _lists(
        search_pairs(few, 100, space=space)
    )
    size = min(genes, case.most)
    score, space = case.score(size), _space(size)
    tiles, moving = _once(partial(device_tiles, score, device), device)
    bare, search = case.bare(score, device), partial(_search, tiles, score, space)
    bare(), search()
    turns = [(_once(bare, device)[1], _once(search, device)[1]) for _ in range(repeats)]
    proof = search().certificate
    measured = {
        ("bare", "seconds"): [products for products, _ in turns],
        ("search", "seconds"): [searched for _, searched in turns],
        ("search", "ratio_to_bare"): [searched / products for products, searched in turns],
        ("search", "moving_seconds"): [moving],
        ("search", "rescored"): [float(proof.rescored)],
        ("search", "same_list"): [float(same)],
    }
    say(output(), f"{case.name}, {size:,} entries")
    for (model, metric), values in measured.items():
        bounds = f" [{min(values):.4g}, {max(values):.4g}]" if len(values) > 1 else ""
        say(output(), f"  {model:8}{metric:16}{statistics.median(values):.4g}{bounds}")
    return [_row(case.name, size, model, metric, values) for (model, metric), values in measured.items()]


def _triples(genes: int, device: str, repeats: int, seed: int) -> list[Row]:
    """Time all triples by brute force there, and by bounds here: of equal norms, where bounds do worst."""
    rows = torch.nn.functional.normalize(_normal(genes, 64, seed=seed), dim=1)
    target = rows[:3].sum(0) + 0.1 * _normal(64, seed=seed + 1)
    score, space = PairwiseSetScore.of_distance(rows, target, 3), _space(genes, order=3)
    there = partial(search_triples_on, score, 100, space=space, device=device)
    bounded, seconds = _once(partial(search_bounded, score, 100, space=space, seconds=60.0), "cpu")
    found = there()
    turns = [_once(there, device)[1] for _ in range(max(1, repeats // 2))]
    same = _lists(found) == _lists(bounded)
    proven = "" if bounded.certificate.exact else ", stopped before its proof"
    say(output(), f"all triples of {genes:,} entries: {statistics.median(turns):.4g} s there")
    say(output(), f"  by bounds, here: {seconds:.4g} s{proven}; same list: {same}")
    name = "all triples"
    return [
        _row(name, genes, "search", "seconds", turns),
        _row(name, genes, "bounds", "seconds", [seconds]),
        _row(name, genes, "search", "same_list", [float(same)]),
    ]


def _row(case: str, genes: int, model: str, metric: str, values: list[float]) -> Row:
    middle, n = statistics.median(values), len(values)
    unit = "s" if metric.endswith("seconds") else "1"
    return Row("device", case, model, "", f"{genes} entries", metric, middle, min(values), max(values), n, unit)


def _once(work: Callable[[], T], device: str) -> tuple[T, float]:
    """Do some work, and wait for the device before and after."""
    began = _now(device)
    found = work()
    return found, _now(device) - began


def _now(device: str) -> float:
    if torch.device(device).type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()


def _search(tiles: DeviceTiles, score: PairScore, space: CombinationSpace) -> SearchResult:
    return search_pairs_on(tiles, score, 1000, space=space)


def _lists(found: SearchResult) -> tuple[list[int], list[float]]:
    return found.top.index.tolist(), found.top.score.tolist()


def _space(genes: int, *, order: int = 2) -> CombinationSpace:
    vocabulary = Vocabulary(tuple(Intervention(f"G{one:06d}") for one in range(genes)))
    return CombinationSpace.of(vocabulary, orders=(order,))


def _normal(*shape: int, seed: int) -> Float64[Tensor, "..."]:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def _product(genes: int, *, columns: int, seed: int) -> PairScore:
    return asked(SearchCase(genes, columns, seed).scores())


def _improvement(genes: int, *, seed: int) -> PairScore:
    return asked(SearchCase(genes, 64, seed, members=_MEMBERS).scores())


def _networks(genes: int, *, seed: int) -> NetworkScore:
    """Draw networks, of which the mean is wanted along a direction."""
    first, last = _HIDDEN
    networks = tuple(
        LatentNetwork(
            _normal(genes, first, seed=at),
            (_normal(first, seed=at + 1), _normal(last, seed=at + 2)),
            (_normal(last, first, seed=at + 3) / math.sqrt(first),),
            torch.empty(0, last).double(),
        )
        for at in range(seed, seed + 10 * _MEMBERS, 10)
    )
    half = _normal(1, _MEMBERS * last, seed=seed).expand(genes, -1)
    none = torch.zeros(genes, 0).double()
    product = ProductScore(torch.zeros(genes).double(), none, none)
    return NetworkScore(product, HiddenPairs(networks), half, half, half[:0])


def _likelihood(genes: int, *, seed: int) -> PairScore:
    case = decoded_case((genes, 2, 64, 1000), k=100, seed=seed)
    found = pair_score(case.objective, case.fitted, case.space)
    if found is None:
        raise ValueError("a likelihood of networks is a score of pairs")
    return found


def _bare_products(score: PairScore, device: str) -> Callable[[], None]:
    members = score.members if isinstance(score, EnsembleImprovement) else (score,)
    products = [each for each in members if isinstance(each, ProductScore)]
    factors = [(each.left.float().to(device), each.right.float().T.to(device)) for each in products]
    out = torch.empty(score.size, score.size, device=device)

    def work() -> None:
        for left, right in factors:
            torch.mm(left, right, out=out)

    return work


def _bare_layers(score: PairScore, device: str) -> Callable[[], None]:
    """Multiply hidden layers by the weights behind them, for as many pairs as there are."""
    layers = torch.rand(_LAYERS, _HIDDEN[0], device=device)
    weights, out = torch.rand(*_HIDDEN, device=device), torch.empty(_LAYERS, _HIDDEN[1], device=device)
    times, rest = divmod(_MEMBERS * math.comb(score.size, 2), _LAYERS)

    def work() -> None:
        for _ in range(times):
            torch.mm(layers, weights, out=out)
        torch.mm(layers[:rest], weights, out=out[:rest])

    return work


def _bare_likelihood(score: PairScore, device: str) -> Callable[[], None]:
    """Make the one product of whitened singles, in double precision."""
    if not isinstance(score, LikelihoodScore):
        raise TypeError(f"{type(score).__name__} is no likelihood")
    singles = score.singles.to(device)

    def work() -> None:
        torch.mm(singles, singles.T)

    return work


if __name__ == "__main__":
    main()
