"""Does invariant causal prediction keep its level, and how many parents does it find?

Acyclic worlds of ten genes (paths, scale-free and dense by turns) whose noise arises in each gene: control cells
and cells in which one of four genes is shifted. Each gene's parents are asked for at level .05. A gene has a false
parent if any that is named is none; intervals draw worlds. In a tenth of as many worlds with eight genes shifted,
``Causal`` learns edges from means with and without those parents.

Run: python -m benchmarks invariance --worlds 200
"""

import argparse
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor

from benchmarks.causal_matching.graphs import Family, StructuralWorld, acyclic_edges
from benchmarks.forward.steady_states import mean_effects
from surrogates.contrib.causal.invariance import Invariance
from surrogates.contrib.causal.model import Causal
from surrogates.data.io.cells import Cells
from surrogates.data.perturbation import Perturbation
from surrogates.errors import DataError
from surrogates.evaluation.differential import average_precision_rows
from surrogates.evaluation.intervals import Row, bootstrap_interval, write_json

FAMILIES: tuple[Family, ...] = ("path", "scale-free", "dense")


def acyclic_cells(
    *, genes: int, cells: int, acted: int, shift: float, seed: int
) -> tuple[Cells, Float[Tensor, "g g"]]:
    """Draw a world and measure control cells and cells with one gene shifted.

    Args:
        genes: How many.
        cells: Of each condition.
        acted: How many genes are shifted, each in a condition of its own.
        shift: What is added to each of them; the noise of a gene has a standard deviation of .3.
        seed: Fixes edges, the genes that are shifted, and noise.

    Returns:
        Cells, and the true edges.
    """
    edges = acyclic_edges(FAMILIES[seed % len(FAMILIES)], genes, seed=seed)
    hit = torch.randperm(genes, generator=torch.Generator().manual_seed(seed))[:acted]
    codes = torch.arange(acted + 1).repeat_interleave(cells)
    shifts = torch.zeros(acted + 1, genes, dtype=torch.float64)
    shifts[torch.arange(acted) + 1, hit] = shift
    names = tuple(f"G{number:02d}" for number in range(genes))
    treated = [Perturbation.parse(names[int(at)]) for at in hit]
    values = StructuralWorld(edges).measure(shifts[codes], seed=seed)
    return Cells(values, codes, (Perturbation(), *treated), ("",) * (acted + 1), names), edges


@dataclass(frozen=True)
class Tally:
    """What was found in one world.

    Attributes:
        genes: How many were asked about.
        wrong: How many of them have a false parent.
        found: True parents that were named.
        parents: True parents.
    """

    genes: int
    wrong: int
    found: int
    parents: int


def tally(cells: Cells, edges: Float[Tensor, "g g"], model: Invariance) -> Tally:
    """Ask for the parents of every gene.

    Args:
        cells: Of one world.
        edges: Its truth.
        model: At which level.

    Returns:
        Counts.
    """
    wrong = found = 0
    for column, gene in enumerate(cells.readouts):
        true = {cells.readouts[int(at)] for at in edges[:, column].nonzero().flatten()}
        named = set(model.parents(cells, gene).parents)
        wrong += bool(named - true)
        found += len(named & true)
    return Tally(len(cells.readouts), wrong, found, int((edges != 0).sum()))


def measure(worlds: int, *, strengths: tuple[float, ...], seed: int) -> Iterator[Row]:
    """Count false and true parents over worlds.

    Args:
        worlds: How many.
        strengths: Shifts, each for all worlds.
        seed: Of the first world.

    Yields:
        For each shift the shares of genes and of worlds with a false parent, and of parents that were found.
    """
    for shift in strengths:
        counts = [
            tally(*acyclic_cells(genes=10, cells=100, acted=4, shift=shift, seed=seed + number), Invariance())
            for number in range(worlds)
        ]
        wrong, genes, found, parents = (
            torch.tensor([float(getattr(each, name)) for each in counts])
            for name in ("wrong", "genes", "found", "parents")
        )
        shares = {
            "genes_with_false_parent": (wrong, genes),
            "worlds_with_false_parent": ((wrong > 0).float(), torch.ones(worlds)),
            "parents_found": (found, parents),
        }
        for metric, (top, bottom) in shares.items():
            value = float(top.sum() / bottom.sum())
            low, high = bootstrap_interval(
                lambda drawn, top=top, bottom=bottom: top[drawn].sum(1) / bottom[drawn].sum(1), worlds, seed=seed
            )
            yield Row(
                "invariance", "acyclic", "invariance", f"shift {shift:g}", "level .05", metric, value, low, high,
                worlds, "share",
            )  # fmt: skip


def as_filter(worlds: int, *, seed: int) -> Iterator[Row]:
    """Learn the edges of worlds with eight genes shifted from means, with and without the parents from cells.

    Args:
        worlds: How many.
        seed: Of the first.

    Yields:
        Average precision of the edges, and the difference; worlds whose parents form a cycle are left out.
    """
    found = []
    for number in range(seed, seed + worlds):
        cells, edges = acyclic_cells(genes=10, cells=100, acted=8, shift=1.0, seed=number)
        try:
            models = (Causal(), Causal(parents=Invariance().graph(cells)))
        except DataError as error:
            print(f"  world {number}: {error}", flush=True)
            continue
        screen, off = mean_effects(cells), ~torch.eye(len(edges), dtype=torch.bool)
        scores = []
        for model in models:
            fitted, learnt = model.fit(screen, seed=number), torch.zeros_like(edges)
            learnt[fitted.sources.columns] = fitted.edges
            scores.append(float(average_precision_rows(learnt.abs()[off][None], (edges != 0)[off][None])))
        found.append([*scores, scores[1] - scores[0]])
    every = torch.tensor(found)
    for name, values in zip(("causal", "causal, parents", "difference"), every.T, strict=True):
        low, high = bootstrap_interval(lambda drawn, values=values: values[drawn].mean(1), len(every), seed=seed)
        value = float(values.mean())
        yield Row(
            "invariance", "acyclic", name, "filter", "", "edge_average_precision", value, low, high, len(every), ""
        )


def main() -> None:
    """Measure and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--worlds", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    rows = []
    level = measure(arguments.worlds, strengths=(0.5, 1.0, 3.0), seed=arguments.seed)
    for row in chain(level, as_filter(arguments.worlds // 10, seed=arguments.seed)):
        rows.append(row)
        bounds = f"{row.value:.3f} [{row.low:.3f}, {row.high:.3f}]"
        print(f"{row.model:18}{row.novelty:10}{row.metric:28}{bounds}", flush=True)
    if arguments.json:
        write_json(rows, arguments.json)


if __name__ == "__main__":
    main()
