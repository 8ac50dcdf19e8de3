"""The list of campaigns, and the way to a new one: a screen, what was found in it, a target."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Form
from fastapi.responses import HTMLResponse, Response
from pydantic import BaseModel, Field

from inverse_design.app.jobs import Job, new_number
from inverse_design.app.rendering import page
from inverse_design.app.security import Creating, Seen
from inverse_design.app.site import Here, Number, Sent, elsewhere
from inverse_design.app.uploads import SCREENS, TARGETS
from inverse_design.campaign.settings import AUTOMATIC
from inverse_design.problem.problem import Order
from inverse_design.recommend.protocol import RECOMMENDERS
from surrogates.models.registry import SURROGATES

router = APIRouter()
_Column = Annotated[str, Form(max_length=200)]
_WITH_FILES = "multipart/form-data"
_Count = Annotated[int, Field(ge=1, le=10_000)]


class CampaignForm(BaseModel):
    """What is stated of a new campaign; its defaults are what the form states at first."""

    name: Annotated[str, Field(max_length=200)]
    target: Annotated[str, Field(max_length=2000)] = ""
    target_file: Sent | None = None
    context: Annotated[str, Field(max_length=200)] = ""
    order: Order = "2"
    batch_size: _Count = 24
    replicates: _Count = 2
    controls: Annotated[int, Field(ge=0, le=383)] = 8
    plate_size: Literal["24", "96", "384"] = "96"
    budget: Annotated[str, Field(max_length=40)] = ""
    surrogate: Annotated[str, Field(max_length=200)] = AUTOMATIC
    recommender: Annotated[str, Field(max_length=200)] = AUTOMATIC
    seed: Annotated[int, Field(ge=0, le=2**31)] = 0
    exclude: Annotated[str, Field(max_length=100_000)] = ""


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
    typed = upload.typed or {**CampaignForm(name="").model_dump(), "target_file": ""}
    return page("screen.html", visitor, upload=upload, targets=TARGETS, typed=typed, **names)


@router.post("/screens/{number}/campaign", status_code=303, response_class=Response)
def begin_campaign(
    site: Here, visitor: Creating, number: Number, form: Annotated[CampaignForm, Form(media_type=_WITH_FILES)]
) -> Response:
    """Begin a campaign."""
    upload, sent = site.upload(number, visitor), None
    if form.target_file is not None and form.target_file.filename:
        file = form.target_file
        sent = site.uploads.keep(file.file, file.filename, known=TARGETS, owner=visitor.name)
    shown = "" if sent is None else sent.shown
    stated = form.model_dump(exclude={"target_file"})
    upload.typed = {**stated, "target_file": shown}

    def after(found: Mapping[str, Any]) -> str:
        visitor.notes += found["remarks"]
        for each in filter(None, (upload, sent)):
            site.uploads.drop(each)
        return f"/campaigns/{found['key']}"

    job = Job(new_number(), f"Beginning {form.name}", "create", number, visitor.name, after, f"/screens/{number}")
    excluded = (each.strip() for each in form.exclude.replace("\n", ",").split(","))
    further = {
        "plate_size": int(form.plate_size),
        "budget": form.budget.strip() or None,
        "exclude": tuple(dict.fromkeys(each for each in excluded if each)),
    }
    task = {
        "place": site.shelf.place,
        "path": str(upload.path),
        "shown": upload.shown,
        "reading": upload.stated,
        "context": stated.pop("context") or None,
        "target": shown or stated["target"],
        "target_path": None if sent is None else str(sent.path),
        "settings": {**stated, **further},
        "actor": visitor.name,
    }
    return elsewhere("jobs", site.jobs.start(job, task).number)
