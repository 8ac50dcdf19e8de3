"""What an experiment on a listed candidate will show, calibrated on the first rows of held-out targets.

A proposal picks the best of thousands by their likeness to the target, so that its first rows are no random
perturbations, and the likeliest of them often made the target. Both are seen among held-out perturbations: each
held-out double is a target once, under a fit and an error model that have not seen it, and the rows are the
held-out doubles of the same fold, itself among them, as of these it is known what would be measured.

With probability ``P`` the candidate of a row made the target. Then a new measurement of it differs from the target
by the noise of two measurements, and the measurement that is the target itself by nothing. Otherwise its distance
is ``c rho``: ``c`` is what its stated error lets expect, and ``rho`` a ratio of measured to expected distances of
first rows of held-out targets that had not made them. The distribution of a row is the mixture of both. Its
quantiles are conformal: each of ``n`` ratios weighs ``1 / (n + 1)``, shared by the two sides of their median, and
the rest lies at zero and at infinity. The maker's part counts as zero for lower bounds and as noise for upper
ones, so that bounds hold of both readings. The tails that are cut off are the nominal ones, or smaller ones if the
first rows of held-out targets would have left their bounds more often than promised.
"""

import math
from dataclasses import dataclass, replace
from typing import TypeAlias

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from inverse_design.problem.likelihood import Memo, Replicates, TargetLikelihood
from inverse_design.problem.objective import Distance, SquaredDistance
from inverse_design.problem.space import CombinationSpace
from inverse_design.search.identification import Identification, Total
from surrogates.artefact_types import storable
from surrogates.data.novelty import SEEN_DOUBLE
from surrogates.data.vocabulary import PerturbationBatch
from surrogates.models.wrappers.calibrated import Expert, FittedCalibrated
from surrogates.models.wrappers.stated_errors import FittedStatedErrors, StatedErrors
from surrogates.uncertainty.conformal.quantiles import require_count, require_level

Ranked: TypeAlias = TargetLikelihood | SquaredDistance  # the objectives of which the outcome is a distance

_TARGETS, _ROWS = 400, 256  # more tell nothing more, and cost their product


@storable
@dataclass(frozen=True)
class FirstRows:
    """The first rows of some targets, of which the answer is known."""

    probability: Float[Tensor, "n"]  # posterior probability of the first row, among all candidates and the rows
    # Distance to the target that its stated error lets expect, if it did not make the target.
    expected: Float[Tensor, "n"]
    # Distance that was measured; zero if it made the target, as the target is that measurement.
    measured: Float[Tensor, "n"]
    made: Bool[Tensor, "n"]  # whether it made the target
    # Expected distance of the first row that did not make the target, ``nan`` if there is none.
    other_expected: Float[Tensor, "n"]
    other_measured: Float[Tensor, "n"]  # its measured distance

    def __len__(self) -> int:
        return len(self.probability)


@dataclass(frozen=True)
class Bench:
    """Perturbations that were measured and that a fit has not seen."""

    stating: FittedStatedErrors  # the fit, with an error model and stated errors that have not seen them either
    batch: PerturbationBatch  # the perturbations
    effects: Float[Tensor, "b g"]  # what was measured of each
    inside: Bool[Tensor, "b"]  # which of them are candidates of the question

    @property
    def fitted(self) -> FittedCalibrated:
        """The fit with its error model."""
        return self.stating.fitted

    @classmethod
    def of(
        cls,
        stating: FittedStatedErrors,
        batch: PerturbationBatch,
        effects: Float[Tensor, "b g"],
        space: CombinationSpace,
    ) -> "Bench":
        """Ask which of some perturbations are candidates."""
        return cls(stating, batch, effects, space.holds(batch))

    def first(self, objective: Ranked, log_prior: Float[Tensor, "v"], made: int, total: Total) -> FirstRows:
        """Rank the perturbations for one of them as a target."""
        target = replace(objective.target, values=self.effects[made, objective.target.columns])
        distance = Distance(target)
        memo = objective.memo if isinstance(objective, TargetLikelihood) else Memo()
        posterior = self.log_posterior(TargetLikelihood(target, log_prior, memo=memo), made, total)
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
        """Say how probably each made a target, among all candidates and these."""
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
    """Rank held-out doubles for each of them as a target, as a proposal ranks candidates."""
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


_ROUNDING = 1e-9
_NO_NOISE = torch.zeros(1, dtype=torch.float64)


