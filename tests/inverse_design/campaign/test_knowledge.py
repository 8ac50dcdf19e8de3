"""What a campaign knows, against loops that are slow and obvious."""

import math
import statistics
from collections import defaultdict

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from strategies.campaigns import starting_screen

from inverse_design.campaign.create import screen_from_bytes, screen_to_bytes
from inverse_design.campaign.store.events import Block
from inverse_design.campaign.wells import known_from
from surrogates.data.screen import Screen

_PLACES = [(0,), (3,), (0, 1), (2, 5), (1, 2, 7)]


def _blocks(wells: list[tuple[int, bool, int]], readouts: int) -> list[Block]:
    """Wells in blocks of three: a place of the list above, whether it failed, bits of the readouts it lacks."""
    values = np.random.default_rng(0).normal(size=(len(wells), readouts))
    for row, (_, _, lacking) in enumerate(wells):
        values[row, [column for column in range(readouts) if lacking >> column & 1]] = np.nan
    blocks = []
    for start in range(0, len(wells), 3):
        some = wells[start : start + 3]
        width = max(len(_PLACES[place]) for place, _, _ in some)
        genes = [[*_PLACES[place], *[-1] * (width - len(_PLACES[place]))] for place, _, _ in some]
        failed = np.array([bad for _, bad, _ in some])
        told = np.where(failed[:, None], np.nan, values[start : start + 3])
        number = np.arange(start, start + len(some))
        texts = Block.lines(["x"] * len(some))
        blocks.append(Block(number, failed, failed, np.array(genes), told, texts, texts))
    return blocks


def _of(wells: list[list[float]], readout: int) -> list[float]:
    return [well[readout] for well in wells if not math.isnan(well[readout])]


def _noise(start: Screen, told: dict[tuple[int, ...], list[list[float]]]) -> list[float] | None:
    """Standard deviation of one well, of each readout; none if it is unknown of one."""
    noise = []
    for g in range(len(start.readouts)):
        freedom = sum(max(len(_of(wells, g)) - 1, 0) for wells in told.values())
        squares = sum((x - statistics.fmean(_of(wells, g))) ** 2 for wells in told.values() for x in _of(wells, g))
        if not freedom and start.standard_errors is None:
            return None
        usual = 0.0 if freedom else float(np.median(start.standard_errors, axis=0)[g])
        noise.append(math.sqrt(squares / freedom) if freedom else usual)
    return noise


def _slowly(start: Screen, blocks: list[Block]) -> dict[tuple[int, ...], tuple[list[float], list[float] | None]]:
    """Means and standard errors, one perturbation and one readout after the other; NaN where nobody measured."""
    told: dict[tuple[int, ...], list[list[float]]] = defaultdict(list)
    for block in blocks:
        for row in np.flatnonzero(~block.failed):
            told[tuple(int(gene) for gene in block.genes[row] if gene >= 0)].append(block.values[row].tolist())
    first = {tuple(int(g) for g in row if g >= 0): place for place, row in enumerate(start.batch.genes)}
    readouts, stated, noise = range(len(start.readouts)), start.standard_errors, _noise(start, told)
    found = {}
    for key in {*first, *told}:
        mean, errors = [], []
        for g in readouts:
            own = [] if key not in first else [float(start.effects[first[key], g])]
            values = [*own, *_of(told.get(key, []), g)]
            mean.append(statistics.fmean(values) if values else math.nan)
            if noise is not None:
                squares = [noise[g] ** 2] * len(_of(told.get(key, []), g))
                if own:
                    squares.append((noise[g] if stated is None else float(stated[first[key], g])) ** 2)
                errors.append(math.sqrt(sum(squares)) / len(squares) if squares else math.nan)
        found[key] = mean, errors if noise is not None else None
    return found


@given(
    wells=st.lists(
        st.tuples(st.integers(0, len(_PLACES) - 1), st.booleans(), st.just(0) | st.integers(0, 6)), max_size=10
    ),
    stated=st.booleans(),
)
def test_what_is_known_is_the_average_of_all_wells(wells: list[tuple[int, bool, int]], *, stated: bool) -> None:
    start = starting_screen()
    if stated:
        errors = torch.linspace(0.1, 0.5, start.effects.numel()).double().reshape(start.effects.shape)
        start = Screen(start.effects, start.batch, start.vocabulary, start.readouts, start.contexts, errors)
    blocks = _blocks(wells, len(start.readouts))
    known, wanted = known_from(start, blocks), _slowly(start, blocks)
    screen = known.screen
    assert len(screen) + len(known.partial) == len(wanted)
    assert screen.labels[: len(start)] == start.labels
    for row, genes in enumerate(screen.batch.genes):
        mean, errors = wanted[tuple(int(gene) for gene in genes if gene >= 0)]
        assert screen.effects[row].tolist() == pytest.approx(mean)
        told = any(not bad for _, bad, _ in wells)
        if errors is None or not told:
            assert (screen.standard_errors is None) == (start.standard_errors is None or told)
        else:
            assert screen.standard_errors is not None
            assert screen.standard_errors[row].tolist() == pytest.approx(errors)
    for label, values in known.partial.items():
        genes = start.vocabulary.batch([label]).genes[0]
        mean, _ = wanted[tuple(int(gene) for gene in genes if gene >= 0)]
        assert values.tolist() == pytest.approx(mean, nan_ok=True)
        assert np.isnan(values).any()


def test_a_block_comes_back_number_by_number() -> None:
    (block,) = _blocks([(4, False, 0), (0, True, 0)], 3)
    again = Block.from_bytes(block.to_bytes())
    for name in ("number", "extra", "failed", "genes", "values"):
        np.testing.assert_array_equal(getattr(again, name), getattr(block, name))
    assert (again.label, again.replicate) == (["x", "x"], ["x", "x"])
    assert again.to_bytes() == block.to_bytes()


def test_a_starting_screen_comes_back_number_by_number() -> None:
    start = starting_screen()
    again = screen_from_bytes(screen_to_bytes(start))
    assert torch.equal(again.effects, start.effects)
    assert (again.vocabulary, again.readouts, again.contexts) == (start.vocabulary, start.readouts, start.contexts)
    assert again.labels == start.labels
    assert again.standard_errors is None
    assert screen_to_bytes(again) == screen_to_bytes(start)
