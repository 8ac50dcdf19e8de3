"""What a proposal is asked for, found to be answerable, and what the answer will cost."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

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
from inverse_design.search.identification import Identification, asked_of_others
from inverse_design.targets import TargetLike, target_of
from surrogates.cached_fit import BesideFit
from surrogates.data.screen import Screen
from surrogates.fit_cache import USER_CACHE, FitCache


def plan(screen: ScreenLike, target: TargetLike, **stated: Any) -> Plan:  # noqa: ANN401 - as for Request
    """Say what a proposal will cost, before anything is fitted.

    Example:
        >>> plan(screen, "KLF1+CEBPE", order="both").fits
        True

    Args:
        screen: As for :func:`propose`.
        target: What is wanted.
        stated: What else is asked, as for :func:`propose`: ``order``, ``objective``, ``constraints``, ``prior``,
            ``surrogate``, ``standardise``, ``seed``, ``engine``, ``cache`` (a fit that is kept takes no time).

    Returns:
        The stages with their seconds on this machine, and the memory that they take.

    Raises:
        DataError: As :func:`propose`.
        NothingToProposeError: If the constraints leave no candidate.
        TypeError: If something else is stated.
    """
    return Request(**stated).prepared(screen, target).plan


@dataclass(frozen=True)
class Request:
    """What a proposal is asked for beside screen and target, in the words of :func:`propose`."""

    order: Order = "2"
    objective: ObjectiveName | OwnObjective | None = None
    constraints: Constraints | Sequence[Constraint] | None = None
    prior: Mapping[str, float] | None = None
    surrogate: SurrogateLike = None
    standardise: bool = False
    seed: int = 0
    engine: Engine | None = None
    cache: FitCache | None = USER_CACHE

    @property
    def runner(self) -> Engine:
        """Where fit and search run."""
        return self.engine or Engine()

    def prepared(self, screen: ScreenLike, target: TargetLike) -> "Prepared":
        """Read what is asked and plan the answer; what cannot be answered is refused."""
        read, wanted = as_stated(screen, target, standardise=self.standardise)
        asked = Answerable.of(self, read, wanted)
        tamed = tamed_screen(read, asked.question.training)
        return Prepared(asked, wanted, tamed, asked.outline(again=tamed is not None).price())


@dataclass(frozen=True)
class Prepared:
    """A proposal before its first fit."""

    asked: "Answerable"
    target: str | Target  # in the unit that is searched in
    tamed: "Tamed | None"
    plan: Plan


def as_stated(screen: ScreenLike, target: TargetLike, *, standardise: bool) -> tuple[Screen, str | Target]:
    """Read a screen and a target, in units of their own if that is wanted."""
    read = as_screen(screen)
    wanted = target_of(target, read)
    return (in_own_units(read), in_units_of(read, wanted)) if standardise else (read, wanted)


@dataclass(frozen=True)
class Answerable:
    """What is asked, and found to be answerable."""

    request: Request
    screen: Screen  # the data, the target condition among them
    question: Problem
    space: CombinationSpace
    aligned: AlignedProfile
    objective: Objective
    log_prior: Float[Tensor, "v"]
    by_turns: bool  # whether two searches fill the list

    @classmethod
    def of(cls, request: Request, screen: Screen, target: str | Target) -> "Answerable":
        """Ask; what cannot be answered is refused."""
        question, objective = ask(screen, target), request.objective
        refuse_batch_wide(request.constraints, "propose")
        space = candidate_space(question.training, request.order, request.constraints)
        aligned = question.target.on(screen.readouts)
        range_remark(question.target, aligned, question.training)  # refuses what no fit can reach
        weights = log_prior(screen, request.prior)
        chosen: Objective = (
            FunctionObjective(objective)
            if callable(objective)
            else make_objective(question.target, aligned, objective, weights)
        )
        turns = objective is None and isinstance(chosen, TargetLikelihood) and need_not_be_made(question, space)
        return cls(request, screen, question, space, aligned, chosen, weights, turns)

    @cached_property
    def beside(self) -> BesideFit:
        """What is kept beside the fit; all candidates have parts that were measured alone."""
        asked = self.request
        return beside_fit(
            self.question.training, asked.surrogate, unseen=False, seed=asked.seed, cache=asked.cache
        )

    def outline(self, *, again: bool) -> Outline:
        """Lay out how it is answered; ``again`` if an outlying condition is brought to the usual size, too."""
        asked = None
        if isinstance(self.question.target, ProfileTarget):
            asked = asked_of_others(TargetLikelihood(self.aligned, self.log_prior), self.space, self.request.seed)
        return proposal_outline(
            self.question,
            self.space,
            self.objective,
            surrogate=self.request.surrogate,
            by_turns=self.by_turns,
            workers=self.request.runner.workers,
            again=again,
            kept=self.beside.has_fit,
            calibrated=asked is not None and self.beside.holds(Identification, *asked),
        )


@dataclass(frozen=True)
class Tamed:
    """The screen with its outlying condition at the usual size."""

    screen: Screen
    label: str
    times: float  # the usual size, what it was


def tamed_screen(screen: Screen, others: Screen) -> Tamed | None:
    """Bring a condition of outlying effects, not the target, to the usual size, if there is one."""
    if (alone := outlying(others)) is None:
        return None
    label, times = others.labels[alone[0]], alone[1]
    usual = screen.effects.clone()
    usual[screen.labels.index(label)] /= times
    return Tamed(replace(screen, effects=usual), label, times)
