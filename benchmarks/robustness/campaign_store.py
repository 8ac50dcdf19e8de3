"""What a store of campaigns survives, and how fast it is.

Three measurements, each on a store of one database:

- kill: ``--writers`` processes ask, order, tell, withdraw and retract in a loop. At random moments one of them is
  killed (SIGKILL) and another takes its place; a PostgreSQL server also crashes and starts again. After 25 kills
  all are killed: everything that the store acknowledged must be there, once, along a sound chain. Then another
  campaign begins, until there were ``--cycles`` kills.
- many: the same processes for some seconds, undisturbed.
- large: a campaign of ``--measurements`` values: how long it takes to open it, and to ask it for a round.

    python -m benchmarks campaign_store --store sqlite --cycles 1000
    python -m benchmarks campaign_store --store postgresql --cycles 1000      # a server of its own, on a socket
"""

import argparse
import json
import os
import random
import signal
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from itertools import combinations, count
from pathlib import Path
from typing import TypeVar

import numpy as np
import pandas as pd
import torch

from benchmarks.robustness.throwaway_postgresql import binaries, crashed, database, throwaway_postgresql
from inverse_design.campaign.campaign import Campaign
from inverse_design.campaign.settings import CampaignSettings
from inverse_design.campaign.store.events import Asked, Block, Ordered, Retracted, Withdrawn
from inverse_design.campaign.store.protocol import open_store
from inverse_design.campaign.store.sql import SqlStore
from inverse_design.errors import StoreError
from inverse_design.problem.target import ScalarTarget
from inverse_design.recommend.protocol import DecisionState, Recommendation
from surrogates.data.perturbation import Intervention, Perturbation
from surrogates.data.screen import Screen
from surrogates.data.vocabulary import EMPTY, Vocabulary
from surrogates.errors import DataError

T = TypeVar("T")

NAME, READOUT = "store benchmark", "fitness"
GENES = 500  # 124,750 pairs
PER_CAMPAIGN = 25  # kills


class RandomPairs:
    """Proposes pairs that are neither known nor pending, as the seed has it."""

    def recommend(
        self, state: DecisionState, count: int, *, pending: tuple[Perturbation, ...], seed: int
    ) -> Recommendation:
        """Draw pairs until there are enough.

        Args:
            state: What is known.
            count: How many pairs are wanted.
            pending: What must not be proposed.
            seed: Of the draws.

        Returns:
            The pairs.
        """
        screen = state.measured
        size = len(screen.vocabulary)
        pairs = (
            screen.batch.genes[:, :2] if screen.batch.genes.shape[1] > 1 else torch.empty(0, 2, dtype=torch.int64)
        )
        known = set((pairs[:, 0] * size + pairs[:, 1]).tolist())
        waiting = screen.vocabulary.batch(pending, slots=2).genes
        known |= set((waiting[:, 0] * size + waiting[:, 1]).tolist())
        draw, labels = random.Random(seed), []  # noqa: S311 - nothing is secret
        while len(labels) < count:
            first, second = sorted(draw.sample(range(size), 2))
            if first * size + second not in known:
                known.add(first * size + second)
                labels.append(
                    f"{screen.vocabulary.entries[first].label}+{screen.vocabulary.entries[second].label}"
                )
        return Recommendation(pd.DataFrame({"perturbation": labels}), expected_gain=1.0)


