"""Recommenders that reach a state by what genes are expected to do: anew in each round, and once for all.

Ours ranks by the likelihood of the target and by the expected distance, in turns. Beside it stand greedy and
static additive effects, a surrogate compared in the target's direction, BoTorch's Gaussian process on the
distance, and Optuna's tree-structured Parzen estimator on the names of the genes.
"""

from collections import defaultdict
from dataclasses import dataclass, field
from statistics import NormalDist
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from inverse_design.acquisition.acquisition import UtilityPosterior, log_expected_improvement
from inverse_design.problem.objective import Correlation
from inverse_design.problem.target import AlignedProfile, is_state
from inverse_design.recommend.protocol import DecisionState, Recommendation, best_first, joined_rows
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


@dataclass(frozen=True)
class StateGreedy:
    """Takes the candidates of which the expected profile is best: uncertainty does not count."""

    def recommend(
        self, state: DecisionState, count: int, *, pending: tuple[Perturbation, ...], seed: int
    ) -> Recommendation:
        """Learn, and take the best.

        Raises:
            DataError: If fewer than three perturbations were measured.
        """
        del seed
        return _nearest(state.measured, state, count, pending)


@dataclass(frozen=True)
class StateStatic:
    """Learns once, from what was known before the first round, and goes down the list."""

    learnt: int = 0  # how many of the first results it learns from, too

    def recommend(
        self, state: DecisionState, count: int, *, pending: tuple[Perturbation, ...], seed: int
    ) -> Recommendation:
        """Take the next of the list.

        Raises:
            DataError: If fewer than three perturbations were measured.
        """
        del seed
        first = min(state.started + self.learnt, len(state.measured))
        return _nearest(state.measured.rows(range(first)), state, count, pending)


def _nearest(
    screen: Screen, state: DecisionState, count: int, pending: tuple[Perturbation, ...]
) -> Recommendation:
    fitted, left = learn_effects(screen), state.open(pending)
    worth = state.worth(fitted.predict(_marks(left, state)))
    return Recommendation.of(state, left.rows(best_first(worth, count)))


def _marks(batch: PerturbationBatch, state: DecisionState) -> Float[Tensor, "b v"]:
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
        """Learn what genes do to the readouts of the target, and take the best by either measure.

        Raises:
            DataError: If fewer than three perturbations were measured, or the target is no state.
        """
        if not is_state(state.target):
            raise DataError(f"target {state.target.name!r} is a direction and cannot be reached; name a profile")
        target, left = state.target.on(state.measured.readouts), state.open(pending)
        fitted = learn_effects(state.measured, target.columns)
        marks = _marks(left, state)
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
        """Fit, and take the best.

        Raises:
            DataError: If the surrogate refuses what is known, see its ``fit``.
        """
        fitted, left = self.surrogate.fit(state.measured, seed=seed), state.open(pending)
        objective = Correlation(state.target.on(state.measured.readouts), "pearson")
        worth = objective.predicted(fitted.predict(left)).mean
        return Recommendation.of(state, left.rows(best_first(worth, count)))


_AT_ONCE = 256
_SMALLEST = 1e-12
_MOST_STEPS = 60  # of the optimiser of the likelihood


@dataclass(frozen=True)
class StateProcess:
    """Takes the candidates of largest expected improvement of the utility under a process on it.

    Genes have no coordinates. A candidate's are the profile that additive gene effects, learnt from the same
    experiments, expect of it, so that the process sees the same model as :class:`StateGreedy`, and corrects it.
    """

    def recommend(
        self, state: DecisionState, count: int, *, pending: tuple[Perturbation, ...], seed: int
    ) -> Recommendation:
        """Fit ``SingleTaskGP``, and rank by the logarithm of the expected improvement.

        Raises:
            DataError: If fewer than three perturbations were measured.
        """
        fitted, left = learn_effects(state.measured), state.open(pending)
        known, offered = (_marks(batch, state) for batch in (state.measured.batch, left))
        every = fitted.predict(torch.cat([known, offered]))
        low, high = every.amin(0), every.amax(0)
        inputs = (every - low) / (high - low).clamp(min=_SMALLEST)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            rows, utility = _best(inputs, state.utility, count, level=state.level)
        return Recommendation.of(state, left.rows(rows), utility=utility)


