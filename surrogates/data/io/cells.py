"""Single cells with their design, for models that predict cells and not means."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from surrogates.data.io.annotated import LEFT_OUT
from surrogates.data.io.design import design_of
from surrogates.data.io.dialects import Dialect
from surrogates.data.io.h5ad_file import design_table, frame, in_memory, matrix
from surrogates.data.io.readers import suffix_of
from surrogates.data.io.tabular import positions
from surrogates.data.io.untrusted.hdf5 import opened
from surrogates.data.perturbation import Perturbation
from surrogates.data.vocabulary import Vocabulary
from surrogates.errors import DataError, UnknownNameError
from surrogates.summary import summary
from surrogates.whole_file import sha256_of

CONTROL = Perturbation()


@dataclass(frozen=True)
class Cells:
    """Values of single cells, and what was done to each of them in which context.

    Attributes:
        values: Log-normalised values, ``log1p`` of size-normalised counts; dense.
        codes: Number of the condition of each cell.
        perturbations: What was done in each condition; the empty one is the control.
        contexts: Context of each condition, such as a cell type; empty when there is only one.
        readouts: Names of the columns.
        provenance: Facts about where the cells come from.
        embeddings: What another model makes of each cell, such as a foundation model; used by few.
    """

    values: Float[Tensor, "cells g"]
    codes: Int[Tensor, "cells"]
    perturbations: tuple[Perturbation, ...]
    contexts: tuple[str, ...]
    readouts: tuple[str, ...]
    provenance: Mapping[str, str] = field(default_factory=dict)
    embeddings: Float[Tensor, "cells d"] | None = None
    __repr__ = summary

    def __post_init__(self) -> None:
        """Refuse parts that do not belong together, names that occur twice, and values that are not finite."""
        shape, wanted = tuple(self.values.shape), (len(self.codes), len(self.readouts))
        if shape != wanted:
            raise DataError(f"values of shape {shape} for {wanted[0]} cells and {wanted[1]} readouts")
        if len(set(self.readouts)) < len(self.readouts):
            twice = next(name for name in self.readouts if self.readouts.count(name) > 1)
            raise DataError(f"readout {twice!r} occurs more than once; keep one of its columns")
        if len(self.perturbations) != len(self.contexts):
            raise DataError(f"{len(self.perturbations)} perturbations beside {len(self.contexts)} contexts")
        Vocabulary.of(self.perturbations)  # refuses a target in two modes: labels would not distinguish them
        if not len(self) or not 0 <= int(self.codes.min()) <= int(self.codes.max()) < len(self.perturbations):
            known = len(self.perturbations)
            raise DataError(f"the codes of {len(self)} cells are not numbers of {known} conditions")
        if not bool(torch.isfinite(self.values).all()):
            cell, column = torch.nonzero(~torch.isfinite(self.values))[0].tolist()
            raise DataError(
                f"the cells hold NaN or infinite values, first cell {cell}, readout {self.readouts[column]!r};"
                " remove the cell or the readout"
            )
        if (table := self.embeddings) is not None and not (
            table.ndim == 2 and len(table) == len(self) and table.shape[1] and bool(torch.isfinite(table).all())
        ):
            raise DataError(
                f"embeddings of shape {tuple(table.shape)} are not a finite row for each of {len(self)} cells"
            )

    def __len__(self) -> int:
        return len(self.codes)

    @property
    def context_names(self) -> tuple[str, ...]:
        """The contexts that have cells, sorted."""
        return tuple(sorted({context for _, context in self.sizes}))

    @property
    def treatments(self) -> tuple[Perturbation, ...]:
        """The perturbations that have cells, without the control, sorted by label."""
        treated = {perturbation for perturbation, _ in self.sizes if perturbation.order}
        return tuple(sorted(treated, key=lambda perturbation: perturbation.label))

    @property
    def sizes(self) -> dict[tuple[Perturbation, str], int]:
        """How many cells each condition has; conditions without cells are left out."""
        counts = torch.bincount(self.codes, minlength=len(self.perturbations)).tolist()
        named = zip(zip(self.perturbations, self.contexts, strict=True), counts, strict=True)
        return {condition: count for condition, count in named if count}

    def of(self, perturbation: Perturbation, context: str) -> Float[Tensor, "n g"]:
        """Take the values of the cells of one condition, one row each; the empty perturbation is the control."""
        rows = torch.nonzero(self._belongs(perturbation, context)).flatten()
        if not len(rows):
            there = sorted(str(other) for other, where in self.sizes if where == context)
            raise DataError(
                f"context {context!r} has no cells of {str(perturbation)!r}, only of"
                f" {', '.join(map(repr, there))}; add some, or take another context"
            )
        return self.values[rows]

    def without(self, perturbation: Perturbation, context: str) -> "Cells":
        """Leave the cells of one condition out."""
        return self.rows(torch.nonzero(~self._belongs(perturbation, context)).flatten())

    def rows(self, index: Int[Tensor, "m"]) -> "Cells":
        """Take some of the cells, in the order given."""
        embeddings = None if self.embeddings is None else self.embeddings[index]
        return replace(self, values=self.values[index], codes=self.codes[index], embeddings=embeddings)

    def in_canonical_order(self) -> "Cells":
        """Sort the cells by condition and value: what draws cells at random then sees no order."""
        named = zip(self.perturbations, self.contexts, strict=True)
        names = [(perturbation.label, context) for perturbation, context in named]
        rows = np.ascontiguousarray(self.values.cpu().numpy())
        keys = [
            (*names[code], hashlib.sha256(row.tobytes()).digest())
            for code, row in zip(self.codes.tolist(), rows, strict=True)
        ]
        return self.rows(torch.tensor(sorted(range(len(self)), key=keys.__getitem__)))

    def _belongs(self, perturbation: Perturbation, context: str) -> Tensor:
        if context not in self.context_names:
            raise UnknownNameError.from_known("context", context, self.context_names)
        named = zip(self.perturbations, self.contexts, strict=True)
        wanted = torch.tensor([condition == (perturbation, context) for condition in named])
        return wanted[self.codes]


def read_cells(
    path: str | Path,
    *,
    stated: Dialect | None = None,
    layer_key: str | None = None,
    readouts: Sequence[str] | None = None,
) -> Cells:
    """Read single cells from an ``.h5ad`` file into memory.

    Columns are found as by :func:`surrogates.data.io.readers.read_screen`, and the provenance says what was taken.

    Args:
        path: The file.
        stated: What is known about its columns; the rest is detected.
        layer_key: Layer to read instead of ``X``.
        readouts: Which variables to keep; all by default.

    Returns:
        The cells. Rows of a mode that is not read are left out.

    Raises:
        UnknownNameError: If a layer, column or readout does not exist.
        DataError: If the file is damaged, is not AnnData, or its content is refused.
    """
    file = Path(path)
    if suffix_of(file) != ".h5ad":
        raise DataError(f"{file.name!r} is a table of conditions; single cells are read from .h5ad files")
    stated = stated or Dialect()
    with opened(file) as parts:
        table = design_table(frame(parts, "obs"), stated)
        names = tuple(frame(parts, "var").index.map(str))
        design = design_of(table, stated)
        values = in_memory(matrix(parts, layer_key, rows=len(table), columns=len(names)))
    keep = positions(names if readouts is None else readouts, names)
    read = np.flatnonzero(design.codes != LEFT_OUT)
    return Cells(
        values=torch.from_numpy(values[read][:, keep]),
        codes=torch.from_numpy(design.codes[read]),
        perturbations=design.perturbations,
        contexts=design.contexts,
        readouts=tuple(names[column] for column in keep),
        provenance={"source": file.name, "sha256": sha256_of(file), **design.provenance},
    )
