"""A round on plates: the map of wells, and the tables for the bench."""

from typing import Annotated, Literal

from fastapi import APIRouter, Query
from fastapi.responses import Response

from inverse_design.app.security import Seen
from inverse_design.app.site import Round, Shown
from inverse_design.campaign.export import MAP_SHEET, RESULT_SHEET, layout_of, planned_wells, sheets_of
from inverse_design.campaign.plate import lay_out
from inverse_design.spreadsheets import csv_text, workbook_bytes

router = APIRouter(prefix="/campaigns/{key}/rounds/{number}")


@router.get("/export", response_class=Response)
def export(
    _visitor: Seen,
    view: Shown,
    number: Round,
    form: Annotated[Literal["csv", "xlsx", "results"], Query()] = "csv",
) -> Response:
    """Give the plate map, a workbook with all tables, or a form for the results."""
    campaign = view.campaign
    batch = campaign.batch(number)
    sheets = sheets_of(campaign, batch, lay_out(planned_wells(batch), layout_of(campaign, batch)), None)
    if form == "xlsx":
        content, kind = workbook_bytes(sheets), "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet"
    else:
        content, kind = csv_text(sheets[RESULT_SHEET if form == "results" else MAP_SHEET]).encode(), "text/csv"
    name = {"csv": "plate.csv", "results": "results.csv", "xlsx": "plate.xlsx"}[form]
    disposition = f'attachment; filename="{campaign.key}-round-{number}-{name}"'
    return Response(content, media_type=kind, headers={"content-disposition": disposition})