@dataclass(frozen=True)
class StatedDistances:
    """What a measurement of some candidates will show."""

    expected: Float[Tensor, "b"]  # expected distance of a new measurement
    lower: Float[Tensor, "b"]  # lower bounds; zero where the candidate may well have made the target
    upper: Float[Tensor, "b"]  # upper bounds


@dataclass(frozen=True)
class RowLaw:
    """The distribution of the distance of a row, given its probability and what the error model expects."""

    ratio: Float[Tensor, "n"]  # measured over expected distance of first rows that did not make their target
    noise: Replicates  # how far a new measurement is from the target that its perturbation made
    tail: float  # probability that is cut off on either side
    level: float  # nominal probability of the bounds

    @classmethod
    def learn(cls, rows: FirstRows, noise: Replicates, level: float) -> "RowLaw":
        """Learn it from the first rows of held-out targets."""
        require_level(level)
        known = ~rows.other_measured.isnan()
        require_count(int(known.sum()), level, "held-out doubles with another beside them")
        tiny = torch.finfo(torch.float64).tiny
        ratio = rows.other_measured[known].clamp(min=tiny) / rows.other_expected[known].clamp(min=tiny)
        nominal = cls(ratio, noise, (1 - level) / 2, level)
        # Bounds hold of a row if more than the tail lies on both sides of what was measured.
        beside = nominal.beside(rows).sort().values
        allowed = math.floor((len(beside) + 1) * (1 - level) + _ROUNDING)
        tail = min(nominal.tail, max(0.0, float(beside[max(allowed, 1) - 1]) - 2 * _ROUNDING))
        return cls(ratio, noise, tail, level)

    def state(self, probability: Float[Tensor, "b"], expected: Float[Tensor, "b"]) -> StatedDistances:
        """State the distances of rows."""
        mean = probability * self.noise.mean + (1 - probability) * expected * self.ratio.mean()
        low, low_weight = self._support(probability, expected, maker=_NO_NOISE)
        high, high_weight = self._support(probability, expected, maker=self.noise.distances)
        below, above = _below(low, low_weight), _below(-high, high_weight)
        lower = torch.where(below <= self.tail + _ROUNDING, low, 0.0).amax(1)
        inner = torch.where((above <= self.tail + _ROUNDING) & high.isfinite(), high, torch.inf).amin(1)
        return StatedDistances(mean, lower, torch.where(inner.isinf(), self._largest(high), inner))

    def beside(self, rows: FirstRows) -> Float[Tensor, "n"]:
        """Say how much of each row's distribution lies at least on either side of what was measured."""
        low, low_weight = self._support(rows.probability, rows.expected, maker=_NO_NOISE)
        high, high_weight = self._support(rows.probability, rows.expected, maker=self.noise.distances)
        measured = rows.measured[:, None]
        left = torch.where(low <= measured, low_weight, 0.0).sum(1)
        right = torch.where(high >= measured, high_weight, 0.0).sum(1)
        return torch.minimum(left, right)

    def _support(
        self, probability: Float[Tensor, "b"], expected: Float[Tensor, "b"], *, maker: Float[Tensor, "s"]
    ) -> tuple[Float[Tensor, "b t"], Float[Tensor, "b t"]]:
        """List the values of the mixture of each row with their weights."""
        logs = self.ratio.log()
        middle = logs.median()
        reach = (logs - middle).abs()
        sides = torch.cat([middle - reach, middle + reach]).exp()
        ends = torch.tensor([0.0, torch.inf], dtype=torch.float64)
        b, each = len(expected), (1 - probability) / (2 * (len(reach) + 1))
        other = torch.cat([expected[:, None] * sides, ends.expand(b, 2)], dim=1)
        made = maker.expand(b, -1)
        weights = torch.cat(
            [each[:, None].expand_as(other), (probability / len(maker))[:, None].expand_as(made)], 1
        )
        return torch.cat([other, made], dim=1), weights

    @staticmethod
    def _largest(values: Float[Tensor, "b t"]) -> Float[Tensor, "b"]:
        return torch.where(values.isfinite(), values, 0.0).amax(1)


def _below(values: Float[Tensor, "b t"], weights: Float[Tensor, "b t"]) -> Float[Tensor, "b t"]:
    """Sum the weights of all smaller values of each row."""
    order = values.argsort(1)
    ascending, sums = values.gather(1, order), weights.gather(1, order).cumsum(1)
    first = torch.searchsorted(ascending, ascending)  # equal values share what lies below the first of them
    before = torch.nn.functional.pad(sums, (1, 0)).gather(1, first)
    return torch.empty_like(before).scatter(1, order, before)
