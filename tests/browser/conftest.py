"""A real browser, and visits whose every request and complaint is noted."""

import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, BrowserContext, Page, sync_playwright

_QUIET = (
    *("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync"),
    *("--disable-background-networking", "--disable-component-update"),
)
_SERIOUS = {"error", "warning"}
_HERE = {"127.0.0.1", "localhost", "::1"}
_PATIENCE = 20_000  # milliseconds that a page may take on a busy machine


@dataclass
class Visit:
    """One person's window: a page, what it asked for, and what went wrong on it."""

    context: BrowserContext
    page: Page
    requests: list[str] = field(default_factory=list)
    complaints: list[str] = field(default_factory=list)  # errors of scripts, and of the policy

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


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Chromium of this machine; without one, tests are skipped, and fail on CI.

    It lives as long as a module: Playwright keeps an event loop running in this thread, which tests of other
    modules must not find.
    """
    program = shutil.which("chromium")
    if program is None:
        missing = "Chromium is not installed (the package chromium of Debian)"
        if os.environ.get("CI"):
            pytest.fail(missing)
        pytest.skip(missing)
    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=program, args=list(_QUIET))
        yield started
        started.close()


@pytest.fixture(scope="module")
def visits(browser: Browser) -> Iterator[Any]:
    """Open windows of people who share nothing; none of them may have left this machine in the end."""
    opened: list[Visit] = []

    def visit(**settings: Any) -> Visit:
        context = browser.new_context(viewport={"width": 1280, "height": 900}, **settings)
        context.set_default_timeout(_PATIENCE)
        found = Visit(context, context.new_page())
        opened.append(found)
        context.on("request", lambda request: found.requests.append(request.url))
        context.on("weberror", lambda error: found.complaints.append(str(error.error)))
        context.on(
            "console",
            lambda said: found.complaints.append(said.text) if said.type in {"error", "warning"} else None,
        )
        return found

    yield visit
    for each in opened:
        each.context.close()
    assert [url for each in opened for url in each.outside] == []
