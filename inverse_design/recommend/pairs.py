"""How recommenders for pairs see a state: two genes for each candidate, and what each gene is worth alone.

The greedy yardstick: a line in the two singles plus a ridge of genes, and no thought of what is uncertain.

The tree-structured Parzen estimator of Optuna, on the two singles of a pair.

A standard Gaussian process of BoTorch on descriptors of pairs, with the expected improvement.
"""

import warnings
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from inverse_design.acquisition.acquisition import UtilityPosterior, log_expected_improvement
from inverse_design.recommend.protocol import DecisionState, RandomChoice, Recommendation, best_first, joined_rows
from surrogates.data.perturbation import Perturbation
from surrogates.data.vocabulary import PerturbationBatch
from surrogates.errors import DataError


@dataclass(frozen=True)
class PairView:
    """A state whose candidates are pairs."""

    left: PerturbationBatch  # the candidates that may be chosen
    known: Int[Tensor, "m 2"]  # genes of each pair that was measured
    utility: Float[Tensor, "m"]  # what that is worth
    alone: Float[Tensor, "v"]  # utility of each gene alone, in standard units; zero where it was not measured

    @property
    def pairs(self) -> Int[Tensor, "c 2"]:
        """Genes of each candidate."""
        return self.left.genes[:, :2]

    def parts(self, pairs: Int[Tensor, "b 2"]) -> Float[Tensor, "b 2"]:
        """Look up what the genes of pairs are worth alone, the lower first."""
        return self.alone[pairs].sort(dim=1).values


def pair_view(state: DecisionState, pending: tuple[Perturbation, ...] = ()) -> PairView:
    """See a state as one of pairs."""
    left, measured = state.open(pending), state.measured
    if bool((odd := left.order != 2).any()):
        label = state.label(left.genes[int(odd.nonzero()[0])])
        raise DataError(f"candidate {label!r} is no pair; this recommender needs pairs only")
    rows = measured.single_rows
    if int((rows >= 0).sum()) < 2:
        raise DataError("fewer than two genes were measured alone; this recommender needs their effects")
    utility = state.utility[rows[rows >= 0]]
    alone = torch.zeros(len(rows), dtype=torch.float64)
    alone[rows >= 0] = (utility - utility.mean()) / utility.std().clamp(min=1e-12)
    known = torch.nonzero(measured.batch.order == 2).flatten()
    genes = joined_rows(measured.batch.genes, left.genes)[known, :2]
    return PairView(left, genes, state.utility[known], alone)


@dataclass(frozen=True)
class PairRidge:
    """Measures the pairs with the largest expected utility, by least squares and a ridge on its residuals."""

    penalty: float = 3.0  # on the squared effect of each gene, in units of the squared error of one measurement

    def __post_init__(self) -> None:
        """Refuse a penalty that is not positive."""
        if not self.penalty > 0:
            raise DataError(f"penalty {self.penalty} is not positive")

    def recommend(
        self, state: DecisionState, count: int, *, pending: tuple[Perturbation, ...], seed: int
    ) -> Recommendation:
        """Take the best expected."""
        del seed
        view = pair_view(state, pending)
        known, offered = _design(view.parts(view.known)), _design(view.parts(view.pairs))
        line = torch.linalg.pinv(known) @ view.utility
        gene = self._genes(view.known, view.utility - known @ line, len(view.alone))
        expected = offered @ line + gene[view.pairs].sum(1)
        return Recommendation.of(state, view.left.rows(best_first(expected, count)))

    def _genes(self, pairs: Int[Tensor, "m 2"], left: Float[Tensor, "m"], size: int) -> Float[Tensor, "v"]:
        marks = torch.zeros(len(pairs), size, dtype=torch.float64)
        marks.scatter_(1, pairs, 1.0)
        penalty = self.penalty * torch.eye(size, dtype=torch.float64)
        effects: Tensor = torch.linalg.solve(marks.T @ marks + penalty, marks.T @ left)
        return effects


def _design(parts: Float[Tensor, "b 2"]) -> Float[Tensor, "b 3"]:
    return torch.cat([torch.ones_like(parts[:, :1]), parts], 1)


_AXES = ("lower", "higher")


