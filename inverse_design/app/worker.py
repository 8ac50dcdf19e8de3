"""What takes long, in a process of its own: a task comes as a line of JSON, and lines of JSON say how far it is.

A process that is killed leaves the store as it was: what it would have recorded is one transaction.
"""

import json
import os
import signal
import sys
import threading
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from inverse_design.campaign.ask import require_settings
from inverse_design.campaign.campaign import Campaign
from inverse_design.campaign.settings import settings_of
from inverse_design.campaign.store.protocol import open_store
from inverse_design.errors import CostError, InverseDesignError, NothingToProposeError, masked
from inverse_design.planning.course import Pace, Watch
from inverse_design.planning.plan import Plan
from inverse_design.problem.problem import ask, range_remark, scale_remark
from inverse_design.problem.target import ProfileTarget, Target
from inverse_design.screens import concerns, contents, one_context
from inverse_design.target_files import refuse_further_files
from inverse_design.targets import condition_of, read_target
from surrogates.data.io.dialects import Dialect
from surrogates.data.io.notes import NOTE
from surrogates.data.io.readers import screen_of
from surrogates.data.screen import Screen
from surrogates.errors import SurrogatesError

_MOST_LABELS = 3000  # that a form offers
_PATIENCE = 5  # how much this process gives way to the pages


def _read(path: str, shown: str, reading: Mapping[str, str]) -> Screen:
    target, keys, group = (reading.get(each) or None for each in ("target_col", "reference_key", "group_col"))
    stated = Dialect(target, keys.split(",") if keys else None, group_col=group)
    screen = screen_of(path, stated)
    return replace(screen, provenance={**screen.provenance, "source": shown, "dataset": shown})


def check_screen(_say: Watch, *, path: str, shown: str, reading: Mapping[str, str]) -> dict[str, object]:
    """Read a screen, and say what is in it and what is wrong with it."""
    screen = _read(path, shown, reading)
    known = {key: str(value) for key, value in screen.provenance.items() if not key.startswith(NOTE)}
    return {
        "facts": contents(screen),
        "how": {key: value for key, value in known.items() if key != "dataset"},
        "concerns": list(concerns(screen)),
        "contexts": sorted(set(screen.contexts)),
        "labels": sorted(set(screen.labels))[:_MOST_LABELS],
    }


def create_campaign(  # noqa: PLR0913 - what a form states
    _say: Watch,
    *,
    place: str,
    path: str,
    shown: str,
    reading: Mapping[str, str],
    context: str | None,
    target: str,
    target_path: str | None,
    settings: Mapping[str, object],
    actor: str,
) -> dict[str, object]:
    """Begin a campaign from an uploaded screen; everything is checked before the store is touched."""
    screen = one_context(_read(path, shown, reading), context)
    question = ask(screen, _target(target, target_path, screen))
    called = target or question.target.name
    chosen = settings_of({**settings, "target": " ".join(called.split())})
    require_settings(chosen, question.training)
    aligned = question.target.on(screen.readouts)
    remarks = (*scale_remark(question, aligned), *range_remark(question.target, aligned, question.training))
    store = open_store(place, create=True)
    campaign = Campaign.create(
        question.training, target=question.target, settings=chosen, store=store, actor=actor
    )
    return {"key": campaign.key, "remarks": list(remarks)}


def _target(label: str, path: str | None, screen: Screen) -> str | Target:
    """Take the target from a file that was uploaded, else a condition of the data; a label is never a path."""
    if path is None:
        return condition_of(label, screen)
    refuse_further_files(Path(path))
    read = read_target(path, screen)
    if not isinstance(read, ProfileTarget):
        return read
    return replace(read, name=read.name.replace(Path(path).name, label))


def ask_round(
    say: Watch, *, place: str, name: str, actor: str, count: int | None, recommender: str | None, more: bool
) -> dict[str, object]:
    """Propose a round, or give the open one out again."""
    campaign = Campaign.open(open_store(place), name, actor=actor)
    with _begun(campaign.plan(count, recommender, more=more), say):
        batch = campaign.ask_more(count, recommender) if more else campaign.ask(count, recommender)
    return {"round": batch.round, "fresh": batch.fresh}


def _begun(foreseen: Plan, say: Watch) -> AbstractContextManager[object]:
    """Begin planned work; what may not fit the memory is refused, as nobody is asked."""
    if not foreseen.fits:
        raise CostError("; ".join((foreseen.line, *foreseen.remedies, "or ask on the command line with --yes")))
    return foreseen.begin(say).stage() if foreseen.stages else nullcontext()


def judge_round(say: Watch, *, place: str, name: str, actor: str, revision: str) -> dict[str, object]:
    """Say whether another round would be worth it."""
    campaign = Campaign.open(open_store(place), name, actor=actor)
    try:
        with _begun(campaign.plan(more=True), say):
            plan = campaign.preview()
    except NothingToProposeError as error:
        return {"stop": True, "reason": str(error), "revision": revision}
    return {**asdict(campaign.advice(plan)), "revision": revision}


TASKS: Mapping[str, Callable[..., dict[str, object]]] = {
    "check": check_screen,
    "create": create_campaign,
    "ask": ask_round,
    "advice": judge_round,
}


def main() -> int:
    """Do one task."""
    channel = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # what a library prints is no answer

    def write(what: str, said: object) -> None:
        channel.write(json.dumps({what: said}) + "\n")
        channel.flush()

    def say(pace: Pace) -> None:
        write("pace", asdict(pace))

    task: dict[str, Any] = json.loads(sys.stdin.readline())
    threading.Thread(target=_end_with_parent, daemon=True).start()
    os.nice(_PATIENCE)
    try:
        write("done", TASKS[task.pop("task")](say, **task))
    except (SurrogatesError, InverseDesignError, OSError, MemoryError) as error:
        said = masked(" ".join(str(error).split())) or "the memory is full; take fewer readouts"
        for path, shown in (("path", "shown"), ("target_path", "target")):
            if task.get(path):  # people know a file by the name that they gave it
                said = said.replace(task[path], task[shown]).replace(Path(task[path]).name, task[shown])
        write("refused", said)
    return 0


def _end_with_parent() -> None:
    """Leave when the server is gone, with all that was started: nobody would read the answer."""
    sys.stdin.read()
    if os.getpgrp() == os.getpid():  # as the server starts it
        os.killpg(0, signal.SIGKILL)
    os._exit(1)


if __name__ == "__main__":
    sys.exit(main())
