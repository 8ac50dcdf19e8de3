"""Identification of held-out targets, and the inverse conformal set: the smallest list that holds the truth.

For each held-out perturbation as a target, one number says how far down the truth stood: its *gap* to the best
candidate in log density, its *rank*, or its *surprise* (minus its log posterior probability). If the perturbation
behind a new target is exchangeable with them, its number is at most their conformal quantile with the stated
probability; the set is all candidates with numbers up to it [Vovk 2005; for probabilities Sadinle 2019]. The
misfit of the best candidate, ranked among those of the held-out targets under the fits that have not seen them, is
a p-value for "some candidate explains this target".
"""

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from itertools import groupby
from typing import Literal

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from inverse_design.problem.likelihood import TargetLikelihood
from inverse_design.problem.score import log_sum
from inverse_design.problem.space import CombinationSpace
from inverse_design.search.exhaustive import evidence, search
from inverse_design.search.survey import SpacePosterior, Survey, surveys
from inverse_design.search.topk import Progress, TopK
from surrogates.artefact_types import storable
from surrogates.cached_fit import ALONE, BesideFit
from surrogates.data.novelty import SEEN_DOUBLE
from surrogates.data.vocabulary import PerturbationBatch
from surrogates.errors import CalibrationError
from surrogates.models.wrappers.calibrated import FittedCalibrated, judge_of
from surrogates.uncertainty.conformal.quantiles import conformal_quantile, require_count, require_level

NEAR = 256  # scores below the best that are kept of each target, to tell how large a set would have been
FEWEST = 40  # held-out targets that are identified in any case, if there are as many
# Scores of candidates, over all held-out targets: a few minutes.
MOST_SCORED, _DECODED, _STREAMED = 2_000_000_000, 200_000_000, 20_000_000
_TOGETHER = 16  # targets of a fold that are asked together: what they have in common is made once
Rule = Literal["gap", "rank", "surprise"]
UNEXPLAINED = 0.05  # a p-value below which no candidate is said to explain the target
_ROUNDING = 1e-9  # between a density by products and the same by hand


@storable
@dataclass(frozen=True)
class Total:
    """What turns densities of a target into probabilities.

    Attributes:
        log_sums: Of each expert, the logarithm of the sum of its densities; none where one law speaks alone.
    """

    log_sum: float  # logarithm of the sum over all candidates of their densities, or of what experts say together
    log_sums: tuple[float, ...] = ()


@storable
@dataclass(frozen=True)
class Identification:
    """The true perturbation of each held-out target among the candidates.

    Attributes:
        misfit: Minus the log density of the best candidate, or of all candidates under all experts together: large
            if nothing explains the target.
        asked_misfit: The misfit of the question's own target under the same fit, which makes the two comparable.
        near: Log density of the best minus that of the best few candidates, ascending, infinite where there are
            none.
    """

    gap: Float[Tensor, "n"]  # log density of the best candidate minus that of the truth, in nats
    rank: Float[Tensor, "n"]  # how many candidates are at least as likely as the truth, itself among them
    surprise: Float[Tensor, "n"]  # minus the log posterior probability of the truth, in nats
    misfit: Float[Tensor, "n"]
    asked_misfit: Float[Tensor, "n"]
    excess: Float[Tensor, "n"]  # surprise that a candidate as likely as the best would have
    fold: Int[Tensor, "n"]  # which of the cross-fits has not seen each target
    near: Float[Tensor, "n m"]
    row: Int[Tensor, "n"]  # which of the held-out perturbations of that cross-fit each target is
    totals: tuple[Total, ...] = ()  # the sums over all candidates of each target, the truth among them

    def __len__(self) -> int:
        return len(self.gap)

    @property
    def reachable(self) -> float:
        """Conformal p-value of "some candidate explains the asked target".

        Each held-out target is compared under the fit that has not seen it (cross-conformal [Vovk 2015]); one
        without any.
        """
        return (1 + int((self.misfit >= self.asked_misfit).sum())) / (len(self) + 1)

    def rows(self, chosen: Bool[Tensor, "n"]) -> "Identification":
        """Take some of the targets."""
        return Identification(
            self.gap[chosen],
            self.rank[chosen],
            self.surprise[chosen],
            self.misfit[chosen],
            self.asked_misfit[chosen],
            self.excess[chosen],
            self.fold[chosen],
            self.near[chosen],
            self.row[chosen],
            tuple(self.totals[number] for number in torch.nonzero(chosen).flatten().tolist() if self.totals),
        )


