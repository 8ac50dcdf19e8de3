"""Quadratic forms of pairs as inner products, so that one matrix product gives them for all pairs."""

import torch
from jaxtyping import Float
from torch import Tensor


def squared_norm(
    main: Float[Tensor, "v g"], scores: Float[Tensor, "v q"], basis: Float[Tensor, "q g"]
) -> tuple[Float[Tensor, "v"], Float[Tensor, "v d"], Float[Tensor, "v d"]]:
    """Expand ``|main_i + main_j + basis^T (scores_i * scores_j)|²`` as ``side_i + side_j + left_i · right_j``.

    With ``y_i = scores_i`` and ``B = basis`` the cross terms are ``2 main_i · main_j``,
    ``2 (B main_i * y_i) · y_j``, ``2 y_i · (B main_j * y_j)`` and ``sum_rs (B B^T)_rs y_ir y_is y_jr y_js``, the
    last over ``r <= s`` only: ``d = g + 2 q + q (q + 1) / 2``.

    Args:
        main: Additive part of each entry.
        scores: Coordinates of each entry.
        basis: Effect of each product of coordinates; may have no rows.

    Returns:
        Side, left and right factors.
    """
    mixed = (main @ basis.T) * scores
    first, second = torch.triu_indices(len(basis), len(basis))
    gram = (basis @ basis.T)[first, second] * torch.where(first == second, 1.0, 2.0)
    quartic = scores[:, first] * scores[:, second]
    # Any unit gives the same products; that of the effects keeps all columns of one size, hence bounds tight.
    unit = main.square().sum(1).mean().sqrt().clamp(min=torch.finfo(main.dtype).tiny)
    left = torch.cat([2 * main, 2 * mixed / unit, 2 * scores * unit, quartic * gram / unit], dim=1)
    right = torch.cat([main, scores * unit, mixed / unit, quartic * unit], dim=1)
    return main.square().sum(1), left, right


def inner_product(
    rows: Float[Tensor, "v g"],
    main: Float[Tensor, "v g"],
    scores: Float[Tensor, "v q"],
    basis: Float[Tensor, "q g"],
) -> tuple[Float[Tensor, "v"], Float[Tensor, "v d"], Float[Tensor, "v d"]]:
    """Expand ``rows_i · (main_i + main_j + basis^T (scores_i * scores_j))``, which is not symmetric.

    Args:
        rows: A row per entry, taken with the first of the two.
        main: Additive part of each entry.
        scores: Coordinates of each entry.
        basis: Effect of each product of coordinates; may have no rows.

    Returns:
        A term of the first entry alone, and left and right factors of the rest.
    """
    mixed = (rows @ basis.T) * scores
    return (rows * main).sum(1), torch.cat([rows, mixed], dim=1), torch.cat([main, scores], dim=1)
