"""What the measurements on a user's own screen will cost: fits to most of it, and questions about the rest."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Literal

from inverse_design.planning.costs import Costs, Sizes
from inverse_design.planning.plan import Outline, Work
from inverse_design.planning.work import fit_work
from inverse_design.validate.judged import variants_of
from inverse_design.validate.replay import Environment
from surrogates.data.screen import Screen

Measurement = Literal["retrieval", "forward", "calibration", "reach"]
_FOLDS = 5  # over doubles, and over targets
_MOST_TARGETS = 500
# Of each fold over doubles: fits of the default, and of other single models.
_FITS: Mapping[Measurement, tuple[int, int]] = {
    "retrieval": (1, 3), "forward": (1, 1), "calibration": (1, 0), "reach": (1, 0),
}  # fmt: skip
# What is asked of held-out doubles, in words of proposals, and how often: in all, or in each fold.
_ASKED: Mapping[Measurement, tuple[str, float]] = {
    "retrieval": ("calibration", 4.0),
    "calibration": ("calibration", 5.0),
    "reach": ("search by turns", 5.0),
}
_OVER_TARGETS = ("forward", "calibration")  # what holds targets out, too


def measurement_outline(
    what: Measurement, screen: Screen, *, classes: Sequence[str] = (), workers: int = 1
) -> Outline:
    """Outline a measurement with the default models; ``classes`` are the novelty classes that it is asked for."""
    sizes, variants = Sizes.of(screen), len(variants_of(screen))
    times = float(variants * _FOLDS)
    processes = min(workers, variants * _FOLDS)
    kept = replace(
        sizes,
        conditions=sizes.conditions - sizes.doubles // _FOLDS,
        doubles=sizes.doubles - sizes.doubles // _FOLDS,
    )
    default, single = _FITS[what]
    works = []
    if sizes.doubles and (not classes or "double-2" in classes):
        works += fit_work(kept, None, share=times * default)
        works += fit_work(kept, "scaled_additive", share=times * single) if single else []
    if what in _OVER_TARGETS and (not classes or set(classes) != {"double-2"}):
        fewer = replace(
            sizes,
            conditions=sizes.conditions * (_FOLDS - 1) // _FOLDS,
            singles=sizes.singles * (_FOLDS - 1) // _FOLDS,
            doubles=sizes.doubles * (_FOLDS - 1) ** 2 // _FOLDS**2,
        )
        works += fit_work(fewer, None, unseen=True, share=times)
    if what in _ASKED and sizes.doubles:
        kind, asked = _ASKED[what]
        further = {"entries": sizes.singles, "candidates": math.comb(sizes.singles, 2), "asked": sizes.readouts}
        terms = kept.terms(held_out=min(sizes.doubles, _MOST_TARGETS), **further)
        works.append(Work(kind, terms, variants * asked))
    said = f"{what}: {sizes.line}, {times:.0f} folds"
    works = [replace(work, share=work.share / processes) for work in works]
    return Outline(said, {what: works}, processes=processes)


def replay_outline(environment: Environment, recommenders: Sequence[str], *, seeds: int, workers: int) -> Outline:
    """Outline a replay; of recommenders of other packages nothing is known."""
    priced = Costs.measured().seconds
    rounds = math.ceil(min(environment.rounds, len(environment.candidates) / environment.count))
    sizes = Sizes.of(environment.screen).terms(
        candidates=len(environment.candidates),
        known=environment.start + environment.count * (rounds - 1) / 2,
        count=environment.count,
    )
    processes = min(workers, seeds * len(recommenders))  # a game is played by one
    works = [Work(f"replay {name}", sizes, seeds * rounds / processes) for name in recommenders]
    others = [name for name in recommenders if f"replay {name}" not in priced]
    notes = (f"how long {', '.join(others)} take is not known, and not counted",) if others else ()
    said = f"{len(recommenders)} policies, {seeds} games each of {rounds} rounds"
    return Outline(said, {"replay": works}, notes)
