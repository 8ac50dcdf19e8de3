"""What is asked: training data, a target, an objective, a space of candidates, and a prior over genes."""

import inspect
import json
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, Literal, TypeAlias, get_origin, get_type_hints

import torch
from jaxtyping import Float
from pydantic import TypeAdapter, ValidationError
from torch import Tensor

from inverse_design.errors import SpaceError, TargetError
from inverse_design.problem.constraints import Constraint, Constraints, Group
from inverse_design.problem.objective import Correlation, Objective, SquaredDistance
from inverse_design.problem.score import PairScore
from inverse_design.problem.space import CombinationSpace
from inverse_design.problem.target import (
    REACH,
    AlignedProfile,
    ProfileTarget,
    ScalarTarget,
    Target,
    beyond_reach,
    is_state,
    scale_misfit,
)
from surrogates.data.io.batches import CONFOUNDED
from surrogates.data.io.notes import COUNTS, NOTE, guides_of_genes
from surrogates.data.perturbation import Perturbation
from surrogates.data.screen import Screen
from surrogates.data.vocabulary import PerturbationBatch
from surrogates.errors import DataError, UnknownNameError
from surrogates.models.wrappers.calibrated import FittedCalibrated
from surrogates.registry import Registry
from surrogates.uncertainty.posterior import Outcome, Posterior, ScalarPosterior

Order = Literal["1", "2", "3", "4", "5", "6", "both"]
_ORDERS: Mapping[Order, tuple[int, ...]] = {
    "1": (1,), "2": (2,), "3": (3,), "4": (4,), "5": (5,), "6": (6,), "both": (1, 2),
}  # fmt: skip
# From mean and variance, both (b, g), readouts in the order of the screen's, to one number for each candidate.
OwnObjective: TypeAlias = Callable[[Tensor, Tensor], Any]
_BLOCKS, _DRAWS = 8, 32  # so many times so many draws: those of all readouts at once would fill the memory


@dataclass(frozen=True)
class Problem:
    """A screen to learn from, and what is asked of it.

    Attributes:
        maker: The condition of the screen whose profile the target is; ``None`` for any other target.
        standard_errors: Of the target condition, on all readouts, if the screen has them: how far a new
            measurement of it may be. They are no part of the target: the error models are learnt from measured
            effects, and hold that noise already.
    """

    training: Screen  # the screen without the target condition
    target: Target  # where the cells should go
    maker: Perturbation | None = None
    standard_errors: Float[Tensor, "g"] | None = None


def ask(screen: Screen, target: str | Target) -> Problem:
    """Turn a condition of the screen into a target, taking it out of the training data.

    Raises:
        UnknownNameError: If there is no such condition; the message names the nearest ones.
    """
    if not isinstance(target, str):
        return Problem(screen, target)
    maker = screen.vocabulary.parse(target)
    row = screen.row_of(maker)
    profile = ProfileTarget(screen.labels[row], screen.readouts, screen.effects[row])
    errors = None if screen.standard_errors is None else screen.standard_errors[row]
    return Problem(screen.rows([each for each in range(len(screen)) if each != row]), profile, maker, errors)


def range_remark(target: Target, aligned: AlignedProfile, training: Screen) -> tuple[str, ...]:
    """Compare wanted values with what was measured: twice the largest effect is what a pair may reach.

    Raises:
        TargetError: If all are.
    """
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
            f"target {target.name!r} is out of range on each of its {beyond:,} readouts, such as {said};"
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
        screen.vocabulary,
        orders=_ORDERS[order],
        constraints=rules,
        measured=screen.batch,
        within=seen,
    )


