"""Edges of a causal linear model at given penalties, and what they predict."""

from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Tensor

from surrogates.models.causal_design import Regression
from surrogates.models.causal_lasso import lasso_edges
from surrogates.models.causal_objective import (
    MOST_SPECTRAL_RADIUS,
    refine,
    stabilised,
    total_effects,
)

_KNEE = 0.05  # an edge of this size is penalised half as much as one that vanishes


@dataclass(frozen=True)
class Estimate:
    """Edges and strengths estimated from one set of conditions.

    Attributes:
        edges: From nodes to readouts.
        strength: How strongly an input of one acts on each node.
        responses: Effect of an input of one into each node.
    """

    edges: Float[Tensor, "q g"]
    strength: Float[Tensor, "q"]
    responses: Float[Tensor, "q g"]

    @classmethod
    def of(cls, problem: Regression, edges: Float[Tensor, "q g"]) -> "Estimate":
        """Complete edges with strengths and responses.

        Args:
            problem: The measured conditions.
            edges: Estimated edges; shrunk if they are unstable.

        Returns:
            The estimate.
        """
        stable = stabilised(edges, problem.columns, MOST_SPECTRAL_RADIUS)
        strength = problem.strengths(stable)
        return cls(stable, strength, strength[:, None] * total_effects(stable, problem.columns))

    def node_values(self, problem: Regression) -> Float[Tensor, "n q"]:
        """Predict the value of each node.

        Args:
            problem: Conditions.

        Returns:
            Effects of nodes that are readouts, inputs of virtual ones.
        """
        return replace(problem, effects=problem.inputs @ self.responses).values

    def residual_responses(self, problem: Regression) -> Float[Tensor, "q g"]:
        """Fit by least squares what the edges leave unexplained.

        Args:
            problem: The measured conditions.

        Returns:
            What an input of one into each node adds; of least norm where the conditions do not determine it.
        """
        left = problem.effects - problem.inputs @ self.responses
        solution: Float[Tensor, "q g"] = torch.linalg.lstsq(problem.inputs, left, driver="gelsd").solution
        return solution


@dataclass(frozen=True)
class Penalty:
    """How strongly edges are penalised, and how long their objective is minimised.

    Attributes:
        size: Of an edge of factor one, in the lasso; and in the full objective, if the lasso has removed it.
        factors: Relative penalty of each edge.
        idle: Weight of a pseudo-condition, see :meth:`Regression.with_idle_conditions`.
        steps: Most iterations of the full objective.
    """

    size: float
    factors: Float[Tensor, "q g"]
    idle: float
    steps: int

    def estimate(self, problem: Regression) -> Estimate:
        """Estimate edges by lasso and full objective, and again with the node values that these predict.

        Measurement noise in the regressors attenuates the edges of the first lasso and hides weak sources; the
        second one regresses the measured readouts on fitted values, which are nearly free of it.

        Args:
            problem: The measured conditions.

        Returns:
            The estimate.
        """
        widened = problem.with_idle_conditions(self.idle)
        estimate = self._refined(problem, widened, widened.values)
        return self._refined(problem, widened, estimate.node_values(widened))

    def _refined(self, problem: Regression, widened: Regression, values: Float[Tensor, "n q"]) -> Estimate:
        """Run both stages, the second with penalties that are small for edges that were strong [Zou 2006]."""
        start = Estimate.of(problem, lasso_edges(widened, values, self.size, self.factors))
        # Edges between readouts have no unit; those of a virtual node have that of the effects.
        knee = _KNEE * torch.where(problem.real, 1.0, problem.effects.square().mean().sqrt())[:, None]
        penalty = self.size * self.factors * knee / (start.edges.abs() + knee)
        return Estimate.of(problem, refine(widened, start.strength, start.edges, penalty, steps=self.steps))