def begin(place: str) -> Campaign:
    """Begin the campaign of a measurement in an empty store.

    Args:
        place: Path or URL.

    Returns:
        The campaign, with each of the genes measured alone.
    """
    vocabulary = Vocabulary(tuple(Intervention(f"G{number:03d}") for number in range(GENES)))
    effects = torch.randn(GENES, 1, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    batch = vocabulary.dosed(torch.tensor([[gene, EMPTY] for gene in range(GENES)]))
    screen = Screen(effects, batch, vocabulary, (READOUT,), ("",) * GENES)
    settings = CampaignSettings(name=NAME, target=READOUT, random_share=0.0)
    target = ScalarTarget(READOUT, "minimise")
    campaign = Campaign.create(screen, target=target, settings=settings, store=place, actor="benchmark")
    campaign.preview(1, RandomPairs())  # what is imported when a round is asked is there before workers are forked
    return campaign


def work(place: str, ledger: Path, seed: int) -> None:
    """Ask, order, tell, withdraw and retract for ever, and note what the store has acknowledged.

    Args:
        place: Path or URL of the store.
        ledger: File of acknowledged facts, synced line by line.
        seed: Of the numbers, the batches, and of what is withdrawn or retracted.
    """
    campaign = _lasting(lambda: Campaign.open(open_store(place, timeout=60.0), NAME, actor=f"worker {seed}"))
    draw, recommender = random.Random(seed), RandomPairs()  # noqa: S311 - nothing is secret
    with ledger.open("a", encoding="utf-8") as file:

        def done(action: Callable[[], object], **fact: object) -> bool:
            if legal := _legal(lambda: _lasting(action)):
                note(file.fileno(), fact)
            return legal

        while True:
            batch = _lasting(lambda: campaign.ask(draw.randint(1, 6), recommender))
            note(file.fileno(), {"round": batch.round, "labels": list(batch.table["perturbation"])})
            names = list(batch.open)
            some, last = names[:1], names[-1:]
            if draw.random() < 0.2 and some:
                done(partial(campaign.order, some), ordered=some)
            if draw.random() < 0.2 and len(names) > 1:
                done(partial(campaign.withdraw, last), withdrawn=last)
            told = names[: draw.randint(1, len(names))] if names else []
            if not told:
                continue
            values = [draw.gauss(0, 1) for _ in told]
            replicates = [f"{seed}-{draw.getrandbits(48):012x}" for _ in told]
            table = pd.DataFrame({"perturbation": told, "replicate": replicates, READOUT: values})
            wells = [list(each) for each in zip(told, replicates, values, strict=True)]
            if done(partial(campaign.tell, table), told=wells) and draw.random() < 0.2:
                done(partial(_retract, campaign, *wells[0][:2]), retracted=[wells[0][:2]])


def _retract(campaign: Campaign, label: str, replicate: str) -> None:
    campaign.retract(campaign.wells([label], replicate=replicate), reason="a benchmark")


def _legal(action: Callable[[], object]) -> bool:
    """Do something that another process may have made illegal in the meantime."""
    try:
        action()
    except DataError as error:
        if any(each in str(error) for each in ("cannot go from", "never asked")):
            return False
        raise
    return True


def _lasting(action: Callable[[], T]) -> T:
    """Repeat something while the server of a database restarts, whether or not it was done before that."""
    for _ in range(6000):
        try:
            return action()
        except StoreError as error:
            if "cannot be used:" not in str(error):
                raise
            time.sleep(0.05)
    return action()


def note(handle: int, fact: dict[str, object]) -> None:
    """Write a fact down so that it survives.

    Args:
        handle: Of an open file.
        fact: What was acknowledged.
    """
    os.write(handle, (json.dumps(fact) + "\n").encode())
    os.fsync(handle)


def facts(ledger: Path) -> list[dict[str, list]]:
    """Read acknowledged facts; the last line may be cut off, and then was not acknowledged in time.

    Args:
        ledger: The file.

    Returns:
        The facts.
    """
    if not ledger.exists():
        return []
    return [
        json.loads(line)
        for line in ledger.read_text(encoding="utf-8").splitlines(keepends=True)
        if line[-1] == "\n"
    ]


def check(place: str, ledgers: list[Path]) -> int:
    """Hold a store against what it has acknowledged.

    Args:
        place: Path or URL.
        ledgers: Acknowledged facts.

    Returns:
        How many values were acknowledged.

    Raises:
        AssertionError: If something is lost or doubled.
        StoreError: If what is stored does not follow from the log.
    """
    store = open_store(place, timeout=60.0)
    assert isinstance(store, SqlStore)  # noqa: S101 - a benchmark that judges
    store.verify(NAME)
    with store.reading(NAME) as log:
        events = [one.event for one in log.events()]
        names = {one.number: one.perturbation for one in log.experiments()}
        blocks = list(map(Block.from_bytes, log.blocks()))
        pending = Counter(one.perturbation for one in log.experiments(states=("proposed", "ordered", "measured")))
        counted = {(names[one.number], one.replicate) for one in log.measurements(list(names))}
    rounds = {event.round: list(event.perturbations) for event in events if isinstance(event, Asked)}
    ordered = {names[each] for event in events if isinstance(event, Ordered) for each in event.numbers}
    withdrawn = {names[each] for event in events if isinstance(event, Withdrawn) for each in event.numbers}
    retracted = [
        (names[well.number], well.replicate)
        for event in events
        if isinstance(event, Retracted)
        for well in event.wells
    ]
    wells = Counter(
        (label, replicate, float(value))
        for block in blocks
        for label, replicate, value in zip(block.label, block.replicate, block.values[:, 0], strict=True)
    )
    lost: list[object] = []
    doubled = [
        each for found in (wells, pending, Counter(retracted)) for each, times in found.items() if times > 1
    ]
    values = 0
    for fact in (fact for ledger in ledgers for fact in facts(ledger)):
        if "round" in fact and rounds.get(fact["round"]) != fact["labels"]:
            lost.append(fact)
        lost += {*fact.get("ordered", [])} - ordered
        lost += {*fact.get("withdrawn", [])} - withdrawn
        for label, replicate, value in fact.get("told", []):
            values += 1
            if (label, replicate, value) not in wells or (label, replicate) not in counted | set(retracted):
                lost.append((label, replicate, value))
        back = {(label, replicate) for label, replicate in fact.get("retracted", [])}
        lost += [*(back - set(retracted)), *(back & counted)]
    assert not lost, f"acknowledged and lost: {lost[:3]}"  # noqa: S101
    assert not doubled, f"there twice: {doubled[:3]}"  # noqa: S101
    assert sorted(rounds) == list(range(1, len(rounds) + 1)), "rounds are missing"  # noqa: S101
    return values


@dataclass
class Workers:
    """Processes that use one campaign, each with a file of what was acknowledged to it."""

    place: str
    folder: Path
    seed: int
    running: dict[int, Path] = field(default_factory=dict)
    ledgers: list[Path] = field(default_factory=list)

    def start(self) -> None:
        """Fork one more: imports take seconds."""
        number = len(self.ledgers)
        ledger = self.folder / f"acknowledged-{number}.jsonl"
        child = os.fork()
        if child == 0:
            try:
                work(self.place, ledger, self.seed * 1_000_000 + number)
            except BaseException:  # noqa: BLE001 - the end of a process
                traceback.print_exc()
            finally:
                os._exit(1)
        self.running[child] = ledger
        self.ledgers.append(ledger)

    def await_first(self) -> None:
        """Wait for a minute, or until a result was acknowledged."""
        for _ in range(6000):
            if any("told" in fact for ledger in self.ledgers for fact in facts(ledger)):
                return
            time.sleep(0.01)

    def kill(self, child: int) -> None:
        """Kill one, which must have lived until then.

        Args:
            child: Which process.

        Raises:
            RuntimeError: If it ended by itself.
        """
        died, _ = os.waitpid(child, os.WNOHANG)
        ledger = self.running.pop(child)
        if died:
            raise RuntimeError(f"the worker of {ledger.name} failed by itself")
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)

    def kill_all(self) -> None:
        """Kill those that are left."""
        for child in list(self.running):
            self.kill(child)


