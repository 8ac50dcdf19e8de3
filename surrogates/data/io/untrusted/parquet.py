"""Tables in Parquet, read in small parts, so that what is declared takes no more memory than the file may have."""

from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from surrogates.data.io.untrusted.sizes import refuse_too_large
from surrogates.errors import DataError, shown

_ROWS = 1024  # of a part
_MOST_COLUMNS = 200_000
# What pyarrow raises on damaged files, and what it and pandas raise on what a file says of pandas.
_BROKEN = (
    pa.ArrowException, OSError, ValueError, KeyError, TypeError, IndexError, AttributeError, OverflowError,
    NotImplementedError, AssertionError, MemoryError, RecursionError,
)  # fmt: skip


def read_parquet(path: Path) -> pd.DataFrame:
    """Read a table; row names become columns."""
    try:
        with pq.ParquetFile(path, memory_map=False) as file:
            _refuse_types(file.schema_arrow, path)
            table = _joined(file, path)
        frame = _plain(table).to_pandas(split_blocks=False)
    except _BROKEN as error:
        why = shown(str(error) or type(error).__name__, bare=True)
        raise DataError(f"{path.name!r} cannot be read as a table ({why}); write or copy it again") from error
    named: pd.DataFrame = frame if isinstance(frame.index, pd.RangeIndex) else frame.reset_index()
    return named


def _joined(file: pq.ParquetFile, path: Path) -> pa.Table:
    of_file = path.stat().st_size
    rows, columns = int(file.metadata.num_rows), int(file.metadata.num_columns)
    refuse_too_large(f"{path.name!r} ({rows:,} rows of {columns:,} columns)", 8 * rows * columns, of_file=of_file)
    held, parts = 0, []
    for batch in file.iter_batches(batch_size=_ROWS, use_threads=False):
        held += batch.nbytes
        refuse_too_large(repr(path.name), 2 * held, of_file=of_file)
        parts.append(batch)
    return pa.Table.from_batches(parts, schema=parts[0].schema if parts else file.schema_arrow)


def _refuse_types(schema: pa.Schema, path: Path) -> None:
    if len(schema.names) > _MOST_COLUMNS:
        raise DataError(
            f"{path.name!r} has {len(schema.names):,} columns, more than {_MOST_COLUMNS:,}; write it as .h5ad"
        )
    for field in schema:
        kind = field.type
        kind = kind.value_type if pa.types.is_dictionary(kind) else kind
        if pa.types.is_nested(kind) or isinstance(kind, pa.BaseExtensionType):
            raise DataError(
                f"column {shown(field.name)} of {path.name!r} holds {shown(str(kind), bare=True)} in each row,"
                " neither a number nor a text; remove it, or write one column for each part"
            )


def _plain(table: pa.Table) -> pa.Table:
    """Bytes that are text become text; whatever else they are is refused."""
    for place, field in enumerate(table.schema):
        kind = field.type
        if pa.types.is_binary(kind) or pa.types.is_large_binary(kind) or pa.types.is_fixed_size_binary(kind):
            try:
                column = table.column(place).cast(pa.large_binary()).cast(pa.large_string())
            except pa.ArrowException as error:
                raise DataError(
                    f"column {shown(field.name)} holds bytes that are no text; remove it, or write it as text"
                ) from error
            table = table.set_column(place, field.name, column)
    return table
