from dataclasses import replace
from functools import cache
from pathlib import Path

import pytest
import torch
from strategies.screens import gene, label, normal, pairs_of, planted_screen

from inverse_design.problem.constraints import Constraints
from inverse_design.problem.likelihood import TargetLikelihood
from inverse_design.problem.mismatch import choose_mismatch
from inverse_design.problem.objective import SquaredDistance
from inverse_design.problem.problem import ask, candidate_space
from inverse_design.problem.target import ProfileTarget, ScalarTarget
from inverse_design.proposal import Proposal, propose
from inverse_design.search.api import DISTANCE, LIKELIHOOD, Engine, _second, best_by_turns, need_not_be_made
from surrogates.data.screen import Screen
from surrogates.models.baselines import ScaledAdditive
from surrogates.models.interaction import Interaction
from surrogates.models.wrappers.calibrated import Calibrated, Expert, FittedCalibrated

GENES, READOUTS = 8, 10
TOGETHER = pairs_of(GENES, 16)


@cache
def screen() -> Screen:
    return planted_screen(alone=range(GENES), together=TOGETHER, readouts=READOUTS, noise=0.5, bend=0.3)


@cache
def fitted() -> FittedCalibrated:
    return Calibrated(ScaledAdditive()).fit(screen(), seed=0)


def asked(experts: int) -> FittedCalibrated:
    """One surrogate, alone or with others that name what made a target."""
    if not experts:
        return fitted()
    other = Calibrated(Interaction(components=4, leading=2)).fit(screen(), seed=0)
    return replace(fitted(), experts=(Expert(0.4, fitted()), Expert(0.6, other)))


def wanted() -> ProfileTarget:
    """The mean of two states, which no pair makes."""
    return ProfileTarget("wanted", screen().readouts, (screen().effects[-1] + screen().effects[2]) / 2)


@cache
def proposed(**more: object) -> Proposal:
    return propose(screen(), wanted(), surrogate=ScaledAdditive(), top=9, **more)  # type: ignore[arg-type]


def test_only_a_condition_among_the_candidates_was_made_by_one() -> None:
    double, single = label(TOGETHER[0]), gene(2)
    asked = {target: ask(screen(), target) for target in (double, single)}
    spaces = {order: candidate_space(asked[double].training, order, None) for order in ("2", "both", "3")}
    assert not need_not_be_made(asked[double], spaces["2"])
    excluded = candidate_space(asked[double].training, "2", Constraints(excluded=(gene(TOGETHER[0][0]),)))
    assert need_not_be_made(asked[double], excluded)
    assert need_not_be_made(asked[single], candidate_space(asked[single].training, "2", None))
    assert need_not_be_made(ask(screen(), wanted()), spaces["both"])
    assert not need_not_be_made(ask(screen(), wanted()), spaces["3"])
    assert not need_not_be_made(ask(screen(), ScalarTarget("r1", "reach", 1.0)), spaces["2"])


@pytest.mark.parametrize("experts", [0, 2])
def test_the_list_is_that_of_two_rankings_of_everything_spelled_out(experts: int) -> None:
    fitted, space = asked(experts), candidate_space(screen(), "both", None)
    target = wanted().on(screen().readouts)
    likelihood = TargetLikelihood(target, 0.3 * normal(GENES, seed=1))
    found = best_by_turns(likelihood, fitted, space, 11, engine=Engine(), seed=0)
    chosen = choose_mismatch(fitted, target, seed=0)
    assert torch.equal(found.objective.target.variance, chosen.on(target, fitted).variance)
    batch = space.batch(0, space.size)
    valid = torch.nonzero(space.valid(batch)).flatten()
    missed = replace(likelihood, target=chosen.on(target, fitted))
    posteriors = [
        expert.weight * missed.utility(expert.fitted, batch.rows(valid)).mean.softmax(0)
        for expert in fitted.experts or (Expert(1.0, fitted),)
    ]
    nearness = SquaredDistance(target).utility(fitted, batch.rows(valid)).mean
    rankings = [
        valid[worth.argsort(descending=True, stable=True)].tolist() for worth in (sum(posteriors), nearness)
    ]
    listed: list[int] = []
    while len(listed) < 11:
        listed.append(next(each for each in rankings[len(listed) % 2] if each not in listed))
    assert found.index.tolist() == found.turns.index.tolist() == listed
    for name, ranked in zip((LIKELIHOOD, DISTANCE), rankings, strict=True):
        search = found.turns.searches[name]
        assert search.top.index.tolist() == ranked[:11]
        assert search.certificate.exact
        assert search.certificate.scanned == space.size


def test_each_search_has_a_ledger_of_its_own(tmp_path: Path) -> None:
    engine = Engine(workers=2, ledger=tmp_path / "scan.db")
    assert _second(engine) == Engine(workers=2, ledger=tmp_path / "scan-distance.db")
    assert _second(Engine(workers=3)) == Engine(workers=3)


def test_a_proposal_for_a_wish_says_by_which_search_each_row_was_found() -> None:
    found = proposed()
    assert found.turns is not None
    labels = [
        found.fitted.vocabulary.perturbation(each).label for each in found.space.take(found.turns.index).genes
    ]
    assert found.table["perturbation"].tolist() == labels
    assert found.table["found_by"].tolist() == list(found.turns.found_by)
    assert found.table["found_by"].tolist()[:2] == [LIKELIHOOD, DISTANCE]
    assert found.search.certificate == found.turns.searches[LIKELIHOOD].certificate
    assert any("no candidate need have made this state" in note for note in found.notes)
    first = found.table[found.table["found_by"] == LIKELIHOOD]["utility"]
    assert first.is_monotonic_decreasing
    second = found.table[found.table["found_by"] == DISTANCE]["distance"]
    assert second.is_monotonic_increasing


def test_probability_and_set_stay_those_of_the_likelihood() -> None:
    found, plain = (
        proposed(),
        propose(screen(), wanted(), surrogate=ScaledAdditive(), top=50, objective="likelihood"),
    )
    assert found.inverse_set == plain.inverse_set
    by_label = plain.table.set_index("perturbation")
    for row in found.table.itertuples():
        assert row.probability == pytest.approx(by_label["probability"][row.perturbation], rel=1e-9)
        assert row.in_set == by_label["in_set"][row.perturbation]
    assert plain.turns is None
    assert "found_by" not in plain.table


def test_a_condition_that_a_candidate_made_is_searched_by_the_likelihood_alone() -> None:
    default, named = (
        propose(screen(), label(TOGETHER[0]), surrogate=ScaledAdditive(), objective=objective)
        for objective in (None, "likelihood")
    )
    assert default.turns is None
    assert default.table.equals(named.table)
