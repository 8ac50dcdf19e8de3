"""AnnData by its parts, so that nothing has to import it, or pandas, to read one."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

if TYPE_CHECKING:
    import pandas as pd

LEFT_OUT = -1  # number of the condition, or of the batch, of a row that is not read


@runtime_checkable
class CellMatrix(Protocol):
    """Cells by readouts, in memory or on disk, dense or sparse; slices of it fit into memory."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Numbers of cells and readouts."""

    def __getitem__(self, key: tuple[slice, slice], /) -> object:
        """Read a block of rows or columns."""


@runtime_checkable
class Stored(Protocol):
    """A group of a file, HDF5 or zarr, whose parts are found by their paths."""

    def __contains__(self, path: str, /) -> bool:
        """Tell whether there is such a part."""

    def __getitem__(self, path: str, /) -> Any:  # noqa: ANN401 - a group or an array of either library
        """Find a part; nothing is read."""

    def __iter__(self) -> Iterator[str]:
        """Name the parts."""


@runtime_checkable
class AnnotatedMatrix(Protocol):
    """What is read of an ``AnnData`` in memory, or backed by a file."""

    @property
    def X(self) -> CellMatrix | None:  # noqa: N802 - its name in AnnData
        """Cells or conditions by readouts."""

    @property
    def obs(self) -> pd.DataFrame:
        """What was done in each row."""

    @property
    def var(self) -> pd.DataFrame:
        """The readouts, by their names."""

    @property
    def layers(self) -> Mapping[str, CellMatrix]:
        """Further matrices of the same shape."""

    @property
    def uns(self) -> Mapping[str, object]:
        """Anything else, by name."""


def is_annotated(source: object) -> bool:
    """Tell AnnData by its parts: to compute ``X`` of a view, as a check of the protocol would, copies it."""
    return all(hasattr(source, part) for part in ("obs", "var", "layers", "uns"))
