"""What experiments tell of the edges of an acyclic network: Bayesian regression of each gene on its parents."""

from dataclasses import dataclass, field, replace
from functools import cached_property

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from benchmarks.causal_matching.graphs import causal_order
from surrogates.errors import DataError


@dataclass(frozen=True)
class EdgePosterior:
    """Gaussian beliefs about the edges ``A`` of ``x = x A + a + e``, independent from gene to gene.

    Which edges there are and how large the noise is are known. Given the states of its parents, a gene less its
    shift is a linear regression, so that the posterior is exact, whatever shifts were chosen for whatever reason.

    Attributes:
        parents: Whether a gene (row) acts on another (column).
        noise: Standard deviation of ``e``.
        mean: Expected edges, zero where there are none.
        precision: Inverse covariance of the edges into each gene; the identity where there is no edge.
    """

    parents: Bool[Tensor, "g g"] = field(repr=False)
    noise: float
    mean: Float[Tensor, "g g"] = field(repr=False)
    precision: Float[Tensor, "c g g"] = field(repr=False)

    @classmethod
    def prior(cls, parents: Bool[Tensor, "g g"], variance: Float[Tensor, "g"], *, noise: float) -> "EdgePosterior":
        """Begin before any experiment, with edges around zero.

        Args:
            parents: Whether a gene (row) acts on another (column), without cycles.
            variance: Of each edge into a gene.
            noise: Standard deviation of what is not explained by parents.

        Returns:
            The prior.

        Raises:
            DataError: If there is a cycle, or a variance or the noise is not positive.
        """
        causal_order(parents)
        if noise <= 0 or not bool((variance > 0).all()):
            raise DataError(
                f"noise {noise:g} and smallest variance {float(variance.min()):g} must both be positive"
            )
        inverse = torch.where(parents.T, 1 / variance[:, None], 1.0).double()
        return cls(parents, noise, torch.zeros(parents.shape, dtype=torch.float64), torch.diag_embed(inverse))

    @cached_property
    def covariance(self) -> Float[Tensor, "c g g"]:
        """Covariance of the edges into each gene, zero where there is no edge."""
        return torch.mul(torch.inverse(self.precision), self._pairs)

    @cached_property
    def total(self) -> Float[Tensor, "g g"]:
        """Expected total effects: exactly ``(I - mean)^-1``, as no path uses two edges into one gene."""
        return torch.inverse(torch.eye(len(self.mean), dtype=torch.float64) - self.mean)

    @cached_property
    def reach(self) -> Float[Tensor, "g"]:
        """Expected squared norm of the total effects of each gene on all, exactly.

        A state is built gene by gene in causal order. The edges into a gene are independent of the states before
        it, so that second moments of states follow from those of the edges.
        """
        size = len(self.mean)
        second = torch.zeros(size, size, size, dtype=torch.float64)  # start, gene, gene
        first = torch.zeros(size, size, dtype=torch.float64)  # start, gene
        for gene in causal_order(self.parents):
            edges = self.mean[:, gene]
            given = torch.zeros(size, dtype=torch.float64)
            given[gene] = 1
            inherited = first @ edges
            cross = second @ edges + first * given[:, None]
            moments = edges.outer(edges) + self.covariance[gene]
            own = (second * moments).sum((1, 2)) + 2 * given * inherited + given
            second[:, :, gene] = second[:, gene, :] = cross
            second[:, gene, gene] = own
            first[:, gene] = inherited + given
        return second.diagonal(dim1=1, dim2=2).sum(1)

    @cached_property
    def risk(self) -> Float[Tensor, "g g"]:
        """Quadratic form of what is not known of an outcome.

        Of a shift with expected outcome ``m``, the true outcome is off by ``m (A - mean) (I - A)^-1``. Errors of
        edges into different genes are independent, and the total effect of a gene does not depend on the edges
        into it; so the expected squared norm of that is ``m risk m^T``, exactly.
        """
        return (self.reach[:, None, None] * self.covariance).sum(0)

    def learn(self, shifts: Float[Tensor, "b g"], states: Float[Tensor, "b g"]) -> "EdgePosterior":
        """Condition on experiments.

        Args:
            shifts: What was added to each gene.
            states: What was measured.

        Returns:
            The posterior.
        """
        later = self.foresee(states.T @ states)
        weighted = (self.precision @ self.mean.T[..., None])[..., 0]  # one row for each gene
        weighted = weighted + (states.T @ (states - shifts)).T * self.parents.T / self.noise**2
        mean = (later.covariance @ weighted[..., None])[..., 0].T
        return replace(later, mean=mean)

    def foresee(self, moments: Float[Tensor, "g g"]) -> "EdgePosterior":
        """Tell how sure one will be after states with these second moments; the mean stays.

        Args:
            moments: Sum over experiments of the outer products of their states.

        Returns:
            Beliefs with the covariance that such states leave.
        """
        return replace(self, precision=self.precision + moments * self._pairs / self.noise**2)

    def draw(self, count: int, *, seed: int) -> Float[Tensor, "s g g"]:
        """Draw edges.

        Args:
            count: How many draws.
            seed: Fixes them.

        Returns:
            Edges, zero where there are none.
        """
        generator = torch.Generator().manual_seed(seed)
        noise = torch.randn((len(self.mean), len(self.mean), count), generator=generator, dtype=torch.float64)
        # With precision = L L^T, the solution of L^T z = noise has the covariance that is wanted.
        errors = torch.linalg.solve_triangular(torch.linalg.cholesky(self.precision).mT, noise, upper=True)
        return torch.add(self.mean, errors.permute(2, 1, 0) * self.parents)

    @cached_property
    def _pairs(self) -> Bool[Tensor, "c g g"]:
        return self.parents.T[:, :, None] & self.parents.T[:, None, :]
