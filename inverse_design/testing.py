"""Contract checks for authors of plug-ins: objectives and their pair scores, constraints, writers, recommenders.

Each check raises :class:`AssertionError` with what was expected and what was found.
"""

import itertools
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from inverse_design.errors import NothingToProposeError, PlanError
from inverse_design.problem.constraints import Constraint, Constraints
from inverse_design.problem.objective import Objective
from inverse_design.problem.problem import candidate_space
from inverse_design.problem.score import PairScore
from inverse_design.problem.space import CombinationSpace
from inverse_design.problem.target import ProfileTarget, ScalarTarget
from inverse_design.recommend.protocol import PERTURBATION, DecisionState, Recommender
from surrogates.data.perturbation import Intervention, Perturbation
from surrogates.data.screen import Screen
from surrogates.data.vocabulary import Vocabulary
from surrogates.errors import DataError
from surrogates.models.wrappers.calibrated import FittedCalibrated

_MOST = 300  # candidates that an objective or a constraint is asked about


def check_objective(objective: Objective, fitted: FittedCalibrated, space: CombinationSpace) -> None:
    """Check that an objective values each candidate on its own, and pairs by products as one by one."""
    _require("it satisfies Objective", holds=isinstance(objective, Objective))
    batch = space.batch(0, min(space.size, _MOST))
    utility, b = objective.utility(fitted, batch), len(batch)
    for name, numbers in (("mean", utility.mean), ("variance", utility.variance)):
        _expect(f"the shape of the {name}", tuple(numbers.shape), (b,))
        _require(f"each {name} is finite", holds=bool(numbers.isfinite().all()))
    _require("no variance is negative", holds=not bool((utility.variance < 0).any()))
    alone = objective.utility(fitted, batch.rows(slice(b - 1, b))).mean
    torch.testing.assert_close(alone, utility.mean[-1:], msg=lambda said: f"a candidate alone: {said}")
    outcome, posterior = objective.outcome, fitted.predict(batch)
    _expect("the shape of the outcome", tuple(outcome.predicted(posterior).mean.shape), (b,))
    _expect("the shape of a measured outcome", tuple(outcome.measured(posterior.mean).shape), (b,))
    score = objective.pair_score(fitted, space) if 2 in space.orders else None
    if score is not None:
        check_pair_score(score)
        first, stop = space.span(2)
        pairs = space.batch(first, min(stop, first + _MOST))
        at = torch.searchsorted(space.entries, pairs.genes[:, :2].contiguous())
        torch.testing.assert_close(
            score.exact(*at.unbind(1)),
            objective.utility(fitted, pairs).mean,
            msg=lambda said: f"pairs by products and one by one: {said}",
        )


def check_constraint(constraint: Constraint, vocabulary: Vocabulary) -> None:
    """Check that a constraint answers for each candidate on its own."""
    parameters = getattr(type(constraint), "__dataclass_params__", None)
    _require("it is a frozen dataclass", holds=parameters is not None and parameters.frozen)
    every = CombinationSpace.of(vocabulary, orders=(1, 2, 3), constraints=Constraints(measured="keep"))
    batch = every.take(torch.linspace(0, every.size - 1, min(every.size, _MOST)).long())
    allowed = constraint.allows(batch, vocabulary)
    _expect("the kind of its answer", (tuple(allowed.shape), allowed.dtype), ((len(batch),), torch.bool))
    backwards = constraint.allows(batch.rows(torch.arange(len(batch)).flip(0)), vocabulary)
    _expect("its answer to candidates in another order", backwards.flip(0).tolist(), allowed.tolist())
    singles = batch.rows(torch.nonzero(batch.order == 1).flatten())
    narrow = constraint.allows(vocabulary.dosed(singles.genes[:, :1]), vocabulary)
    _expect("its answer without empty slots", narrow.tolist(), allowed[batch.order == 1].tolist())
    _expect("its answer to none", tuple(constraint.allows(batch.rows(slice(0, 0)), vocabulary).shape), (0,))


def check_writer(write: Callable[[pd.DataFrame, Path, Mapping[str, object]], None], path: Path) -> None:
    """Check that a writer makes one file, also of gaps and of no rows, and keeps the table as it was."""
    table = pd.DataFrame({"name": ["A+B", 'é, "c"'], "number": [0.1, np.nan], "set": [True, False]})
    for each in (table, table.iloc[:0]):
        before = each.copy()
        write(each, path, {"manifest": {"seed": 0}})
        _expect("the files", [one.name for one in path.parent.iterdir()], [path.name])
        pd.testing.assert_frame_equal(each, before)