def _best(
    inputs: Float[Tensor, "c d"], utility: Float[Tensor, "m"], count: int, *, level: float
) -> tuple[Int[Tensor, "q"], tuple[Float[Tensor, "q"], Float[Tensor, "q"], Float[Tensor, "q"]]]:
    """Fit to the first inputs, whose utility is known, and find the best of the others, with bounds."""
    from botorch.fit import fit_gpytorch_mll  # noqa: PLC0415 - slow to import, only needed here
    from botorch.models import SingleTaskGP  # noqa: PLC0415
    from gpytorch.mlls import ExactMarginalLogLikelihood  # noqa: PLC0415

    known, offered = inputs[: len(utility)], inputs[len(utility) :]
    model = SingleTaskGP(known, utility[:, None])
    likelihood = ExactMarginalLogLikelihood(model.likelihood, model)
    fit_gpytorch_mll(likelihood, optimizer_kwargs={"options": {"maxiter": _MOST_STEPS}})
    with torch.no_grad():
        # A posterior of many at once is cheaper than many posteriors of one.
        parts = [model.posterior(part) for part in offered.split(_AT_ONCE)]
        mean, variance = (torch.cat([getattr(part, of)[:, 0] for part in parts]) for of in ("mean", "variance"))
        belief = UtilityPosterior(mean, variance.clamp(min=0))
        rows = best_first(log_expected_improvement(belief, float(utility.max())).score, count)
        posterior = model.posterior(offered[rows], observation_noise=True)
        middle = posterior.mean[:, 0]
        half = NormalDist().inv_cdf((1 + level) / 2) * posterior.variance[:, 0].sqrt()
    return rows, (middle, middle - half, middle + half)


_SLOTS = ("first", "second")


@dataclass(frozen=True)
class StateTrial:
    """Asks Optuna for two genes, one experiment after another.

    Most pairs that it names are no candidates. Then an open candidate with the first of the two genes is taken at
    random, or with the second, or any.
    """

    def recommend(
        self, state: DecisionState, count: int, *, pending: tuple[Perturbation, ...], seed: int
    ) -> Recommendation:
        """Tell what was revealed, and ask.

        Raises:
            DataError: If a candidate is not a pair.
        """
        left, measured = state.open(pending), state.measured
        if bool((left.order != 2).any()):
            raise DataError(
                "Optuna is asked for two genes, and some candidates are no pairs; take another recommender"
            )
        tried = torch.nonzero(measured.batch.order == 2).flatten()
        known = joined_rows(measured.batch.genes, left.genes)[tried, :2]
        names = _names(torch.cat([known, left.genes[:, :2]]))
        study = _study(known, state.utility[tried], names, seed)
        open_pairs = _OpenPairs.of(left, seed)
        rows = []
        for _ in range(min(count, len(left))):
            trial = study.ask(names)
            rows.append(open_pairs.take(*(trial.params[name] for name in _SLOTS)))
        return Recommendation.of(state, left.rows(torch.tensor(rows)))


@dataclass(frozen=True)
class _OpenPairs:
    """Candidates that are left; rows of each gene in an order drawn at random."""

    row_of: dict[tuple[int, int], int]
    rows_with: dict[int, list[int]]
    rows: list[int]
    free: set[int]

    @classmethod
    def of(cls, candidates: PerturbationBatch, seed: int) -> "_OpenPairs":
        rows = torch.randperm(len(candidates), generator=torch.Generator().manual_seed(seed)).tolist()
        row_of, rows_with = {}, defaultdict(list)
        for row in rows:
            first, second = candidates.genes[row, :2].tolist()
            row_of[first, second] = row
            rows_with[first].append(row)
            rows_with[second].append(row)
        return cls(row_of, rows_with, rows, set(rows))

    def take(self, first: int, second: int) -> int:
        """Take the pair out, or what stands in for it."""
        wanted = self.row_of.get((min(first, second), max(first, second)))
        named = [] if wanted is None else [wanted]
        stand_ins = (*named, *self.rows_with.get(first, ()), *self.rows_with.get(second, ()), *self.rows)
        row: int = next(row for row in stand_ins if row in self.free)
        self.free.remove(row)
        return row


def _names(pairs: Int[Tensor, "c 2"]) -> dict[str, Any]:
    from optuna.distributions import CategoricalDistribution  # noqa: PLC0415 - slow to import, only needed here

    return {
        name: CategoricalDistribution(genes.unique().tolist()) for name, genes in zip(_SLOTS, pairs.T, strict=True)
    }


def _study(known: Int[Tensor, "m 2"], utility: Float[Tensor, "m"], names: dict[str, Any], seed: int) -> Any:  # noqa: ANN401 - a study, of a library that is imported late
    """Make a study of what was measured."""
    import optuna  # noqa: PLC0415

    before = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    try:
        study = optuna.create_study(direction="maximize", sampler=optuna.samplers.TPESampler(seed=seed % 2**32))
    finally:
        optuna.logging.set_verbosity(before)
    for pair, worth in zip(known.tolist(), utility.tolist(), strict=True):
        genes = dict(zip(_SLOTS, pair, strict=True))
        study.add_trial(optuna.trial.create_trial(params=genes, distributions=names, value=worth))
    return study
