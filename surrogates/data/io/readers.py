"""Reading a screen from what a user brings: a file, a DataFrame, or AnnData in memory."""

import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Protocol, Unpack, runtime_checkable

import pandas as pd

from surrogates.data.columns import TARGET_COLUMNS, folded
from surrogates.data.io.annotated import AnnotatedMatrix, is_annotated
from surrogates.data.io.dialects import Dialect, ReadOptions, names_targets
from surrogates.data.io.effects import screen_of_table
from surrogates.data.io.formats.differential import comparisons_in, screen_of_comparisons
from surrogates.data.io.formats.guides import (
    holds_guide_counts,
    screen_of_guide_counts,
    screen_of_summary,
    summarises_genes,
)
from surrogates.data.io.formats.registry import READERS, TABLE, endings
from surrogates.data.io.tabular import read_delimited, read_sheet, refuse_repeats
from surrogates.data.io.untrusted.parquet import read_parquet
from surrogates.data.screen import Screen
from surrogates.errors import DataError, shown
from surrogates.whole_file import Fingerprint, sha256_of


@runtime_checkable
class Reader(Protocol):
    """Reads screens of one format; its name in the entry-point group ``inverse_design.readers`` is the ending."""

    def __call__(self, path: Path, stated: Dialect, provenance: Mapping[str, str]) -> Screen:
        """Read a screen.

        Args:
            path: The file.
            stated: What is known about it: its columns, the layer to read (refuse one where the format has none),
                and the names of the readouts, by default all.
            provenance: Name and checksum of the file, to be kept in the screen's provenance.

        Returns:
            The screen.

        Raises:
            DataError: If the file cannot be read, or its content is refused; never another error.
        """
        ...


_WITH_MODALITIES = frozenset({"h5mu", "zarr", "zarr.zip"})


def read_screen(source: str | Path | pd.DataFrame | AnnotatedMatrix, **options: Unpack[ReadOptions]) -> Screen:
    """Read effects, or single cells, from a file, a DataFrame, or AnnData in memory.

    Whatever is not stated is detected, and the provenance of the screen says what was taken and why. Cells
    (conditions with two rows or more on average, AnnData only) become effects with standard errors, block by
    block, so a file may be larger than memory. Rows of one condition in a table are averaged,
    and the mean of control rows is subtracted.

    Example:
        >>> labels = ["KLF1", "SPI1", "SPI1+KLF1"]
        >>> read_screen(pd.DataFrame({"g1": [1.0, 0.5, 1.4], "g2": [0.0, 2.0, 1.8]}, index=labels))
        Screen: 3 conditions (2 singles, 1 double) on 2 readouts
        unit: as in the source; read from a DataFrame

    Args:
        source: A file (``.h5ad``, ``.zarr``, ``.h5mu``; ``.csv``, ``.tsv`` or ``.txt``, also ``.gz``; ``.xlsx``,
            ``.parquet``, ``.gct``, ``.gctx``, or what a plug-in reads); a DataFrame with one row per condition or
            replicate, labels in a column or as row names; ``AnnData`` of cells or effects; or a folder of
            ``.h5ad`` files of cells, such as one per plate.
        target_col: Column of labels, or several columns with one part of the combination each; the row names of a
            DataFrame or of ``obs`` are called ``index`` unless they have a name.
        reference_key: Label of the control, or several, which are pooled; empty when no label is one
            (``CTRL`` is a gene, too).
        dose_col: Column of doses.
        group_col: Column of contexts (cell type, line).
        batch_col: Column of batches (plate, donor, lane): rows are compared with the controls of their own batch,
            and those of a batch without controls are left out. In a table of effects it names replicates.
        layer_key: Layer to read instead of ``X``; AnnData only.
        normalise: Values are counts of molecules: scale each cell to the median total and take ``log(1 + x)``. If
            false, whole numbers are taken as they are; by default they are, and the provenance says that they look
            like counts.
        collapse_guides: Labels name guides, such as ``KLF1_1`` and ``sgKLF1-2``: read them as their gene.
        sep: What stands between the parts of a combination; empty when no label is one.
        mode: How targets are acted upon; where the source names several modes, only rows of this one are read.
        modality: Which modality of MuData to read, where several have readouts.
        baseline_cols: Columns of counts of guides before the treatment, or without it (plasmid, day 0, vehicle).
        endpoint_cols: Columns of counts of guides after it; the readout is the log2 fold change between the two.
        readouts: Names of the readouts; by default all.
        spread: Who reads and sums cells: processes of this machine or a cluster, and where finished sums are kept;
            the screen is the same bytes.

    Returns:
        The screen.

    Raises:
        WorkerError: If workers die again and again, or a scheduler cannot be used.
        DataError: If the source cannot be read, more than one column qualifies, or the content is refused; the
            message names the value seen and what to do.
    """
    return screen_of(source, Dialect(**options))


