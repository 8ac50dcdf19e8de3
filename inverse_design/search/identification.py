"""Identification of held-out targets: where each of the perturbations behind them stands among all candidates.

For each held-out perturbation as a target, one number says how far down the truth stood: its *gap* to the best
candidate in log density, its *rank*, or its *surprise* (minus its log posterior probability). The misfit of the
best candidate, ranked among those of the held-out targets under the fits that have not seen them, is a p-value for
"some candidate explains this target".
"""

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
from inverse_design.search.exhaustive import evidence
from inverse_design.search.survey import Survey, surveys
from inverse_design.search.topk import Progress
from surrogates.artefact_types import storable
from surrogates.cached_fit import ALONE, BesideFit
from surrogates.data.novelty import SEEN_DOUBLE
from surrogates.data.vocabulary import PerturbationBatch
from surrogates.models.wrappers.calibrated import FittedCalibrated, judge_of

NEAR = 256  # scores below the best that are kept of each target, to tell how large a set would have been
FEWEST, MOST = 40, 1000  # held-out targets that are identified in any case, and at most, if there are as many
# Scores of candidates, over all held-out targets: a few minutes.
MOST_SCORED, _DECODED, _STREAMED = 2_000_000_000, 200_000_000, 20_000_000
_TOGETHER = 16  # targets of a fold that are asked together: what they have in common is made once
BY_PRODUCTS = 1e-9  # by how much a density by products and the same by hand may differ
Rule = Literal["gap", "rank", "surprise"]


@storable
@dataclass(frozen=True)
class Total:
    """What turns densities of a target into probabilities."""

    log_sum: float  # logarithm of the sum over all candidates of their densities, or of what experts say together
    # Of each expert, the logarithm of the sum of its densities; none where one law speaks alone.
    log_sums: tuple[float, ...] = ()


@storable
@dataclass(frozen=True)
class Identification:
    """The true perturbation of each held-out target among the candidates."""

    gap: Float[Tensor, "n"]  # log density of the best candidate minus that of the truth, in nats
    rank: Float[Tensor, "n"]  # how many candidates are at least as likely as the truth, itself among them
    surprise: Float[Tensor, "n"]  # minus the log posterior probability of the truth, in nats
    # Minus the log density of the best candidate, or of all candidates under all experts together: large if
    # nothing explains the target.
    misfit: Float[Tensor, "n"]
    # The misfit of the question's own target under the same fit, which makes the two comparable.
    asked_misfit: Float[Tensor, "n"]
    excess: Float[Tensor, "n"]  # surprise that a candidate as likely as the best would have
    fold: Int[Tensor, "n"]  # which of the cross-fits has not seen each target
    # Log density of the best minus that of the best few candidates, ascending, infinite where there are none.
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


NUMBERS: Mapping[Rule, Callable[[Identification], Float[Tensor, "n"]]] = {
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


def most_asked(space: CombinationSpace, scores: int = MOST_SCORED) -> int:
    """Count the held-out targets for which at most so many scores of candidates are worked out, within limits."""
    return min(MOST, max(FEWEST, scores // max(1, space.size)))


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
    most = most_asked(space, budget)
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
    cut = own - BY_PRODUCTS * max(1.0, abs(own - float(top[0])))
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
