"""Plate maps: every replicate once, no well twice, controls all over, the same from the same seed."""

from collections import Counter
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from inverse_design.campaign.plate import CONTROL_LABEL, MAP_COLUMNS, PlateLayout, lay_out
from inverse_design.errors import PlateError

SHAPES = {24: (4, 6), 96: (8, 12), 384: (16, 24)}


@st.composite
def layouts(draw: st.DrawFn) -> dict[str, Any]:
    size = draw(st.sampled_from(sorted(SHAPES)))
    edges = draw(st.sampled_from(["used", "empty"]))
    rows, columns = SHAPES[size]
    wells = rows * columns if edges == "used" else (rows - 2) * (columns - 2)
    return {
        "size": size,
        "edges": edges,
        "controls": draw(st.integers(0, min(wells // 2, 12))),
        "replicates": draw(st.integers(1, 4)),
        "seed": draw(st.integers(0, 99)),
    }


def labels(count: int) -> list[str]:
    return [f"G{number:03d}" for number in range(count)]


@settings(max_examples=15)
@given(stated=layouts(), count=st.integers(1, 60))
def test_a_map_holds_every_replicate_once_and_no_well_twice(stated: dict[str, Any], count: int) -> None:
    layout = PlateLayout(**stated)
    found = lay_out(labels(count), layout)
    samples = [well for well in found.wells if well.role == "sample"]
    assert Counter((well.perturbation, well.replicate) for well in samples) == {
        (label, copy): 1 for label in labels(count) for copy in range(1, layout.replicates + 1)
    }
    assert len({(well.plate, well.well) for well in found.wells}) == len(found.wells)
    controls = Counter(well.plate for well in found.wells if well.role == "control")
    assert controls == (dict.fromkeys(range(1, found.plates + 1), layout.controls) if layout.controls else {})
    assert lay_out(labels(count), layout) == found


@settings(max_examples=15)
@given(stated=layouts(), count=st.integers(1, 60))
def test_no_plate_too_many_and_all_equally_full(stated: dict[str, Any], count: int) -> None:
    layout = PlateLayout(**stated)
    found = lay_out(labels(count), layout)
    full = Counter(well.plate for well in found.wells)
    assert found.plates == -(-count * layout.replicates // layout.room)
    assert max(full.values()) - min(full.values()) <= 1
    assert max(full.values()) <= len(layout.places)


@settings(max_examples=15)
@given(stated=layouts(), count=st.integers(1, 60))
def test_replicates_are_spread_over_the_plates(stated: dict[str, Any], count: int) -> None:
    found = lay_out(labels(count), PlateLayout(**stated))
    copies = Counter((well.plate, well.perturbation) for well in found.wells if well.role == "sample")
    for plate in range(1, found.plates + 1):
        here = [copies[plate, label] for label in labels(count)]
        assert max(here) - min(here) <= 1


@settings(max_examples=15)
@given(stated=layouts())
def test_edges_stay_empty_if_asked(stated: dict[str, Any]) -> None:
    layout = PlateLayout(**{**stated, "edges": "empty", "controls": min(stated["controls"], 4)})
    rows, columns = SHAPES[layout.size]
    for well in lay_out(labels(40), layout).wells:
        assert 0 < ord(well.row) - ord("A") < rows - 1
        assert 1 < well.column < columns
        assert well.well == f"{well.row}{well.column:02d}"


@pytest.mark.parametrize("seed", range(20))
def test_controls_are_all_over_the_plate(seed: int) -> None:
    wells = lay_out(labels(24), PlateLayout(seed=seed)).wells
    controls = [well for well in wells if well.role == "control"]
    # A base-2 net of eight points: one in each eighth of the height, one in each eighth of the width.
    assert Counter(well.row for well in controls) == dict.fromkeys("ABCDEFGH", 1)
    assert len({well.column for well in controls}) >= 6
    assert {(well.column - 1) // 3 for well in controls} == {0, 1, 2, 3}
    assert {well.perturbation for well in controls} == {CONTROL_LABEL}


def test_the_seed_decides_and_experiments_do_not_stand_in_their_order() -> None:
    first, other = (lay_out(labels(24), PlateLayout(seed=seed)) for seed in (0, 1))
    assert first.wells != other.wells
    placed = [well.perturbation for well in first.wells if well.role == "sample" and well.replicate == 1]
    assert placed != sorted(placed)


def test_the_table_has_one_row_per_well() -> None:
    found = lay_out(["KLF1", "CEBPE+KLF1"], PlateLayout(size=24, controls=2, replicates=3))
    assert tuple(found.table) == MAP_COLUMNS
    assert len(found.table) == len(found.wells) == 8
    assert found.table["replicate"].dtype.kind == "i"


@pytest.mark.parametrize(
    ("stated", "message"),
    [
        ({"size": 48}, "plates of 48 wells are not known; give 24, 96, 384"),
        ({"controls": 96}, "96 controls leave none of 96 wells"),
        ({"controls": 60, "edges": "empty"}, "60 controls leave none of 60 wells"),
        ({"replicates": 0}, "replicates = 0: give at least 1"),
        ({"controls": -1}, "controls = -1: give at least 0"),
    ],
)
def test_impossible_layouts_are_refused(stated: dict[str, Any], message: str) -> None:
    with pytest.raises(PlateError, match=message):
        PlateLayout(**stated)


@pytest.mark.parametrize(
    ("wanted", "message"),
    [
        ([], "no experiment"),
        (["KLF1", "KLF1"], "'KLF1' is laid out twice; state replicates instead"),
        (["KLF1", " "], "empty label"),
    ],
)
def test_labels_that_cannot_be_laid_out_are_refused(wanted: list[str], message: str) -> None:
    with pytest.raises(PlateError, match=message):
        lay_out(wanted, PlateLayout())
