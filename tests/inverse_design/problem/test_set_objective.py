import math
from dataclasses import replace
from itertools import combinations

import pytest
import torch
from strategies.questions import (
    GENES,
    READOUTS,
    question_model,
    question_objective,
    question_screen,
    question_space,
)
from strategies.screens import normal

from inverse_design.problem.likelihood import TargetLikelihood
from inverse_design.problem.objective import Correlation, Objective, SignedProjection, SquaredDistance
from inverse_design.problem.set_score import set_score
from inverse_design.problem.target import AlignedProfile
from surrogates.models.base import Surrogate, set_rows
from surrogates.models.baselines import Additive, MatchingMean, ScaledAdditive
from surrogates.models.interaction import Interaction
from surrogates.models.wrappers.calibrated import Calibrated, FittedCalibrated
from surrogates.models.wrappers.stacked import Stacked
from surrogates.uncertainty.error_model import ErrorLaw

TARGET = replace(
    AlignedProfile.exact(range(READOUTS), question_screen().effects[-1]),
    weights=torch.linspace(0.5, 2.0, READOUTS, dtype=torch.float64),
)


def with_law(**changes: float) -> FittedCalibrated:
    model = question_model()
    laws: dict[int, ErrorLaw] = {code: replace(law, **changes) for code, law in model.laws.items()}
    return replace(model, laws=laws)


def worth(objective: Objective, fitted: FittedCalibrated, order: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Of every set: by the objective, and by its sum over pairs."""
    space = question_space(order)
    score = set_score(objective, fitted, space, order)
    assert score is not None
    positions = torch.tensor(list(combinations(range(GENES), order)))
    return objective.utility(fitted, space.batch(0, space.size)).mean, score.exact(positions)


@pytest.mark.parametrize("order", [3, 4])
@pytest.mark.parametrize("offset", [0.0, 0.3])
@pytest.mark.parametrize(
    "objective",
    [
        SquaredDistance(TARGET),
        SignedProjection(TARGET),
        TargetLikelihood(TARGET, torch.zeros(GENES, dtype=torch.float64)),
        TargetLikelihood(TARGET, normal(GENES, seed=1)),
    ],
)
def test_a_sum_over_pairs_is_the_worth_of_the_set(objective: Objective, order: int, offset: float) -> None:
    model = with_law(coefficient_variance=0.0, degrees=math.inf)
    laws = {code: replace(law, offset=law.offset + offset) for code, law in model.laws.items()}
    wanted, found = worth(objective, replace(model, laws=laws), order)
    torch.testing.assert_close(found, wanted)


@pytest.mark.parametrize("order", [3, 4])
def test_scattered_coefficients_add_to_a_distance(order: int) -> None:
    wanted, found = worth(SquaredDistance(TARGET), with_law(coefficient_variance=0.2), order)
    torch.testing.assert_close(found, wanted)


def test_under_the_student_law_it_ranks_the_same() -> None:
    objective = TargetLikelihood(TARGET, torch.full((GENES,), -1.0, dtype=torch.float64))
    wanted, found = worth(objective, with_law(coefficient_variance=0.0, degrees=5.0), 3)
    assert torch.equal(found.argsort(descending=True), wanted.argsort(descending=True))


def test_what_couples_all_members_has_no_sum() -> None:
    space, plain = question_space(3), with_law(coefficient_variance=0.0, degrees=math.inf)
    flat, steep = torch.zeros(GENES).double(), normal(GENES, seed=1)
    assert set_score(TargetLikelihood(TARGET, flat), with_law(coefficient_variance=0.1), space, 3) is None
    heavy = with_law(coefficient_variance=0.0, degrees=5.0)
    assert set_score(TargetLikelihood(TARGET, steep), heavy, space, 3) is None
    assert set_score(Correlation(TARGET, "cosine"), plain, space, 3) is None
    woven = Calibrated(Interaction(components=3, leading=2), folds=2).fit(question_screen(), seed=0)
    assert set_score(question_objective("distance"), woven, space, 3) is None


@pytest.mark.parametrize("order", [2, 3, 5])
@pytest.mark.parametrize(
    "surrogate",
    [Additive(), ScaledAdditive(), MatchingMean(), Stacked((ScaledAdditive(), MatchingMean()), folds=3)],
)
def test_rows_of_a_set_add_up_to_its_prediction(surrogate: Surrogate, order: int) -> None:
    fitted = surrogate.fit(question_screen(), seed=0)
    rows = set_rows(fitted, order)
    assert rows is not None
    batch = question_space(order).batch(0, 50)
    posterior = fitted.predict(batch)
    torch.testing.assert_close(rows[batch.genes].sum(1), posterior.mean)
    assert posterior.scale.tolist() == pytest.approx([1.0] * 50)


def test_models_with_interactions_have_no_rows() -> None:
    fitted = Interaction(components=3, leading=2).fit(question_screen(), seed=0)
    assert set_rows(fitted, 3) is None
    stacked = Stacked((ScaledAdditive(), Interaction(components=3, leading=2)), folds=3).fit(
        question_screen(), seed=0
    )
    whole = replace(stacked, combined=replace(stacked.combined, weights=torch.tensor([0.5, 0.5]).double()))
    assert whole.set_rows(3) is None
