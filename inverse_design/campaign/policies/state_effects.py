"""What each gene does, learnt from whole profiles: random effects that add up, axis by axis."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from surrogates.errors import DataError

FEWEST = 3
# Variance of a gene's effect over that of what genes do not explain: where its likelihood is evaluated.
_RATIOS = torch.logspace(-1, 2, 25, dtype=torch.float64)
_TINY = 1e-12


@dataclass(frozen=True)
class GeneEffects:
    """The posterior of ``y = marks @ (level + e) + noise`` along uncorrelated axes of the readouts.

    Attributes:
        axes: Each column is a direction of readout space.
        level: Mean effect of a gene along each axis.
        mean: Posterior mean of each gene's deviation from it.
        root: Lower Cholesky factor of the posterior precision of those, in units of one over ``noise`` squared.
        noise: Standard deviation, along each axis, of what the sum over genes does not explain.
    """

    axes: Float[Tensor, "g g"]
    level: Float[Tensor, "g"]
    mean: Float[Tensor, "v g"]
    root: Float[Tensor, "g v v"]
    noise: Float[Tensor, "g"]

    @classmethod
    def of(cls, marks: Float[Tensor, "n v"], effects: Float[Tensor, "n g"]) -> "GeneEffects":
        """Learn from measured perturbations.

        The axes are the principal ones of the measured effects. Along each the effects of genes are independent
        normal variables; their variance and that of the noise maximise the restricted likelihood on a grid
        [Patterson 1971].

        Args:
            marks: Ones for the genes of each perturbation.
            effects: What was measured.

        Returns:
            The posterior.

        Raises:
            DataError: If there are fewer than three measurements.
        """
        if len(effects) < FEWEST:
            raise DataError(f"{len(effects)} measurement(s) tell no variances; start with at least {FEWEST}")
        axes = torch.linalg.eigh(torch.atleast_2d(effects.T.cov()))[1]
        rotated = effects @ axes
        ratio, level, variance = _most_likely(marks, rotated)
        gram, unit = marks.T @ marks, torch.eye(marks.shape[1], dtype=torch.float64)
        root = torch.linalg.cholesky(gram + unit / ratio[:, None, None])
        excess = marks.T @ (rotated - marks.sum(1, keepdim=True) * level)
        mean = torch.cholesky_solve(excess.T[..., None], root)[..., 0].T
        return cls(axes, level, mean, root, variance.sqrt())

    def predict(self, marks: Float[Tensor, "b v"]) -> Float[Tensor, "b g"]:
        """Predict effects by the posterior mean.

        Args:
            marks: Ones for the genes of each perturbation.

        Returns:
            Effects on all readouts.
        """
        effects: Tensor = marks @ (self.level + self.mean) @ self.axes.T
        return effects

    def draw(self, marks: Float[Tensor, "b v"], generator: torch.Generator) -> Float[Tensor, "b g"]:
        """Draw what all genes do at once, and add it up; what genes do not explain is left out.

        Args:
            marks: Ones for the genes of each perturbation.
            generator: What the draw is made with.

        Returns:
            Effects that are correlated between perturbations with a gene in common.
        """
        normal = torch.randn(*self.root.shape[:2], 1, generator=generator, dtype=torch.float64)
        spread = torch.linalg.solve_triangular(self.root.mT, normal, upper=True)[..., 0].T
        effects: Tensor = marks @ (self.level + self.mean + self.noise * spread) @ self.axes.T
        return effects

    def sample(
        self, marks: Float[Tensor, "b v"], count: int, generator: torch.Generator
    ) -> Float[Tensor, "s b g"]:
        """Draw what would be measured: what genes do, and what they do not explain (interactions, noise).

        Args:
            marks: Ones for the genes of each perturbation.
            count: How many draws.
            generator: What the draws are made with.

        Returns:
            Effects on all readouts, independent between perturbations.
        """
        spread = torch.linalg.solve_triangular(self.root, marks.T.expand(len(self.root), -1, -1), upper=False)
        deviation = self.noise * (1 + spread.square().sum(1)).sqrt().T
        normal = torch.randn(count, *deviation.shape, generator=generator, dtype=torch.float64)
        drawn: Tensor = self.predict(marks) + (deviation * normal) @ self.axes.T
        return drawn


def _most_likely(
    marks: Float[Tensor, "n v"], rotated: Float[Tensor, "n g"]
) -> tuple[Float[Tensor, "g"], Float[Tensor, "g"], Float[Tensor, "g"]]:
    """Maximise the restricted likelihood along each axis: ratio of variances, level, and variance of the noise."""
    n = len(rotated)
    shared, basis = torch.linalg.eigh(marks @ marks.T)
    turned, ones = basis.T @ rotated, basis.T @ marks.sum(1)
    scale = _RATIOS[:, None] * shared.clamp(min=0) + 1
    information = (ones.square() / scale).sum(1)
    level = (ones / scale) @ turned / information[:, None]
    rest = turned - level[:, None] * ones[:, None]
    variance = (rest.square() / scale[..., None]).sum(1).clamp(min=_TINY) / (n - 1)
    determinant = scale.log().sum(1) + information.log()
    best = (-(n - 1) * variance.log() - determinant[:, None]).argmax(0)
    axis = torch.arange(rotated.shape[1])
    return _RATIOS[best], level[best, axis], variance[best, axis]
