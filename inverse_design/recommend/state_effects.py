"""What each gene does, learnt from whole profiles: random effects that add up, axis by axis."""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from surrogates.data.screen import Screen
from surrogates.errors import DataError

FEWEST = 3
# Variance of a gene's effect over that of what genes do not explain: where its likelihood is evaluated.
_RATIOS = torch.logspace(-1, 2, 25, dtype=torch.float64)
_TINY = 1e-12
_STILL = 1e-9  # of the largest variance: along such an axis nothing varied


@dataclass(frozen=True)
class GeneEffects:
    """The posterior of ``y = marks @ (level + e) + noise`` along uncorrelated axes of the readouts.

    Each ``e`` has ``ratio`` times the variance of the noise. All axes share the eigenvectors of the Gram matrix of
    the measured marks, so one decomposition serves them all.
    """

    axes: Float[Tensor, "g g"]  # each column is a direction of readout space
    level: Float[Tensor, "g"]  # mean effect of a gene along each axis
    mean: Float[Tensor, "v g"]  # posterior mean of each gene's deviation from it
    noise: Float[Tensor, "g"]  # standard deviation, along each axis, of what the sum over genes does not explain
    ratio: Float[Tensor, "g"]  # variance of a gene's effect along each axis, in units of ``noise`` squared
    turned: Float[Tensor, "n v"]  # marks of the measured perturbations in the eigenvectors of their Gram matrix
    shared: Float[Tensor, "n"]  # its eigenvalues

    @classmethod
    def of(cls, marks: Float[Tensor, "n v"], effects: Float[Tensor, "n g"]) -> "GeneEffects":
        """Learn from measured perturbations.

        The axes are the principal ones of the measured effects. Along each the effects of genes are independent
        normal variables; their variance and that of the noise maximise the restricted likelihood on a grid
        [Patterson 1971]. Where there are no more measurements than readouts, some axes show no variation at all;
        they tell nothing of their noise, which is taken to be the mean one.

        Raises:
            DataError: If there are fewer than three measurements.
        """
        if len(effects) < FEWEST:
            raise DataError(f"{len(effects)} measurement(s) tell no variances; start with at least {FEWEST}")
        axes = torch.linalg.eigh(torch.atleast_2d(effects.T.cov()))[1]
        shared, basis = torch.linalg.eigh(marks @ marks.T)
        shared, turned = shared.clamp(min=0), basis.T @ marks
        rotated = basis.T @ effects @ axes
        ratio, level, variance = _most_likely(shared, turned.sum(1), rotated)
        rest = rotated - turned.sum(1, keepdim=True) * level
        mean = turned.T @ (rest / (shared[:, None] + 1 / ratio))
        return cls(axes, level, mean, variance.sqrt(), ratio, turned, shared)

    def predict(self, marks: Float[Tensor, "b v"]) -> Float[Tensor, "b g"]:
        """Predict effects by the posterior mean."""
        effects: Tensor = self.along_axes(marks) @ self.axes.T
        return effects

    def along_axes(self, marks: Float[Tensor, "b v"]) -> Float[Tensor, "b g"]:
        """Predict effects by the posterior mean, along the axes instead of the readouts."""
        effects: Tensor = marks @ (self.level + self.mean)
        return effects

    def variance(self, marks: Float[Tensor, "b v"]) -> Float[Tensor, "b g"]:
        """Say how uncertain a measurement is: by what genes do, and by what they do not explain."""
        overlap = (marks @ self.turned.T).square()
        explained = overlap @ (1 / (self.shared[:, None] + 1 / self.ratio))
        left = self.ratio * (marks.square().sum(1, keepdim=True) - explained)
        variance: Tensor = self.noise.square() * (1 + left.clamp(min=0))
        return variance

    def log_density(self, marks: Float[Tensor, "b v"], profile: Float[Tensor, "g"]) -> Float[Tensor, "b"]:
        """Say how likely it is that just this profile is measured."""
        variance = self.variance(marks)
        gap = profile @ self.axes - self.along_axes(marks)
        return -(gap.square() / variance + variance.log()).sum(1) / 2

    def sample(
        self, marks: Float[Tensor, "b v"], count: int, generator: torch.Generator
    ) -> Float[Tensor, "s b g"]:
        """Draw what would be measured: what genes do, and what they do not explain (interactions, noise)."""
        deviation = self.variance(marks).sqrt()
        normal = torch.randn(count, *deviation.shape, generator=generator, dtype=torch.float64)
        drawn: Tensor = self.predict(marks) + (deviation * normal) @ self.axes.T
        return drawn


def learn_effects(screen: Screen, columns: Int[Tensor, "m"] | None = None) -> GeneEffects:
    """Learn what genes do from all that was measured.

    Raises:
        DataError: If fewer than three perturbations were measured.
    """
    marks = screen.batch.multi_hot(len(screen.vocabulary))
    return GeneEffects.of(marks, screen.effects if columns is None else screen.effects[:, columns])


def _most_likely(
    shared: Float[Tensor, "n"], ones: Float[Tensor, "n"], rotated: Float[Tensor, "n g"]
) -> tuple[Float[Tensor, "g"], Float[Tensor, "g"], Float[Tensor, "g"]]:
    """Maximise the restricted likelihood along each axis: ratio of variances, level, and variance of the noise."""
    n = len(rotated)
    scale = _RATIOS[:, None] * shared + 1
    information = (ones.square() / scale).sum(1)
    level = (ones / scale) @ rotated / information[:, None]
    rest = rotated - level[:, None] * ones[:, None]
    variance = (rest.square() / scale[..., None]).sum(1).clamp(min=_TINY) / (n - 1)
    determinant = scale.log().sum(1) + information.log()
    best = (-(n - 1) * variance.log() - determinant[:, None]).argmax(0)
    axis = torch.arange(rotated.shape[1])
    return _RATIOS[best], level[best, axis], _without_still(variance[best, axis])


def _without_still(variance: Float[Tensor, "g"]) -> Float[Tensor, "g"]:
    """Give axes along which nothing varied the mean variance: fewer measurements than readouts leave some."""
    still = variance < _STILL * variance.max()
    return torch.where(still, variance[~still].mean(), variance)
