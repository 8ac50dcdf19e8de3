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
from inverse_design.campaign.wells import averaged
from surrogates.data.screen import Screen

_PLACES = [(0,), (3,), (0, 1), (2, 5), (1, 2, 7)]


def _blocks(wells: list[tuple[int, bool]], readouts: int) -> list[Block]:
    """Wells in blocks of three; each is a place of the list above and whether it failed."""
    values = np.random.default_rng(0).normal(size=(len(wells), readouts))
    blocks = []
    for start in range(0, len(wells), 3):
        some = wells[start : start + 3]
        width = max(len(_PLACES[place]) for place, _ in some)
        genes = [[*_PLACES[place], *[-1] * (width - len(_PLACES[place]))] for place, _ in some]
        failed = np.array([bad for _, bad in some])
        told = np.where(failed[:, None], np.nan, values[start : start + 3])
        number = np.arange(start, start + len(some))
        texts = Block.lines(["x"] * len(some))
        blocks.append(Block(number, failed, failed, np.array(genes), told, texts, texts))
    return blocks


def _slowly(start: Screen, blocks: list[Block]) -> dict[tuple[int, ...], tuple[list[float], list[float] | None]]:
    """Means and standard errors, one perturbation after the other."""
    told: dict[tuple[int, ...], list[list[float]]] = defaultdict(list)
    for block in blocks:
        for row in np.flatnonzero(~block.failed):
            told[tuple(int(gene) for gene in block.genes[row] if gene >= 0)].append(block.values[row].tolist())
    first = {tuple(int(g) for g in row if g >= 0): place for place, row in enumerate(start.batch.genes)}
    means = {key: [statistics.fmean(each) for each in zip(*wells, strict=True)] for key, wells in told.items()}
    freedom = sum(len(wells) - 1 for wells in told.values())
    stated = start.standard_errors
    noise: list[float] | None = None
    if freedom:
        noise = [
            math.sqrt(sum((well[g] - means[key][g]) ** 2 for key in told for well in told[key]) / freedom)
            for g in range(len(start.readouts))
        ]
    elif stated is not None:
        noise = np.median(stated.numpy(), axis=0).tolist()
    found = {}
    for key in {*first, *told}:
        wells = [*([start.effects[first[key]].tolist()] if key in first else []), *told.get(key, [])]
        mean = [statistics.fmean(each) for each in zip(*wells, strict=True)]
        errors = None
        if noise is not None:
            squares = [[each**2 for each in noise]] * len(told.get(key, []))
            if key in first:
                own = noise if stated is None else stated[first[key]].tolist()
                squares = [[each**2 for each in own], *squares]
            errors = [math.sqrt(sum(each)) / len(squares) for each in zip(*squares, strict=True)]
        found[key] = mean, errors
    return found


@given(
    wells=st.lists(st.tuples(st.integers(0, len(_PLACES) - 1), st.booleans()), max_size=10), stated=st.booleans()
)
def test_known_screen_is_the_average_of_all_wells(wells: list[tuple[int, bool]], *, stated: bool) -> None:
    start = starting_screen()
    if stated:
        errors = torch.linspace(0.1, 0.5, start.effects.numel()).double().reshape(start.effects.shape)
        start = Screen(start.effects, start.batch, start.vocabulary, start.readouts, start.contexts, errors)
    blocks = _blocks(wells, len(start.readouts))
    known, wanted = averaged(start, blocks).screen, _slowly(start, blocks)
    assert len(known) == len(wanted)
    assert known.labels[: len(start)] == start.labels
    for row, genes in enumerate(known.batch.genes):
        mean, errors = wanted[tuple(int(gene) for gene in genes if gene >= 0)]
        assert known.effects[row].tolist() == pytest.approx(mean)
        told = any(not bad for _, bad in wells)
        if errors is None or not told:
            assert (known.standard_errors is None) == (start.standard_errors is None or told)
        else:
            assert known.standard_errors is not None
            assert known.standard_errors[row].tolist() == pytest.approx(errors)


def test_a_block_comes_back_number_by_number() -> None:
    (block,) = _blocks([(4, False), (0, True)], 3)
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
