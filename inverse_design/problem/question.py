"""What is asked: training data, a target, a space of candidates and a prior over genes."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from inverse_design.errors import SpaceError, TargetError
from inverse_design.problem.constraints import Constraints
from inverse_design.problem.space import CombinationSpace
from inverse_design.problem.target import AlignedProfile, ProfileTarget, Target, is_state
from surrogates.data.perturbation import Perturbation
from surrogates.data.screen import Screen
from surrogates.errors import DataError, UnknownNameError

Order = Literal["1", "2", "3", "4", "5", "6", "both"]
_REACH = 2.0
_ORDERS: Mapping[Order, tuple[int, ...]] = {
    "1": (1,), "2": (2,), "3": (3,), "4": (4,), "5": (5,), "6": (6,), "both": (1, 2),
}  # fmt: skip


@dataclass(frozen=True)
class Question:
    """A screen to learn from, and what is asked of it.

    Attributes:
        training: The screen without the target condition.
        target: Where the cells should go.
        maker: The condition of the screen whose profile the target is; ``None`` for any other target.
    """

    training: Screen
    target: Target
    maker: Perturbation | None = None


def ask(screen: Screen, target: str | Target) -> Question:
    """Turn a condition of the screen into a target, taking it out of the training data.

    Args:
        screen: Measured effects in one context.
        target: A condition such as ``"CEBPE+KLF1"``, or any other target.

    Returns:
        The question.

    Raises:
        UnknownNameError: If there is no such condition; the message names the nearest ones.
    """
    if not isinstance(target, str):
        return Question(screen, target)
    maker = screen.vocabulary.parse(target)
    row = screen.row_of(maker)
    # Without standard errors: the error laws are learnt from measured effects and so hold that noise already.
    profile = ProfileTarget(screen.labels[row], screen.readouts, screen.effects[row])
    return Question(screen.rows([each for each in range(len(screen)) if each != row]), profile, maker)


def range_remark(target: Target, aligned: AlignedProfile, training: Screen) -> tuple[str, ...]:
    """Compare wanted values with what was measured: twice the largest effect is what a pair may reach.

    Args:
        target: Where the cells should go.
        aligned: The same in the coordinates of the screen.
        training: Measured effects.

    Returns:
        A warning if some readouts are wanted beyond that, else nothing; a mere direction has no values.

    Raises:
        TargetError: If all are.
    """
    if not is_state(target):
        return ()
    largest = training.effects[:, aligned.columns].abs().amax(0)
    beyond = torch.nonzero(aligned.values.abs() > _REACH * largest).flatten()
    if not len(beyond):
        return ()
    excess = aligned.values.abs() / largest.clamp(min=torch.finfo(largest.dtype).tiny)
    worst = int(excess.argmax())
    name = training.readouts[int(aligned.columns[worst])]
    wanted, most = float(aligned.values[worst]), float(largest[worst])
    said = f"{wanted:.4g} of {name!r}, where no effect is larger than {most:.4g}"
    if len(beyond) == len(aligned.columns):
        unit = training.provenance.get("unit", "its unit")
        raise TargetError(
            f"target {target.name!r} is out of range on each of its {len(beyond):,} readouts, such as {said};"
            f" is it in the unit of the screen ({unit}), as a change against the control?"
        )
    return (f"warning: {len(beyond):,} of {len(aligned.columns):,} readouts are out of range, such as {said}",)


def candidate_space(screen: Screen, order: Order, constraints: Constraints | None) -> CombinationSpace:
    """Build the space over the interventions that were measured alone.

    Args:
        screen: The training data.
        order: How many interventions are given together; ``both`` for singles and pairs.
        constraints: What may be proposed.

    Returns:
        The space.
    """
    if order not in _ORDERS:
        raise SpaceError(f"order {order!r} is not one of {', '.join(_ORDERS)}")
    seen = torch.nonzero(screen.single_rows >= 0).flatten()
    return CombinationSpace.of(
        screen.vocabulary,
        orders=_ORDERS[order],
        constraints=constraints,
        measured=screen.batch,
        within=seen,
    )


def log_prior(screen: Screen, prior: Mapping[str, float] | None) -> Float[Tensor, "v"]:
    """Take the logarithm of each entry's prior weight; a target stands for all its doses.

    Args:
        screen: Whose vocabulary is meant.
        prior: Weight by gene or compound, one where not named.

    Returns:
        One number per vocabulary entry.

    Raises:
        UnknownNameError: If a name is not in the vocabulary.
        DataError: If a weight is not positive.
    """
    weights = dict(prior or {})
    for name, weight in weights.items():
        if name not in screen.vocabulary.targets and name not in screen.vocabulary.ids:
            raise UnknownNameError.from_known("gene or compound", name, screen.vocabulary.targets)
        if not 0 < weight < math.inf:
            raise DataError(f"prior weight {weight} of {name!r} is not positive; exclude the gene instead")
    chosen = [weights.get(entry.label, weights.get(entry.target, 1.0)) for entry in screen.vocabulary.entries]
    return torch.tensor(chosen, dtype=torch.float64).log()
