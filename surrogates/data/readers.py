"""Reading a screen from a file that a user brings."""

from collections.abc import Sequence
from pathlib import Path

from surrogates.data.dialects import Dialect
from surrogates.data.perturbation import Mode
from surrogates.data.read_table import screen_of_table
from surrogates.data.screen import Screen
from surrogates.data.sources import sha256_of
from surrogates.errors import DataError

TABLE_SUFFIXES = (".csv", ".csv.gz", ".tsv", ".tsv.gz", ".parquet")


def read_screen(  # noqa: PLR0913 - one argument for each thing that may be ambiguous, as users know them
    path: str | Path,
    *,
    target_col: str | Sequence[str] | None = None,
    reference_key: str | None = None,
    dose_col: str | None = None,
    group_col: str | None = None,
    layer_key: str | None = None,
    sep: str | None = None,
    mode: Mode | None = None,
    readouts: Sequence[str] | None = None,
) -> Screen:
    """Read effects, or single cells, from an ``.h5ad`` file or a table.

    Whatever is not stated is detected, and the provenance of the screen says what was taken and why. Cells
    (conditions with two rows or more on average, ``.h5ad`` only) become effects with standard errors, block by
    block, so the file may be larger than memory.

    Args:
        path: The file: ``.h5ad``, ``.csv``, ``.tsv`` (both also ``.gz``) or ``.parquet``.
        target_col: Column of labels, or several columns with one part of the combination each.
        reference_key: Label of the control; empty when no label is one (``CTRL`` is a gene, too).
        dose_col: Column of doses.
        group_col: Column of contexts (cell type, line, batch).
        layer_key: Layer to read instead of ``X``; ``.h5ad`` only.
        sep: What stands between the parts of a combination.
        mode: How targets are acted upon; where the file names several modes, only rows of this one are read.
        readouts: Names of the readouts; by default all.

    Returns:
        The screen.

    Raises:
        DataError: If the file cannot be read, more than one column qualifies, or the content is refused; the
            message names the value seen and what to do.
    """
    file = Path(path)
    kind = suffix_of(file)
    stated = Dialect(target_col, reference_key, dose_col, group_col, sep, mode)
    provenance = {"source": file.name, "sha256": sha256_of(file)}
    if kind == ".h5ad":
        from surrogates.data.read_h5ad import screen_of_h5ad  # noqa: PLC0415 - AnnData takes seconds to import

        return screen_of_h5ad(file, stated, layer_key=layer_key, readouts=readouts, provenance=provenance)
    if layer_key is not None:
        raise DataError(f"layer_key={layer_key!r} is stated, but {file.name!r} is a table, which has no layers")
    return screen_of_table(file, stated, readouts=readouts, provenance=provenance)


def suffix_of(file: Path) -> str:
    """Find the ending of a file that can be read.

    Args:
        file: The file.

    Returns:
        Its ending, for example ``".h5ad"``.

    Raises:
        DataError: If there is no such file, or its ending is none of those that are read.
    """
    if file.is_dir():
        raise DataError(f"{str(file)!r} is a folder; name a file in it")
    if not file.is_file():
        raise DataError(f"there is no file {str(file)!r}")
    known = (".h5ad", *TABLE_SUFFIXES)
    found = next((suffix for suffix in known if file.name.endswith(suffix)), None)
    if found is None:
        raise DataError(
            f"{file.name!r} has none of the known endings {', '.join(known)}; convert it to one of them"
        )
    return found
