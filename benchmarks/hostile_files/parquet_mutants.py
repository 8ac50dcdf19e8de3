"""Parquet with columns of other types, other metadata, other row groups."""

import io
import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

_PANDAS: tuple[object, ...] = (
    [], {}, "x", None, {"columns": 1}, {"index_columns": ["no"]}, {"index_columns": [{"kind": "range"}]},
    {"index_columns": [{"kind": "range", "name": None, "start": 0, "stop": 10**12, "step": 1}], "columns": []},
    {"index_columns": [],
     "columns": [{"name": "r0", "pandas_type": "datetimetz", "numpy_type": "x", "metadata": 3}]},
    {"index_columns": ["r0"], "columns": [{"name": "r0", "field_name": "r0", "pandas_type": "categorical",
                                           "numpy_type": "object", "metadata": None}]},
    {"index_columns": ["r0", "r0"], "columns": [], "column_indexes": [{"name": None}]},
)  # fmt: skip


def mutate_parquet(rng: np.random.Generator, raw: bytes, path: Path) -> str:
    """Write a mutant of a table, and say what was done."""
    table = pq.read_table(io.BytesIO(raw))
    kind = str(rng.choice(["column", "column", "column", "metadata", "footer", "groups", "names", "schema"]))
    if kind == "footer":
        return _footer(rng, raw, path)
    if kind == "column":
        number, (what, column) = int(rng.integers(table.num_columns)), _column(rng, table.num_rows)
        table = table.set_column(number, table.column_names[number], column)
        said = f"column {number} of {what}"
    elif kind == "metadata":
        value = _PANDAS[int(rng.integers(len(_PANDAS)))]
        text = json.dumps(value) if rng.random() < 0.8 else "{"
        table, said = table.replace_schema_metadata({"pandas": text}), f"pandas = {text[:80]}"
    elif kind == "names":
        names = list(table.column_names)
        names[int(rng.integers(len(names)))] = str(rng.choice(["", "r1", "\0", "x" * 5000, "index", "a.b", "\n"]))
        table, said = table.rename_columns(names), "names"
    elif kind == "schema":
        said = "no rows" if rng.random() < 0.5 else "no columns"
        table = table.slice(0, 0) if said == "no rows" else table.select([])
    else:
        said = "groups"
    pq.write_table(
        table, path, row_group_size=int(rng.choice([1, 3, 1000])), compression=str(rng.choice(["none", "zstd"]))
    )
    return said


def _column(rng: np.random.Generator, rows: int) -> tuple[str, pa.Array]:
    numbers = np.arange(rows)
    made = {
        "list": lambda: pa.array([[1.0, 2.0]] * rows),
        "map": lambda: pa.array([[("a", 1.0)]] * rows, pa.map_(pa.string(), pa.float64())),
        "struct": lambda: pa.array([{"a": 1.0}] * rows),
        "bytes": lambda: pa.array([b"G0+G1"] * rows),
        "broken bytes": lambda: pa.array([b"\xff\xfe\0"] * rows),
        "nulls": lambda: pa.nulls(rows),
        "booleans": lambda: pa.array((numbers % 2).astype(bool)),
        "times": lambda: pa.array(numbers.astype("datetime64[s]")),
        "durations": lambda: pa.array(numbers.astype("timedelta64[s]")),
        "late times": lambda: pa.array(
            [2**62] * rows, pa.timestamp("us", tz="Mars/Phobos" if rng.random() < 0.5 else "UTC")
        ),
        "dates": lambda: pa.array(numbers.astype("datetime64[D]")),
        "decimals": lambda: pa.array(numbers).cast(pa.decimal128(30, 2)),
        "categories": lambda: pa.array([f"G{row}" for row in numbers]).dictionary_encode(),
        "categories of numbers": lambda: pa.array(numbers / 2).dictionary_encode(),
        "halves": lambda: pa.array(numbers.astype(np.float16)),
        "large": lambda: pa.array([2**64 - 1] * rows, pa.uint64()),
        "not finite": lambda: pa.array([np.inf] * rows),
        "huge texts": lambda: pa.array(["9" * 100_000] * rows),
        "texts": lambda: pa.array(["\0a\n"] * rows),
        "fixed": lambda: pa.array([b"abcd"] * rows, pa.binary(4)),
        "few nulls": lambda: pa.array([None, *numbers[1:].tolist()]),
        "words": lambda: pa.array(["a", *map(str, numbers[1:].tolist())]),
    }
    what = str(rng.choice(list(made)))
    return what, made[what]()


def _footer(rng: np.random.Generator, raw: bytes, path: Path) -> str:
    """Turn bytes of the footer, which says where everything is."""
    length = int.from_bytes(raw[-8:-4], "little")
    data = bytearray(raw)
    start = len(raw) - 8 - length
    for place in start + rng.integers(length + 4, size=int(rng.integers(1, 4))):
        data[place] = int(rng.choice([0, 1, 0x7F, 0x80, 0xFF, int(rng.integers(256))]))
    path.write_bytes(bytes(data))
    return f"footer from {start}"
