"""Protocol ``retrieval``: how often the perturbation that made a held-out state is found among all pairs.

For each fold of doubles everything (model, error model, temperature) is learnt from all singles and the other
folds' doubles; each held-out double whose two singles are measured is the target once, and all pairs of the
singles are ranked. The rank of the truth counts ties against it. Means over targets are given with paired gains,
and promises with what was kept.
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from inverse_design.problem.constraints import Constraints
from inverse_design.problem.likelihood import TargetLikelihood
from inverse_design.problem.objective import Correlation
from inverse_design.problem.problem import candidate_space
from inverse_design.problem.score import PairScore, ProductScore
from inverse_design.problem.space import CombinationSpace
from inverse_design.problem.target import AlignedProfile
from inverse_design.search.survey import surveys
from inverse_design.validate.judged import Kept, calibration_errors, compare, drawn_of, promised, variants_of
from surrogates.data.novelty import SEEN_DOUBLE, Split, double_splits, novelty_name, own_columns
from surrogates.data.perturbation import DIRECTION
from surrogates.data.screen import Screen
from surrogates.data.vocabulary import Vocabulary
from surrogates.errors import DataError
from surrogates.evaluation.intervals import NodeBootstrap, Row, median, target_nodes
from surrogates.evaluation.workers import in_order
from surrogates.executors import Workers
from surrogates.models.base import Surrogate
from surrogates.models.baselines import Additive, ScaledAdditive
from surrogates.models.interaction import Interaction
from surrogates.models.wrappers.automatic import Automatic
from surrogates.models.wrappers.calibrated import Calibrated, FittedCalibrated
from surrogates.summary import summary
from surrogates.uncertainty.dyadic import dyadic_standard_error
from surrogates.uncertainty.selection import Promise

_ROWS = 512
YARDSTICK = "additive, likelihood"
DEFAULT = "automatic, likelihood"
OWN_READOUTS = "own readouts"
SIMPLE = (YARDSTICK, "scaled additive, likelihood", "interaction, likelihood")  # what the default is to beat

Scoring = Callable[[FittedCalibrated, CombinationSpace, Float[Tensor, "t g"]], Sequence[PairScore | None]]


def _anywhere(_screen: Screen) -> bool:
    return True


@dataclass(frozen=True)
class Method:
    """A forward model, and how its pairs are scored."""

    model: Calibrated | Automatic  # what is fitted; a model that several methods share is fitted once
    score: Scoring  # from fit, pairs and targets to scores of every pair; ``None`` if it does not factorise
    probabilistic: bool  # whether scores are log densities, so that probabilities follow from them
    applies: Callable[[Screen], bool] = _anywhere  # whether the method exists on a screen


def likelihood_scores(
    fitted: FittedCalibrated, space: CombinationSpace, effects: Float[Tensor, "t g"]
) -> list[PairScore | None]:
    """Score pairs by the log density of each target, or of experts by the log posterior, without a prior."""
    first = TargetLikelihood(
        AlignedProfile.exact(range(effects.shape[1]), effects[0]),
        torch.zeros(len(fitted.vocabulary), dtype=torch.float64),
    )
    asked = [replace(first, target=replace(first.target, values=effect)) for effect in effects]
    if fitted.experts:
        asked = [each.known for each in surveys(asked, fitted, space, 0)]
    return [each.pair_score(fitted, space) for each in asked]


def pearson_scores(
    fitted: FittedCalibrated, space: CombinationSpace, effects: Float[Tensor, "t g"]
) -> list[PairScore | None]:
    """Score pairs by the correlation of the bare model's prediction with each target."""
    targets = [AlignedProfile.exact(range(len(effect)), effect) for effect in effects]
    return [Correlation(each, "pearson").pair_score(fitted.without_offsets(), space) for each in targets]


def own_readouts_scores(
    fitted: FittedCalibrated, space: CombinationSpace, effects: Float[Tensor, "t g"]
) -> list[ProductScore]:
    """Look pairs up: the sum of what each target shows on the two genes' own readouts.

    Activation raises its own gene, knock-down and knock-out lower it; no model is asked. Genes that are no
    readouts, and compounds, count nothing.
    """
    columns = own_columns(fitted.vocabulary, fitted.readouts)  # -1, the last, where there is none
    own = torch.cat([effects, effects.new_zeros(len(effects), 1)], 1)[:, columns] * _signs(fitted.vocabulary)
    none = torch.zeros(len(space.entries), 0)
    return [ProductScore(each[space.entries], none, none) for each in own]


