"""Say what a long search will cost before it is done."""

from collections.abc import Callable

from inverse_design.errors import SpaceError
from inverse_design.interface.console import complaints, say
from inverse_design.search.workload import Workload

LONG = 60.0  # seconds; what takes less is done without asking


def approval(answer: str) -> Callable[[Workload], None]:
    """Ask before long searches.

    Args:
        answer: ``"yes"`` if they may go on, ``"ask"`` if not without a word.

    Returns:
        What an engine calls before it searches; raises SpaceError where nobody has said yes.
    """

    def approve(work: Workload) -> None:
        if work.seconds < LONG:
            return
        if answer != "yes":
            raise SpaceError(f"{work.line}. Proceed? Repeat the command with --yes, or restrict the space")
        say(complaints(), f"searching {work.line}")

    return approve
