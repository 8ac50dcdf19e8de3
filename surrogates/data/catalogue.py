"""The public datasets that are known by name: where their files are or come from, and each as one screen."""

import os
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from surrogates.data.across import join_contexts
from surrogates.data.io.readers import read_screen
from surrogates.data.perturbation import Intervention, Mode, Perturbation
from surrogates.data.screen import Screen
from surrogates.errors import DataError, UnknownNameError
from surrogates.whole_file import sha256_of

PAIR = ["first", "second"]
VARIABLE = "INVERSE_DESIGN_DATA"
RAW_HOST = "https://raw.githubusercontent.com"


@dataclass(frozen=True)
class PublicFile:
    """One file of a public repository, at one commit, with its known checksum."""

    repository: str  # owner and name on GitHub
    commit: str  # the full hash of the commit
    path: str  # path of the file in the repository
    sha256: str  # of its content

    @property
    def url(self) -> str:
        """The address of the raw file."""
        return f"{RAW_HOST}/{self.repository}/{self.commit}/{self.path}"


def find_folder(name: str) -> Path | None:
    """Find the folder of a dataset on this machine.

    Looks in the folder that the environment variable ``INVERSE_DESIGN_DATA`` names, then in ``../shared/data``
    beside the working directory and beside the checkout of this package.
    """
    checkout = Path(__file__).resolve().parents[2]
    stated = os.environ.get(VARIABLE)
    roots = [Path(stated)] if stated else [base.parent / "shared" / "data" for base in (Path.cwd(), checkout)]
    return next((root / name for root in roots if (root / name).is_dir()), None)


def download(file: PublicFile) -> Path:
    """Fetch a public file into the user's cache, unless it is there."""
    import pooch  # noqa: PLC0415 - where something is fetched

    try:
        found = pooch.retrieve(
            file.url, known_hash=f"sha256:{file.sha256}", fname=Path(file.path).name, path=cache_folder()
        )
    except ValueError as error:
        raise DataError(f"{file.url} does not have the known content and was not kept: {error}") from error
    except OSError as error:
        raise DataError(
            f"{file.url} cannot be fetched ({error}); put the dataset into a folder named by {VARIABLE}"
        ) from error
    return Path(found)


def cache_folder() -> Path:
    """Name the folder into which public files are fetched."""
    import pooch  # noqa: PLC0415 - where something is fetched

    return Path(pooch.os_cache("inverse-design"))


def open_laufer(folder: Path) -> Screen:
    """Join the pairs with the authors' single effects.

    The pairs are on a scale whose origin is not the control: a pair is the sum of its single effects plus an
    offset. The offset is estimated as the mean difference between a query beside a negative control and the
    single effect of that query, and removed. Pairs measured in both roles are averaged.
    """
    files = [folder / "pairs.parquet", folder / "main_effects.csv.gz"]
    table, singles = pd.read_parquet(files[0]), pd.read_csv(files[1])
    features = list(singles.columns[2:])
    pairs = table[table["kind"] == "pair"].reset_index(drop=True)
    spreads = pairs[[f"{feature}__sd" for feature in features]].to_numpy(np.float64)
    squared = pd.DataFrame(spreads**2 / pairs[["n_wells"]].to_numpy(), columns=features)
    alone, alone_squared = _singles(singles, pairs, squared, features)
    together = pairs[features] - _offset(table, singles, features)
    both, both_squared = _pairs(pairs, together, squared)
    done = [Perturbation((_knockdown(str(gene)),)) for gene in alone.index]
    done += [Perturbation((_knockdown(first), _knockdown(second))) for first, second in both.index]
    effects = np.concatenate([alone.to_numpy(np.float64), both.to_numpy(np.float64)])
    errors = np.sqrt(np.concatenate([alone_squared.to_numpy(np.float64), both_squared.to_numpy(np.float64)]))
    return Screen.from_labels(
        torch.from_numpy(effects),
        done,
        features,
        standard_errors=torch.from_numpy(errors),
        provenance={
            "source": ", ".join(file.name for file in files),
            "sha256": ", ".join(sha256_of(file) for file in files),
            "standard errors": "of pairs: spread over wells; of singles: that of the mean over their partners",
            "origin": "pairs: minus the mean offset between queries beside a control and single effects",
            "averaged": f"{len(pairs) - len(both)} pairs measured in both roles; 14 singles from the query role",
            "dropped rows by kind": "14 of kind 'same_gene', 20 of kind 'single_query', 7 negative controls",
        },
    )


def _knockdown(gene: str) -> Intervention:
    return Intervention(gene, "knockdown")


def _offset(table: pd.DataFrame, singles: pd.DataFrame, features: list[str]) -> pd.Series:
    beside_control = table[table["kind"] == "single_query"].set_index("query")[features]
    alone = singles[singles["role"] == "query"].set_index("gene")[features]
    return (beside_control - alone).mean()


