from dataclasses import replace
from xml.etree import ElementTree as ET

from strategies.judged import cards

from inverse_design.cli.verbs.calibration import reliability_of
from inverse_design.plot.calibration import calibration_svg
from inverse_design.validate.calibration_rows import calibration_rows
from inverse_design.validate.judged import Bin
from surrogates.evaluation.rows import Row

NAME = "{http://www.w3.org/2000/svg}"


def drawn(rows: list[Row], bins: dict[str, tuple[Bin, ...]]) -> ET.Element:
    return ET.fromstring(calibration_svg(rows, bins, title="Calibration of <mine> & yours"))  # noqa: S314


def test_the_card_is_a_picture_with_a_panel_for_each_class() -> None:
    rows = calibration_rows(cards(), dataset="d", model="m", seed=0)
    root = drawn(rows, {"all_readouts": reliability_of(cards()[0])})
    texts = [each.text for each in root.iter(f"{NAME}text")]
    assert "double, 2 of 2 seen (n = 16)" in texts
    assert "single, unseen (n = 10)" in texts
    assert "share that came true, all readouts" in texts
    width, height = float(root.attrib["width"]), float(root.attrib["height"])
    for circle in root.iter(f"{NAME}circle"):
        assert 0 <= float(circle.attrib["cx"]) <= width
        assert 0 <= float(circle.attrib["cy"]) <= height
    for box in root.iter(f"{NAME}rect"):
        assert not box.attrib["height"].startswith("-")
    # One circle for each class and level that it could be calibrated at, one for each bin, one in the legend.
    circles = len(list(root.iter(f"{NAME}circle")))
    levels = sum(len(card.behind) for card in cards())
    assert circles == levels + len(reliability_of(cards()[0])) + 1
    assert root[0].text == "Calibration of <mine> & yours"


def test_more_coverage_stands_higher() -> None:
    rows = calibration_rows(cards()[:1], dataset="d", model="m", seed=0)

    def height_of(coverage: float) -> float:
        some = [
            replace(row, value=coverage, low=coverage, high=coverage) if row.metric == "coverage_90_all" else row
            for row in rows
        ]
        return min(float(each.attrib["cy"]) for each in list(drawn(some, {}).iter(f"{NAME}circle"))[1:])

    assert height_of(1.0) < height_of(0.99)


def test_nothing_to_draw_is_an_empty_picture() -> None:
    assert drawn([], {}).attrib["role"] == "img"
