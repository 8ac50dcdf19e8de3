"""What a proposal is asked for, found to be answerable, and what the answer will cost."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from jaxtyping import Float
from torch import Tensor

from inverse_design.fitting import SurrogateLike, beside_fit
from inverse_design.planning.plan import Outline, Plan
from inverse_design.planning.work import proposal_outline
from inverse_design.problem.batch_wide import refuse_batch_wide
from inverse_design.problem.constraints import Constraint, Constraints
from inverse_design.problem.likelihood import TargetLikelihood
from inverse_design.problem.objective import (
    FunctionObjective,
    Objective,
    ObjectiveName,
    OwnObjective,
    make_objective,
)
from inverse_design.problem.problem import (
    Order,
    Problem,
    ask,
    candidate_space,
    in_own_units,
    in_units_of,
    log_prior,
    outlying,
    range_remark,
)
from inverse_design.problem.space import CombinationSpace
from inverse_design.problem.target import AlignedProfile, ProfileTarget, Target
from inverse_design.screens import ScreenLike, as_screen
from inverse_design.search.api import Engine, need_not_be_made
from inverse_design.search.inverse_set import Identification, asked_of_others
from inverse_design.targets import TargetLike, target_of
from surrogates.data.screen import Screen
from surrogates.fit_cache import USER_CACHE, FitCache


def plan(  # noqa: PLR0913 - as the verb
    screen: ScreenLike,
    target: TargetLike,
    *,
    order: Order = "2",
    objective: ObjectiveName | OwnObjective | None = None,
    constraints: Constraints | Sequence[Constraint] | None = None,
    surrogate: SurrogateLike = None,
    standardise: bool = False,
    seed: int = 0,
    engine: Engine | None = None,
    cache: FitCache | None = USER_CACHE,
) -> Plan:
    """Say what a proposal will cost, before anything is fitted.

    Example:
        >>> plan(screen, "KLF1+CEBPE").seconds  # doctest: +SKIP

    Args:
        screen: As for :func:`propose`, and so is everything else.
        target: What is wanted.
        order: How many interventions are given together.
        objective: How candidates are judged.
        constraints: What may be proposed.
        surrogate: The forward model.
        standardise: Whether each readout counts in units of its own.
        seed: Fixes everything that is random.
        engine: Where the search runs.
        cache: Where fits are kept: one that was made before takes no time.

    Returns:
        The stages with their seconds on this machine, and the memory that they take.

    Raises:
        DataError: As :func:`propose`.
        NothingToProposeError: If the constraints leave no candidate.
    """
    read, wanted = as_stated(screen, target, standardise=standardise)
    asked = Answerable.of(read, wanted, order=order, objective=objective, constraints=constraints, prior=None)
    again = tamed_screen(read, wanted) is not None
    return asked.outline(surrogate, engine, again=again, seed=seed, cache=cache).price()


def as_stated(screen: ScreenLike, target: TargetLike, *, standardise: bool) -> tuple[Screen, str | Target]:
    """Read a screen and a target, in units of their own if that is wanted."""
    read = as_screen(screen)
    wanted = target_of(target, read)
    return (in_own_units(read), in_units_of(read, wanted)) if standardise else (read, wanted)


@dataclass(frozen=True)
class Answerable:
    """What is asked, and found to be answerable."""

    screen: Screen  # the data, the target condition among them
    question: Problem
    space: CombinationSpace
    aligned: AlignedProfile
    objective: Objective
    log_prior: Float[Tensor, "v"]
    by_turns: bool  # whether two searches fill the list

    @classmethod
    def of(
        cls,
        screen: Screen,
        target: str | Target,
        *,
        order: Order,
        objective: ObjectiveName | OwnObjective | None,
        constraints: Constraints | Sequence[Constraint] | None,
        prior: Mapping[str, float] | None,
    ) -> "Answerable":
        """Ask; what cannot be answered is refused."""
        question = ask(screen, target)
        refuse_batch_wide(constraints, "propose")
        space = candidate_space(question.training, order, constraints)
        aligned = question.target.on(screen.readouts)
        range_remark(question.target, aligned, question.training)  # refuses what no fit can reach
        weights = log_prior(screen, prior)
        chosen: Objective = (
            FunctionObjective(objective)
            if callable(objective)
            else make_objective(question.target, aligned, objective, weights)
        )
        turns = objective is None and isinstance(chosen, TargetLikelihood) and need_not_be_made(question, space)
        return cls(screen, question, space, aligned, chosen, weights, turns)

    def outline(
        self,
        surrogate: SurrogateLike,
        engine: Engine | None,
        *,
        again: bool,
        seed: int,
        cache: FitCache | None,
    ) -> Outline:
        """Lay out how it is answered; ``again`` if an outlying condition is brought to the usual size, too."""
        workers = 1 if engine is None else engine.workers
        beside = beside_fit(self.question.training, surrogate, unseen=False, seed=seed, cache=cache)
        asked = None
        if isinstance(self.question.target, ProfileTarget):
            asked = asked_of_others(TargetLikelihood(self.aligned, self.log_prior), self.space, seed)
        return proposal_outline(
            self.question,
            self.space,
            self.objective,
            surrogate=surrogate,
            by_turns=self.by_turns,
            workers=workers,
            again=again,
            kept=beside.has_fit,
            calibrated=asked is not None and beside.holds(Identification, *asked),
        )


@dataclass(frozen=True)
class Tamed:
    """The screen with its outlying condition at the usual size."""

    screen: Screen
    label: str
    times: float  # the usual size, what it was


def tamed_screen(screen: Screen, target: str | Target) -> Tamed | None:
    """Bring a condition of outlying effects to the usual size, if there is one."""
    others = screen.rows([row for row, label in enumerate(screen.labels) if label != _maker(target, screen)])
    if (alone := outlying(others)) is None:
        return None
    label, times = others.labels[alone[0]], alone[1]
    usual = screen.effects.clone()
    usual[screen.labels.index(label)] /= times
    return Tamed(replace(screen, effects=usual), label, times)


def _maker(target: str | Target, screen: Screen) -> str:
    return screen.vocabulary.parse(target).label if isinstance(target, str) else ""