def screen_of(source: str | Path | pd.DataFrame | AnnotatedMatrix, stated: Dialect) -> Screen:
    """Read as :func:`read_screen` does, with all that is known in one value."""
    if isinstance(source, str | Path):
        file = Path(source)
        ending = suffix_of(file)[1:]
        _refuse_idle(stated, ending, repr(file.name))
        read, content = READERS.load(ending), Fingerprint.of(file)
        screen = read(file, stated, {"source": file.name, "sha256": sha256_of(file)})
        content.require(file)
        return screen
    if isinstance(source, pd.DataFrame):
        _refuse_idle(stated, "csv", "the DataFrame")
        _refuse_layer(stated, "the DataFrame")
        return _screen_of_layout(_table_of_frame(source, stated), stated, {"source": "a DataFrame"})
    if not is_annotated(source):
        raise DataError(
            f"a screen cannot be read from a {type(source).__name__}; give a path, a DataFrame with one row per"
            " condition, or an AnnData"
        )
    _refuse_idle(stated, "h5ad", "AnnData")
    from surrogates.data.io.read_h5ad import screen_of_annotated  # noqa: PLC0415 - AnnData takes seconds to import

    return screen_of_annotated(source, stated)


def screen_of_text(path: Path, stated: Dialect, provenance: Mapping[str, str]) -> Screen:
    """Read a table: delimited text, a sheet, or Parquet."""
    _refuse_layer(stated, repr(path.name))
    table, form = _table(path, stated)
    return _screen_of_layout(table, stated, {**provenance, "format": form} if form else provenance)


def _screen_of_layout(table: pd.DataFrame, stated: Dialect, provenance: Mapping[str, str]) -> Screen:
    """Read a table as its columns say: a summary of MAGeCK, counts of guides, tests of expression, or effects."""
    if summarises_genes(table):
        return screen_of_summary(table, stated, provenance)
    if holds_guide_counts(table, stated):
        return screen_of_guide_counts(table, stated, provenance)
    if (parts := comparisons_in(table, stated)) is not None:
        return screen_of_comparisons(table, parts, stated, provenance)
    return screen_of_table(table, stated, provenance)


def _refuse_idle(stated: Dialect, ending: str, what: str) -> None:
    """Refuse what is stated of parts that a shipped format does not have."""
    if ending not in READERS.shipped:
        return
    if stated.modality is not None and ending not in _WITH_MODALITIES:
        raise DataError(f"modality={stated.modality!r} is stated, but {what} has no modalities")
    arms = stated.baseline_cols or stated.endpoint_cols
    if arms and READERS.shipped[ending] != TABLE:
        raise DataError(f"baseline_cols= or endpoint_cols= is stated, but {what} is no table of counts of guides")


def _refuse_layer(stated: Dialect, what: str) -> None:
    if stated.layer_key is not None:
        raise DataError(f"layer_key={stated.layer_key!r} is stated, but {what} is a table, which has no layers")
    if stated.normalise:
        raise DataError(f"normalise=True is stated, but {what} is a table of conditions, not of cells with counts")


def _table_of_frame(frame: pd.DataFrame, stated: Dialect) -> pd.DataFrame:
    """Make columns of row names, as a file would have them; row numbers of pandas are no names and go.

    Texts without a name are the labels, unless it is stated, or a column says by its name, that others are.
    """
    if isinstance(frame.columns, pd.MultiIndex):
        raise DataError("the DataFrame has columns of several levels; give it one name per column")
    if frame.empty:
        raise DataError(f"the DataFrame of shape {frame.shape} is empty; give one row per condition")
    table, index = frame.set_axis(frame.columns.map(str), axis=1), frame.index
    unnamed = index.nlevels == 1 and index.name is None
    if unnamed and index.dtype.kind in "iu":
        table = table.reset_index(drop=True)
    else:
        labels = stated.target_col is None and not names_targets(table.columns)
        table = table.reset_index(names="perturbation" if labels else "index") if unnamed else table.reset_index()
        table.columns = table.columns.map(str)
    refuse_repeats(list(table.columns))
    return table


def _table(path: Path, stated: Dialect) -> tuple[pd.DataFrame, str]:
    labels = {name for columns in TARGET_COLUMNS for name in columns}
    named = [stated.target_col] if isinstance(stated.target_col, str) else stated.target_col or []

    def is_text(name: str) -> bool:
        """Names that look like numbers (drug 901) must stay as they are written."""
        return folded(name) in labels or name in named

    try:
        if path.suffix == ".parquet":
            return _unrepeated(read_parquet(path)), ""
        return (
            read_sheet(path, is_text=is_text) if path.suffix == ".xlsx" else read_delimited(path, is_text=is_text)
        )
    except (ValueError, OSError, EOFError, KeyError, zlib.error, zipfile.BadZipFile) as error:
        raise DataError(f"{path.name!r} cannot be read as a table: {shown(error, bare=True)}") from error


def _unrepeated(table: pd.DataFrame) -> pd.DataFrame:
    table.columns = table.columns.map(str)
    refuse_repeats(list(table.columns))
    return table


def suffix_of(file: Path) -> str:
    """Find the ending of a file that can be read."""
    if file.is_dir() and file.suffix != ".zarr":
        if any(file.glob("*.h5ad")):
            return ".h5ad"
        raise DataError(f"{str(file)!r} is a folder without .h5ad files of cells; name a file in it")
    if not (file.is_file() or file.is_dir()):
        raise DataError(f"there is no file {str(file)!r}")
    known = endings()
    found = [ending for ending in known if file.name.endswith(ending)]
    if not found:
        raise DataError(
            f"{file.name!r} has none of the known endings {', '.join(known)}; convert it to one of them"
        )
    return max(found, key=len)
