"""Are edges of cyclic systems found from whole cells, and from mean effects?

Cyclic worlds of 10 to 60 genes, two parents each, whose cells are steady states of a linear system with noise in
every gene: 50 control cells, and 50 in each condition, with one of 80 % of the genes knocked down. ``cut``:
nothing acts on a gene that is knocked down, as ``SteadyStates`` supposes; ``shift``: what acts on it goes on.
``SteadyStates`` sees the cells, ``Causal`` their means with standard errors. Average precision of the edges, and
the squared error of the mean effect of genes that were never knocked down, their own readout left out, relative to
no change. Intervals draw worlds.

Run: python -m benchmarks steady_states --sizes 10 20 40 60 --worlds 10
"""

import argparse
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, get_args

import torch
from jaxtyping import Float
from torch import Tensor

from surrogates.contrib.causal.model import Causal
from surrogates.contrib.causal.steady_states import SteadyStates, lyapunov, stable, system_of
from surrogates.data.io.cells import Cells
from surrogates.data.novelty import with_targets
from surrogates.data.perturbation import Perturbation
from surrogates.data.screen import Screen
from surrogates.data.simulate import Network
from surrogates.evaluation.differential import average_precision_rows
from surrogates.evaluation.intervals import Row, bootstrap_interval, write_json

Mechanism = Literal["cut", "shift"]
_STRENGTH = -1.5
_SHARE = 0.8


@dataclass(frozen=True)
class CyclicCells:
    """Cells of a cyclic world, and its truth.

    Attributes:
        cells: Control cells first.
        edges: From a gene (row) to another (column).
        effects: Mean effect of a knock-down of each gene.
    """

    cells: Cells
    edges: Float[Tensor, "g g"]
    effects: Float[Tensor, "g g"]

    @classmethod
    def draw(cls, genes: int, *, cells: int, mechanism: Mechanism, seed: int) -> "CyclicCells":
        """Measure a world.

        Args:
            genes: How many.
            cells: Of each condition.
            mechanism: What a knock-down does to what acts on its gene.
            seed: Fixes the world and its cells.

        Returns:
            The cells with the truth.
        """
        generator = torch.Generator().manual_seed(seed)
        network = Network(genes=genes, parents=2, spectral_radius=0.75, seed=seed)
        hit = torch.cat([torch.zeros(1, genes, dtype=torch.bool), torch.eye(genes, dtype=torch.bool)])
        replaced = hit if mechanism == "cut" else torch.zeros_like(hit)
        edges = stable(network.edges(""), replaced)
        system = system_of(edges, replaced)
        means = torch.linalg.solve(system, _STRENGTH * hit[:, :, None].to(torch.float64))[:, :, 0]
        spread = torch.linalg.cholesky(lyapunov(system, torch.eye(genes, dtype=torch.float64).expand_as(system)))
        acted = torch.randperm(genes, generator=generator)[: round(_SHARE * genes)].sort().values
        rows = torch.cat([torch.zeros(1, dtype=torch.int64), acted + 1])
        noise = torch.randn(len(rows), cells, genes, generator=generator, dtype=torch.float64)
        values = means[rows, None] + noise @ spread[rows].transpose(1, 2)
        treated = [Perturbation.parse(f"{network.names[int(at)]}:knockdown") for at in acted]
        given = Cells(
            values.flatten(0, 1),
            torch.arange(len(rows)).repeat_interleave(cells),
            (Perturbation(), *treated),
            ("",) * len(rows),
            network.names,
        )
        return cls(given, edges, means[1:])

    def by_steady_states(self, *, seed: int) -> tuple[Float[Tensor, "g g"], Float[Tensor, "g g"]]:
        """Learn from the cells: edges, and the mean effect of each knock-down."""
        fitted = SteadyStates().fit(self.cells, seed=seed)
        every = [Perturbation.parse(f"{name}:knockdown") for name in self.cells.readouts]
        return fitted.edges, torch.stack([fitted.moments(each)[0] - fitted.level for each in every])

    def by_causal(self, *, seed: int) -> tuple[Float[Tensor, "g g"], Float[Tensor, "g g"]]:
        """Learn from mean effects: edges, and the mean effect of each knock-down."""
        screen = with_targets(mean_effects(self.cells), self.cells.readouts, mode="knockdown")
        fitted = Causal().fit(screen, seed=seed)
        edges = torch.zeros_like(self.edges)
        edges[fitted.sources.columns] = fitted.edges
        return edges, fitted.rows


