"""The verb ``check``: what is in the data, how it was read, and what is wrong with it."""

from collections.abc import Sequence
from importlib.util import find_spec

from rich.console import Console

from inverse_design.cli.console import Manner, reply, say, show_facts, working
from inverse_design.cli.options import SCHEDULER_TRUST, Crew, Reading
from inverse_design.cli.screens import open_screen, warn_of_scheduler
from inverse_design.screens import concerns, contents
from surrogates.data.io.notes import NOTE


def run_check(data: str, reading: Reading, crew: Crew, *, manner: Manner) -> None:
    """Read the data and report."""
    warn_of_scheduler(crew.scheduler)
    with working("reading"):
        screen = open_screen(data, reading, workers=crew.workers, scheduler=crew.scheduler)
    facts = {"data": screen.provenance["dataset"], **contents(screen)}
    known = {
        key: value for key, value in screen.provenance.items() if key != "dataset" and not key.startswith(NOTE)
    }
    worth = tuple(concerns(screen))

    def show(console: Console) -> None:
        show_facts(console, facts)
        say(console)
        say(console, "how it was read", "bold")
        show_facts(console, {f"  {key}": value for key, value in known.items()})
        _show_concerns(console, worth)
        if find_spec("distributed") is not None:
            say(console)
            say(console, f"not about these data: with propose --scheduler, {SCHEDULER_TRUST}", "dim")

    reply(manner, {**facts, "how it was read": known, "worth knowing": worth}, show)


def _show_concerns(console: Console, found: Sequence[str]) -> None:
    say(console)
    if not found:
        say(console, "nothing to worry about", "bold")
        return
    say(console, "worth knowing", "bold")
    for each in found:
        say(console, f"  - {each}")
