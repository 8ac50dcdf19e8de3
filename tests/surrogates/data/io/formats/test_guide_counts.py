"""Counts of guides become fold changes between two arms, and an ambiguous pair of arms is refused."""

import math
from pathlib import Path
from statistics import median

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from surrogates.data.io.formats.guides import fold_changes, size_factors
from surrogates.data.io.readers import read_screen
from surrogates.errors import DataError

GENES = ("KLF1", "NKX2-1", "SPI1")


def pairs(
    samples: tuple[str, ...] = ("Day00_RepA", "Day22_RepA", "Day22_RepB"), seed: int = 0, genes: str = "gene"
) -> pd.DataFrame:
    """Three guides of each pair, of each gene with a control in either place, and of two controls."""
    names = [*GENES, "non-targeting"]
    both = [(one, other) for place, one in enumerate(names) for other in names[place + 1 :]]
    both += [("non-targeting", "KLF1"), ("non-targeting", "non-targeting"), ("SPI1", "SPI1")]
    rows = [(f"{one}_{other}_pg{guide}", "ACGT", "TGCA", one, other) for one, other in both for guide in range(3)]
    table = pd.DataFrame(rows, columns=["id", "seq_1", "seq_2", f"{genes}1", f"{genes}2"])
    rng = np.random.default_rng(seed)
    return table.assign(**{name: rng.poisson(200, len(table)) + 1 for name in samples})


def slow_fold_changes(counts: np.ndarray, is_baseline: np.ndarray) -> list[float]:
    guides, samples = [list(map(float, row)) for row in counts], range(counts.shape[1])
    common = [row for row in guides if min(row) > 0] or [[sum(column) for column in zip(*guides, strict=True)]]
    means = [math.prod(value ** (1 / len(row)) for value in row) for row in common]
    factors = [
        math.exp(median(math.log(row[s] / mean) for row, mean in zip(common, means, strict=True))) for s in samples
    ]

    def arm(row: list[float], *, baseline: bool) -> float:
        logs = [math.log2(row[s] / factors[s] + 1) for s in samples if bool(is_baseline[s]) is baseline]
        return sum(logs) / len(logs)

    return [arm(row, baseline=False) - arm(row, baseline=True) for row in guides]


@given(
    counts=arrays(np.int64, st.tuples(st.integers(1, 8), st.integers(2, 5)), elements=st.integers(0, 900)),
    before=st.integers(1, 4),
)
def test_fold_changes_are_those_of_an_obvious_computation(counts: np.ndarray, before: int) -> None:
    counts = counts + (counts.sum(axis=0) == 0)  # every sample has some
    is_baseline = np.arange(counts.shape[1]) < min(before, counts.shape[1] - 1)
    found = fold_changes(counts.astype(float), is_baseline)
    np.testing.assert_allclose(found, slow_fold_changes(counts, is_baseline), atol=1e-9)


@given(
    counts=arrays(np.float64, (6, 4), elements=st.integers(1, 900).map(float)),
    depth=st.lists(st.floats(0.1, 10), min_size=4, max_size=4),
)
def test_size_factors_follow_the_depth_of_sequencing(counts: np.ndarray, depth: list[float]) -> None:
    ratio = size_factors(counts * depth) / size_factors(counts)
    np.testing.assert_allclose(ratio / ratio[0], np.array(depth) / depth[0])


@pytest.mark.parametrize("genes", ["gene", "target"])
def test_guides_of_a_pair_are_averaged_less_the_controls(tmp_path: Path, genes: str) -> None:
    table = pairs(genes=genes)
    path = tmp_path / "counts.csv"
    table.to_csv(path, index=False)
    screen = read_screen(path)
    counts = table[["Day00_RepA", "Day22_RepA", "Day22_RepB"]].to_numpy()
    change = np.array(slow_fold_changes(counts, np.array([True, False, False])))
    labels = [
        "+".join(sorted(set(pair) - {"non-targeting"})) for pair in table[[f"{genes}1", f"{genes}2"]].to_numpy()
    ]
    twice = (table[f"{genes}1"] == "SPI1") & (table[f"{genes}2"] == "SPI1")
    mean = pd.Series(change[~twice]).groupby(np.array(labels)[~twice]).mean()
    assert sorted(screen.labels) == sorted(label for label in mean.index if label)
    assert {*GENES} < {*screen.labels}
    np.testing.assert_allclose(
        screen.effects[:, 0], [mean[label] - mean[""] for label in screen.labels], atol=1e-9
    )
    assert screen.standard_errors is not None
    assert bool((screen.standard_errors > 0).all())
    assert screen.readouts == ("lfc",)
    assert "knockout (assumed" in screen.provenance["detected mode"]
    assert screen.provenance["arms"] == "'Day22_RepA', 'Day22_RepB' against 'Day00_RepA' (by name)"
    assert "3 that name a target twice" in screen.provenance["dropped rows"]