def kill_cycles(
    place: str,
    folder: Path,
    *,
    cycles: int,
    seed: int,
    writers: int = 4,
    longest: float = 0.5,
    restart: Callable[[], None] | None = None,
) -> int:
    """Kill workers at random moments while others work, and check the store in the end.

    Args:
        place: Path or URL of an empty store.
        folder: For the acknowledged facts.
        cycles: How many kills.
        seed: Of the moments.
        writers: How many processes at a time.
        longest: Longest time between two kills, in seconds.
        restart: Crashes the server and starts it again; called once, between two kills.

    Returns:
        How many values were acknowledged.
    """
    begin(place)
    draw, workers = random.Random(seed), Workers(place, folder, seed)  # noqa: S311 - nothing is secret
    crash = draw.randrange(cycles)
    try:
        for cycle in range(cycles):
            while len(workers.running) < writers:
                workers.start()
            if cycle == 0:
                workers.await_first()
            if cycle == crash and restart is not None:
                restart()
            time.sleep(draw.uniform(0.0, longest))
            workers.kill(draw.choice(list(workers.running)))
    finally:
        workers.kill_all()
    return check(place, workers.ledgers)


def many_writers(place: str, folder: Path, *, writers: int, seconds: float) -> int:
    """Let processes work at once.

    Args:
        place: Path or URL of an empty store.
        folder: For the acknowledged facts.
        writers: How many processes.
        seconds: For how long.

    Returns:
        How many values were acknowledged.
    """
    begin(place)
    workers = Workers(place, folder, 0)
    for _ in range(writers):
        workers.start()
    time.sleep(seconds)
    workers.kill_all()
    return check(place, workers.ledgers)


