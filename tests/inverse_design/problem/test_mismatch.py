from dataclasses import replace
from functools import cache
from unittest.mock import patch

import pytest
import torch
from strategies.screens import normal, pairs_of, planted_screen
from torch import Tensor
from torch.distributions import MultivariateNormal

from inverse_design.problem import mismatch
from inverse_design.problem.likelihood import TargetLikelihood
from inverse_design.problem.mismatch import (
    ASSUMED,
    MULTIPLES,
    KnownEffects,
    Mismatch,
    asked_states,
    choose_mismatch,
    missed,
    regrets,
)
from inverse_design.problem.space import CombinationSpace
from inverse_design.problem.target import AlignedProfile
from surrogates.data.novelty import SEEN_DOUBLE
from surrogates.data.screen import Screen
from surrogates.models.baselines import ScaledAdditive
from surrogates.models.interaction import Interaction
from surrogates.models.wrappers.calibrated import Calibrated, Expert, FittedCalibrated

GENES, READOUTS = 8, 7
PART = AlignedProfile(
    columns=torch.tensor([5, 0, 3, 1]),
    values=torch.tensor([0.5, -0.7, 1.4, 0.9]).double(),
    variance=torch.tensor([0.0, 0.1, 0.0, 0.02]).double(),
    weights=torch.tensor([1.0, 2.0, 0.5, 1.0]).double(),
)


@cache
def screen() -> Screen:
    return planted_screen(alone=range(GENES), together=pairs_of(GENES, 24), readouts=READOUTS, bend=0.4)


@cache
def fitted() -> FittedCalibrated:
    return Calibrated(Interaction(components=4, leading=2)).fit(screen(), seed=0)


def flat() -> Tensor:
    return torch.zeros(GENES).double()


@pytest.mark.parametrize("multiple", [0.0, 0.3, 10.0])
@pytest.mark.parametrize("tau", [0.0, 0.3])
def test_the_scan_of_all_pairs_is_the_direct_density(multiple: float, tau: float) -> None:
    """By products, and by the dense covariance ``v (Sigma + s² + c mean(diag Sigma) I) / w + tau² A A^T``."""
    law = replace(fitted().law(SEEN_DOUBLE), coefficient_variance=tau, degrees=float("inf"), temperature=0.3)
    normal_law = replace(fitted(), laws={SEEN_DOUBLE: law})
    target = missed(PART, normal_law, multiple)
    space = CombinationSpace.of(screen().vocabulary, orders=(2,), within=torch.arange(GENES))
    score = TargetLikelihood(target, flat()).pair_score(normal_law, space)
    assert score is not None
    batch = space.batch(0, space.size)
    first, second = batch.genes[:, :2].T
    columns, covariance, posterior = PART.columns, law.covariance, normal_law.predict(batch)
    dense = torch.diag(covariance.diagonal) + covariance.loadings @ covariance.loadings.T
    error = dense[columns][:, columns] + torch.diag(PART.variance)
    error = error + multiple * dense.diagonal()[columns].mean() * torch.eye(len(columns)).double()
    error = error / torch.outer(PART.weights, PART.weights).sqrt()
    direct = []
    for row in range(len(batch)):
        singles = normal_law.singles[batch.genes[row, :2]][:, columns]
        shape = posterior.scale[row] * error + tau * singles.T @ singles
        direct.append(MultivariateNormal(posterior.mean[row, columns], shape).log_prob(PART.values))
    found, wanted = score.exact(first, second), 0.3 * torch.stack(direct)
    torch.testing.assert_close(found - found.mean(), wanted - wanted.mean(), rtol=1e-8, atol=1e-8)
    quick = score.block(0, GENES)[first, second].double()
    assert float((quick - found).abs().max()) <= score.error


def test_the_batched_densities_are_those_of_one_target_after_the_other() -> None:
    known = fitted().cross[0]
    values = normal(3, len(PART.columns), seed=4)
    target = missed(PART, known.fitted, 1.0)
    found = mismatch._log_densities(known.fitted, known.batch, target, values)
    for row, each in enumerate(values):
        one = TargetLikelihood(replace(target, values=each), flat()).utility(known.fitted, known.batch).mean
        torch.testing.assert_close(found[row] - found[row, 0], one - one[0], rtol=1e-9, atol=1e-9)


