"""A campaign: where it stands, its present round with reasons, what to do next, and everything that happened."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal

import pandas as pd
from fastapi import APIRouter, Form, Path, Query
from fastapi.responses import HTMLResponse, Response

from inverse_design.app.jobs import Job, new_number
from inverse_design.app.rendering import page
from inverse_design.app.security import Changing, Seen
from inverse_design.app.shelf import StaleError, View
from inverse_design.app.site import Here, Key, Label, Reason, Revision, Shown, Ticked, elsewhere
from inverse_design.app.uploads import MOST_RESULTS
from surrogates.errors import some_of

router = APIRouter(prefix="/campaigns/{key}")
_SVG = {"content-security-policy": "default-src 'none'; style-src 'unsafe-inline'"}
_HIDDEN = ["campaign", "round", "log_probability", "gain_lower", "gain_upper"]  # the export has them


@router.get("", response_class=HTMLResponse)
def campaign(site: Here, visitor: Seen, view: Shown, sort: Annotated[str, Query(max_length=200)] = "") -> Response:
    """Show where a campaign stands; the round may be sorted by a column, downwards with a minus before it."""
    rows, missed = view.coverage
    judged = site.jobs.newest("advice", view.campaign.key)
    fresh = judged is not None and judged.found.get("revision") == view.revision
    batch = view.batches[0] if view.batches else None
    table, experiments = pd.DataFrame(), list[tuple[Any, str]]()
    if batch is not None:
        table = batch.table.drop(columns=_HIDDEN, errors="ignore")
        listed = list(zip(table.to_dict("records"), batch.states, strict=True))
        if (by := sort.removeprefix("-")) in table:
            rows_by = table.reset_index(drop=True).sort_values(by, ascending=by == sort, kind="stable").index
            listed = [listed[row] for row in rows_by]
        place = {label: number for number, label in enumerate(batch.pinned)}
        experiments = sorted(listed, key=lambda each: place.get(each[0]["perturbation"], len(place)))
    facts: dict[str, Any] = {
        "batch": batch,
        "columns": list(table),
        "most": MOST_RESULTS,
        "sort": sort,
        "experiments": experiments,
        "warnings": [*missed, *view.status.oddities],
        "coverage": rows,
        "tasks": site.jobs.running(view.campaign.key),
        "prospect": judged.found if judged is not None and fresh else None,
    }
    return page("campaign.html", visitor, view=view, **facts)


@router.get("/changes", response_class=HTMLResponse)
def changes(
    site: Here, _visitor: Seen, view: Shown, since: Annotated[str, Query(pattern="^[0-9]{1,12}-[0-9a-f]{16}$")]
) -> Response:
    """Say who has changed a campaign since a page was made; pages ask every few seconds."""
    running = [job for job in site.jobs.running(view.campaign.key) if job.kind != "advice"]
    return page("changes.html", None, view=view, since=view.since(since), tasks=running)


def _require(view: View, revision: str) -> None:
    if view.revision != revision:
        raise StaleError


@router.post("/ask", status_code=303, response_class=Response)
def ask_for_round(
    site: Here,
    visitor: Changing,
    view: Shown,
    revision: Revision,
    count: Annotated[int, Form(ge=1, le=10_000)] = 24,
    recommender: Annotated[str, Form(max_length=200)] = "",
    more: Ticked = False,
) -> Response:
    """Have a round proposed."""
    _require(view, revision)
    task = {"count": count, "recommender": recommender or None, "more": more}
    what = f"Choosing {count} experiments for {view.campaign.name}"
    return _started(site, view, visitor.name, "ask", what, task)


@router.post("/advice", status_code=303, response_class=Response)
def advice(site: Here, visitor: Changing, view: Shown, revision: Revision) -> Response:
    """Find out whether another round would be worth it."""
    _require(view, revision)
    what = f"Would another round of {view.campaign.name} be worth it?"
    return _started(site, view, visitor.name, "advice", what, {"revision": revision})


def _started(site: Here, view: View, actor: str, kind: str, what: str, task: Mapping[str, object]) -> Response:
    back = f"/campaigns/{view.campaign.key}"
    job = Job(new_number(), what, kind, view.campaign.key, actor, lambda _: back, back)
    place = {"place": site.shelf.place, "name": view.campaign.name, "actor": actor}
    return elsewhere("jobs", site.jobs.start(job, {**place, **task}).number)


@router.post("/order", status_code=303, response_class=Response)
def mark_ordered(
    site: Here,
    visitor: Changing,
    key: Key,
    revision: Revision,
    label: Annotated[list[Label] | None, Form()] = None,
) -> Response:
    """Note that experiments go to the bench, by default all that are proposed."""
    done = site.shelf.checked(key, revision, actor=visitor.name).order(label or None)
    visitor.notes.append(f"Ordered: {some_of(done)}." if done else "Nothing was proposed that could be ordered.")
    return elsewhere("campaigns", key)


@router.post("/drop", status_code=303, response_class=Response)
def drop(
    site: Here, visitor: Changing, key: Key, revision: Revision, label: Label, reason: Reason = ""
) -> Response:
    """Note that an experiment will not be done."""
    done = site.shelf.checked(key, revision, actor=visitor.name).withdraw([label], reason=reason)
    visitor.notes.append(f"Dropped: {some_of(done)}. It may be proposed again.")
    return elsewhere("campaigns", key)


@router.get("/{name}.svg", response_class=Response, responses={200: {"content": {"image/svg+xml": {}}}})
def drawing(view: Shown, _visitor: Seen, name: Annotated[Literal["curve", "coverage"], Path()]) -> Response:
    """Draw the curve of a campaign, or whether its bounds held."""
    return Response(view.drawing(name), media_type="image/svg+xml", headers=_SVG)


@router.get("/report", response_class=HTMLResponse)
def report(view: Shown, _visitor: Seen) -> Response:
    """Give the page about a campaign that can be sent: one file, with interactive figures."""
    disposition = f'attachment; filename="{view.campaign.key}.html"'
    return HTMLResponse(view.report(), headers={"content-disposition": disposition})


@router.get("/history", response_class=HTMLResponse)
def history(visitor: Seen, view: Shown) -> Response:
    """List everything that happened."""
    return page("history.html", visitor, view=view)
