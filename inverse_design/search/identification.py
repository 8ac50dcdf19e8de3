"""How well held-out perturbations are identified among the candidates of a question: sets are calibrated on it."""

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from inverse_design.problem.likelihood import TargetLikelihood
from inverse_design.problem.space import CombinationSpace
from inverse_design.search.exhaustive import evidence, normalised, pair_score, search
from inverse_design.search.topk import Progress
from surrogates.data.novelty import SEEN_DOUBLE
from surrogates.data.vocabulary import PerturbationBatch
from surrogates.models.wrappers.calibrated import FittedCalibrated, judge_of

NEAR = 256  # scores below the best that are kept of each target, to tell how large a set would have been
FEWEST = 40  # held-out targets that are identified in any case, if there are as many
# Scores of candidates, over all held-out targets: a few minutes.
_PAIRS, _DECODED, _STREAMED = 2_000_000_000, 200_000_000, 20_000_000
_ROUNDING = 1e-5  # blocks of scores are in single precision


@dataclass(frozen=True)
class Total:
    """What turns densities of a target into probabilities.

    Attributes:
        log_sums: Of each expert, the logarithm of the sum of its densities; none where one law speaks alone.
    """

    log_sum: float  # logarithm of the sum over all candidates of their densities, or of what experts say together
    log_sums: tuple[float, ...] = ()


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


def identify(
    likelihood: TargetLikelihood,
    fitted: FittedCalibrated,
    space: CombinationSpace,
    *,
    seed: int,
    progress: Progress | None = None,
) -> Identification:
    """Ask the same question of held-out perturbations, of which the answer is known.

    Each held-out double of two entries measured alone is the target once, on the readouts and with the weights of
    the question, under a fit and an error model that have not seen it. The candidates are those of the question
    and the truth. Where the space is so large that this would take long, a random part of the held-out doubles is
    asked; the calibration is as valid, and less precise.
    """
    places = [
        (fold.batch.genes[row].tolist(), number, row)
        for number, fold in enumerate(fitted.cross)
        for row in torch.nonzero(fold.codes == SEEN_DOUBLE).flatten().tolist()
    ]
    places.sort()  # by what they are, so that the order of the rows of a screen does not matter
    decoded = _STREAMED if fitted.latent_factors() is None else _DECODED
    budget = _PAIRS if fitted.factorises else decoded
    most = max(FEWEST, budget // max(1, space.size))
    order = torch.randperm(len(places), generator=torch.Generator().manual_seed(seed))[:most].sort().values
    asked = [places[number][1:] for number in order.tolist()]
    found = list(_identified(likelihood, fitted, asked, space, progress))
    columns = torch.stack([each for each, _ in found]) if found else torch.empty(0, 5 + NEAR, dtype=torch.float64)
    gap, rank, surprise, misfit, excess = columns[:, :5].unbind(1)
    folds, rows = torch.tensor(asked, dtype=torch.int64).reshape(-1, 2).unbind(1)
    held_out = Identification(
        gap,
        rank,
        surprise,
        misfit,
        torch.zeros_like(misfit),
        excess,
        folds,
        columns[:, 5:],
        rows,
        tuple(total for _, total in found),
    )
    return asked_again(held_out, likelihood, fitted, space)


def asked_again(
    found: Identification, likelihood: TargetLikelihood, fitted: FittedCalibrated, space: CombinationSpace
) -> Identification:
    """Use what held-out targets showed for another target on the same readouts."""
    misfits = {
        number: _asked_misfit(likelihood, judge_of(fitted.cross[number]), space)
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
    for done, (number, row) in enumerate(asked, 1):
        fold = fitted.cross[number]
        profile = replace(likelihood.target, values=fold.effects[row, likelihood.target.columns])
        truth = fold.batch.rows(torch.tensor([row]))
        yield _one(replace(likelihood, target=profile), judge_of(fold), truth, space)
        if progress is not None:
            progress(done, len(asked))


def _asked_misfit(likelihood: TargetLikelihood, fitted: FittedCalibrated, space: CombinationSpace) -> float:
    known = normalised(likelihood, fitted, space)
    explained = _explained(known, fitted)
    return -float(search(known, fitted, space, 1).top.score[0]) if explained is None else -explained


def _explained(likelihood: TargetLikelihood, fitted: FittedCalibrated) -> float | None:
    """Log of the weighted sum of what the candidates make of a target under each expert; none without experts."""
    if not likelihood.log_sums:
        return None
    weights = torch.tensor([expert.weight for expert in fitted.experts], dtype=torch.float64)
    return float((weights.log() + torch.tensor(likelihood.log_sums, dtype=torch.float64)).logsumexp(0))


def _with_truth(
    likelihood: TargetLikelihood, fitted: FittedCalibrated, truth: PerturbationBatch
) -> TargetLikelihood:
    """Count a candidate that is not in the space among those that may have made the target."""
    alone = replace(likelihood, log_sums=())
    own = [float(alone.utility(expert.fitted, truth).mean) for expert in fitted.experts]
    sums = zip(likelihood.log_sums, own, strict=True)
    return replace(
        likelihood, log_sums=tuple(max(pair) + math.log1p(math.exp(-abs(pair[0] - pair[1]))) for pair in sums)
    )


def _one(
    likelihood: TargetLikelihood, fitted: FittedCalibrated, truth: PerturbationBatch, space: CombinationSpace
) -> tuple[Float[Tensor, "c"], Total]:
    inside = bool(space.holds(truth).all())
    likelihood = normalised(likelihood, fitted, space)
    if likelihood.log_sums and not inside:
        likelihood = _with_truth(likelihood, fitted, truth)
    own = float(likelihood.utility(fitted, truth).mean)
    score = pair_score(likelihood, fitted, space)
    top = search(likelihood, fitted, space, NEAR, score=score).top.score
    cut = own - _ROUNDING * max(1.0, abs(own - float(top[0])))
    whole = evidence(likelihood, fitted, space, peak=float(top[0]), cut=cut, score=score)
    log_sum = torch.tensor([whole.log_sum] if inside else [whole.log_sum, own], dtype=torch.float64).logsumexp(0)
    scores = (top if inside else torch.cat([top, top.new_tensor([own])])).sort(descending=True).values[:NEAR]
    best = scores[0].clamp(min=own)
    near = torch.nn.functional.pad(best - scores, (0, NEAR - len(scores)), value=torch.inf)
    rank = float(max(1, whole.reached + (not inside)))
    explained = _explained(likelihood, fitted)
    misfit = -float(best) if explained is None else -explained
    numbers = [float(best) - own, rank, float(log_sum) - own, misfit, float(log_sum - best)]
    total = Total(float(log_sum), likelihood.log_sums)
    return torch.cat([torch.tensor(numbers, dtype=torch.float64), near]), total
