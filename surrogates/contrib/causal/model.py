"""The causal linear model: effects travel along sparse edges between readouts, which form a graph."""

from collections.abc import Iterator
from dataclasses import dataclass

import pandas as pd
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from surrogates.contrib.causal.design import Regression, Sources
from surrogates.contrib.causal.estimate import Estimate, total_effects
from surrogates.contrib.causal.selection import select
from surrogates.data.screen import Screen
from surrogates.data.vocabulary import PerturbationBatch, Vocabulary
from surrogates.errors import DataError, UnknownNameError
from surrogates.models.base import PairFactors, PairScale, require_one_context, sum_over_interventions
from surrogates.models.baselines import residual_variance
from surrogates.uncertainty.posterior import GaussianPosterior, isotropic

_BEAM = 500  # partial paths that are carried on at each length


@dataclass(frozen=True)
class FittedCausal:
    """A causal linear model with its edges.

    Attributes:
        trust: Share of the prediction that is kept for nodes never acted on: 0 says that the edges predicted
            nothing about held-out targets.
        residual_weight: Share of the least-squares residual that is kept for seen nodes: 1 says that edges do not
            help there, 0 that they say it all.
    """

    vocabulary: Vocabulary  # what the ids of a batch mean
    readouts: tuple[str, ...]  # names of the readouts
    measured_alone: Bool[Tensor, "v"]  # whether each entry's single effect was in the training data
    rows: Float[Tensor, "v g"]  # effect of each entry
    sources: Sources  # the nodes that may act on readouts
    edges: Float[Tensor, "q g"]  # effect of a change of one in each node on each readout, on the direct way
    inputs: Float[Tensor, "v"]  # what each entry puts into its node: signed dose times estimated strength
    penalty: float  # penalty of the lasso that found the edges
    trust: float
    residual_weight: float
    variance: Float[Tensor, "g"]  # in-sample error variance of each readout

    def predict(self, batch: PerturbationBatch) -> GaussianPosterior:
        """Predict the effects of some perturbations: sums over their interventions."""
        return isotropic(sum_over_interventions(self.rows, batch), self.variance)

    @property
    def factorises(self) -> bool:
        """Pairs are scored by products."""
        return True

    def pair_factors(self) -> PairFactors:
        """Factors of the mean effect of all pairs."""
        return PairFactors.without_interactions(self.rows)

    def pair_scale(self) -> PairScale:
        """Factors of the posterior scale of all pairs."""
        return PairScale.constant(len(self.rows))


@dataclass(frozen=True)
class Causal:
    """Sparse edges ``A`` between readouts, ``x = x A + u``, hence ``x = u (I - A)^-1`` [after Long 2025, CSR].

    Edges start at the targets that are readouts and at regulators; a target that is no readout is a virtual node.
    A lasso of each readout on the nodes finds them, and the full objective on its support refines them. The
    strength of an intervention is read from the target's own readout, which is left out of the loss. Nodes that
    were never acted on get ``trust`` times what the edges predict; the others get ``residual_weight`` times the
    least-squares residual on top. Both are learnt from held-out data; without conditions to hold out, trust is
    zero and the weight is one, so that the model is least squares. A virtual node that was never acted on has no
    readout from which edges could be learnt: it gets the mean of the virtual nodes that were.

    Attributes:
        regulators: Readouts that may act besides the targets.
        variable: How many of the most variable readouts to take instead when no regulators are given.
        steps: Most iterations of the full objective.
    """

    regulators: tuple[str, ...] = ()
    variable: int = 50
    steps: int = 100

    def __post_init__(self) -> None:
        """Refuse negative numbers."""
        if self.variable < 0 or self.steps < 0:
            raise DataError(f"variable {self.variable} and steps {self.steps} must not be negative")

    def fit(self, screen: Screen, *, seed: int) -> FittedCausal:
        """Learn edges, strengths, trust and the weight of the residual.

        Args:
            screen: Measured effects in one context.
            seed: Fixes noise and folds.

        Returns:
            The fitted model. Its variance is in-sample, hence optimistic.

        Raises:
            DataError: If the screen has several contexts.
            UnknownNameError: If a regulator is not a readout.
        """
        require_one_context(screen)
        ordered = screen.in_canonical_order()
        sources = Sources.of(ordered, regulators=self.regulators, variable=self.variable)
        problem = Regression(ordered.effects, sources.inputs(ordered.batch), sources.columns)
        chosen = select(ordered, problem, steps=self.steps, seed=seed)
        estimate = chosen.penalty.estimate(problem)
        nodes = _node_rows(problem, estimate, trust=chosen.trust, residual_weight=chosen.residual_weight)
        rows = sources.dose[:, None] * nodes[sources.of_entry]
        return FittedCausal(
            vocabulary=screen.vocabulary,
            readouts=screen.readouts,
            measured_alone=screen.single_rows >= 0,
            rows=rows,
            sources=sources,
            edges=estimate.edges,
            inputs=sources.dose * estimate.strength[sources.of_entry],
            penalty=chosen.penalty.size,
            trust=chosen.trust,
            residual_weight=chosen.residual_weight,
            variance=residual_variance(ordered.effects - sum_over_interventions(rows, ordered.batch)),
        )


