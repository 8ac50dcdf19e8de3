"""What people do on the pages of a campaign, alone and two at once."""

import errno
import html
import io
import os
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
from strategies.campaigns import SETTINGS, TARGET, FirstPairs, measured, starting_screen

from inverse_design.app.site import Site
from inverse_design.campaign.campaign import Campaign
from inverse_design.campaign.export import plate_of
from inverse_design.campaign.store.protocol import open_store

from .conftest import Browser

HOSTILE = '<script>alert("x")</script>{{7*7}}\' onmouseover=x'


@pytest.fixture
def campaign(site: Site) -> Campaign:
    return site.shelf.listed()[0].campaign


@pytest.fixture
def labels(campaign: Campaign) -> list[str]:
    return campaign.batch().labels


def results(campaign: Campaign, labels: list[str], **changes: object) -> dict[str, tuple[str, bytes]]:
    table = measured(labels, campaign.readouts).assign(**changes)
    return {"results": ("results.csv", table.to_csv(index=False).encode())}


def said(page: str) -> str:
    return html.unescape(re.sub("<[^>]+>", " ", page))


def test_a_round_is_pinned_marked_and_dropped(
    campaign: Campaign, labels: list[str], home: str, ann: Browser
) -> None:
    page = said(ann.get(home).text)
    assert page.index(labels[0]) < page.index(labels[3])
    assert "it is there" in page  # the reason
    assert ann.post(f"{home}/rounds/1/pin", label=labels[3], first="true").status_code == 303
    assert ann.post(f"{home}/rounds/1/pin", label=labels[2], first="true").status_code == 303
    rows = re.findall(r'<tr class="proposed"><td>([^<]*)</td>.*?<td>(G[^<]*)</td>', ann.get(home).text, re.DOTALL)
    assert [label for _, label in rows] == [labels[2], labels[3], labels[0], labels[1]]
    assert rows[0][0] == "proposed, pinned"
    ann.post(f"{home}/rounds/1/pin", label=labels[2])
    assert campaign.batch().pinned == (labels[3],)
    assert ann.post(f"{home}/order", label=labels[0]).status_code == 303
    assert ann.post(f"{home}/drop", label=labels[1], reason="no clone").status_code == 303
    assert campaign.batch().states == ("ordered", "withdrawn", "proposed", "proposed")
    assert "no clone" in ann.get(f"{home}/history").text
    ann.post(f"{home}/order")
    assert campaign.batch().states == ("ordered", "withdrawn", "ordered", "ordered")


def test_a_round_is_sorted_by_a_column(campaign: Campaign, labels: list[str], home: str, ann: Browser) -> None:
    ann.post(f"{home}/rounds/1/pin", label=labels[1], first="true")
    others = [each for each in labels if each != labels[1]]
    predicted = campaign.batch().table.set_index("perturbation")["predicted"]
    for sort, wanted in {
        "perturbation": sorted(others),
        "-predicted": sorted(others, key=lambda each: -predicted[each]),
        HOSTILE: others,
    }.items():
        page = ann.get(home, params={"sort": sort}).text
        assert re.findall(r'aria-label="(?:Unpin|Pin) (G\S+?)[ "]', page) == [labels[1], *wanted]
        assert ("aria-sort" in page) == (sort != HOSTILE)


def test_results_are_shown_before_they_are_recorded(
    campaign: Campaign, labels: list[str], home: str, ann: Browser
) -> None:
    before = campaign.head
    page = ann.post(f"{home}/results", files=results(campaign, labels, r0=[0.1, 0.2, 0.3, 900.0]))
    assert page.status_code == 200
    assert campaign.head == before
    assert "4 experiments measured" in page.text
    assert "Out of scale" in page.text
    address = re.search(rf'action="({home}/results/[0-9a-f]+)"', page.text)[1]
    fields = dict(re.findall(r'type="hidden" name="(\w+)" value="([^"]+)"', page.text))
    done = ann.send("POST", address, data=fields)
    assert (done.status_code, done.headers["location"]) == (303, home)
    assert campaign.batch().states == ("measured",) * 4
    assert "4 wells told, 4 experiments measured" in ann.get(home).text
    assert ann.send("POST", address, data=fields).status_code == 404  # the file was used


def test_results_are_shown_again_if_the_campaign_has_changed_meanwhile(
    campaign: Campaign, labels: list[str], home: str, ann: Browser
) -> None:
    page = ann.post(f"{home}/results", files=results(campaign, labels))
    address = re.search(rf'action="({home}/results/[0-9a-f]+)"', page.text)[1]
    fields = dict(re.findall(r'type="hidden" name="(\w+)" value="([^"]+)"', page.text))
    campaign.tell(measured(labels[:1], campaign.readouts))
    before = campaign.head
    late = ann.send("POST", address, data=fields)
    assert late.status_code == 409
    assert "1 well, left as it is" in late.text
    assert "3 experiments measured" in late.text
    assert "What happened since" in late.text
    assert campaign.head == before
    fields |= dict(re.findall(r'type="hidden" name="(\w+)" value="([^"]+)"', late.text))
    assert ann.send("POST", address, data=fields).status_code == 303


