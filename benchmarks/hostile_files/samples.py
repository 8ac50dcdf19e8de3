"""Small sound files of every kind that is read, from which mutants are made."""

import gzip
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import anndata
import h5py
import numpy as np
import pandas as pd
import zarr
from anndata.io import write_elem
from scipy import sparse

from surrogates.artefact import Origin, save_fitted
from surrogates.data.io.readers import read_screen
from surrogates.models.baselines import Additive

GENES = ("G0", "G1", "G2", "G3", "G4")
READOUTS = ("r0", "r1", "r2", "r3")
CONTROL = "control"

_TARGETS: Mapping[str, str] = {
    "profile": 'kind = "profile"\nname = "wanted"\n[values]\nr0 = 1.5\nr1 = -0.25\n',
    "signature": 'kind = "signature"\nup = ["r0", "r1"]\n[down]\nr2 = 1.0\n',
    "scalar": 'kind = "scalar"\nreadout = "r0"\ngoal = "reach"\nvalue = 1.0\n',
    "settings": 'name = "one"\ntarget = "G0+G1"\nbatch_size = 8\nexclude = ["G3"]\n[costs]\nG0 = 1.5\n',
}

_ENDINGS = (".csv", ".tsv", ".txt", ".csv.gz", ".xlsx", ".parquet")


@dataclass(frozen=True)
class Sample:
    """A sound file."""

    name: str  # what it holds, before its ending
    ending: str
    raw: bytes
    readers: tuple[str, ...]  # names of readers in :mod:`benchmarks.hostile_files.reading` that take it


# How often a kind is drawn: formats with more to say have more ways to be wrong.
_WEIGHTS = {".h5ad": 6.0, ".gctx": 4.0, ".h5mu": 2.0, ".zarr.zip": 2.0, ".parquet": 4.0, ".xlsx": 2.0}


def chosen(rng: np.random.Generator, known: Sequence[Sample]) -> Sample:
    """Draw a sample."""
    weights = np.array([_WEIGHTS.get(each.ending, 1.0) for each in known])
    return known[int(rng.choice(len(known), p=weights / weights.sum()))]


def samples(folder: Path) -> tuple[Sample, ...]:
    """Write one file of each kind into a folder, and keep their bytes."""
    made = [*_tables(folder), *_hdf5(folder)]
    for name, text in _TARGETS.items():
        reader = "settings" if name == "settings" else "target"
        made.append(Sample(name, ".toml", text.encode(), (reader,)))
    screen, surrogate, path = read_screen(effects()), Additive(), folder / "model.safetensors"
    save_fitted(surrogate.fit(screen, seed=0), path, origin=Origin.of(screen, surrogate, seed=0))
    made.append(Sample("model", ".safetensors", path.read_bytes(), ("model",)))
    made.append(Sample("names", ".txt", "\n".join(GENES[:3]).encode(), ("names",)))
    return tuple(made)


def effects() -> pd.DataFrame:
    """Effects of all singles and pairs of a few genes, with two replicates of none."""
    rng = np.random.default_rng(0)
    labels = [*GENES, *(f"{one}+{other}" for n, one in enumerate(GENES) for other in GENES[n + 1 :])]
    table = pd.DataFrame(rng.normal(size=(len(labels), len(READOUTS))).round(4), columns=list(READOUTS))
    table.insert(0, "condition", labels)
    return table


def _tables(folder: Path) -> list[Sample]:
    screen = effects()
    values = pd.DataFrame({"gene": READOUTS, "effect": [0.5, -1.0, 0.25, 2.0], "weight": [1.0, 2.0, 1.0, 1.0]})
    results = (
        screen.rename(columns={"condition": "perturbation"}).iloc[:8].assign(replicate="a", status="measured")
    )
    lists = {
        "groups": pd.DataFrame({"gene": GENES[:4], "group": ["a", "a", "b", "b"], "at_most": [1, 1, 2, 2]}),
        "pairs": pd.DataFrame({"one": GENES[:3], "other": GENES[1:4]}),
        "costs": pd.DataFrame({"gene": GENES, "cost": [1.5, 2.0, 3.0, 1.0, 9.0]}),
        "doses": pd.DataFrame({"gene": ["G0", "G0", "G1"], "dose": [0.1, 1.0, 10.0]}),
        "experiments": pd.DataFrame({"perturbation": screen["condition"][:6], "price": [1, 2, 3, 4, 5, 6]}),
        "library": pd.DataFrame({"gene": GENES, "guide": [f"sg{gene}" for gene in GENES], "sequence": "ACGT"}),
        "rounds": pd.DataFrame({"round": [1, 1, 2], "lower": [0.0, 1, 2], "upper": [1.0, 2, 3], "measured": 0.5}),
    }
    everything = {"screen": screen, "values": values, "results": results}
    made = []
    for name, table in everything.items():
        made += [Sample(name, each, _written(table, folder / f"{name}{each}"), (name,)) for each in _ENDINGS]
    wide = screen.set_axis(["drug", *READOUTS], axis=1).assign(
        dose=1.5, dose_unit="uM", cell_type="K", replicate=1
    )
    made.append(Sample("dosed", ".csv", _written(wide, folder / "dosed.csv"), ("screen",)))
    made += [
        Sample(name, ".csv", _written(table, folder / f"{name}.csv"), (name,)) for name, table in lists.items()
    ]
    made.append(Sample("screen", ".gct", _gct(screen), ("screen",)))
    return made


