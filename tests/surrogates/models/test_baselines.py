import pytest
import torch

from surrogates.data.perturbation import Perturbation
from surrogates.data.screen import Screen
from surrogates.errors import DataError
from surrogates.models.base import Surrogate
from surrogates.models.baselines import MatchingMean, NoChange, PerturbationMean, residual_variance

MODELS = [NoChange(), PerturbationMean(), MatchingMean()]


@pytest.fixture
def screen() -> Screen:
    effects = {"A": [1.0, 0.0], "B": [3.0, 3.0], "A+B": [5.0, 0.0], "A+C": [3.0, 9.0]}
    whole = Screen.from_labels(
        torch.tensor([*effects.values(), [7.0, 7.0]], dtype=torch.float64),
        [Perturbation.parse(label) for label in [*effects, "D"]],
        ["x", "y"],
    )
    return whole.rows([0, 1, 2, 3])  # D stays in the vocabulary, never seen


def _means(surrogate: Surrogate, screen: Screen, *labels: str) -> list[list[float]]:
    batch = screen.vocabulary.batch([Perturbation.parse(label) for label in labels])
    return surrogate.fit(screen, seed=0).predict(batch).mean.tolist()


def test_no_change_predicts_zero(screen: Screen) -> None:
    assert _means(NoChange(), screen, "", "A", "B+C") == [[0, 0]] * 3


def test_perturbation_mean_predicts_the_mean_of_all_effects(screen: Screen) -> None:
    assert _means(PerturbationMean(), screen, "A", "B+C", "A+B+D") == [[3, 3]] * 3


def test_matching_mean_averages_the_conditions_of_each_intervention(screen: Screen) -> None:
    # A: mean of A, A+B, A+C = (3, 3); B: of B, A+B = (4, 1.5); C: A+C = (3, 9); D: never seen = (3, 3)
    assert _means(MatchingMean(), screen, "A", "B+C", "D", "B+D") == [[3, 3], [3.5, 5.25], [3, 3], [3.5, 2.25]]


@pytest.mark.parametrize("surrogate", MODELS, ids=repr)
def test_the_control_has_no_effect(surrogate: Surrogate, screen: Screen) -> None:
    assert _means(surrogate, screen, "") == [[0, 0]]


def test_variance_is_the_mean_square_of_training_residuals(screen: Screen) -> None:
    batch = screen.vocabulary.batch([Perturbation.parse("A")])
    variance = NoChange().fit(screen, seed=0).predict(batch).variance
    assert variance.tolist() == [[(1 + 9 + 25 + 9) / 4, (9 + 81) / 4]]


def test_residual_variance_stays_positive() -> None:
    assert (residual_variance(torch.zeros(3, 2, dtype=torch.float64)) > 0).all()


@pytest.mark.parametrize("surrogate", MODELS, ids=repr)
def test_measured_alone_means_alone(surrogate: Surrogate, screen: Screen) -> None:
    assert surrogate.fit(screen, seed=0).measured_alone.tolist() == [True, True, False, False]


@pytest.mark.parametrize("surrogate", MODELS, ids=repr)
def test_several_contexts_are_refused(surrogate: Surrogate) -> None:
    perturbations = [Perturbation.parse(label) for label in "ABC"]
    screen = Screen.from_labels(torch.eye(3).double(), perturbations, ["x", "y", "z"], contexts=["u", "u", "v"])
    with pytest.raises(DataError, match="2 contexts"):
        surrogate.fit(screen, seed=0)
