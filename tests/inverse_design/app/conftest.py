"""A server for two people on a small campaign with one open round."""

import asyncio
import re
import shutil
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
from strategies.campaigns import SETTINGS, TARGET, FirstPairs, starting_screen

from inverse_design.app.server import create_app
from inverse_design.app.sessions import User, hashed
from inverse_design.app.site import Site
from inverse_design.campaign.campaign import Campaign
from inverse_design.campaign.store.protocol import open_store

# Instead of a worker that imports torch: says how far it is, and waits to be ended.
_PACE = '{"pace": {"stage": "fit", "seconds": 9.0, "left": 8.0}}'
SLOW = (sys.executable, "-S", "-c", f"print('{_PACE}', flush=True); input(); input()")
ROLES = {"ann": "owner", "tom": "teller", "rea": "reader"}


@dataclass(frozen=True)
class Browser:
    """A client that keeps its cookie, and fills the hidden fields of forms."""

    client: httpx.AsyncClient
    loop: asyncio.Runner

    def send(self, method: str, path: str, **options: Any) -> httpx.Response:
        return self.loop.run(self.client.request(method, path, **options))

    def get(self, path: str, **options: Any) -> httpx.Response:
        return self.send("GET", path, **options)

    def post(self, path: str, *, made: str = "", files: object = None, **fields: object) -> httpx.Response:
        """Send a form that was made on a page, by default the one that is behind it now."""
        page = self.get(made or re.sub(r"(/campaigns/[^/]+).*", r"\1", path)).text
        hidden = dict(re.findall(r'type="hidden" name="(csrf|revision)" value="([^"]+)"', page))
        return self.send("POST", path, data={**hidden, **fields}, files=files)


@pytest.fixture(scope="session")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("page") / "store.db"
    campaign = Campaign.create(
        starting_screen(), target=TARGET, settings=SETTINGS, store=open_store(path, create=True), actor="ann"
    )
    campaign.ask(4, FirstPairs())
    return path


@pytest.fixture
def place(prepared: Path, tmp_path: Path) -> Path:
    return Path(shutil.copy(prepared, tmp_path / "store.db"))


@pytest.fixture
def site(place: Path) -> Iterator[Site]:
    users = {name: User(hashed(f"token of {name}"), role) for name, role in ROLES.items()}
    found = Site.of(str(place), users, most=3_000_000, worker=SLOW)
    yield found
    found.jobs.close()
    found.uploads.close()


@pytest.fixture
def enter(site: Site) -> Iterator[Callable[..., Browser]]:
    app = create_app(site)
    with asyncio.Runner() as loop:

        def entered(name: str = "") -> Browser:
            door = httpx.ASGITransport(app, raise_app_exceptions=False)
            browser = Browser(httpx.AsyncClient(transport=door, base_url="http://127.0.0.1"), loop)
            if name:
                assert browser.get(f"/enter?token=token of {name}").status_code == 303
            return browser

        yield entered


@pytest.fixture
def ann(enter: Callable[[str], Browser]) -> Browser:
    return enter("ann")


@pytest.fixture
def home(site: Site) -> str:
    """The address of the campaign."""
    return f"/campaigns/{site.shelf.listed()[0].campaign.key}"
