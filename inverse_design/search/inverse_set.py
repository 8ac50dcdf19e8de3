"""The inverse conformal set: the smallest list that holds the truth.

If the perturbation behind a new target is exchangeable with the held-out ones, its number is at most their
conformal quantile with the stated probability; the set is all candidates with numbers up to it [Vovk 2005; for
probabilities Sadinle 2019].
"""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from inverse_design.problem.likelihood import TargetLikelihood
from inverse_design.problem.space import CombinationSpace
from inverse_design.search.exhaustive import evidence, search
from inverse_design.search.identification import BY_PRODUCTS, NUMBERS, Identification, Rule, identify
from inverse_design.search.survey import SpacePosterior, is_calibrated, surveys
from inverse_design.search.topk import Progress, TopK
from surrogates.cached_fit import ALONE, BesideFit
from surrogates.data.vocabulary import PerturbationBatch
from surrogates.errors import CalibrationError
from surrogates.models.wrappers.calibrated import FittedCalibrated
from surrogates.uncertainty.conformal.quantiles import conformal_quantile, require_count, require_level

UNEXPLAINED = 0.05  # a p-value below which no candidate is said to explain the target


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
        min(NUMBERS, key=lambda rule: _typical_size(_rule(rule, mine, level), other)) for mine, other in halves
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
    return cut - BY_PRODUCTS * max(1.0, abs(cut))


def _rule(rule: Rule, found: Identification, level: float) -> SetRule:
    return SetRule(rule, float(conformal_quantile(NUMBERS[rule](found), level)), level, len(found))


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
    if not is_calibrated(fitted):
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
