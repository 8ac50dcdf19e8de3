import math

import pytest
import torch

from inverse_design.validate.judged import Kept, compare, promised
from surrogates.uncertainty.dyadic import dyadic_standard_error
from surrogates.uncertainty.selection import Promise

NODES = torch.tensor([[0, 1], [0, 2], [3, 4], [1, 5]])


def test_a_promise_is_compared_in_pairs_and_in_dyadic_errors() -> None:
    promise = torch.tensor([-0.1, -0.2, -0.3, torch.nan], dtype=torch.float64)
    kept = torch.tensor([-0.3, -0.1, -1.0, -5.0], dtype=torch.float64)
    found = compare(promise, kept, NODES)
    assert (found.promised, found.kept, found.n) == (pytest.approx(-0.2), pytest.approx(-1.4 / 3), 3)
    error = dyadic_standard_error((kept - promise)[:3], NODES[:3])
    assert found.error == pytest.approx(error)
    assert found.difference == pytest.approx((-1.4 / 3 + 0.2) / error)
    assert "promised by inner folds -0.200, kept in outer folds -0.467" in found.line


def test_without_a_spread_a_gap_is_infinite_and_none_is_zero() -> None:
    same = torch.full((4,), -0.5, dtype=torch.float64)
    assert compare(same, same, NODES).difference == 0
    assert compare(same, same - 1, NODES).difference == -math.inf
    nothing = compare(same * math.nan, same, NODES)
    assert nothing.n == 0
    assert math.isnan(nothing.difference)


def test_a_difference_has_the_sign_of_what_was_kept() -> None:
    assert Kept(-0.3, -8.9, 0.5, 158).difference < -15


def test_what_several_fits_promised_of_a_double_is_averaged() -> None:
    """Of each, the score under what was chosen without its fold."""
    without = torch.tensor([[-1.0, -9, -2], [-9, -3, -9]])
    first = Promise(NODES[:3], torch.tensor([0, 1, 0]), torch.zeros(3), without)
    second = Promise(NODES[1:3], torch.tensor([0, 0]), torch.zeros(2), torch.tensor([[-5.0, -4.0]]))
    found = promised([first, second], NODES)
    assert found[:3].tolist() == [-1, -4, -3]
    assert math.isnan(float(found[3]))
    assert bool(promised([], NODES).isnan().all())
