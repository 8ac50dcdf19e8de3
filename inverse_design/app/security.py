"""What every request must pass: names of hosts, sessions, limits, and forms that only our own pages make."""

import hmac
import re
import time
from collections.abc import Sequence
from typing import Annotated

from fastapi import Depends, Form, HTTPException, Request
from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from inverse_design.app.rendering import error_page
from inverse_design.app.sessions import Sessions, Visitor

LOOPBACK = ("127.0.0.1", "localhost", "[::1]")
_CSP = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self';"
    " form-action 'self'; frame-ancestors 'none'; base-uri 'none'"
)
HEADERS = {
    "content-security-policy": _CSP,
    "x-content-type-options": "nosniff",
    "referrer-policy": "same-origin",  # without one, browsers say of our own forms that they come from nowhere
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "cache-control": "no-store",
}
_PORT = re.compile(":[0-9]{1,5}$")
_OPEN = ("/enter", "/static/")  # what is seen without a session
_SMALL = 1_000_000  # bytes of a form without a file
_DRAINED = 30.0  # seconds for which a file that is too large is read, so that a browser hears the answer


class Gate:
    """What every request passes before a page sees it."""

    def __init__(self, app: ASGIApp, *, sessions: Sessions, hosts: Sequence[str], most: int) -> None:
        """Stand before an application; uploads may have so many bytes."""
        self._app, self._sessions, self._most = app, sessions, most
        self._hosts = frozenset(each.casefold() for each in hosts)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let a request pass, or answer it."""
        if scope["type"] != "http":
            if scope["type"] == "lifespan":
                await self._app(scope, receive, send)
            return

        async def answer(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)

        headers = Headers(scope=scope)
        refused = self._refused(scope, headers)
        if refused is not None:
            await error_page(*refused)(scope, receive, answer)
            return
        sends_file = headers.get("content-type", "").startswith("multipart/")
        most = self._most if sends_file and scope["state"]["visitor"] is not None else _SMALL
        if _declared(headers) > most:
            await _drain(receive)
            await error_page(413, _too_large(most))(scope, receive, answer)
            return
        await self._app(scope, _counted(receive, most), answer)

    def _refused(self, scope: Scope, headers: Headers) -> tuple[int, str] | None:
        host = headers.get("host", "").casefold()
        if _PORT.sub("", host) not in self._hosts:
            return (
                400,
                "this server is not known by that name; open the address that it printed, or begin it with --name",
            )
        ours = {None, f"http://{host}", f"https://{host}"}  # the latter by a proxy, which speaks HTTP with us
        if scope["method"] not in {"GET", "HEAD"} and headers.get("origin") not in ours:
            return 403, "another site sent this; open the page itself, and repeat"
        visitor = self._sessions.visitor(headers.get("cookie", ""))
        if visitor is None and not scope["path"].startswith(_OPEN):
            return 401, "you have not entered yet, or your session has ended"
        scope.setdefault("state", {})["visitor"] = visitor
        return None


def _declared(headers: Headers) -> int:
    length = headers.get("content-length", "0")
    return int(length) if length.isascii() and length.isdigit() else 0


def _too_large(most: int) -> str:
    return (
        f"that is more than the {most / 1e6:,.0f} MB that this page takes; give the file to the command line"
        " instead (inverse-design campaign create, campaign tell), or begin the page with a larger --most"
    )


def _counted(receive: Receive, most: int) -> Receive:
    """Count what is received, whatever was declared."""
    seen = 0

    async def counted() -> Message:
        nonlocal seen
        message = await receive()
        seen += len(message.get("body", b""))
        if seen > most:
            await _drain(receive)
            raise HTTPException(413, _too_large(most))
        return message

    return counted


async def _drain(receive: Receive) -> None:
    end = time.monotonic() + _DRAINED
    while time.monotonic() < end:
        message = await receive()
        if message["type"] != "http.request" or not message.get("more_body"):
            return


# These wait for nothing, and are asynchronous all the same: others go through a thread each.


async def visitor_of(request: Request) -> Visitor:
    """Say who asks; the gate has let them in."""
    visitor: Visitor = request.state.visitor
    return visitor


async def signed(request: Request, csrf: Annotated[str, Form(max_length=200)] = "") -> Visitor:
    """Say who sends a form, and that a page of theirs made it."""
    visitor = await visitor_of(request)
    given = request.headers.get("x-csrf-token", csrf)
    if not hmac.compare_digest(given.encode(), visitor.csrf.encode()):
        raise HTTPException(403, "this form was not made for you, or is of an earlier session; reload the page")
    return visitor


async def changing(visitor: Annotated[Visitor, Depends(signed)]) -> Visitor:
    """Take who may change a campaign."""
    if not visitor.may_change:
        raise HTTPException(403, f"{visitor.name!r} may read; ask an owner for the role of a teller")
    return visitor


async def creating(visitor: Annotated[Visitor, Depends(signed)]) -> Visitor:
    """Take who may begin a campaign."""
    if visitor.role != "owner":
        raise HTTPException(403, f"{visitor.name!r} may not begin campaigns; ask an owner")
    return visitor


Seen = Annotated[Visitor, Depends(visitor_of)]
Changing = Annotated[Visitor, Depends(changing)]
Creating = Annotated[Visitor, Depends(creating)]
