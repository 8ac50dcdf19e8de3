import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from strategies.screens import normal
from torch import Tensor

from surrogates.uncertainty.error_model import inner_product, squared_norm

shapes = st.tuples(st.integers(0, 6), st.integers(1, 5), st.integers(0, 4), st.integers(0, 99))


def effects_of_pairs(main: Tensor, scores: Tensor, basis: Tensor) -> Tensor:
    """Entry (i, j) is the effect of i and j together, without any trick."""
    products = scores[:, None, :] * scores[None, :, :]
    return main[:, None, :] + main[None, :, :] + products @ basis


def parts(shape: tuple[int, int, int, int]) -> tuple[Tensor, Tensor, Tensor]:
    v, g, q, seed = shape
    return normal(v, g, seed=seed), normal(v, q, seed=seed + 1), normal(q, g, seed=seed + 2)


@given(shapes)
@settings(deadline=None)
def test_squared_norm_of_every_pair(shape: tuple[int, int, int, int]) -> None:
    main, scores, basis = parts(shape)
    side, left, right = squared_norm(main, scores, basis)
    expanded = side[:, None] + side[None, :] + left @ right.T
    torch.testing.assert_close(expanded, effects_of_pairs(main, scores, basis).square().sum(2))
    assert left.shape[1] == shape[1] + 2 * shape[2] + shape[2] * (shape[2] + 1) // 2


@given(shapes)
@settings(deadline=None)
def test_inner_product_of_every_pair(shape: tuple[int, int, int, int]) -> None:
    main, scores, basis = parts(shape)
    rows = normal(*main.shape, seed=123)
    side, left, right = inner_product(rows, main, scores, basis)
    direct = torch.einsum("ig,ijg->ij", rows, effects_of_pairs(main, scores, basis))
    torch.testing.assert_close(side[:, None] + left @ right.T, direct)