_NUMBERS: Mapping[Rule, Callable[[Identification], Float[Tensor, "n"]]] = {
    "gap": lambda found: found.gap,
    "rank": lambda found: found.rank,
    "surprise": lambda found: found.surprise,
}


def identify(
    likelihood: TargetLikelihood,
    fitted: FittedCalibrated,
    space: CombinationSpace,
    *,
    seed: int,
    progress: Progress | None = None,
    beside: BesideFit = ALONE,
) -> Identification:
    """Ask the same question of held-out perturbations, of which the answer is known.

    Each held-out double of two entries measured alone is the target once, on the readouts and with the weights of
    the question, under a fit and an error model that have not seen it. The candidates are those of the question
    and the truth. Where the space is so large that this would take long, a random part of the held-out doubles is
    asked; the calibration is as valid, and less precise. The answers depend on the readouts, not on what
    it wants of them: they are kept beside the fit.
    """
    found = beside.of(
        Identification,
        lambda: _identify(likelihood, fitted, space, seed=seed, progress=progress),
        *asked_of_others(likelihood, space, seed),
        fits=partial(_is_of, fitted),
    )
    return asked_again(found, likelihood, fitted, space)


def asked_of_others(likelihood: TargetLikelihood, space: CombinationSpace, seed: int) -> tuple[object, ...]:
    """List what the answers of held-out targets depend on beside the fit."""
    target = likelihood.target
    return target.columns, target.variance, target.weights, likelihood.log_prior, space, seed


def _is_of(fitted: FittedCalibrated, found: Identification) -> bool:
    """Tell whether these can be held-out targets of a surrogate."""
    sizes = torch.tensor([len(fold.batch) for fold in fitted.cross])
    if len(found) != len(found.totals) or bool(((found.fold < 0) | (found.fold >= len(sizes))).any()):
        return False
    return bool(((found.row >= 0) & (found.row < sizes[found.fold])).all())