def reads_own(screen: Screen) -> Float[Tensor, "v"]:
    """Say which entries act on a readout, and in which direction it is expected to go."""
    return torch.where(own_columns(screen.vocabulary, screen.readouts) >= 0, _signs(screen.vocabulary), 0.0)


def _reads_some_own(screen: Screen) -> bool:
    return bool(reads_own(screen).any())


def _signs(vocabulary: Vocabulary) -> Float[Tensor, "v"]:
    return torch.tensor([DIRECTION.get(entry.mode, 0.0) for entry in vocabulary.entries], dtype=torch.float64)


@dataclass(frozen=True)
class Retrieval:
    """What one method did with every target."""

    rank: Int[Tensor, "n"]  # rank of the truth, one is best
    top_probability: Float[Tensor, "n"]  # of the first candidate; ``nan`` if the method has none
    log_probability: Float[Tensor, "n"]  # of the truth, in nats; ``nan`` if the method has none
    promised: Float[Tensor, "n"]  # what fits to other folds promised of it; ``nan`` if nothing

    @property
    def hit(self) -> Bool[Tensor, "n"]:
        """Whether the first candidate is the truth."""
        return self.rank == 1

    @property
    def has_probabilities(self) -> bool:
        """Whether the method states probabilities."""
        return not bool(self.log_probability.isnan().any())


@dataclass(frozen=True)
class RetrievalReport:
    """What the protocol measured."""

    conditions: Int[Tensor, "n"]  # rows of the screen that were targets
    found: Mapping[str, Mapping[str, Retrieval]]  # what was found of each target, by variant and method
    __repr__ = summary


def measure_retrieval(
    screen: Screen,
    *,
    seed: int,
    methods: Mapping[str, Method] | None = None,
    most_targets: int = 500,
    workers: Workers = 1,
    progress: Callable[[int, int], None] | None = None,
) -> RetrievalReport:
    """Run the protocol with the readouts that are targets themselves removed, and with all readouts.

    Args:
        screen: Measured effects in one context, with singles and doubles.
        seed: Fixes folds (unless the screen brings ``double_fold``), fits and the targets drawn.
        methods: What to compare; the shipped methods by default. One that does not apply to a variant has no rows
            there.
        most_targets: More held-out doubles than this are drawn from at random.
        workers: Processes of this machine, or the address of a scheduler of ``dask.distributed``; each worker fits
            a fold, and the report does not depend on them.
        progress: Called with the number of fits done, of how many.

    Returns:
        What was found; :func:`inverse_design.validate.retrieval.retrieval_rows` sums it up.

    Raises:
        DataError: If the screen has no held-out double of two measured singles.
        WorkerError: If a process dies, or the scheduler cannot be used.
    """
    every = list(double_splits(screen, seed=seed))
    drawn = zip(every, drawn_of([len(split.test) for split in every], most_targets, seed=seed), strict=True)
    splits = tuple(Split(split.train, split.test[mask]) for split, mask in drawn if bool(mask.any()))
    if not splits:
        raise DataError("no double has both of its singles measured, so nothing can be held out and retrieved")
    variants = {
        name: Variant(
            view, splits, {name: each for name, each in (methods or METHODS).items() if each.applies(view)}
        )
        for name, view in variants_of(screen).items()
    }
    folds = [(each, number, seed) for each in variants.values() for number in range(len(splits))]
    outcomes: list[_Outcome] = []
    for each in in_order(_ask_fold, folds, workers=workers):
        outcomes.append(each)
        if progress is not None:
            progress(len(outcomes), len(folds))
    found = {
        name: each.retrievals(outcomes[number * len(splits) : (number + 1) * len(splits)])
        for number, (name, each) in enumerate(variants.items())
    }
    return RetrievalReport(torch.cat([split.test for split in splits]), found)


