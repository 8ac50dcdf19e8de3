"""The causal linear model: effects travel along sparse edges between readouts.

Known edges, such as a regulatory network, that a causal model penalises less.
"""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from surrogates.contrib.causal.design import Regression, Sources
from surrogates.contrib.causal.estimate import Estimate
from surrogates.contrib.causal.selection import select
from surrogates.data.screen import Screen
from surrogates.data.vocabulary import PerturbationBatch, Vocabulary
from surrogates.errors import DataError
from surrogates.models.base import PairFactors, PairScale, require_one_context, sum_over_interventions
from surrogates.models.baselines import residual_variance
from surrogates.uncertainty.posterior import GaussianPosterior, isotropic

_SHOWN = 5


@dataclass(frozen=True)
class PriorGraph:
    """Edges that are likely before anything is measured.

    Attributes:
        edges: Source, target, and weight of each edge; the sign of a weight is not used.
        discount: Relative penalty of an edge of weight one, above 0 and at most 1; ``discount ** abs(weight)`` in
            general.
    """

    edges: tuple[tuple[str, str, float], ...]
    discount: float = 0.5

    def __post_init__(self) -> None:
        """Refuse a discount out of range and weights that are not finite."""
        if not 0 < self.discount <= 1:
            raise DataError(f"discount {self.discount!r} is not above 0 and at most 1")
        bad = [edge for edge in self.edges if not np.isfinite(edge[2])]
        if bad:
            raise DataError(f"{len(bad)} edge(s) of the prior graph have no finite weight, such as {bad[0]!r}")

    @classmethod
    def from_table(cls, table: pd.DataFrame, *, discount: float = 0.5) -> "PriorGraph":
        """Read a table of edges.

        Raises:
            DataError: If a column is missing, a name is empty, or a weight is not finite.
        """
        if missing := {"source", "target"} - set(table.columns):
            raise DataError(
                f"a prior graph needs columns source and target; missing: {', '.join(sorted(missing))}"
            )
        names = table[["source", "target"]]
        if bool(names.isna().to_numpy().any()):
            raise DataError(f"{int(names.isna().any(axis=1).sum())} edge(s) of the prior graph have no name")
        weights = table["weight"] if "weight" in table.columns else pd.Series(1.0, index=table.index)
        rows = zip(names["source"].astype(str), names["target"].astype(str), weights.astype(float), strict=True)
        return cls(tuple(rows), discount=discount)

    def factors(self, sources: Sequence[str], readouts: Sequence[str]) -> Float[Tensor, "q g"]:
        """Turn the graph into relative penalties.

        Raises:
            DataError: If no edge runs between names of the screen.
        """
        row = {name: number for number, name in enumerate(sources)}
        column = {name: number for number, name in enumerate(readouts)}
        factors = torch.ones(len(row), len(column), dtype=torch.float64)
        known = [edge for edge in self.edges if edge[0] in row and edge[1] in column]
        strangers = sorted({name for edge in self.edges for name in edge[:2]} - row.keys() - column.keys())
        shown = ", ".join(strangers[:_SHOWN])
        if not known:
            raise DataError(
                f"none of the {len(self.edges)} edges of the prior graph runs from a source to a readout of the"
                f" screen; {len(strangers)} of its names are unknown here ({shown}): check the symbols"
            )
        if strangers:
            warnings.warn(
                f"{len(strangers)} names of the prior graph are not in the screen, such as {shown};"
                f" {len(known)} of {len(self.edges)} edges are used",
                stacklevel=2,
            )
        for source, target, weight in known:
            at = (row[source], column[target])
            factors[at] = min(float(factors[at]), self.discount ** abs(weight))
        return factors


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
    readout from which edges could be told: it gets the mean of the virtual nodes that were.

    Attributes:
        regulators: Readouts that may act besides the targets.
        variable: How many of the most variable readouts to take instead when no regulators are given.
        prior: Edges that are penalised less, if any are known.
        steps: Most iterations of the full objective.
    """

    regulators: tuple[str, ...] = ()
    variable: int = 50
    prior: PriorGraph | None = None
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
            DataError: If the screen has several contexts, or a prior graph has none of its names.
            UnknownNameError: If a regulator is not a readout.
        """
        require_one_context(screen)
        ordered = screen.in_canonical_order()
        sources, problem, factors = self.problem(ordered)
        chosen = select(ordered, problem, factors, steps=self.steps, seed=seed)
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

    def problem(self, screen: Screen) -> tuple[Sources, Regression, Float[Tensor, "q g"]]:
        """Pose the regression of a screen.

        Args:
            screen: Measured effects in one context.

        Returns:
            The nodes, the regression, and the relative penalty of each edge.

        Raises:
            DataError: If a prior graph knows none of the names.
            UnknownNameError: If a regulator is not a readout.
        """
        sources = Sources.of(screen, regulators=self.regulators, variable=self.variable)
        problem = Regression(screen.effects, sources.inputs(screen.batch), sources.columns)
        alike = torch.ones(len(sources.names), len(screen.readouts), dtype=torch.float64)
        factors = alike if self.prior is None else self.prior.factors(sources.names, screen.readouts)
        return sources, problem, factors


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
