import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from strategies.screens import plans, planted_screen

from surrogates.data.perturbation import Perturbation
from surrogates.data.screen import Screen
from surrogates.errors import DataError
from surrogates.models.linear import Ridge
from surrogates.testing import check_surrogate


@settings(max_examples=8)
@given(plan=plans(), penalty=st.sampled_from([None, 0.0, 0.5]))
def test_contract(plan: dict[str, object], penalty: float | None) -> None:
    check_surrogate(Ridge(penalty), planted_screen(**plan))  # type: ignore[arg-type]


def test_rows_solve_the_normal_equations() -> None:
    screen = planted_screen(alone=range(6), together=[(0, 1), (2, 3), (1, 4)])
    fitted = Ridge(0.7).fit(screen, seed=0)
    design = screen.batch.multi_hot(6)
    gram = design.T @ design + 0.7 * torch.eye(6, dtype=torch.float64)
    torch.testing.assert_close(fitted.rows, torch.linalg.solve(gram, design.T @ screen.effects))
    torch.testing.assert_close(fitted.root @ fitted.root.T, torch.linalg.inv(gram))


@pytest.mark.parametrize("penalty", [0.3, 3.0])
def test_the_noise_is_that_of_conditions_left_out_one_by_one(penalty: float) -> None:
    screen = planted_screen(alone=range(5), together=[(0, 1), (2, 3), (1, 4)])
    left_out = []
    for row in range(len(screen)):
        others = Ridge(penalty).fit(screen.rows([each for each in range(len(screen)) if each != row]), seed=0)
        left_out.append(screen.effects[row] - others.predict(screen.batch.rows(torch.tensor([row]))).mean[0])
    expected = torch.stack(left_out).square().mean(0)
    torch.testing.assert_close(Ridge(penalty).fit(screen, seed=0).noise, expected)


def test_the_chosen_penalty_has_the_smallest_error_left_out() -> None:
    screen = planted_screen(alone=range(6), together=[(0, 1), (2, 3), (1, 4)], noise=2.0)
    chosen = Ridge().fit(screen, seed=0)
    assert chosen.penalty > 0
    assert chosen.noise.sum() <= Ridge(0.0).fit(screen, seed=0).noise.sum()


def test_without_singles_least_squares_takes_the_shortest_solution() -> None:
    screen = planted_screen(alone=[], together=[(0, 1), (2, 3), (1, 4)])
    fitted = Ridge(0.0).fit(screen, seed=0)
    torch.testing.assert_close(fitted.predict(screen.batch).mean, screen.effects)
    torch.testing.assert_close(fitted.rows[2], screen.effects[1] / 2)
    assert not fitted.measured_alone.any()


def test_doses_multiply_one_row_per_target() -> None:
    effects = torch.tensor([[1.0, 2.0], [2.0, 4.0], [3.0, -1.0]], dtype=torch.float64)
    labels = ["a@1", "a@2", "b@4"]
    screen = Screen.from_labels(effects, [Perturbation.parse(each) for each in labels], ["x", "y"])
    fitted = Ridge(0.0, columns="doses").fit(screen, seed=0)
    torch.testing.assert_close(fitted.predict(screen.batch).mean, effects)
    torch.testing.assert_close(fitted.rows[1], 2 * fitted.rows[0])


def test_a_negative_penalty_is_refused() -> None:
    with pytest.raises(DataError, match="penalty -1"):
        Ridge(-1.0)
