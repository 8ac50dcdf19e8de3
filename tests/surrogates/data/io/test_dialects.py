import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from strategies.perturbations import libraries

from surrogates.data.io.design import LEFT_OUT, Design, design_of
from surrogates.data.io.dialects import Dialect, detect
from surrogates.data.perturbation import Perturbation
from surrogates.errors import DataError, UnknownNameError

NOTHING = Dialect()


def labels(design: Design) -> list[str]:
    return [design.perturbations[code].label for code in design.codes]


@pytest.mark.parametrize(
    ("columns", "wanted", "mode"),
    [
        ({"condition": ["ctrl", "A+ctrl", "ctrl+B", "A+B"]}, ["", "A", "B", "A+B"], "activation"),
        ({"perturbation": ["control", "A", "B", "A_B"]}, ["", "A", "B", "A+B"], "activation"),
        ({"Target_Gene": ["non-targeting", "A"]}, ["", "A"], "activation"),
        ({"target": ["A", "B"], "query": ["B", "C"]}, ["A+B", "B+C"], "activation"),
        ({"sm_name": ["Dimethyl Sulfoxide", "X 1"]}, ["", "X 1"], "compound"),
        ({"pert_iname": ["DMSO", "X"], "pert_dose": [-666, 10.0]}, ["", "X@10"], "compound"),
        ({"product_name": ["Vehicle", "X", "Y"], "dose": [0.0, 10, 0.5]}, ["", "X@10", "Y@0.5"], "compound"),
        ({"condition": ["A+B", "ctrl"], "dose_val": ["1+0.5", "1"]}, ["A+B@0.5", ""], "activation"),
        ({"drug_1": [901, 901], "drug_2": ["HN", None], "dose_1": [1, 2], "dose_2": [6, None]},
         ["901+HN@6", "901@2"], "compound"),
        ({"perturbation": ["A", "B"], "perturbation_2": [None, None]}, ["A", "B"], "activation"),
        ({"guide": ["NT", "A"], "batch": ["x", "y"]}, ["", "A"], "activation"),
        ({"Unnamed: 0": ["A", "B"], "cell_line": ["k", "k"]}, ["A", "B"], "activation"),
    ],
)  # fmt: skip
def test_dialects_are_read(columns: dict[str, list[object]], wanted: list[str], mode: str) -> None:
    design = design_of(pd.DataFrame(columns), NOTHING)
    assert labels(design) == wanted
    assert {each.mode for one in design.perturbations for each in one.interventions} == {mode}


@given(libraries(), st.sampled_from(["+", "|", ";", " & "]))
def test_design_reads_what_was_written(library: list[Perturbation], sep: str) -> None:
    table = pd.DataFrame({"condition": [*(sep.join(one.targets) for one in library), "ctrl"]})
    assert labels(design_of(table, NOTHING)) == [*(one.label for one in library), ""]


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"condition": ["A", "B"], "gene": ["A", "C"]}, r"'condition' and 'gene' .* with target_col="),
        ({"guide": ["NT", "A"], "arm": ["mock", "drug"]}, r"'guide' and 'arm' .* with target_col= .--target-col"),
        ({"gene": ["DMSO", "untreated"]}, "'DMSO', 'untreated' all look like controls .* with reference_key="),
        ({"gene": ["A"] * 2, "cell_type": ["x", "y"], "cell_line": ["z", "z"]}, "with group_col="),
        ({"drug": ["A"] * 2, "dose": [1, 2], "dose_value": [3, 4]}, "with dose_col="),
        ({"x": [1.0], "y": [2.0]}, "no column names what was done, among 'x', 'y'"),
    ],
)
def test_ties_are_refused_by_name(columns: dict[str, list[object]], message: str) -> None:
    with pytest.raises(DataError, match=message):
        detect(pd.DataFrame(columns), NOTHING)


