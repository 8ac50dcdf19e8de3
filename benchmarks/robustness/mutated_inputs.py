"""How often is a table or file of cells misread, when it is written in the many ways that people write it?

A small screen of known effects is written with headers, separators, labels, controls, delimiters, encodings, extra
columns, missing values and shapes drawn at random. What is read is held against the truth: right, refused with a
reason, misread in silence, or a failure that is no refusal.

Run: python -m benchmarks mutated_inputs --inputs 5000 --seed 0
"""

import argparse
import gzip
import tempfile
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import anndata
import numpy as np
import pandas as pd
from scipy import sparse

from surrogates.data.io.readers import read_screen
from surrogates.data.screen import Screen
from surrogates.errors import SurrogatesError

GENES = ("KLF1", "CEBPE", "SPI1", "HLA-A", "NKX2-1", "TP53")
READOUTS = tuple(f"G{number:03}" for number in range(8))
_HEADERS = ("condition", "perturbation", "gene", "target_gene", "drug", "my labels", "index")
_CONTROLS = ("ctrl", "NTC", "non-targeting", "NegCtrl0", "DMSO", "untreated", "scrambled", "safe-targeting_1")
_JOINS = ("+", "_", "|", ";", " & ", ",", "-", "/", ":", "~", "*", "__", " x ")
_PARTNERS = (("gene_1", "gene_2"), ("gene", "gene_b"), ("drug1", "drug2"), ("target", "target2"))
_ENDINGS = {".csv": 0.4, ".tsv": 0.15, ".txt": 0.15, ".csv.gz": 0.1, ".parquet": 0.15, ".xlsx": 0.05}
_JUNK = ("unassigned", "nan", "None", "doublet", "multiplet", "unknown", "")
_EXTRA = ("ncounts", "percent_mito", "batch", "n_cells", "pval", "note", "plate", "timepoint", "guide", "rank")


@dataclass
class Written:
    """One input and what it says."""

    path: Path
    truth: pd.DataFrame  # effects, one row per condition
    how: list[str] = field(default_factory=list)
    stated: dict[str, str] = field(default_factory=dict)


def drawn_truth(rng: np.random.Generator) -> pd.DataFrame:
    """Draw effects of all singles and most doubles of a few genes."""
    genes = rng.choice(GENES, size=rng.integers(3, 6), replace=False)
    pairs = [(one, other) for number, one in enumerate(genes) for other in genes[number + 1 :]]
    kept = [pairs[number] for number in rng.permutation(len(pairs))[: max(2, len(pairs) - 1)]]
    labels = [(gene,) for gene in genes] + kept
    effects = rng.normal(size=(len(labels), len(READOUTS))).round(5)
    return pd.DataFrame(effects, index=["+".join(sorted(label)) for label in labels], columns=list(READOUTS))


def write_table(rng: np.random.Generator, folder: Path, number: int) -> Written:
    """Write a table of effects in one of many ways."""
    truth = drawn_truth(rng)
    join, control = str(rng.choice(_JOINS)), str(rng.choice(_CONTROLS))
    padded = rng.random() < 0.3
    swap = rng.random(len(truth)) < 0.5
    rows = []
    for label, flipped in zip(truth.index, swap, strict=True):
        parts = label.split("+")
        parts = parts[::-1] if flipped else parts
        rows.append([*parts, control] if padded and len(parts) == 1 else parts)
    how = [f"join {join!r}", f"control {control!r}" if padded else "no control"]
    table = pd.DataFrame(truth.to_numpy(), columns=list(READOUTS))
    if rng.random() < 0.3:
        one, other = [("gene_1", "gene_2"), ("gene", "gene_b"), ("drug1", "drug2"), ("target", "target2")][
            rng.integers(4)
        ]
        table.insert(0, one, [row[0] for row in rows])
        table.insert(1, other, [row[1] if len(row) > 1 else rng.choice(["", "NA"]) for row in rows])
        how.append(f"columns {one}, {other}")
    else:
        header = str(rng.choice(_HEADERS))
        table.insert(0, header, [join.join(row) for row in rows])
        how.append(f"header {header!r}")
    if rng.random() < 0.25:
        again = table.copy()
        again[list(READOUTS)] += 0.0
        table = pd.concat([table.assign(replicate=1), again.assign(replicate=2)], ignore_index=True)
        how.append("replicates")
    table = _with_extra(rng, table, how)
    table = table.sample(frac=1, random_state=int(rng.integers(2**31))).reset_index(drop=True)
    return Written(_saved(rng, table, folder / f"t{number}", how), truth, how)


def _with_extra(rng: np.random.Generator, table: pd.DataFrame, how: list[str]) -> pd.DataFrame:
    for name in rng.choice(_EXTRA, size=rng.integers(0, 3), replace=False):
        how.append(f"column {str(name)!r}")
        values = {
            "note": [f"n{row}" for row in range(len(table))],
            "timepoint": ["24h"] * len(table),
            "guide": [f"g{row}" for row in range(len(table))],
            "plate": ["p1"] * len(table),
        }
        table[name] = values.get(name, rng.normal(size=len(table)).round(3) + 5)
    return table


