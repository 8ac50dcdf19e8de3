"""Results of differential expression are read as one condition for each comparison, or refused with the remedy."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from surrogates.data.io.readers import read_screen
from surrogates.errors import DataError

GENES, READOUTS = ("KLF1", "MYC", "NKX2-1", "KLF1+MYC"), ("R1", "R2", "R3")


def results(
    labels: Sequence[str] = GENES,
    *,
    compared: str = "contrast",
    readout: str = "gene",
    change: str = "log2FoldChange",
) -> pd.DataFrame:
    values = np.random.default_rng(0).normal(size=len(labels) * len(READOUTS)).round(3)
    rows = [(label, name) for label in labels for name in READOUTS]
    return pd.DataFrame(rows, columns=[compared, readout]).assign(**{change: values})


PROGRAMS: dict[str, Callable[[], pd.DataFrame]] = {
    "DESeq2": lambda: results([f"condition_{each}_vs_NT" for each in GENES]).assign(
        baseMean=5.0, lfcSE=0.2, stat=1.0, pvalue=0.1, padj=0.2
    ),
    "edgeR": lambda: results(compared="target", readout="symbol", change="logFC").assign(
        logCPM=3.0, F=1.0, PValue=0.1, FDR=0.2
    ),
    "limma": lambda: results(
        [f"{each} - non-targeting" for each in GENES], compared="comparison", readout="ID", change="logFC"
    ).assign(AveExpr=3.0, t=1.0, B=0.0, **{"P.Value": 0.1, "adj.P.Val": 0.2}),
    "scanpy": lambda: results(compared="group", readout="names", change="logfoldchanges").assign(
        scores=1.0, pvals=0.1, pvals_adj=0.2
    ),
    "Seurat": lambda: results(compared="perturbation", change="avg_log2FC").assign(
        p_val=0.1, p_val_adj=0.2, **{"pct.1": 0.5, "pct.2": 0.4}
    ),
    "pertpy": lambda: results(compared="contrast", readout="variable", change="log_fc").assign(
        p_value=0.1, adj_p_value=0.2
    ),
    "sceptre": lambda: results(compared="grna_target", readout="response_id", change="log_2_fold_change").assign(
        n_nonzero_trt=9, p_value=0.1, significant=True
    ),
    "no other column": lambda: results(compared="perturbation"),
}


@pytest.mark.parametrize("program", PROGRAMS)
def test_each_comparison_is_a_condition(program: str) -> None:
    table = PROGRAMS[program]()
    screen = read_screen(table.sample(frac=1, random_state=1))
    assert set(screen.labels) == set(GENES)
    assert set(screen.readouts) == set(READOUTS)
    change = next(name for name in table if "fold" in str(name).casefold() or "fc" in str(name).casefold())
    wide = table.assign(label=np.repeat(GENES, len(READOUTS))).pivot_table(
        index="label", columns=table.columns[1], values=change
    )
    rows = [screen.labels.index(label) for label in GENES]
    np.testing.assert_array_equal(screen.effects.numpy()[rows], wide.loc[list(GENES), list(screen.readouts)])
    assert (screen.standard_errors is not None) == (program == "DESeq2")


@given(st.sets(st.sampled_from([(one, other) for one in GENES for other in READOUTS]), max_size=8))
def test_readouts_without_a_value_in_each_comparison_are_left_out_or_refused(
    missing: set[tuple[str, str]],
) -> None:
    table = results().assign(baseMean=1.0)
    keys = list(zip(table["contrast"], table["gene"], strict=True))
    kept = table[[key not in missing for key in keys]]
    whole = [name for name in READOUTS if name not in {each for _, each in missing}]
    if kept["contrast"].nunique() < len(GENES) or not whole:
        return
    if 2 * len(whole) < kept["gene"].nunique():
        with pytest.raises(DataError, match="write all rows of all tests"):
            read_screen(kept)
        return
    screen = read_screen(kept)
    assert set(screen.readouts) == set(whole)
    assert ("dropped readouts not tested" in screen.provenance) == (len(whole) < kept["gene"].nunique())


@pytest.mark.parametrize(
    ("table", "message"),
    [
        (results().iloc[:3].assign(baseMean=1.0), "result of one test of expression.* --target-col gene"),
        (results().drop(columns="contrast").assign(lfcSE=0.1), "result of one test of expression"),
        (
            results(),
            "'contrast' and one of 'gene': which of the two .* --target-col contrast or --target-col gene",
        ),
        (results().assign(baseMean=1.0, group=list("ab") * 6), "'contrast' and one of 'group'"),
        (results([f"NT_vs_{each}" for each in GENES]).assign(baseMean=1.0), "signs are turned round"),
        (results(["KLF1_vs_MYC", "A_vs_NT"]).assign(baseMean=1.0), "comparisons are with 'MYC', 'NT'"),
        (pd.concat([results(), results()]).assign(baseMean=1.0), "'R1' stands twice for 'KLF1'.* --group-col"),
        (results().assign(baseMean=1.0, gene=[f"R{at}" for at in range(12)]), "only 0 of 12 readouts .* all rows"),
    ],
)
def test_what_is_not_told_is_refused(table: pd.DataFrame, message: str) -> None:
    with pytest.raises(DataError, match=message):
        read_screen(table)


@pytest.mark.parametrize(
    ("column", "labels"), [("contrast", GENES), ("gene", READOUTS)], ids=["expression", "growth in contexts"]
)
def test_either_reading_can_be_stated(column: str, labels: tuple[str, ...]) -> None:
    assert set(read_screen(results(), target_col=column).labels) == set(labels)


def test_cell_types_doses_and_readouts_are_kept_apart() -> None:
    parts: list[Any] = [results().assign(baseMean=1.0, cell_type=each) for each in ("B", "T")]
    screen = read_screen(pd.concat(parts), readouts=["R3", "R1"])
    assert set(screen.contexts) == {"B", "T"}
    assert screen.readouts == ("R3", "R1")
    dosed = pd.concat([results(["A", "B"]).assign(baseMean=1.0, dose=each) for each in (1.0, 2.0)])
    assert set(read_screen(dosed).labels) == {"A", "A@2", "B", "B@2"}


def test_one_number_for_each_gene_is_no_test_of_expression() -> None:
    growth = pd.DataFrame({"gene": GENES, "comparison": "day21_vs_day0", "lfc": [0.1, -0.2, 0.3, 0.4], "fdr": 0.1})
    assert set(read_screen(growth).labels) == set(GENES)
    guides = growth.assign(baseMean=4.0).drop(columns="comparison")
    assert read_screen(guides, target_col="gene").labels == GENES


@pytest.mark.parametrize("error", ["se", "sem", "standard_error", None])
def test_values_with_errors_beside_them_are_read(error: str | None) -> None:
    table = results(compared="perturbation", readout="marker", change="value").assign(n=3, **{error or "sd": 0.2})
    screen = read_screen(table)
    assert screen.labels == GENES
    assert screen.readouts == READOUTS
    assert (screen.standard_errors is None) == (error is None)


def test_replicates_of_long_tables_are_averaged() -> None:
    once, again = (results(compared="perturbation", readout="marker", change="value") for _ in range(2))
    again["value"] += 1.0
    whole = pd.concat([once.assign(replicate=1), again.assign(replicate=2)])
    np.testing.assert_allclose(read_screen(whole).effects, read_screen(once).effects + 0.5)


@pytest.mark.parametrize(
    "written",
    ["{}vsNT", "({})-control", "{} - NT", "condition_{}_vs_WT", "group{}.vs.DMSO", "condition[T.{}]"],
)
@pytest.mark.parametrize("wide", [False, True])
def test_names_of_comparisons_are_read_as_their_perturbations(written: str, *, wide: bool) -> None:
    table = results([written.format(name) for name in GENES])
    if wide and "[" in written:
        return
    screen = read_screen(
        table.pivot_table(index="contrast", columns="gene", values="log2FoldChange").rename_axis(None)
        if wide
        else table.assign(baseMean=1.0)
    )
    assert set(screen.labels) == set(GENES)


@pytest.mark.parametrize("label", ["NT_vs_{}", "NT-{}", "NTvs{}", "DMSO - {}"])
@pytest.mark.parametrize("wide", [False, True])
def test_comparisons_the_wrong_way_round_are_refused(label: str, *, wide: bool) -> None:
    table = results([label.format(name) for name in GENES])
    table = (
        table.pivot_table(index="contrast", columns="gene", values="log2FoldChange").reset_index()
        if wide
        else table
    )
    with pytest.raises(DataError, match="signs are turned round"):
        read_screen(table if wide else table.assign(baseMean=1.0))


@pytest.mark.parametrize("written", ["condition{}", "condition_{}_vs_NT"])
def test_the_intercept_of_a_model_is_no_condition(written: str) -> None:
    labels = ["(Intercept)", *(written.format(name) for name in GENES)]
    screen = read_screen(results(labels, compared="coef").assign(baseMean=1.0))
    assert set(screen.labels) == set(GENES)
    assert "1 labelled '(Intercept)'" in screen.provenance["dropped rows"]


def test_genes_that_share_a_symbol_or_have_none_are_called_by_their_identifiers() -> None:
    table = results(readout="gene_id").assign(baseMean=1.0)
    symbols = table.assign(symbol=table["gene_id"].map({"R1": "A", "R2": "A"}))
    assert read_screen(symbols).readouts == READOUTS
    distinct = table.assign(symbol=table["gene_id"].map({"R1": "A", "R2": "B", "R3": "C"}))
    assert read_screen(distinct).readouts == ("A", "B", "C")
    with pytest.raises(DataError, match=r"4 row.* have no name in 'symbol'"):
        read_screen(symbols.assign(symbol=table["gene_id"].map({"R1": "A", "R2": "B"})).drop(columns="gene_id"))


def test_long_tables_of_pairs_in_two_columns_are_read() -> None:
    table = results(["A", "B", "C"], compared="gene_1", readout="readout", change="value")
    table.insert(1, "gene_2", table["gene_1"].map({"A": "B", "B": "", "C": ""}))
    screen = read_screen(table)
    assert screen.labels == ("A+B", "B", "C")
    np.testing.assert_array_equal(screen.effects.numpy().ravel(), table["value"])


def test_ratios_are_refused_and_their_logarithms_read() -> None:
    table = results(compared="target", readout="feature", change="fold_change").assign(
        target_mean=1.0, reference_mean=2.0, percent_change=0.1
    )
    with pytest.raises(DataError, match="'log2_fold_change'"):
        read_screen(table)
    screen = read_screen(table.assign(log2_fold_change=table["fold_change"]))
    assert screen.labels == GENES
    assert screen.readouts == READOUTS


@pytest.mark.parametrize("compared", ["term", "group"])
def test_a_column_called_readout_is_no_perturbation(compared: str) -> None:
    table = results(compared=compared, readout="readout", change="value").assign(statistic=1.0, p_value=0.1)
    assert read_screen(table).labels == GENES