def test_recorded_values_change_only_as_corrections_with_a_reason(
    campaign: Campaign, labels: list[str], home: str, ann: Browser
) -> None:
    campaign.tell(measured(labels, campaign.readouts))
    other = results(campaign, labels, r0=[0.5, 0.6, 0.7, 0.8])
    page = ann.post(f"{home}/results", files=other)
    assert page.status_code == 422
    assert "never overwritten" in page.text
    page = ann.post(f"{home}/results", files=other, kind="correction")
    assert "4 wells" in said(page.text)
    address = re.search(rf'action="({home}/results/[0-9a-f]+)"', page.text)[1]
    fields = dict(re.findall(r'type="hidden" name="(\w+)" value="([^"]+)"', page.text))
    assert ann.send("POST", address, data=fields).status_code == 422  # without a reason
    assert ann.send("POST", address, data={**fields, "reason": "typing error"}).status_code == 303
    assert set(campaign.wells()["state"]) == {"counts", "corrected"}


@pytest.mark.parametrize(
    ("content", "refused"),
    [
        (b"perturbation,r0,r1,r2,campaign\nG0+G1,1,2,3,other-00000000\n", "those of campaign 'other-00000000'"),
        (b"perturbation,r0\nG0+G1,1\n", "more column"),
        (b"", "No columns"),
        (b"\x00\xff\xfe", ""),
        (f"perturbation,r0,r1,r2\n{HOSTILE},1,2,3\n".encode(), "holds a double quote"),
    ],
)
def test_a_wrong_file_is_refused_and_nothing_is_recorded(
    campaign: Campaign, home: str, ann: Browser, content: bytes, refused: str
) -> None:
    before = campaign.head
    page = ann.post(f"{home}/results", files={"results": (f"{HOSTILE}.csv", content)})
    assert page.status_code == 422
    assert refused in said(page.text).partition("Refused")[2], said(page.text)
    assert "<script>alert" not in page.text
    assert campaign.head == before
    assert ann.post(f"{home}/results", files={"results": ("../../etc/passwd", content)}).status_code == 422


