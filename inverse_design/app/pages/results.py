"""Results: what a file would change is shown before it is recorded; and what is wrong is taken back."""

from dataclasses import dataclass, replace
from typing import Annotated, Any, Literal

import pandas as pd
from fastapi import APIRouter, Depends, Form
from fastapi.responses import HTMLResponse, Response

from inverse_design.app.rendering import page
from inverse_design.app.security import Changing, Seen
from inverse_design.app.sessions import Visitor
from inverse_design.app.shelf import StaleError, View
from inverse_design.app.site import Here, Key, Number, Reason, Revision, Sent, Shown, Site, Ticked, elsewhere
from inverse_design.app.uploads import MOST_RESULTS, Upload
from inverse_design.campaign.campaign import Campaign
from inverse_design.campaign.record_results import Telling
from inverse_design.campaign.retract import Correction
from inverse_design.errors import StoreError
from inverse_design.value_tables import text_table
from surrogates.data.io.formats.registry import TABLE_ENDINGS
from surrogates.errors import DataError

router = APIRouter(prefix="/campaigns/{key}")
_MOST_WELLS = 500  # that are listed
_Well = Annotated[str, Form(pattern="^[0-9]{1,9}:[0-9]{1,9}$")]


@dataclass(frozen=True)
class Taking:
    """How a table is meant."""

    kind: Literal["new", "correction"]
    reason: str
    extra: bool  # whether experiments that nobody asked for are taken
    extreme: bool  # whether values that no assay gives are taken

    def take(self, campaign: Campaign, table: pd.DataFrame) -> Telling | Correction:
        """Record a table."""
        if self.kind == "correction":
            return campaign.correct(table, reason=self.reason, accept_extreme=self.extreme)
        return campaign.tell(table, allow_extra=self.extra, accept_extreme=self.extreme)


async def _taking(
    kind: Annotated[Literal["new", "correction"], Form()] = "new",
    reason: Reason = "",
    allow_extra: Ticked = False,
    accept_extreme: Ticked = False,
) -> Taking:
    return Taking(kind, reason, allow_extra, accept_extreme)


Stated = Annotated[Taking, Depends(_taking)]


@router.post("/results", response_class=HTMLResponse)
def send_results(site: Here, visitor: Changing, view: Shown, taking: Stated, results: Sent) -> Response:
    """Take a table of results, and show what it would change; nothing is recorded."""
    upload = site.uploads.keep(
        results.file, results.filename, known=TABLE_ENDINGS, owner=visitor.name, most=MOST_RESULTS
    )
    return _previewed(site, visitor, view, taking, upload)


@router.post("/results/{number}/preview", response_class=HTMLResponse)
def preview(site: Here, visitor: Changing, view: Shown, taking: Stated, number: Number) -> Response:
    """Show what a table that was sent would change."""
    return _previewed(site, visitor, view, taking, site.upload(number, visitor))


def _previewed(
    site: Site, visitor: Visitor, view: View, taking: Taking, upload: Upload, *, since: pd.DataFrame | None = None
) -> Response:
    """Show what a table would change; if the campaign has changed since it was shown before, also how."""
    trial = site.shelf.checked(view.campaign.key, view.revision, actor=visitor.name, rehearsal=True)
    found, refused = None, ""
    try:
        found = replace(taking, reason=taking.reason or "not stated yet").take(trial, text_table(upload.path))
    except StoreError:
        raise
    except DataError as error:
        refused = upload.named(str(error))
    facts: dict[str, Any] = {"view": view, "upload": upload, "found": found, "refused": refused, "taking": taking}
    status = 422 if refused else 200 if since is None else 409
    return page("preview.html", visitor, status=status, since=since, **facts)


@router.post("/results/{number}", status_code=303, response_class=Response)
def record_results(
    site: Here, visitor: Changing, key: Key, number: Number, revision: Revision, taking: Stated
) -> Response:
    """Record what was shown; if the campaign has changed since, show what would change now."""
    upload = site.upload(number, visitor)
    try:
        done = taking.take(site.shelf.checked(key, revision, actor=visitor.name), text_table(upload.path))
    except StaleError:
        view = site.shelf.view(key)
        return _previewed(site, visitor, view, taking, upload, since=view.since(revision))
    site.uploads.drop(upload)
    visitor.notes += [done.words, *(f"out of scale: {each}" for each in done.flagged)]
    return elsewhere("campaigns", key)


@router.get("/wells", response_class=HTMLResponse)
def wells(visitor: Seen, view: Shown) -> Response:
    """List the recorded wells."""
    return page("wells.html", visitor, view=view, most=_MOST_WELLS)


@router.post("/retract", status_code=303, response_class=Response)
def retract_wells(
    site: Here,
    visitor: Changing,
    key: Key,
    revision: Revision,
    reason: Reason,
    well: Annotated[list[_Well] | None, Form(max_length=_MOST_WELLS)] = None,
) -> Response:
    """Take results back; they stay in the history, and count for nothing."""
    campaign = site.shelf.checked(key, revision, actor=visitor.name)
    table, wanted = campaign.wells(), set(well or ())
    places = zip(table["event"], table["row"], strict=True)
    chosen = table[pd.Series([f"{event}:{row}" in wanted for event, row in places], table.index, dtype=bool)]
    if chosen.empty:
        raise DataError("no recorded well is chosen; tick some of the list")
    done = campaign.retract(chosen, reason=reason)
    visitor.notes.append(f"{done.words}. They stay in the history, and count for nothing.")
    return elsewhere("campaigns", key)