def _written(table: pd.DataFrame, path: Path) -> bytes:
    writers: dict[str, Callable[[], object]] = {
        ".xlsx": lambda: table.to_excel(path, index=False),
        ".parquet": lambda: table.to_parquet(path, index=False),
    }
    sep = "\t" if path.name.endswith((".tsv", ".txt")) else ","
    writers.get(path.suffix, lambda: path.write_bytes(_packed(table.to_csv(index=False, sep=sep), path)))()
    return path.read_bytes()


def _packed(text: str, path: Path) -> bytes:
    return gzip.compress(text.encode(), mtime=0) if path.suffix == ".gz" else text.encode()


def _gct(screen: pd.DataFrame) -> bytes:
    labels, values = screen["condition"], screen[list(READOUTS)].T
    lines = [
        "#1.3",
        f"{len(READOUTS)}\t{len(labels)}\t1\t1",
        "\t".join(["id", "symbol", *(f"s{number}" for number in range(len(labels)))]),
        "\t".join(["condition", "na", *labels]),
        *("\t".join([name, name, *map(str, row)]) for name, row in zip(READOUTS, values.to_numpy(), strict=True)),
    ]
    return ("\n".join(lines) + "\n").encode()


def _hdf5(folder: Path) -> list[Sample]:
    screen = effects()
    var = pd.DataFrame({"symbol": READOUTS}, index=list(READOUTS))
    obs = screen[["condition"]].set_index(pd.Index([f"e{row}" for row in range(len(screen))]))
    of_effects = anndata.AnnData(screen[list(READOUTS)].to_numpy(), obs=obs, var=var, uns={"value": "logfc"})
    labels = np.repeat([CONTROL, *screen["condition"][:9]], 4)
    rng = np.random.default_rng(1)
    counts = rng.poisson(1.0, size=(len(labels), len(READOUTS))).astype(np.float32)
    of_cells = pd.DataFrame(
        {
            "perturbation": pd.Categorical(labels),
            "cell_type": "K",
            "n": np.arange(len(labels)),
            "q": counts[:, 0] > 1,
        },
        index=[f"c{row}" for row in range(len(labels))],
    )
    matrices = {"dense": counts, "csr": sparse.csr_matrix(counts), "csc": sparse.csc_matrix(counts)}
    made = []
    of_effects.write_h5ad(folder / "effects.h5ad")
    made.append(Sample("effects", ".h5ad", (folder / "effects.h5ad").read_bytes(), ("screen", "rows")))
    for name, matrix in matrices.items():
        data = anndata.AnnData(matrix, obs=of_cells, var=var, layers={"log": np.log1p(counts)})
        data.write_h5ad(folder / f"{name}.h5ad", compression="gzip" if name == "csr" else None)
        raw = (folder / f"{name}.h5ad").read_bytes()
        made.append(Sample(name, ".h5ad", raw, ("screen", "cells", "rows", "shift", "layer")))
    with h5py.File(folder / "cells.h5mu", "w") as file:
        file.attrs["encoding-type"] = "MuData"
        write_elem(file, "mod/rna", anndata.AnnData(matrices["csr"], obs=of_cells[["cell_type"]], var=var))
        write_elem(file, "obs", of_cells[["perturbation"]])
    made.append(Sample("cells", ".h5mu", (folder / "cells.h5mu").read_bytes(), ("screen",)))
    with warnings.catch_warnings(), zarr.storage.ZipStore(folder / "cells.zarr.zip", mode="w") as store:
        warnings.simplefilter("ignore")
        anndata.AnnData(matrices["csr"], obs=of_cells, var=var).write_zarr(store)
    made.append(Sample("cells", ".zarr.zip", (folder / "cells.zarr.zip").read_bytes(), ("screen",)))
    made.append(Sample("screen", ".gctx", _gctx(screen, folder / "screen.gctx"), ("screen",)))
    return made


def _gctx(screen: pd.DataFrame, path: Path) -> bytes:
    with h5py.File(path, "w") as file:
        file["0/DATA/0/matrix"] = screen[list(READOUTS)].to_numpy(dtype=np.float32)
        file["0/META/COL/id"] = [f"s{row}".encode() for row in range(len(screen))]
        file["0/META/COL/pert_iname"] = [label.encode() for label in screen["condition"]]
        file["0/META/ROW/id"] = [name.encode() for name in READOUTS]
    return path.read_bytes()
