"""Who may enter: tokens, of which only hashes are kept, are exchanged for sessions."""

import hashlib
import hmac
import secrets
import threading
import time
import tomllib
from dataclasses import dataclass, field
from http.cookies import CookieError, SimpleCookie
from pathlib import Path
from typing import Annotated, Literal

from pydantic import ConfigDict, Field, TypeAdapter, ValidationError

from inverse_design.errors import SettingsError
from surrogates.data.names import name_of

Role = Literal["reader", "teller", "owner"]  # as the roles of a PostgreSQL store
_IDLE, _MOST_SESSIONS = 12 * 3600.0, 1000  # seconds; how many


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

    def visitor(self, cookies: str) -> Visitor | None:
        """Find who sends a request, by its cookies."""
        try:
            morsel = SimpleCookie(cookies).get(self.cookie)
        except CookieError:
            return None
        with self._lock:
            found = None if morsel is None else self._visitors.get(hashed(morsel.value))
        now = time.monotonic()
        if found is None or now - found.seen > _IDLE:
            return None
        found.seen = now
        return found
