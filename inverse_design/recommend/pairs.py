"""Pairs of genes as candidates, and the yardsticks on them.

Greedy is a line in the two single effects plus a ridge of genes, without uncertainty; the other is Optuna's
tree-structured Parzen estimator on the two singles.
"""

import warnings
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from inverse_design.acquisition.utility import measured_utility
from inverse_design.recommend.environment import Choice, Known, Pool
from surrogates.errors import DataError


@dataclass(frozen=True)
class PairView:
    """A pool of pairs."""

    pairs: Int[Tensor, "c 2"]  # genes of each candidate
    alone: Float[Tensor, "v"]  # utility of each gene alone, in standard units; zero where it was not measured

    def parts(self) -> Float[Tensor, "c 2"]:
        """Look up what the genes of each candidate are worth alone."""
        return self.alone[self.pairs].sort(dim=1).values


def pair_view(pool: Pool) -> PairView:
    """See a pool as pairs.

    Raises:
        DataError: If a candidate is no pair, or fewer than two genes were measured alone.
    """
    candidates = pool.candidates
    if bool((odd := candidates.order != 2).any()):
        label = pool.before.vocabulary.perturbation(candidates.genes[int(odd.nonzero()[0])]).label
        raise DataError(f"candidate {label!r} is no pair; this policy needs pairs only")
    rows = pool.before.single_rows
    if int((rows >= 0).sum()) < 2:
        raise DataError("fewer than two genes were measured alone; this policy needs their effects")
    utility = measured_utility(pool.target, pool.before)[rows[rows >= 0]]
    alone = torch.zeros(len(rows), dtype=torch.float64)
    alone[rows >= 0] = (utility - utility.mean()) / utility.std().clamp(min=1e-12)
    return PairView(candidates.genes[:, :2], alone)


@dataclass(frozen=True)
class PairRidge:
    """Measures the pairs with the largest expected utility, by least squares and a ridge on its residuals."""

    penalty: float = 3.0  # on the squared effect of each gene, in units of the squared error of one measurement

    def __post_init__(self) -> None:
        """Refuse a penalty that is not positive."""
        if not self.penalty > 0:
            raise DataError(f"penalty {self.penalty} is not positive")

    def choose(self, pool: Pool, known: Known, count: int, *, seed: int) -> Choice:  # noqa: ARG002 - not random
        """Take the best expected."""
        view = pair_view(pool)
        parts = view.parts()
        design = torch.cat([torch.ones_like(parts[:, :1]), parts], 1)
        free = known.open_rows(pool)
        line = torch.linalg.pinv(design[known.rows]) @ known.utility
        gene = self._genes(view.pairs[known.rows], known.utility - design[known.rows] @ line, len(view.alone))
        expected = design[free] @ line + gene[view.pairs[free]].sum(1)
        return Choice(free[expected.argsort(descending=True, stable=True)[:count]])

    def _genes(self, pairs: Int[Tensor, "m 2"], left: Float[Tensor, "m"], size: int) -> Float[Tensor, "v"]:
        marks = torch.zeros(len(pairs), size, dtype=torch.float64)
        marks.scatter_(1, pairs, 1.0)
        penalty = self.penalty * torch.eye(size, dtype=torch.float64)
        effects: Tensor = torch.linalg.solve(marks.T @ marks + penalty, marks.T @ left)
        return effects


_AXES = ("lower", "higher")


@dataclass(frozen=True)
class PairTrial:
    """Asks Optuna for two numbers, and takes the nearest pair that is left.

    The axes are the ranks, from zero to one, of the two genes by their utility alone. What is asked for in a round
    stays pending in it, with the pessimistic outcome that Optuna calls a constant liar.
    """

    def choose(self, pool: Pool, known: Known, count: int, *, seed: int) -> Choice:
        """Ask."""
        view = pair_view(pool)
        ranks = view.alone.argsort(stable=True).argsort(stable=True).double() / max(1, len(view.alone) - 1)
        places = ranks[view.pairs].sort(dim=1).values
        study, axes = _study(places[known.rows], known.utility, seed)
        free = known.open_rows(pool)
        left = torch.ones(len(free), dtype=torch.bool)
        rows = []
        for _ in range(count):
            asked = study.ask(axes)
            wanted = torch.tensor([asked.params[axis] for axis in _AXES], dtype=torch.float64).sort().values
            apart = (places[free] - wanted).square().sum(1).masked_fill(~left, torch.inf)
            nearest = int(apart.argmin())
            left[nearest] = False
            rows.append(int(free[nearest]))
        return Choice(torch.tensor(rows))


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
