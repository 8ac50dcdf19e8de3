"""Tables as people save them are read for what they say."""

import gzip
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from surrogates.data.io.readers import read_screen
from surrogates.errors import DataError

LABELS = ("A", "B", "C", "A+B", "A+C", "B+C")
VALUES = np.random.default_rng(5).normal(size=(len(LABELS), 3)).round(6)
PLAIN = pd.DataFrame(VALUES, columns=["g1", "g2", "g3"]).assign(condition=LABELS)[["condition", "g1", "g2", "g3"]]


def read(path: Path) -> pd.DataFrame:
    screen = read_screen(path)
    return pd.DataFrame(screen.effects.numpy(), index=list(screen.labels), columns=list(screen.readouts))


def same(found: pd.DataFrame) -> None:
    wanted = PLAIN.set_index("condition")
    np.testing.assert_allclose(found.loc[list(LABELS), list(wanted.columns)], wanted, atol=1e-12)
    assert found.shape == wanted.shape


@settings(max_examples=60, deadline=None)
@given(
    delimiter=st.sampled_from([",", "\t", ";", "|"]),
    decimal=st.sampled_from(".,"),
    ending=st.sampled_from([".csv", ".tsv", ".txt", ".csv.gz"]),
    encoding=st.sampled_from(["utf-8", "utf-8-sig", "utf-16"]),
    newline=st.sampled_from(["\n", "\r\n"]),
    order=st.permutations(range(len(LABELS))),
    index=st.sampled_from(["kept", "written"]),
)
def test_any_way_to_write_a_table_reads_the_same(
    tmp_path_factory: pytest.TempPathFactory,
    delimiter: str,
    decimal: str,
    ending: str,
    encoding: str,
    newline: str,
    order: list[int],
    index: str,
) -> None:
    mark = decimal if delimiter != "," else "."
    table = PLAIN.iloc[list(order)].reset_index(drop=True)
    text = table.to_csv(sep=delimiter, decimal=mark, index=index == "written", lineterminator=newline)
    path = tmp_path_factory.mktemp("written") / f"t{ending}"
    raw = text.encode(encoding)
    path.write_bytes(gzip.compress(raw) if ending.endswith("gz") else raw)
    same(read(path))


def test_wide_tables_have_lines_longer_than_any_field(tmp_path: Path) -> None:
    readouts = [f"ENSG{number:011}" for number in range(9_000)]
    values = (VALUES[row, 0] * np.linspace(1.0, 2.0, len(readouts)) for row in range(3))
    rows = [",".join([f'"{name}"', *map(str, row)]) for name, row in zip(("A", "B", "A+B"), values, strict=True)]
    header = ",".join(f'"{name}"' for name in ["perturbation", *readouts])
    (tmp_path / "wide.csv").write_text("\n".join([header, *rows]) + "\n")
    assert read(tmp_path / "wide.csv").shape == (3, len(readouts))


def test_a_sheet_is_read(tmp_path: Path) -> None:
    PLAIN.to_excel(tmp_path / "t.xlsx", index=False)
    same(read(tmp_path / "t.xlsx"))
    with pd.ExcelWriter(tmp_path / "two.xlsx") as book:
        PLAIN.to_excel(book, sheet_name="a", index=False)
        PLAIN.to_excel(book, sheet_name="b", index=False)
    with pytest.raises(DataError, match="2 sheets"):
        read(tmp_path / "two.xlsx")
    with pd.ExcelWriter(tmp_path / "empty.xlsx") as book:
        pd.DataFrame().to_excel(book, sheet_name="Sheet1")
        PLAIN.to_excel(book, sheet_name="data", index=False)
    same(read(tmp_path / "empty.xlsx"))


@pytest.mark.parametrize("column", ["log10_dose", "time_h", "Timepoint", "hours", "treatment time (min)"])
def test_doses_and_times_are_never_readouts_or_averaged(column: str) -> None:
    table = pd.DataFrame({"drug": ["A", "A", "B", "B", "C"], column: [1, 2, 3, 4, 5], "y": [0.1, 0.3, 0.2, 1, 2]})
    with pytest.raises(DataError, match=r"'A' is measured more than once, .* --dose-col"):
        read_screen(table)
    single = read_screen(table.iloc[::2])
    assert single.readouts == ("y",)
    assert column in single.provenance["dropped columns"]


