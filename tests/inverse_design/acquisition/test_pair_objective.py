import pytest
import torch
from strategies.screens import normal, planted_screen

from inverse_design.acquisition.pair_objective import (
    EnsembleDraw,
    EnsembleGain,
    draws,
    member_views,
    predicted_incumbent,
)
from inverse_design.acquisition.pairs import GaussianImprovement, MeanImprovement, PairGain, UpperBound
from inverse_design.problem.objective import Correlation, SignedProjection, SquaredDistance
from inverse_design.problem.space import CombinationSpace
from inverse_design.problem.target import AlignedProfile
from inverse_design.search.exhaustive import search
from inverse_design.search.tasks import SearchTask
from inverse_design.search.topk import search_stream
from surrogates.data.screen import Screen
from surrogates.errors import DataError
from surrogates.models.additive import ScaledAdditive
from surrogates.models.interaction import Interaction
from surrogates.models.wrappers.calibrated import Calibrated, FittedCalibrated
from surrogates.models.wrappers.ensemble import Ensemble


@pytest.fixture(scope="module")
def screen() -> Screen:
    together = [(a, b) for a in range(7) for b in range(a + 1, 7) if (a + b) % 2]
    return planted_screen(alone=range(9), together=together, readouts=6)


@pytest.fixture(scope="module")
def fitted(screen: Screen) -> FittedCalibrated:
    return Calibrated(Ensemble(Interaction(), members=4), folds=2).fit(screen, seed=0)


@pytest.fixture(scope="module")
def space(screen: Screen) -> CombinationSpace:
    return CombinationSpace.of(screen.vocabulary, orders=(2,), measured=screen.batch)


def profile() -> AlignedProfile:
    return AlignedProfile(torch.arange(6), normal(6, seed=4), torch.ones(6).double(), torch.zeros(6).double())


@pytest.mark.parametrize("objective", [SquaredDistance, SignedProjection])
@pytest.mark.parametrize("acquisition", [MeanImprovement, GaussianImprovement, UpperBound])
def test_products_and_predictions_agree(
    objective: type, acquisition: type, screen: Screen, fitted: FittedCalibrated, space: CombinationSpace
) -> None:
    base = objective(profile())
    gain = EnsembleGain(base, acquisition(predicted_incumbent(base, fitted, screen.batch) - 5.0))
    score = gain.pair_score(fitted, space)
    assert isinstance(score, PairGain)
    assert len(score.members) == 4
    top = search(gain, fitted, space, 8).top
    streamed = search_stream(space, lambda batch: gain.utility(fitted, batch).mean, 8).top
    assert top.index.tolist() == streamed.index.tolist()
    torch.testing.assert_close(top.score, streamed.score)


def test_objectives_of_several_products_are_streamed(fitted: FittedCalibrated, space: CombinationSpace) -> None:
    gain = EnsembleGain(Correlation(profile(), "cosine"), UpperBound(1.0))
    assert gain.pair_score(fitted, space) is None
    top = search(gain, fitted, space, 1).top
    every = gain.utility(fitted, space.batch(0, space.size)).mean
    assert float(top.score[0]) == pytest.approx(float(every[space.valid(space.batch(0, space.size))].max()))


def test_a_draw_searches_for_one_member(fitted: FittedCalibrated, space: CombinationSpace) -> None:
    base = SquaredDistance(profile())
    member = member_views(fitted)[2]
    found = search(EnsembleDraw(base, 2), fitted, space, 5).top
    wanted = search(base, member, space, 5).top
    assert torch.equal(found.index, wanted.index)
    assert torch.equal(found.score, wanted.score)
    drawn = draws(base, fitted, count=40, seed=1)
    assert drawn == draws(base, fitted, count=40, seed=1)
    assert {each.member for each in drawn} == {0, 1, 2, 3}


def test_the_question_travels(fitted: FittedCalibrated, space: CombinationSpace) -> None:
    base = SquaredDistance(profile())
    for objective in (
        EnsembleGain(base, MeanImprovement(-3.0)),
        EnsembleGain(base, UpperBound(1.5)),
        EnsembleDraw(base, 1),
    ):
        arrived = SearchTask.unpack(SearchTask.of(objective, fitted, space).pack())
        here, there = search(objective, fitted, space, 5), search(arrived.objective, arrived.fitted, space, 5)
        assert torch.equal(here.top.index, there.top.index)
        assert torch.equal(here.top.score, there.top.score)


def test_the_incumbent_is_the_best_that_was_measured(screen: Screen, fitted: FittedCalibrated) -> None:
    base = SquaredDistance(profile())
    assert predicted_incumbent(base, fitted, screen.batch) == max(base.utility(fitted, screen.batch).mean.tolist())
    with pytest.raises(DataError, match="nothing was measured"):
        predicted_incumbent(base, fitted, screen.batch.rows(slice(0, 0)))


def test_what_cannot_be_asked_is_refused(screen: Screen, fitted: FittedCalibrated) -> None:
    base = SquaredDistance(profile())
    alone = Calibrated(ScaledAdditive(), folds=2).fit(screen, seed=0)
    with pytest.raises(DataError, match="ScaledAdditive has no members"):
        EnsembleGain(base, UpperBound()).utility(alone, screen.batch)
    with pytest.raises(DataError, match="no member 4 among 4"):
        EnsembleDraw(base, 4).utility(fitted, screen.batch)
    with pytest.raises(DataError, match="no member -1"):
        EnsembleDraw(base, -1)
    with pytest.raises(DataError, match="0 draws"):
        draws(base, fitted, count=0, seed=0)
