from itertools import combinations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from strategies.spaces import plain_space, spaces

from inverse_design.problem import counting
from inverse_design.problem.constraints import Constraints, Group
from inverse_design.problem.counting import Count, count_sets, ruled_out
from inverse_design.problem.set_rules import PairMask
from inverse_design.problem.space import CombinationSpace


def brute_force(space: CombinationSpace, order: int) -> int:
    sets = torch.tensor(list(combinations(space.entries.tolist(), order)), dtype=torch.int64).reshape(-1, order)
    return int(space.rules.admit(sets).sum())


@given(spaces(), st.integers(1, 4))
def test_sets_are_counted_exactly_by_listing_or_by_polynomials(space: CombinationSpace, order: int) -> None:
    wanted = brute_force(space, order)
    assert count_sets(space.rules, order) == Count(wanted)
    assert counting._multiplied(space.rules, order) == Count(wanted)


@given(spaces(), st.integers(2, 4))
def test_what_cannot_be_counted_is_bounded(space: CombinationSpace, order: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(counting, "_LISTED", 0)
        patch.setattr(counting, "_TERMS", order + 1)
        found = counting._multiplied(space.rules, order)
    wanted = brute_force(space, order)
    assert found.number >= wanted
    assert found.number == wanted or not found.exact


@given(spaces(always=2), st.integers(2, 4), st.integers(1, 5), st.integers(1, 5))
def test_masks_of_tiles_are_the_rules(space: CombinationSpace, order: int, height: int, width: int) -> None:
    mask, size = PairMask(space.rules, order), len(space.entries)
    whole = np.ones((size, size), dtype=bool)
    for row in range(0, size, height):
        for column in range(0, size, width):
            tile = mask.tile(slice(row, row + height), slice(column, column + width))
            if tile is not None:
                whole[row : row + height, column : column + width] = tile
    if order == 2:
        pairs = torch.combinations(space.entries, 2)
        first, second = np.triu_indices(size, 1)
        assert whole[first, second].tolist() == space.rules.admit(pairs).tolist()
        assert mask.count() == brute_force(space, 2)
    for each in combinations(range(size), order):
        if bool(space.rules.admit(space.entries[list(each)][None])):
            assert all(whole[one, other] and whole[other, one] for one, other in combinations(each, 2))


def test_disjoint_groups_and_few_prices_are_counted_without_listing() -> None:
    names = [f"G{number:05d}" for number in range(300)]
    rules = Constraints(
        groups=tuple(Group(f"family {at}", tuple(names[at : at + 30])) for at in range(0, 300, 30)),
        costs=tuple((name, 1.0 + number % 2) for number, name in enumerate(names)),
        budget=4.0,
    )
    space = CombinationSpace.of(plain_space(300).vocabulary, orders=(4,), constraints=rules)
    assert space.summary == f"{210 * 15**4:,} of order 4"  # four of ten families, the cheap half of each


def test_overlapping_large_groups_are_bounded_and_called_so() -> None:
    names = [f"G{number:05d}" for number in range(300)]
    rules = Constraints(groups=(Group("one", tuple(names[:200]), 2), Group("two", tuple(names[100:]), 2)))
    space = CombinationSpace.of(plain_space(300).vocabulary, orders=(3,), constraints=rules)
    assert not space.counted
    assert space.summary == "at most 4,455,100 triples"
    assert ruled_out(space.rules, (3,)) == {}


def test_sizes_of_vast_spaces_are_exact() -> None:
    space = plain_space(2000, orders=(6,))
    assert space.count_valid == space.size
