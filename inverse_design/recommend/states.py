"""Recommenders that reach a state by what genes are expected to do, learnt anew in each round.

One ranks by the likelihood of the target and by the expected distance, in turns; the other compares what a
surrogate predicts in the target's direction.
"""

from dataclasses import dataclass, field

import torch
from jaxtyping import Float, Int
from torch import Tensor

from inverse_design.acquisition.acquisition import UtilityPosterior
from inverse_design.problem.objective import Correlation
from inverse_design.problem.target import AlignedProfile, is_state
from inverse_design.recommend.protocol import DecisionState, Recommendation, best_first
from surrogates.data.perturbation import Perturbation
from surrogates.data.screen import Screen
from surrogates.data.vocabulary import PerturbationBatch
from surrogates.errors import DataError
from surrogates.models.base import Surrogate
from surrogates.models.baselines import ScaledAdditive

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
    """Learn what genes do from all that was measured."""
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


def marks_of(batch: PerturbationBatch, state: DecisionState) -> Float[Tensor, "b v"]:
    """Mark the vocabulary entries of each perturbation."""
    return batch.multi_hot(len(state.measured.vocabulary))


_DRAWS = 200  # behind the stated bounds


@dataclass(frozen=True)
class StateLikely:
    """Takes in turns the candidate that is likeliest to be the target, and that which is expected nearest to it.

    If one candidate has the profile that is wanted, its predictive density there, over the sum of those of all,
    is the probability that it is the one. At most one is, so the likeliest make the likeliest batch, and neither
    draws nor a tolerance are needed: a candidate of known genes that should miss is behind one of unknown genes
    that may hit, in units of how well each axis is predicted (:class:`GeneEffects`). These variances are learnt
    from few experiments; where they are wrong, the nearest expectation is the better guess, so half of a round is
    its share.
    """

    def recommend(
        self, state: DecisionState, count: int, *, pending: tuple[Perturbation, ...], seed: int
    ) -> Recommendation:
        """Learn what genes do to the readouts of the target, and take the best by either measure."""
        if not is_state(state.target):
            raise DataError(f"target {state.target.name!r} is a direction and cannot be reached; name a profile")
        target, left = state.target.on(state.measured.readouts), state.open(pending)
        fitted = learn_effects(state.measured, target.columns)
        marks = marks_of(left, state)
        likely = fitted.log_density(marks, target.values)
        near = -((fitted.predict(marks) - target.values).square() @ target.weights)
        orders = [best_first(score, count) for score in (likely, near)]
        # Either list alone would fill the round, so without repeats there are enough.
        rows = torch.tensor(list(dict.fromkeys(torch.stack(orders, 1).flatten().tolist()))[:count])
        drawn = _drawn(fitted, state, target, marks[rows], seed)
        lower, upper = drawn.quantile(torch.tensor([_tail(state), 1 - _tail(state)], dtype=torch.float64), dim=0)
        return Recommendation.of(
            state,
            left.rows(rows),
            utility=(drawn.median(0).values, lower, upper),
            belief=UtilityPosterior.of_members(drawn),
            reason=["by turns the likeliest to be the target and the nearest to it"] * len(rows),
        )


def _tail(state: DecisionState) -> float:
    return round((1 - state.level) / 2, 12)


def _drawn(
    fitted: GeneEffects, state: DecisionState, target: AlignedProfile, marks: Float[Tensor, "q v"], seed: int
) -> Float[Tensor, "s q"]:
    """Draw the utilities of what would be measured."""
    drawn = fitted.sample(marks, _DRAWS, torch.Generator().manual_seed(seed))
    # Readouts that the target leaves open do not count.
    effects = torch.zeros(_DRAWS * len(marks), len(state.measured.readouts), dtype=torch.float64)
    effects[:, target.columns] = drawn.flatten(0, 1)
    return state.worth(effects).reshape(_DRAWS, len(marks))


@dataclass(frozen=True)
class StateMatch:
    """Takes the candidates of which the predicted profile correlates best with the target.

    Combinations fall short of the sum of their parts by an unknown factor, which differs between pairs; while no
    combination was measured nothing can be learnt of it, and a correlation does not depend on it.
    """

    surrogate: Surrogate = field(default_factory=ScaledAdditive)  # learns anew in each round

    def recommend(
        self, state: DecisionState, count: int, *, pending: tuple[Perturbation, ...], seed: int
    ) -> Recommendation:
        """Fit, and take the best."""
        fitted, left = self.surrogate.fit(state.measured, seed=seed), state.open(pending)
        objective = Correlation(state.target.on(state.measured.readouts), "pearson")
        worth = objective.predicted(fitted.predict(left)).mean
        return Recommendation.of(state, left.rows(best_first(worth, count)))
