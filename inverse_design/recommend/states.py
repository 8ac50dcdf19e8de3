"""Recommenders that reach a state, from profiles of combinations.

Ours ranks by the likelihood of the target and by the expected distance, in turns. Beside it stand greedy and
static additive effects, a surrogate compared in the target's direction, BoTorch's Gaussian process on the
distance, and Optuna's tree-structured Parzen estimator on the names of the genes.
"""

from collections import defaultdict
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from inverse_design.acquisition.gain import LogExpectedImprovement
from inverse_design.acquisition.posterior import UtilityPosterior
from inverse_design.problem.objective import Correlation
from inverse_design.problem.target import AlignedProfile, is_state
from inverse_design.recommend.environment import Choice, Known, Pool
from inverse_design.recommend.state_effects import GeneEffects, learn_effects, marks_of
from surrogates.data.vocabulary import PerturbationBatch
from surrogates.errors import DataError
from surrogates.models.base import Surrogate


@dataclass(frozen=True)
class StateGreedy:
    """Takes the candidates of which the expected profile is best: uncertainty does not count."""

    def choose(self, pool: Pool, known: Known, count: int, *, seed: int) -> Choice:  # noqa: ARG002 - not random
        """Learn, and take the best.

        Raises:
            DataError: If fewer than three perturbations were measured.
        """
        return _nearest(learn_effects(pool, known), pool, known, count)


@dataclass(frozen=True)
class StateStatic:
    """Learns once, from what was revealed first, and goes down the list."""

    learnt: int  # how many of the first revealed candidates it learns from

    def choose(self, pool: Pool, known: Known, count: int, *, seed: int) -> Choice:  # noqa: ARG002 - not random
        """Take the next of the list.

        Raises:
            DataError: If fewer than three perturbations were measured.
        """
        first = slice(self.learnt)
        start = Known(known.rows[first], known.effects[first], known.utility[first])
        return _nearest(learn_effects(pool, start), pool, known, count)


def _nearest(fitted: GeneEffects, pool: Pool, known: Known, count: int) -> Choice:
    free = known.open_rows(pool)
    worth = pool.worth(fitted.predict(marks_of(pool, free)), free)
    return Choice(free[worth.argsort(descending=True, stable=True)[:count]])


_DRAWS = 200  # behind the stated bounds
_TAIL = 0.05  # on each side of them


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

    def choose(self, pool: Pool, known: Known, count: int, *, seed: int) -> Choice:
        """Learn what genes do to the readouts of the target, and take the best by either measure.

        Raises:
            DataError: If fewer than three perturbations were measured, or the target is no state.
        """
        if not is_state(pool.target):
            raise DataError(f"target {pool.target.name!r} is a direction and cannot be reached; name a profile")
        target, free = pool.target.on(pool.before.readouts), known.open_rows(pool)
        fitted = learn_effects(pool, known, target.columns)
        marks = marks_of(pool, free)
        likely = fitted.log_density(marks, target.values)
        near = -((fitted.predict(marks) - target.values).square() @ target.weights)
        orders = [score.argsort(descending=True, stable=True)[:count] for score in (likely, near)]
        # Either list alone would fill the round, so without repeats there are enough.
        rows = free[list(dict.fromkeys(torch.stack(orders, 1).flatten().tolist()))[:count]]
        return Choice(rows, *_bounds(fitted, pool, target, rows, seed))


def _bounds(
    fitted: GeneEffects, pool: Pool, target: AlignedProfile, rows: Int[Tensor, "q"], seed: int
) -> tuple[Float[Tensor, "q"], Float[Tensor, "q"]]:
    """Bound utilities by draws of what would be measured."""
    drawn = fitted.sample(marks_of(pool, rows), _DRAWS, torch.Generator().manual_seed(seed))
    # Readouts that the target leaves open do not count.
    effects = torch.zeros(_DRAWS * len(rows), len(pool.before.readouts), dtype=torch.float64)
    effects[:, target.columns] = drawn.flatten(0, 1)
    worth = pool.worth(effects, rows.repeat(_DRAWS)).reshape(_DRAWS, len(rows))
    lower, upper = worth.quantile(torch.tensor([_TAIL, 1 - _TAIL], dtype=torch.float64), dim=0)
    return lower, upper


@dataclass(frozen=True)
class StateMatch:
    """Takes the candidates of which the predicted profile correlates best with the target.

    Combinations fall short of the sum of their parts by an unknown factor, which differs between pairs; while no
    combination was measured nothing can be learnt of it, and a correlation does not depend on it.
    """

    surrogate: Surrogate  # learns from what was measured before and since, anew in each round

    def choose(self, pool: Pool, known: Known, count: int, *, seed: int) -> Choice:
        """Fit, and take the best.

        Raises:
            DataError: If the surrogate refuses what is known, see its ``fit``.
        """
        fitted = self.surrogate.fit(known.screen(pool), seed=seed)
        free = known.open_rows(pool)
        objective = Correlation(pool.target.on(pool.before.readouts), "pearson")
        worth = objective.predicted(fitted.predict(pool.candidates.rows(free))).mean
        return Choice(free[worth.argsort(descending=True, stable=True)[:count]])


