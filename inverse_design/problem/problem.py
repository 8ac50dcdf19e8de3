"""What is asked: training data, a target, a space of candidates, a prior over genes; and what stands out."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from inverse_design.errors import SpaceError, TargetError
from inverse_design.problem.constraints import Constraint, Constraints, Group
from inverse_design.problem.space import CombinationSpace
from inverse_design.problem.target import (
    REACH,
    AlignedProfile,
    ProfileTarget,
    ScalarTarget,
    SignatureTarget,
    Target,
    beyond_reach,
    is_state,
    scale_misfit,
)
from surrogates.data.io.batches import CONFOUNDED
from surrogates.data.io.notes import COUNTS, NOTE, guides_of_genes
from surrogates.data.perturbation import Perturbation
from surrogates.data.screen import Screen
from surrogates.errors import DataError, UnknownNameError, amount
from surrogates.models.base import single_effects

Order = Literal["1", "2", "3", "4", "5", "6", "both"]
_ORDERS: Mapping[Order, tuple[int, ...]] = {
    "1": (1,), "2": (2,), "3": (3,), "4": (4,), "5": (5,), "6": (6,), "both": (1, 2),
}  # fmt: skip


@dataclass(frozen=True)
class Problem:
    """A screen to learn from, and what is asked of it."""

    training: Screen  # the screen without the target condition
    target: Target  # where the cells should go
    # The condition of the screen whose profile the target is; ``None`` for any other target.
    maker: Perturbation | None = None
    # Of the target condition, on all readouts, if the screen has them: how far a new measurement of it may be.
    # They are no part of the target: the error models are learnt from measured effects, and hold that noise
    # already.
    standard_errors: Float[Tensor, "g"] | None = None


def ask(screen: Screen, target: str | Target) -> Problem:
    """Turn a condition of the screen into a target, taking it out of the training data."""
    if not isinstance(target, str):
        return Problem(screen, target)
    maker = screen.vocabulary.parse(target)
    row = screen.row_of(maker)
    profile = ProfileTarget(screen.labels[row], screen.readouts, screen.effects[row])
    errors = None if screen.standard_errors is None else screen.standard_errors[row]
    return Problem(screen.rows([each for each in range(len(screen)) if each != row]), profile, maker, errors)


def range_remark(target: Target, aligned: AlignedProfile, training: Screen) -> tuple[str, ...]:
    """Compare wanted values with what was measured: twice the largest effect is what a pair may reach."""
    if not is_state(target):
        return ()
    excess = beyond_reach(aligned, training)
    beyond = int((excess > REACH).sum())
    if not beyond:
        return ()
    worst = int(excess.argmax())
    column = int(aligned.columns[worst])
    name, most = training.readouts[column], float(training.effects[:, column].abs().max())
    said = f"{float(aligned.values[worst]):.4g} of {name!r}, where no effect is larger than {most:.4g}"
    if beyond == len(aligned.columns):
        raise TargetError(
            f"target {target.name!r} is out of range on all its {amount(beyond, 'readout')}, such as {said};"
            f" is it in the unit of the screen ({_unit(training)}), as a change against the control?"
        )
    return (f"warning: {beyond:,} of {len(aligned.columns):,} readouts are out of range, such as {said}",)


def data_remarks(screen: Screen) -> tuple[str, ...]:
    """Repeat what the reader found; counts, and conditions that cannot be told from their batch, are warnings."""
    return tuple(
        f"warning: {said}" if key == COUNTS or said.startswith(CONFOUNDED) else f"data: {said}"
        for key, said in screen.provenance.items()
        if key.startswith(NOTE)
    )


def scale_remark(question: Problem, aligned: AlignedProfile) -> tuple[str, ...]:
    """Say if a target as a whole does not look as if it were in the unit of the screen."""
    if question.maker is not None:
        return ()
    reasons = scale_misfit(question.target, aligned, question.training)
    if not reasons:
        return ()
    return (
        f"warning: target {question.target.name!r} does not seem to be a change against the control in the unit of"
        f" the screen ({_unit(question.training)}): {'; '.join(reasons)}",
    )


def _unit(screen: Screen) -> str:
    return screen.provenance.get("unit", "its unit")


def candidate_space(
    screen: Screen,
    order: Order,
    constraints: Constraints | Iterable[Constraint] | None,
    *,
    within: Sequence[int] | None = None,
) -> CombinationSpace:
    """Build the space over the interventions (of some ids) that were measured alone, no two guides of one gene."""
    if order not in _ORDERS:
        raise SpaceError(f"order {order!r} is not one of {', '.join(_ORDERS)}")
    seen = torch.nonzero(screen.single_rows >= 0).flatten()
    if within is not None:
        seen = seen[torch.isin(seen, torch.tensor(within, dtype=torch.int64))]
    rules = Constraints.of(constraints)
    guides = guides_of_genes(set(screen.vocabulary.targets))
    if guides:  # two guides of one gene are no combination
        rules = replace(
            rules, groups=(*rules.groups, *(Group(f"guides of {name}", guides[name]) for name in guides))
        )
    return CombinationSpace.of(
        screen.vocabulary, orders=_ORDERS[order], constraints=rules, measured=screen.batch, within=seen
    )


def log_prior(screen: Screen, prior: Mapping[str, float] | None) -> Float[Tensor, "v"]:
    """Take the logarithm of each entry's prior weight; a target stands for all its doses."""
    weights = dict(prior or {})
    for name, weight in weights.items():
        if name not in screen.vocabulary.targets and name not in screen.vocabulary.ids:
            raise UnknownNameError.from_known("gene or compound", name, screen.vocabulary.targets)
        if not 0 < weight < math.inf:
            raise DataError(f"prior weight {weight} of {name!r} is not positive; exclude the gene instead")
    chosen = [weights.get(entry.label, weights.get(entry.target, 1.0)) for entry in screen.vocabulary.entries]
    return torch.tensor(chosen, dtype=torch.float64).log()


