"""Invariant causal prediction: the parents of a gene, at a stated level [Peters 2016; Meinshausen 2016]."""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from graphlib import CycleError, TopologicalSorter

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from surrogates.contrib.causal.design import ParentTable
from surrogates.data.io.cells import Cells
from surrogates.errors import DataError, UnknownNameError, shown

_FEWEST = 5  # cells of an environment: spreads are compared
_STEPS = 50  # of the path of the lasso


@dataclass(frozen=True)
class Invariant:
    """What invariance says of one gene."""

    response: str  # the gene
    parents: tuple[str, ...]  # in every accepted set: with a probability of one minus the level all are parents
    # How many sets of genes leave residuals alike in all environments; with none, the assumptions fail (a cycle,
    # or a hidden cause that is acted on).
    accepted: int
    candidates: tuple[str, ...]  # what the lasso has preselected


@dataclass(frozen=True)
class Invariance:
    """Intersect the sets of genes given which a gene has the same residuals in all environments.

    For each set ``S`` of genes that a lasso preselects, the gene is regressed on ``S`` in all cells together.
    Residuals of each environment are compared with those of the others, in mean [Welch] and in variance [F], with
    Bonferroni's correction for both tests and for environments [Peters 2016, method II]; a set is accepted above
    the level. Environments are conditions: the control, each perturbation, each context. Cells in which the gene
    itself is acted on say nothing of its parents and are left out [Meinshausen 2016]. There must be no cycle.
    """

    level: float = 0.05  # probability of any false parent of a gene, if the lasso has kept its parents
    most: int = 8  # how many genes the lasso keeps: their subsets are all tested

    def __post_init__(self) -> None:
        """Refuse a level that is no probability, and more sets than can be tested."""
        if not 0 < self.level < 1 or not 1 <= self.most <= 12:
            raise DataError(f"level {self.level!r} and most {self.most!r} must be in (0, 1) and 1 to 12")

    def parents(self, cells: Cells, response: str) -> Invariant:
        """Find the parents of one gene."""
        if response not in cells.readouts:
            raise UnknownNameError.from_known("readout", response, cells.readouts)
        values, environment = _environments(cells, response)
        column = cells.readouts.index(response)
        chosen = _preselected(values, column, self.most)
        moments = ResidualMoments.of(values[:, [column, *chosen]], environment)
        sets = subsets(len(chosen))
        accepted = sets[moments.p_values(sets) > self.level]
        always = accepted.all(0) if len(accepted) else torch.zeros(len(chosen), dtype=torch.bool)
        names = [cells.readouts[at] for at in chosen]
        found = tuple(name for name, kept in zip(names, always.tolist(), strict=True) if kept)
        return Invariant(response, found, len(accepted), tuple(names))

    def graph(self, cells: Cells) -> ParentTable:
        """Find the parents of every readout, for ``Causal(parents=...)``; readouts without any are left out."""
        each = [self.parents(cells, readout) for readout in cells.readouts]
        found = tuple((one.response, one.parents) for one in each if one.parents)
        refuse_cycles(found)
        return found


def refuse_cycles(parents: ParentTable) -> None:
    """Name a cycle, if there is one."""
    try:
        TopologicalSorter(dict(parents)).prepare()
    except CycleError as error:
        cycle = " -> ".join(map(shown, error.args[1][:6]))
        raise DataError(
            f"the parents form a cycle, {cycle}: invariance assumes none; take Causal() without parents, or"
            " SteadyStates, which both allow cycles"
        ) from error


def subsets(size: int) -> Bool[Tensor, "m k"]:
    """List all sets of some things."""
    numbers = torch.arange(2**size)
    return (numbers[:, None] >> torch.arange(size)) % 2 == 1


