"""Pages: self-contained, nothing fetched, names shown as they are, small."""

import base64
import io
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from strategies.campaigns import SETTINGS, TARGET, FirstPairs, measured, starting_screen
from strategies.proposals import HOSTILE, QUOTED, named_screen, small_proposal

from inverse_design.campaign.campaign import Campaign
from inverse_design.campaign.store.protocol import open_store
from inverse_design.cli.campaign.report import facts_of
from inverse_design.errors import OutputError
from inverse_design.plot.candidates import hover_titles, in_percent
from inverse_design.proposal import propose
from inverse_design.report import Attachment, Page, PageTable, Section
from inverse_design.report.campaigns import campaign_page
from inverse_design.report.page import in_text
from inverse_design.report.proposals import proposal_page
from inverse_design.spreadsheets import as_written

TAGS = {
    *("html", "head", "meta", "title", "style", "body", "header", "main", "section", "h1", "h2", "p", "div", "a"),
    *("table", "thead", "tbody", "tr", "th", "td", "dl", "dt", "dd", "figure", "figcaption", "details", "summary"),
    *("pre", "strong", "script", "svg", "g", "path", "defs", "use", "clippath", "rect", "text", "tspan", "image"),
}
FETCHING = ("src", "href", "xlink:href", "srcset", "action", "data", "poster")


