"""How well held-out perturbations are identified among the candidates of a question: sets are calibrated on it."""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from inverse_design.problem.likelihood import TargetLikelihood
from inverse_design.problem.space import CombinationSpace
from inverse_design.search.exhaustive import search, survey
from inverse_design.search.topk import Progress
from surrogates.data.novelty import SEEN_DOUBLE
from surrogates.data.vocabulary import PerturbationBatch
from surrogates.models.base import pair_factored
from surrogates.models.calibrated import FittedCalibrated
from surrogates.models.held_out import HeldOutFit

NEAR = 256  # scores below the best that are kept of each target, to tell how large a set would have been
FEWEST = 40  # held-out targets that are identified in any case, if there are as many
# Scores of candidates, over all held-out targets: a few minutes.
_PAIRS, _STREAMED = 2_000_000_000, 20_000_000
_ROUNDING = 1e-5  # blocks of scores are in single precision


@dataclass(frozen=True)
class Identification:
    """The true perturbation of each held-out target among the candidates.

    Attributes:
        gap: Log density of the best candidate minus that of the truth, in nats.
        rank: How many candidates are at least as likely as the truth, itself among them.
        surprise: Minus the log posterior probability of the truth, in nats.
        misfit: Minus the log density of the best candidate: large if nothing explains the target.
        asked_misfit: The misfit of the question's own target under the same fit, which makes the two comparable.
        excess: Surprise that a candidate as likely as the best would have.
        near: Log density of the best minus that of the best few candidates, ascending, infinite where there are
            none.
    """

    gap: Float[Tensor, "n"]
    rank: Float[Tensor, "n"]
    surprise: Float[Tensor, "n"]
    misfit: Float[Tensor, "n"]
    asked_misfit: Float[Tensor, "n"]
    excess: Float[Tensor, "n"]
    near: Float[Tensor, "n m"]

    def __len__(self) -> int:
        return len(self.gap)

    def rows(self, chosen: Bool[Tensor, "n"]) -> "Identification":
        """Take some of the targets.

        Args:
            chosen: Which.

        Returns:
            Those.
        """
        return Identification(
            self.gap[chosen],
            self.rank[chosen],
            self.surprise[chosen],
            self.misfit[chosen],
            self.asked_misfit[chosen],
            self.excess[chosen],
            self.near[chosen],
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
    the question, under a fit and an error law that have not seen it. The candidates are those of the question and
    the truth. Where the space is so large that this would take long, a random part of the held-out doubles is
    asked; the calibration is as valid, and less precise.

    Args:
        likelihood: The question.
        fitted: A surrogate with its cross-fits.
        space: Its candidates.
        seed: Fixes which doubles are asked where there are too many.
        progress: Called with the number of doubles asked, of how many.

    Returns:
        One row per held-out double; none if nothing was held out.
    """
    places = [
        (fold, row) for fold in fitted.cross for row in torch.nonzero(fold.codes == SEEN_DOUBLE).flatten().tolist()
    ]
    budget = _PAIRS if pair_factored(fitted) else _STREAMED
    most = max(FEWEST, budget // max(1, space.size))
    order = torch.randperm(len(places), generator=torch.Generator().manual_seed(seed))[:most].sort().values
    asked = [places[number] for number in order.tolist()]
    found = list(_identified(likelihood, asked, space, progress))
    columns = torch.stack(found) if found else torch.empty(0, 6 + NEAR, dtype=torch.float64)
    gap, rank, surprise, misfit, excess, asked_misfit = columns[:, :6].unbind(1)
    return Identification(gap, rank, surprise, misfit, asked_misfit, excess, columns[:, 6:])


def _identified(
    likelihood: TargetLikelihood,
    asked: list[tuple[HeldOutFit, int]],
    space: CombinationSpace,
    progress: Progress | None,
) -> Iterator[Float[Tensor, "c"]]:
    misfits: dict[int, float] = {}
    for number, (fold, row) in enumerate(asked, 1):
        if id(fold) not in misfits:
            misfits[id(fold)] = -float(search(likelihood, _judge(fold), space, 1).top.score[0])
        profile = replace(likelihood.target, values=fold.effects[row, likelihood.target.columns])
        truth = fold.batch.rows(torch.tensor([row]))
        yield _one(replace(likelihood, target=profile), fold, truth, space, misfits[id(fold)])
        if progress is not None:
            progress(number, len(asked))


def _judge(fold: HeldOutFit) -> FittedCalibrated:
    if not isinstance(fold.fitted, FittedCalibrated):
        raise TypeError(f"{type(fold.fitted).__name__} has no error law, so that it identifies nothing")
    return fold.fitted


def _one(
    likelihood: TargetLikelihood,
    fold: HeldOutFit,
    truth: PerturbationBatch,
    space: CombinationSpace,
    asked_misfit: float,
) -> Float[Tensor, "c"]:
    fitted = _judge(fold)
    own = float(likelihood.utility(fitted, truth).mean)
    inside = bool(space.holds(truth).all())
    top = search(likelihood, fitted, space, NEAR).top.score
    cut = own - _ROUNDING * max(1.0, abs(own - float(top[0])))
    whole = survey(likelihood, fitted, space, peak=float(top[0]), cut=cut)
    log_sum = torch.tensor([whole.log_sum] if inside else [whole.log_sum, own], dtype=torch.float64).logsumexp(0)
    scores = (top if inside else torch.cat([top, top.new_tensor([own])])).sort(descending=True).values[:NEAR]
    best = scores[0].clamp(min=own)
    near = torch.nn.functional.pad(best - scores, (0, NEAR - len(scores)), value=torch.inf)
    rank = float(max(1, whole.reached + (not inside)))
    numbers = [float(best) - own, rank, float(log_sum) - own, -float(best), float(log_sum - best), asked_misfit]
    return torch.cat([torch.tensor(numbers, dtype=torch.float64), near])
