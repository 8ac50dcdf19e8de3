"""Proposals of three and more interventions: the same answers as brute force, and nothing made up."""

import math
from functools import cache

import pytest
from strategies.screens import gene, label, pairs_of, planted_screen

from inverse_design.errors import NothingToProposeError, SpaceError
from inverse_design.problem.constraints import Constraints, Group
from inverse_design.proposal import Proposal, propose
from inverse_design.search import exhaustive
from inverse_design.search import inverse_set as placement
from surrogates.data.screen import Screen
from surrogates.models.baselines import ScaledAdditive
from surrogates.models.interaction import Interaction

GENES = 8
TOGETHER = pairs_of(GENES, 11)
TARGET = label(TOGETHER[0])


@cache
def screen() -> Screen:
    return planted_screen(
        alone=range(GENES), together=TOGETHER, readouts=10, noise=0.6, bend=0.3, standard_error=0.2
    )


def asked(**more: object) -> Proposal:
    return propose(screen(), TARGET, **{"order": "3", "surrogate": ScaledAdditive(), **more})  # type: ignore[arg-type]


def test_triples_are_ranked_by_bounds_with_a_proof() -> None:
    found = asked(objective="distance", top=56)
    assert found.search.certificate.exact
    assert found.search.certificate.bound == "largest pair"
    assert len(found.table) == math.comb(GENES, 3)
    assert found.table["utility"].is_monotonic_decreasing
    assert set(found.table["novelty"]) == {"triple, 3 of 3 seen"}
    assert found.inverse_set is None
    assert found.table["in_set"].isna().all()
    assert float(found.table["probability"].sum()) == pytest.approx(1)
    notes = "\n".join(found.notes)
    assert "in_set is not given: no set of order 3 was held out" in notes
    assert "borrowed from 'double, 2 of 2 seen'" in notes
    assert "space: 56 triples" in notes


def test_interactions_are_streamed_or_beamed(monkeypatch: pytest.MonkeyPatch) -> None:
    few = asked(surrogate=Interaction(components=4, leading=2), top=5)
    assert few.search.certificate.exact
    monkeypatch.setattr(exhaustive, "LISTABLE", 10)
    monkeypatch.setattr(placement, "SUMMED", 10)
    many = asked(surrogate=Interaction(components=4, leading=2), top=5)
    assert many.table["perturbation"].tolist() == few.table["perturbation"].tolist()
    assert any(note.startswith("warning: no bound is known for sets of order 3") for note in many.notes)
    assert many.table["probability"].isna().all()
    assert "probability is not given: it takes the sum over 56 triples" in many.notes


@pytest.mark.parametrize("order", ["1", "3", "6"])
def test_more_than_there_is_gives_what_there_is(order: str) -> None:
    found = asked(order=order, top=5000, constraints=Constraints(measured="keep"))
    assert len(found.table) == found.space.count_valid == math.comb(GENES, int(order))


def test_a_space_of_one_candidate() -> None:
    names = tuple(gene(number) for number in range(3))
    found = asked(constraints=Constraints(allowed=names, measured="keep"))
    assert found.table["perturbation"].tolist() == ["+".join(names)]
    assert found.table["probability"].tolist() == pytest.approx([1.0])


def test_a_space_of_none() -> None:
    names = tuple(gene(number) for number in range(3))
    with pytest.raises(SpaceError, match="order 4 needs as many targets, but the constraints allow 3"):
        asked(order="4", constraints=Constraints(allowed=names))
    with pytest.raises(NothingToProposeError, match="no candidate is left"):
        asked(constraints=Constraints(allowed=names, groups=(Group("family", names, at_most=2),)))


def test_limits_hold_among_triples() -> None:
    family = tuple(gene(number) for number in range(4))
    costs = tuple((gene(number), 1.0 + number) for number in range(GENES))
    rules = Constraints(groups=(Group("family", family),), costs=costs, budget=14.0)
    found = asked(objective="distance", top=100, constraints=rules)
    assert len(found.table) == found.space.count_valid
    for parts in found.table["perturbation"].str.split("+"):
        assert len(set(parts) & set(family)) <= 1
        assert sum(dict(costs)[part] for part in parts) <= 14
    assert bool(found.space.valid(found.space.take(found.search.top.index)).all())
