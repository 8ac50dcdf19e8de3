"""Novelty classes: how far a perturbation is from what was measured."""

from jaxtyping import Bool, Int
from torch import Tensor

from surrogates.data.vocabulary import PerturbationBatch

SEEN_SINGLE = 16 * 1 + 1
SEEN_DOUBLE = 16 * 2 + 2


def seen_code(order: int) -> int:
    """Number the class of perturbations of which every part was measured alone.

    Args:
        order: How many parts.

    Returns:
        The value of :func:`novelty_code`.
    """
    return 16 * order + order


def novelty_code(batch: PerturbationBatch, measured_alone: Bool[Tensor, "v"]) -> Int[Tensor, "b"]:
    """Number the novelty class of each perturbation by its order and by how many parts were seen alone.

    Args:
        batch: The perturbations.
        measured_alone: For each vocabulary entry, whether its single effect is in the training data.

    Returns:
        ``16 * order + seen``; name it with :func:`novelty_name`.
    """
    seen = measured_alone[batch.genes.clamp(min=0)] & batch.present
    return 16 * batch.order + seen.sum(dim=1)


def novelty_name(code: int) -> str:
    """Name a novelty class.

    Args:
        code: A value of :func:`novelty_code`.

    Returns:
        For example ``"double, 2 of 2 seen"`` or ``"single, unseen"``.
    """
    order, seen = divmod(code, 16)
    if order == 0:
        return "control"
    if order == 1:
        return "single, seen" if seen else "single, unseen"
    kind = {2: "double", 3: "triple"}.get(order, f"order {order}")
    return f"{kind}, {seen} of {order} seen"


def class_distance(code: int, other: int) -> tuple[int, int, int]:
    """Tell how far two novelty classes are apart: from which one to borrow where a class has nothing of its own.

    Args:
        code: A value of :func:`novelty_code`.
        other: Another.

    Returns:
        Differences in order and in parts unseen, added up; ties go to the same order, then to the smaller code.
    """
    (order, seen), (other_order, other_seen) = divmod(code, 16), divmod(other, 16)
    orders = abs(order - other_order)
    return orders + abs((order - seen) - (other_order - other_seen)), orders, code