def test_regrets_are_those_of_every_state_judged_alone() -> None:
    found = choose_mismatch(fitted(), PART, seed=3)
    folds = [(each.fitted, each.batch, each.effects[:, PART.columns]) for each in fitted().cross]
    assert found.support == 24
    for multiple in MULTIPLES:
        values = []
        for view, batch, effects in folds:
            others = [each for each in folds if each[0] is not view]
            alone = torch.arange(GENES)
            known = asked_states(
                KnownEffects(effects, batch.genes),
                KnownEffects(view.singles[:, PART.columns], alone[:, None]),
                KnownEffects(
                    torch.cat([each[2] for each in others]), torch.cat([each[1].genes for each in others])
                ),
                seed=3,
                weights=PART.weights,
            )
            for base in range(len(batch)):
                some = [each for each in known if each.base == base and len(each.asked.columns) == 4]
                assert len(some) == 9
                mine = []
                for state in some:
                    target = missed(replace(PART, values=state.asked.values), view, multiple)
                    scores = TargetLikelihood(target, flat()).utility(view, batch).mean
                    scores[~state.allowed(len(batch))] = -torch.inf
                    mine.append(regrets(scores.argmax()[None], state.distances(effects), (1,))[0])
                values.append(sum(mine) / len(mine))
        assert found.regret[MULTIPLES.index(multiple)] == pytest.approx(sum(values) / len(values), rel=1e-9)


def test_experts_are_pooled_over_the_candidates_that_may_be_proposed() -> None:
    one, other = fitted(), Calibrated(ScaledAdditive()).fit(screen(), seed=0)
    pool = replace(one, experts=(Expert(0.7, one), Expert(0.3, other)))
    batch, values = one.cross[0].batch, normal(2, len(PART.columns), seed=4)
    allowed = torch.ones(2, len(batch), dtype=torch.bool)
    allowed[1, 2] = False
    found = mismatch._scores(pool, batch, missed(PART, pool, 1.0), values, allowed)
    for row, each in enumerate(values):
        target = missed(replace(PART, values=each), pool, 1.0)
        some, shares = batch.rows(torch.nonzero(allowed[row]).flatten()), []
        for expert in pool.experts:
            density = TargetLikelihood(target, flat()).utility(expert.fitted, some)
            shares.append(expert.weight * density.mean.softmax(0))
        torch.testing.assert_close(found[row][allowed[row]].exp(), sum(shares), rtol=1e-9, atol=0)
        assert bool(torch.isneginf(found[row][~allowed[row]]).all())


def test_another_multiple_needs_to_be_clearly_better() -> None:
    genes = torch.arange(40).reshape(20, 2)
    noise = 0.1 * normal(20, seed=0)
    clear = {0.0: noise - 0.5, ASSUMED: torch.zeros(20).double(), 3.0: noise}
    assert mismatch._clearly_best(clear, genes) == 0.0
    near = clear | {0.0: noise - noise.mean() - 0.01}
    assert mismatch._clearly_best(near, genes) == ASSUMED
    assert mismatch._clearly_best({each: torch.zeros(20).double() for each in MULTIPLES}, genes) == ASSUMED


def test_few_held_out_doubles_choose_nothing() -> None:
    small = planted_screen(alone=range(5), together=pairs_of(5, 8), readouts=READOUTS)
    few = Calibrated(ScaledAdditive()).fit(small, seed=0)
    assert choose_mismatch(few, PART, seed=0) == Mismatch(ASSUMED, 0, ())


def test_the_unit_is_that_of_the_targets_readouts() -> None:
    variance = fitted().law(SEEN_DOUBLE).covariance.variance[PART.columns]
    found = Mismatch(3.0, 0, ()).on(PART, fitted())
    torch.testing.assert_close(found.variance, PART.variance + 3 * variance.mean())
    assert torch.equal(found.values, PART.values)
    assert torch.equal(found.weights, PART.weights)


def test_what_chooses_is_inside_the_fit() -> None:
    """The choice for a fit asks its own cross-fits only: never the fit on everything."""
    with patch.object(FittedCalibrated, "predict", autospec=True, side_effect=FittedCalibrated.predict) as asked:
        choose_mismatch(fitted(), PART, seed=0)
    assert {id(call.args[0]) for call in asked.mock_calls} == {id(each.fitted) for each in fitted().cross}


def test_of_very_many_doubles_a_random_part_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mismatch, "MOST_DOUBLES", 3)
    monkeypatch.setattr(mismatch, "FEWEST_TO_CHOOSE", 5)
    every = [{tuple(ids) for ids in fold.batch.genes.tolist()} for fold in fitted().cross]
    parts = [{tuple(ids) for ids in known.genes.tolist()} for _, known in mismatch._held_out(fitted(), seed=1)]
    assert [len(part) for part in parts] == [min(3, len(fold)) for fold in every]
    assert all(part <= fold for part, fold in zip(parts, every, strict=True))
    assert choose_mismatch(fitted(), PART, seed=1).support == sum(map(len, parts))