def log_prior(screen: Screen, prior: Mapping[str, float] | None) -> Float[Tensor, "v"]:
    """Take the logarithm of each entry's prior weight; a target stands for all its doses.

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


@dataclass(frozen=True)
class FunctionObjective:
    """The utility of candidates by a user's function; larger is better.

    What an experiment will show of it is the same function of the measured effect, whose variance is zero. The
    function may be anything, so that pairs are scored one by one.
    """

    function: OwnObjective

    @property
    def name(self) -> str:
        """What to call the outcome."""
        return "objective"

    @property
    def outcome(self) -> Outcome:
        """What an experiment shows of it: the function of the effect itself."""
        return self

    def utility(self, fitted: FittedCalibrated, batch: PerturbationBatch) -> ScalarPosterior:
        """Value candidates; their variance, which takes draws, is left to the outcome."""
        posterior = fitted.predict(batch)
        mean = self._value(posterior.mean, posterior.variance)
        return ScalarPosterior(mean, torch.full_like(mean, math.nan))

    def predicted(self, posterior: Posterior) -> ScalarPosterior:
        """Predict the outcome, with the variance of draws of the effect."""
        blocks = (posterior.sample(_DRAWS, seed=seed) for seed in range(_BLOCKS))
        values = torch.cat([self.measured(drawn.flatten(0, 1)).reshape(drawn.shape[:2]) for drawn in blocks])
        return ScalarPosterior(self._value(posterior.mean, posterior.variance), values.var(0))

    def measured(self, effects: Float[Tensor, "b g"]) -> Float[Tensor, "b"]:
        """Value measured effects."""
        return self._value(effects, torch.zeros_like(effects))

    def pair_score(self, fitted: FittedCalibrated, space: CombinationSpace) -> PairScore | None:  # noqa: ARG002
        """Nothing is known of the function that would factorise it."""
        return None

    def _value(self, mean: Float[Tensor, "b g"], variance: Float[Tensor, "b g"]) -> Float[Tensor, "b"]:
        found = torch.as_tensor(self.function(mean, variance), dtype=torch.float64)
        if found.shape != (len(mean),):
            raise DataError(
                f"the objective gave numbers of shape {tuple(found.shape)} for {len(mean)} candidates; give one"
                " number for each row of mean and variance"
            )
        if len(bad := torch.nonzero(~torch.isfinite(found)).flatten()):
            raise DataError(
                f"the objective is {float(found[bad[0]])} for {len(bad)} of {len(mean)} candidates; give finite"
                " numbers, also where the variance is zero"
            )
        return found


ObjectiveName: TypeAlias = str

# An objective is called with ``target``, and with ``log_prior`` if it has an argument or a field of that name.
OBJECTIVES: Registry[Callable[..., Objective]] = Registry(
    kind="objective",
    group="inverse_design.objectives",
    shipped={
        "likelihood": "inverse_design.problem.likelihood:TargetLikelihood",
        "distance": "inverse_design.problem.objective:SquaredDistance",
        "pearson": "inverse_design.problem.problem:pearson",
        "cosine": "inverse_design.problem.problem:cosine",
        "projection": "inverse_design.problem.objective:SignedProjection",
    },
)
CONSTRAINTS: Registry[type[Constraint]] = Registry(
    kind="constraint",
    group="inverse_design.constraints",
    shipped={
        "group": "inverse_design.problem.constraints:Group",
        "batch_wide": "inverse_design.problem.batch_wide:BatchWide",
    },
)
_OF_PROFILES = ("likelihood", "pearson", "cosine")


def pearson(target: AlignedProfile) -> Correlation:
    """Weighted Pearson correlation with a profile."""
    return Correlation(target, "pearson")


def cosine(target: AlignedProfile) -> Correlation:
    """Weighted cosine of the angle to a profile."""
    return Correlation(target, "cosine")


def make_objective(
    target: Target, aligned: AlignedProfile, name: ObjectiveName | None, log_prior: Float[Tensor, "v"]
) -> Objective:
    """Choose the objective that fits a target.

    Raises:
        UnknownNameError: If there is no such objective; the message names the nearest.
        TargetError: If the objective cannot judge such a target.
    """
    profile = isinstance(target, ProfileTarget)
    wanted = name or ("likelihood" if profile else "projection")
    kind, given = OBJECTIVES.load(wanted), {"target": aligned, "log_prior": log_prior}
    if not profile:
        reach = isinstance(target, ScalarTarget) and target.goal == "reach"
        if reach and name is None:
            return SquaredDistance(aligned)
        if wanted in _OF_PROFILES or (wanted == "projection" and reach):
            raise TargetError(f"objective {wanted!r} cannot judge target {target.name!r}")
    return kind(**{key: value for key, value in given.items() if key in inspect.signature(kind).parameters})


def read_constraint(text: str) -> Constraint:
    """Read a constraint as ``NAME``, ``NAME:key=value,key=value`` or ``NAME:{JSON}``.

    A value without a key goes to the key before it: ``group:name=kinases,members=CDK4,CDK6``.

    Raises:
        UnknownNameError: If there is no such constraint, or it has no such setting; the nearest is named.
        SpaceError: If a value is not of its kind, or one is missing.
    """
    name, _, stated = text.partition(":")
    kind = CONSTRAINTS.load(name.strip())
    given, known = _stated(stated.strip(), name), [each.name for each in fields(kind)]  # type: ignore[arg-type]
    if unknown := [key for key in given if key not in known]:
        raise UnknownNameError.from_known(f"setting of constraint {name!r}", unknown[0], known)
    hints = get_type_hints(kind)
    many = {key for key, value in given.items() if isinstance(value, str) and get_origin(hints[key]) is tuple}
    try:
        return TypeAdapter(kind).validate_python({k: [v] if k in many else v for k, v in given.items()})
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(each) for each in first["loc"])
        raise SpaceError(f"constraint {text!r}: {where}: {first['msg']}") from error


def _stated(text: str, name: str) -> Mapping[str, object]:
    if text.startswith("{"):
        try:
            found: dict[str, object] = json.loads(text)
        except ValueError as error:
            raise SpaceError(f"constraint {name!r}: {text!r} is no JSON: {error}") from error
        return found
    given: dict[str, list[str]] = {}
    for part in filter(None, (each.strip() for each in text.split(","))):
        key, equals, value = part.partition("=")
        if equals:
            given[key.strip()] = [value.strip()]
        elif given:
            next(reversed(given.values())).append(part)
        else:
            raise SpaceError(f"constraint {name!r}: {part!r} has no key; write key=value")
    return {key: values[0] if len(values) == 1 else values for key, values in given.items()}
