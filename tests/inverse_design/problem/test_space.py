import math
from itertools import combinations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from strategies.contracts import check_space
from strategies.spaces import plain_space, spaces

from inverse_design.errors import NothingToProposeError, SpaceError
from inverse_design.problem.constraints import Constraints, Group, Limits
from inverse_design.problem.space import CombinationSpace
from surrogates.data.perturbation import Intervention, Perturbation
from surrogates.data.vocabulary import Vocabulary
from surrogates.errors import UnknownNameError

LARGE = Vocabulary(tuple(Intervention(f"G{number:04d}") for number in range(1500)))


def genes(count: int) -> Vocabulary:
    return Vocabulary(tuple(Intervention(f"G{number}") for number in range(count)))


@given(spaces())
def test_small_spaces_keep_the_contract(space: CombinationSpace) -> None:
    check_space(space)


@given(spaces())
def test_validity_is_what_the_words_say(space: CombinationSpace) -> None:
    batch = space.batch(0, space.size)
    left_out = {int(number) for number in space.excluded}
    for number, (row, valid) in enumerate(zip(batch.genes.tolist(), space.valid(batch).tolist(), strict=True)):
        held = [gene for gene in row if gene >= 0]
        targets = [space.vocabulary.targets[gene] for gene in held]
        complete = all(set(alternatives) & set(held) for alternatives in space.required)
        kept = keeps(space.limits, held)
        assert valid == (len(set(targets)) == len(targets) and complete and kept and number not in left_out)
    assert sum(space.count_valid_of(order) for order in space.orders) == space.count_valid


def keeps(limits: Limits, held: list[int]) -> bool:
    grouped = all(
        len(set(members) & set(held)) <= most for members, most in zip(limits.groups, limits.at_most, strict=True)
    )
    apart = not set(limits.apart) & set(combinations(held, 2))
    paid = limits.budget is None or sum(limits.costs[one] for one in held) <= limits.budget
    return grouped and apart and paid


@given(spaces())
def test_reasons_add_up_to_what_is_ruled_out(space: CombinationSpace) -> None:
    assert space.counted
    assert sum(space.ruled_out.values()) == space.size - space.count_valid


@given(spaces(), st.data())
def test_parts_of_a_space_are_parts_of_the_whole(space: CombinationSpace, data: st.DataObject) -> None:
    start = data.draw(st.integers(0, space.size))
    stop = data.draw(st.integers(start, space.size))
    part = space.batch(start, stop)
    assert torch.equal(part.genes, space.batch(0, space.size).genes[start:stop])
    assert torch.equal(part.genes, space.take(torch.arange(start, stop)).genes)


@pytest.mark.parametrize("orders", [(1,), (2,), (3,), (1, 2, 3), (6,), (1, 6)])
@given(data=st.data())
def test_numbers_are_exact_in_large_spaces(orders: tuple[int, ...], data: st.DataObject) -> None:
    space = SPACES[orders]
    number = data.draw(st.integers(0, space.size - 1) | st.sampled_from(boundaries(space)))
    batch = space.batch(number, number + 1)
    assert space.index(space.vocabulary.perturbation(batch.genes[0])) == number