@dataclass(frozen=True)
class ResidualMoments:
    """Means and covariances of a response (first) and its candidates, inside and outside each environment."""

    counts: Float[Tensor, "2 e"]
    means: Float[Tensor, "2 e k"]
    covariances: Float[Tensor, "2 e k k"]  # with one less than the count as the divisor
    pooled: Float[Tensor, "k k"]  # covariance of all

    @classmethod
    def of(cls, values: Float[Tensor, "n k"], environment: Int[Tensor, "n"]) -> "ResidualMoments":
        """Sum up; of two environments one is the outside of the other, and only one is kept."""
        labels = environment.unique()
        inside = [environment == label for label in (labels[:1] if len(labels) == 2 else labels)]
        parts = [[values[rows] for rows in inside], [values[~rows] for rows in inside]]
        return cls(
            torch.tensor([[float(len(each)) for each in side] for side in parts], dtype=values.dtype),
            torch.stack([torch.stack([each.mean(0) for each in side]) for side in parts]),
            torch.stack(
                [torch.stack([torch.cov(each.T).reshape(2 * values.shape[1:]) for each in side]) for side in parts]
            ),
            torch.cov(values.T).reshape(2 * values.shape[1:]),
        )

    def p_values(self, sets: Bool[Tensor, "m k"]) -> Float[Tensor, "m"]:
        """Test whether the residuals on each set are alike in all environments."""
        from scipy import stats  # noqa: PLC0415 - a second to import, and only needed here

        direction = torch.cat([sets.new_ones(len(sets), 1).to(self.means.dtype), -self._slopes(sets)], dim=1)
        mean = (self.means @ direction.T).numpy()
        variance = (
            torch.einsum("mi,seij,mj->sem", direction, self.covariances, direction).clamp(min=1e-300).numpy()
        )
        count = self.counts[:, :, None].numpy()
        inside, outside = zip(mean, np.sqrt(variance), count, strict=True)
        apart = stats.ttest_ind_from_stats(*inside, *outside, equal_var=False).pvalue
        ratio, freedom = variance[0] / variance[1], (count[0] - 1, count[1] - 1)
        spread = 2 * np.minimum(stats.f.cdf(ratio, *freedom), stats.f.sf(ratio, *freedom))
        tests = 2 * len(mean[0])
        return torch.from_numpy((tests * np.minimum(apart, spread).min(0)).clip(max=1.0))

    def _slopes(self, sets: Bool[Tensor, "m k"]) -> Float[Tensor, "m k"]:
        """Regress the response on each set, zeros elsewhere."""
        inside = sets.to(self.pooled.dtype)
        system = self.pooled[1:, 1:] * inside[:, :, None] * inside[:, None, :]
        size = float(self.pooled.diagonal().mean().clamp(min=1e-300))
        system = system + torch.diag_embed((1 - inside) + 1e-10 * size * inside)
        slopes: Float[Tensor, "m k"] = torch.linalg.solve(system, inside * self.pooled[1:, 0])
        return slopes


def _environments(cells: Cells, response: str) -> tuple[Float[Tensor, "n g"], Int[Tensor, "n"]]:
    """Values and environments of the cells in which a gene is not acted on itself."""
    hit = torch.tensor([response in each.targets for each in cells.perturbations])
    kept = ~hit[cells.codes]
    values, environment = cells.values[kept].to(torch.float64), cells.codes[kept]
    labels, counts = environment.unique(return_counts=True)
    if len(labels) < 2:
        raise DataError(
            f"{shown(response)} is seen in {len(labels)} environment where it is not acted on itself; invariance"
            " compares two or more conditions"
        )
    if int(counts.min()) < _FEWEST:
        at = int(labels[counts.argmin()])
        raise DataError(
            f"{int(counts.min())} cells of {shown(str(cells.perturbations[at]) or 'the control')} are too few to"
            f" compare spreads; give {_FEWEST} or more, or leave the condition out"
        )
    return values, environment


def _preselected(values: Float[Tensor, "n g"], column: int, most: int) -> Sequence[int]:
    """Take the genes that enter a lasso of one gene on the others first."""
    from sklearn.exceptions import ConvergenceWarning  # noqa: PLC0415 - seconds to import, and only needed here
    from sklearn.linear_model import lasso_path  # noqa: PLC0415

    others = [at for at in range(values.shape[1]) if at != column]
    scaled = ((values - values.mean(0)) / values.std(0).clamp(min=1e-12)).numpy()
    if len(others) <= most:
        return others
    x, y = scaled[:, others], scaled[:, column]
    # A readout that never varies has nothing in common with others: no parents, and no path of zeros.
    largest = max(float(np.abs(x.T @ y).max()) / len(y), np.finfo(y.dtype).tiny)
    with warnings.catch_warnings():  # which genes enter first is settled long before the coefficients are
        warnings.simplefilter("ignore", ConvergenceWarning)
        _, path, _ = lasso_path(x, y, alphas=np.geomspace(largest, 0.01 * largest, _STEPS), tol=1e-3)
    present = path != 0
    first = np.where(present.any(1), present.argmax(1), _STEPS)
    order = np.lexsort((-np.abs(path[:, -1]), first))
    return sorted(others[at] for at in order[:most])
