"""Screens from the formats of the Connectivity Map: ``.gct`` as text, ``.gctx`` as HDF5 (L1000, levels 3 to 5)."""

import re
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from pathlib import Path

import h5py
import numpy as np
import pandas as pd
from jaxtyping import Float

from surrogates.data.io.annotated import CellMatrix
from surrogates.data.io.dialects import Dialect
from surrogates.data.io.h5ad_file import readout_names
from surrogates.data.io.read_h5ad import screen_of_parts
from surrogates.data.io.tabular import text_of
from surrogates.data.io.untrusted.hdf5 import opened, part
from surrogates.data.io.untrusted.matrices import read, stored_matrix
from surrogates.data.screen import Screen
from surrogates.errors import DataError, listed, shown

_GCTX_VALUES = "0/DATA/0/matrix"
_ABSENT = frozenset({"", "-666", "-666.0", "-666.000000", "na", "nan"})
# Quality, plates and chemistry of signatures, which differ between replicates and are none of their conditions.
_BOOKKEEPING = re.compile(
    r"distil_.*|qc_.*|.*_q75|.*_self.*|pct_.*|ngenes_.*|tas|.*_tas|ss_.*|cc_.*|is_.*|brew_prefix|bead_.*|det_.*|rna_.*"
    r"|nsample.*|.*_(lm|bing|ratio|count|score|rank)|.*smiles|inchi.*|pubchem.*|pert_(id|mfc.*|plate|well|vehicle|2.*)"
    r"|pool.*|mfc_.*|project.*|.*_date|build.*|count_.*|.*_plate|.*_well|provenance.*|data_level|x_.*",
    re.IGNORECASE,
)
_NOMINAL_DOSE, _MEASURED_DOSE = "pert_idose", ("pert_dose", "pert_dose_unit")
# Names that the Connectivity Map gives to its columns: plate, cell line, time and more.
_SIGNATURE = re.compile(r"[A-Z0-9.]+_[A-Z0-9.]+_\d+H[_:].*")


def screen_of_gct(path: Path, stated: Dialect, provenance: Mapping[str, str]) -> Screen:
    """Read profiles or signatures; conditions with two or more on average are compared with their control."""
    if stated.layer_key is not None:
        raise DataError(f"layer_key={stated.layer_key!r} is stated, but {path.name!r} has no layers")
    with _gctx(path) if path.suffix == ".gctx" else nullcontext(_of_gct(path)) as (obs, var, values):
        names, said = readout_names(var)
        table, left = _conditions(obs, stated, path.name)
        return screen_of_parts(table, values, names, stated, known={**provenance, **said, **left}, replicates={})


def _of_gct(path: Path) -> tuple[pd.DataFrame, pd.DataFrame, Float[np.ndarray, "rows g"]]:
    """Read text: two lines of sizes, a header, rows of what is known of columns, then one row per gene."""
    try:
        lines = [line.rstrip("\r").split("\t") for line in text_of(path).rstrip("\n").split("\n")]
        version = lines[0][0].strip()
        genes, columns, of_genes, of_columns = ([*map(int, filter(None, lines[1])), 0, 0])[:4]
        first = 1 + of_genes + (version == "#1.2")  # whose one column of descriptions is not counted
        header, above = lines[2], lines[3 : 3 + of_columns]
        body = lines[3 + of_columns : 3 + of_columns + genes]
        values = np.array([row[first:] for row in body], dtype=np.float64)
        obs = pd.DataFrame({row[0]: row[first:] for row in above}, index=header[first:])
        var = pd.DataFrame([row[1:first] for row in body], index=[row[0] for row in body], columns=header[1:first])
    except (ValueError, IndexError, OSError, EOFError, zlib.error) as error:
        raise DataError(
            f"{path.name!r} is no readable .gct file ({shown(error, bare=True)}): cut short?"
        ) from error
    if version not in {"#1.2", "#1.3"} or values.shape != (genes, columns) or not values.size:
        raise DataError(
            f"{path.name!r} is no readable .gct file: it says {version[:20]!r} and {genes} rows of {columns}"
            f" columns, and holds values of shape {values.shape}; it may be cut short"
        )
    return obs, var, values.T


@contextmanager
def _gctx(path: Path) -> Iterator[tuple[pd.DataFrame, pd.DataFrame, CellMatrix]]:
    """Open HDF5; the matrix stays on disk, columns by rows."""
    with opened(path) as file:
        obs, var = (_meta(file, f"0/META/{each}", path) for each in ("COL", "ROW"))
        stored = stored_matrix(file, _GCTX_VALUES, shape=(len(obs), len(var)))
        if stored is None:
            raise DataError(f"{path.name!r} is HDF5, but no readable .gctx file: it has no {_GCTX_VALUES!r}")
        yield obs, var, stored


def _meta(file: h5py.File, key: str, path: Path) -> pd.DataFrame:
    """What is known of rows or columns, by their ids."""
    group = part(file, key, whole=True)
    if not isinstance(group, h5py.Group) or "id" not in group:
        raise DataError(f"{path.name!r} is HDF5, but no readable .gctx file: it has no {f'{key}/id'!r}")
    table = {}
    for name, stored in group.items():
        if not isinstance(stored, h5py.Dataset) or stored.ndim != 1:
            raise DataError(f"{shown(f'{key}/{name}')} of {path.name!r} is no column of texts or numbers")
        column = read(stored, f"{key}/{name}").tolist()
        try:
            table[str(name)] = [each.decode() if isinstance(each, bytes) else each for each in column]
        except UnicodeDecodeError as error:
            raise DataError(f"{shown(f'{key}/{name}')} holds bytes that are no text in UTF-8") from error
    if len(set(map(len, table.values()))) > 1:
        raise DataError(
            f"the columns of {key!r} in {path.name!r} differ in length; the file is damaged: copy it again"
        )
    ids = pd.Index([str(name) for name in table.pop("id")], dtype=object)
    return pd.DataFrame(table, index=ids)


def _conditions(obs: pd.DataFrame, stated: Dialect, file: str) -> tuple[pd.DataFrame, dict[str, str]]:
    """What was done in each column: without what tells quality or plates, and with ``-666`` as missing."""
    asked = (stated.target_col,) if isinstance(stated.target_col, str) else stated.target_col or ()
    keep = {stated.dose_col, stated.group_col, stated.batch_col, *asked}
    names = [str(name) for name in obs]
    left = [name for name in names if _BOOKKEEPING.fullmatch(name) and name not in keep]
    if {_NOMINAL_DOSE, _MEASURED_DOSE[0]} <= set(names) and stated.dose_col is None:
        left += [name for name in _MEASURED_DOSE if name in names]
    if not set(names) - set(left) and "sig_id" not in asked and all(map(_SIGNATURE.fullmatch, obs.index)):
        raise DataError(
            f"{file!r} names its columns, such as {shown(str(obs.index[0]))}, but does not say what was done in"
            " them: add pert_iname, pert_type, pert_idose and cell_id from the table of signatures (siginfo) as"
            " metadata of columns, or name the columns with target_col='sig_id' (--target-col)"
        )
    kept = obs.drop(columns=left)
    text = kept.astype(str).apply(lambda column: column.str.strip())
    known = kept.mask(text.apply(lambda column: column.str.casefold().isin(_ABSENT))).reset_index(names="sig_id")
    return known, {"dropped columns": f"{listed(left)} (quality, plates and chemistry)"} if left else {}
