"""What takes long: in a process of its own, watched, cancelled, killed."""

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import psutil
import pytest

from inverse_design.app import worker
from inverse_design.app.jobs import WORKER, BusyError, Job, Jobs, new_number
from inverse_design.app.site import Site
from inverse_design.campaign.campaign import Campaign
from inverse_design.errors import CostError, TargetError
from inverse_design.planning.plan import Plan
from surrogates.errors import DataError

from .conftest import SLOW, Browser


def job(kind: str = "ask", subject: str = "test", after: Callable[[Mapping[str, Any]], str] | None = None) -> Job:
    return Job(new_number(), "Asking", kind, subject, "ann", after or (lambda _: "/there"), "/back")


def until(true: Callable[[], object]) -> None:
    for _ in range(3000):
        if true():
            return
        time.sleep(0.02)
    raise AssertionError("it did not happen")


def saying(line: str) -> Jobs:
    return Jobs((sys.executable, "-S", "-c", f"if {line!r}: print({line!r})"))


def test_what_came_of_it_is_kept() -> None:
    done = saying('{"done": {"round": 3}}').start(job(after=lambda found: f"/rounds/{found['round']}"), {})
    refused = saying('{"refused": "no gene"}').start(job(), {})
    silent = saying("").start(job(), {})
    answers = [
        saying(each).start(job(), {}) for each in ("Traceback", "3", '{"neither": 1}', '{"pace": {"a": 1}}')
    ]
    strange = *answers, Jobs(("/nowhere/python",)).start(job(), {})
    for each in (done, refused, silent, *strange):
        until(lambda each=each: each.outcome != "running")
    assert (done.outcome, done.target) == ("done", "/rounds/3")
    assert (refused.outcome, refused.said) == ("refused", "no gene")
    assert {each.said.partition(" (")[0] for each in strange} == {"the process that works on it cannot be used"}
    assert (silent.outcome, silent.said.partition(";")[0]) == (
        "refused",
        "the process that worked on it ended without an answer",
    )


def test_one_task_of_a_kind_runs_at_once_and_few_wait() -> None:
    jobs = Jobs(SLOW)
    first = jobs.start(job(), {})
    assert jobs.start(job(), {}) is first
    others = [jobs.start(job(subject=str(number)), {}) for number in range(19)]
    with pytest.raises(BusyError, match="20 tasks are waiting"):
        jobs.start(job(subject="late"), {})
    until(lambda: first.progress.share is not None)
    assert "fit, about" in first.progress.words
    assert others[-1].progress.words == "waiting"
    jobs.close()
    until(lambda: first.process.poll() is not None)
    assert {each.outcome for each in (first, *others)} == {"cancelled"}


def test_a_process_is_ended_once(monkeypatch: pytest.MonkeyPatch) -> None:
    ended: list[int] = []
    end = os.killpg
    monkeypatch.setattr(os, "killpg", lambda group, number: (ended.append(group), end(group, number)))
    jobs = Jobs(SLOW)
    cancelled = jobs.start(job(), {})
    until(lambda: cancelled.progress.share is not None)
    jobs.cancel(cancelled)
    until(lambda: jobs._turns._value == 2)  # its thread has ended, too
    assert ended == [cancelled.process.pid]


def test_a_task_is_watched_and_cancelled(site: Site, home: str, ann: Browser) -> None:
    before = site.shelf.listed()[0].head
    address = ann.post(f"{home}/ask", count=3, more="true").headers["location"]
    assert ann.post(f"{home}/ask", count=3, more="true").headers["location"] == address
    until(lambda: "fit, about" in ann.get(address).text)
    assert f'data-events="{address}/events"' in ann.get(address).text
    assert "Under way" in ann.get(home).text
    assert ann.post(f"{address}/cancel", made=address).headers["location"] == home
    events = ann.get(f"{address}/events")
    assert events.headers["content-type"].startswith("text/event-stream")
    assert '"outcome": "cancelled"' in events.text
    assert "nothing was recorded" in ann.get(address).text
    running = site.jobs.get(address.rpartition("/")[2])
    running.outcome, running.target = "done", f"{home}/history"  # between the page and the click
    assert ann.post(f"{address}/cancel", made=home).headers["location"] == address
    assert "Cancelled" not in ann.get(running.target).text
    assert site.shelf.listed()[0].head == before


def test_a_fit_that_is_killed_leaves_the_store_as_it_was(site: Site, home: str, place: Path) -> None:
    campaign = site.shelf.listed()[0].campaign
    before, content = campaign.head, place.read_bytes()
    jobs = Jobs(WORKER)
    task = {"place": str(place), "name": "test", "actor": "ann", "count": 2, "recommender": None, "more": True}
    killed = jobs.start(job(subject=home), task)
    until(lambda: killed.process is not None)
    os.killpg(killed.process.pid, signal.SIGKILL)
    until(lambda: killed.outcome != "running")
    assert "nothing was recorded" in killed.said
    assert (campaign.head, place.read_bytes()) == (before, content)


