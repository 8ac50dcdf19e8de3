"""The list of campaigns, and the way to a new one: a screen, what was found in it, a target."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Form
from fastapi.responses import HTMLResponse, Response

from inverse_design.app.jobs import Job, new_number
from inverse_design.app.rendering import page
from inverse_design.app.security import Creating, Seen
from inverse_design.app.site import Here, Label, Number, Sent, elsewhere
from inverse_design.app.uploads import SCREENS, TARGETS
from inverse_design.campaign.settings import AUTOMATIC
from inverse_design.problem.problem import Order
from inverse_design.recommend.protocol import RECOMMENDERS
from surrogates.models.registry import SURROGATES

router = APIRouter()
_Column = Annotated[str, Form(max_length=200)]
_Count = Annotated[int, Form(ge=1, le=10_000)]
_USUAL: Mapping[str, object] = {  # what the form for a campaign states at first
    "name": "", "target": "", "target_file": "", "context": "", "order": "2", "batch_size": 24, "replicates": 2,
    "controls": 8, "plate_size": "96", "budget": "", "surrogate": AUTOMATIC, "recommender": AUTOMATIC, "seed": 0,
    "exclude": "",
}  # fmt: skip


@router.get("/", response_class=HTMLResponse)
def listing(site: Here, visitor: Seen) -> Response:
    """List the campaigns."""
    return page("campaigns.html", visitor, views=site.shelf.listed())


@router.get("/new", response_class=HTMLResponse)
def new(site: Here, visitor: Seen) -> Response:
    """Show the form for a screen."""
    return page("new.html", visitor, endings=SCREENS, most=site.most)


@router.post("/screens", status_code=303, response_class=Response)
def send_screen(
    site: Here,
    visitor: Creating,
    screen: Sent,
    target_col: _Column = "",
    reference_key: _Column = "",
    group_col: _Column = "",
) -> Response:
    """Take a screen, and have it checked."""
    upload = site.uploads.keep(screen.file, screen.filename, known=SCREENS, owner=visitor.name)
    upload.stated = {"target_col": target_col, "reference_key": reference_key, "group_col": group_col}
    then = f"/screens/{upload.number}"

    def after(found: Mapping[str, Any]) -> str:
        upload.report = found
        return then

    job = Job(new_number(), f"Checking {upload.shown}", "check", upload.number, visitor.name, after, "/new")
    task = {"path": str(upload.path), "shown": upload.shown, "reading": upload.stated}
    return elsewhere("jobs", site.jobs.start(job, task).number)


@router.get("/screens/{number}", response_class=HTMLResponse)
def checked_screen(site: Here, visitor: Seen, number: Number) -> Response:
    """Show what was found in a screen, and the form for the target."""
    upload = site.upload(number, visitor)
    names: dict[str, Any] = {
        "models": (AUTOMATIC, *SURROGATES.names()),
        "recommenders": (AUTOMATIC, *RECOMMENDERS.names()),
    }
    return page("screen.html", visitor, upload=upload, targets=TARGETS, typed={**_USUAL, **upload.typed}, **names)


@router.post("/screens/{number}/campaign", status_code=303, response_class=Response)
def begin_campaign(
    site: Here,
    visitor: Creating,
    number: Number,
    name: Annotated[str, Form(max_length=200)],
    target: Label = "",
    target_file: Sent | None = None,
    context: _Column = "",
    order: Annotated[Order, Form()] = "2",
    batch_size: _Count = 24,
    replicates: _Count = 2,
    controls: Annotated[int, Form(ge=0, le=383)] = 8,
    plate_size: Annotated[Literal["24", "96", "384"], Form()] = "96",
    budget: Annotated[str, Form(max_length=40)] = "",
    surrogate: _Column = AUTOMATIC,
    recommender: _Column = AUTOMATIC,
    seed: Annotated[int, Form(ge=0, le=2**31)] = 0,
    exclude: Annotated[str, Form(max_length=100_000)] = "",
) -> Response:
    """Begin a campaign."""
    upload, sent = site.upload(number, visitor), None
    if target_file is not None and target_file.filename:
        sent = site.uploads.keep(target_file.file, target_file.filename, known=TARGETS, owner=visitor.name)
    chosen = {
        "name": name,
        "order": order,
        "batch_size": batch_size,
        "replicates": replicates,
        "controls": controls,
        "plate_size": int(plate_size),
        "surrogate": surrogate,
        "recommender": recommender,
        "seed": seed,
    }
    upload.typed = {
        **chosen,
        "target": target,
        "target_file": "" if sent is None else sent.shown,
        "context": context,
        "plate_size": plate_size,
        "budget": budget,
        "exclude": exclude,
    }
    excluded = (each.strip() for each in exclude.replace("\n", ",").split(","))
    settings = {
        **chosen,
        "budget": budget.strip() or None,
        "exclude": tuple(dict.fromkeys(each for each in excluded if each)),
    }

    def after(found: Mapping[str, Any]) -> str:
        visitor.notes += found["remarks"]
        for each in filter(None, (upload, sent)):
            site.uploads.drop(each)
        return f"/campaigns/{found['key']}"

    back = f"/screens/{number}"
    job = Job(new_number(), f"Beginning {name}", "create", number, visitor.name, after, back)
    task = {
        "place": site.shelf.place,
        "path": str(upload.path),
        "shown": upload.shown,
        "reading": upload.stated,
        "context": context or None,
        "target": target if sent is None else sent.shown,
        "target_path": None if sent is None else str(sent.path),
        "settings": settings,
        "actor": visitor.name,
    }
    return elsewhere("jobs", site.jobs.start(job, task).number)
