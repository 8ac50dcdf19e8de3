"""How good is the causal linear model in simulated causal worlds whose edges are known?

python -m benchmarks causal                # 200 readouts, and 2,000
python -m benchmarks causal --parts world  # 200 readouts only

On real screens: ``inverse-design benchmark forward norman2019_expr --models causal``, and leave_one_drug.py.
"""

import argparse
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

import pandas as pd
import torch
from jaxtyping import Float, Int
from torch import Tensor

from benchmarks.causal_matching.graphs import scale_free_edges
from surrogates.contrib.causal.model import Causal, FittedCausal
from surrogates.data.perturbation import Intervention
from surrogates.data.screen import Screen
from surrogates.data.vocabulary import Vocabulary
from surrogates.evaluation.differential import average_precision_rows
from surrogates.evaluation.intervals import Row, write_json

_STRENGTH = 1.5
_DOUBLES = 300


def world(
    genes: int, *, targets: int, seen: int, noise: float, seed: int
) -> tuple[Screen, Float[Tensor, "v g"], Float[Tensor, "g g"]]:
    """Measure knock-downs in a cyclic scale-free world.

    Args:
        genes: Nodes of the network, all measured.
        targets: How many of them are in the vocabulary.
        seen: How many of those are measured.
        noise: Standard deviation of the measurement noise of each effect.
        seed: Fixes network, targets and noise.

    Returns:
        The screen of seen targets, the true effect of every entry, and the true edges.
    """
    generator = torch.Generator().manual_seed(1000 + seed)
    edges = scale_free_edges(genes, seed=seed)
    names = tuple(f"G{number:04d}" for number in range(genes))
    chosen = torch.randperm(genes, generator=generator)[:targets].sort().values
    vocabulary = Vocabulary(tuple(Intervention(names[int(at)], "knockdown") for at in chosen))
    truth = -_STRENGTH * torch.linalg.inv(torch.eye(genes, dtype=torch.float64) - edges)[chosen]
    rows = torch.randperm(targets, generator=generator)[:seen].sort().values
    measured = truth[rows]
    measured = measured + noise * torch.randn(measured.shape, generator=generator, dtype=torch.float64)
    screen = Screen(
        effects=measured,
        batch=vocabulary.dosed(rows[:, None]),
        vocabulary=vocabulary,
        readouts=names,
        contexts=("",) * seen,
        standard_errors=torch.full_like(measured, noise),
        annotations=pd.DataFrame(index=range(seen)),
    )
    return screen, truth, edges


def score_world(
    screen: Screen, truth: Float[Tensor, "v g"], *, seed: int
) -> tuple[dict[str, float], FittedCausal]:
    """Fit the model to a world and compare it with the truth off the targets.

    Args:
        screen: Measured targets.
        truth: Effect of every entry.
        seed: For the fit and the doubles.

    Returns:
        Relative errors by novelty class (one is that of predicting no change), seconds; and the fitted model.
    """
    begin, cpu = time.perf_counter(), time.process_time()
    fitted = Causal().fit(screen, seed=seed)
    scores = {"seconds": time.perf_counter() - begin, "cpu_seconds": time.process_time() - cpu}
    additive = torch.zeros_like(truth)
    additive[screen.batch.genes[:, 0]] = screen.effects
    for name, pairs in _classes(screen, seed=seed).items():
        scores[name] = _relative_error(screen, fitted.rows, truth, pairs)
        scores[f"{name} (additive)"] = _relative_error(screen, additive, truth, pairs)
    scores |= {"trust": fitted.trust, "residual weight": fitted.residual_weight}
    return scores, fitted