def test_what_a_worker_has_started_ends_when_the_server_is_gone() -> None:
    task = (
        "import subprocess, sys; from inverse_design.app import worker;"
        "print(subprocess.Popen(['sleep', '120']).pid, flush=True); sys.stdout.close();"
        "worker._end_with_parent()"
    )
    words = [sys.executable, "-c", task]
    with subprocess.Popen(words, stdin=-1, stdout=-1, text=True, start_new_session=True) as process:  # noqa: S603
        started = int(process.stdout.readline())
        process.stdin.close()  # as at the end of the server
        process.wait()
    until(lambda: not psutil.pid_exists(started) or psutil.Process(started).status() == psutil.STATUS_ZOMBIE)


@pytest.fixture
def screen(tmp_path: Path) -> Path:
    draw = np.random.default_rng(0)
    names = [f"G{each}" for each in range(6)]
    labels = [*names, *(f"{a}+{b}" for a in names for b in names if a < b)][:14]
    table = pd.DataFrame(draw.normal(size=(len(labels), 4)), columns=list("abcd"))
    table.insert(0, "condition", labels)
    table.to_csv(tmp_path / "screen.csv", index=False)
    return tmp_path / "screen.csv"


def created(screen: Path, place: Path, **changes: object) -> dict[str, object]:
    stated: dict[str, Any] = {
        "place": str(place), "path": str(screen), "shown": "mine.csv", "reading": {}, "context": None,
        "target": "G1+G0", "target_path": None, "actor": "ann",
        "settings": {"name": "new", "batch_size": 2, "surrogate": "additive", "budget": None},
    }  # fmt: skip
    return worker.create_campaign(lambda _: None, **{**stated, **changes})


def test_a_campaign_is_begun_asked_and_judged_by_the_worker(screen: Path, place: Path) -> None:
    found = worker.check_screen(lambda _: None, path=str(screen), shown="mine.csv", reading={})
    assert "G0+G1" in found["labels"]
    assert found["concerns"]
    made = created(screen, place)
    campaign = Campaign.open(str(place), "new")
    assert (campaign.key, campaign.settings.target) == (made["key"], "G1+G0")
    paces: list[Any] = []
    asked = {"place": str(place), "name": "new", "actor": "tom"}
    assert worker.ask_round(paces.append, **asked, count=2, recommender=None, more=False)["round"] == 1
    assert worker.ask_round(paces.append, **asked, count=2, recommender=None, more=False)["fresh"] is False
    assert len(campaign.batch().labels) == 2
    assert worker.judge_round(paces.append, **asked, revision="7-0")["revision"] == "7-0"
    assert paces


def test_what_may_not_fit_the_memory_is_refused() -> None:
    with pytest.raises(CostError, match="--yes"):
        worker._begun(Plan("a fit", (), bytes=2, available=1), lambda _: None)


def test_a_target_is_never_a_path_of_the_server(screen: Path, place: Path, tmp_path: Path) -> None:
    secret = tmp_path / "secret.csv"
    secret.write_text("readout,value\na,1\n")
    with pytest.raises(DataError, match="is not a condition of the data"):
        created(screen, place, target=str(secret))
    file = tmp_path / "goal.toml"
    file.write_text(f'kind = "profile"\ntable = "{secret}"\n')
    with pytest.raises(TargetError, match="names another file"):
        created(screen, place, target="goal.toml", target_path=str(file))
    file.write_text('kind = "profile"\nvalues = {a = 1.0, b = 0.5}\n')
    assert "key" in created(screen, place, target="goal.toml", target_path=str(file))
    settings = {"name": "other", "surrogate": "additive"}
    made = created(screen, place, target="mine.csv", target_path=str(secret), settings=settings)
    campaign = Campaign.open(str(place), "other")
    assert (campaign.key, campaign.target.name) == (made["key"], "mine.csv, 'value' of each 'readout'")


def test_a_screen_is_sent_and_its_check_shown(ann: Browser, site: Site, screen: Path) -> None:
    sent = ann.post("/screens", made="/new", files={"screen": ("../a<b>.csv", screen.read_bytes())})
    running = site.jobs.get(sent.headers["location"].rpartition("/")[2])
    upload = site.uploads.get(running.about, "ann")
    assert upload.path.parent.name.startswith("inverse-design-")
    report = worker.check_screen(lambda _: None, path=str(upload.path), shown=upload.shown, reading={})
    assert ann.get(running.after(report)).status_code == 200
    page = ann.get(f"/screens/{upload.number}").text
    assert "Worth knowing" in page
    assert "a&lt;b&gt;.csv" in page
    target = {"target_file": ("goal.toml", b'kind = "scalar"\nreadout = "a"\ngoal = "maximise"\n')}
    begun = ann.post(f"/screens/{upload.number}/campaign", made="/new", files=target, name="new", batch_size=2)
    assert re.fullmatch("/jobs/[0-9a-f]{32}", begun.headers["location"])
    back = site.jobs.get(begun.headers["location"].rpartition("/")[2]).back
    page = ann.get(back).text  # where a campaign that is refused leads to
    for typed in ('value="new" required', 'name="batch_size" type="number" value="2"', "choose goal.toml again"):
        assert typed in page
    wrong = ann.post(f"/screens/{upload.number}/campaign", made="/new", name="new", batch_size="many <b>")
    assert (wrong.status_code, "many &lt;b&gt;" in wrong.text) == (422, True)
