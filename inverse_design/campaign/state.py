"""The states of an experiment, and the moves between them."""

from collections.abc import Mapping
from typing import Literal, get_args

from inverse_design.errors import IllegalMoveError

State = Literal["proposed", "ordered", "measured", "failed", "withdrawn"]
STATES: tuple[State, ...] = get_args(State)
OPEN_STATES: tuple[State, ...] = ("proposed", "ordered")

MOVES: Mapping[State, tuple[State, ...]] = {
    "proposed": ("ordered", "withdrawn"),
    "ordered": ("measured", "failed", "withdrawn"),
    "measured": (),
    "failed": (),
    "withdrawn": (),
}
_WHY_FINAL: Mapping[State, str] = {
    "measured": "its result has been told, and results are never taken back",
    "failed": "a repetition is another experiment: ask for it again, or tell its result as an extra",
    "withdrawn": "it may be proposed again; a result that came all the same is told as an extra",
}


def require_move(name: str, start: State, end: State) -> None:
    """Refuse a move that the life of an experiment does not have.

    Args:
        name: The experiment, for the message.
        start: The state it is in.
        end: The state it should get.

    Raises:
        IllegalMoveError: If there is no such move; the message says from where, to where, and what is allowed.
    """
    allowed = MOVES[start]
    if end in allowed:
        return
    reason = f"; {_WHY_FINAL[start]}" if start in _WHY_FINAL else ""
    if start == "proposed":
        reason = "; order it first"
    raise IllegalMoveError(
        f"{name!r} cannot go from {start} to {end}: from {start} it can go to {' or '.join(allowed) or 'nothing'}"
        f"{reason}"
    )
