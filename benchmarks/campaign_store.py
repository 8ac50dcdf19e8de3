"""What a store of campaigns survives, and how fast it is.

Three measurements, each on a store of one database:

- kill: a process asks, orders, tells and withdraws in a loop and is killed (SIGKILL) at a random moment; then the
  store is opened, and everything that the process had been told was done must be there, once, along a sound
  chain. Repeated ``--cycles`` times; a campaign lives through 25 kills, and then another begins, as replaying the
  whole log after each of them would take ever longer.
- many: ``--writers`` processes ask and tell at once; every acknowledged result must be there, once.
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
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import combinations, count
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from benchmarks.throwaway_postgresql import binaries, database, throwaway_postgresql
from inverse_design.campaign.campaign import Campaign
from inverse_design.campaign.settings import CampaignSettings
from inverse_design.campaign.store.events import Asked, Block
from inverse_design.campaign.store.protocol import open_store
from inverse_design.campaign.store.sql import SqlStore
from inverse_design.problem.target import ScalarTarget
from inverse_design.recommend.protocol import DecisionState, Recommendation
from surrogates.data.perturbation import Intervention, Perturbation
from surrogates.data.screen import Screen
from surrogates.data.vocabulary import EMPTY, Vocabulary
from surrogates.errors import DataError

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
    """Ask, order, tell and withdraw for ever, and note what the store has acknowledged.

    Args:
        place: Path or URL of the store.
        ledger: File of acknowledged facts, synced line by line.
        seed: Of the numbers, the batches and what is withdrawn.
    """
    campaign = Campaign.open(open_store(place, timeout=60.0), NAME, actor=f"worker {seed}")
    draw, recommender = random.Random(seed), RandomPairs()  # noqa: S311 - nothing is secret
    with ledger.open("a", encoding="utf-8") as file:
        while True:
            batch = campaign.ask(draw.randint(1, 6), recommender)
            note(file.fileno(), {"round": batch.round, "labels": list(batch.table["perturbation"])})
            names = list(batch.open)
            if names and draw.random() < 0.2:
                _try(campaign.order, names[:1])
            if len(names) > 1 and draw.random() < 0.2:
                _try(campaign.withdraw, names[-1:])
            told = names[: draw.randint(1, len(names))] if names else []
            if not told:
                continue
            values = [draw.gauss(0, 1) for _ in told]
            replicates = [f"{seed}-{draw.getrandbits(48):012x}" for _ in told]
            table = pd.DataFrame({"perturbation": told, "replicate": replicates, READOUT: values})
            if _try(campaign.tell, table):
                note(file.fileno(), {"told": [list(each) for each in zip(told, replicates, values, strict=True)]})


def _try(action: Callable[[Any], object], argument: object) -> bool:
    """Do something that another process may have made illegal in the meantime."""
    try:
        action(argument)
    except DataError as error:
        if "cannot go from" in str(error) or "never asked" in str(error):
            return False
        raise
    return True


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
        How many values it holds.

    Raises:
        AssertionError: If something is lost or doubled.
        StoreError: If what is stored does not follow from the log.
    """
    store = open_store(place, timeout=60.0)
    assert isinstance(store, SqlStore)  # noqa: S101 - a benchmark that judges
    with store.reading(NAME) as log:
        rounds = {
            one.event.round: list(one.event.perturbations)
            for one in log.events("asked")
            if isinstance(one.event, Asked)
        }
        wells = Counter(
            (label, replicate, float(value))
            for block in map(Block.from_bytes, log.blocks())
            for label, replicate, value in zip(block.label, block.replicate, block.values[:, 0], strict=True)
        )
        experiments = Counter(
            one.perturbation for one in log.experiments(states=("proposed", "ordered", "measured"))
        )
    store.verify(NAME)
    lost, doubled = [], [well for well, count in wells.items() if count > 1]
    doubled += [label for label, count in experiments.items() if count > 1]
    for fact in (fact for ledger in ledgers for fact in facts(ledger)):
        if "round" in fact and rounds.get(fact["round"]) != fact["labels"]:
            lost.append(fact)
        lost += [well for well in fact.get("told", []) if tuple(well) not in wells]
    assert not lost, f"acknowledged and lost: {lost[:3]}"  # noqa: S101
    assert not doubled, f"there twice: {doubled[:3]}"  # noqa: S101
    assert sorted(rounds) == list(range(1, len(rounds) + 1)), "rounds are missing"  # noqa: S101
    return sum(wells.values())