def large(place: str, measurements: int) -> tuple[float, float, float]:
    """Time a campaign of many measurements.

    Args:
        place: Path or URL of an empty store.
        measurements: How many pairs are measured once.

    Returns:
        Seconds to tell them, to open the campaign, and to ask it for 24 experiments.
    """
    campaign = begin(place)
    names = [entry.label for entry in campaign.vocabulary.entries]
    labels = [f"{a}+{b}" for a, b in combinations(names, 2)][:measurements]
    values = np.random.default_rng(0).normal(size=len(labels))
    started = time.perf_counter()
    campaign.tell(pd.DataFrame({"perturbation": labels, READOUT: values}), allow_extra=True)
    told = time.perf_counter() - started
    started = time.perf_counter()
    again = Campaign.open(open_store(place), NAME, actor="benchmark")
    opened = time.perf_counter() - started
    started = time.perf_counter()
    again.ask(24, RandomPairs())
    return told, opened, time.perf_counter() - started


@contextmanager
def places(store: str, folder: Path) -> Iterator[tuple[Iterator[str], Callable[[], None] | None]]:
    """Give out empty stores.

    Args:
        store: ``sqlite`` or ``postgresql``.
        folder: For files.

    Yields:
        As many paths or URLs as are taken, and what crashes and restarts their server, if they have one.
    """
    if store == "sqlite":
        yield (str(folder / f"store-{number}.db") for number in count()), None
        return
    programs = binaries()
    if programs is None:
        raise SystemExit("PostgreSQL is not installed: apt-get install postgresql")
    with throwaway_postgresql(programs, durable=True) as server:
        yield (database(server, f"store{number}") for number in count()), partial(crashed, programs, server)


def main() -> None:
    """Run the measurements, and print them."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--store", choices=["sqlite", "postgresql"], default="sqlite")
    parser.add_argument("--cycles", type=int, default=1000)
    parser.add_argument("--writers", type=int, default=4)
    parser.add_argument("--longest", type=float, default=0.5)
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--measurements", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as name, places(asked.store, Path(name)) as (empty, restart):
        folder, values = Path(name), 0
        os.environ["XDG_STATE_HOME"] = name  # where heads that were seen are noted
        for first in range(0, asked.cycles, PER_CAMPAIGN):
            within = folder / f"campaign-{first}"
            within.mkdir()
            values += kill_cycles(
                next(empty),
                within,
                cycles=min(PER_CAMPAIGN, asked.cycles - first),
                seed=asked.seed + first,
                writers=asked.writers,
                longest=asked.longest,
                restart=restart,
            )
            print(f"{asked.store}: {first + PER_CAMPAIGN} kills, {values} values acknowledged", flush=True)
        print(f"{asked.store}: none lost, none doubled", flush=True)
        values = many_writers(next(empty), folder, writers=asked.writers, seconds=asked.seconds)
        print(
            f"{asked.store}: {asked.writers} processes told {values} values, none lost, none doubled", flush=True
        )
        told, opened, planned = large(next(empty), asked.measurements)
        timing = f"told in {told:.2f} s, opened in {opened:.3f} s, asked in {planned:.2f} s"
        print(f"{asked.store}: {asked.measurements} measurements {timing}")


if __name__ == "__main__":
    main()
