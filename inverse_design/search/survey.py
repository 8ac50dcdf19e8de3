"""One look at all candidates of a space for each expert of a surrogate, whatever is asked of a target.

The list of the best, the sums that make densities probabilities, how well any candidate explains the target, and
how many stand before one of them all follow from it.
"""

import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial

import torch
from jaxtyping import Float64, Int64
from torch import Tensor

from inverse_design.problem.likelihood import TargetLikelihood
from inverse_design.problem.score import log_sum
from inverse_design.problem.space import CombinationSpace
from inverse_design.search.device.pairs import pass_over_pairs_on
from inverse_design.search.device.tiles import device_tiles
from inverse_design.search.exhaustive import pair_score, scores_of, search, streamed_block
from inverse_design.search.one_pass import MOST, Best, log_of_sum, pass_over_pairs
from inverse_design.search.scan import spelled
from inverse_design.search.topk import Certificate, Progress, SearchResult, TopK
from surrogates.data.novelty import SEEN_DOUBLE
from surrogates.data.vocabulary import PerturbationBatch
from surrogates.models.wrappers.calibrated import Expert, FittedCalibrated

_LARGEST = 2  # order up to which all candidates are looked at


@dataclass(frozen=True)
class Survey:
    """What a pass over all candidates of a space, singles and pairs, found for one target.

    Attributes:
        index: Numbers of the candidates that may be among the best of the pool, ascending.
        logs: Log density of the target under each of these candidates, by expert.
        log_sums: Of each expert, the logarithm of the sum of its densities over all valid candidates.
        floors: Of each expert, a density that no other candidate reaches.
    """

    likelihood: TargetLikelihood
    weights: tuple[float, ...]  # of the experts; a single one where one law speaks alone
    index: Int64[Tensor, "n"]
    logs: Float64[Tensor, "m n"]
    log_sums: Float64[Tensor, "m"]
    floors: Float64[Tensor, "m"]
    pooled: bool  # whether utilities are log posterior probabilities
    certificate: Certificate

    @property
    def known(self) -> TargetLikelihood:
        """The likelihood, with the sums of the experts."""
        return replace(self.likelihood, log_sums=tuple(self.log_sums.tolist())) if self.pooled else self.likelihood

    @property
    def shifts(self) -> list[float]:
        """What is added to the densities of each expert."""
        if not self.pooled:
            return [0.0]
        sums = self.log_sums.tolist()
        return [math.log(weight) - log_sum for weight, log_sum in zip(self.weights, sums, strict=True)]

    @property
    def scores(self) -> Float64[Tensor, "n"]:
        """The utility of each candidate that may be among the best."""
        return log_sum(self.logs, self.shifts)

    @property
    def floor(self) -> float:
        """A utility that no other candidate reaches."""
        return float(log_sum(self.floors[:, None], self.shifts))

    @property
    def log_sum(self) -> float:
        """The logarithm of the sum of the utilities' exponentials; that of a pool is one."""
        return float(log_sum(self.log_sums[:, None], self.shifts))

    @property
    def misfit(self) -> float:
        """How badly the candidates explain the target: all of them under all experts, or the best."""
        if not self.pooled:
            return -float(self.logs.max())
        weights = torch.tensor(self.weights, dtype=torch.float64)
        return -float((weights.log() + self.log_sums).logsumexp(0))

    def best(self, k: int) -> TopK:
        """Take the best candidates, not more than were looked for."""
        return TopK.empty(k).offer(self.index, self.scores)

    def search(self, k: int) -> SearchResult:
        """Take the best candidates as the answer of a search."""
        return SearchResult(self.best(k), self.certificate)

    def densities(self, fitted: FittedCalibrated, batch: PerturbationBatch) -> Float64[Tensor, "m b"]:
        """Ask each expert for the log density of the target under some perturbations."""
        experts = fitted.experts or (Expert(1.0, fitted),)
        return torch.stack([self.likelihood.utility(expert.fitted, batch).mean for expert in experts])

    def with_further(self, densities: Float64[Tensor, "m"]) -> "Survey":
        """Count a candidate that is not in the space, by what each expert says of it, in the sums."""
        return replace(self, log_sums=torch.logaddexp(self.log_sums, densities))


@dataclass(frozen=True)
class SpacePosterior:
    """What the candidates of a space make of a target."""

    likelihood: TargetLikelihood  # with the sums of the experts, if a surrogate has some
    search: SearchResult  # the best candidates
    log_sum: float | None  # logarithm of the sum over all; ``None`` where it has not been found


def can_be_surveyed(space: CombinationSpace) -> bool:
    """Tell whether all candidates of a space are looked at: singles and pairs."""
    return bool(space.size) and space.orders[-1] <= _LARGEST


def is_calibrated(fitted: FittedCalibrated) -> bool:
    """Tell whether a double was held out: without any, nothing stands behind probabilities."""
    return any(bool((fold.codes == SEEN_DOUBLE).any()) for fold in fitted.cross)


def normalised(
    likelihood: TargetLikelihood, fitted: FittedCalibrated, space: CombinationSpace
) -> TargetLikelihood:
    """Let the experts of a surrogate speak together: sum the densities of each over all candidates."""
    if not fitted.experts or not can_be_surveyed(space):
        return replace(likelihood, log_sums=())
    return surveys([likelihood], fitted, space, 0)[0].known