STANDARD = "each readout in units of the root mean square of its single effects"
_MOST = 0.5  # share of all squared effects that one of several readouts has
_SEVERAL = 4
_ROWS = 256  # measured effects that are looked at together
_OUTLYING = 6.0  # robust standard deviations of the logarithm of sizes
_TO_SIGMA = 1.4826  # from the median absolute deviation of a normal law


def in_own_units(screen: Screen) -> Screen:
    """State each readout in units of its usual single effect, so that its own unit does not matter."""
    size = _usual_sizes(screen)
    errors = None if screen.standard_errors is None else screen.standard_errors / size
    known = {**screen.provenance, "unit": STANDARD}
    return replace(screen, effects=screen.effects / size, standard_errors=errors, provenance=known)


def in_units_of(screen: Screen, target: str | Target) -> str | Target:
    """State a target, given in the unit of a screen, as :func:`in_own_units` states the screen."""
    if isinstance(target, str | SignatureTarget):
        return target
    unit = dict(zip(screen.readouts, _usual_sizes(screen).tolist(), strict=True))
    if isinstance(target, ScalarTarget):
        value = None if target.value is None else target.value / unit.get(target.readout, 1.0)
        return replace(target, value=value)
    sizes = torch.tensor([unit.get(name, 1.0) for name in target.readouts], dtype=torch.float64)
    spread = None if target.standard_errors is None else target.standard_errors / sizes
    return replace(target, values=target.values / sizes, standard_errors=spread)


def _usual_sizes(screen: Screen) -> Float[Tensor, "g"]:
    singles, alone = single_effects(screen)
    size = singles[alone].square().mean(0).sqrt()
    return torch.where(size > 0, size, screen.effects.square().mean(0).sqrt())


def readout_remark(screen: Screen, target: Target) -> tuple[str, ...]:
    """Say if one of the readouts that a state names outweighs all others together."""
    wanted = _readouts(target)
    named = [column for column, name in enumerate(screen.readouts) if name in wanted]
    squares = torch.stack([rows[:, named].square().sum(0) for rows in screen.effects.split(_ROWS)]).sum(0)
    if len(named) < _SEVERAL or not float(squares.max()) > _MOST * float(squares.sum()):
        return ()
    share, name = float(squares.max() / squares.sum()), screen.readouts[named[int(squares.argmax())]]
    return (
        f"warning: readout {name!r} has {100 * share:.0f} % of all squared effects, so that it decides distances;"
        " is it in another unit? --standardise (standardise=True) gives each readout the same weight",
    )


def _readouts(target: Target) -> frozenset[str]:
    return frozenset(target.readouts) if isinstance(target, ProfileTarget) else frozenset()


def outlying(screen: Screen) -> tuple[int, float] | None:
    """Find the condition whose effects are much larger than those of all others, and how many times the usual."""
    sizes = torch.cat([rows.square().mean(1) for rows in screen.effects.split(_ROWS)]).sqrt()
    logs = sizes.clamp(min=torch.finfo(sizes.dtype).tiny).log()
    row, middle = int(sizes.argmax()), logs.median()
    deviation = _TO_SIGMA * (logs - middle).abs().median()
    if not float(logs[row] - middle) > _OUTLYING * float(deviation):
        return None
    return row, float((logs[row] - middle).exp())
