"""Pick lists fill a plate map from the wells that the library names, or say by name what is missing."""

from dataclasses import replace

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from inverse_design.campaign.library import ReagentLibrary
from inverse_design.campaign.pick_lists import ECHO, OPENTRONS, Pick, echo_list, opentrons_list, transfers_of
from inverse_design.campaign.plate import PlateLayout, lay_out
from inverse_design.errors import LibraryError, PlateError
from surrogates.data.perturbation import Perturbation

TABLE = pd.DataFrame({
    "gene": ["KLF1", "KLF1", "CEBPE", "MYC", "MYC", "901", "901@0.5", "non-targeting"],
    "reagent": ["KLF1_1", "KLF1_2", "CEBPE_1", "MYC_1", "MYC_2", "vial", "vial, diluted", "NT_1"],
    "Source Plate": ["L1", "L2", "L1", "L1", "L1", "L1", "L1", "L1"],
    "Source Well": ["A01", "A1", "b2", "C3", "C3", "AF48", "D12", "H12"],
    "Well": ["x"] * 8,
    "labware": ["nest_96_wellplate_2ml_deep"] * 8,
    "slot": ["4", "5", "4", "4", "4", "4", "4", "4"],
})  # fmt: skip
LABELS = ["CEBPE+KLF1", "KLF1+MYC", "MYC", "901", "901@0.5"]


def transfers(
    labels: list[str], library: ReagentLibrary | None = None, layout: PlateLayout | None = None
) -> tuple[Pick, ...]:
    library = ReagentLibrary.of_table(TABLE) if library is None else library
    layout = PlateLayout(24, controls=2, replicates=1) if layout is None else layout
    return transfers_of(lay_out(labels, layout), [Perturbation.parse(label) for label in labels], library)


def test_each_well_gets_each_of_its_reagents_once() -> None:
    found, layout = transfers(LABELS), PlateLayout(24, controls=2, replicates=1)
    where = {(each.plate, f"{each.row}{each.column}"): each.perturbation for each in lay_out(LABELS, layout).wells}
    got: dict[str, list[tuple[str, str]]] = {}
    for one in found:
        got.setdefault(where[one.plate, one.well], []).append((one.reagent.source_plate, one.source))
    assert got == {
        "CEBPE+KLF1": [("L1", "A1"), ("L1", "B2"), ("L2", "A1")],
        "KLF1+MYC": [("L1", "A1"), ("L1", "C3"), ("L2", "A1")],  # both guides of MYC are in one well
        "MYC": [("L1", "C3")],
        "901": [("L1", "AF48")],
        "901@0.5": [("L1", "D12")],
        "control": [("L1", "H12")] * 2,
    }


@settings(max_examples=40, deadline=None)
@given(
    labels=st.lists(st.sampled_from(LABELS), min_size=1, unique=True),
    controls=st.integers(0, 3),
    replicates=st.integers(1, 9),
    seed=st.integers(0, 99),
)
def test_a_list_fills_the_map(labels: list[str], controls: int, replicates: int, seed: int) -> None:
    layout = PlateLayout(24, controls=controls, replicates=replicates, seed=seed)
    found, library = lay_out(labels, layout), ReagentLibrary.of_table(TABLE)
    listed = echo_list(transfers(labels, layout=layout), name="one", volume=25.0)
    filled = listed.groupby(["Destination Plate Name", "Destination Well"])["Sample Name"].agg(set)
    assert len(filled) == len(found.wells)
    assert not listed.drop(columns="Sample Name").duplicated().any()
    for each in found.wells:
        genes = ["non-targeting"] if each.role == "control" else each.perturbation.split("+")
        of_genes = {one.reagent for gene in genes for one in library.by_gene[gene]}
        assert filled[f"one-p{each.plate}", f"{each.row}{each.column}"] == of_genes - {"MYC_2"}


