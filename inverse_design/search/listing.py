"""What is listed for a target: the best by one objective, or by two that take turns.

A file, a profile or cells of another kind need not have been made by any candidate. Then a likelihood that allows
for a mismatch takes turns with the expected distance: for every ``k`` the first ``k`` of the list hold the best
``ceil(k / 2)`` of the first search and the best ``floor(k / 2)`` of the second (team-draft interleaving without a
coin [Radlinski 2008]), so that what either search proves of its own order holds in the list.
"""

from dataclasses import dataclass, replace

import torch
from jaxtyping import Int64
from torch import Tensor

from inverse_design.problem.likelihood import TargetLikelihood
from inverse_design.problem.mismatch import Mismatch, choose_mismatch
from inverse_design.problem.objective import Objective, SquaredDistance
from inverse_design.problem.problem import Problem
from inverse_design.problem.space import CombinationSpace
from inverse_design.problem.target import ProfileTarget
from inverse_design.search.api import Engine
from inverse_design.search.exhaustive import normalised
from inverse_design.search.topk import Progress, SearchResult, TopK
from surrogates.models.wrappers.calibrated import FittedCalibrated


@dataclass(frozen=True)
class Turns:
    """A list that several searches of one space filled by turns.

    Attributes:
        searches: Every search with its own certificate, by name, in the order of their turns.
    """

    index: Int64[Tensor, "m"]  # numbers of the candidates in their space, the first choice first
    found_by: tuple[str, ...]  # which search named each
    searches: dict[str, SearchResult]


def by_turns(searches: dict[str, SearchResult], count: int) -> Turns:
    """Fill a list by turns."""
    index, whose = drafted([found.top for found in searches.values()], count)
    names = tuple(searches)
    return Turns(index, tuple(names[number] for number in whose), dict(searches))


def drafted(rankings: list[TopK], count: int) -> tuple[Int64[Tensor, "m"], tuple[int, ...]]:
    """Let rankings name candidates by turns."""
    waiting = [iter(ranking.index.tolist()) for ranking in rankings]
    listed: dict[int, int] = {}
    while len(listed) < count:
        before = len(listed)
        for number, ranking in enumerate(waiting):
            if len(listed) < count:
                named = next((each for each in ranking if each not in listed), None)
                if named is not None:
                    listed[named] = number
        if len(listed) == before:
            break
    return torch.tensor(list(listed), dtype=torch.int64), tuple(listed.values())


LIKELIHOOD, DISTANCE = "likelihood", "distance"
_LARGEST = 2  # order up to which both searches are exact


@dataclass(frozen=True)
class CandidateList:
    """Candidates in the order in which they are proposed."""

    objective: Objective  # what they are worth
    index: Int64[Tensor, "m"]  # their numbers in the space, the first choice first
    search: SearchResult  # the certified search by the objective
    turns: Turns | None = None  # all searches, where two of them took turns
    notes: tuple[str, ...] = ()  # how the list came about, unless one search ranked it


def need_not_be_made(question: Problem, space: CombinationSpace) -> bool:
    """Tell whether a state may be of no candidate's making."""
    if not isinstance(question.target, ProfileTarget) or space.orders[-1] > _LARGEST:
        return False
    return question.maker is None or not bool(space.holds(space.vocabulary.batch([question.maker])).all())


def best_by(
    objective: Objective,
    fitted: FittedCalibrated,
    space: CombinationSpace,
    top: int,
    *,
    engine: Engine,
    longest: int,
    progress: Progress | None = None,
) -> CandidateList:
    """List the best by one objective."""
    found = engine.search(objective, fitted, space, longest, progress=progress)
    return CandidateList(objective, found.top.index[:top], found)


def best_by_turns(
    likelihood: TargetLikelihood,
    fitted: FittedCalibrated,
    space: CombinationSpace,
    top: int,
    *,
    engine: Engine,
    seed: int,
    progress: Progress | None = None,
) -> CandidateList:
    """Search by the likelihood with a mismatch and by the expected distance, and fill a list by turns."""
    mismatch = choose_mismatch(fitted, likelihood.target, seed=seed)
    missed = replace(likelihood, target=mismatch.on(likelihood.target, fitted), log_sums=())
    missed = normalised(missed, fitted, space)
    nearest = SquaredDistance(likelihood.target)
    turns = by_turns(
        {
            LIKELIHOOD: engine.search(missed, fitted, space, top, progress=progress),
            DISTANCE: _second(engine).search(nearest, fitted, space, top, progress=progress),
        },
        top,
    )
    return CandidateList(missed, turns.index, turns.searches[LIKELIHOOD], turns, (_in_words(mismatch),))


def _second(engine: Engine) -> Engine:
    place = engine.ledger
    return engine if place is None else replace(engine, ledger=place.with_stem(f"{place.stem}-{DISTANCE}"))


def _in_words(mismatch: Mismatch) -> str:
    chosen = "assumed, as too few doubles could be held out"
    if mismatch.support:
        chosen = f"chosen on {mismatch.support} held-out doubles"
    return (
        "no candidate need have made this state: rows take turns between the likelihood, which allows for a"
        f" mismatch of {mismatch.multiple:g} times the error variance ({chosen}), and the expected distance;"
        " probability and in_set are about which candidate made it"
    )
