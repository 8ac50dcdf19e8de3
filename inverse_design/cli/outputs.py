"""Files that a verb writes, checked before the work and written whole or not at all; and their manifest."""

import json
import platform
import tempfile
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Protocol, runtime_checkable

import pandas as pd
import torch

from inverse_design.cli.console import Run, strict
from inverse_design.errors import OutputError
from inverse_design.spreadsheets import save_csv, save_workbook
from inverse_design.value_tables import names_a_file
from surrogates.data.screen import Screen
from surrogates.registry import Registry, installed_version
from surrogates.whole_file import staged, write_whole

PICTURE_ENDINGS = (".svg", ".png", ".pdf")
PAGE_ENDING = ".html"
METADATA_KEY = b"inverse_design"
DISTRIBUTION = "inverse-design"
_SIGN = f'"tool": "{DISTRIBUTION}"'.encode()  # of a manifest


def check_writable(
    path: str | Path, *, endings: Sequence[str], inputs: Sequence[str | Path] = (), force: bool = False
) -> Path:
    """Refuse a place that could not or should not be written, before any work is done."""
    shown = repr(str(path))
    if not str(path).isprintable():
        raise OutputError(f"output {shown} has characters that no file name should have; choose another name")
    file = Path(path)
    if not file.name.endswith(tuple(endings)) or file.name in endings:
        raise OutputError(f"output {shown} must be a name that ends with {' or '.join(endings)}")
    if file.parent.exists() and not file.parent.is_dir():
        raise OutputError(f"output {shown}: {str(file.parent)!r} is not a folder")
    if not file.parent.exists():
        raise OutputError(f"output {shown}: there is no folder {str(file.parent)!r}; make it first")
    if any(_is_same(written, Path(read)) for read in inputs for written in (file, sidecar_of(file))):
        raise OutputError(f"output {shown} would overwrite what is read; choose another name")
    _try_out(file)
    if not force and not _is_ours(file):
        raise OutputError(
            f"output {shown} exists and was not written by {DISTRIBUTION}; choose another name, or overwrite it"
            " with --force"
        )
    return file


def place_for(path: str | None, run: Run, *endings: str, inputs: Sequence[str] = ()) -> Path | None:
    """Refuse a place that could not be written, if one is named; not all inputs need be files."""
    if path is None:
        return None
    read = [each for each in inputs if names_a_file(each)]
    return check_writable(path, endings=endings, inputs=read, force=run.force)


def _is_ours(file: Path) -> bool:
    """Tell whether nothing that others have written would be lost: figures and manifests say who wrote them."""
    picture = file.suffix in (*PICTURE_ENDINGS, PAGE_ENDING)
    sign = DISTRIBUTION.encode() if picture else _SIGN
    there = [each for each in (file, sidecar_of(file)) if each.exists() and each.stat().st_size]
    signed = [each for each in there if picture or each.suffix == ".json"]
    return not there or any(sign in each.read_bytes() for each in signed)


def sidecar_of(path: Path) -> Path:
    """Name the JSON file beside a table."""
    return path.with_name(path.name + ".json")


@runtime_checkable
class Writer(Protocol):
    """Writes tables in one format; its name in the entry-point group ``inverse_design.writers`` is the ending."""

    def __call__(self, table: pd.DataFrame, path: Path, facts: Mapping[str, object]) -> None:
        """Write a table.

        Args:
            table: What to write, without its index.
            path: A new file; it gets its name once it is whole.
            facts: What explains the table; a file beside it holds them in any case.
        """
        ...


WRITERS: Registry[Writer] = Registry(
    kind="output format",
    group="inverse_design.writers",
    shipped={
        "csv": "inverse_design.cli.outputs:write_csv",
        "json": "inverse_design.cli.outputs:write_json_rows",
        "parquet": "inverse_design.cli.outputs:write_parquet",
        "xlsx": "inverse_design.cli.outputs:write_xlsx",
    },
)


def table_endings() -> tuple[str, ...]:
    """List the endings of tables that can be written."""
    return tuple(f".{name}" for name in WRITERS.names())