@dataclass(frozen=True)
class _Outcome:
    """What all methods did with the targets of one fold, and what the fits behind them promised."""

    standings: Mapping[str, Sequence[tuple[float, float, float]]]
    promises: Mapping[str, Promise | None]


@dataclass(frozen=True)
class Variant:
    """Some readouts of a screen, the doubles that are held out of it, and the methods that are asked for them."""

    screen: Screen
    splits: tuple[Split, ...]
    methods: Mapping[str, Method]

    def ask(self, fold: int, *, seed: int) -> _Outcome:
        """Rank the truth of every double that a fold holds out among all pairs, by every method."""
        split = self.splits[fold]
        training = self.screen.rows(split.train)
        space = candidate_space(training, "2", Constraints(measured="keep"))
        fits: dict[Surrogate, FittedCalibrated] = {}
        for model in dict.fromkeys(method.model for method in self.methods.values()):
            if isinstance(model, Automatic):
                fits[model] = model.fit(training, seed=seed, known=fits)
            else:
                fits[model] = model.fit(training, seed=seed)
        # With every pair kept, only two doses of one target are none.
        valid = None if space.count_valid == space.size else space.valid(space.batch(0, space.size))
        truths = torch.searchsorted(space.entries, self.screen.batch.genes[split.test][:, :2].contiguous())
        standings: dict[str, list[tuple[float, float, float]]] = {}
        for name, method in self.methods.items():
            scores = method.score(fits[method.model], space, self.screen.effects[split.test])
            standings[name] = [
                _standing(_factorised(score, fits[method.model]), truth, valid)
                for score, truth in zip(scores, truths, strict=True)
            ]
        return _Outcome(standings, {name: fits[each.model].promise for name, each in self.methods.items()})

    def retrievals(self, outcomes: Sequence[_Outcome]) -> dict[str, Retrieval]:
        """Put the folds together."""
        parts = self.screen.batch.genes[torch.cat([split.test for split in self.splits])][:, :2]
        found = {}
        for name, method in self.methods.items():
            promises = [promise for each in outcomes if (promise := each.promises[name]) is not None]
            standings = [standing for each in outcomes for standing in each.standings[name]]
            found[name] = _retrieval(standings, promised(promises, parts), method)
        return found


def _ask_fold(fold: tuple[Variant, int, int]) -> _Outcome:
    variant, number, seed = fold
    return variant.ask(number, seed=seed)


def _retrieval(outcomes: Sequence[tuple[float, ...]], promise: Float[Tensor, "n"], method: Method) -> Retrieval:
    rank, *numbers = (*torch.tensor(outcomes, dtype=torch.float64).T, promise)
    if not method.probabilistic:
        numbers = [torch.full_like(each, torch.nan) for each in numbers]
    return Retrieval(rank.long(), *numbers)


def _factorised(score: PairScore | None, fitted: FittedCalibrated) -> PairScore:
    if score is None:
        raise DataError(f"{type(fitted.base).__name__} does not factorise over pairs")
    return score


def _standing(
    score: PairScore, truth: Int[Tensor, "2"], valid: Bool[Tensor, "m"] | None
) -> tuple[float, float, float]:
    """Rank of the true pair among the valid ones, ties against it; softmax of the best, log softmax of it."""
    blocks = []
    for start in range(0, score.size, _ROWS):
        block = score.block(start, min(score.size, start + _ROWS)).double()
        blocks.append(block[torch.ones_like(block).triu(1) > 0])
        if start <= int(truth[0]) < start + _ROWS:
            own = block[int(truth[0]) - start, int(truth[1]) - start]
    values = torch.cat(blocks) if valid is None else torch.cat(blocks)[valid]
    whole = values.logsumexp(0)
    return float((values >= own).sum()), float((values.max() - whole).exp()), float(own - whole)


_TOP = 10


