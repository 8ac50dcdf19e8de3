"""Serving the page: a socket, a token that is printed once, and a server that ends with Ctrl-C."""

import ipaddress
import signal
import socket
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import uvicorn

from inverse_design.app.security import LOOPBACK
from inverse_design.app.server import create_app
from inverse_design.app.sessions import User, hashed, new_token
from inverse_design.app.site import Site
from inverse_design.campaign.create import user_name
from inverse_design.errors import SettingsError
from surrogates.errors import shown

_TURN = 0.0005  # seconds that a thread computes while another waits; the usual 5 ms make a page wait at every step
_PATIENCE = 3  # seconds that open streams are given at the end


def is_loopback(host: str) -> bool:
    """Say whether only this machine reaches an address."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def serve(
    place: str,
    *,
    host: str,
    port: int,
    users: dict[str, User] | None,
    names: Sequence[str],
    most: int,
    say: Callable[[str], object] = print,
) -> None:
    """Serve the campaigns of a store until Ctrl-C or SIGTERM."""
    token = new_token() if users is None else ""
    known = users or {user_name(): User(hashed(token), "owner")}
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as listening:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listening.bind((host, port))
        except (OSError, OverflowError, UnicodeError) as error:
            why = error.strerror if isinstance(error, OSError) else error
            raise SettingsError(f"nothing can listen at {shown(host)}, port {port}: {why}") from error
        called = f"[{host}]" if ":" in host else host
        site = Site.of(place, known, hosts=(*LOOPBACK, called, *names), most=most)
        address = f"http://{called}:{listening.getsockname()[1]}/"
        config = uvicorn.Config(
            create_app(site), log_level="warning", access_log=False, server_header=False, proxy_headers=False,
            timeout_graceful_shutdown=_PATIENCE,
        )  # fmt: skip
        sys.setswitchinterval(_TURN)
        server = uvicorn.Server(config)
        with _ended_by_signals(server):
            say(f"{address}enter?token={token}" if token else f"{address}enter")
            server.run(sockets=[listening])


@contextmanager
def _ended_by_signals(server: uvicorn.Server) -> Iterator[None]:
    """Let a signal end a server and nothing else: uvicorn raises it once more when it has ended."""

    def end(_number: int, _frame: object) -> None:
        server.should_exit = True

    before = {number: signal.signal(number, end) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
