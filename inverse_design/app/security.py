"""Who may see and change what: tokens, sessions, forms that only pages of this server send, hosts, limits."""

import hashlib
import hmac
import secrets
import threading
import time
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass, field
from http.cookies import CookieError, SimpleCookie
from pathlib import Path
from typing import Annotated, Literal

from fastapi import Depends, Form, HTTPException, Request
from pydantic import ConfigDict, Field, TypeAdapter, ValidationError
from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from inverse_design.app.rendering import error_page
from inverse_design.errors import SettingsError
from surrogates.data.names import name_of

Role = Literal["reader", "teller", "owner"]  # as the roles of a PostgreSQL store
LOOPBACK = ("127.0.0.1", "localhost", "[::1]")
_CSP = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self';"
    " form-action 'self'; frame-ancestors 'none'; base-uri 'none'"
)
HEADERS = {
    "content-security-policy": _CSP,
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "cache-control": "no-store",
}
_OPEN = ("/enter", "/static/")  # what is seen without a session
_IDLE, _MOST_SESSIONS = 12 * 3600.0, 1000
_SMALL = 1_000_000  # bytes of a form without a file
_DRAINED = 30.0  # seconds for which a file that is too large is read, so that a browser hears the answer


@dataclass(frozen=True)
class User:
    """Somebody who may enter; of the token only the hash is known."""

    token_sha256: Annotated[str, Field(pattern="^[0-9a-f]{64}$")]
    role: Role = "teller"
    __pydantic_config__ = ConfigDict(extra="forbid")


def new_token() -> str:
    """Make a token that nobody guesses."""
    return secrets.token_urlsafe(32)


def hashed(token: str) -> str:
    """Hash a token; it is random and long, so that no salt is needed."""
    return hashlib.sha256(token.encode(errors="replace")).hexdigest()


def read_users(path: Path) -> dict[str, User]:
    """Read who may enter: a TOML file with a table for each name."""
    try:
        found = TypeAdapter(dict[str, User]).validate_python(tomllib.loads(path.read_text(encoding="utf-8")))
        users = {name_of(name, "name of a user"): user for name, user in found.items()}
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise SettingsError(f"{str(path)!r} cannot be read as the users of a page: {error}") from error
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise SettingsError(
            f"{path.name!r}, {where:.80}: {first['msg']}; each user is [NAME] with token_sha256 and role (reader,"
            " teller, owner), as `inverse-design app --new-user NAME` prints them"
        ) from error
    if not users:
        raise SettingsError(f"{path.name!r} names no user; `inverse-design app --new-user NAME` prints one")
    return users


@dataclass
class Visitor:
    """Somebody with a session."""

    name: str
    role: Role
    csrf: str = field(default_factory=new_token)
    seen: float = field(default_factory=time.monotonic)
    notes: list[str] = field(default_factory=list)  # what is to be said on the next page

    @property
    def may_change(self) -> bool:
        """Whether they may ask, order, tell, withdraw, retract."""
        return self.role != "reader"


class Sessions:
    """Who has entered."""

    def __init__(self, users: dict[str, User]) -> None:
        """Begin with nobody."""
        self.cookie = f"inverse_design_{secrets.token_hex(4)}"  # ports of a machine share their cookies
        self._users, self._visitors = users, dict[str, Visitor]()
        self._lock = threading.Lock()

    def enter(self, token: str) -> str | None:
        """Exchange a token for the value of a cookie."""
        given, name = hashed(token), None
        for each, user in self._users.items():
            name = each if hmac.compare_digest(user.token_sha256, given) else name
        if name is None:
            return None
        session = new_token()
        with self._lock:
            if len(self._visitors) >= _MOST_SESSIONS:
                del self._visitors[min(self._visitors, key=lambda each: self._visitors[each].seen)]
            self._visitors[hashed(session)] = Visitor(name, self._users[name].role)
        return session

    def leave(self, visitor: Visitor) -> None:
        """End the session of a visitor."""
        with self._lock:
            self._visitors = {key: one for key, one in self._visitors.items() if one is not visitor}

    def visitor(self, headers: Headers) -> Visitor | None:
        """Find who sends a request."""
        try:
            morsel = SimpleCookie(headers.get("cookie", "")).get(self.cookie)
        except CookieError:
            return None
        with self._lock:
            found = None if morsel is None else self._visitors.get(hashed(morsel.value))
        now = time.monotonic()
        if found is None or now - found.seen > _IDLE:
            return None
        found.seen = now
        return found


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
        most = self._most if headers.get("content-type", "").startswith("multipart/") else _SMALL
        if _declared(headers) > most:
            await _drain(receive)
            await error_page(413, _too_large(most))(scope, receive, answer)
            return
        await self._app(scope, _counted(receive, most), answer)

    def _refused(self, scope: Scope, headers: Headers) -> tuple[int, str] | None:
        host = headers.get("host", "").casefold()
        name = host if host.endswith("]") else host.rpartition(":")[0] or host
        if name not in self._hosts:
            return 400, "this server is not known by that name; open the address that it printed"
        origin = headers.get("origin")
        if scope["method"] not in {"GET", "HEAD"} and origin not in {None, f"{scope['scheme']}://{host}"}:
            return 403, "another site sent this; open the page itself, and repeat"
        visitor = self._sessions.visitor(headers)
        if visitor is None and not scope["path"].startswith(_OPEN):
            return 401, "nobody has entered here yet"
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


def visitor_of(request: Request) -> Visitor:
    """Say who asks; the gate has let them in."""
    visitor: Visitor = request.state.visitor
    return visitor


def signed(request: Request, csrf: Annotated[str, Form(max_length=200)] = "") -> Visitor:
    """Say who sends a form, and that a page of theirs made it."""
    visitor = visitor_of(request)
    given = request.headers.get("x-csrf-token", csrf)
    if not hmac.compare_digest(given.encode(), visitor.csrf.encode()):
        raise HTTPException(403, "this form was not made for you, or is of an earlier session; reload the page")
    return visitor


def changing(visitor: Annotated[Visitor, Depends(signed)]) -> Visitor:
    """Take who may change a campaign."""
    if not visitor.may_change:
        raise HTTPException(403, f"{visitor.name!r} may read; ask an owner for the role of a teller")
    return visitor


def creating(visitor: Annotated[Visitor, Depends(signed)]) -> Visitor:
    """Take who may begin a campaign."""
    if visitor.role != "owner":
        raise HTTPException(403, f"{visitor.name!r} may not begin campaigns; ask an owner")
    return visitor


Seen = Annotated[Visitor, Depends(visitor_of)]
Changing = Annotated[Visitor, Depends(changing)]
Creating = Annotated[Visitor, Depends(creating)]
