"""The report in a real browser: from a file, with no network, with and without scripts, printed, judged by axe."""

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import expect
from strategies.proposals import HOSTILE, QUOTED, small_proposal

from inverse_design.report import write_page
from inverse_design.report.proposals import proposal_page

LIVE, READOUT = "html[data-figures=live]", "<b>r0</b>"


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    page = proposal_page(small_proposal(), facts={HOSTILE: QUOTED}, truth=QUOTED)
    return write_page(page, tmp_path_factory.mktemp("report") / "out.html")


@pytest.fixture(scope="module")
def opened(visits: Callable, report: Path) -> Any:
    """The report, without a network."""
    visit = visits(offline=True)
    visit.page.on("dialog", lambda dialog: pytest.fail(f"a script ran: {dialog.message}"))
    visit.page.goto(report.as_uri())
    visit.page.wait_for_selector(LIVE)
    return visit


def test_it_opens_offline_and_asks_for_nothing(opened: Any, report: Path) -> None:
    assert report.stat().st_size <= 3_000_000
    assert opened.requests == [report.as_uri()]
    assert opened.complaints == []
    assert opened.findings() == []
    for figure in (0, 1, 2):
        expect(opened.page.locator("figure .live").nth(figure).locator(".main-svg").first).to_be_visible()
    assert opened.page.locator(".verdict").inner_text() == small_proposal().verdict


def test_it_is_as_wide_as_the_window(opened: Any) -> None:
    for width in (1280, 390):
        opened.page.set_viewport_size({"width": width, "height": 900})
        assert opened.page.evaluate("document.documentElement.scrollWidth") <= width
    opened.page.set_viewport_size({"width": 1280, "height": 900})


def test_hostile_names_are_texts_in_every_figure(opened: Any) -> None:
    page, first = opened.page, str(small_proposal().table["perturbation"].iloc[0])
    assert page.locator("img").count() == 0
    assert any(HOSTILE in each for each in page.locator("figure.hero .ytick").all_text_contents())
    assert page.locator("section").nth(1).locator(".annotation-text", has_text=READOUT).count() == 1
    assert QUOTED in page.locator("body").inner_text()
    mark, label = (
        page.locator("figure.hero .points path.point").first,
        page.locator("figure.hero .hovertext").first,
    )
    for _ in range(20):  # a figure that was resized is drawn anew
        mark.scroll_into_view_if_needed()
        place = mark.bounding_box()
        page.mouse.move(0, 0)
        page.mouse.move(place["x"] + place["width"] / 2, place["y"] + place["height"] / 2)
        page.wait_for_timeout(150)
        if label.is_visible():
            break
    expect(label).to_contain_text(f"1. {first}: distance ")
    expect(label).to_contain_text("made this state with")


def test_its_downloads_are_files(opened: Any) -> None:
    with opened.page.expect_download() as waiting:
        opened.page.get_by_role("link", name="candidates.csv").click()
    saved = Path(waiting.value.path()).read_text()
    assert waiting.value.suggested_filename == "candidates.csv"
    assert len(saved.splitlines()) == 1 + len(small_proposal().table)


def test_on_paper_it_has_its_still_figures(opened: Any) -> None:
    page, still, live = opened.page, "figure.hero .still", "figure.hero .live"
    expect(page.locator(still)).to_be_hidden()
    page.emulate_media(media="print")
    expect(page.locator(still)).to_be_visible()
    expect(page.locator(live)).to_be_hidden()
    printed = page.pdf(format="A4", print_background=True)
    page.emulate_media(media="screen")
    assert printed.startswith(b"%PDF")
    assert len(re.findall(rb"/Type\s*/Page\b", printed)) in range(2, 6)


def test_without_scripts_it_has_its_still_figures(visits: Callable, report: Path) -> None:
    page = visits(java_script_enabled=False).page
    page.goto(report.as_uri())
    assert page.locator(".still svg").count() == 5
    expect(page.locator("figure.hero .still svg")).to_be_visible()
    expect(page.locator("figure.hero .live")).to_be_hidden()


def test_no_script_but_the_page_s_own_runs(visits: Callable, report: Path) -> None:
    changed = report.read_text().replace("</body>", "<script>document.title = 'changed'</script></body>")
    place = report.with_name("changed.html")
    place.write_text(changed)
    visit = visits()
    visit.page.goto(place.as_uri())
    visit.page.wait_for_selector(LIVE)
    assert visit.page.title() != "changed"
    fetched = visit.page.evaluate("fetch('http://127.0.0.1:9/').then(() => 'fetched', () => 'refused')")
    assert fetched == "refused"
    assert len(visit.complaints) >= 2
    assert all("Content Security Policy" in each for each in visit.complaints)


def test_a_page_that_would_be_too_large_keeps_its_still_figures() -> None:
    page = proposal_page(small_proposal(), provenance={"long": "x" * 1_000_000})
    text = page.html()
    assert len(text) < 3_000_000
    assert "<script" not in text
    assert "<script" in replace(page, sections=page.sections[:-1]).html()
