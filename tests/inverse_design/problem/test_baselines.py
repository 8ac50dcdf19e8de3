import pytest
import torch
from strategies.screens import normal, pairs_of, planted_screen

from inverse_design.problem.likelihood import baselines
from inverse_design.problem.objective import Correlation, Distance, SignedProjection
from inverse_design.problem.target import AlignedProfile

SCREEN = planted_screen(alone=range(5), together=pairs_of(5, 4), readouts=6)
TARGET = AlignedProfile.exact([0, 2, 5], normal(3, seed=3))
WEIGHED = AlignedProfile(TARGET.columns, TARGET.values, TARGET.variance, torch.tensor([1.0, 2.0, 5.0]).double())


def test_doing_nothing_is_as_far_as_the_target_is_long() -> None:
    plain, weighed = (baselines(Distance(each), SCREEN) for each in (TARGET, WEIGHED))
    assert plain.nothing == pytest.approx(float(TARGET.values.square().mean().sqrt()))
    assert weighed.nothing == pytest.approx(float((TARGET.values.square() @ WEIGHED.weights / 8).sqrt()))
    distances = (SCREEN.effects[:, [0, 2, 5]] - TARGET.values).square().mean(1).sqrt()
    assert plain.best == pytest.approx(float(distances.min()))
    assert plain.best_label == SCREEN.labels[int(distances.argmin())]
    assert plain.line == f"doing nothing {plain.nothing:.3g}; best measured, {plain.best_label}, {plain.best:.3g}"


def test_less_distance_is_better_and_more_of_a_score_is() -> None:
    far = baselines(Distance(TARGET), SCREEN)
    assert far.beaten(torch.tensor([far.nothing - 0.01, far.nothing, far.nothing + 1]).double()).tolist() == [
        True, False, False
    ]  # fmt: skip
    for outcome in (SignedProjection(TARGET), Correlation(TARGET, "pearson"), Correlation(TARGET, "cosine")):
        score = baselines(outcome, SCREEN)
        assert score.nothing == 0.0
        assert score.beaten(torch.tensor([0.1, 0.0, -0.1]).double()).tolist() == [True, False, False]
        measured = outcome.measured(SCREEN.effects)
        assert score.best == pytest.approx(float(measured.max()))
        assert score.best_label == SCREEN.labels[int(measured.argmax())]
