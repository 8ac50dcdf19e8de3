"""The application: its pages, what it answers when something is wrong, and how it is served."""

import logging
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager

from fastapi import FastAPI, HTTPException, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import HTMLResponse, Response
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException as StarletteHTTPException

from inverse_design.app.jobs import BusyError
from inverse_design.app.pages import campaigns, entrance, listing, plates, results, tasks
from inverse_design.app.rendering import error_page, page
from inverse_design.app.security import HEADERS, Gate
from inverse_design.app.sessions import Visitor
from inverse_design.app.shelf import StaleError
from inverse_design.app.site import Site
from inverse_design.app.uploads import TooLargeError
from inverse_design.errors import InverseDesignError, StoreError, masked
from surrogates.errors import SurrogatesError, shown
from surrogates.registry import installed_version

_LOG = logging.getLogger("inverse_design.app")
_OURS = frozenset({"csrf", "revision"})  # fields that nobody has typed
_ANSWERS = {
    400: "The request is not understood.",
    401: "Nobody has entered.",
    403: "The visitor may not do that, or the form is not theirs.",
    404: "There is no such campaign, round, task or file.",
    409: "The campaign has changed since the form was made; the page shows how.",
    413: "More bytes than are taken.",
    422: "A value is refused; the page says which.",
    429: "Too many tasks wait.",
    503: "The store cannot be used.",
}


def create_app(site: Site) -> FastAPI:
    """Make the application of a server."""

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        yield
        site.jobs.close()
        site.uploads.close()

    html = {"text/html": {"schema": {"type": "string"}}}
    app = FastAPI(
        title="Campaigns of inverse-design",
        version=installed_version("inverse-design"),
        docs_url=None,
        redoc_url=None,
        lifespan=lifespan,
        default_response_class=HTMLResponse,
        responses={code: {"description": said, "content": html} for code, said in _ANSWERS.items()},
    )
    app.state.site = site
    for part in (entrance, listing, campaigns, results, plates, tasks):
        app.include_router(part.router)
    app.add_middleware(Gate, sessions=site.sessions, hosts=site.hosts, most=site.most)
    for kind, answer in (
        (StarletteHTTPException, _http),
        (RequestValidationError, _misfit),
        (StaleError, _stale),
        (StoreError, _no_store),
        (BusyError, _busy),
        (SurrogatesError, _refused),
        (InverseDesignError, _refused),
        (OSError, _no_store),
        (Exception, _fault),
    ):
        app.add_exception_handler(kind, answer)
    return app


def _visitor(request: Request) -> Visitor | None:
    visitor: Visitor | None = getattr(request.state, "visitor", None)
    return visitor


async def _http(request: Request, error: Exception) -> Response:
    assert isinstance(error, StarletteHTTPException)  # noqa: S101 - as it was registered
    return error_page(error.status_code, str(error.detail), _visitor(request))


async def _busy(request: Request, error: Exception) -> Response:
    return error_page(429, str(error), _visitor(request))


async def _no_store(request: Request, error: Exception) -> Response:
    """Say why the store, or the disk, cannot be used; of the disk without paths of the server."""
    request.app.state.site.shelf.reset()
    said = f"the disk of the server: {error.strerror}" if isinstance(error, OSError) else masked(str(error))
    nothing = " Nothing was recorded." if request.method == "POST" else ""
    return error_page(503, f"{said}.{nothing}", _visitor(request))


async def _fault(request: Request, error: Exception) -> Response:
    _LOG.error("a fault of this program at %s", request.url.path, exc_info=error)
    said = "a fault of this program itself; the terminal of the server says where it happened"
    answer = error_page(500, said, _visitor(request))
    answer.headers.update(HEADERS)
    return answer


async def _misfit(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)  # noqa: S101 - as it was registered
    said = "; ".join(f"{each['loc'][-1]!s:.80}: {each['msg']}" for each in error.errors()[:5])
    return await _again(request, 422, "That was not taken", said)


async def _refused(request: Request, error: Exception) -> Response:
    status = 413 if isinstance(error, TooLargeError) else 422
    return await _again(request, status, "That was not taken", masked(str(error)))


async def _stale(request: Request, _error: Exception) -> Response:
    view = await run_in_threadpool(request.app.state.site.shelf.view, request.path_params["key"])
    form = await request.form()
    since = await run_in_threadpool(view.since, str(form.get("revision", "0-")))  # previews have none
    said = "Somebody has changed this campaign since you opened the page; nothing of yours was recorded yet."
    return await _again(request, 409, "The campaign has changed", said, since=since, revision=view.revision)


def _page_of(named: Mapping[str, str], action: str) -> str:
    """Find the page that has the form which was sent to an address."""
    if "key" in named:
        return f"/campaigns/{named['key']}"
    return action.removesuffix("/campaign") if action.startswith("/screens/") else "/new"


async def _again(request: Request, status: int, title: str, said: str, **facts: object) -> Response:
    """Say why a form was not taken, and give it out again with what was typed."""
    typed, lost = list[tuple[str, str]](), False
    try:
        form = await request.form()
    except (RuntimeError, HTTPException):  # it was no form, or could not be read
        return error_page(status, said, _visitor(request))
    for name, value in form.multi_items():
        if isinstance(value, str) and name not in _OURS:
            typed.append((shown(name, bare=True), value))
        lost = lost or not isinstance(value, str)
    stated = {"since": None, "revision": str(form.get("revision", "")), **facts}
    visitor, action = _visitor(request), request.url.path
    if request.method != "POST" or visitor is None:
        return error_page(status, said, visitor)
    known = {"title": title, "said": said, "typed": typed, "lost": lost, "action": action, **stated}
    known["back"] = _page_of(request.path_params, action)
    return page("again.html", visitor, status=status, **known)
