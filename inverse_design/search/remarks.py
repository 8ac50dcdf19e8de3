"""What the reader of an answer should know of its search."""

import math

from inverse_design.problem.space import CombinationSpace
from inverse_design.search.engine import Engine
from inverse_design.search.topk import Certificate
from surrogates.data.novelty import novelty_name, seen_code
from surrogates.models.calibrated import FittedCalibrated


def search_notes(
    engine: Engine, certificate: Certificate, fitted: FittedCalibrated, space: CombinationSpace
) -> tuple[str, ...]:
    """Say what is special about sets of three and more; nothing about singles and pairs.

    Args:
        engine: Where the search ran.
        certificate: What it looked at.
        fitted: The surrogate.
        space: What was searched.

    Returns:
        Notes; warnings say so.
    """
    order = space.orders[-1]
    if order <= 2:
        return ()
    notes = []
    if math.isinf(certificate.gap):
        notes.append(
            f"warning: no bound is known for sets of order {order} under {fitted.name} and this objective: a beam"
            " looked at the most promising ones, and better ones may exist; an additive model under the objective"
            " distance is searched with a proof"
        )
    elif certificate.bound:
        notes.append(f"all sets of order {order} were searched by a bound on their {certificate.bound}: proven")
    if engine.spread and certificate.bound:
        notes.append(
            "warning: searched in this process alone: bounds and beams are not cut into shards, and no ledger was"
            " written"
        )
    law = fitted.law(seen_code(order))
    if law.origin != novelty_name(seen_code(order)):
        notes.append(
            f"the error law of {novelty_name(seen_code(order))!r} is borrowed from {law.origin!r}: no such set was"
            " held out"
        )
    return tuple(notes)
