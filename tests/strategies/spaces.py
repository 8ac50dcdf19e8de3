"""Hypothesis strategies for small spaces with doses, constraints and measured combinations."""

from itertools import combinations

import torch
from hypothesis import strategies as st

from inverse_design.errors import NothingToProposeError, SpaceError
from inverse_design.problem.constraints import Constraints, Group
from inverse_design.problem.space import CombinationSpace
from surrogates.data.perturbation import Intervention, Perturbation
from surrogates.data.vocabulary import Vocabulary
from surrogates.errors import DataError

# Matrices of a dozen rows: a second thread costs more than it gives, above all beside other jobs.
torch.set_num_threads(1)


@st.composite
def vocabularies(draw: st.DrawFn, *, fewest: int = 3, most: int = 5) -> Vocabulary:
    """Targets at one to three doses."""
    doses = draw(st.lists(st.integers(1, 3), min_size=fewest, max_size=most))
    return Vocabulary(
        tuple(
            Intervention(f"T{target}", dose=float(dose))
            for target, highest in enumerate(doses)
            for dose in range(1, highest + 1)
        )
    )


Limiting = tuple[tuple[Group, ...], tuple[tuple[str, str], ...], tuple[tuple[str, float], ...], float | None]


@st.composite
def limits(draw: st.DrawFn, names: list[str], *, dearest: int = 4) -> Limiting:
    """Groups, incompatible pairs, costs and a budget over some names, each of which may be missing."""
    targets = sorted({name.partition("@")[0] for name in names})
    members = st.lists(st.sampled_from(names), min_size=1, max_size=4, unique=True).map(tuple)
    groups = draw(st.lists(st.builds(Group, st.just("group"), members, st.integers(1, 2)), max_size=2))
    pairs = st.lists(st.sampled_from(targets), min_size=2, max_size=2, unique=True).map(
        lambda each: (each[0], each[1])
    )
    incompatible = draw(st.lists(pairs, max_size=2)) if len(targets) > 1 else []
    if draw(st.booleans()):
        return tuple(groups), tuple(incompatible), (), None
    costs = tuple((name, draw(st.integers(0, dearest)) / 10) for name in targets)
    return tuple(groups), tuple(incompatible), costs, draw(st.integers(0, 3 * dearest)) / 10


@st.composite
def spaces(draw: st.DrawFn, *, highest: int = 3, always: int | None = None) -> CombinationSpace:
    """Spaces in which something is left; ``always`` is an order that each of them has."""
    vocabulary = draw(vocabularies())
    orders = draw(st.sets(st.integers(1, highest), min_size=1)) | ({always} if always else set())
    names = sorted({*vocabulary.ids, *vocabulary.targets})
    some = st.lists(st.sampled_from(names), max_size=2, unique=True).map(tuple)
    required = draw(st.one_of(st.just(()), some))
    excluded = draw(st.one_of(st.just(()), some))
    measured = [
        Perturbation(parts)
        for order in (1, 2)
        for parts in draw(st.lists(st.sampled_from(list(combinations(vocabulary.entries, order))), max_size=4))
        if len({part.target for part in parts}) == order
    ]
    groups, incompatible, costs, budget = draw(st.one_of(st.just(((), (), (), None)), limits(names)))
    rules = Constraints(
        required=required,
        excluded=excluded,
        measured=draw(st.sampled_from(["keep", "leave_out"])),
        groups=groups,
        incompatible=incompatible,
        costs=costs,
        budget=budget,
    )
    try:
        return CombinationSpace.of(
            vocabulary,
            orders=orders,
            constraints=rules,
            measured=vocabulary.batch(measured) if measured else None,
        )
    except (DataError, SpaceError, NothingToProposeError):
        return CombinationSpace.of(vocabulary, orders=orders)


def plain_space(size: int, *, orders: tuple[int, ...] = (2,)) -> CombinationSpace:
    """All combinations of some genes."""
    return CombinationSpace.of(
        Vocabulary(tuple(Intervention(f"G{number:05d}") for number in range(size))), orders=orders
    )