def write_table(table: pd.DataFrame, path: Path, facts: Mapping[str, object]) -> tuple[Path, Path]:
    """Write a table in the format of its ending with a JSON sidecar: both are whole before either has its name."""
    fitting = [name for name in WRITERS.names() if path.name.endswith(f".{name}")]
    write = WRITERS.load(max(fitting, key=len) if fitting else path.suffix[1:])
    sidecar = sidecar_of(path)
    with staged([path, sidecar]) as parts:
        write(table, parts[path], facts)
        _write_json(facts, parts[sidecar])
    return path, sidecar


def write_csv(table: pd.DataFrame, path: Path, _facts: Mapping[str, object]) -> None:
    """Write comma-separated values in which no text acts as a formula."""
    save_csv(table, path)


def write_json_rows(table: pd.DataFrame, path: Path, _facts: Mapping[str, object]) -> None:
    """Write one JSON object per row."""
    path.write_text((table.to_json(orient="records", indent=1) or "[]") + "\n", encoding="utf-8")


def write_parquet(table: pd.DataFrame, path: Path, facts: Mapping[str, object]) -> None:
    """Write Parquet with the manifest in its metadata."""
    import pyarrow as pa  # noqa: PLC0415 - most verbs write no Parquet file
    import pyarrow.parquet as pq  # noqa: PLC0415

    frame = pa.Table.from_pandas(table, preserve_index=False)
    known = json.dumps(strict(facts.get("manifest")), allow_nan=False).encode()
    pq.write_table(frame.replace_schema_metadata({**(frame.schema.metadata or {}), METADATA_KEY: known}), path)


def write_xlsx(table: pd.DataFrame, path: Path, _facts: Mapping[str, object]) -> None:
    """Write the sheet of a workbook."""
    save_workbook({"Sheet1": table}, path)


def write_facts(path: Path, facts: Mapping[str, object]) -> Path:
    """Write what explains a file beside it, whole or not at all."""
    sidecar = sidecar_of(path)
    write_whole(sidecar, lambda part: _write_json(facts, part))
    return sidecar


def _write_json(facts: Mapping[str, object], path: Path) -> None:
    path.write_text(json.dumps(strict(facts), indent=1, allow_nan=False) + "\n", encoding="utf-8")


def _try_out(file: Path) -> None:
    """Create and remove a temporary file: permissions alone do not say (read-only mounts, quotas)."""
    try:
        if file.is_dir() or sidecar_of(file).is_dir():
            raise OutputError(f"output {str(file)!r} is a folder; name a file in it")
        sidecar_of(file).exists()  # a name that is too long fails here
        with tempfile.NamedTemporaryFile(dir=file.parent):
            pass
    except OSError as error:
        raise OutputError(f"output {str(file)!r} cannot be written: {error.strerror or error}") from error


def _is_same(written: Path, read: Path) -> bool:
    try:
        return written.exists() and read.exists() and written.samefile(read)
    except OSError:
        return False


PACKAGES = ("torch", "numpy", "pandas", "scipy", "anndata", "h5py", "pyarrow")


def manifest(
    run: Run, screen: Screen | None, *, seed: int, settings: Mapping[str, object] | None = None
) -> dict[str, object]:
    """Collect what somebody needs to repeat a result."""
    return {
        "tool": DISTRIBUTION,
        "version": installed_version(DISTRIBUTION),
        "python": platform.python_version(),
        "packages": {name: installed_version(name) for name in PACKAGES},
        "machine": f"{platform.system()} {platform.machine()}, {torch.get_num_threads()} threads",
        "command": run.command,
        **({"config": run.manner.from_file} if run.manner.from_file else {}),
        **({} if screen is None else _data(screen)),
        "seed": seed,
        "settings": dict(settings or {}),
        "started": run.started.isoformat(timespec="seconds"),
        "ended": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def _data(screen: Screen) -> dict[str, object]:
    return {
        "data": dict(screen.provenance),
        "conditions": len(screen),
        "readouts": len(screen.readouts),
        "context": ", ".join(sorted(set(screen.contexts))),
    }
