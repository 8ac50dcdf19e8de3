"""What several experts together make of a target: the pool of their posteriors over the candidates of a space."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from strategies.planted_laws import GENES, PART, PRIOR, calibrated, space_of
from torch import Tensor

from inverse_design.problem.likelihood import TargetLikelihood
from inverse_design.search.exhaustive import evidence, pair_score, search
from inverse_design.search.survey import normalised
from inverse_design.testing import check_pair_score
from surrogates.models.wrappers.calibrated import Expert, FittedCalibrated

WEIGHTS = (0.5, 0.3, 0.2)


def pool() -> FittedCalibrated:
    alone = (
        calibrated("scaled", "normal"),
        calibrated("interaction", "scattered student"),
        calibrated("additive", "student"),
    )
    experts = tuple(Expert(weight, fitted) for weight, fitted in zip(WEIGHTS, alone, strict=True))
    return replace(alone[0], experts=experts)


def posterior(fitted: FittedCalibrated, likelihood: TargetLikelihood, **rules: Any) -> Tensor:
    """Weighted mean of the experts' posteriors over the valid candidates, spelled out."""
    space = space_of(**rules)
    batch = space.batch(0, space.size)
    valid = space.valid(batch)
    each = [
        expert.weight * torch.where(valid, likelihood.utility(expert.fitted, batch).mean, -torch.inf).softmax(0)
        for expert in fitted.experts
    ]
    return torch.stack(each).sum(0)


RULES: list[dict[str, Any]] = [{}, {"measured": "keep"}, {"required": ("G05",)}]


@pytest.mark.parametrize("rules", RULES, ids=str)
def test_the_utility_is_the_log_of_the_mean_posterior(rules: dict[str, Any]) -> None:
    fitted, space, alone = pool(), space_of(**rules), TargetLikelihood(PART, PRIOR)
    likelihood = normalised(alone, fitted, space)
    expected = posterior(fitted, alone, **rules)
    batch = space.batch(0, space.size)
    valid = space.valid(batch)
    torch.testing.assert_close(
        likelihood.utility(fitted, batch).mean.exp()[valid], expected[valid], rtol=1e-5, atol=0
    )
    whole = evidence(
        likelihood, fitted, space, peak=float(expected.max().log()), cut=float(expected.median().log())
    )
    assert whole.log_sum == pytest.approx(0, abs=1e-5)


@pytest.mark.parametrize("rules", RULES, ids=str)
def test_the_search_finds_the_best_of_the_pool(rules: dict[str, Any]) -> None:
    fitted, space, alone = pool(), space_of(**rules), TargetLikelihood(PART, PRIOR)
    expected = posterior(fitted, alone, **rules)
    found = search(normalised(alone, fitted, space), fitted, space, 5).top
    best = expected.argsort(descending=True)[: min(5, space.count_valid)]
    assert found.index.tolist() == best.tolist()
    torch.testing.assert_close(found.score.exp(), expected[best], rtol=1e-5, atol=0)


def test_pair_scores_are_utilities() -> None:
    fitted, space = pool(), space_of()
    likelihood = normalised(TargetLikelihood(PART, PRIOR), fitted, space)
    score = pair_score(likelihood, fitted, space)
    assert score is not None
    check_pair_score(score)
    first, second = torch.triu_indices(GENES, GENES, offset=1)
    utility = likelihood.utility(fitted, space.vocabulary.dosed(torch.stack([first, second], dim=1))).mean
    torch.testing.assert_close(score.exact(first, second), utility, rtol=1e-9, atol=1e-9)
    assert float((score.block(0, GENES)[first, second].double() - utility).abs().max()) <= score.error


def test_one_expert_says_what_it_says_alone() -> None:
    only = calibrated("interaction", "student")
    fitted, space, alone = replace(only, experts=(Expert(1.0, only),)), space_of(), TargetLikelihood(PART, PRIOR)
    together = search(normalised(alone, fitted, space), fitted, space, 6).top
    assert torch.equal(together.index, search(alone, only, space, 6).top.index)


def test_an_expert_that_is_sure_and_wrong_does_not_overrule_the_others() -> None:
    right, wrong = calibrated("scaled", "normal"), calibrated("additive", "normal")
    law = next(iter(wrong.laws.values()))
    fooled = replace(wrong, laws={code: law.with_temperature(500.0) for code in wrong.laws})
    far = replace(PART, values=PART.values + 3.0)
    fitted, space = replace(right, experts=(Expert(0.5, right), Expert(0.5, fooled))), space_of()
    alone = TargetLikelihood(far, PRIOR)
    likelihood = normalised(alone, fitted, space)
    best = search(alone, right, space, 1).top
    sure = float(best.score[0]) - evidence(alone, right, space, peak=float(best.score[0])).log_sum
    said = float(likelihood.utility(fitted, space.take(best.index)).mean[0])
    assert said >= sure - 0.7  # half of the probability, at least


def test_without_experts_nothing_changes() -> None:
    known = normalised(TargetLikelihood(PART, PRIOR), calibrated("scaled", "normal"), space_of())
    assert (known.target, known.log_prior, known.log_sums) == (PART, PRIOR, ())