def test_columns_that_are_no_readouts_are_left_out_in_a_line(tmp_path: Path) -> None:
    more = {"ncounts": 7.0, "percent_mito": [0.1 * row for row in range(6)], "pval": 0.5, "batch": [1, 2] * 3}
    PLAIN.assign(**more).to_csv(tmp_path / "t.csv")  # with row numbers
    same(read(tmp_path / "t.csv"))
    said = read_screen(tmp_path / "t.csv").provenance["dropped columns"]
    assert all(name in said for name in ("Unnamed: 0", "ncounts", "percent_mito", "pval"))


def test_one_row_per_condition_and_readout_is_turned(tmp_path: Path) -> None:
    long = PLAIN.melt(id_vars="condition", var_name="readout", value_name="logFC")
    long.sample(frac=1, random_state=1).to_csv(tmp_path / "t.csv", index=False)
    same(read(tmp_path / "t.csv"))
    long.iloc[:-1].to_csv(tmp_path / "short.csv", index=False)
    with pytest.raises(DataError, match="several values of 'readout'"):
        read(tmp_path / "short.csv")


def test_a_table_of_readouts_by_conditions_is_refused(tmp_path: Path) -> None:
    PLAIN.set_index("condition").T.rename_axis("gene").to_csv(tmp_path / "t.csv")
    with pytest.raises(DataError, match="transpose the table"):
        read(tmp_path / "t.csv")


