"""Protocol ``retrieval``: how often is the perturbation that made a held-out state found among all pairs?

For each fold of doubles everything (model, error law, temperature) is learnt from all singles and the other folds'
doubles; each held-out double whose two singles are measured is the target once, and all pairs of the singles are
ranked. The rank of the truth counts ties against it.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from inverse_design.benchmark.reliability import calibration_errors
from inverse_design.benchmark.variants import variants_of
from inverse_design.problem.constraints import Constraints
from inverse_design.problem.likelihood import TargetLikelihood
from inverse_design.problem.objective import Correlation, Objective
from inverse_design.problem.question import candidate_space
from inverse_design.problem.score import PairScore
from inverse_design.problem.space import CombinationSpace
from inverse_design.problem.target import AlignedProfile
from surrogates.data.novelty import SEEN_DOUBLE, novelty_name
from surrogates.data.screen import Screen
from surrogates.errors import DataError
from surrogates.evaluation.metrics import RowStatistic, bootstrap_interval, median
from surrogates.evaluation.rows import Row
from surrogates.evaluation.scorecard import Split, double_splits
from surrogates.models.additive import Additive, ScaledAdditive
from surrogates.models.automatic import Automatic, best_identifying
from surrogates.models.base import Surrogate
from surrogates.models.calibrated import Calibrated, FittedCalibrated
from surrogates.models.interaction import Interaction

YARDSTICK = "additive, pearson"
DEFAULT = "automatic, likelihood"
SIMPLER = "interaction, likelihood"  # what the default must not be worse than
_ROWS = 512


@dataclass(frozen=True)
class Method:
    """Forward models with the objective by which they are inverted.

    Attributes:
        surrogates: Models from which the training data choose one, the simplest first.
        objective: From a target and the size of the vocabulary to the objective.
        probabilistic: Whether its scores are log densities, so that probabilities follow from them.
    """

    surrogates: tuple[Surrogate, ...]
    objective: Callable[[AlignedProfile, int], Objective]
    probabilistic: bool


def _likelihood(target: AlignedProfile, entries: int) -> Objective:
    return TargetLikelihood(target, torch.zeros(entries, dtype=torch.float64))


def _pearson(target: AlignedProfile, entries: int) -> Objective:  # noqa: ARG001 - has no prior
    return Correlation(target, "pearson")


METHODS: Mapping[str, Method] = {
    YARDSTICK: Method((Additive(),), _pearson, probabilistic=False),
    "additive, likelihood": Method((Additive(),), _likelihood, probabilistic=True),
    "scaled additive, likelihood": Method((ScaledAdditive(),), _likelihood, probabilistic=True),
    "interaction, pearson": Method((Interaction(),), _pearson, probabilistic=False),
    SIMPLER: Method((Interaction(),), _likelihood, probabilistic=True),
    DEFAULT: Method(Automatic().bases, _likelihood, probabilistic=True),
}


@dataclass(frozen=True)
class Retrieval:
    """What one method did with every target.

    Attributes:
        rank: Rank of the truth, one is best.
        top_probability: Posterior probability of the first candidate; ``nan`` if the method has none.
    """

    rank: Int[Tensor, "n"]
    top_probability: Float[Tensor, "n"]

    @property
    def hit(self) -> Bool[Tensor, "n"]:
        """Whether the first candidate is the truth."""
        return self.rank == 1


@dataclass(frozen=True)
class RetrievalReport:
    """What the protocol measured, and what it rests upon.

    Attributes:
        rows: The metrics.
        found: Rank and probability for each target, by variant and method.
    """

    rows: list[Row]
    found: Mapping[str, Mapping[str, Retrieval]]


def measure_retrieval(
    screen: Screen,
    *,
    dataset: str,
    seed: int,
    methods: Mapping[str, Method] | None = None,
    most_targets: int = 500,
    progress: Callable[[int, int], None] | None = None,
) -> RetrievalReport:
    """Run the protocol with all readouts and with the readouts that are targets themselves removed.

    Args:
        screen: Measured effects in one context, with singles and doubles.
        dataset: Its name, for the rows.
        seed: Fixes folds (unless the screen brings ``double_fold``), the targets drawn and the bootstrap.
        methods: What to compare; the shipped methods by default. The first is the reference of paired differences.
        most_targets: More held-out doubles than this are drawn from at random.
        progress: Called with the number of fits done, of how many.

    Returns:
        Metrics ``top1``, ``top10``, ``median_rank``, ``mrr``, ``ece``, ``top1_gain`` over the first method and
        ``mrr_gain`` of the default over the plain interaction model, each with a 95 %
        bootstrap interval over targets, and rank and probability for each target.

    Raises:
        DataError: If the screen has no held-out double of two measured singles.
    """
    chosen = methods or METHODS
    variants = variants_of(screen)
    splits = list(_drawn(double_splits(screen, seed=seed), most_targets, seed))
    if not splits:
        raise DataError("no double has both of its singles measured, so nothing can be held out and retrieved")
    found: dict[str, dict[str, Retrieval]] = {}
    for number, (variant, view) in enumerate(variants.items()):
        tick = _ticker(progress, number * len(splits), len(variants) * len(splits))
        found[variant] = retrieve(view, splits, chosen, seed=seed, tick=tick)
    rows = [row for variant, each in found.items() for row in _rows(each, dataset, variant, seed)]
    return RetrievalReport(rows, found)


def retrieve(
    screen: Screen,
    splits: Sequence[Split],
    methods: Mapping[str, Method],
    *,
    seed: int,
    tick: Callable[[int], None] = lambda _: None,
) -> dict[str, Retrieval]:
    """Rank the truth of every held-out double among all pairs, by every method.

    Args:
        screen: Measured effects.
        splits: Training and held-out rows.
        methods: Models and objectives; a model that several share is fitted once per split.
        seed: Fixes the cross-fitting.
        tick: Called with the number of splits done.

    Returns:
        Rank and probability for each target, fold after fold, by method.
    """
    outcomes: dict[str, list[tuple[int, float]]] = {name: [] for name in methods}
    for number, split in enumerate(splits):
        training = screen.rows(split.train)
        space = candidate_space(training, "2", Constraints(measured="keep"))
        models = dict.fromkeys(model for method in methods.values() for model in method.surrogates)
        fits = {model: Calibrated(model).fit(training, seed=seed) for model in models}
        fitted = {
            name: best_identifying(fits[model] for model in method.surrogates) for name, method in methods.items()
        }
        # With every pair kept, only two doses of one target are none.
        valid = None if space.count_valid == space.size else space.valid(space.batch(0, space.size))
        for row in split.test.tolist():
            truth = torch.searchsorted(space.entries, screen.batch.genes[row][:2])
            for name, method in methods.items():
                score = _score(method, fitted[name], space, screen.effects[row])
                outcomes[name].append(_rank_of(score, truth, valid))
        tick(number + 1)
    return {name: _retrieval(each, methods[name]) for name, each in outcomes.items()}


def _retrieval(outcomes: Sequence[tuple[int, float]], method: Method) -> Retrieval:
    rank, top = torch.tensor(outcomes, dtype=torch.float64).T
    return Retrieval(rank.long(), top if method.probabilistic else torch.full_like(top, torch.nan))


def _score(
    method: Method, fitted: FittedCalibrated, space: CombinationSpace, effect: Float[Tensor, "g"]
) -> PairScore:
    target = AlignedProfile.exact(range(len(effect)), effect)
    # A yardstick that is not a likelihood is the bare model: the offset belongs to the error law.
    view = fitted if method.probabilistic else fitted.without_offsets()
    score = method.objective(target, len(fitted.vocabulary)).pair_score(view, space)
    if score is None:
        raise DataError(f"{type(fitted.base).__name__} does not factorise over pairs")
    return score


def _rank_of(score: PairScore, truth: Int[Tensor, "2"], valid: Bool[Tensor, "m"] | None) -> tuple[int, float]:
    """Rank of the true pair among the valid ones, ties against it, and the softmax weight of the best pair."""
    blocks = []
    for start in range(0, score.size, _ROWS):
        block = score.block(start, min(score.size, start + _ROWS)).double()
        blocks.append(block[torch.ones_like(block).triu(1) > 0])
        if start <= int(truth[0]) < start + _ROWS:
            best = block[int(truth[0]) - start, int(truth[1]) - start]
    values = torch.cat(blocks) if valid is None else torch.cat(blocks)[valid]
    return int((values >= best).sum()), float((values.max() - values.logsumexp(0)).exp())


def _drawn(splits: Iterator[Split], most: int, seed: int) -> Iterator[Split]:
    """Keep at most so many held-out rows, drawn at random over all folds."""
    every = list(splits)
    sizes = [len(split.test) for split in every]
    total = sum(sizes)
    kept = torch.zeros(total, dtype=torch.bool)
    kept[torch.randperm(total, generator=torch.Generator().manual_seed(seed))[:most]] = True
    for split, mask in zip(every, kept.split(sizes) if sizes else (), strict=True):
        if bool(mask.any()):
            yield Split(split.train, split.test[mask])


def _rows(found: Mapping[str, Retrieval], dataset: str, variant: str, seed: int) -> list[Row]:
    reference = next(iter(found.values()))
    rows = []
    for name, each in found.items():
        rank = each.rank.double()
        shares = {"top1": each.hit.double(), "top10": (rank <= 10).double(), "mrr": 1 / rank}
        if each is not reference:
            shares["top1_gain"] = each.hit.double() - reference.hit.double()
        if name == DEFAULT and SIMPLER in found:
            shares["mrr_gain"] = 1 / rank - 1 / found[SIMPLER].rank.double()
        measured = {metric: (_mean(values), "share") for metric, values in shares.items()}
        measured["median_rank"] = (median(rank), "rank")
        if not bool(each.top_probability.isnan().any()):
            measured["ece"] = (_calibration_error(each), "share")
        every = torch.arange(len(rank))[None]
        for metric, (statistic, unit) in measured.items():
            low, high = bootstrap_interval(statistic, len(rank), seed=seed)
            value = float(statistic(every)[0])
            novelty = novelty_name(SEEN_DOUBLE)
            rows.append(
                Row("retrieval", dataset, name, novelty, variant, metric, value, low, high, len(rank), unit)
            )
    return rows


def _mean(values: Float[Tensor, "n"]) -> RowStatistic:
    return lambda drawn: values[drawn].mean(1)


def _calibration_error(found: Retrieval) -> RowStatistic:
    return lambda drawn: calibration_errors(found.top_probability[drawn], found.hit[drawn])


def _ticker(progress: Callable[[int, int], None] | None, done: int, total: int) -> Callable[[int], None]:
    return (lambda _: None) if progress is None else (lambda splits: progress(done + splits, total))
