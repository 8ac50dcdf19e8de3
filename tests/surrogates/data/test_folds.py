"""Folds are dealt by what was measured: neither names nor units nor the order of a table moves them."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from strategies.worlds import tiny_screen

from surrogates.data.canonical import content_order, number_rows
from surrogates.data.novelty import fold_numbers, folds_of_doubles
from surrogates.data.screen import Screen

places = st.lists(st.integers(0, 99), unique=True, max_size=30)


@given(places=places, folds=st.integers(1, 7), seed=st.integers(0, 9))
def test_folds_are_as_equal_as_they_can_be(places: list[int], folds: int, seed: int) -> None:
    numbers = fold_numbers(torch.tensor(places, dtype=torch.int64), folds=folds, seed=seed)
    sizes = torch.bincount(numbers, minlength=folds)
    assert len(sizes) == folds
    assert sizes.sum() == len(places)
    assert sizes.max() - sizes.min() <= 1


@given(places=places, folds=st.integers(2, 7), data=st.data())
def test_the_order_of_rows_does_not_matter(places: list[int], folds: int, data: st.DataObject) -> None:
    shuffled = data.draw(st.permutations(places))
    first, second = (
        dict(
            zip(
                each,
                fold_numbers(torch.tensor(each, dtype=torch.int64), folds=folds, seed=3).tolist(),
                strict=True,
            )
        )
        for each in (places, shuffled)
    )
    assert first == second


def test_the_seed_decides() -> None:
    first, again, other = (fold_numbers(torch.arange(40), folds=5, seed=seed) for seed in (0, 0, 1))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert len(set(first[:10].tolist())) > 1  # folds do not follow the size of effects


@pytest.mark.parametrize("seed", [0, 1])
def test_folds_know_neither_names_nor_units_nor_the_order_of_a_table(seed: int) -> None:
    made = tiny_screen()
    screen = Screen.from_labels(made.effects, made.labels, made.readouts)
    draw = torch.Generator().manual_seed(seed)
    rows, columns = (torch.randperm(size, generator=draw) for size in screen.effects.shape)
    unit = torch.rand(len(screen.readouts), generator=draw, dtype=torch.float64) + 0.1
    names = {
        f"G{number:03d}": f"N{each:03d}" for number, each in enumerate(torch.randperm(10, generator=draw).tolist())
    }
    other = Screen.from_labels(
        (screen.effects * unit)[rows][:, columns],
        ["+".join(names[part] for part in screen.labels[row].split("+")) for row in rows.tolist()],
        [f"R{number}" for number in range(len(columns))],
    )
    assert torch.equal(folds_of_doubles(other, seed=seed), folds_of_doubles(screen, seed=seed)[rows])
    effects = screen.effects.clone()
    effects[screen.batch.order == 2] = torch.rand(16, 10, generator=draw, dtype=torch.float64)
    changed = Screen.from_labels(effects, screen.labels, screen.readouts)  # nor what is held out
    assert torch.equal(folds_of_doubles(changed, seed=seed), folds_of_doubles(screen, seed=seed))


def test_equal_rows_keep_their_order() -> None:
    values = torch.tensor([[2.0, 1.0], [0.0, 2.0], [2.0, 1.0], [-1.0, 0.0]], dtype=torch.float64)
    assert content_order(values).tolist() == [3, 1, 0, 2]


def test_rows_of_ids_are_numbered_as_whole_rows_are() -> None:
    ids = torch.randint(-1, 3, (60, 3), generator=torch.Generator().manual_seed(0))
    assert torch.equal(number_rows(ids), ids.unique(dim=0, return_inverse=True)[1])
    assert number_rows(ids[:0]).tolist() == []
    assert number_rows(ids[:4, :0]).tolist() == [0, 0, 0, 0]
