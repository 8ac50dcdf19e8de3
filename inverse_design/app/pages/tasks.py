"""How far something is that takes long, as it goes on, and the button that ends it."""

import asyncio
import json
from collections.abc import AsyncIterator

from fastapi import APIRouter, HTTPException
from fastapi.responses import HTMLResponse, RedirectResponse, Response, StreamingResponse

from inverse_design.app.jobs import UNRECORDED, Job
from inverse_design.app.rendering import page
from inverse_design.app.security import Changing, Seen
from inverse_design.app.site import Here, Number, Site, elsewhere

router = APIRouter()
_BETWEEN = 0.4  # seconds between two words of progress


def _job(site: Site, number: str) -> Job:
    job = site.jobs.get(number)
    if job is None:
        raise HTTPException(404, "there is no such task any longer")
    return job


@router.get("/jobs/{number}", response_class=HTMLResponse, responses={303: {"description": "It is done."}})
def progress(site: Here, visitor: Seen, number: Number) -> Response:
    """Show how far a task is; when it is done, go on to what came of it."""
    job = _job(site, number)
    if job.outcome == "done":
        return RedirectResponse(job.target, status_code=303)
    return page("job.html", visitor, job=job, unrecorded=UNRECORDED)


@router.get("/jobs/{number}/events", response_class=StreamingResponse)
async def events(site: Here, _visitor: Seen, number: Number) -> StreamingResponse:
    """Say how far a task is, again and again, until it has ended."""
    return StreamingResponse(_told(_job(site, number)), media_type="text/event-stream")


async def _told(job: Job) -> AsyncIterator[str]:
    while job.outcome == "running":
        said = {"share": job.progress.share, "words": job.progress.words}
        yield f"data: {json.dumps(said)}\n\n"
        await asyncio.sleep(_BETWEEN)
    yield f"event: end\ndata: {json.dumps({'outcome': job.outcome})}\n\n"


@router.post("/jobs/{number}/cancel", status_code=303, response_class=Response)
def cancel(site: Here, visitor: Changing, number: Number) -> Response:
    """End a task, unless it has ended meanwhile."""
    job = _job(site, number)
    if not site.jobs.cancel(job):
        return elsewhere("jobs", number)
    visitor.notes.append(f"Cancelled: {job.what}; {UNRECORDED}.")
    return elsewhere(job.back)
