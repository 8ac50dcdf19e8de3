"""Serving the page: a socket, a token that is printed once, and a server that ends with Ctrl-C."""

import ipaddress
import socket
import sys
from collections.abc import Callable, Sequence

import uvicorn

from inverse_design.app.security import LOOPBACK
from inverse_design.app.server import create_app
from inverse_design.app.sessions import User, hashed, new_token
from inverse_design.app.site import Site
from inverse_design.campaign.create import user_name
from inverse_design.errors import SettingsError

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
    """Serve the campaigns of a store until Ctrl-C.

    Args:
        place: The store.
        host: Where to listen.
        port: Which port; 0 for a free one.
        users: Who may enter; without any, whoever opens the address that is printed, as the user of this machine.
        names: Names by which browsers call the server, beside that of the host.
        most: Largest file that is taken, in bytes.
        say: Prints the address.
    """
    token = new_token() if users is None else ""
    known = users or {user_name(): User(hashed(token), "owner")}
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as listening:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listening.bind((host, port))
        except OSError as error:
            raise SettingsError(f"nothing can listen at {host}, port {port}: {error.strerror}") from error
        shown = f"[{host}]" if ":" in host else host
        site = Site.of(place, known, hosts=(*LOOPBACK, shown, *names), most=most)
        address = f"http://{shown}:{listening.getsockname()[1]}/"
        say(f"{address}enter?token={token}" if token else f"{address}enter")
        config = uvicorn.Config(
            create_app(site), log_level="warning", access_log=False, server_header=False, proxy_headers=False,
            timeout_graceful_shutdown=_PATIENCE,
        )  # fmt: skip
        sys.setswitchinterval(_TURN)
        uvicorn.Server(config).run(sockets=[listening])
