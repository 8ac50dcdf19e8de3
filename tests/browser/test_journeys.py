"""A campaign in a real browser: create, ask, plate, results, status; by mouse, by keyboard, and by two at once."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol
from uuid import uuid4

import numpy as np
import pandas as pd
import pytest
from playwright.sync_api import FileChooser, Locator, Page, expect
from strategies.campaigns import SETTINGS, TARGET, FirstPairs, starting_screen
from strategies.screens import pairs_of, planted_screen

from benchmarks.page.browser import serving
from benchmarks.robustness.throwaway_postgresql import database
from inverse_design.app.sessions import hashed
from inverse_design.campaign.campaign import Campaign
from inverse_design.campaign.store.protocol import open_store

IMAGE, SCRIPT, BOLD = "<img src=x onerror=alert(1)>", "<script>alert(2)</script>", '"><b>bold</b>'
GENES = (IMAGE, SCRIPT, BOLD, *(f"Z{number}" for number in range(6)))
READOUTS = ("{{ 7 * 7 }}", "<i>r1</i>", "r2", "r3")
ANN = "<u>ann</u>"
TOKENS = {ANN: "token of ann", "tom": "token of tom"}


class Hand(Protocol):
    """Somebody who works on a page, which is known by roles and names only."""

    page: Page

    def press(self, role: Any, name: str) -> None: ...

    def unfold(self, summary: str) -> None: ...

    def write(self, label: str, text: str) -> None: ...

    def send(self, label: str, file: Path) -> None: ...

    def pick(self, label: str, option: str) -> None: ...

    def exchange(self, one: Locator, other: Locator) -> None: ...


@dataclass
class Mouse:
    """Points and clicks."""

    page: Page

    def press(self, role: Any, name: str) -> None:
        self.page.get_by_role(role, name=name, exact=True).first.click()

    def unfold(self, summary: str) -> None:
        self.page.locator("summary", has_text=summary).click()

    def write(self, label: str, text: str) -> None:
        self.page.get_by_label(label, exact=True).fill(text)

    def send(self, label: str, file: Path) -> None:
        self.page.get_by_label(label, exact=True).set_input_files(file)

    def pick(self, label: str, option: str) -> None:
        self.page.get_by_label(label, exact=True).select_option(option)

    def exchange(self, one: Locator, other: Locator) -> None:
        one.drag_to(other)


@dataclass
class Keyboard:
    """Touches nothing but keys: Tab, arrows, letters, Enter, Space."""

    page: Page

    def _reach(self, wanted: Locator) -> None:
        for _ in range(150):
            if wanted.evaluate("each => each === document.activeElement"):
                return
            self.page.keyboard.press("Tab")
        pytest.fail(f"Tab does not reach {wanted}")

    def press(self, role: Any, name: str) -> None:
        self._reach(self.page.get_by_role(role, name=name, exact=True).first)
        self.page.keyboard.press("Space" if role == "checkbox" else "Enter")

    def unfold(self, summary: str) -> None:
        self._reach(self.page.locator("summary", has_text=summary))
        self.page.keyboard.press("Enter")

    def write(self, label: str, text: str) -> None:
        self._reach(self.page.get_by_label(label, exact=True))
        self.page.keyboard.press("Control+A")
        self.page.keyboard.type(text)

    def send(self, label: str, file: Path) -> None:
        self._reach(self.page.get_by_label(label, exact=True))
        asked: list[FileChooser] = []
        self.page.once("filechooser", lambda chooser: asked.append(chooser))  # noqa: PLW0108 - marked by Playwright
        for _ in range(20):  # the browser does not open its window at each first key
            self.page.keyboard.press("Space")
            self.page.wait_for_timeout(250)
            if asked:
                asked[0].set_files(file)
                return
        pytest.fail(f"no key opens {label}")

    def pick(self, label: str, option: str) -> None:
        self._reach(self.page.get_by_label(label, exact=True))
        self.page.keyboard.type(option)

    def exchange(self, one: Locator, other: Locator) -> None:
        self._reach(self.page.get_by_role("grid").get_by_role("button").first)
        at = (0, 0)
        for well in (one, other):
            name = (well.get_attribute("data-well") or "").partition(":")[2]
            to = (ord(name[0]) - ord("A"), int(name[1:]) - 1)
            for key, steps in (("ArrowDown", to[0] - at[0]), ("ArrowRight", to[1] - at[1])):
                back = {"ArrowDown": "ArrowUp", "ArrowRight": "ArrowLeft"}[key]
                for _ in range(abs(steps)):
                    self.page.keyboard.press(key if steps > 0 else back)
            assert well.evaluate("each => each === document.activeElement")
            self.page.keyboard.press("Enter")
            at = to


@pytest.fixture(scope="module")
def sqlite(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A server for two people on a store with one campaign, whose first round is open."""
    folder = tmp_path_factory.mktemp("served")
    store = open_store(folder / "store.db", create=True)
    campaign = Campaign.create(starting_screen(), target=TARGET, settings=SETTINGS, store=store, actor="tom")
    campaign.ask(recommender=FirstPairs())
    users = folder / "users.toml"
    roles = {ANN: "owner", "tom": "teller"}
    users.write_text("".join(
        f'["{name}"]\ntoken_sha256 = "{hashed(TOKENS[name])}"\nrole = "{role}"\n' for name, role in roles.items()
    ))  # fmt: skip
    with serving(str(folder / "store.db"), "--users", str(users)) as address:
        yield address


