"""The readers of screens by the ending of a file; nothing is imported until one is asked for."""

from typing import TYPE_CHECKING

from surrogates.registry import Registry

if TYPE_CHECKING:
    from surrogates.data.io.readers import Reader

TABLE = "surrogates.data.io.readers:screen_of_text"
READERS: "Registry[Reader]" = Registry(
    kind="file format",
    group="inverse_design.readers",
    shipped={
        "h5ad": "surrogates.data.io.read_h5ad:screen_of_h5ad",
        "h5mu": "surrogates.data.io.formats.multimodal:screen_of_h5mu",
        **dict.fromkeys(("zarr", "zarr.zip"), "surrogates.data.io.formats.zarr_store:screen_of_zarr"),
        **dict.fromkeys(("gct", "gct.gz", "gctx"), "surrogates.data.io.formats.gct:screen_of_gct"),
        **dict.fromkeys(("csv", "csv.gz", "tsv", "tsv.gz", "txt", "txt.gz", "xlsx", "parquet"), TABLE),
    },
)
TABLE_ENDINGS = tuple(f".{name}" for name, reader in READERS.shipped.items() if reader == TABLE)


def endings() -> tuple[str, ...]:
    """List the endings of files that can be read."""
    return tuple(f".{name}" for name in READERS.names())
