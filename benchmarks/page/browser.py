"""A real browser, windows whose every request and complaint is noted, and a served store to visit."""

import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, BrowserContext, Page, sync_playwright

_QUIET = (
    *("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync"),
    *("--disable-background-networking", "--disable-component-update"),
)
_SERIOUS = {"error", "warning"}
_HERE = {"127.0.0.1", "localhost", "::1"}
_PATIENCE = 20_000  # milliseconds that a page may take on a busy machine
_ENDS = 20  # seconds that a server may take to end


def program() -> Path | None:
    """Find Chromium."""
    found = shutil.which("chromium")
    return None if found is None else Path(found)


@contextmanager
def started(chromium: Path) -> Iterator[Browser]:
    """Run a browser that shows no window and asks nobody for anything."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=list(_QUIET))
        yield browser
        browser.close()


@dataclass
class Visit:
    """One person's window: a page, what it asked for, and what went wrong on it."""

    context: BrowserContext
    page: Page
    requests: list[str] = field(default_factory=list)
    complaints: list[str] = field(default_factory=list)  # errors of scripts, and of the policy

    @classmethod
    def of(cls, browser: Browser, **settings: Any) -> "Visit":  # noqa: ANN401 - of Playwright
        """Open a window that shares nothing with others."""
        context = browser.new_context(**{"viewport": {"width": 1280, "height": 900}, **settings})
        context.set_default_timeout(_PATIENCE)
        found = cls(context, context.new_page())
        context.on("request", lambda request: found.requests.append(request.url))
        context.on("weberror", lambda error: found.complaints.append(str(error.error)))
        context.on("console", lambda said: found.complaints.extend([said.text] * (said.type in _SERIOUS)))
        return found

    @property
    def outside(self) -> list[str]:
        """Requests that left this machine."""
        local = ("file", "data", "blob", "about")
        return [
            url for url in self.requests if (at := urlsplit(url)).scheme not in local and at.hostname not in _HERE
        ]

    def findings(self) -> list[str]:
        """What axe finds on the page that is serious or critical."""
        found = Axe().run(self.page).response["violations"]
        return [
            f"{each['id']}: {each['help']}: {each['nodes'][0]['html'][:200]}"
            for each in found
            if each["impact"] in {"serious", "critical"}
        ]


@contextmanager
def serving(*words: str) -> Iterator[str]:
    """Serve a store as a user does, and give the address that is printed."""
    command = [sys.executable, "-m", "inverse_design", "app", *words]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:  # noqa: S603 - our own program
        assert process.stdout is not None  # noqa: S101 - a pipe was asked for
        try:
            yield process.stdout.readline().strip()
        finally:
            process.send_signal(signal.SIGINT)
            process.wait(_ENDS)
