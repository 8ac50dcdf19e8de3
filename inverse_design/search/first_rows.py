"""What the first rows of held-out targets said, and what was measured: rows of proposals are calibrated on it.

A proposal picks the best of thousands by their likeness to the target, so that its first rows are no random
perturbations, and the likeliest of them is often the very one that made the target. Both are seen among held-out
perturbations. Each held-out double is a target once, under a fit and an error law that have not seen it; the rows
are the held-out doubles of the same fold, itself among them, as of these it is known what would be measured.
"""

import math
from dataclasses import dataclass, replace
from typing import TypeAlias

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from inverse_design.problem.likelihood import TargetLikelihood
from inverse_design.problem.objective import SquaredDistance
from inverse_design.problem.outcome import Distance
from inverse_design.problem.space import CombinationSpace
from inverse_design.search.identification import Identification, Total
from surrogates.data.novelty import SEEN_DOUBLE
from surrogates.data.vocabulary import PerturbationBatch
from surrogates.models.calibrated import Expert, FittedCalibrated
from surrogates.models.stated_errors import FittedStatedErrors, StatedErrors

Ranked: TypeAlias = TargetLikelihood | SquaredDistance  # the objectives of which the outcome is a distance

_TARGETS, _ROWS = 400, 256  # more tell nothing more, and cost their product


@dataclass(frozen=True)
class FirstRows:
    """The first rows of some targets, of which the answer is known.

    Attributes:
        probability: Posterior probability of the first row, among all candidates and the rows.
        expected: Distance to the target that its stated error lets expect, if it did not make the target.
        measured: Distance that was measured; zero if it made the target, as the target is that measurement.
        made: Whether it made the target.
        other_expected: Expected distance of the first row that did not make the target, ``nan`` if there is none.
        other_measured: Its measured distance.
    """

    probability: Float[Tensor, "n"]
    expected: Float[Tensor, "n"]
    measured: Float[Tensor, "n"]
    made: Bool[Tensor, "n"]
    other_expected: Float[Tensor, "n"]
    other_measured: Float[Tensor, "n"]

    def __len__(self) -> int:
        return len(self.probability)


@dataclass(frozen=True)
class Bench:
    """Perturbations that were measured and that a fit has not seen.

    Attributes:
        stating: The fit, with an error law and stated errors that have not seen them either.
        batch: The perturbations.
        effects: What was measured of each.
        inside: Which of them are candidates of the question.
    """

    stating: FittedStatedErrors
    batch: PerturbationBatch
    effects: Float[Tensor, "b g"]
    inside: Bool[Tensor, "b"]

    @property
    def fitted(self) -> FittedCalibrated:
        """The fit with its error law."""
        return self.stating.fitted

    @classmethod
    def of(
        cls,
        stating: FittedStatedErrors,
        batch: PerturbationBatch,
        effects: Float[Tensor, "b g"],
        space: CombinationSpace,
    ) -> "Bench":
        """Ask which of some perturbations are candidates.

        Args:
            stating: A fit that has not seen them.
            batch: The perturbations.
            effects: What was measured of each.
            space: The candidates of the question.

        Returns:
            All of it.
        """
        return cls(stating, batch, effects, space.holds(batch))

    def first(self, objective: Ranked, log_prior: Float[Tensor, "v"], made: int, total: Total) -> FirstRows:
        """Rank the perturbations for one of them as a target.

        Args:
            objective: The question, with a target on the same readouts.
            log_prior: Log prior weight of each vocabulary entry.
            made: Which of them is the target.
            total: The sums over all candidates, the target's maker among them.

        Returns:
            One first row.
        """
        target = replace(objective.target, values=self.effects[made, objective.target.columns])
        distance = Distance(target)
        posterior = self.log_posterior(TargetLikelihood(target, log_prior), made, total)
        worth = posterior
        if isinstance(objective, SquaredDistance):
            worth = replace(objective, target=target).utility(self.fitted, self.batch).mean
        expected = distance.expected(self.stating.predict(self.batch))
        measured = distance.measured(self.effects)
        at, others = int(worth.argmax()), worth.clone()
        others[made] = -torch.inf
        other = int(others.argmax())
        unknown = torch.full((1,), torch.nan, dtype=torch.float64)
        alone = len(worth) == 1
        return FirstRows(
            probability=posterior[at].exp().clamp(max=1)[None],
            expected=expected[at][None],
            measured=measured[at][None],
            made=torch.tensor([at == made]),
            other_expected=unknown if alone else expected[other][None],
            other_measured=unknown if alone else measured[other][None],
        )

    def log_posterior(self, likelihood: TargetLikelihood, made: int, total: Total) -> Float[Tensor, "b"]:
        """Say how probably each made a target, among all candidates and these.

        Args:
            likelihood: The target.
            made: Which of them did, and is counted already.
            total: The sums over all candidates.

        Returns:
            Log probabilities.
        """
        counted = self.inside.clone()
        counted[made] = True
        experts = self.fitted.experts if total.log_sums else (Expert(1.0, self.fitted),)
        sums = total.log_sums or (total.log_sum,)
        found = []
        for expert, log_sum in zip(experts, sums, strict=True):
            density = likelihood.utility(expert.fitted, self.batch).mean
            every = torch.cat([density.new_tensor([log_sum]), density[~counted]]).logsumexp(0)
            found.append(math.log(expert.weight) + density - every)
        return torch.stack(found).logsumexp(0)


def first_rows(
    objective: Ranked,
    log_prior: Float[Tensor, "v"],
    stated: StatedErrors,
    space: CombinationSpace,
    found: Identification,
    *,
    seed: int,
) -> FirstRows:
    """Rank held-out doubles for each of them as a target, as a proposal ranks candidates.

    Args:
        objective: The question.
        log_prior: Log prior weight of each vocabulary entry.
        stated: A surrogate with its cross-fits, which state their errors.
        space: The candidates of the question.
        found: Where the truths of held-out targets stood among them.
        seed: Fixes which targets and rows are taken where there are many.

    Returns:
        The first row of each target.
    """
    generator = torch.Generator().manual_seed(seed)
    taken = torch.randperm(len(found), generator=generator)[:_TARGETS].sort().values
    rows: dict[int, FirstRows] = {}
    for number in found.fold[taken].unique().tolist():
        fold = stated.folds[number]
        if not isinstance(fold.fitted, FittedStatedErrors):
            raise TypeError(f"{type(fold.fitted).__name__} has no error law, so that it ranks nothing")
        asked = taken[found.fold[taken] == number]
        doubles = torch.nonzero(fold.codes == SEEN_DOUBLE).flatten()
        drawn = doubles[torch.randperm(len(doubles), generator=generator)[:_ROWS]]
        kept = torch.cat([drawn, found.row[asked]]).unique()
        bench = Bench.of(fold.fitted, fold.batch.rows(kept), fold.effects[kept], space)
        for each in asked.tolist():
            made = int(torch.searchsorted(kept, found.row[each]))
            rows[each] = bench.first(objective, log_prior, made, found.totals[each])
    return _pooled([rows[each] for each in taken.tolist()])


def _pooled(rows: list[FirstRows]) -> FirstRows:
    none = torch.zeros(0, dtype=torch.float64)
    names = ("probability", "expected", "measured", "other_expected", "other_measured")
    numbers = {name: torch.cat([none, *(getattr(each, name) for each in rows)]) for name in names}
    return FirstRows(made=torch.cat([none.bool(), *(each.made for each in rows)]), **numbers)