def mean_effects(cells: Cells) -> Screen:
    """Take the mean of each condition from that of the control, which comes first.

    Args:
        cells: Of one context.

    Returns:
        Effects with standard errors.
    """
    parts = [cells.values[cells.codes == code] for code in range(len(cells.perturbations))]
    means = torch.stack([each.mean(0) for each in parts])
    errors = torch.stack([each.var(0) / len(each) for each in parts])
    screen = Screen.from_labels(means[1:] - means[0], list(cells.perturbations[1:]), list(cells.readouts))
    return replace(screen, standard_errors=(errors[1:] + errors[0]).sqrt())


def score(drawn: CyclicCells, edges: Float[Tensor, "g g"], effects: Float[Tensor, "g g"]) -> dict[str, float]:
    """Hold what was learnt against the truth.

    Args:
        drawn: The world.
        edges: Learnt edges.
        effects: Learnt mean effects.

    Returns:
        Average precision, and the relative error on genes never acted on.
    """
    off = ~torch.eye(len(edges), dtype=torch.bool)
    acted = {each.targets[0] for each in drawn.cells.perturbations[1:]}
    unseen = torch.tensor([name not in acted for name in drawn.cells.readouts])[:, None] & off
    missed = (effects - drawn.effects)[unseen].square().sum() / drawn.effects[unseen].square().sum()
    return {
        "edge_average_precision": float(
            average_precision_rows(edges.abs()[off][None], (drawn.edges != 0)[off][None])
        ),
        "unseen_to_no_change": float(missed),
    }


def measure(genes: int, mechanism: Mechanism, *, worlds: int, seed: int) -> Iterator[Row]:
    """Compare both models in some worlds of one size.

    Args:
        genes: How many.
        mechanism: What a knock-down does.
        worlds: How many.
        seed: Of the first.

    Yields:
        For each metric both models, and the difference of the first to the second.
    """
    found: dict[str, list[dict[str, float]]] = {"steady_states": [], "causal": []}
    for number in range(seed, seed + worlds):
        drawn = CyclicCells.draw(genes, cells=50, mechanism=mechanism, seed=number)
        for name, learn in (("steady_states", drawn.by_steady_states), ("causal", drawn.by_causal)):
            begin = time.process_time()
            scores = score(drawn, *learn(seed=number))
            found[name].append({**scores, "cpu_seconds": time.process_time() - begin})
    for metric in found["causal"][0]:
        one, other = (torch.tensor([each[metric] for each in found[name]]) for name in found)
        for name, values in (("steady_states", one), ("causal", other), ("difference", one - other)):
            low, high = bootstrap_interval(lambda rows, values=values: values[rows].mean(1), worlds, seed=seed)
            value = float(values.mean())
            yield Row(
                "steady_states", f"cyclic_{genes}", name, mechanism, "", metric, value, low, high, worlds, ""
            )


def main() -> None:
    """Measure and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", type=int, nargs="+", default=[10, 20, 40, 60])
    parser.add_argument("--worlds", type=int, default=10)
    parser.add_argument("--mechanisms", nargs="+", choices=get_args(Mechanism), default=get_args(Mechanism))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    rows = []
    for mechanism in arguments.mechanisms:
        for genes in arguments.sizes:
            for row in measure(genes, mechanism, worlds=arguments.worlds, seed=arguments.seed):
                rows.append(row)
                print(
                    f"{mechanism:7}{genes:4} {row.model:14}{row.metric:24}"
                    f"{row.value:8.3f} [{row.low:.3f}, {row.high:.3f}]",
                    flush=True,
                )
    if arguments.json:
        write_json(rows, arguments.json)


if __name__ == "__main__":
    main()