def test_results_that_are_too_large_are_for_the_command_line(
    home: str, ann: Browser, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("inverse_design.app.pages.results.MOST_RESULTS", 10)
    page = ann.post(f"{home}/results", files={"results": ("a.csv", b"perturbation,r0\n")})
    assert (page.status_code, "give it to the command line" in page.text) == (413, True)


def test_results_are_taken_back(campaign: Campaign, labels: list[str], home: str, ann: Browser) -> None:
    sequence = campaign.tell(measured(labels, campaign.readouts)).sequence
    page = ann.get(f"{home}/wells").text
    assert f'value="{sequence}:0"' in page
    assert ann.post(f"{home}/retract", well=[f"{sequence}:0"], reason="").status_code == 422
    unticked = ann.post(f"{home}/retract", reason="contaminated")
    assert (unticked.status_code, "tick some of the list" in unticked.text) == (422, True)
    done = ann.post(f"{home}/retract", well=[f"{sequence}:0", f"{sequence}:2"], reason="contaminated")
    assert done.status_code == 303
    assert campaign.batch().states == ("ordered", "measured", "ordered", "measured")
    assert "contaminated" in ann.get(f"{home}/history").text


def test_wells_are_moved_and_the_export_has_them_so(
    campaign: Campaign, labels: list[str], home: str, ann: Browser
) -> None:
    before = plate_of(campaign, campaign.batch())
    held = {each.well: each.perturbation for each in before.wells}
    empty = next(f"A{column:02d}" for column in range(1, 13) if f"A{column:02d}" not in held)
    first, second = [each.well for each in before.wells][:2]
    moves = f"1:{first}>1:{empty} 1:{first}>1:{second}"  # what was second is first now
    assert ann.post(f"{home}/rounds/1/plate", made=f"{home}/rounds/1/plate", moves=moves).status_code == 303
    table = pd.read_csv(io.StringIO(ann.get(f"{home}/rounds/1/export").text))
    found = dict(zip(table["well"], table["perturbation"], strict=True))
    assert found == {**{k: v for k, v in held.items() if k != second}, empty: held[first], first: held[second]}
    campaign.withdraw([labels[0]])
    assert labels[0] not in set(plate_of(campaign, campaign.batch()).table["perturbation"])
    for wrong in ("1:Z01>1:A01", "9:A01>1:A01", "1:A01", "", "1:A01>1:H99"):
        refused = ann.post(f"{home}/rounds/1/plate", moves=wrong)
        assert (refused.status_code, f'<a href="{home}">Back' in refused.text) == (422, True)
    assert ann.get(f"{home}/rounds/1/export?form=xlsx").content.startswith(b"PK")


def test_two_people_never_overwrite_each_other(
    campaign: Campaign, labels: list[str], home: str, enter: Callable[[str], Browser]
) -> None:
    ann, tom = enter("ann"), enter("tom")
    page = tom.get(home).text
    fields = dict(re.findall(r'type="hidden" name="(csrf|revision)" value="([^"]+)"', page))
    ann.post(f"{home}/drop", label=labels[0], reason="clone is lost")
    late = tom.send("POST", f"{home}/drop", data={**fields, "label": labels[1], "reason": f"mine {HOSTILE}"})
    assert late.status_code == 409
    assert "clone is lost" in late.text  # what has changed
    assert f"mine {html.escape(HOSTILE, quote=True)}" in late.text.replace("&#34;", "&quot;").replace(
        "&#39;", "&#x27;"
    )
    assert campaign.batch().states == ("withdrawn", "proposed", "proposed", "proposed")
    changes = tom.get(f"{home}/changes?since={fields['revision']}").text
    assert "ann" in changes
    assert "clone is lost" in changes
    again = dict(re.findall(r'type="hidden" name="(csrf|revision)" value="([^"]+)"', late.text))
    assert tom.send("POST", f"{home}/drop", data={**again, "label": labels[1]}).status_code == 303
    assert campaign.batch().states == ("withdrawn", "withdrawn", "proposed", "proposed")


def test_a_store_that_goes_away_and_comes_back(home: str, place: Path, ann: Browser) -> None:
    page = ann.get(home).text
    fields = dict(re.findall(r'type="hidden" name="(csrf|revision)" value="([^"]+)"', page))
    away = place.rename(place.with_name("away.db"))
    for answer in (ann.get(home), ann.get("/"), ann.send("POST", f"{home}/order", data=fields)):
        assert answer.status_code == 503
        assert "is gone" in answer.text
        assert ("Nothing was recorded" in answer.text) == (answer.request.method == "POST")
        assert "Traceback" not in answer.text
    assert not place.exists()
    place.write_bytes(b"no database")
    assert ann.get(home).status_code == 503
    away.replace(place)
    assert ann.get(home).status_code == 200


def test_a_full_disk_is_said_without_paths_of_the_server(
    campaign: Campaign, labels: list[str], home: str, ann: Browser, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_source: object, _sink: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "/srv/secret/file")

    monkeypatch.setattr("shutil.copyfileobj", full)
    page = ann.post(f"{home}/results", files=results(campaign, labels))
    assert page.status_code == 503
    assert "No space left on device. Nothing was recorded." in page.text
    assert "/srv" not in page.text


def test_a_campaign_that_a_restored_backup_does_not_have_is_gone(home: str, place: Path, ann: Browser) -> None:
    backup = place.read_bytes()
    settings = replace(SETTINGS, name="young")
    made = Campaign.create(starting_screen(), target=TARGET, settings=settings, store=open_store(place))
    assert made.key in ann.get("/").text
    place.write_bytes(backup)
    page = ann.get("/")
    assert page.status_code == 200
    assert home in page.text
    assert made.key not in page.text


def test_hostile_names_are_shown_literally(place: Path, ann: Browser) -> None:
    settings = replace(SETTINGS, name=HOSTILE, target=HOSTILE)
    store = open_store(place)
    made = Campaign.create(starting_screen(), target=TARGET, settings=settings, store=store, actor=HOSTILE)
    made.ask(2, FirstPairs())
    made.order()
    home = f"/campaigns/{made.key}"
    for path in ("/", home, f"{home}/history", f"{home}/wells", f"{home}/rounds/1/plate", f"{home}/curve.svg"):
        answer = ann.get(path)
        assert answer.status_code == 200, path
        assert "<script>alert" not in answer.text, path
        assert path.endswith(".svg") or HOSTILE in html.unescape(answer.text), path


def test_a_campaign_without_a_round_has_a_page(place: Path, ann: Browser) -> None:
    settings = replace(SETTINGS, name="young")
    made = Campaign.create(starting_screen(), target=TARGET, settings=settings, store=open_store(place))
    for path in ("", "/curve.svg", "/coverage.svg", "/wells", "/history"):
        assert ann.get(f"/campaigns/{made.key}{path}").status_code == 200, path
    assert "The first round" in ann.get(f"/campaigns/{made.key}").text


@pytest.mark.parametrize("path", ["/campaigns/none", "/campaigns/none/history", "/jobs/" + "0" * 32, "/nowhere"])
def test_what_is_not_there_is_said(ann: Browser, path: str) -> None:
    assert ann.get(path).status_code == 404


def test_rounds_that_are_not_there(home: str, ann: Browser) -> None:
    assert ann.get(f"{home}/rounds/7/plate").status_code == 404
    assert ann.get(f"{home}/rounds/x/plate").status_code == 422