def retrieval_rows(report: RetrievalReport, screen: Screen, *, dataset: str, seed: int) -> list[Row]:
    """Sum up what was found, for every variant and method."""
    nodes = target_nodes(screen.batch.rows(report.conditions), screen.vocabulary)
    draws = NodeBootstrap.of(nodes, seed=seed)
    rows = []
    for variant, found in report.found.items():
        own = reads_own(variants_of(screen)[variant])[screen.batch.genes[report.conditions][:, :2]] != 0
        both = own.all(1)
        first = next(iter(found.values()))
        for name, each in found.items():
            row = partial(Row, "retrieval", dataset, name, novelty_name(SEEN_DOUBLE), variant)
            summed = _Summed(draws, nodes, row)
            rows += [*summed.means(_columns(each, None if each is first else first)), *summed.others(each)]
            if bool(both.any()):
                some = _Summed(NodeBootstrap.of(nodes[both], seed=seed), nodes[both], row)
                rows += some.means({"top1_both_own": (each.hit[both].double(), "share")})
    return rows


def kept_promise(found: Retrieval, nodes: Int[Tensor, "n k"]) -> Kept | None:
    """Set what the fits of a method promised of their targets against what they kept."""
    return None if bool(found.promised.isnan().all()) else compare(found.promised, found.log_probability, nodes)


def _columns(found: Retrieval, first: Retrieval | None) -> dict[str, tuple[Float[Tensor, "n"], str]]:
    """Numbers of each target, of which means are taken, with their units."""
    rank = found.rank.double()
    columns = {
        "top1": (found.hit.double(), "share"),
        "top10": ((rank <= _TOP).double(), "share"),
        "mrr": (1 / rank, "share"),
    }
    if found.has_probabilities:
        columns["log_probability"] = (found.log_probability, "nats")
    if first is not None:
        columns["top1_gain"] = (found.hit.double() - first.hit.double(), "share")
        columns["mrr_gain"] = (1 / rank - 1 / first.rank.double(), "share")
        if found.has_probabilities and first.has_probabilities:
            columns["log_probability_gain"] = (found.log_probability - first.log_probability, "nats")
    return columns


@dataclass(frozen=True)
class _Summed:
    """Statistics over the same targets."""

    draws: NodeBootstrap
    nodes: Int[Tensor, "n k"]
    row: partial[Row]

    def means(self, columns: Mapping[str, tuple[Float[Tensor, "n"], str]]) -> Iterator[Row]:
        """Average numbers of each target."""
        for metric, (values, unit) in columns.items():
            error = dyadic_standard_error(values, self.nodes)
            bounds = self.draws.interval(values)
            yield self.row(metric, float(values.mean()), *bounds, len(values), unit, standard_error=error)

    def others(self, found: Retrieval) -> Iterator[Row]:
        """Take what is no mean over targets, or compares two."""
        n, rank = len(found.rank), found.rank.double()
        yield self.row("median_rank", float(rank.quantile(0.5)), *self.draws.interval(median(rank)), n, "rank")
        if not found.has_probabilities:
            return
        stated, hit = found.top_probability, found.hit
        error = float(calibration_errors(stated[None], hit[None])[0])
        bounds = self.draws.interval(lambda drawn: calibration_errors(stated[drawn], hit[drawn]))
        yield self.row("ece", error, *bounds, n, "share")
        kept = kept_promise(found, self.nodes)
        if kept is not None:
            gap = found.log_probability - found.promised
            bounds = self.draws.interval(gap)
            yield self.row("log_probability_promised", kept.promised, math.nan, math.nan, kept.n, "nats")
            yield self.row(
                "promise_gap", kept.kept - kept.promised, *bounds, kept.n, "nats", standard_error=kept.error
            )


METHODS: Mapping[str, Method] = {
    YARDSTICK: Method(Calibrated(Additive()), likelihood_scores, probabilistic=True),
    OWN_READOUTS: Method(
        Calibrated(Additive()), own_readouts_scores, probabilistic=False, applies=_reads_some_own
    ),
    "additive, pearson": Method(Calibrated(Additive()), pearson_scores, probabilistic=False),
    "scaled additive, likelihood": Method(Calibrated(ScaledAdditive()), likelihood_scores, probabilistic=True),
    "interaction, pearson": Method(Calibrated(Interaction()), pearson_scores, probabilistic=False),
    "interaction, likelihood": Method(Calibrated(Interaction()), likelihood_scores, probabilistic=True),
    DEFAULT: Method(Automatic(unseen=None), likelihood_scores, probabilistic=True),
}