_AT_ONCE = 256
_SMALLEST = 1e-12
_HALF = 1.645  # of a 90 % interval, in standard deviations
_MOST_STEPS = 60  # of the optimiser of the likelihood


@dataclass(frozen=True)
class StateProcess:
    """Takes the candidates of largest expected improvement of the utility under a process on it.

    Genes have no coordinates. A candidate's are the profile that additive gene effects, learnt from the same
    experiments, expect of it, so that the process sees the same model as :class:`StateGreedy`, and corrects it.
    """

    def choose(self, pool: Pool, known: Known, count: int, *, seed: int) -> Choice:
        """Fit ``SingleTaskGP``, and rank by the logarithm of the expected improvement.

        Raises:
            DataError: If fewer than three perturbations were measured.
        """
        fitted, free = learn_effects(pool, known), known.open_rows(pool)
        every = fitted.predict(pool.candidates.multi_hot(len(pool.before.vocabulary)))
        low, high = every.amin(0), every.amax(0)
        inputs = (every - low) / (high - low).clamp(min=_SMALLEST)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            return _best(inputs, known, free, count)


def _best(inputs: Float[Tensor, "c d"], known: Known, free: Int[Tensor, "f"], count: int) -> Choice:
    from botorch.fit import fit_gpytorch_mll  # noqa: PLC0415 - slow to import, only needed here
    from botorch.models import SingleTaskGP  # noqa: PLC0415
    from gpytorch.mlls import ExactMarginalLogLikelihood  # noqa: PLC0415

    model = SingleTaskGP(inputs[known.rows], known.utility[:, None])
    likelihood = ExactMarginalLogLikelihood(model.likelihood, model)
    fit_gpytorch_mll(likelihood, optimizer_kwargs={"options": {"maxiter": _MOST_STEPS}})
    with torch.no_grad():
        # A posterior of many at once is cheaper than many posteriors of one.
        parts = [model.posterior(part) for part in inputs[free].split(_AT_ONCE)]
        mean, variance = (torch.cat([getattr(part, of)[:, 0] for part in parts]) for of in ("mean", "variance"))
        score = LogExpectedImprovement().score(
            UtilityPosterior(mean, variance.clamp(min=0)), float(known.utility.max())
        )
        rows = free[score.argsort(descending=True, stable=True)[:count]]
        posterior = model.posterior(inputs[rows], observation_noise=True)
        middle, half = posterior.mean[:, 0], _HALF * posterior.variance[:, 0].sqrt()
    return Choice(rows, middle - half, middle + half)


_SLOTS = ("first", "second")


@dataclass(frozen=True)
class StateTrial:
    """Asks Optuna for two genes, one experiment after another.

    Most pairs that it names are no candidates. Then an open candidate with the first of the two genes is taken at
    random, or with the second, or any.
    """

    def choose(self, pool: Pool, known: Known, count: int, *, seed: int) -> Choice:
        """Tell what was revealed, and ask.

        Raises:
            DataError: If a candidate is not a pair.
        """
        if bool((pool.candidates.order != 2).any()):
            raise DataError("Optuna is asked for two genes, and some candidates are no pairs; take another policy")
        study = _told(pool, known, seed)
        open_pairs = _OpenPairs.of(pool.candidates, known.open_rows(pool).tolist(), seed)
        names = _names(pool.candidates)
        rows = []
        for _ in range(count):
            trial = study.ask(names)
            rows.append(open_pairs.take(*(trial.params[name] for name in _SLOTS)))
        return Choice(torch.tensor(rows))


@dataclass(frozen=True)
class _OpenPairs:
    """Candidates that are left; rows of each gene in an order drawn at random."""

    row_of: dict[tuple[int, int], int]
    rows_with: dict[int, list[int]]
    rows: list[int]
    free: set[int]

    @classmethod
    def of(cls, candidates: PerturbationBatch, free: list[int], seed: int) -> "_OpenPairs":
        order = torch.randperm(len(free), generator=torch.Generator().manual_seed(seed)).tolist()
        rows = [free[number] for number in order]
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


def _names(candidates: PerturbationBatch) -> dict[str, Any]:
    from optuna.distributions import CategoricalDistribution  # noqa: PLC0415 - slow to import, only needed here

    return {
        name: CategoricalDistribution(candidates.genes[:, slot].unique().tolist())
        for slot, name in enumerate(_SLOTS)
    }


def _told(pool: Pool, known: Known, seed: int) -> Any:  # noqa: ANN401 - a study, of a library that is imported late
    """Make a study of what was revealed."""
    import optuna  # noqa: PLC0415

    before = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    try:
        study = optuna.create_study(direction="maximize", sampler=optuna.samplers.TPESampler(seed=seed % 2**32))
    finally:
        optuna.logging.set_verbosity(before)
    names = _names(pool.candidates)
    for row, worth in zip(known.rows.tolist(), known.utility.tolist(), strict=True):
        genes = dict(zip(_SLOTS, pool.candidates.genes[row].tolist(), strict=False))
        study.add_trial(optuna.trial.create_trial(params=genes, distributions=names, value=worth))
    return study
