"""Gene symbols and what they are called today, by the HGNC table."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import pandas as pd

from surrogates.errors import DataError

_COLUMNS = ("symbol", "previous_symbols", "alias_symbols")


@dataclass(frozen=True)
class Resolution:
    """What became of some names.

    Attributes:
        ambiguous: From each name that could mean several genes to their approved symbols; none was chosen.
    """

    approved: Mapping[str, str]  # from each name that could be resolved to its approved symbol
    ambiguous: Mapping[str, tuple[str, ...]]
    unknown: tuple[str, ...]  # names that no gene has or had


@dataclass(frozen=True)
class Symbols:
    """Approved gene symbols, and the previous and alias symbols that lead to them.

    Attributes:
        previous: From each previous symbol to the approved symbols of the genes that bore it, sorted.
    """

    approved: frozenset[str]  # every approved symbol
    previous: Mapping[str, tuple[str, ...]]
    alias: Mapping[str, tuple[str, ...]]  # the same for alias symbols

    @classmethod
    def from_table(cls, table: pd.DataFrame) -> "Symbols":
        """Read the HGNC table.

        Raises:
            DataError: If a column is missing.
        """
        if missing := [name for name in _COLUMNS if name not in table]:
            raise DataError(f"the symbol table has no column {missing[0]!r}; it needs {', '.join(_COLUMNS)}")
        return cls(
            frozenset(table["symbol"]),
            _lookup(table["symbol"], table["previous_symbols"]),
            _lookup(table["symbol"], table["alias_symbols"]),
        )

    def candidates(self, name: str) -> tuple[str, ...]:
        """List the genes that a name can mean.

        An approved symbol means that gene; else a previous symbol counts before an alias.
        """
        if name in self.approved:
            return (name,)
        return self.previous.get(name) or self.alias.get(name, ())

    def resolve(self, names: Iterable[str]) -> Resolution:
        """Find the approved symbols of some names; an ambiguous name is listed, not guessed."""
        found = {name: self.candidates(name) for name in names}
        return Resolution(
            approved={name: genes[0] for name, genes in found.items() if len(genes) == 1},
            ambiguous={name: genes for name, genes in found.items() if len(genes) > 1},
            unknown=tuple(name for name, genes in found.items() if not genes),
        )


def _lookup(symbols: pd.Series, others: pd.Series) -> dict[str, tuple[str, ...]]:
    genes: dict[str, set[str]] = {}
    for symbol, listed in zip(symbols, others.fillna(""), strict=True):
        for other in filter(None, (part.strip() for part in listed.split(","))):
            genes.setdefault(other, set()).add(symbol)
    return {other: tuple(sorted(found)) for other, found in genes.items()}