def _singles(
    singles: pd.DataFrame, pairs: pd.DataFrame, squared: pd.DataFrame, features: list[str]
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Take the query role, averaged over most partners, where a gene has both roles."""
    measured = singles[singles["gene"] != "negctrl"].sort_values("role", kind="stable")
    chosen = measured.drop_duplicates("gene").set_index("gene")
    by_role = {}
    for role in ("query", "target"):
        grouped = squared.groupby(pairs[role])
        by_role[role] = grouped.sum().div(grouped.size() ** 2, axis=0)
    spread = pd.concat([by_role[role].loc[chosen.index[chosen["role"] == role]] for role in by_role])
    return chosen[features], spread.loc[chosen.index]


def _pairs(
    pairs: pd.DataFrame, together: pd.DataFrame, squared: pd.DataFrame
) -> tuple[pd.DataFrame, pd.DataFrame]:
    ordered = pd.DataFrame(np.sort(pairs[["target", "query"]].to_numpy(dtype=str), axis=1), columns=PAIR)
    keys = [ordered[name] for name in PAIR]
    grouped = squared.groupby(keys)
    counts = grouped.size()
    return together.groupby(keys).mean(), grouped.sum().div(counts**2, axis=0)


NORMAN_BUNDLE = PublicFile(
    repository="MasalaKimchi/cell-state-reachability",
    commit="9b7a2b195e5e573c9b8a465cce9e9786e033aaf8",
    path="notebooks/cache/norman_effect_bundle.npz",
    sha256="8979d2ff3ea4e110f0e48f6342d0766c90036fe9876b9de53c93a8a401ec6f12",
)


def open_norman_bundle(path: Path) -> Screen:
    """Read the public bundle of ``norman2019_expr``, which has effects and names, but no fixed folds."""
    try:
        with np.load(path, allow_pickle=False) as bundle:
            effects = np.concatenate([bundle["lfc_s"], bundle["lfc_d"]]).astype(np.float64)
            labels = [str(label) for key in ("sing_labels", "doub_labels") for label in bundle[key]]
            genes = [str(gene) for gene in bundle["genes_hvg"]]
    except (KeyError, ValueError, OSError, zipfile.BadZipFile) as error:
        raise DataError(f"{path.name!r} is not the known bundle of effects: {error}") from error
    return Screen.from_labels(
        torch.from_numpy(effects),
        [Perturbation.parse(label) for label in labels],
        genes,
        contexts=["K562"] * len(labels),
        provenance={"source": path.name, "sha256": sha256_of(path)},
    )


GENE_FEATURES = "gene_features"


@dataclass(frozen=True)
class Dataset:
    """One dataset of the catalogue."""

    folder: str  # name of its folder
    source: str  # public repository that the numbers are from
    unit: str  # unit of the effects
    open: Callable[[Path], Screen]  # from the folder to the screen


def names() -> tuple[str, ...]:
    """List the names that :func:`open_dataset` knows."""
    return tuple(sorted(_DATASETS))


def locate(name: str) -> Path:
    """Find the folder of a dataset."""
    dataset = _DATASETS.get(name)
    folder = find_folder(_folder_name(name))
    if folder is None:
        source = "" if dataset is None else f" (public source: github.com/{dataset.source})"
        raise DataError(
            f"the data of {name!r} are not on this machine{source} and no download is offered; set {VARIABLE} to"
            f" the folder that holds {_folder_name(name)!r}"
        )
    return folder


def is_available(name: str) -> bool:
    """Say whether a dataset can be opened without a download."""
    return find_folder(_folder_name(name)) is not None


def open_dataset(name: str) -> Screen:
    """Open a dataset by its name.

    ``norman2019_expr`` is fetched once from its public source when it is not on this machine; the content of
    the other public files is not pinned by a known checksum, so no download is offered.

    Args:
        name: One of :func:`names`.

    Returns:
        The screen.

    Raises:
        UnknownNameError: If there is no dataset of that name.
        DataError: If it is not a screen, or its data are not on this machine and cannot be fetched.
    """
    if name == GENE_FEATURES:
        raise DataError(f"{name!r} describes genes and is no screen; locate({name!r}) gives its folder")
    if name == "norman2019_expr" and not is_available(name):
        return _named(open_norman_bundle(download(NORMAN_BUNDLE)), name)
    folder = locate(name)
    return _named(_DATASETS[name].open(folder), name)


def load(source: str | Path) -> Screen:
    """Open a dataset of the catalogue by name, or else read a file.

    Args:
        source: One of :func:`names`, or a path.

    Returns:
        The screen.

    Raises:
        UnknownNameError: If it is neither a known name nor a file.
        DataError: If the file or the dataset is refused.
    """
    if str(source) in _DATASETS or str(source) == GENE_FEATURES:
        return open_dataset(str(source))
    if not Path(source).exists():
        raise UnknownNameError.from_known("dataset or file", str(source), names())
    return read_screen(source)


def file_of_cells(name: str) -> tuple[Path, Mode]:
    """Find the file of single cells behind a dataset, and in which mode it is read."""
    folder = locate(name)
    opened = _DATASETS[name].open if name in _DATASETS else None
    if not (isinstance(opened, partial) and opened.func is _open_cells):
        raise DataError(
            f"{name!r} holds effects of conditions, not single cells; take another, such as kang2018_pbmc"
        )
    return folder / "cells.h5ad", opened.keywords["mode"]


def replicate_error(screen: Screen, replicates: Mapping[str, tuple[str, str]]) -> Screen:
    """Give a screen of means of two replicates its standard errors.

    Two values say little about the spread of one row, so the difference of replicates is pooled over all rows:
    the error of their mean is half its standard deviation, the same in each row.
    """
    columns = [[screen.annotations[name].to_numpy(np.float64) for name in replicates[r]] for r in screen.readouts]
    halves = torch.tensor([np.std(first - second, ddof=1) / 2 for first, second in columns], dtype=torch.float64)
    return replace(
        screen,
        standard_errors=halves.expand(len(screen), -1).clone(),
        provenance={**screen.provenance, "standard errors": "sd of replicate differences / 2, pooled over rows"},
    )


def _named(screen: Screen, name: str) -> Screen:
    return replace(screen, provenance={**screen.provenance, "dataset": name, "unit": _DATASETS[name].unit})


def _folder_name(name: str) -> str:
    if name == GENE_FEATURES:
        return name
    if name not in _DATASETS:
        raise UnknownNameError.from_known("dataset", name, (*_DATASETS, GENE_FEATURES))
    return _DATASETS[name].folder


def _open_fitness(folder: Path) -> Screen:
    screen = read_screen(folder / "pairs.parquet", mode="activation", readouts=["fitness"])
    return replicate_error(screen, {"fitness": ("fitness_rep1", "fitness_rep2")})


def _open_tcell(folder: Path) -> Screen:
    # CTRL is the gene of chymotrypsin-like protease here, not a control.
    readouts = ["ifng_lfc", "il2_lfc"]
    screen = read_screen(folder / "screen.parquet", mode="knockdown", reference_key="", readouts=readouts)
    donors = {f"{name}_lfc": (f"{name}_d1_lfc", f"{name}_d2_lfc") for name in ("ifng", "il2")}
    return replicate_error(screen, donors)


def _open_growth(folder: Path, *, line: str) -> Screen:
    return read_screen(folder / f"{line}.parquet", mode="knockdown", readouts=["gamma"])


def _open_growth_of_both(folder: Path) -> Screen:
    return join_contexts({name: _open_growth(folder, line=name.lower()) for name in ("Jurkat", "K562")})


def _open_cells(folder: Path, *, mode: Mode) -> Screen:
    return read_screen(folder / "cells.h5ad", mode=mode)


_HORLBECK = "NeptuneBio/NAIAD"
_PERTURBSEQ = "altoslabs/perturbench"
_GROWTH = "growth phenotype gamma: log2 enrichment per doubling against non-targeting"
_CELLS = "difference of mean log-normalised expression"
_K562 = Dataset("horlbeck2018", _HORLBECK, _GROWTH, partial(_open_growth, line="k562"))
_CRISPRA = Dataset("perturbseq_cells", _PERTURBSEQ, _CELLS, partial(_open_cells, mode="activation"))

_DATASETS: dict[str, Dataset] = {
    "norman2019_expr": Dataset(
        "norman2019_expr",
        NORMAN_BUNDLE.repository,
        "log fold change against pooled non-targeting control",
        lambda folder: read_screen(folder / "effects.h5ad"),
    ),
    "norman2019_fitness": Dataset(
        "norman2019_fitness", "thomasmaxwellnorman/Perturbseq_GI", _GROWTH, _open_fitness
    ),
    "horlbeck2018": _K562,
    "horlbeck2018_k562": _K562,
    "horlbeck2018_jurkat": Dataset("horlbeck2018", _HORLBECK, _GROWTH, partial(_open_growth, line="jurkat")),
    "horlbeck2018_both": Dataset("horlbeck2018", _HORLBECK, _GROWTH, _open_growth_of_both),
    "laufer2013": Dataset(
        "laufer2013",
        "bioconductor-source/HD2013SGI",
        "the authors' transformed and scaled image features, relative to the negative control",
        open_laufer,
    ),
    "cellbox_skmel133": Dataset(
        "cellbox_skmel133",
        "sanderlab/CellBox",
        "log ratio to untreated",
        lambda folder: read_screen(folder / "responses.csv", mode="compound"),
    ),
    "schmidt2022_tcell": Dataset(
        "schmidt2022_tcell", "genedisco/genedisco", "log2 fold change, high against low cytokine sort", _open_tcell
    ),
    "kang2018_pbmc": Dataset("kang2018_pbmc", "theislab/scgen", _CELLS, partial(_open_cells, mode="compound")),
    # One gene in two modes is two things: each study of the file is a screen of its own.
    "perturbseq_cells": _CRISPRA,
    "perturbseq_cells_crispra": _CRISPRA,
    "perturbseq_cells_crispri": Dataset(
        "perturbseq_cells", _PERTURBSEQ, _CELLS, partial(_open_cells, mode="knockdown")
    ),
    "oneil2016_synergy": Dataset(
        "oneil2016_synergy",
        "Sinwang404/DeepDDs",
        "Loewe-type synergy score",
        lambda folder: read_screen(folder / "synergy.parquet", readouts=["synergy"]),
    ),
}
