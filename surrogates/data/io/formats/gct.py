"""Screens from the formats of the Connectivity Map: ``.gct`` as text, ``.gctx`` as HDF5 (L1000, levels 3 to 5)."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import h5py
import numpy as np
import pandas as pd
from jaxtyping import Float

from surrogates.data.io.dialects import Dialect
from surrogates.data.io.h5ad_file import opened, readout_names
from surrogates.data.io.read_h5ad import screen_of_parts
from surrogates.data.io.tabular import text_of
from surrogates.data.screen import Screen
from surrogates.errors import DataError

_ABSENT = frozenset({"", "-666", "-666.0", "na", "nan"})


def screen_of_gct(
    path: Path,
    stated: Dialect,
    *,
    layer_key: str | None,
    readouts: Sequence[str] | None,
    provenance: Mapping[str, str],
) -> Screen:
    """Read profiles or signatures; conditions with two of them or more on average are compared with their control.

    Raises:
        DataError: If the file is damaged, or its content is refused.
    """
    if layer_key is not None:
        raise DataError(f"layer_key={layer_key!r} is stated, but {path.name!r} has no layers")
    obs, var, values = _of_gctx(path) if path.suffix == ".gctx" else _of_gct(path)
    names, said = readout_names(var)
    return screen_of_parts(_told(obs), values, names, stated, readouts=readouts, known={**provenance, **said})


def _of_gct(path: Path) -> tuple[pd.DataFrame, pd.DataFrame, Float[np.ndarray, "rows g"]]:
    """Read text: two lines of sizes, a header, rows of what is known of columns, then one row per gene."""
    lines = [line.rstrip("\r").split("\t") for line in text_of(path).rstrip("\n").split("\n")]
    version = lines[0][0].strip()
    try:
        genes, columns, of_genes, of_columns = ([*map(int, filter(None, lines[1])), 0, 0])[:4]
        first = 1 + of_genes + (version == "#1.2")  # whose one column of descriptions is not counted
        header, known = lines[2], {row[0]: row[first:] for row in lines[3 : 3 + of_columns]}
        body = lines[3 + of_columns : 3 + of_columns + genes]
        values = np.array([row[first:] for row in body], dtype=np.float64)
    except (ValueError, IndexError) as error:
        raise DataError(f"{path.name!r} is no readable .gct file ({error}); it may be cut short") from error
    if version not in {"#1.2", "#1.3"} or values.shape != (genes, columns) or len(header) != first + columns:
        raise DataError(
            f"{path.name!r} is no readable .gct file: it says version {version[:20]!r} and {genes} rows of"
            f" {columns} columns, and holds values of shape {values.shape}; it may be cut short"
        )
    obs = pd.DataFrame(known, index=pd.Index(header[first:], name="sig_id"))
    var = pd.DataFrame([row[1:first] for row in body], index=[row[0] for row in body], columns=header[1:first])
    return obs, var, values.T


def _of_gctx(path: Path) -> tuple[pd.DataFrame, pd.DataFrame, Float[np.ndarray, "rows g"]]:
    with opened(path) as file:
        try:
            obs, var = (_meta(file[f"0/META/{part}"]) for part in ("COL", "ROW"))
            values = np.asarray(file["0/DATA/0/matrix"], dtype=np.float64)
        except (KeyError, TypeError, ValueError) as error:
            raise DataError(f"{path.name!r} is HDF5, but no .gctx file ({error})") from error
    if values.shape != (len(obs), len(var)):
        raise DataError(f"{path.name!r} holds {values.shape} values beside {len(obs)} columns and {len(var)} rows")
    return obs, var, values


def _meta(group: h5py.Group) -> pd.DataFrame:
    """What is known of rows or columns, by their ids."""
    table = pd.DataFrame(
        {
            name: [each.decode() if isinstance(each, bytes) else each for each in stored[:]]
            for name, stored in group.items()
        }
    )
    return table.set_index("id")


def _told(obs: pd.DataFrame) -> pd.DataFrame:
    """Write what is absent, ``-666`` in the Connectivity Map, as missing."""
    text = obs.astype(str).apply(lambda column: column.str.strip())
    return obs.mask(text.apply(lambda column: column.str.casefold().isin(_ABSENT))).reset_index(names="sig_id")