def kill_cycles(place: str, folder: Path, *, cycles: int, seed: int, longest: float = 0.5) -> int:
    """Kill a worker at random moments, and check the store after each.

    A worker is forked, since imports take seconds, and killed within ``longest`` seconds.

    Args:
        place: Path or URL of an empty store.
        folder: For the acknowledged facts.
        cycles: How many kills.
        seed: Of the moments.
        longest: Longest life of a worker, in seconds.

    Returns:
        How many values are in the store at the end.
    """
    begin(place)
    draw, ledger, wells = random.Random(seed), folder / "acknowledged.jsonl", 0  # noqa: S311 - nothing is secret
    for cycle in range(cycles):
        child = os.fork()
        if child == 0:
            try:
                work(place, ledger, seed * 1_000_000 + cycle)
            finally:
                os._exit(1)
        time.sleep(draw.uniform(0.0, longest))
        died, _ = os.waitpid(child, os.WNOHANG)
        if died:
            raise RuntimeError(f"the worker of cycle {cycle} failed by itself")
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        trim(ledger)
        wells = check(place, [ledger])
    return wells


def trim(ledger: Path) -> None:
    """Cut a half line off, so that the next worker begins a line.

    Args:
        ledger: The file.
    """
    if ledger.exists():
        content = ledger.read_bytes()
        ledger.write_bytes(content[: content.rfind(b"\n") + 1])


def many_writers(place: str, folder: Path, *, writers: int, seconds: float) -> int:
    """Let processes ask and tell at once.

    Args:
        place: Path or URL of an empty store.
        folder: For the acknowledged facts.
        writers: How many processes.
        seconds: For how long.

    Returns:
        How many values they told.
    """
    begin(place)
    ledgers = [folder / f"writer-{number}.jsonl" for number in range(writers)]
    children = []
    for number, ledger in enumerate(ledgers):
        child = os.fork()
        if child == 0:
            try:
                work(place, ledger, number)
            finally:
                os._exit(1)
        children.append(child)
    time.sleep(seconds)
    for child in children:
        died, _ = os.waitpid(child, os.WNOHANG)
        if died:
            raise RuntimeError("a writer failed by itself")
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
    return check(place, ledgers)


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
def places(store: str, folder: Path) -> Iterator[Iterator[str]]:
    """Give out empty stores.

    Args:
        store: ``sqlite`` or ``postgresql``.
        folder: For files.

    Yields:
        As many paths or URLs as are taken.
    """
    if store == "sqlite":
        yield (str(folder / f"store-{number}.db") for number in count())
        return
    programs = binaries()
    if programs is None:
        raise SystemExit("PostgreSQL is not installed: apt-get install postgresql")
    with throwaway_postgresql(programs, durable=True) as server:
        yield (database(server, f"store{number}") for number in count())


def main() -> None:
    """Run the measurements, and print them."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--store", choices=["sqlite", "postgresql"], default="sqlite")
    parser.add_argument("--cycles", type=int, default=1000)
    parser.add_argument("--writers", type=int, default=8)
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--measurements", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as name, places(asked.store, Path(name)) as empty:
        folder = Path(name)
        wells = 0
        for first in range(0, asked.cycles, PER_CAMPAIGN):
            within = folder / f"campaign-{first}"
            within.mkdir()
            cycles = min(PER_CAMPAIGN, asked.cycles - first)
            wells += kill_cycles(next(empty), within, cycles=cycles, seed=asked.seed + first)
        print(
            f"{asked.store}: {asked.cycles} kills, {wells} values told, none lost, none doubled, log = tables",
            flush=True,
        )
        wells = many_writers(next(empty), folder, writers=asked.writers, seconds=asked.seconds)
        print(
            f"{asked.store}: {asked.writers} processes at once told {wells} values, none lost, none doubled",
            flush=True,
        )
        told, opened, planned = large(next(empty), asked.measurements)
        timing = f"told in {told:.2f} s, opened in {opened:.3f} s, asked in {planned:.2f} s"
        print(f"{asked.store}: {asked.measurements} measurements {timing}")


if __name__ == "__main__":
    main()
