"""A round on plates: the map of wells, which can be changed by hand, and the tables for the bench."""

import re
from typing import Annotated, Literal

from fastapi import APIRouter, Form, HTTPException, Query
from fastapi.responses import HTMLResponse, Response

from inverse_design.app.rendering import page
from inverse_design.app.security import Changing, Seen
from inverse_design.app.shelf import View
from inverse_design.app.site import Here, Key, Label, Revision, Round, Shown, Ticked, elsewhere
from inverse_design.campaign.export import MAP_SHEET, RESULT_SHEET, move_wells, pin, plate_of, sheets_of
from inverse_design.campaign.rounds import Batch
from inverse_design.spreadsheets import csv_text, workbook_bytes
from surrogates.errors import amount

router = APIRouter(prefix="/campaigns/{key}/rounds/{number}")
_WELL = "[1-9][0-9]{0,2}:[A-P][0-9]{2}"
_PAIRS = "Pairs of wells that exchange what they hold, such as 1:A01>2:B02."
_Moves = Annotated[str, Form(pattern=f"^({_WELL}>{_WELL} ?){{1,500}}$", description=_PAIRS)]


def _batch(view: View, number: int) -> Batch:
    found = next((each for each in view.batches if each.round == number), None)
    if found is None:
        raise HTTPException(404, f"there is no round {number}")
    return found


def _place(text: str) -> tuple[int, str]:
    plate, _, well = text.partition(":")
    return int(plate), well


@router.get("/plate", response_class=HTMLResponse)
def plate(visitor: Seen, view: Shown, number: Round) -> Response:
    """Show the wells of a round."""
    batch = _batch(view, number)
    found = plate_of(view.campaign, batch)
    rows = sorted({row for row, _ in found.layout.places})
    columns = sorted({column for _, column in found.layout.places})
    wells = {(each.plate, each.well): each for each in found.wells}
    letters = [chr(ord("A") + row) for row in rows]
    known = {"letters": letters, "columns": [column + 1 for column in columns], "wells": wells}
    return page("plate.html", visitor, view=view, batch=batch, found=found, known=known)


@router.post("/plate", status_code=303, response_class=Response)
def move(site: Here, visitor: Changing, key: Key, number: Round, revision: Revision, moves: _Moves) -> Response:
    """Exchange what wells hold."""
    pairs = [(_place(first), _place(second)) for first, second in re.findall(f"({_WELL})>({_WELL})", moves)]
    campaign = site.shelf.checked(key, revision, actor=visitor.name)
    move_wells(campaign, campaign.batch(number), pairs)
    visitor.notes.append(f"{amount(len(pairs), 'exchange')} of wells saved; the export has them so.")
    return elsewhere("campaigns", key, "rounds", str(number), "plate")


@router.post("/pin", status_code=303, response_class=Response)
def pin_experiment(
    site: Here, visitor: Changing, key: Key, number: Round, revision: Revision, label: Label, first: Ticked = False
) -> Response:
    """Put an experiment first, or back among the others."""
    campaign = site.shelf.checked(key, revision, actor=visitor.name)
    pin(campaign, campaign.batch(number), label, first=first)
    return elsewhere("campaigns", key)


@router.get("/export", response_class=Response)
def export(
    _visitor: Seen, view: Shown, number: Round, form: Annotated[Literal["csv", "xlsx", "results"], Query()] = "csv"
) -> Response:
    """Give the plate map, a workbook with all tables, or a form for the results."""
    campaign, batch = view.campaign, _batch(view, number)
    sheets = sheets_of(campaign, batch, plate_of(campaign, batch), None)
    if form == "xlsx":
        content, kind = workbook_bytes(sheets), "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet"
    else:
        content, kind = csv_text(sheets[RESULT_SHEET if form == "results" else MAP_SHEET]).encode(), "text/csv"
    name = {"csv": "plate.csv", "results": "results.csv", "xlsx": "plate.xlsx"}[form]
    disposition = f'attachment; filename="{campaign.key}-round-{number}-{name}"'
    return Response(content, media_type=kind, headers={"content-disposition": disposition})