def _identify(
    likelihood: TargetLikelihood,
    fitted: FittedCalibrated,
    space: CombinationSpace,
    *,
    seed: int,
    progress: Progress | None,
) -> Identification:
    places = [
        (number, row)
        for number, fold in enumerate(fitted.cross)
        for row in torch.nonzero(fold.codes == SEEN_DOUBLE).flatten().tolist()
    ]
    decoded = _STREAMED if fitted.latent_factors() is None else _DECODED
    budget = MOST_SCORED if fitted.factorises else decoded
    most = max(FEWEST, budget // max(1, space.size))
    order = torch.randperm(len(places), generator=torch.Generator().manual_seed(seed))[:most].sort().values
    asked = [places[number] for number in order.tolist()]
    found = list(_identified(likelihood, fitted, asked, space, progress))
    columns = torch.stack([each for each, _ in found]) if found else torch.empty(0, 5 + NEAR, dtype=torch.float64)
    # What is read again lies together in memory: so does this, as sums depend on it.
    gap, rank, surprise, misfit, excess = columns[:, :5].T.contiguous()
    folds, rows = torch.tensor(asked, dtype=torch.int64).reshape(-1, 2).T.contiguous()
    return Identification(
        gap,
        rank,
        surprise,
        misfit,
        torch.zeros_like(misfit),
        excess,
        folds,
        columns[:, 5:].contiguous(),
        rows,
        tuple(total for _, total in found),
    )


def asked_again(
    found: Identification, likelihood: TargetLikelihood, fitted: FittedCalibrated, space: CombinationSpace
) -> Identification:
    """Use what held-out targets showed for another target on the same readouts."""
    misfits = {
        number: surveys([likelihood], judge_of(fitted.cross[number]), space, 1)[0].misfit
        for number in found.fold.unique().tolist()
    }
    asked = torch.tensor([misfits[number] for number in found.fold.tolist()], dtype=torch.float64)
    return replace(found, asked_misfit=asked)


def _identified(
    likelihood: TargetLikelihood,
    fitted: FittedCalibrated,
    asked: list[tuple[int, int]],
    space: CombinationSpace,
    progress: Progress | None,
) -> Iterator[tuple[Float[Tensor, "c"], Total]]:
    """Look at all candidates for some targets of one fold at a time: what they have in common is made once."""
    done = 0
    for number, group in groupby(asked, key=lambda place: place[0]):
        fold, rows = fitted.cross[number], [row for _, row in group]
        judge = judge_of(fold)
        for at in range(0, len(rows), _TOGETHER):
            part = rows[at : at + _TOGETHER]
            targets = [
                replace(likelihood.target, values=fold.effects[row, likelihood.target.columns]) for row in part
            ]
            looks = surveys([replace(likelihood, target=each) for each in targets], judge, space, NEAR)
            for row, look in zip(part, looks, strict=True):
                done += 1
                yield _standing(look, judge, fold.batch.rows(torch.tensor([row])), space)
                if progress is not None:
                    progress(done, len(asked))


def _standing(
    look: Survey, fitted: FittedCalibrated, truth: PerturbationBatch, space: CombinationSpace
) -> tuple[Float[Tensor, "c"], Total]:
    """Find where the truth of a held-out target stands among the candidates."""
    inside = bool(space.holds(truth).all())
    densities = look.densities(fitted, truth)[:, 0]
    look = look if inside else look.with_further(densities)
    own = float(log_sum(densities[:, None], look.shifts)[0])
    top = look.best(NEAR).score
    cut = own - _ROUNDING * max(1.0, abs(own - float(top[0])))
    if cut >= look.floor:
        reached = int((look.scores >= cut).sum())
    else:
        reached = evidence(look.known, fitted, space, peak=float(top[0]), cut=cut).reached
    scores = (top if inside else torch.cat([top, top.new_tensor([own])])).sort(descending=True).values[:NEAR]
    best = max(own, float(scores[0]))
    near = torch.nn.functional.pad(best - scores, (0, NEAR - len(scores)), value=torch.inf)
    misfit = look.misfit if look.pooled else -best
    numbers = [best - own, float(max(1, reached + (not inside))), look.log_sum - own, misfit, look.log_sum - best]
    return torch.cat([torch.tensor(numbers, dtype=torch.float64), near]), Total(look.log_sum, look.known.log_sums)


@dataclass(frozen=True)
class SetRule:
    """Which candidates are in the set."""

    rule: Rule  # by which number
    threshold: float  # the largest number that a member has: nats, or a rank
    level: float  # probability that the set holds the truth
    support: int  # number of held-out targets behind it

    def sizes(self, found: Identification) -> Float[Tensor, "n"]:
        """Count the members that the sets of held-out targets would have had."""
        if self.rule == "rank":
            return torch.full_like(found.rank, min(self.threshold, found.near.shape[1]))
        numbers = found.near + found.excess[:, None] if self.rule == "surprise" else found.near
        return (numbers <= self.threshold).sum(1).clamp(min=1).double()


@dataclass(frozen=True)
class InverseSet:
    """The set for one target."""

    rule: SetRule  # which candidates are in it
    size: int  # how many those are
    candidates: int  # of how many
    cut: float  # log density from which a candidate is in it
    reachable: float  # conformal p-value of "some candidate explains this target"

    def holds(self, density: Float[Tensor, "b"]) -> Bool[Tensor, "b"]:
        """Tell which candidates are in the set."""
        return density >= self.cut

    @property
    def line(self) -> str:
        """The set in words, such as ``90 % set: 2 of 5,356 candidates``."""
        said = f"{100 * self.rule.level:.3g} % set: {self.size:,} of {self.candidates:,} candidates"
        return f"{said} (by {self.rule.rule}, calibrated on {self.rule.support} held-out doubles)"

    @property
    def complaint(self) -> str:
        """What to say if no candidate explains the target; empty if one does."""
        if self.reachable > UNEXPLAINED:
            return ""
        return f"no candidate explains this target (p = {self.reachable:.2g})"


def calibrate_set(found: Identification, level: float) -> SetRule:
    """Choose the number that makes the smallest sets, and its threshold, on held-out targets.

    A choice among rules on the targets that calibrate them would be optimistic. Each half of the targets
    therefore chooses by the sizes of the sets of the other half, and the gap is kept unless both halves agree.
    """
    require_level(level)
    require_count(len(found), level, "held-out doubles")
    odd = torch.arange(len(found)) % 2 == 1
    halves = [(found.rows(odd), found.rows(~odd)), (found.rows(~odd), found.rows(odd))]
    chosen = [
        min(_NUMBERS, key=lambda rule: _typical_size(_rule(rule, mine, level), other)) for mine, other in halves
    ]
    return _rule(chosen[0] if chosen[0] == chosen[1] else "gap", found, level)


def inverse_set(
    likelihood: TargetLikelihood,
    fitted: FittedCalibrated,
    space: CombinationSpace,
    listed: TopK,
    *,
    log_sum: float,
    found: Identification,
    level: float,
) -> InverseSet:
    """Find the set of a target.

    The members are read off the list of the best candidates; only a set that is longer than the list costs another
    pass over the space.
    """
    rule = calibrate_set(found, level)
    best = float(listed.score[0])
    if rule.rule == "rank":
        asked = int(rule.threshold)
        enough = asked <= len(listed) or len(listed) < listed.k
        ranked = listed if enough else search(likelihood, fitted, space, asked).top
        size = min(asked, len(ranked))
        cut = _rounded_down(float(ranked.score[size - 1]))
    else:
        # However sure the model is, the best candidate stays.
        cut = _rounded_down(min(best, (best if rule.rule == "gap" else log_sum) - rule.threshold))
        enough = cut > listed.threshold or len(listed) < listed.k
        size = (
            int((listed.score >= cut).sum())
            if enough
            else evidence(likelihood, fitted, space, peak=best, cut=cut).reached
        )
    return InverseSet(rule, size, space.count_valid, cut, found.reachable)


def _rounded_down(cut: float) -> float:
    return cut - _ROUNDING * max(1.0, abs(cut))


def _rule(rule: Rule, found: Identification, level: float) -> SetRule:
    return SetRule(rule, float(conformal_quantile(_NUMBERS[rule](found), level)), level, len(found))


def _typical_size(rule: SetRule, found: Identification) -> float:
    """The geometric mean: a set of two for most targets is better than one of one with few of a hundred."""
    return float(rule.sizes(found).log().mean())


LISTED = 1000  # candidates that are listed to read the set off
SUMMED = 1 << 28  # effects on single readouts that may be predicted to sum over larger sets: half a minute


@dataclass(frozen=True)
class CandidatePosterior:
    """What the whole space says of some candidates.

    Attributes:
        probability: Posterior probability of each among all; ``nan`` where the sum over all would be too long, and
            where no double could be held out.
        found: Where the truths of held-out targets stood among all; ``None`` where none was asked.
    """

    density: Float[Tensor, "b"]  # log density of the target under each
    probability: Float[Tensor, "b"]
    inverse_set: InverseSet | None  # the set; ``None`` where it cannot be calibrated
    notes: tuple[str, ...]  # why something is missing
    found: Identification | None = None


def candidate_posterior(  # noqa: PLR0913 - the question, its model, and where answers are kept
    likelihood: TargetLikelihood,
    fitted: FittedCalibrated,
    space: CombinationSpace,
    batch: PerturbationBatch,
    *,
    posterior: SpacePosterior | None,
    level: float,
    seed: int,
    progress: Progress | None = None,
    beside: BesideFit = ALONE,
) -> CandidatePosterior:
    """Find what the whole space says of some candidates."""
    density = likelihood.utility(fitted, batch).mean
    if not any(bool((fold.codes == SEEN_DOUBLE).any()) for fold in fitted.cross):
        missing = (
            "warning: probability and in_set are not given: no double was held out, so nothing calibrates them"
        )
        return CandidatePosterior(density, torch.full_like(density, math.nan), None, (missing,))
    if space.orders[-1] > 2:
        return _among_larger(likelihood, fitted, space, density)
    if posterior is None:
        look = surveys([likelihood], fitted, space, LISTED)[0]
        posterior = SpacePosterior(look.known, look.search(LISTED), look.log_sum)
    top, log_sum = posterior.search.top, posterior.log_sum
    if log_sum is None:
        log_sum = evidence(likelihood, fitted, space, peak=float(top.score[0])).log_sum
    probability = (density - log_sum).exp()
    held_out = identify(likelihood, fitted, space, seed=seed, progress=progress, beside=beside)
    try:
        found = inverse_set(likelihood, fitted, space, top, log_sum=log_sum, found=held_out, level=level)
    except CalibrationError as error:
        missing = f"warning: the set cannot be calibrated: {error}"
        return CandidatePosterior(density, probability, None, (missing,), held_out)
    return CandidatePosterior(density, probability, found, (), held_out)


def _among_larger(
    likelihood: TargetLikelihood, fitted: FittedCalibrated, space: CombinationSpace, density: Float[Tensor, "b"]
) -> CandidatePosterior:
    without = (
        f"in_set is not given: no set of order {space.orders[-1]} was held out, so that nothing calibrates it"
    )
    if space.size * len(fitted.readouts) > SUMMED:
        unsummed = f"probability is not given: it takes the sum over {space.summary}"
        return CandidatePosterior(density, torch.full_like(density, math.nan), None, (unsummed, without))
    log_sum = evidence(likelihood, fitted, space, peak=float(density[0])).log_sum
    return CandidatePosterior(density, (density - log_sum).exp(), None, (without,))