def check_pair_score(score: PairScore) -> None:
    """Compare the quick scores of all pairs with the exact ones."""
    first, second = torch.triu_indices(score.size, score.size, offset=1).unbind(0)
    exact = score.exact(first, second)
    whole = score.block(0, score.size)
    _expect("the shape of the whole block", tuple(whole.shape), (score.size, score.size))
    _expect("the number of NaN", int(whole.isnan().sum()), 0)
    for start, stop in itertools.pairwise((0, score.size // 3, score.size)):
        block = score.block(start, stop).double()
        _expect("the shape of a block", tuple(block.shape), (stop - start, score.size - start))
        middle = (start + score.size) // 2
        halves = [score.block(start, stop, each) for each in ((start, middle), (middle, score.size))]
        _expect("the shape of a tile", tuple(halves[0].shape), (stop - start, middle - start))
        _expect("the shape of both tiles", tuple(torch.cat(halves, 1).shape), tuple(block.shape))
        apart = float((torch.cat(halves, 1).double() - block).triu(1).abs().max()) if block.numel() else 0.0
        if not apart <= 2 * score.error:
            raise AssertionError(f"tiles and blocks differ by {apart}, more than twice the bound {score.error}")
        inside = (first >= start) & (first < stop)
        quick = block[first[inside] - start, second[inside] - start]
        largest = float((quick - exact[inside]).abs().max()) if bool(inside.any()) else 0.0
        if not largest <= score.error:
            raise AssertionError(f"quick scores are wrong by {largest}, more than the bound {score.error}")
    for pair in range(0, len(first), max(1, len(first) // 20)):
        alone = score.exact(first[pair : pair + 1], second[pair : pair + 1])
        _expect("an exact score asked for alone", alone.tolist(), exact[pair : pair + 1].tolist())


def _require(clause: str, *, holds: bool) -> None:
    if not holds:
        raise AssertionError(f"broken: {clause}")


def _expect(what: str, found: object, wanted: object) -> None:
    if found != wanted:
        raise AssertionError(f"{what}: found {found}, wanted {wanted}")


def check_recommender(recommender: Recommender, *, seed: int = 0) -> None:
    """Let a recommender choose pairs in a small screen: for a readout to lower and for a state to be reached.

    A recommender may refuse one of the two targets with a :class:`~surrogates.errors.DataError`. Those that it
    serves it must serve both as a replay asks (from a list of candidates) and as a campaign asks (from a space).

    Args:
        recommender: Which.
        seed: Fixes everything that is random.

    Raises:
        AssertionError: If it serves no target, or only a list or only a space; names another number of experiments
            than were wanted or are left, one of them twice, one that is measured, pending or no candidate; answers
            differently when asked again; changes what it is shown; or answers where nothing is left.
    """
    screen = _small_screen()
    profile = ProfileTarget("state", screen.readouts, screen.effects[-1] * 1.1)
    served = 0
    for target in (ScalarTarget(screen.readouts[0], "minimise"), profile):
        space = candidate_space(screen, "2", None)
        listed = space.batch(0, space.size)
        states = [DecisionState(screen, target, each, started=_GENES) for each in (listed, space)]
        kinds = []
        for state in states:
            try:
                _check_answers(recommender, state, seed)
            except PlanError as error:
                raise AssertionError(str(error)) from error
            except DataError:
                continue
            kinds.append(type(state.candidates).__name__)
        if len(kinds) == 1:
            raise AssertionError(f"the target {target.name!r} is served from a {kinds[0]} only")
        served += len(kinds)
    if not served:
        raise AssertionError("neither a direction over pairs nor a state is served")


_GENES, _PAIRS, _WANTED = 8, 12, 3


def _small_screen() -> Screen:
    """Measure eight genes alone, and twelve of their 28 pairs, which add up but for noise."""
    generator = torch.Generator().manual_seed(0)
    alone = torch.randn(_GENES, 4, generator=generator, dtype=torch.float64)
    pairs = torch.combinations(torch.arange(_GENES))
    pairs = pairs[torch.randperm(len(pairs), generator=generator)[:_PAIRS]]
    noise = torch.randn(_PAIRS, 4, generator=generator, dtype=torch.float64)
    names = [Intervention(f"G{number}") for number in range(_GENES)]
    done = [Perturbation((name,)) for name in names]
    done += [Perturbation((names[i], names[j])) for i, j in pairs.tolist()]
    effects = torch.cat([alone, 0.8 * alone[pairs].sum(1) + 0.3 * noise])
    return Screen.from_labels(effects, done, [f"r{number}" for number in range(4)])


def _check_answers(recommender: Recommender, state: DecisionState, seed: int) -> None:
    before = state.measured.effects.tolist()
    offered = [state.measured.vocabulary.perturbation(genes) for genes in state.open().genes]
    pending, left = tuple(offered[:2]), {each.label for each in offered[2:]}

    def named(count: int) -> list[str]:
        answer = recommender.recommend(state, count, pending=pending, seed=seed)
        return [state.measured.vocabulary.parse(str(each)).label for each in answer.table[PERTURBATION]]

    labels = named(_WANTED)
    _expect("the number of experiments", len(labels), _WANTED)
    _expect("the number of distinct ones", len(set(labels)), _WANTED)
    _expect("what is measured, pending or no candidate", set(labels) - left, set())
    _expect("the answer to the same question", named(_WANTED), labels)
    _expect("all that is left", set(named(10 * len(offered))), left)
    _expect("what was measured", state.measured.effects.tolist(), before)
    _refuses(
        "a state in which everything is pending",
        NothingToProposeError,
        lambda: recommender.recommend(state, 1, pending=tuple(offered), seed=seed),
    )


def _refuses(what: str, kind: type[Exception], action: Callable[[], object]) -> None:
    try:
        action()
    except kind:
        return
    raise AssertionError(f"{what}: expected {kind.__name__}, and nothing was raised")