class Reader(HTMLParser):
    """Collects tags, texts and links."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.text: list[str] = []
        self.links: list[str] = []
        self.handlers: list[str] = []
        self.ids: list[str] = []
        self.files: dict[str, str] = {}

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        stated = {name: value or "" for name, value in attrs}
        self.links += [stated[name] for name in FETCHING if name in stated]
        self.handlers += [name for name in stated if name.startswith("on")]
        self.ids += [stated["id"]] if "id" in stated else []
        if "download" in stated:
            self.files[stated["download"]] = stated["href"]

    def handle_data(self, data: str) -> None:
        self.text.append(data)


def read(text: str) -> Reader:
    found = Reader()
    found.feed(text)
    return found


def check_contained(found: Reader) -> None:
    assert set(found.tags) <= TAGS
    assert not found.handlers
    assert all(link.startswith(("#", "data:")) for link in found.links)
    assert len(set(found.ids)) == len(found.ids)
    assert {link for link in found.links if link.startswith("#")} <= {f"#{each}" for each in found.ids}


def decoded(link: str) -> str:
    return base64.b64decode(link.partition("base64,")[2]).decode()


def test_a_report_is_one_small_file_that_fetches_nothing(tmp_path: Path) -> None:
    proposal = small_proposal()
    path = proposal.report(tmp_path / "out.html")
    text = path.read_text()
    assert len(text.encode()) <= 3_000_000
    found = read(text)
    check_contained(found)
    assert found.tags.count("script") == 2 + 3  # the library, what starts it, and three charts
    assert found.tags.count("svg") == 5
    assert "default-src 'none'; script-src 'sha256-" in text
    assert "unsafe-eval" not in text


def test_a_folder_that_is_missing_is_named(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match=r"there is no folder '.*absent'; make it first"):
        small_proposal().report(tmp_path / "absent" / "out.html")


def test_what_a_mark_says_is_not_surer_than_certain() -> None:
    proposal = small_proposal()
    for probability, said in ((1.0, "more than 99.9 %"), (1e-9, "less than 0.1 %")):
        found = hover_titles(replace(proposal, table=proposal.table.assign(probability=probability)))
        assert all(each.endswith(f"; made this state with {said}") for each in found.values())


def test_it_opens_with_the_verdict_and_the_warnings() -> None:
    proposal = small_proposal()
    said = "".join(read(proposal_page(proposal).html()).text)
    first = said.index(proposal.verdict)
    warnings = [note.removeprefix("warning: ") for note in proposal.notes if note.startswith("warning")]
    assert warnings
    assert first < said.index(warnings[0]) < said.index("Candidates")


def test_hostile_names_are_shown_as_they_are() -> None:
    screen = named_screen()
    page = proposal_page(small_proposal(), facts={HOSTILE: QUOTED}, provenance={"argument": HOSTILE}, truth=QUOTED)
    text = page.html()
    assert len(re.findall("<script", text)) == 2 + 3
    assert "<img" not in text
    found = read(text)
    said = "".join(found.text)
    assert {HOSTILE, QUOTED, "<b>r0</b>"} <= {*screen.vocabulary.targets, *screen.readouts}
    assert all(name in said for name in (HOSTILE, QUOTED, "<b>r0</b>"))
    check_contained(found)


def test_the_downloads_are_the_tables() -> None:
    proposal = small_proposal()
    files = read(proposal_page(proposal).html()).files
    table = as_written(pd.read_csv(io.StringIO(decoded(files["candidates.csv"]))))
    assert table["perturbation"].tolist() == proposal.table["perturbation"].tolist()
    assert np.allclose(table["distance"], proposal.table["distance"])
    assert "reasons.json" in files


def test_a_target_without_a_state_has_a_shorter_page() -> None:
    proposal = propose(starting_screen(), TARGET, surrogate="additive", top=3)
    found = read(proposal_page(proposal).html())
    assert found.tags.count("svg") == 1
    check_contained(found)


def test_a_long_table_is_cut_and_says_so() -> None:
    table = pd.DataFrame({"name": [f"row {number} {'x' * 90}" for number in range(10_000)]})
    shown, carried = PageTable.of(table), Attachment.of_table("a.csv", table)
    assert (len(shown.rows), shown.more) == (200, 9_800)
    assert carried.remark == "the first 2,500 of 10,000 rows"
    text = Page("t", "v", (), (Section("s", table=shown, attachments=(carried,)),)).html()
    assert "and 9800 more rows" in text
    assert len(text) < 1_000_000


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (True, "yes"),
        (np.bool_(0), "no"),
        (np.nan, "-"),
        (pd.NA, "-"),
        (None, "-"),
        (0.12345, "0.1235"),
        (8e-50, "<1e-09"),
    ],
)
def test_cells_are_words(value: object, said: str) -> None:
    assert in_text(value) == said


def test_shares_are_never_quite_certain() -> None:
    assert [in_percent(each) for each in (1.0, 0.94, 1e-9, np.nan)] == [">99.9 %", "94 %", "<0.1 %", "-"]


def stated(campaign: Campaign) -> dict[str, str]:
    return facts_of(campaign.status(), campaign.settings, campaign.target, campaign.head)


def test_the_page_of_a_campaign(tmp_path: Path) -> None:
    store = open_store(tmp_path / "store.db", create=True)
    campaign = Campaign.create(
        starting_screen(), target=TARGET, settings=SETTINGS, store=store, actor="<b>ann</b>"
    )
    empty = read(campaign_page(campaign, facts=stated(campaign)).html())
    check_contained(empty)
    batch = campaign.ask(recommender=FirstPairs())
    campaign.tell(measured(batch.labels, campaign.readouts))
    page = campaign_page(campaign, facts=stated(campaign))
    found = read(page.html())
    check_contained(found)
    assert found.tags.count("svg") == 2
    assert "<b>ann</b>" in found.text
    assert page.verdict.startswith("Best so far: ")
    assert "1 round, 4 experiments measured, 0 to come." in page.verdict
    assert [each.name for each in page.numbers] == ["best utility", "gained", "rounds", "measured"]
    assert (page.numbers[-1].value, page.numbers[-1].remark) == ("4", "0 to come")
    table = pd.read_csv(io.StringIO(decoded(found.files["round-1.csv"])), index_col="perturbation")
    outcomes = campaign.outcomes().set_index("perturbation")["measured"]
    pd.testing.assert_series_equal(table["measured"], outcomes, check_like=True, check_dtype=False, rtol=1e-9)
    shown = campaign._repr_html_()
    assert all(label in shown for label in batch.labels)
    assert {"round-1.csv", "history.csv"} <= set(found.files)
