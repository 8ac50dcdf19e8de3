import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from strategies.perturbations import libraries

from surrogates.data.io.annotated import LEFT_OUT
from surrogates.data.io.design import Design, design_of
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
        ({"gene": ["CTRL", "CTRC", "A"]}, "a word for controls and a gene .* these 3; .* --reference-key '' for"),
        ({"gene": ["A"] * 2, "cell_type": ["x", "y"], "cell_line": ["z", "z"]}, "with group_col="),
        ({"drug": ["A"] * 2, "dose": [1, 2], "dose_value": [3, 4]}, "with dose_col="),
        ({"x": [1.0], "y": [2.0]}, "no column names what was done, among 'x', 'y'"),
    ],
)
def test_ties_are_refused_by_name(columns: dict[str, list[object]], message: str) -> None:
    with pytest.raises(DataError, match=message):
        detect(pd.DataFrame(columns), NOTHING)


def test_ctrl_is_a_gene_if_stated() -> None:
    table = pd.DataFrame({"gene": ["CTRL", "CTRC", "A"]})
    assert labels(design_of(table, Dialect(reference_key=""))) == ["CTRL", "CTRC", "A"]
    assert labels(design_of(table, Dialect(reference_key="CTRL"))) == ["", "CTRC", "A"]
    assert labels(design_of(table.iloc[[0, 2]], NOTHING)) == ["", "A"]


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


def test_an_empty_separator_says_that_no_label_is_a_combination() -> None:
    table = pd.DataFrame({"condition": ["A", "B", "A_B"]})
    assert labels(design_of(table, NOTHING)) == ["A", "B", "A+B"]
    assert labels(design_of(table, Dialect(sep=""))) == ["A", "B", "A_B"]


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


@pytest.mark.parametrize("label", ["unassigned", "nan", "None", "Multiplet", "doublet", "negative", "unknown"])
def test_cells_without_a_call_are_left_out_with_a_count(label: str) -> None:
    design = design_of(pd.DataFrame({"gene": ["A", label, "B", label, None, "ctrl"]}), NOTHING)
    assert design.codes.tolist() == [0, LEFT_OUT, 1, LEFT_OUT, LEFT_OUT, 2]
    assert design.left_out == {f"labelled {label!r}, of which nothing is known": 2, "without a label": 1}
    assert f"2 labelled {label!r}" in design.provenance["dropped rows"]


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("drug", "drug2"),
        ("Drug1", "Drug2"),
        ("gene", "gene_b"),
        ("gene1", "gene2"),
        ("X_1", "X_2"),
        ("drug", "drug_combination"),
        ("anchor", "library"),
        ("row", "col"),
    ],
)
def test_the_column_of_a_partner_is_read_by_its_name(first: str, second: str) -> None:
    names = {first.replace("X", "target"): ["A", "B", "A"], second.replace("X", "target"): [None, "NT", "B"]}
    design = design_of(pd.DataFrame({**names, "score": [1.0, 2.0, 3.0]}), NOTHING)
    assert [one.label for one in design.perturbations] == ["A", "B", "A+B"]


def test_several_controls_are_one_when_stated() -> None:
    table = pd.DataFrame({"gene": ["A", "non-targeting", "untreated", "A+untreated", "B"]})
    with pytest.raises(DataError, match="--reference-key 'non-targeting' --reference-key 'untreated'"):
        design_of(table, NOTHING)
    with pytest.raises(DataError, match="'untreated' in 'gene' looks like a control as well"):
        design_of(table, Dialect(reference_key="non-targeting"))
    design = design_of(table, Dialect(reference_key=("non-targeting", "untreated")))
    assert [one.label for one in design.perturbations] == ["A", "", "B"]
    assert "pooled" in design.detection.rules["control"]
    numbered = design_of(pd.DataFrame({"gene": ["A", "NegCtrl0", "NegCtrl10"]}), NOTHING)
    assert [one.label for one in numbered.perturbations] == ["A", ""]


