"""Known edges, such as a regulatory network, that a causal model penalises less."""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float
from torch import Tensor

from surrogates.errors import DataError

_SHOWN = 5


@dataclass(frozen=True)
class PriorGraph:
    """Edges that are likely before anything is measured.

    Attributes:
        edges: Source, target, and weight of each edge; the sign of a weight is not used.
        discount: Relative penalty of an edge of weight one, above 0 and at most 1; ``discount ** abs(weight)`` in
            general.
    """

    edges: tuple[tuple[str, str, float], ...]
    discount: float = 0.5

    def __post_init__(self) -> None:
        """Refuse a discount out of range and weights that are not finite."""
        if not 0 < self.discount <= 1:
            raise DataError(f"discount {self.discount!r} is not above 0 and at most 1")
        bad = [edge for edge in self.edges if not np.isfinite(edge[2])]
        if bad:
            raise DataError(f"{len(bad)} edge(s) of the prior graph have no finite weight, such as {bad[0]!r}")

    @classmethod
    def from_table(cls, table: pd.DataFrame, *, discount: float = 0.5) -> "PriorGraph":
        """Read a table of edges.

        Args:
            table: Columns ``source`` and ``target``; a column ``weight`` if edges differ.
            discount: Relative penalty of an edge of weight one.

        Returns:
            The graph; an edge that occurs twice keeps its largest weight.

        Raises:
            DataError: If a column is missing, a name is empty, or a weight is not finite.
        """
        if missing := {"source", "target"} - set(table.columns):
            raise DataError(
                f"a prior graph needs columns source and target; missing: {', '.join(sorted(missing))}"
            )
        names = table[["source", "target"]]
        if bool(names.isna().to_numpy().any()):
            raise DataError(f"{int(names.isna().any(axis=1).sum())} edge(s) of the prior graph have no name")
        weights = table["weight"] if "weight" in table.columns else pd.Series(1.0, index=table.index)
        rows = zip(names["source"].astype(str), names["target"].astype(str), weights.astype(float), strict=True)
        return cls(tuple(rows), discount=discount)

    def factors(self, sources: Sequence[str], readouts: Sequence[str]) -> Float[Tensor, "q g"]:
        """Turn the graph into relative penalties.

        Args:
            sources: The nodes at which edges may start.
            readouts: Where they may end.

        Returns:
            One where no edge is known, less where one is.

        Raises:
            DataError: If no edge runs between names of the screen.
        """
        row = {name: number for number, name in enumerate(sources)}
        column = {name: number for number, name in enumerate(readouts)}
        factors = torch.ones(len(row), len(column), dtype=torch.float64)
        known = [edge for edge in self.edges if edge[0] in row and edge[1] in column]
        strangers = sorted({name for edge in self.edges for name in edge[:2]} - row.keys() - column.keys())
        shown = ", ".join(strangers[:_SHOWN])
        if not known:
            raise DataError(
                f"none of the {len(self.edges)} edges of the prior graph runs from a source to a readout of the"
                f" screen; {len(strangers)} of its names are unknown here ({shown}): check the symbols"
            )
        if strangers:
            warnings.warn(
                f"{len(strangers)} names of the prior graph are not in the screen, such as {shown};"
                f" {len(known)} of {len(self.edges)} edges are used",
                stacklevel=2,
            )
        for source, target, weight in known:
            at = (row[source], column[target])
            factors[at] = min(float(factors[at]), self.discount ** abs(weight))
        return factors
