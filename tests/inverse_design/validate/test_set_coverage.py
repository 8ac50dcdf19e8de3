from functools import cache

import pytest
import torch
from strategies.judged import QUICK
from strategies.screens import pairs_of, planted_screen

from inverse_design.problem.constraints import Constraints
from inverse_design.problem.likelihood import TargetLikelihood
from inverse_design.problem.problem import candidate_space
from inverse_design.problem.target import AlignedProfile
from inverse_design.proposal import propose
from inverse_design.validate.coverage import JudgedSets, judge_sets
from surrogates.data.novelty import Split, double_splits
from surrogates.data.screen import Screen


@cache
def screen(noise: float = 0.5) -> Screen:
    return planted_screen(alone=range(9), together=pairs_of(9, 34), readouts=10, noise=noise)


def fold() -> Split:
    return next(double_splits(screen(), seed=0))


@cache
def judged() -> JudgedSets:
    split = fold()
    training = screen().rows(split.train)
    fitted = QUICK.fit(training, seed=0)
    space = candidate_space(training, "2", Constraints(measured="keep"))
    batch, effects = screen().batch.rows(split.test), screen().effects[split.test]
    return judge_sets(fitted, space, batch, effects, [0.8, 0.99], training=training, seed=0)


def test_sets_are_those_of_a_proposal_that_has_not_seen_the_fold() -> None:
    split, found = fold(), judged()
    assert found.candidates == 36
    training = screen().rows(split.train)
    fitted = QUICK.fit(training, seed=0)
    for number, row in enumerate(split.test[:2].tolist()):
        alone = screen().rows([*split.train.tolist(), row])
        target = AlignedProfile.exact(range(10), screen().effects[row])
        likelihood = TargetLikelihood(target, torch.zeros(9).double())
        space = candidate_space(training, "2", Constraints(measured="keep"))
        density = likelihood.utility(fitted, space.batch(0, space.size)).mean
        assert float(found.columns["probability"][number]) == pytest.approx(float(density.softmax(0).max()))
        truth = int(space.indices(screen().batch.rows(torch.tensor([row])))[0])
        assert bool(found.columns["hit"][number]) == (int(density.argmax()) == truth)
        proposal = propose(
            alone,
            screen().labels[row],
            surrogate=QUICK.bases[0],
            constraints=Constraints(measured="keep"),
            level=0.8,
            top=36,
            seed=0,
        )
        assert proposal.inverse_set is not None
        assert float(found.columns["set_size_80"][number]) == proposal.inverse_set.size
        table = proposal.table.set_index("perturbation")
        assert bool(found.columns["set_coverage_80"][number]) == bool(table.loc[screen().labels[row], "in_set"])
        assert float(found.columns["reachable"][number]) == pytest.approx(proposal.inverse_set.reachable)


def test_first_rows_are_judged_as_a_proposal_states_them() -> None:
    """Where the maker is the first of all, its row in a proposal has the bounds that are judged."""
    split, found = fold(), judged()
    compared = 0
    for number, row in enumerate(split.test.tolist()):
        if not found.columns["hit"][number] or compared == 2:
            continue
        compared += 1
        alone = screen().rows([*split.train.tolist(), row])
        base, keep = QUICK.bases[0], Constraints(measured="keep")
        first = propose(
            alone, screen().labels[row], surrogate=base, constraints=keep, level=0.8, seed=0
        ).table.loc[0]
        assert float(found.columns["first_probability"][number]) == pytest.approx(first["probability"], rel=1e-4)
        assert bool(found.columns["first_coverage_80"][number]) == (first["lower"] == 0)
        width = first["upper"] - first["lower"]
        assert float(found.columns["first_width_80"][number]) == pytest.approx(width, rel=1e-4)
    assert compared
    likely = found.columns["first_probability"] >= 0.5
    for name, chosen in (("likely", likely), ("unlikely", ~likely)):
        column = found.columns[f"first_{name}_coverage_80"]
        assert torch.equal(column.isnan(), ~chosen)
        assert torch.equal(column[chosen], found.columns["first_coverage_80"][chosen])
    assert "first_coverage_99" not in found.columns


def test_targets_that_nothing_explains_are_less_reachable() -> None:
    columns = judged().columns
    assert float(columns["reachable_permuted"].mean()) < float(columns["reachable"].mean())
    assert float(columns["reachable_negated"].mean()) < float(columns["reachable"].mean())


def test_a_level_that_cannot_be_calibrated_is_refused_with_the_reason() -> None:
    found = judged()
    assert set(found.rules) == {0.8}
    assert list(found.refused) == ["99 % set"]
    assert "needs 99" in found.refused["99 % set"]
    assert "set_coverage_99" not in found.columns


def test_too_few_doubles_for_a_small_p_value() -> None:
    few = planted_screen(alone=range(8), together=pairs_of(8, 14), readouts=6)
    split = next(double_splits(few, seed=0))
    training = few.rows(split.train)
    fitted = QUICK.fit(training, seed=0)
    space = candidate_space(training, "2", Constraints(measured="keep"))
    batch, effects = few.batch.rows(split.test), few.effects[split.test]
    found = judge_sets(fitted, space, batch, effects, [0.8], training=training, seed=0)
    assert "reachable" not in found.columns
    assert "give none below" in found.refused["p-value"]
