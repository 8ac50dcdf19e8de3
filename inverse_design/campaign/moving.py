"""Moves that a user states: experiments that go to the bench, and experiments that will not be done."""

from collections.abc import Sequence

from inverse_design.campaign.events import Ordered, Withdrawn
from inverse_design.campaign.experiment import Experiment
from inverse_design.campaign.state import State, require_move
from inverse_design.campaign.store import Log, WritableLog
from surrogates.errors import DataError


def order(log: WritableLog, labels: Sequence[str] | None, *, actor: str) -> tuple[str, ...]:
    """Note that proposed experiments go to the bench.

    Args:
        log: Of the campaign, locked.
        labels: Canonical labels, each once; ``None`` for all that are proposed.
        actor: Who orders.

    Returns:
        The labels.

    Raises:
        IllegalMoveError: If one of them is not proposed.
        DataError: If one of them was never asked for.
    """
    chosen = log.experiments(states=("proposed",)) if labels is None else _newest(log, labels, "ordered")
    if chosen:
        log.append(Ordered(tuple(one.number for one in chosen)), actor=actor)
    return tuple(one.perturbation for one in chosen)


def withdraw(log: WritableLog, labels: Sequence[str], *, reason: str, actor: str) -> tuple[str, ...]:
    """Note that experiments will not be done.

    Args:
        log: Of the campaign, locked.
        labels: Canonical labels, each once.
        reason: In the user's words.
        actor: Who withdraws.

    Returns:
        The labels.

    Raises:
        IllegalMoveError: If one of them has a result.
        DataError: If one of them was never asked for.
    """
    chosen = _newest(log, labels, "withdrawn")
    if chosen:
        log.append(Withdrawn(tuple(one.number for one in chosen), reason), actor=actor)
    return tuple(one.perturbation for one in chosen)


def _newest(log: Log, labels: Sequence[str], end: State) -> list[Experiment]:
    """Find the newest experiment of each perturbation, and hold it against the moves that exist."""
    newest = {one.perturbation: one for one in log.experiments(perturbations=labels)}
    for label in labels:
        if label not in newest:
            raise DataError(f"{label!r} was never asked for, so that it cannot be {end}")
        require_move(label, newest[label].state, end)
    return [newest[label] for label in labels]
