"""Batches whose experiments share a condition: a batch is chosen at each of its values, and the best is taken."""

import math
from collections.abc import Mapping
from dataclasses import replace

from inverse_design.errors import NothingToProposeError, PlanError
from inverse_design.problem.target import is_state
from inverse_design.recommend.pair_hits import recommend_within
from inverse_design.recommend.protocol import DecisionState, Recommendation, Recommender
from surrogates.data.perturbation import Perturbation


def recommend_sharing(
    recommender: Recommender,
    levels: Mapping[str, DecisionState],
    count: int,
    *,
    pending: tuple[Perturbation, ...],
    seed: int,
) -> Recommendation:
    """Let a recommender choose a batch among the candidates of each value, and take the one that gains most.

    Where a recommender does not say what a batch gains, the one with the best predicted outcomes is taken, of as
    many experiments as the smallest batch has.
    """
    plans = {}
    for level, state in levels.items():
        try:
            plans[level] = recommend_within(recommender, state, count, pending=pending, seed=seed)
        except NothingToProposeError:
            continue
    plans = {level: plan for level, plan in plans.items() if len(plan.table)}
    if not plans:
        raise NothingToProposeError(f"no candidate is left at any of {len(levels)} values: {', '.join(levels)}")
    worth, unit = _worth(plans, state=is_state(next(iter(levels.values())).target))
    best = max(plans, key=worth.__getitem__)
    others = [f"{level} ({worth[level]:.3g})" for level in plans if level != best]
    behind = f", before {', '.join(others)}" if others else ""
    none = [level for level in levels if level not in plans]
    empty = f"; nothing is left at {', '.join(none)}" if none else ""
    said = f"all experiments of this batch share {best}: {unit} {worth[best]:.3g}{behind}{empty}"
    return replace(plans[best], notes=(said, *plans[best].notes))


def _worth(plans: Mapping[str, Recommendation], *, state: bool) -> tuple[Mapping[str, float], str]:
    gains = {level: plan.expected_gain for level, plan in plans.items()}
    if all(map(math.isfinite, gains.values())) or len(plans) == 1:
        return gains, "expected gain"
    fewest = min(len(plan.table) for plan in plans.values())
    if all("predicted" in plan.table for plan in plans.values()):
        sign = -1.0 if state else 1.0
        found = {
            level: float((sign * plan.table["predicted"]).nlargest(fewest).mean()) for level, plan in plans.items()
        }
        if all(map(math.isfinite, found.values())):
            return found, f"mean utility predicted of its best {fewest}"
    raise PlanError(
        "the recommender says neither what a batch gains nor what it predicts, so that batches at"
        f" {', '.join(plans)} cannot be compared; name another one, such as gains (--recommender gains)"
    )
