"""Yardsticks that reach a state: greedy and static sums, BoTorch on the distance, Optuna on the genes."""

from collections import defaultdict
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from inverse_design.acquisition.acquisition import UtilityPosterior, log_expected_improvement
from inverse_design.recommend.protocol import DecisionState, Recommendation, best_first, joined_rows
from inverse_design.recommend.states import learn_effects, marks_of
from surrogates.data.perturbation import Perturbation
from surrogates.data.screen import Screen
from surrogates.data.vocabulary import PerturbationBatch
from surrogates.errors import DataError


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
    worth = state.worth(fitted.predict(marks_of(left, state)))
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
        known, offered = (marks_of(batch, state) for batch in (state.measured.batch, left))
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