def test_replicates_become_standard_errors_and_controls_are_subtracted(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    parts = [PLAIN.assign(replicate=number) for number in range(1, 4)]
    control = PLAIN.iloc[:4].assign(condition="NTC", replicate=range(4))
    control[["g1", "g2", "g3"]] = 2.0
    table = pd.concat([*parts, control], ignore_index=True)
    noise = rng.normal(size=(len(table), 3)) * 0.1
    table[["g1", "g2", "g3"]] += noise
    table.to_csv(tmp_path / "t.csv", index=False)
    screen = read_screen(tmp_path / "t.csv")
    assert screen.provenance["rows"] == "6 conditions in 22 rows; the mean of 4 control row(s) is subtracted"
    values = table.groupby("condition")[["g1", "g2", "g3"]].mean()
    np.testing.assert_allclose(screen.effects, values.loc[list(screen.labels)] - values.loc["NTC"], atol=1e-12)
    residual = table[["g1", "g2", "g3"]] - values.loc[table["condition"]].to_numpy()
    variance = (residual**2).sum() / (22 - 7)
    assert screen.standard_errors is not None
    np.testing.assert_allclose(screen.standard_errors[0], np.sqrt(variance / 3 + variance / 4), rtol=1e-12)


def test_both_orders_of_a_pair_are_one_condition(tmp_path: Path) -> None:
    twice = pd.concat([PLAIN, PLAIN.iloc[3:].assign(condition=["B+A", "C+A", "C+B"])])
    twice.to_csv(tmp_path / "t.csv", index=False)
    same(read(tmp_path / "t.csv"))


def test_a_readout_that_never_changes_is_left_out_in_a_line(tmp_path: Path) -> None:
    PLAIN.assign(OFF1=0.0).to_csv(tmp_path / "t.csv", index=False)
    same(read(tmp_path / "t.csv"))
    assert read_screen(tmp_path / "t.csv").provenance["dropped readouts"] == "1 that never change"


def test_readouts_that_a_spreadsheet_made_dates_are_named(tmp_path: Path) -> None:
    PLAIN.rename(columns={"g1": "1-Mar", "g2": "44256"}).to_csv(tmp_path / "t.csv", index=False)
    notes = [text for key, text in read_screen(tmp_path / "t.csv").provenance.items() if key.startswith("note ")]
    assert any("1-Mar, 44256 among the readouts look like dates" in note for note in notes)


@pytest.mark.parametrize(
    "column", ["treatment_type", "stimulus", "acid", "time", "medium", "passage", "temperature"]
)
def test_rows_of_one_condition_in_several_states_are_not_averaged(tmp_path: Path, column: str) -> None:
    twice = pd.concat([PLAIN.assign(**{column: "one"}), PLAIN.assign(**{column: "two"})])
    twice.to_csv(tmp_path / "t.csv", index=False)
    with pytest.raises(DataError, match=f"several values of '{column}'"):
        read(tmp_path / "t.csv")


@pytest.mark.parametrize("column", ["bio_replicate", "Rep1", "donor_id", "plate", "sgRNA", "batch.date"])
def test_rows_of_one_condition_in_several_replicates_are(tmp_path: Path, column: str) -> None:
    twice = pd.concat([PLAIN.assign(**{column: "one"}), PLAIN.assign(**{column: "two"})])
    twice.to_csv(tmp_path / "t.csv", index=False)
    same(read(tmp_path / "t.csv"))


NO_READOUTS = """
X V1 id ...1 adj.P.Val nCount_RNA mean_umi_count cell_count gem_group core_adjusted_UMI_count p-value time day
neg_log10_pvalue baseMean lfcSE percent.mt ncounts ngenes nperts percent_mito percent_ribo batch rank n_umis
"""


@pytest.mark.parametrize("name", NO_READOUTS.split())
def test_whatever_is_called_like_no_readout_is_left_out(name: str) -> None:
    numbers = np.random.default_rng(0).permutation(6)  # of the rows, whatever a column of them is called
    values = numbers if name in {"X", "V1", "id", "...1"} else numbers * 3.5
    found = read_screen(pd.DataFrame({"perturbation": list("ABCDEF"), name: values, "g": np.linspace(-1, 1, 6)}))
    assert found.readouts == ("g",)
    assert name in found.provenance["dropped columns"]


def test_a_column_with_the_same_values_in_each_condition_is_no_readout() -> None:
    table = pd.DataFrame({"drug": list("AABBCC"), "level": [1, 3] * 3, "g": np.linspace(-1, 1, 6)})
    with pytest.raises(DataError, match="--dose-col level or --group-col level"):
        read_screen(table)


@pytest.mark.parametrize("sep", ["_", "-", ",", "|", ";", "/"])
def test_conditions_in_columns_are_seen_whatever_divides_their_parts(sep: str) -> None:
    turned = PLAIN.assign(condition=PLAIN["condition"].str.replace("+", sep)).set_index("condition").T
    with pytest.raises(DataError, match="transpose the table"):
        read_screen(turned.rename_axis("gene").reset_index())
    with pytest.raises(DataError, match="transpose the table"):
        read_screen(turned.iloc[:, :3].assign(DMSO=0.1).rename_axis("gene").reset_index())


@pytest.mark.parametrize("column", ["contrast", "comparison", "group"])
def test_a_long_table_is_turned_by_the_column_that_holds_combinations(column: str) -> None:
    long = PLAIN.melt(id_vars="condition", var_name="gene", value_name="logFC").rename(
        columns={"condition": column}
    )
    assert set(read_screen(long).labels) == set(PLAIN["condition"])


@pytest.mark.parametrize("sep", [",", "\t", ";"])
@pytest.mark.parametrize(
    ("above", "said"),
    [
        ("# made by X, on 2 May\n#\n\n# n = 3\n", "left out above the header, beginning with #: 4 lines"),
        ('"# made by X",,\n', "left out above the header, beginning with #: 1 line"),
        ("# a,b,c\n# a\tb\tc\n# a;b;c\n", "beginning with #: 3 lines"),  # as many fields as the table
        ("#v1\n#", "left out above the header, beginning with #: 1 line"),  # the header itself
        ("#", ""),
        ("", ""),
    ],
)
def test_lines_above_the_header_are_left_out_and_said(tmp_path: Path, sep: str, above: str, said: str) -> None:
    table = "perturbation,p0,p1\nA,1.5,2\nB,0,1\nA+B,3,1\n".replace(",", sep)
    (tmp_path / "plain.csv").write_text(table)
    (tmp_path / "commented.csv").write_text(above + table)
    plain, found = (read_screen(tmp_path / f"{name}.csv") for name in ("plain", "commented"))
    assert found.labels == plain.labels == ("A", "B", "A+B")
    assert found.readouts == plain.readouts
    assert bool((found.effects == plain.effects).all())
    assert said in " ".join(found.provenance.values())


def test_a_table_of_comments_is_refused(tmp_path: Path) -> None:
    (tmp_path / "x.csv").write_text("# a,b\n# c,d\n")
    with pytest.raises(DataError):
        read_screen(tmp_path / "x.csv")
