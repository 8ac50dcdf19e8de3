"""Entering with a token, leaving, and the files that pages load."""

from typing import Annotated

from fastapi import APIRouter, Depends, Form, HTTPException, Query, Request
from fastapi.responses import Response

from inverse_design.app.rendering import error_page, page, static_file
from inverse_design.app.security import signed
from inverse_design.app.sessions import Visitor
from inverse_design.app.site import Here, Site, elsewhere

router = APIRouter()


@router.get("/enter", status_code=303, response_class=Response, responses={200: {"description": "A form."}})
def enter_by_address(request: Request, site: Here, token: Annotated[str, Query(max_length=200)] = "") -> Response:
    """Exchange the token of an address for a cookie."""
    return _entered(request, site, token) if token else page("enter.html", None)


@router.post("/enter", status_code=303, response_class=Response)
def enter(request: Request, site: Here, token: Annotated[str, Form(max_length=200)]) -> Response:
    """Exchange a typed token for a cookie."""
    return _entered(request, site, token)


def _entered(request: Request, site: Site, token: str) -> Response:
    session = site.sessions.enter(token.strip())
    if session is None:
        return error_page(401, "that is not a token of this server; it was printed when the server began")
    answer = elsewhere()
    https = request.headers.get("x-forwarded-proto") == "https"  # a proxy says so
    answer.set_cookie(site.sessions.cookie, session, httponly=True, samesite="strict", secure=https)
    return answer


@router.post("/leave", status_code=303, response_class=Response)
def leave(site: Here, visitor: Annotated[Visitor, Depends(signed)]) -> Response:
    """End a session."""
    site.sessions.leave(visitor)
    answer = elsewhere("enter")
    answer.delete_cookie(site.sessions.cookie)
    return answer


@router.get("/static/{name}", response_class=Response)
def static(name: str) -> Response:
    """Give a file that pages load."""
    found = static_file(name)
    if found is None:
        raise HTTPException(404, "there is no such file")
    content, kind = found
    return Response(content, media_type=kind, headers={"cache-control": "max-age=3600"})