def test_columns_of_one_content_are_no_tie() -> None:
    table = pd.DataFrame({"condition": ["A+B", "ctrl"], "perturbation": ["B+A", "ctrl"]})
    found = detect(table, NOTHING)
    assert found.target_cols == ("condition",)
    assert "targets: 'condition' (by name; the same as 'perturbation')" in found.lines()


def test_contexts_that_divide_rows_alike_are_no_tie() -> None:
    table = pd.DataFrame({"gene": ["A", "B"], "cell_type": ["x", "y"], "cell_line": ["1", "2"]})
    assert detect(table, NOTHING).context_col == "cell_type"


def test_what_is_stated_comes_first() -> None:
    table = pd.DataFrame({"condition": ["x", "y"], "guides": ["A~B", "safe"], "plate": [1, 2], "conc": [2, 0]})
    stated = Dialect("guides", "safe", "conc", "plate", "~", "knockout")
    design = design_of(table, stated)
    assert labels(design) == ["A@2+B@2", ""]
    assert design.contexts == ("1", "2")
    assert design.perturbations[0].interventions[0].mode == "knockout"


def test_a_gene_called_like_a_control_can_be_kept() -> None:
    design = design_of(pd.DataFrame({"gene": ["CTRL", "A"]}), Dialect(reference_key=""))
    assert labels(design) == ["CTRL", "A"]


@pytest.mark.parametrize(
    ("stated", "message"),
    [
        (Dialect(target_col="genes"), "unknown column 'genes': did you mean 'gene'"),
        (Dialect(reference_key="contrl"), "unknown control label 'contrl': did you mean 'control'"),
        (Dialect(group_col="line"), "unknown column 'line'"),
    ],
)
def test_unknown_names_come_with_the_nearest(stated: Dialect, message: str) -> None:
    with pytest.raises(UnknownNameError, match=message):
        detect(pd.DataFrame({"gene": ["A", "control"]}), stated)


@pytest.mark.parametrize(
    ("technique", "mode"),
    [("CRISPRa", "activation"), ("CRISPRi", "knockdown"), ("CRISPR-cas9", "knockout"), ("drug", "compound")],
)
def test_modes_come_from_the_technique(technique: str, mode: str) -> None:
    design = design_of(pd.DataFrame({"gene": ["A"], "perturbation_type": [technique]}), NOTHING)
    assert design.perturbations[0].interventions[0].mode == mode


def test_a_stated_mode_selects_rows_with_their_controls() -> None:
    table = pd.DataFrame({"gene": ["A", "ctrl"] * 2, "modality": ["CRISPRa", "CRISPRa", "CRISPRi", "CRISPRi"]})
    design = design_of(table, Dialect(mode="knockdown"))
    assert design.codes.tolist() == [LEFT_OUT, LEFT_OUT, 0, 1]


def test_a_column_without_a_known_technique_says_nothing() -> None:
    table = pd.DataFrame({"gene": ["A", "B"], "modality": ["RNA", "RNA"]})
    assert detect(table, NOTHING).mode_col is None


@pytest.mark.parametrize(
    ("columns", "stated", "message"),
    [
        ({"gene": ["A", None, "B"]}, NOTHING, "1 row.s. have no label in 'gene', the first is row 1"),
        ({"gene": ["A", "B"], "cell_type": ["x", None]}, NOTHING, "no context in 'cell_type', the first is row 1"),
        ({"gene": ["A"], "modality": ["CRISPRi"]}, Dialect(mode="compound"), "says 'knockdown' only"),
        (
            {"gene": ["A", "B"], "modality": ["CRISPRi", "magic"]},
            NOTHING,
            "says 'magic' for 'B', which is no mode",
        ),
    ],
)
def test_missing_and_unreadable_values_are_refused(
    columns: dict[str, list[object]], stated: Dialect, message: str
) -> None:
    with pytest.raises(DataError, match=message):
        design_of(pd.DataFrame(columns), stated)
