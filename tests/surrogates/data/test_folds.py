import torch
from hypothesis import given
from hypothesis import strategies as st

from surrogates.data.novelty import fold_numbers

names = st.lists(st.text(min_size=1, max_size=4), unique=True, max_size=30)


@given(names=names, folds=st.integers(1, 7), seed=st.integers(0, 9))
def test_folds_are_as_equal_as_they_can_be(names: list[str], folds: int, seed: int) -> None:
    numbers = fold_numbers(names, folds=folds, seed=seed)
    sizes = torch.bincount(numbers, minlength=folds)
    assert len(sizes) == folds
    assert sizes.sum() == len(names)
    assert sizes.max() - sizes.min() <= 1


@given(names=names, folds=st.integers(2, 7), data=st.data())
def test_the_order_of_names_does_not_matter(names: list[str], folds: int, data: st.DataObject) -> None:
    shuffled = data.draw(st.permutations(names))
    first = dict(zip(names, fold_numbers(names, folds=folds, seed=3).tolist(), strict=True))
    second = dict(zip(shuffled, fold_numbers(shuffled, folds=folds, seed=3).tolist(), strict=True))
    assert first == second


def test_the_seed_decides() -> None:
    names = [f"G{number}" for number in range(40)]
    first, again, other = (fold_numbers(names, folds=5, seed=seed) for seed in (0, 0, 1))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_folds_do_not_follow_the_alphabet() -> None:
    numbers = fold_numbers([f"{number:02d}" for number in range(50)], folds=5, seed=0)
    assert len(set(numbers[:10].tolist())) > 1