@pytest.mark.parametrize(
    ("samples", "said"),
    [
        (("Day00_RepA", "Day05_RepA", "Day22_RepA"), r"1 arm\(s\) before.*2 after.*--endpoint-cols Day22_RepA"),
        (("pDNA", "A549_RepA", "A549_RepB", "HT29_RepA"), r"--baseline-cols pDNA --endpoint-cols HT29_RepA"),
        (("plasmid", "day0", "day14"), r"2 arm\(s\) before.*1 after"),
        (("Day_0", "Day_5", "Day_7"), r"1 arm\(s\) before.*2 after"),
        (("t0", "d7", "d14"), r"1 arm\(s\) before.*2 after"),
        (("HL60.initial", "KBM7.initial", "HL60.final", "KBM7.final"), r"2 arm\(s\) before.*2 after"),
        (("DMSO_1", "DMSO_2", "drug_1", "drug_2"), r"0 arm\(s\) before \(none by name\) and 2 after"),
    ],
)
def test_arms_that_names_do_not_tell_are_refused_with_the_options(samples: tuple[str, ...], said: str) -> None:
    table = pairs(samples)
    with pytest.raises(DataError, match=said):
        read_screen(table)
    stated = read_screen(table, baseline_cols=[samples[0]], endpoint_cols=[samples[-1]])
    alone = read_screen(
        table.drop(columns=list(samples[1:-1])), baseline_cols=samples[:1], endpoint_cols=samples[-1:]
    )
    np.testing.assert_allclose(stated.effects, alone.effects)


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("plasmid", ("Day21_A", "Day21_B", "Day21_C")),
        ("T0", ("T14_rep1", "T14_rep2")),
        ("pretreatment", ("final.1", "final.2")),
        ("pDNA", ("A549_RepA", "A549_RepB")),
        ("day0_rep1", ("day14_rep1", "day14_rep2")),
        ("initial", ("d14rep1", "d14rep2")),
    ],
)
def test_arms_are_told_by_the_name_of_the_baseline(before: str, after: tuple[str, ...]) -> None:
    table = pairs((before, *after))
    found = read_screen(table)
    stated = read_screen(table, baseline_cols=[before], endpoint_cols=after)
    np.testing.assert_array_equal(found.effects, stated.effects)


def test_counts_of_single_guides_and_columns_of_gemini_are_read() -> None:
    single = pairs().rename(columns={"gene1": "Gene", "id": "sgRNA"}).drop(columns=["gene2", "seq_1", "seq_2"])
    assert read_screen(single).labels == GENES
    gemini = pairs(("pDNA", "A549_RepA", "A549_RepB")).rename(columns={"gene1": "U6.gene", "gene2": "H1.gene"})
    assert set(read_screen(gemini).labels) > {"KLF1+SPI1", "KLF1"}


def test_guides_without_genes_or_counts_are_refused() -> None:
    table = pairs()
    with pytest.raises(DataError, match="no column names the genes of a guide, among 'id', 'seq_1', 'seq_2'"):
        read_screen(table.drop(columns=["gene1", "gene2"]))
    assert "Day22_RepA" in str(read_screen(table, normalise=False).readouts)
    arms = {"baseline_cols": ["Day00_RepA"], "endpoint_cols": ["Day22_RepA"]}
    with pytest.raises(DataError, match=r"holds '-1' in row 0, which is no count"):
        read_screen(table.assign(Day22_RepA=-1), **arms)
    with pytest.raises(DataError, match="no guide was counted in the baseline"):
        read_screen(table.assign(Day00_RepA=0), **arms)
    with pytest.raises(DataError, match=r"state baseline_cols= \(--baseline-cols A,B\) and endpoint_cols="):
        read_screen(table, baseline_cols=["Day00_RepA"])
    with pytest.raises(DataError, match="unknown column of counts 'Day0'"):
        read_screen(table, baseline_cols=["Day0"], endpoint_cols=["Day22_RepA"])
    unseen = table.assign(Day00_RepA=table["Day00_RepA"].where(table["id"] != "KLF1_SPI1_pg0", 0))
    assert read_screen(unseen, **arms).provenance["dropped guides"] == "1 without counts in the baseline"


def test_contexts_are_scaled_apart() -> None:
    one, other = pairs(), pairs(seed=1)
    other[["Day22_RepA", "Day22_RepB"]] *= 50
    both = pd.concat([one.assign(clone=1), other.assign(clone=2)])
    screen = read_screen(both, group_col="clone")
    for name, table in (("1", one), ("2", other)):
        found, alone = screen.in_context(name), read_screen(table)
        assert found.labels == alone.labels
        np.testing.assert_allclose(found.effects, alone.effects)
    assert "same batch" in read_screen(both, batch_col="clone").provenance["rows"]
    with pytest.raises(DataError, match="unknown readout 'score'"):
        read_screen(both, group_col="clone", readouts=["score"])


def test_other_numbers_beside_counts_are_left_out_and_said() -> None:
    table = pairs().assign(clone=1, lfc=np.linspace(-2, 2, 27), gc=0.45)
    screen = read_screen(table)
    np.testing.assert_array_equal(screen.effects, read_screen(pairs()).effects)
    assert screen.provenance["dropped columns"] == "'clone', 'lfc', 'gc' (not compared)"
    with pytest.raises(DataError, match="measured more than once"):  # the column is meant, not what we compute
        read_screen(table, readouts=["lfc"])


def test_effects_of_pairs_are_no_counts() -> None:
    table = pairs(()).assign(score=np.arange(27) / 9, other=np.linspace(-1, 1, 27))
    assert read_screen(table).readouts == ("score", "other")