@pytest.fixture(scope="module")
def postgresql(postgresql_server: str) -> Iterator[str]:
    """A server for one person on an empty database."""
    with serving(database(postgresql_server, f"t{uuid4().hex}")) as address:
        yield address


@pytest.fixture(scope="module")
def screen(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A table of singles and pairs, with names that a page must show as they are."""
    planted = planted_screen(alone=range(9), together=pairs_of(9, 16), readouts=len(READOUTS))
    labels = ["+".join(GENES[int(gene)] for gene in row if gene >= 0) for row in planted.batch.genes]
    table = pd.DataFrame(planted.effects.numpy(), columns=list(READOUTS))
    table.insert(0, "perturbation", labels)
    path = tmp_path_factory.mktemp("sent") / "<b>screen & co.csv"
    table.to_csv(path, index=False)
    return path


def look(visit: Any, heading: str) -> None:
    """A page has its heading, nothing that should be text is markup, and axe has nothing to say."""
    expect(visit.page.get_by_role("heading", level=1)).to_contain_text(heading)
    assert visit.page.locator("main b, main u, main i, main script, img[src=x]").count() == 0
    assert visit.findings() == []


def filled(form: Path, place: Path) -> Path:
    """Fill the form for the results as a reader of plates would."""
    table = pd.read_csv(form)
    values = np.random.default_rng(0).normal(size=(len(table), len(READOUTS)))
    for column, readout in enumerate(READOUTS):
        table[readout] = values[:, column]
    table.to_csv(place, index=False)
    return place


def arrive(page: Page, heading: str) -> None:
    """Wait for what a task leads to; a task that was refused says why."""
    refused = page.get_by_role("alert")
    expect(page.get_by_role("heading", name=heading, exact=True).or_(refused)).to_be_visible(timeout=90_000)
    assert not refused.is_visible(), refused.inner_text()


def begin(hand: Hand, visit: Any, screen: Path, name: str) -> None:
    """From an empty browser to a campaign without a round."""
    hand.press("link", "New campaign")
    look(visit, "New campaign")
    hand.send("Screen", screen)
    hand.press("button", "Upload and check")
    arrive(hand.page, screen.name)
    look(visit, screen.name)
    hand.write("Name of the campaign", name)
    hand.write("Target", f"{IMAGE}+Z2")
    hand.unfold("Rounds, plates and the model")
    hand.write("Experiments of a round", "3")
    hand.pick("Model", "additive")
    hand.press("button", "Begin the campaign")
    arrive(hand.page, name)
    look(visit, name)


def walk(hand: Hand, visit: Any, screen: Path, name: str, folder: Path) -> Path:
    """Create, ask, plate, results, status; give the report that was downloaded."""
    page = hand.page
    page.on("dialog", lambda dialog: pytest.fail(f"a script ran: {dialog.message}"))
    begin(hand, visit, screen, name)
    hand.press("button", "Ask for a round")
    arrive(page, "Round 1")
    rows = page.get_by_role("region", name="Experiments of round 1").locator("tbody tr")
    expect(rows).to_have_count(3)
    look(visit, name)
    hand.press("button", "Mark all as ordered")
    expect(rows.filter(has_text="ordered")).to_have_count(3)

    hand.press("link", "plates")
    look(visit, "Plates of round 1")
    grid = page.get_by_role("grid")
    one, other = (grid.locator(f"button.{kind}").first for kind in ("sample", "control"))
    one, other = (page.locator(f"[data-well='{each.get_attribute('data-well')}']") for each in (one, other))
    held = one.locator(".what").inner_text(), other.locator(".what").inner_text()
    hand.exchange(one, other)
    hand.press("button", "Save the plates")
    expect(page.get_by_role("status").first).to_contain_text("1 exchange of wells saved")
    assert (other.locator(".what").inner_text(), one.locator(".what").inner_text()) == held
    hand.press("link", "Back to the campaign")

    with page.expect_download() as waiting:
        hand.press("link", "form for the results (CSV)")
    results = filled(Path(waiting.value.path()), folder / "results.csv")
    hand.send("Table of results", results)
    hand.press("button", "See what would change")
    look(visit, "What would change")
    expect(page.locator(".verdict")).to_contain_text("3 experiments measured")
    hand.press("button", "Record these results")
    expect(page.locator(".verdict")).to_contain_text("1 round, 3 experiments measured, 0 to come.")
    for figure in page.locator("figure img").all():
        figure.evaluate("each => each.decode()")  # fails if it is no picture
    look(visit, name)
    with page.expect_download() as waiting:
        hand.press("link", "Report to send (HTML)")
    assert waiting.value.suggested_filename == f"{page.url.rpartition('/')[2]}.html"
    waiting.value.save_as(folder / "report.html")
    hand.press("link", "Recorded wells")
    look(visit, "Recorded wells")
    hand.press("checkbox", page.get_by_role("checkbox").first.get_attribute("aria-label") or "")
    hand.write("Reason, for the history", IMAGE)
    hand.press("button", "Take these wells back")
    expect(page.get_by_text("They stay in the history, and count for nothing.")).to_be_visible()
    hand.press("link", "History")
    look(visit, "History of")
    happened = page.get_by_role("region", name="Everything that happened")
    for kind in ("created", "asked", "ordered", "arranged", "told", "retracted"):
        expect(happened).to_contain_text(kind)
    expect(happened).to_contain_text(IMAGE)
    return folder / "report.html"


def test_the_whole_journey_by_mouse_on_sqlite(visits: Callable, sqlite: str, screen: Path, tmp_path: Path) -> None:
    visit = visits()
    visit.page.goto(sqlite)
    look(visit, "Enter with your token")
    hand = Mouse(visit.page)
    hand.write("Token", TOKENS[ANN])
    hand.press("button", "Enter")
    look(visit, "Campaigns")
    expect(visit.page.get_by_text(f"{ANN} (owner)")).to_be_visible()
    sent = walk(hand, visit, screen, f"{BOLD} by mouse", tmp_path)
    assert visit.complaints == []
    read = visits(offline=True)
    read.page.goto(sent.as_uri())
    read.page.wait_for_selector("html[data-figures=live]")
    expect(read.page.get_by_role("heading", level=1)).to_contain_text(f"{BOLD} by mouse")
    assert read.findings() == []
    assert read.complaints == []


def test_the_whole_journey_by_keyboard_on_postgresql(
    visits: Callable, postgresql: str, screen: Path, tmp_path: Path
) -> None:
    visit = visits()
    visit.findings = list  # the pages are those that axe has judged
    visit.page.goto(postgresql)
    walk(Keyboard(visit.page), visit, screen, f"{SCRIPT} by keyboard", tmp_path)
    assert visit.complaints == []


def test_two_people_see_each_other_and_overwrite_nothing(visits: Callable, sqlite: str) -> None:
    ann, tom = visits(), visits()
    for visit, name in ((ann, ANN), (tom, "tom")):
        visit.page.on("dialog", lambda dialog: pytest.fail(f"a script ran: {dialog.message}"))
        visit.page.goto(sqlite)
        Mouse(visit.page).write("Token", TOKENS[name])
        Mouse(visit.page).press("button", "Enter")
        Mouse(visit.page).press("link", SETTINGS.name)
    assert tom.page.get_by_role("link", name="New campaign").count() == 0  # a teller begins none
    rows = [
        visit.page.get_by_role("region", name="Experiments of round 1").locator("tbody tr") for visit in (ann, tom)
    ]
    drops = [each.get_attribute("aria-label") for each in rows[0].get_by_role("button", name="Drop ").all()]
    first, second, *_ = (each.removeprefix("Drop ") for each in drops)

    Mouse(tom.page).press("button", f"Drop {first}")
    expect(rows[1].filter(has_text=first)).to_contain_text("withdrawn")
    expect(ann.page.get_by_text("tom has changed this campaign")).to_be_visible(timeout=20_000)

    Mouse(ann.page).press("button", f"Pin {second} to the top")  # on a page that was made before
    look(ann, "The campaign has changed")
    expect(ann.page.get_by_role("region", name="What happened since")).to_contain_text("tom")
    expect(ann.page.get_by_label("label", exact=True)).to_have_value(second)
    Mouse(ann.page).press("button", "Do it all the same")
    expect(rows[0].first).to_contain_text("pinned")
    expect(rows[0].first).to_contain_text(second)
    expect(rows[0].filter(has_text=first)).to_contain_text("withdrawn")
    expect(tom.page.get_by_text(f"{ANN} has changed this campaign")).to_be_visible(timeout=20_000)
    Mouse(tom.page).press("link", "Show it as it is now")
    expect(rows[1].first).to_contain_text(second)
    Mouse(tom.page).press("button", f"Unpin {second}")
    expect(tom.page.get_by_role("button", name=f"Pin {second} to the top")).to_be_focused()
    assert [each for each in ann.complaints if "409" not in each] == []
    assert tom.complaints == []
