"""What our own spaces, searchers of pairs and stores must keep."""

import itertools
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
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
from inverse_design.errors import StoreError
from inverse_design.problem.constraints import Constraints
from inverse_design.problem.score import ProductScore
from inverse_design.problem.space import CombinationSpace
from inverse_design.search.topk import SearchResult
from surrogates.data.perturbation import Intervention
from surrogates.data.vocabulary import EMPTY, Vocabulary
from surrogates.errors import DataError, UnknownNameError

Searcher = Callable[[ProductScore, int, CombinationSpace], SearchResult]


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


_NAME, _ACTOR = "contract", "tester"
_SCREEN = b"a starting screen"
_CREATED = Created({"name": _NAME, "target": "T"}, {"kind": "scalar"}, conditions=3)
_COLUMNS = [{"name": "perturbation", "kind": "text", "values": ["A+B", "A+C", "B+C"]}]
_ASKED = Asked(1, 1, ("A+B", "A+C", "B+C"), _COLUMNS, 0.5, ("a note",), count=3, seed=7, basis=1)
_TOLD = Told(measured=2, failed=1, extra=1, values=3, flagged=("odd",))


def check_store(store: Store) -> None:
    """Run a campaign through an empty store, with failures and several writers."""
    _expect("the names of an empty store", store.names(), ())
    with pytest.raises(UnknownNameError), store.reading(_NAME):
        pass
    store.create(_NAME, "key-1", _CREATED, screen=_SCREEN, actor=_ACTOR)
    with pytest.raises(StoreError):
        store.create(_NAME, "key-2", _CREATED, screen=_SCREEN, actor=_ACTOR)
    _expect("the names", store.names(), (_NAME,))
    _check_beginning(store)
    _check_projection(store)
    _check_taking_back(store)
    _check_rollback(store)
    _check_writers(store)
    _check_chain(store)


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

    with pytest.raises(DataError, match="on purpose"), store.writing(_NAME) as log:  # noqa: PT012 - it fails late
        log.append(Asked(2, 5, ("D+E",), [], None, (), count=1, seed=1, basis=5), actor=_ACTOR)
        raise DataError("on purpose")
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


def _expect(what: str, found: object, wanted: object) -> None:
    assert found == wanted, what