def test_columns_are_those_of_the_machines() -> None:
    found = transfers(["MYC", "901"], layout=PlateLayout(24, controls=0, replicates=1))
    echo = echo_list(found, name="one-r1", volume=27.5)
    assert tuple(echo) == ECHO
    assert set(echo["Destination Plate Name"]) == {"one-r1-p1"}
    assert set(echo["Transfer Volume"]) == {27.5}
    robot = opentrons_list(found, labware="corning_24_wellplate_3.4ml_flat", slots=["1"], volume=2500.0)
    assert tuple(robot) == OPENTRONS
    assert min(robot.itertuples(index=False, name=None))[1:4] == ("4", "AF48", 1)
    assert set(robot["Volume (in ul)"]) == {2.5}
    assert set(robot["Dest Slot"]) == {"1"}


def test_control_wells_get_nothing_where_there_is_no_control() -> None:
    library = ReagentLibrary.of_table(TABLE.iloc[:-1])
    assert library.controls == ()
    assert len(transfers(["MYC", "CEBPE"], library)) == 2


@pytest.mark.parametrize(
    ("column", "values", "message"),
    [
        ("Source Well", {0: ""}, "does not say in which well 'KLF1_1' is; give it the columns source_plate"),
        ("Source Plate", {2: ""}, "does not say in which well 'CEBPE_1' is"),
        ("Source Well", {2: "B0"}, "'CEBPE_1' is in 'B0', which is no well, such as B7"),
        ("Source Well", {2: "AG1"}, "'CEBPE_1' is in 'AG1', which is no well"),
        ("Source Well", {2: "A1"}, "well A1 of source plate 'L1' holds 'CEBPE' and 'KLF1'; correct the library"),
    ],
)
def test_a_source_well_that_is_wrong_is_named(column: str, values: dict[int, str], message: str) -> None:
    table = TABLE.copy()
    for row, value in values.items():
        table.loc[row, column] = value
    with pytest.raises(LibraryError, match=message):
        transfers(["CEBPE+KLF1"], ReagentLibrary.of_table(table))


def test_a_dose_needs_a_row_of_its_own() -> None:
    with pytest.raises(
        LibraryError, match=r"no reagent for 'KLF1@2' .* a dose other than 1 needs a row of its own"
    ):
        transfers(["KLF1@2"])
    without = ReagentLibrary.of_table(TABLE.drop(columns=["Source Plate", "Source Well", "Well"]))
    with pytest.raises(LibraryError, match="does not say in which well 'MYC_1', 'MYC_2', 'NT_1' is"):
        transfers(["MYC"], without)


@pytest.mark.parametrize("volume", [None, 0.0, -25.0, float("nan"), float("inf")])
def test_a_volume_is_needed(volume: float | None) -> None:
    with pytest.raises(PlateError, match="how much of each reagent goes into a well, in nL: --volume"):
        echo_list(transfers(["MYC"]), name="one", volume=volume)


def test_what_a_machine_cannot_do_is_refused() -> None:
    found, labware = transfers(["MYC"]), "corning_24_wellplate_3.4ml_flat"
    with pytest.raises(PlateError, match=r"droplets of 2.5 nL, which 26 nL is not; give --volume 25"):
        echo_list(found, name="one", volume=26.0)
    with pytest.raises(PlateError, match="move 1000 nL or more; --volume is 25"):
        opentrons_list(found, labware=labware, slots=["1"], volume=25.0)
    for stated, slots in ((None, ["1"]), (labware, []), (labware, ["1", "2"])):
        with pytest.raises(PlateError, match="1 plates need --labware"):
            opentrons_list(found, labware=stated, slots=slots, volume=2000.0)
    with pytest.raises(PlateError, match="slot '4' holds two plates"):
        opentrons_list(found, labware=labware, slots=["4"], volume=2000.0)
    nowhere = [replace(one, reagent=replace(one.reagent, slot="")) for one in found]
    with pytest.raises(LibraryError, match="does not say what labware source plate 'L1' is, or in which slot"):
        opentrons_list(nowhere, labware=labware, slots=["1"], volume=2000.0)
    both = transfers(["KLF1"], ReagentLibrary.of_table(TABLE.assign(slot="4")))
    with pytest.raises(LibraryError, match=r"the library puts 'L1' \(nest.*\) and 'L2' \(nest.*\) into slot '4'"):
        opentrons_list(both, labware=labware, slots=["1"], volume=2000.0)