def test_columns_whose_values_are_pooled_are_named() -> None:
    rows = 12
    table = pd.DataFrame(
        {
            "gene": ["A", "B", "ctrl"] * (rows // 3),
            "timepoint": ["24h"] * 6 + ["48h"] * 6,
            "donor": ["x"] * 3 + ["y"] * 9,
            "n_counts": range(rows),
            "guide": [f"g{number}" for number in range(rows)],
        }
    )
    notes = design_of(table, NOTHING).notes
    assert len(notes) == 2
    assert "'timepoint' varies inside of 3 condition(s) (24h, 48h)" in notes[0]
    assert "--group-col timepoint" in notes[0]
    assert "'donor' varies" in notes[1]


def test_a_target_that_stands_twice_in_a_label_leaves_its_row_out() -> None:
    design = design_of(pd.DataFrame({"gene": ["A", "B", "A+B", "A+A"]}), NOTHING)
    assert design.codes.tolist() == [0, 1, 2, LEFT_OUT]
    assert design.left_out == {"that name a target twice, such as 'A+A'": 1}


@pytest.mark.parametrize(
    ("column", "value", "dose"),
    [
        ("dose_nM", 10, 0.01),
        ("concentration", 10, 10.0),
        ("dose_mM", 1, 1000.0),
        ("Dose [nM]", 10, 0.01),
        ("Concentration (µM)", 10, 10.0),
    ],
)
def test_columns_of_doses_say_their_unit(column: str, value: float, dose: float) -> None:
    design = design_of(pd.DataFrame({"drug": ["A"], column: [value]}), NOTHING)
    assert design.perturbations[0].interventions[0].dose == pytest.approx(dose)


def test_a_column_of_units_goes_with_the_doses() -> None:
    table = pd.DataFrame({"drug": ["A", "B"], "dose_val": [10, 2], "dose_unit": ["nM", "mM"]})
    doses = [one.interventions[0].dose for one in design_of(table, NOTHING).perturbations]
    assert doses == pytest.approx([0.01, 2000.0])


@pytest.mark.parametrize(
    ("technique", "mode"),
    [
        ("CRISPR KO", "knockout"),
        ("dCas9-KRAB", "knockdown"),
        ("VPR", "activation"),
        ("Cas13", "knockdown"),
        ("gene deletion", "knockout"),
        ("ORF", "activation"),
        ("ligand", "compound"),
        ("shRNA", "knockdown"),
    ],
)
def test_techniques_are_understood_as_they_are_written(technique: str, mode: str) -> None:
    design = design_of(pd.DataFrame({"gene": ["A"], "perturbation_type": [technique]}), NOTHING)
    assert design.perturbations[0].interventions[0].mode == mode


def test_guides_of_a_gene_are_seen_and_collapsed_when_asked() -> None:
    labels = ["KLF1_1", "KLF1_2", "sgNKX2-1-1", "sgNKX2-1_2", "NKX2-1", "KLF1_1+NKX2-1", "KLF1_1+KLF1_2", "NTC_1"]
    table = pd.DataFrame({"gene": labels})
    design = design_of(table, NOTHING)
    assert any("look like guides of one gene (4 targets, 2 genes)" in note for note in design.notes)
    collapsed = design_of(table, Dialect(collapse_guides=True))
    assert [one.label for one in collapsed.perturbations] == ["KLF1", "NKX2-1", "KLF1+NKX2-1", ""]
    assert collapsed.left_out == {"that name a target twice, such as 'KLF1+KLF1'": 1}


@pytest.mark.parametrize(
    "form",
    ["{}_{}", "sg{}-{}", "{}_sg{}", "{}-sg{}", "{}_gRNA{}", "{}sg{}", "sh{}-{}", "{} #{}", "{}_00{}", "{}_P1P2_{}",
     "{}_s{}", "{}_+_{}05.23-P1P2"],
)  # fmt: skip
def test_guides_are_collapsed_to_their_gene(form: str) -> None:
    guides = [form.format(gene, number) for gene in ("KLF1", "MYC") for number in (1, 2)]
    found = design_of(pd.DataFrame({"perturbation": ["NTC", *guides]}), Dialect(collapse_guides=True))
    assert labels(found) == ["", "KLF1", "KLF1", "MYC", "MYC"]
    assert any("guides of one gene" in note for note in design_of(pd.DataFrame({"gene": guides}), NOTHING).notes)


def test_names_that_a_spreadsheet_broke_are_named() -> None:
    notes = design_of(pd.DataFrame({"gene": ["1-Mar", "KLF1", "klf1"]}), NOTHING).notes
    assert any("1-Mar among the targets look like dates" in note for note in notes)
    assert any("KLF1 and klf1" in note for note in notes)


def test_a_column_without_a_known_technique_says_nothing() -> None:
    table = pd.DataFrame({"gene": ["A", "B"], "modality": ["RNA", "RNA"]})
    assert detect(table, NOTHING).mode_col is None


@pytest.mark.parametrize(
    ("columns", "stated", "message"),
    [
        ({"gene": ["A", "B"], "cell_type": ["x", None]}, NOTHING, "of 'B' have no context in 'cell_type'"),
        ({"gene": ["A"], "modality": ["CRISPRi"]}, Dialect(mode="compound"), "says 'knockdown' only"),
        (
            {"gene": ["A", "B"], "modality": ["CRISPRi", "magic"]},
            NOTHING,
            "says 'magic' for 'B', which is no technique",
        ),
    ],
)
def test_missing_and_unreadable_values_are_refused(
    columns: dict[str, list[object]], stated: Dialect, message: str
) -> None:
    with pytest.raises(DataError, match=message):
        design_of(pd.DataFrame(columns), stated)


@pytest.mark.parametrize(
    ("columns", "unit"),
    [
        (("Dose [nM]",), 1e-3), (("Concentration (µM)",), 1), (("drug_dose_nM",), 1e-3), (("dosage",), 1),
        (("dose_micromolar",), 1), (("conc.",), 1), (("pert_idose",), 1), (("dose_val",), 1),
        (("concA", "concB"), 1), (("drug_1_dose", "drug_2_dose"), 1), (("dose_1_nM", "dose_2_nM"), 1e-3),
        (("dose_row", "dose_col"), 1), (("Dose 1", "Dose 2"), 1),
    ],
)  # fmt: skip
def test_columns_of_doses_are_found_by_their_words(columns: tuple[str, ...], unit: float) -> None:
    drugs = ("drug_1", "drug_2")[: len(columns)]
    rows = {**{name: ["A", "A"] for name in drugs[:1]}, **{name: ["B", "B"] for name in drugs[1:]}}
    found = design_of(pd.DataFrame({**rows, **{name: [1, 10] for name in columns}}), NOTHING)
    assert found.detection.dose_cols == columns
    doses = sorted({each.dose for one in found.perturbations for each in one.interventions})
    assert doses == [unit, 10 * unit]


@pytest.mark.parametrize("column", ["concentration_unit", "unit", "units", "doseUnit", "pert_dose_unit"])
def test_columns_of_units_are_found_by_their_words(column: str) -> None:
    table = pd.DataFrame({"drug": ["A", "B"], "dose": [1, 2], column: ["nM", "nM"]})
    assert labels(design_of(table, NOTHING)) == ["A@0.001", "B@0.002"]
    with pytest.raises(DataError, match="mg/mL"):
        design_of(table.assign(**{column: "mg/mL"}), NOTHING)


def test_doses_by_weight_are_read_when_stated() -> None:
    table = pd.DataFrame({"drug": ["A", "B"], "dose_mg_ml": [1, 2]})
    with pytest.raises(DataError, match=r"'dose_mg_ml' holds doses in 'mg'.*--dose-col"):
        design_of(table, NOTHING)
    assert labels(design_of(table, Dialect(dose_col="dose_mg_ml"))) == ["A", "B@2"]


def test_a_column_of_other_targets_is_refused_with_the_options_that_read_it() -> None:
    table = pd.DataFrame({"drug": ["A", "B", "C", "A", "B"], "also": ["none", "none", "none", "B", "C"]})
    with pytest.raises(DataError, match="--target-col drug --target-col also"):
        design_of(table, NOTHING)
    assert labels(design_of(table, Dialect(target_col=["drug", "also"]))) == ["A", "B", "C", "A+B", "B+C"]
    same = table.assign(also=table["drug"], gene=["x", "y", "x", "y", "x"])
    assert labels(design_of(same[["drug", "also"]], NOTHING)) == ["A", "B", "C", "A", "B"]


@pytest.mark.parametrize("column", ["technology", "method", "CRISPR", "library_type", "Perturbation Type"])
def test_a_technique_is_read_from_whatever_column_names_it(column: str) -> None:
    table = pd.DataFrame({"condition": ["A", "B"], column: ["CRISPRi (dCas9-KRAB)"] * 2})
    assert {each.mode for one in design_of(table, NOTHING).perturbations for each in one.interventions} == {
        "knockdown"
    }


def test_a_growth_screen_is_not_called_activation() -> None:
    found = design_of(pd.DataFrame({"gene1": ["A", "B"], "gene2": ["NTC", "A"], "score": [0.1, -0.2]}), NOTHING)
    assert found.detection.modes == ("knockout",)


def test_cells_of_which_a_part_is_unknown_are_left_out() -> None:
    found = design_of(pd.DataFrame({"condition": ["ctrl", "A", "B", "A+B", "A+unassigned"]}), NOTHING)
    assert labels(found)[:4] == ["", "A", "B", "A+B"]
    assert list(found.left_out.values()) == [1]


@pytest.mark.parametrize(
    "name", ["2-Sep", "1-Mar", "Sep-02", "2021-03-01", "44256", "1. Mrz", "3/1/2021", "2-Sep-21"]
)
def test_a_date_among_genes_is_named(name: str) -> None:
    notes = design_of(pd.DataFrame({"gene": ["KLF1", name]}), NOTHING).notes
    assert any(name in note and "dates" in note for note in notes)
