"""Contract checks for authors of plug-ins: objectives, constraints, writers, pair scores, searches and stores.

Each check raises :class:`AssertionError` with what was expected and what was found.
"""

import itertools
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from inverse_design.campaign.store.chain import Entry, Head
from inverse_design.campaign.store.events import (
    Asked,
    Block,
    Corrected,
    Created,
    Ordered,
    Retracted,
    Told,
    WellPlace,
    Withdrawn,
    content_hash,
    to_json,
)
from inverse_design.campaign.store.protocol import Store
from inverse_design.errors import NothingToProposeError, PlanError, StoreError
from inverse_design.problem.constraints import Constraint, Constraints
from inverse_design.problem.objective import Objective
from inverse_design.problem.problem import candidate_space
from inverse_design.problem.score import PairScore, ProductScore
from inverse_design.problem.space import CombinationSpace
from inverse_design.problem.target import ProfileTarget, ScalarTarget
from inverse_design.recommend.protocol import PERTURBATION, DecisionState, Recommender
from inverse_design.search.topk import SearchResult
from surrogates.data.perturbation import Intervention, Perturbation
from surrogates.data.screen import Screen
from surrogates.data.vocabulary import EMPTY, Vocabulary
from surrogates.errors import DataError, UnknownNameError
from surrogates.models.wrappers.calibrated import FittedCalibrated

Searcher = Callable[[ProductScore, int, CombinationSpace], SearchResult]
_MOST = 300  # candidates that an objective or a constraint is asked about


def check_objective(objective: Objective, fitted: FittedCalibrated, space: CombinationSpace) -> None:
    """Check that an objective values each candidate on its own, and pairs by products as one by one."""
    _require("it satisfies Objective", holds=isinstance(objective, Objective))
    batch = space.batch(0, min(space.size, _MOST))
    utility, b = objective.utility(fitted, batch), len(batch)
    for name, numbers in (("mean", utility.mean), ("variance", utility.variance)):
        _expect(f"the shape of the {name}", tuple(numbers.shape), (b,))
        _require(f"each {name} is finite", holds=bool(numbers.isfinite().all()))
    _require("no variance is negative", holds=not bool((utility.variance < 0).any()))
    alone = objective.utility(fitted, batch.rows(slice(b - 1, b))).mean
    torch.testing.assert_close(alone, utility.mean[-1:], msg=lambda said: f"a candidate alone: {said}")
    outcome, posterior = objective.outcome, fitted.predict(batch)
    _expect("the shape of the outcome", tuple(outcome.predicted(posterior).mean.shape), (b,))
    _expect("the shape of a measured outcome", tuple(outcome.measured(posterior.mean).shape), (b,))
    score = objective.pair_score(fitted, space) if 2 in space.orders else None
    if score is not None:
        check_pair_score(score)
        first, stop = space.span(2)
        pairs = space.batch(first, min(stop, first + _MOST))
        at = torch.searchsorted(space.entries, pairs.genes[:, :2].contiguous())
        torch.testing.assert_close(
            score.exact(*at.unbind(1)),
            objective.utility(fitted, pairs).mean,
            msg=lambda said: f"pairs by products and one by one: {said}",
        )


def check_constraint(constraint: Constraint, vocabulary: Vocabulary) -> None:
    """Check that a constraint answers for each candidate on its own."""
    parameters = getattr(type(constraint), "__dataclass_params__", None)
    _require("it is a frozen dataclass", holds=parameters is not None and parameters.frozen)
    every = CombinationSpace.of(vocabulary, orders=(1, 2, 3), constraints=Constraints(measured="keep"))
    batch = every.take(torch.linspace(0, every.size - 1, min(every.size, _MOST)).long())
    allowed = constraint.allows(batch, vocabulary)
    _expect("the kind of its answer", (tuple(allowed.shape), allowed.dtype), ((len(batch),), torch.bool))
    backwards = constraint.allows(batch.rows(torch.arange(len(batch)).flip(0)), vocabulary)
    _expect("its answer to candidates in another order", backwards.flip(0).tolist(), allowed.tolist())
    singles = batch.rows(torch.nonzero(batch.order == 1).flatten())
    narrow = constraint.allows(vocabulary.dosed(singles.genes[:, :1]), vocabulary)
    _expect("its answer without empty slots", narrow.tolist(), allowed[batch.order == 1].tolist())
    _expect("its answer to none", tuple(constraint.allows(batch.rows(slice(0, 0)), vocabulary).shape), (0,))


