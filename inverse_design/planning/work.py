"""The stages of what can be asked of a screen, and the sizes that each depends on."""

import math
from collections.abc import Mapping
from dataclasses import replace

from inverse_design.fitting import SurrogateLike, surrogate_of
from inverse_design.planning.costs import Sizes
from inverse_design.planning.plan import Outline, Work
from inverse_design.problem.objective import Objective
from inverse_design.problem.problem import Problem
from inverse_design.problem.set_score import is_sum_over_pairs
from inverse_design.problem.space import CombinationSpace
from inverse_design.problem.target import ProfileTarget
from inverse_design.search.exhaustive import listable
from inverse_design.search.identification import most_asked
from inverse_design.search.inverse_set import SUMMED
from surrogates.errors import amount
from surrogates.executors import Workers
from surrogates.models.base import surrogate_name
from surrogates.models.wrappers.automatic import Automatic
from surrogates.team import FEWEST_EFFECTS

_PAIRS = 2
_BEAM = 6 * 64  # sets that a beam extends at each order, exchanges among them
_OF_FOLDS = 0.2  # of a fit are those without folds; the rest is the choice of an error model for each model
_MEASURED = "surrogates.models."  # where the models are whose fits are in the table of costs


def fit_work(
    sizes: Sizes, stated: SurrogateLike, *, unseen: bool = False, share: float = 1.0, workers: Workers = 1
) -> list[Work]:
    """List the parts of a calibrated fit; how many workers a cluster has is not known."""
    chosen, terms = surrogate_of(stated), sizes.terms()
    if not sizes.doubles:
        kind = "fit without doubles"
    else:
        kind = "fit" if chosen is None or isinstance(chosen, Automatic) else "fit of one"
    divided, processes = 1.0, 1
    if sizes.doubles and isinstance(workers, int) and sizes.conditions * sizes.readouts >= FEWEST_EFFECTS:
        models = len(Automatic().bases) if kind == "fit" else 1
        processes = min(workers, models)  # in which error models are chosen: that takes most memory
        divided = _OF_FOLDS / workers + (1 - _OF_FOLDS) * math.ceil(models / workers) / models
    parts = [Work(kind, terms, share * divided, processes)]
    return [*parts, Work("fit of unseen parts", terms, share)] if unseen else parts


def fit_notes(stated: SurrogateLike) -> tuple[str, ...]:
    """Say so if nothing is known of what a model costs."""
    chosen = surrogate_of(stated)
    if chosen is None or type(chosen).__module__.startswith(_MEASURED):
        return ()
    return (f"how long the fit of {surrogate_name(chosen)} takes is not known: counted as that of a simple model",)


def proposal_outline(  # noqa: PLR0913 - all that the costs depend on, by name
    question: Problem,
    space: CombinationSpace,
    objective: Objective,
    *,
    surrogate: SurrogateLike,
    by_turns: bool,
    workers: int = 1,
    again: bool = False,
    kept: bool = False,
    calibrated: bool = False,
) -> Outline:
    """Outline a proposal."""
    sizes = Sizes.of(question.training)
    entries = len(space.entries)
    asked = len(question.target.on(question.training.readouts).columns)
    pairs = math.comb(entries, 2) if 2 in space.orders else 0
    state = isinstance(question.target, ProfileTarget) and space.orders[-1] <= _PAIRS
    held_out = min(sizes.doubles, most_asked(space)) if state else 0
    terms = sizes.terms(entries=entries, asked=asked, candidates=pairs, held_out=held_out)
    search = "search by turns" if by_turns and sizes.doubles else "search"
    stages = {
        # It holds its memory in any case.
        "fit": fit_work(sizes, surrogate, share=0.0 if kept else 1.0, workers=workers),
        "search": [
            Work(search, terms, 1.0 if state else 1 / workers),  # all pairs are looked at in this process
            *(_sets(space, objective, order, terms) for order in space.orders if order > _PAIRS),
        ],
        "calibration": [replace(_calibration(space, sizes, terms), share=0.0 if calibrated else 1.0)],
    }
    if again:
        stages |= {f"{name}, an outlying condition at the usual size": works for name, works in stages.items()}
    said = f"{sizes.line}, {space.summary}"
    return Outline(said, stages, fit_notes(surrogate))


def _calibration(space: CombinationSpace, sizes: Sizes, terms: Mapping[str, float]) -> Work:
    """Price what is asked of held-out doubles; of larger sets none was held out, and few are summed up."""
    if space.orders[-1] <= _PAIRS:
        return Work("calibration" if sizes.doubles else "calibration without doubles", terms)
    summed = space.size if space.size * sizes.readouts <= SUMMED else 0
    return Work("calibration of sets", {**terms, "summed": float(summed)})


def _sets(space: CombinationSpace, objective: Objective, order: int, terms: Mapping[str, float]) -> Work:
    """Price a search of larger sets: by bounds, one by one, or by a beam of those that it extends."""
    if is_sum_over_pairs(objective):
        return Work("search by bounds", {**terms, "order": float(order)})
    first, stop = space.span(order)
    scored = stop - first if listable(space, order) else min(stop - first, _BEAM * order * len(space.entries))
    return Work("search of listed sets", {**terms, "sets": float(scored)})


def ranking_outline(
    question: Problem,
    experiments: int,
    *,
    surrogate: SurrogateLike,
    unseen: bool,
    workers: Workers = 1,
    kept: bool = False,
) -> Outline:
    """Outline a ranking of a list of experiments; ``kept`` if the fit was made before."""
    sizes = Sizes.of(question.training)
    stages = {
        "fit": fit_work(sizes, surrogate, unseen=unseen, share=0.0 if kept else 1.0, workers=workers),
        "values": [value_work(sizes, question, experiments)],
    }
    said = f"{sizes.line}, {amount(experiments, 'experiment')}"
    return Outline(said, stages, fit_notes(surrogate))


def value_work(sizes: Sizes, question: Problem, experiments: int) -> Work:
    """Price what a list of experiments gains."""
    asked = len(question.target.on(question.training.readouts).columns)
    return Work("values", sizes.terms(listed=experiments, asked=asked))