@dataclass(frozen=True)
class PairTrial:
    """Asks Optuna for two numbers, and takes the nearest pair that is left.

    The axes are the ranks, from zero to one, of the two genes by their utility alone. What is asked for in a round
    stays pending in it, with the pessimistic outcome that Optuna calls a constant liar.
    """

    def recommend(
        self, state: DecisionState, count: int, *, pending: tuple[Perturbation, ...], seed: int
    ) -> Recommendation:
        """Ask."""
        view = pair_view(state, pending)
        ranks = view.alone.argsort(stable=True).argsort(stable=True).double() / max(1, len(view.alone) - 1)
        known, places = (ranks[pairs].sort(dim=1).values for pairs in (view.known, view.pairs))
        study, axes = _study(known, view.utility, seed)
        taken = torch.zeros(len(places), dtype=torch.bool)
        rows = []
        for _ in range(min(count, len(places))):
            asked = study.ask(axes)
            wanted = torch.tensor([asked.params[axis] for axis in _AXES], dtype=torch.float64).sort().values
            apart = (places - wanted).square().sum(1).masked_fill(taken, torch.inf)
            rows.append(int(apart.argmin()))
            taken[rows[-1]] = True
        return Recommendation.of(state, view.left.rows(torch.tensor(rows)))


def _study(places: Float[Tensor, "m 2"], utility: Float[Tensor, "m"], seed: int) -> tuple[Any, dict[str, Any]]:
    import optuna  # noqa: PLC0415 - slow to import, and only this policy needs it

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        sampler = optuna.samplers.TPESampler(seed=seed % 2**32, constant_liar=True, multivariate=True)
    study = optuna.create_study(direction="maximize", sampler=sampler)
    axes: dict[str, Any] = {axis: optuna.distributions.FloatDistribution(0.0, 1.0) for axis in _AXES}
    study.add_trials(
        [
            optuna.trial.create_trial(
                params=dict(zip(_AXES, place, strict=True)), distributions=dict(axes), value=value
            )
            for place, value in zip(places.tolist(), utility.tolist(), strict=True)
        ]
    )
    return study, axes


_FEWEST = 2
_AT_ONCE = 512


@dataclass(frozen=True)
class PairBotorch:
    """Measures the pairs with the largest logarithmic expected improvement, one by one.

    A pair is described by the sum and the absolute difference of what describes its genes: what they do alone, and
    the leading axes of the descriptors of the state.
    """

    axes: int = 3  # how many axes of each descriptor are used

    def __post_init__(self) -> None:
        """Refuse a negative number of axes."""
        if self.axes < 0:
            raise DataError(f"{self.axes} axes of a descriptor; take none or more")

    def recommend(
        self, state: DecisionState, count: int, *, pending: tuple[Perturbation, ...], seed: int
    ) -> Recommendation:
        """Take those of the largest expected improvement."""
        view = pair_view(state, pending)
        if len(view.known) < _FEWEST:
            return RandomChoice().recommend(state, count, pending=pending, seed=seed)
        known, offered = self._features(state, view)
        score = _log_improvement(known, view.utility, offered)
        return Recommendation.of(state, view.left.rows(best_first(score, count)))

    def _features(self, state: DecisionState, view: PairView) -> tuple[Float[Tensor, "m p"], Float[Tensor, "c p"]]:
        """Describe the measured pairs and the candidates, each coordinate from zero to one over them all."""
        vocabulary = state.measured.vocabulary
        axes = [each.coordinates(vocabulary, rank=self.axes)[0] for each in state.descriptors if self.axes]
        genes = torch.cat([view.alone[:, None], *axes], 1)
        pairs = torch.cat([view.known, view.pairs])
        one, other = genes[pairs[:, 0]], genes[pairs[:, 1]]
        features = torch.cat([one + other, (one - other).abs()], 1)
        low, high = features.amin(0), features.amax(0)
        scaled = (features - low) / (high - low).clamp(min=1e-12)
        return scaled[: len(view.known)], scaled[len(view.known) :]


def _log_improvement(
    features: Float[Tensor, "m p"], utility: Float[Tensor, "m"], offered: Float[Tensor, "c p"]
) -> Float[Tensor, "c"]:
    from botorch import fit_gpytorch_mll  # noqa: PLC0415 - slow to import, and only this recommender needs it
    from botorch.models import SingleTaskGP  # noqa: PLC0415
    from gpytorch.mlls import ExactMarginalLogLikelihood  # noqa: PLC0415

    standard = (utility - utility.mean()) / utility.std().clamp(min=1e-12)
    model = SingleTaskGP(features, standard[:, None], outcome_transform=None)
    fit_gpytorch_mll(ExactMarginalLogLikelihood(model.likelihood, model))
    scores = []
    for part in offered.split(_AT_ONCE):
        with torch.no_grad():
            posterior = model.posterior(part)
            belief = UtilityPosterior(posterior.mean[:, 0], posterior.variance[:, 0].clamp(min=0))
        scores.append(log_expected_improvement(belief, float(standard.max())).score)
    return torch.cat(scores)