def _classes(screen: Screen, *, seed: int) -> Mapping[str, Int[Tensor, "b k"]]:
    generator = torch.Generator().manual_seed(seed)
    seen = torch.nonzero(screen.single_rows >= 0).flatten()
    unseen = torch.nonzero(screen.single_rows < 0).flatten()

    def draw(pool: Int[Tensor, "m"]) -> Int[Tensor, "b"]:
        return pool[torch.randint(len(pool), (_DOUBLES,), generator=generator)]

    both = torch.stack([draw(seen), draw(seen)], dim=1)
    return {
        "seen+seen double": both[both[:, 0] != both[:, 1]],
        "half-seen double": torch.stack([draw(seen), draw(unseen)], dim=1),
        "unseen single": unseen[:, None],
    }


def _relative_error(
    screen: Screen, rows: Float[Tensor, "v g"], truth: Float[Tensor, "v g"], parts: Int[Tensor, "b k"]
) -> float:
    column = {name: number for number, name in enumerate(screen.readouts)}
    own = torch.tensor([column[target] for target in screen.vocabulary.targets])
    off = torch.ones(len(parts), truth.shape[1], dtype=torch.float64).scatter_(1, own[parts], 0.0)
    expected = truth[parts].sum(1)
    return float((off * (rows[parts].sum(1) - expected)).square().sum() / (off * expected).square().sum())


def edge_average_precision(fitted: FittedCausal, edges: Float[Tensor, "g g"]) -> float:
    """Rank all possible edges from the nodes by absolute weight and compare with the true ones.

    Args:
        fitted: The model.
        edges: The truth.

    Returns:
        Average precision, ties grouped.
    """
    real = torch.nonzero(fitted.sources.real).flatten()
    columns = fitted.sources.columns[real]
    possible = torch.ones(len(real), edges.shape[1], dtype=torch.bool)
    possible[torch.arange(len(real)), columns] = False
    scores, positive = fitted.edges[real][possible].abs(), (edges[columns] != 0)[possible]
    return float(average_precision_rows(scores[None], positive[None]))


def worlds(seeds: range, *, large: bool) -> Iterator[Row]:
    """Measure the model in worlds of 200 genes, or in one of 2,000.

    Args:
        seeds: Of the worlds.
        large: Whether to take 2,000 readouts and 300 targets, 240 of them seen.

    Yields:
        Means over seeds, with the least and largest value as bounds.
    """
    size = (2000, 300, 240) if large else (200, 200, 160)
    scores = []
    for seed in seeds:
        screen, truth, edges = world(size[0], targets=size[1], seen=size[2], noise=0.05, seed=seed)
        one, fitted = score_world(screen, truth, seed=seed)
        scores.append({**one, "edge average precision": edge_average_precision(fitted, edges)})
        print(
            f"  seed {seed}: " + ", ".join(f"{name} {value:.3f}" for name, value in scores[-1].items()), flush=True
        )
    for name in scores[0]:
        values = [score[name] for score in scores]
        mean = sum(values) / len(values)
        dataset = f"scale_free_{size[0]}"
        yield Row(
            "causal", dataset, "causal", name, "low_noise", name, mean, min(values), max(values), len(values), ""
        )


def main() -> None:
    """Run the parts and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=0, help="of the first simulated world")
    parser.add_argument("--seeds", type=int, default=5, help="how many simulated worlds")
    parser.add_argument("--parts", nargs="+", default=["world", "large"])
    parser.add_argument("--json", type=Path, default=None)
    arguments = parser.parse_args()
    seeds = range(arguments.seed, arguments.seed + arguments.seeds)
    parts = {
        "world": lambda: worlds(seeds, large=False),
        "large": lambda: worlds(seeds[:1], large=True),
    }
    rows: list[Row] = []
    for name in arguments.parts:
        print(name, flush=True)
        for row in parts[name]():
            rows.append(row)
            print(
                f"{row.dataset:18} {row.model:14} {row.novelty:28} {row.variant:13} {row.metric:28}"
                f" {row.value:8.3f}  [{row.low:.3f}, {row.high:.3f}]  n={row.n}",
                flush=True,
            )
    if arguments.json is not None:
        write_json(rows, arguments.json)


if __name__ == "__main__":
    main()
