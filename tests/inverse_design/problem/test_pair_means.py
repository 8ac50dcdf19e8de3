"""Scores of pairs under networks on sums, against what the networks predict."""

import copy
from collections.abc import Callable
from dataclasses import replace
from functools import cache

import pytest
import torch
from strategies.screens import normal, pairs_of, planted_screen

from inverse_design.problem import pair_means
from inverse_design.problem.constraints import Constraints, Group
from inverse_design.problem.likelihood import Memo, TargetLikelihood
from inverse_design.problem.objective import Correlation, Objective, SignedProjection, SquaredDistance
from inverse_design.problem.pair_means import NetworkScore
from inverse_design.problem.problem import candidate_space
from inverse_design.problem.score import LikelihoodScore
from inverse_design.problem.target import AlignedProfile
from inverse_design.proposal import propose
from inverse_design.search.exhaustive import evidence, search
from inverse_design.testing import check_pair_score
from surrogates.data.novelty import SEEN_DOUBLE
from surrogates.models.base import Surrogate
from surrogates.models.baselines import ScaledAdditive
from surrogates.models.interaction import Interaction
from surrogates.models.latent import LatentAdditive
from surrogates.models.training import Schedule
from surrogates.models.wrappers.calibrated import Calibrated, FittedCalibrated
from surrogates.models.wrappers.ensemble import Ensemble, Residual

SCREEN = planted_screen(alone=range(9), together=pairs_of(9, 16), readouts=7, bend=0.5)
QUICK = Schedule(epochs=4, batch=16, rate=5e-3)
NETWORK = LatentAdditive(latent=6, hidden=(9,), schedule=QUICK)
MODELS: dict[str, Surrogate] = {
    "latent_additive": NETWORK,
    "deep": LatentAdditive(latent=6, hidden=(9, 5), schedule=QUICK),
    "no hidden layer": LatentAdditive(latent=6, hidden=(), schedule=QUICK),
    "latent_residual": Residual(ScaledAdditive(), NETWORK),
    "ensemble": Ensemble(NETWORK, members=3),
    "residual of products": Residual(ScaledAdditive(), Interaction()),
}
TARGET = AlignedProfile(
    torch.tensor([0, 2, 3, 5]),
    SCREEN.effects[-1, [0, 2, 3, 5]],
    torch.tensor([0.0, 0.1, 0.2, 0.0], dtype=torch.float64),
    torch.tensor([1.0, 2.0, 0.5, 1.0], dtype=torch.float64),
)
OBJECTIVES: dict[str, Callable[[], Objective]] = {
    "likelihood": lambda: TargetLikelihood(TARGET, torch.linspace(-1, 1, 9, dtype=torch.float64)),
    "distance": lambda: SquaredDistance(TARGET),
    "projection": lambda: SignedProjection(TARGET),
    "pearson": lambda: Correlation(TARGET, "pearson"),
    "cosine": lambda: Correlation(TARGET, "cosine"),
}
RULES = Constraints(measured="keep", excluded=("G03",), groups=(Group("g", ("G00", "G01", "G02")),))


@pytest.mark.parametrize("count", [1, 2, 3, 7])
def test_rows_are_taken_a_few_at_a_time(count: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pair_means, "_ROWS", 2)
    entries = torch.tensor([8, 0, 3, 3, 5, 1, 7])[:count]
    found = pair_means.taken(SCREEN.effects[:9], entries, lambda rows: 2 * rows[:, 1:4])
    assert torch.equal(found, 2 * SCREEN.effects[entries][:, 1:4])


@cache
def fitted(name: str) -> FittedCalibrated:
    return Calibrated(MODELS[name], folds=2).fit(SCREEN, seed=0)


def scattered(model: FittedCalibrated, variance: float) -> FittedCalibrated:
    laws = {code: replace(law, coefficient_variance=variance) for code, law in model.laws.items()}
    return replace(model, laws=laws)


WIDE = planted_screen(alone=range(5), together=pairs_of(5, 10), readouts=80, bend=0.5)


@pytest.mark.parametrize("base", [ScaledAdditive(), Interaction(components=3, leading=2), NETWORK], ids=type)
@pytest.mark.parametrize("variance", [0.0, 0.2])
def test_many_readouts_are_taken_to_the_dimensions_that_pairs_span(base: Surrogate, variance: float) -> None:
    known = scattered(Calibrated(base, folds=2).fit(WIDE, seed=0), variance)
    space = candidate_space(WIDE, "2", Constraints(measured="keep"))
    wanted = TargetLikelihood(AlignedProfile.exact(range(80), WIDE.effects[7]), normal(5, seed=2))
    every, pairs = space.batch(0, space.size), torch.triu_indices(5, 5, offset=1)
    for row in (7, 9, 12):  # the second and the third find what the first has made
        asked = replace(wanted, target=replace(wanted.target, values=WIDE.effects[row]))
        score, whole = asked.pair_score(known, space), asked.utility(known, every).mean
        assert isinstance(score, LikelihoodScore)
        assert score.singles.shape[1] < 20
        check_pair_score(score)
        torch.testing.assert_close(score.exact(*pairs), whole, rtol=1e-9, atol=1e-9)


