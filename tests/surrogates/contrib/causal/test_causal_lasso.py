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
    return Regression(normal(30, 8, seed=0), inputs, torch.tensor([0, 1, 2, 3, VIRTUAL]))


def test_each_readout_is_a_lasso_on_the_conditions_that_do_not_act_on_it(problem: Regression) -> None:
    factors = 0.5 + torch.rand(5, 8, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    penalty = 0.1 * largest_penalty(problem, factors)
    edges = lasso_edges(problem, problem.values, penalty, factors).numpy()
    values = np.column_stack([problem.effects[:, :4].numpy(), problem.inputs[:, 4].numpy()])
    for response in range(8):
        rows = [n for n in range(30) if not (response < 4 and n % 5 == response)]
        others = [k for k in range(5) if k != response]
        scale = factors[others, response].numpy()
        slow = Lasso(alpha=penalty / len(rows), fit_intercept=False, tol=1e-12, max_iter=10**5)
        slow.fit(values[np.ix_(rows, others)] / scale, problem.effects[rows, response].numpy())
        np.testing.assert_allclose(edges[others, response], slow.coef_ / scale, atol=0.02)
        if response < 4:
            assert edges[response, response] == 0


def test_at_the_largest_penalty_there_is_no_edge_and_just_below_there_is_one(problem: Regression) -> None:
    factors = torch.ones(5, 8, dtype=torch.float64)
    top = largest_penalty(problem, factors)
    assert not lasso_edges(problem, problem.values, top * 1.0001, factors).any()
    assert int((lasso_edges(problem, problem.values, top * 0.8, factors) != 0).sum()) >= 1


def test_an_edge_that_is_penalised_more_vanishes_first(problem: Regression) -> None:
    alike = torch.ones(5, 8, dtype=torch.float64)
    penalty = 0.05 * largest_penalty(problem, alike)
    edges = lasso_edges(problem, problem.values, penalty, alike)
    one = tuple(int(at) for at in (edges.abs() == edges.abs().max()).nonzero()[0])
    dear = alike.clone()
    dear[one] = 1e6
    assert lasso_edges(problem, problem.values, penalty, dear)[one] == 0
