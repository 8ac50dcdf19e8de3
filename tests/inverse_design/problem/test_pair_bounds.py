from itertools import combinations

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st
from strategies.screens import normal
from strategies.spaces import plain_space, spaces

from inverse_design.problem.constraints import Constraints
from inverse_design.problem.set_rules import PairMask
from inverse_design.problem.set_score import PairBounds, PairwiseSetScore
from inverse_design.problem.space import CombinationSpace
from surrogates.data.perturbation import Intervention
from surrogates.data.vocabulary import Vocabulary


def drawn(size: int, columns: int, order: int, *, seed: int, scale: float = 1.0) -> PairwiseSetScore:
    numbers = normal(size, 2 * columns + 1, seed=seed) * scale
    return PairwiseSetScore(
        numbers[:, 0], numbers[:, 1 : columns + 1], numbers[:, columns + 1 :], float(seed % 3), order
    )


def every_set(size: int, order: int) -> torch.Tensor:
    return torch.tensor(list(combinations(range(size), order)), dtype=torch.int64).reshape(-1, order)


@given(
    st.integers(3, 9),
    st.integers(0, 40),
    st.integers(3, 5),
    st.integers(0, 99),
    st.sampled_from([1e-30, 1e-3, 1.0, 1e6, 1e17]),
)
def test_quick_scores_and_bounds_keep_within_the_error(
    size: int, columns: int, order: int, seed: int, scale: float
) -> None:
    score = drawn(size, columns, order, seed=seed, scale=scale)
    bounds = PairBounds.of(score, plain_space(size, orders=(min(3, size),)))
    pairs = torch.from_numpy(bounds.pairs)
    positions = every_set(size, order)
    quick = sum(
        (pairs[positions[:, i], positions[:, j]] for i, j in combinations(range(order), 2)), torch.tensor(0.0)
    )
    exact = score.exact(positions)
    assert bool(((quick.double() + score.constant - exact).abs() <= score.error).all())
    tight, loose = led(bounds, positions)
    assert bool((exact - score.constant - score.error <= tight.double()).all())
    assert bool((tight.double() <= loose.double() + score.error).all())


def led(bounds: PairBounds, positions: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Both bounds of the leading pair of each set."""
    square = bounds.square(bounds.leads, 0, len(bounds.pairs) + 5)
    tight, loose = [], []
    for chosen in positions.tolist():
        _, i, j = max((float(bounds.pairs[i, j]), i, j) for i, j in combinations(chosen, 2))
        tight.append(torch.from_numpy(bounds.tightened(np.array([i]), np.array([j]))))
        loose.append(torch.tensor([float(square[i, j])]))
    nothing = torch.empty(0)
    return torch.cat([nothing, *tight]), torch.cat([nothing, *loose])


@given(spaces(always=3), st.integers(0, 99))
def test_pairs_that_no_candidate_holds_are_never_led(space: CombinationSpace, seed: int) -> None:
    size = len(space.entries)
    bounds = PairBounds.of(drawn(size, 2, 3, seed=seed), space)
    allowed = PairMask(space.rules, 3).tile(slice(0, size), slice(0, size))
    for i, j in combinations(range(size), 2):
        assert bounds.pairs[i, j] == bounds.pairs[j, i]
        assert (bounds.pairs[i, j] == -torch.inf) == (allowed is not None and not allowed[i, j])
    if space.required:
        ids = tuple(space.entries[torch.from_numpy(bounds.leads)].tolist())
        assert ids in space.required
        assert len(ids) == min(map(len, space.required))
    else:
        assert bounds.leads.tolist() == list(range(size))


@given(spaces(always=3), st.integers(1, 2), st.integers(0, 99))
def test_what_is_closed_to_a_growing_set_is_in_no_candidate_with_it(
    space: CombinationSpace, members: int, seed: int
) -> None:
    size = len(space.entries)
    bounds = PairBounds.of(drawn(size, 2, 3, seed=seed), space)
    valid = every_set(size, 3)[space.rules.admit(space.entries[every_set(size, 3)])].tolist()
    growing = every_set(size, members).numpy()
    room = bounds.open_to(growing)
    assert bounds.meeting(np.array(valid, dtype=np.int64).reshape(-1, 3)).tolist() == valid
    for row, chosen in enumerate(growing.tolist()):
        closed = set() if room is None else set(np.flatnonzero(~room[row]).tolist())
        for each in valid:
            assert not set(chosen) < set(each) or not closed & (set(each) - set(chosen))


def test_leads_are_the_doses_of_the_required_target() -> None:
    library = Vocabulary(tuple(Intervention(name, dose=dose) for name in "ABCDE" for dose in (1.0, 2.0)))
    space = CombinationSpace.of(library, orders=(3,), constraints=Constraints(required=("C",)))
    bounds = PairBounds.of(drawn(10, 2, 3, seed=0), space)
    assert bounds.leads.tolist() == [4, 5]
    assert bounds.starts(5).tolist() == [[4], [5]]
    assert bounds.starts(1).tolist() == [[4]]
    assert bounds.ceiling == bounds.pairs.max()


def test_sets_must_meet_every_required_target() -> None:
    library = Vocabulary(tuple(Intervention(name, dose=dose) for name in "ABCDE" for dose in (1.0, 2.0)))
    space = CombinationSpace.of(library, orders=(3,), constraints=Constraints(required=("C", "D@2")))
    bounds = PairBounds.of(drawn(10, 2, 3, seed=0), space)
    assert bounds.leads.tolist() == [7]
    assert bounds.starts(9).tolist() == [[7, 4], [7, 5]]
    assert bounds.meeting(np.array([[0, 2, 7], [0, 5, 7], [4, 7, 9]])).tolist() == [[0, 5, 7], [4, 7, 9]]