def _saved(rng: np.random.Generator, table: pd.DataFrame, path: Path, how: list[str]) -> Path:
    ending = str(
        rng.choice([".csv", ".tsv", ".txt", ".csv.gz", ".parquet", ".xlsx"], p=[0.4, 0.15, 0.15, 0.1, 0.15, 0.05])
    )
    file = path.with_name(path.name + ending)
    how.append(ending)
    if ending == ".parquet":
        table.to_parquet(file)
    elif ending == ".xlsx":
        table.to_excel(file, index=False)
    else:
        delimiter = str(rng.choice([",", "\t", ";"]))
        decimal = "," if delimiter != "," and rng.random() < 0.3 else "."
        encoding = str(rng.choice(["utf-8", "utf-8-sig", "utf-16", "cp1252"]))
        text = table.to_csv(index=rng.random() < 0.3, sep=delimiter, decimal=decimal)
        raw = text.encode(encoding)
        file.write_bytes(gzip.compress(raw) if ending.endswith("gz") else raw)
        how.append(f"delimiter {delimiter!r}, decimal {decimal!r}, {encoding}")
    return file


def write_cells(rng: np.random.Generator, folder: Path, number: int) -> Written:
    """Write a file of cells whose means are known."""
    truth = drawn_truth(rng)
    join, control = str(rng.choice(_JOINS)), str(rng.choice(_CONTROLS))
    each = 4
    base = rng.normal(size=len(READOUTS)).round(4)
    labels, values = [control] * each, [base] * each
    for label, effect in truth.iterrows():
        labels += [join.join(str(label).split("+"))] * each
        values += [base + effect.to_numpy()] * each
    how = [f"cells, join {join!r}, control {control!r}"]
    junk = int(rng.integers(0, 3))
    for word in rng.choice(_JUNK, size=junk):
        labels += [str(word)] * 3
        values += [rng.normal(size=len(READOUTS))] * 3
        how.append(f"cells labelled {str(word)!r}")
    noise = np.tile([0.01, -0.01], len(labels) // 2 + 1)[: len(labels), None]
    read = np.arange(len(labels)) < each * (len(truth) + 1)
    matrix = np.asarray(values) + noise * read[:, None]
    header = str(rng.choice(_HEADERS[:5]))
    obs = pd.DataFrame({header: labels}, index=[f"c{row}" for row in range(len(labels))])
    for name in rng.choice(_EXTRA, size=rng.integers(0, 3), replace=False):
        obs[name] = rng.normal(size=len(obs)).round(3)
        how.append(f"column {str(name)!r}")
    form: Callable[[np.ndarray], object] = [np.asarray, sparse.csr_matrix, sparse.csc_matrix][rng.integers(3)]
    order = rng.permutation(len(obs))
    path = folder / f"t{number}.h5ad"
    var = pd.DataFrame(index=list(READOUTS))
    anndata.AnnData(form(matrix[order]), obs=obs.iloc[order], var=var).write_h5ad(path)
    return Written(path, truth, how)


def judge(written: Written) -> tuple[str, str]:
    """Read an input: ``right``, ``refused``, ``misread`` or ``failed``, and why."""
    try:
        screen = read_screen(written.path, **written.stated)
    except SurrogatesError as error:
        return "refused", str(error)
    except Exception as error:  # noqa: BLE001 - this is what is counted
        return "failed", f"{type(error).__name__}: {error}"
    return (
        ("right", "") if agrees(screen, written.truth) else ("misread", f"{screen.labels[:6]} {screen.readouts}")
    )


def agrees(screen: Screen, truth: pd.DataFrame) -> bool:
    """Tell whether a screen holds what was written."""
    found = pd.DataFrame(screen.effects.numpy(), index=list(screen.labels), columns=list(screen.readouts))
    if set(found.index) != set(truth.index) or set(found.columns) != set(truth.columns):
        return False
    return bool(np.allclose(found.loc[truth.index, truth.columns], truth, atol=2e-5))


def main() -> None:
    """Write, read and count."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--inputs", type=int, default=5000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--show", type=int, default=5, help="how many of each kind that is not right")
    asked = parser.parse_args()
    rng = np.random.default_rng(asked.seed)
    counts: Counter[str] = Counter()
    shown: Counter[str] = Counter()
    with tempfile.TemporaryDirectory() as folder:
        for number in range(asked.inputs):
            write = write_cells if rng.random() < 0.3 else write_table
            written = write(rng, Path(folder), number)
            verdict, why = judge(written)
            counts[verdict] += 1
            if verdict != "right" and shown[verdict] < asked.show:
                shown[verdict] += 1
                print(f"{verdict}: {'; '.join(written.how)}\n    {why[:300]}")
            written.path.unlink()
    print("  ".join(f"{verdict} {counts[verdict]:,}" for verdict in ("right", "refused", "misread", "failed")))


if __name__ == "__main__":
    main()