def boundaries(space: CombinationSpace) -> list[int]:
    """Numbers at which the first gene changes, and their neighbours: where rounded roots go wrong."""
    v, order = len(space.entries), space.orders[-1]
    stop = space.span(order)[1]
    turns = [stop - math.comb(v - first, order) for first in (1, 2, v // 2, v - order)]
    return [turn + step for turn in turns for step in (-1, 0) if 0 <= turn + step < space.size]


SPACES = {
    orders: CombinationSpace.of(LARGE, orders=orders) for orders in [(1,), (2,), (3,), (1, 2, 3), (6,), (1, 6)]
}


def test_every_pair_at_the_edge_of_a_row_is_right() -> None:
    space = SPACES[2,]
    first = torch.arange(1499)
    numbers = first * (2 * 1500 - first - 1) // 2
    batch = space.take(numbers)
    assert torch.equal(batch.genes, torch.stack([first, first + 1], dim=1))
    assert torch.equal(space.indices(batch), numbers)


def test_sizes_are_python_integers_of_any_size() -> None:
    assert plain_space(1000, orders=(1, 2)).size == 1000 + 499_500
    assert SPACES[6,].size == math.comb(1500, 6)
    vast = CombinationSpace.of(LARGE, orders=(8,), measured=SPACES[6,].batch(0, 1))
    assert vast.size == math.comb(1500, 8) == vast.count_valid
    assert vast.index(vast.vocabulary.perturbation(vast.batch(vast.size - 1, vast.size).genes[0])) == vast.size - 1


def test_numbers_beyond_64_bits_are_refused_as_tensors() -> None:
    vast = CombinationSpace.of(LARGE, orders=(8,))
    with pytest.raises(SpaceError, match="do not fit 64 bits"):
        vast.indices(vast.batch(0, 1))


def test_measured_combinations_of_vast_spaces_are_left_out() -> None:
    vast = CombinationSpace.of(LARGE, orders=(8,))
    spaced = CombinationSpace.of(LARGE, orders=(8,), measured=vast.batch(vast.size - 2, vast.size))
    assert spaced.count_valid == vast.size - 2
    assert spaced.valid(vast.batch(vast.size - 4, vast.size)).tolist() == [True, True, False, False]


def test_the_summary_says_what_was_left_out() -> None:
    library = genes(104)
    measured = library.batch([library.parse(text) for text in ("G1+G2", "G3+G4", "G5")])
    assert CombinationSpace.of(library, orders=(2,)).summary == "5,356 pairs"
    space = CombinationSpace.of(library, measured=measured)
    assert space.summary == "104 singles and 5,356 pairs, 3 measured left out"
    assert space.count_valid == 104 + 5356 - 3


def test_only_entries_within_a_library_are_used() -> None:
    space = CombinationSpace.of(genes(6), orders=(2,), within=torch.tensor([4, 1, 3]))
    assert space.batch(0, space.size).genes.tolist() == [[1, 3], [1, 4], [3, 4]]
    with pytest.raises(SpaceError, match="cannot be used"):
        CombinationSpace.of(genes(6), constraints=Constraints(required=("G0",)), within=torch.tensor([4, 1, 3]))


def test_measured_combinations_outside_the_space_are_ignored() -> None:
    library = genes(4)
    measured = library.batch([library.parse("G0+G1"), library.parse("G0+G1+G2")])
    rules = Constraints(excluded=("G0",))
    space = CombinationSpace.of(library, orders=(2,), constraints=rules, measured=measured)
    assert space.count_valid == space.size == 3


@pytest.mark.parametrize(
    ("orders", "rules", "message"),
    [
        ((), Constraints(), "not one or more"),
        ((0, 1), Constraints(), "not one or more"),
        ((4,), Constraints(), "allow 3"),
        ((2,), Constraints(excluded=("G0", "G1")), "allow 1"),
        ((1,), Constraints(required=("G0", "G1")), "more than the largest order 1"),
    ],
)
def test_orders_that_cannot_be_made_are_refused(orders: tuple[int, ...], rules: Constraints, message: str) -> None:
    with pytest.raises(SpaceError, match=message):
        CombinationSpace.of(genes(3), orders=orders, constraints=rules)


def test_an_empty_space_is_refused() -> None:
    library = genes(2)
    with pytest.raises(NothingToProposeError, match="1 pair, 1 measured left out"):
        CombinationSpace.of(library, orders=(2,), measured=library.batch([library.parse("G0+G1")]))
    with pytest.raises(NothingToProposeError, match="allow no gene"):
        CombinationSpace.of(library, constraints=Constraints(excluded=("G0", "G1")))


def test_strangers_have_no_number() -> None:
    space = CombinationSpace.of(genes(4), orders=(2,), constraints=Constraints(excluded=("G0",)))
    with pytest.raises(SpaceError, match="'G0\\+G1' is not in the space"):
        space.index(Perturbation.parse("G0+G1"))
    with pytest.raises(SpaceError, match="'G1' is not in the space"):
        space.indices(genes(4).batch([Perturbation.parse("G1")]))
    with pytest.raises(UnknownNameError):
        space.index(Perturbation.parse("G1+STRANGER"))
    with pytest.raises(SpaceError, match="has orders"):
        space.span(3)
    with pytest.raises(SpaceError, match="not within"):
        space.batch(0, space.size + 1)


PRICED = tuple((f"G{number}", 10.0 + number) for number in range(6))


def test_a_budget_below_the_cheapest_names_it() -> None:
    rules = Constraints(costs=PRICED, budget=20.5)
    with pytest.raises(NothingToProposeError, match=r"of 20.5 is below the cheapest candidate, G0\+G1 for 21"):
        CombinationSpace.of(genes(6), orders=(2,), constraints=rules)
    needed = Constraints(costs=PRICED, budget=24.0, required=("G5",))
    with pytest.raises(NothingToProposeError, match=r"G0\+G5 for 25"):
        CombinationSpace.of(genes(6), orders=(2,), constraints=needed)


def test_entries_that_nobody_can_pay_for_leave_the_space() -> None:
    space = CombinationSpace.of(genes(6), orders=(2,), constraints=Constraints(costs=PRICED, budget=23.0))
    assert [space.vocabulary.entries[int(one)].label for one in space.entries] == ["G0", "G1", "G2", "G3"]
    assert space.summary == "4 pairs"
    assert space.ruled_out == {"over budget": 2}


def test_why_combinations_are_ruled_out() -> None:
    rules = Constraints(
        groups=(Group("family", ("G0", "G1", "G2")),), incompatible=(("G0", "G3"),), costs=PRICED, budget=27.0
    )
    measured = genes(6).batch([genes(6).parse("G0+G4")])
    space = CombinationSpace.of(genes(6), orders=(2,), constraints=rules, measured=measured)
    assert space.ruled_out == {"too many of a group": 3, "incompatible": 1, "over budget": 2, "measured": 1}
    assert space.count_valid == 15 - 7


def test_costs_add_up_exactly() -> None:
    rules = Constraints(costs=(("G0", 0.1), ("G1", 0.2), ("G2", 0.7)), budget=0.3)
    assert CombinationSpace.of(genes(3), orders=(2,), constraints=rules).count_valid == 1


def test_contradicting_limits_leave_nothing() -> None:
    rules = Constraints(incompatible=(("G0", "G1"),))
    with pytest.raises(NothingToProposeError, match="0 pairs"):
        CombinationSpace.of(genes(2), orders=(2,), constraints=rules)