def check_writer(write: Callable[[pd.DataFrame, Path, Mapping[str, object]], None], path: Path) -> None:
    """Check that a writer makes one file, also of gaps and of no rows, and keeps the table as it was."""
    table = pd.DataFrame({"name": ["A+B", 'é, "c"'], "number": [0.1, np.nan], "set": [True, False]})
    for each in (table, table.iloc[:0]):
        before = each.copy()
        write(each, path, {"manifest": {"seed": 0}})
        _expect("the files", [one.name for one in path.parent.iterdir()], [path.name])
        pd.testing.assert_frame_equal(each, before)


def check_space(space: CombinationSpace) -> None:
    """Spell a small space out and compare it with :func:`itertools.combinations`."""
    batch = space.batch(0, space.size)
    found = [tuple(int(gene) for gene in row if int(gene) != EMPTY) for row in batch.genes]
    entries = [int(one) for one in space.entries]
    wanted = [each for order in space.orders for each in itertools.combinations(entries, order)]
    _expect("the combinations", found, wanted)
    _expect("the numbers", space.indices(batch).tolist(), list(range(space.size)))
    _expect("the number of valid combinations", space.count_valid, int(space.valid(batch).sum()))
    distinct = [number for number, genes in enumerate(found) if _has_distinct_targets(space.vocabulary, genes)]
    for number in distinct[:: max(1, len(distinct) // 20)]:
        perturbation = space.vocabulary.perturbation(found[number])
        _expect(f"the number of {perturbation}", space.index(perturbation), number)


def check_pair_score(score: PairScore) -> None:
    """Compare the quick scores of all pairs with the exact ones."""
    first, second = torch.triu_indices(score.size, score.size, offset=1).unbind(0)
    exact = score.exact(first, second)
    whole = score.block(0, score.size)
    _expect("the shape of the whole block", tuple(whole.shape), (score.size, score.size))
    _expect("the number of NaN", int(whole.isnan().sum()), 0)
    for start, stop in itertools.pairwise((0, score.size // 3, score.size)):
        block = score.block(start, stop).double()
        _expect("the shape of a block", tuple(block.shape), (stop - start, score.size - start))
        middle = (start + score.size) // 2
        halves = [score.block(start, stop, each) for each in ((start, middle), (middle, score.size))]
        _expect("the shape of a tile", tuple(halves[0].shape), (stop - start, middle - start))
        _expect("the shape of both tiles", tuple(torch.cat(halves, 1).shape), tuple(block.shape))
        apart = float((torch.cat(halves, 1).double() - block).triu(1).abs().max()) if block.numel() else 0.0
        if not apart <= 2 * score.error:
            raise AssertionError(f"tiles and blocks differ by {apart}, more than twice the bound {score.error}")
        inside = (first >= start) & (first < stop)
        quick = block[first[inside] - start, second[inside] - start]
        largest = float((quick - exact[inside]).abs().max()) if bool(inside.any()) else 0.0
        if not largest <= score.error:
            raise AssertionError(f"quick scores are wrong by {largest}, more than the bound {score.error}")
    for pair in range(0, len(first), max(1, len(first) // 20)):
        alone = score.exact(first[pair : pair + 1], second[pair : pair + 1])
        _expect("an exact score asked for alone", alone.tolist(), exact[pair : pair + 1].tolist())


def check_searcher(search: Searcher, *, seed: int = 0) -> None:
    """Compare a search over pairs with brute force, with ties, constraints and more asked for than there is."""
    generator = torch.Generator().manual_seed(seed)
    doses = {"G03": 2.0, "G07": 0.5}
    entries = [Intervention(f"G{one:02d}") for one in range(40)]
    vocabulary = Vocabulary((*entries, *(Intervention(name, dose=dose) for name, dose in doses.items())))
    measured = vocabulary.batch([vocabulary.parse(f"G{one:02d}+G{one + 1:02d}") for one in range(0, 38, 3)])
    for rules, k in itertools.product((Constraints(), Constraints(required=("G07",))), (1, 20, 2000)):
        space = CombinationSpace.of(vocabulary, orders=(1, 2), constraints=rules, measured=measured)
        side, left, right = (
            torch.randint(-2, 3, shape, generator=generator).double() for shape in ((42,), (42, 3), (42, 3))
        )
        score = ProductScore(side, left, right)
        top = search(score, k, space).top
        wanted = _brute_force(score, k, space)
        _expect(f"the {k} best pairs", list(zip(top.index.tolist(), top.score.tolist(), strict=True)), wanted)


def _brute_force(score: ProductScore, k: int, space: CombinationSpace) -> list[tuple[int, float]]:
    start, stop = space.span(2)
    valid = space.valid(space.batch(start, stop)).tolist()
    scored = []
    for number, (i, j) in enumerate(itertools.combinations(range(score.size), 2)):
        product = torch.dot(score.left[i].double(), score.right[j].double())
        if valid[number]:
            scored.append((start + number, float(score.side[i] + score.side[j] + product)))
    return sorted(scored, key=lambda pair: (-pair[1], pair[0]))[:k]


def _has_distinct_targets(vocabulary: Vocabulary, genes: tuple[int, ...]) -> bool:
    return len({vocabulary.targets[gene] for gene in genes}) == len(genes)


def _require(clause: str, *, holds: bool) -> None:
    if not holds:
        raise AssertionError(f"broken: {clause}")


def _expect(what: str, found: object, wanted: object) -> None:
    if found != wanted:
        raise AssertionError(f"{what}: found {found}, wanted {wanted}")


def check_recommender(recommender: Recommender, *, seed: int = 0) -> None:
    """Let a recommender choose pairs in a small screen: for a readout to lower and for a state to be reached.

    A recommender may refuse one of the two targets with a :class:`~surrogates.errors.DataError`. Those that it
    serves it must serve both as a replay asks (from a list of candidates) and as a campaign asks (from a space).

    Args:
        recommender: Which.
        seed: Fixes everything that is random.

    Raises:
        AssertionError: If it serves no target, or only a list or only a space; names another number of experiments
            than were wanted or are left, one of them twice, one that is measured, pending or no candidate; answers
            differently when asked again; changes what it is shown; or answers where nothing is left.
    """
    screen = _small_screen()
    profile = ProfileTarget("state", screen.readouts, screen.effects[-1] * 1.1)
    served = 0
    for target in (ScalarTarget(screen.readouts[0], "minimise"), profile):
        space = candidate_space(screen, "2", None)
        listed = space.batch(0, space.size)
        states = [DecisionState(screen, target, each, started=_GENES) for each in (listed, space)]
        kinds = []
        for state in states:
            try:
                _check_answers(recommender, state, seed)
            except PlanError as error:
                raise AssertionError(str(error)) from error
            except DataError:
                continue
            kinds.append(type(state.candidates).__name__)
        if len(kinds) == 1:
            raise AssertionError(f"the target {target.name!r} is served from a {kinds[0]} only")
        served += len(kinds)
    if not served:
        raise AssertionError("neither a direction over pairs nor a state is served")


_GENES, _PAIRS, _WANTED = 8, 12, 3


def _small_screen() -> Screen:
    """Measure eight genes alone, and twelve of their 28 pairs, which add up but for noise."""
    generator = torch.Generator().manual_seed(0)
    alone = torch.randn(_GENES, 4, generator=generator, dtype=torch.float64)
    pairs = torch.combinations(torch.arange(_GENES))
    pairs = pairs[torch.randperm(len(pairs), generator=generator)[:_PAIRS]]
    noise = torch.randn(_PAIRS, 4, generator=generator, dtype=torch.float64)
    names = [Intervention(f"G{number}") for number in range(_GENES)]
    done = [Perturbation((name,)) for name in names]
    done += [Perturbation((names[i], names[j])) for i, j in pairs.tolist()]
    effects = torch.cat([alone, 0.8 * alone[pairs].sum(1) + 0.3 * noise])
    return Screen.from_labels(effects, done, [f"r{number}" for number in range(4)])


def _check_answers(recommender: Recommender, state: DecisionState, seed: int) -> None:
    before = state.measured.effects.tolist()
    offered = [state.measured.vocabulary.perturbation(genes) for genes in state.open().genes]
    pending, left = tuple(offered[:2]), {each.label for each in offered[2:]}

    def named(count: int) -> list[str]:
        answer = recommender.recommend(state, count, pending=pending, seed=seed)
        return [state.measured.vocabulary.parse(str(each)).label for each in answer.table[PERTURBATION]]

    labels = named(_WANTED)
    _expect("the number of experiments", len(labels), _WANTED)
    _expect("the number of distinct ones", len(set(labels)), _WANTED)
    _expect("what is measured, pending or no candidate", set(labels) - left, set())
    _expect("the answer to the same question", named(_WANTED), labels)
    _expect("all that is left", set(named(10 * len(offered))), left)
    _expect("what was measured", state.measured.effects.tolist(), before)
    _refuses(
        "a state in which everything is pending",
        NothingToProposeError,
        lambda: recommender.recommend(state, 1, pending=tuple(offered), seed=seed),
    )


_NAME, _ACTOR = "contract", "tester"
_SCREEN = b"a starting screen"
_CREATED = Created({"name": _NAME, "target": "T"}, {"kind": "scalar"}, conditions=3)
_COLUMNS = [{"name": "perturbation", "kind": "text", "values": ["A+B", "A+C", "B+C"]}]
_ASKED = Asked(1, 1, ("A+B", "A+C", "B+C"), _COLUMNS, 0.5, ("a note",), count=3, seed=7, basis=1)
_TOLD = Told(measured=2, failed=1, extra=1, values=3, flagged=("odd",))


def check_store(store: Store) -> None:
    """Run a campaign through an empty store, with failures and several writers."""
    _expect("the names of an empty store", store.names(), ())
    _refuses("an unknown campaign", UnknownNameError, lambda: store.reading(_NAME).__enter__())
    store.create(_NAME, "key-1", _CREATED, screen=_SCREEN, actor=_ACTOR)
    _refuses("a second campaign of one name", StoreError, lambda: _create(store))
    _expect("the names", store.names(), (_NAME,))
    _check_beginning(store)
    _check_projection(store)
    _check_taking_back(store)
    _check_rollback(store)
    _check_writers(store)
    _check_chain(store)


def _create(store: Store) -> None:
    store.create(_NAME, "key-2", _CREATED, screen=_SCREEN, actor=_ACTOR)


def _check_beginning(store: Store) -> None:
    with store.reading(_NAME) as log:
        (created,) = log.events()
        _expect("the first event", (created.sequence, created.actor, created.event), (1, _ACTOR, _CREATED))
        _expect("the hash of its artefact", created.artefact, content_hash(_SCREEN))
        _expect("its artefact", log.artefact(str(created.artefact)), _SCREEN)
        _expect("key, head and next number", (log.key, log.head(), log.next_number()), ("key-1", 1, 1))
        _expect("the newest round", log.newest("asked"), None)


def _check_projection(store: Store) -> None:
    """Take three experiments through their lives, and record a fourth that nobody had asked for."""
    block = _block()
    with store.writing(_NAME) as log:
        log.append(_ASKED, actor=_ACTOR)
        log.append(Ordered((1, 2)), actor=_ACTOR)
        told = log.append(_TOLD, actor=_ACTOR, artefact=block.to_bytes(), digest="d")
        log.append(Withdrawn((3,), "no reagent"), actor=_ACTOR)
    with store.reading(_NAME) as log:
        kinds = [(one.sequence, one.event.kind) for one in log.events()]
        _expect("the log", kinds, list(enumerate(("created", "asked", "ordered", "told", "withdrawn"), start=1)))
        newest = log.newest("asked")
        _expect("the round", newest and newest.event, _ASKED)
        found = [(one.number, one.perturbation, one.round, one.state) for one in log.experiments()]
        wanted = [(1, "A+B", 1, "measured"), (2, "A+C", 1, "failed"), (3, "B+C", 1, "withdrawn")]
        _expect("the experiments", found, [*wanted, (4, "C+D", 0, "measured")])
        counts = {"proposed": 0, "ordered": 0, "measured": 2, "failed": 1, "withdrawn": 1}
        _expect("the counts", dict(log.counts()), counts)
        _expect("experiments by label", [one.number for one in log.experiments(perturbations=["C+D", "X"])], [4])
        _expect("experiments by state", [one.number for one in log.experiments(states=["failed"])], [2])
        _expect("experiments by round", len(log.experiments(round_number=1)), 3)
        wells = sorted((one.number, one.replicate, one.sequence, one.row) for one in log.measurements([1, 2, 4]))
        _expect("the wells", wells, [(1, "1", told, 0), (1, "2", told, 1), (2, "1", told, 2), (4, "1", told, 3)])
        _expect("the blocks", list(log.blocks()), [block.to_bytes()])
        _expect("the blocks before", list(log.blocks(until=told - 1)), [])
        _expect("one block", log.block(told), block.to_bytes())
        by_digest = log.told("d")
        _expect("the table by its digest", by_digest and by_digest.sequence, told)
        _expect("another table", log.told("e"), None)


def _check_taking_back(store: Store) -> None:
    """Take two wells back, and replace a third: only what counts is found as a measurement."""
    first = _block()
    with store.writing(_NAME) as log:
        told = next(one.sequence for one in log.events("told"))
        one, two, _, four = (
            WellPlace(int(number), label, replicate, told, row)
            for row, (number, label, replicate) in enumerate(
                zip(first.number, first.label, first.replicate, strict=True)
            )
        )
        log.append(Retracted((one, four), ((4, "withdrawn"),), "mistaken"), actor=_ACTOR)
        block = first.rows(np.array([False, True, False, False]))
        event = Corrected((two,), ((1, "failed"),), "the other plate")
        corrected = log.append(event, actor=_ACTOR, artefact=block.to_bytes())
    with store.reading(_NAME) as log:
        wells = sorted((one.number, one.replicate, one.sequence, one.row) for one in log.measurements([1, 2, 4]))
        _expect("the wells that count", wells, [(1, "2", corrected, 0), (2, "1", told, 2)])
        states = {one.number: one.state for one in log.experiments()}
        _expect("the states", states, {1: "failed", 2: "failed", 3: "withdrawn", 4: "withdrawn"})
        _expect("all blocks", list(log.blocks()), [first.to_bytes(), block.to_bytes()])
        _expect("the block of the correction", log.block(corrected), block.to_bytes())
        newest = log.newest("corrected")
        _expect("the correction", newest and newest.event, event)


def _block() -> Block:
    return Block(
        number=np.array([1, 1, 2, 4]),
        extra=np.array([False, False, False, True]),
        failed=np.array([False, False, True, False]),
        genes=np.array([[0, 1], [0, 1], [0, 2], [2, 3]]),
        values=np.array([[0.1], [0.2], [np.nan], [0.3]]),
        labels=Block.lines(["A+B", "A+B", "A+C", "C+D"]),
        replicates=Block.lines(["1", "2", "1", "1"]),
    )


def _check_rollback(store: Store) -> None:
    with store.reading(_NAME) as log:
        before = (log.end, log.experiments())

    def fail() -> None:
        with store.writing(_NAME) as log:
            log.append(Asked(2, 5, ("D+E",), [], None, (), count=1, seed=1, basis=5), actor=_ACTOR)
            raise DataError("on purpose")

    _refuses("an exception in a transaction", DataError, fail)
    with store.reading(_NAME) as log:
        _expect("the campaign after it", (log.end, log.experiments()), before)


def _check_writers(store: Store) -> None:
    """Let several writers add events at once: each reads the last number and must find it still the last."""
    with store.reading(_NAME) as log:
        before = log.head()

    def add(_: int) -> int:
        with store.writing(_NAME) as log:
            return log.append(Withdrawn((), "nothing"), actor=_ACTOR)

    with ThreadPoolExecutor(4) as pool:
        numbers = sorted(pool.map(add, range(12)))
    _expect("the numbers of 12 events", numbers, list(range(before + 1, before + 13)))


def _check_chain(store: Store) -> None:
    """Compute the chain from what the log says, and compare its end with that of the log."""
    with store.reading(_NAME) as log:
        head = Head.origin(log.key, _NAME)
        for one in log.events():
            by_digest = log.told("d")
            entry = Entry.after(
                head,
                kind=one.event.kind,
                time=one.time,
                actor=one.actor,
                payload=to_json(one.event),
                artefact=one.artefact,
                digest="d" if by_digest and by_digest.sequence == one.sequence else None,
            )
            head = entry.head
        _expect("the end of the chain", log.end, head)


def _refuses(what: str, kind: type[Exception], action: Callable[[], object]) -> None:
    try:
        action()
    except kind:
        return
    raise AssertionError(f"{what}: expected {kind.__name__}, and nothing was raised")
