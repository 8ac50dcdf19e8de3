"""Damaged and crafted files of every kind are read or refused, in seconds and little memory."""

from collections import Counter
from pathlib import Path

import pytest

from benchmarks.hostile_files.mutants import draw
from benchmarks.hostile_files.reading import READERS, outcome
from benchmarks.hostile_files.samples import Sample, samples
from benchmarks.hostile_files.workers import outcomes

MUTANTS = 250  # of ten thousands, see ``python -m benchmarks hostile_files``
FOUND = ((2, 1488), (2, 2234), (3, 4288), (3, 4506), (6, 1578), (6, 14759))  # seeds and numbers that once failed


@pytest.fixture(scope="module")
def known(tmp_path_factory: pytest.TempPathFactory) -> tuple[Sample, ...]:
    return samples(tmp_path_factory.mktemp("samples"))


def test_sound_files_are_read(known: tuple[Sample, ...], tmp_path: Path) -> None:
    for sample in known:
        path = tmp_path / f"sound{sample.ending}"
        path.write_bytes(sample.raw)
        for reader in sample.readers:
            assert outcome(reader, path) == ("read", ""), f"{sample.name}{sample.ending} by {reader}"
    assert {reader for sample in known for reader in sample.readers} == set(READERS)


def test_mutants_are_read_or_refused(known: tuple[Sample, ...], tmp_path: Path) -> None:
    verdicts: Counter[str] = Counter()
    for seed, number in [*FOUND, *((0, number) for number in range(MUTANTS))]:
        drawn = draw(known, tmp_path, seed=seed, number=number)
        verdict, said = outcome(drawn.reader, drawn.path)
        assert verdict in {"read", "refused"}, f"{seed}, {number}: {drawn.what}, {drawn.change}: {said}"
        assert len(said) < 2000
        verdicts[verdict] += 1
    assert min(verdicts.values()) > MUTANTS / 10


@pytest.mark.slow
def test_workers_are_replaced_and_all_numbers_answered() -> None:
    found = list(outcomes(range(20), seed=0, workers=2, only=".toml"))
    assert sorted(each.number for each in found) == list(range(20))