def test_what_was_made_of_the_same_objects_is_found_again() -> None:
    made: list[list[int]] = []

    def make(numbers: list[int]) -> list[int]:
        made.append(numbers)
        return [sum(numbers)]

    memo, equal = Memo(), [[1, 2] for _ in range(20)]
    assert [memo.of(make, equal[0]), memo.of(make, equal[0]), memo.of(make, equal[1])] == [[3]] * 3
    assert len(made) == 2
    for each in equal:
        memo.of(make, each)
    memo.of(make, equal[0])
    assert len(made) == 21  # the oldest go first
    copy.deepcopy(memo).of(make, equal[0])
    assert len(made) == 22


@pytest.mark.parametrize("objective", OBJECTIVES)
@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("variance", [0.0, 0.2])
def test_networks_are_searched_as_they_predict(model: str, objective: str, variance: float) -> None:
    known, wanted = scattered(fitted(model), variance), OBJECTIVES[objective]()
    space = candidate_space(SCREEN, "2", RULES)
    score = wanted.pair_score(known, space)
    assert score is not None
    check_pair_score(score)
    found = search(wanted, known, space, 12)
    every = space.batch(0, space.size)
    valid = torch.nonzero(space.valid(every)).flatten()
    utility = wanted.utility(known, every.rows(valid)).mean
    best = utility.argsort(descending=True, stable=True)[:12]
    assert found.top.index.tolist() == valid[best].tolist()
    torch.testing.assert_close(found.top.score, utility[best])
    assert found.certificate.exact
    assert found.certificate.gap == 0
    assert (found.certificate.scanned, found.certificate.masked) == (space.size, space.size - space.count_valid)


@pytest.mark.parametrize("model", ["latent_additive", "latent_residual"])
def test_densities_are_summed_by_the_scan(model: str) -> None:
    known, likelihood = fitted(model), TargetLikelihood(TARGET, torch.zeros(9, dtype=torch.float64))
    space = candidate_space(SCREEN, "2", RULES)
    every = space.batch(0, space.size)
    utility = likelihood.utility(known, every.rows(torch.nonzero(space.valid(every)).flatten())).mean
    found = evidence(likelihood, known, space, peak=float(utility.max()))
    assert found.log_sum == pytest.approx(float(utility.logsumexp(0)), abs=1e-5)


def test_interactions_beside_networks_are_streamed_and_found_alike() -> None:
    known = Calibrated(Residual(Interaction(), NETWORK), folds=2).fit(SCREEN, seed=0)
    wanted = OBJECTIVES["likelihood"]()
    space = candidate_space(SCREEN, "2", RULES)
    assert wanted.pair_score(known, space) is None
    every = space.batch(0, space.size)
    utility = wanted.utility(known, every).mean.masked_fill(~space.valid(every), -torch.inf)
    assert search(wanted, known, space, 5).top.index.tolist() == utility.topk(5).indices.tolist()


def test_a_score_is_no_larger_than_its_bound() -> None:
    space = candidate_space(SCREEN, "2", RULES)
    for model in ("latent_additive", "deep", "ensemble"):
        score = OBJECTIVES["projection"]().pair_score(fitted(model), space)
        assert isinstance(score, NetworkScore)
        first, second = torch.triu_indices(score.size, score.size, offset=1)
        assert float(score.hidden.chosen(first, second).norm(dim=1).max()) <= score.hidden.length
        assert float(score.exact(first, second).abs().max()) <= score.magnitude


def test_propose_searches_a_network_with_a_proof() -> None:
    proposal = propose(SCREEN, SCREEN.labels[-1], surrogate=NETWORK, constraints=RULES, top=4)
    assert proposal.fitted.latent_factors() is not None
    assert proposal.search.certificate.exact
    assert proposal.search.certificate.error > 0  # of quick scores: nothing was streamed
    utility = proposal.table["utility"].tolist()
    assert utility == sorted(utility, reverse=True)
    assert not proposal.table["perturbation"].str.contains("G03").any()
    assert proposal.fitted.law(SEEN_DOUBLE).support > 0
