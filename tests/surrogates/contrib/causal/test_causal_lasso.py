import numpy as np
import pytest
import torch
from sklearn.linear_model import Lasso
from strategies.screens import normal

from surrogates.contrib.causal.design import VIRTUAL, Regression
from surrogates.contrib.causal.estimate import largest_penalty, lasso_edges


@pytest.fixture
def problem() -> Regression:
    # nodes 0 to 3 are the first readouts, node 4 is virtual; condition n acts on node n % 5
    inputs = torch.zeros(30, 5, dtype=torch.float64)
    inputs[torch.arange(30), torch.arange(30) % 5] = 1.0
    return Regression(
        normal(30, 8, seed=0), inputs, torch.tensor([0, 1, 2, 3, VIRTUAL]), torch.zeros(5, dtype=torch.bool)
    )


def test_each_readout_is_a_lasso_on_the_conditions_that_do_not_act_on_it(problem: Regression) -> None:
    penalty = 0.1 * largest_penalty(problem)
    edges = lasso_edges(problem, problem.values, penalty).numpy()
    values = np.column_stack([problem.effects[:, :4].numpy(), problem.inputs[:, 4].numpy()])
    for response in range(8):
        rows = [n for n in range(30) if not (response < 4 and n % 5 == response)]
        others = [k for k in range(5) if k != response]
        slow = Lasso(alpha=penalty / len(rows), fit_intercept=False, tol=1e-12, max_iter=10**5)
        slow.fit(values[np.ix_(rows, others)], problem.effects[rows, response].numpy())
        np.testing.assert_allclose(edges[others, response], slow.coef_, atol=0.02)
        if response < 4:
            assert edges[response, response] == 0


def test_at_the_largest_penalty_there_is_no_edge_and_just_below_there_is_one(problem: Regression) -> None:
    top = largest_penalty(problem)
    assert not lasso_edges(problem, problem.values, top * 1.0001).any()
    assert int((lasso_edges(problem, problem.values, top * 0.8) != 0).sum()) >= 1
