"""What a model promised of the doubles of a screen and what it kept, with what its sets and p-values were worth.

For each outer fold everything (model, error law, temperature, rule of the sets) is learnt from all singles and the
other folds' doubles; each held-out double is the target once, and all pairs of the singles are candidates.
"""

import math
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float, Int
from torch import Tensor

from inverse_design.problem.constraints import Constraints
from inverse_design.problem.problem import candidate_space
from inverse_design.search.inverse_set import UNEXPLAINED
from inverse_design.validate.coverage import judge_sets, percent
from inverse_design.validate.judged import Judged, Kept, compare, promised
from surrogates.data.novelty import double_splits
from surrogates.data.screen import Screen
from surrogates.errors import DataError
from surrogates.evaluation.intervals import target_nodes
from surrogates.models.wrappers.calibrated import FittedCalibrated
from surrogates.uncertainty.dyadic import dyadic_standard_error
from surrogates.uncertainty.selection import Promise


@runtime_checkable
class Model(Protocol):
    """A surrogate that learns its own error laws."""

    def fit(self, screen: Screen, *, seed: int) -> FittedCalibrated:
        """Fit the surrogate and learn how it errs.

        Args:
            screen: Measured effects in one context.
            seed: Fixes the fit.

        Returns:
            The fitted surrogate with its laws.
        """
        ...


@dataclass(frozen=True)
class PromiseCard:
    """What was promised and found of every double that an outer fold held out.

    Attributes:
        judged: Columns of :func:`inverse_design.validate.coverage.judge_sets`, and as ``promised`` the log
            probability of the truth as inner folds found it, in nats.
        nodes: Genes of each double.
        names: What was chosen in each outer fold.
        level: Nominal coverage of the sets.
    """

    judged: Judged
    nodes: Int[Tensor, "n k"]
    names: tuple[str, ...]
    level: float

    @property
    def kept(self) -> Kept:
        """What was promised of the truths beside what was kept, double by double."""
        return compare(self.judged.column("promised"), self.judged.column("log_probability"), self.nodes)

    @property
    def lost(self) -> float:
        """How much less probable truths are than promised: mean difference in dyadic standard errors.

        It is positive if more was promised than kept. Of log probabilities a few truths that are lost altogether
        make the standard error as large as the difference; probabilities are bounded, so that they show.
        """
        promise, kept = self.judged.column("promised").exp(), self.judged.column("log_probability").exp()
        return -compare(promise, kept, self.nodes).difference

    @property
    def shares(self) -> dict[str, tuple[float, float]]:
        """Shares of the doubles, each with its dyadic standard error; ``nan`` where a share is not defined.

        ``top1`` and ``top10`` were found first and among the first ten, ``covered`` are in the set of
        :attr:`level`, and of ``unreachable`` it was said (p of 0.05 or less) that no candidate explains them.
        """
        reachable = self.judged.column("reachable")
        unreachable = torch.where(reachable.isnan(), torch.nan, (reachable <= UNEXPLAINED).double())
        columns = {
            "top1": self.judged.column("hit"),
            "top10": self.judged.column("first_ten"),
            "covered": self.judged.column(f"set_coverage_{percent(self.level)}"),
            "unreachable": unreachable,
        }
        return {name: self._mean(values) for name, values in columns.items()}

    @property
    def set_size(self) -> float:
        """Median number of candidates in a set; ``nan`` where none could be calibrated."""
        sizes = self.judged.column(f"set_size_{percent(self.level)}")
        return float(sizes.nanmedian()) if len(sizes) else math.nan

    def _mean(self, values: Float[Tensor, "n"]) -> tuple[float, float]:
        return float(values.nanmean()), dyadic_standard_error(values, self.nodes)


def measure_promise(screen: Screen, model: Model, *, seed: int, level: float = 0.9) -> PromiseCard:
    """Hold the doubles of a screen out in outer folds, and compare what was promised with what is found.

    Args:
        screen: Measured effects in one context, with singles and doubles.
        model: What is fitted to the training data of each fold.
        seed: Fixes folds (unless the screen brings ``double_fold``) and fits.
        level: Nominal coverage of the sets of candidates.

    Returns:
        One number of each kind for each double of two measured singles.

    Raises:
        DataError: If the screen has no such double, or nothing could be promised.
    """
    parts: list[Judged] = []
    promises: list[Promise] = []
    names = []
    for split in double_splits(screen, seed=seed):
        training = screen.rows(split.train)
        fitted = model.fit(training, seed=seed)
        if fitted.promise is None:
            raise DataError("too few doubles are left to hold some out inside the training data")
        space = candidate_space(training, "2", Constraints(measured="keep"))
        held_out = screen.batch.rows(split.test), screen.effects[split.test]
        sets = judge_sets(fitted, space, *held_out, [level], seed=seed, unexplained=False)
        parts.append(Judged(split.test, sets.columns))
        promises.append(fitted.promise)
        names.append(fitted.name)
    if not parts:
        raise DataError("no double has both of its singles measured, so nothing can be held out and identified")
    judged = Judged.pooled(parts)
    promise = promised(promises, screen.batch.genes[judged.conditions][:, :2])
    nodes = target_nodes(screen.batch.rows(judged.conditions), screen.vocabulary)
    judged = Judged(judged.conditions, {**judged.columns, "promised": promise})
    return PromiseCard(judged, nodes, tuple(names), level)
