"""A real browser, and visits of people who never leave this machine."""

from collections.abc import Iterator
from typing import Any

import pytest
from playwright.sync_api import Browser
from strategies.absent import absent

from benchmarks.page.browser import Visit, program, started


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Chromium of this machine; without one, tests are skipped, and fail on CI.

    It lives as long as a module: Playwright keeps an event loop running in this thread, which tests of other
    modules must not find.
    """
    chromium = program()
    if chromium is None:
        absent("Chromium is not installed (the package chromium of Debian)")
    with started(chromium) as found:
        yield found


@pytest.fixture(scope="module")
def visits(browser: Browser) -> Iterator[Any]:
    """Open windows of people who share nothing; none of them may have left this machine in the end."""
    opened: list[Visit] = []

    def visit(**settings: Any) -> Visit:
        opened.append(Visit.of(browser, **settings))
        return opened[-1]

    yield visit
    for each in opened:
        each.context.close()
    assert [url for each in opened for url in each.outside] == []