def surveys(
    likelihoods: Sequence[TargetLikelihood],
    fitted: FittedCalibrated,
    space: CombinationSpace,
    k: int,
    *,
    device: str = "cpu",
    progress: Progress | None = None,
) -> list[Survey]:
    """Look at all candidates of a space once for each expert and target, whatever is asked of them.

    The ``k`` best of a pool are among those that are, under some expert, at most the logarithm of the number of
    experts worse than its ``k``-th best: if the largest term of a candidate's mean is below that, ``k`` others
    have a larger mean.
    """
    began = time.perf_counter()
    experts = fitted.experts or (Expert(1.0, fitted),)
    alone = [replace(each, log_sums=()) for each in likelihoods]
    margin = math.log(len(experts))
    counts = _parts(progress, len(experts) * len(alone))
    looks = [
        [
            _look(each, expert.fitted, space, Best(k, margin), device=device, progress=next(counts))
            for each in alone
        ]
        for expert in experts
    ]
    indices = [torch.cat([of[number].best.numbers for of in looks]).unique() for number in range(len(alone))]
    logs = [
        [_densities(*each, expert.fitted, space) for each in zip(alone, indices, of, strict=True)]
        for expert, of in zip(reversed(experts), reversed(looks), strict=True)  # what was made last is at hand
    ]
    seconds = time.perf_counter() - began
    found = [
        Survey(
            likelihood=each,
            weights=tuple(expert.weight for expert in experts),
            index=indices[number],
            logs=torch.stack([of[number] for of in reversed(logs)]),
            log_sums=torch.tensor([of[number].log_sum for of in looks], dtype=torch.float64),
            floors=torch.tensor([of[number].best.floor for of in looks], dtype=torch.float64),
            pooled=bool(fitted.experts),
            certificate=_certificate([of[number] for of in looks], space, len(indices[number]), seconds),
        )
        for number, each in enumerate(alone)
    ]
    seen = zip(found, zip(*looks, strict=True), strict=True)
    return [_completed(each, of, fitted, space, k) for each, of in seen]


@dataclass(frozen=True)
class _Look:
    """What one expert says of the candidates of a space."""

    best: Best  # by their numbers
    log_sum: float = -math.inf
    pruned: int = 0
    error: float = 0.0


def _completed(
    survey: Survey, looks: Sequence[_Look], fitted: FittedCalibrated, space: CombinationSpace, k: int
) -> Survey:
    """Search the pool where lists were cut short and do not prove that they hold its best."""
    short = max(len(each.best.numbers) for each in looks) < MOST
    if short or not survey.pooled or survey.best(k).threshold >= survey.floor:
        return survey
    index = torch.cat([survey.index, search(survey.known, fitted, space, k).top.index]).unique()
    logs = [
        _densities(survey.likelihood, index, look, expert.fitted, space)
        for look, expert in zip(looks, fitted.experts, strict=True)
    ]
    return replace(survey, index=index, logs=torch.stack(logs))


def _parts(progress: Progress | None, count: int) -> Iterator[Progress | None]:
    """Count several passes as one."""
    for number in range(count):
        yield None if progress is None else partial(_tick, progress, number, count)


def _tick(progress: Progress, number: int, count: int, done: int, total: int) -> None:
    progress(number * total + done, count * total)


def _certificate(looks: Sequence[_Look], space: CombinationSpace, rescored: int, seconds: float) -> Certificate:
    pruned = min(each.pruned for each in looks)
    return Certificate(
        scanned=space.size - pruned,
        masked=space.size - space.count_valid,
        rescored=rescored,
        error=max(each.error for each in looks),
        seconds=seconds,
        pruned=pruned,
        bound="leading directions" if pruned else "",
        ruled_out=space.ruled_out,
    )


def _look(
    likelihood: TargetLikelihood,
    fitted: FittedCalibrated,
    space: CombinationSpace,
    best: Best,
    *,
    device: str,
    progress: Progress | None,
) -> _Look:
    found = _Look(best)
    for order in space.orders:
        score = pair_score(likelihood, fitted, space) if order == _LARGEST else None
        if score is not None:
            over = pass_over_pairs if device == "cpu" else partial(pass_over_pairs_on, device_tiles(score, device))
            passed = over(score, best.k, space=space, margin=best.margin, progress=progress)
            numbers = space.indices(spelled(passed.positions, space))
            near = replace(found.best, floor=max(found.best.floor, passed.floor))
            near = near.with_further(numbers, passed.scores)
            found = _Look(near, log_of_sum([found.log_sum, passed.log_sum]), passed.pruned, score.error)
            continue
        first, stop = space.span(order)
        block = streamed_block(fitted)
        for start in range(first, stop, block):
            batch = space.batch(start, min(stop, start + block))
            valid = torch.nonzero(space.valid(batch)).flatten()
            scores = likelihood.utility(fitted, batch.rows(valid)).mean
            near = found.best.with_further(valid + start, scores)
            found = replace(found, best=near, log_sum=log_of_sum([found.log_sum, float(scores.logsumexp(0))]))
            if progress is not None and order == space.orders[-1]:
                progress(min(stop, start + block) - first, stop - first)
    return replace(found, best=found.best.trimmed)


def _densities(
    likelihood: TargetLikelihood,
    index: Int64[Tensor, "n"],
    seen: _Look,
    fitted: FittedCalibrated,
    space: CombinationSpace,
) -> Float64[Tensor, "n"]:
    """Log densities of some candidates, of which those near the best of an expert are known."""
    order = seen.best.numbers.argsort()
    known = torch.isin(index, seen.best.numbers)
    densities = torch.empty(len(index), dtype=torch.float64)
    densities[known] = seen.best.scores[order]
    if not bool(known.all()):
        score = pair_score(likelihood, fitted, space)
        densities[~known] = scores_of(likelihood, fitted, space, index[~known], score=score)
    return densities