def _node_rows(
    problem: Regression, estimate: Estimate, *, trust: float, residual_weight: float
) -> Float[Tensor, "q g"]:
    """Effect of a dose of one on each node.

    Trust and weight are about readouts off the target: a node's own readout is predicted by the shared strength
    where the node was never acted on, and by least squares elsewhere.
    """
    seen = problem.perturbed[:, None]
    left = estimate.residual_responses(problem)
    rows = torch.where(seen, estimate.responses + residual_weight * left, trust * estimate.responses)
    nodes = torch.nonzero(problem.real).flatten()
    own = (nodes, problem.columns[nodes])
    rows[own] = (estimate.responses + left)[own]
    acted_on = problem.perturbed & ~problem.real
    if bool(acted_on.any()):
        rows[~problem.perturbed & ~problem.real] = rows[acted_on].mean(0)
    return rows


def edge_table(fitted: FittedCausal) -> pd.DataFrame:
    """List the edges, the strongest first."""
    start, end = fitted.edges.nonzero(as_tuple=True)
    table = pd.DataFrame(
        {
            "source": [fitted.sources.names[at] for at in start.tolist()],
            "target": [fitted.readouts[at] for at in end.tolist()],
            "weight": fitted.edges[start, end].numpy(),
        }
    )
    strongest = table.assign(size=-table["weight"].abs()).sort_values(["size", "source", "target"])
    return table.loc[strongest.index].reset_index(drop=True)


def paths(fitted: FittedCausal, entry: str, readout: str, *, count: int = 5, longest: int = 5) -> pd.DataFrame:
    """Explain the effect of an intervention on a readout by the strongest paths between them.

    The effect that follows from the edges is the sum over all walks, of the input times the product of the edges.
    Paths visit no node twice; walks round a feedback loop are in the total only.

    Raises:
        UnknownNameError: If the intervention or the readout is not in the model.
    """
    number = fitted.vocabulary.id(entry)
    if readout not in fitted.readouts:
        raise UnknownNameError.from_known("readout", readout, fitted.readouts)
    column = fitted.readouts.index(readout)
    node, value = int(fitted.sources.of_entry[number]), float(fitted.inputs[number])
    total = value * float(total_effects(fitted.edges, fitted.sources.columns)[node, column])
    found = sorted(_walk(fitted, node, column, longest=longest), key=lambda path: (-abs(path[1]), path[0]))[:count]
    table = pd.DataFrame(
        {"path": [path for path, _ in found], "contribution": [value * product for _, product in found]}
    )
    table["share"] = table["contribution"] / total if total else float("nan")
    table.attrs["total"] = total
    return table


def _walk(fitted: FittedCausal, node: int, column: int, *, longest: int) -> Iterator[tuple[str, float]]:
    """Carry the strongest partial paths on, edge by edge, and yield those that arrive."""
    names, columns = fitted.sources.names, fitted.sources.columns.tolist()
    node_of = {at: number for number, at in enumerate(columns) if at >= 0}
    if columns[node] == column:
        yield names[node], 1.0
        return
    partial: list[tuple[tuple[int, ...], float]] = [((node,), 1.0)]
    for _ in range(longest):
        longer: list[tuple[tuple[int, ...], float]] = []
        for path, product in partial:
            row = fitted.edges[path[-1]]
            if row[column] != 0:
                yield (
                    " → ".join([*(names[at] for at in path), fitted.readouts[column]]),
                    product * float(row[column]),
                )
            for at in row.nonzero().flatten().tolist():
                following = node_of.get(at)
                if following is not None and at != column and following not in path:
                    longer.append(((*path, following), product * float(row[at])))
        partial = sorted(longer, key=lambda each: (-abs(each[1]), each[0]))[:_BEAM]
