"""Gene symbols and what they are called today, by the HGNC table, or the few best known."""

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import pandas as pd

from surrogates.errors import DataError

_COLUMNS = ("symbol", "previous_symbols", "alias_symbols")
_VERSION = re.compile(r"(ENS[A-Z]*G\d{6,})\.\d+")
# Families that were renamed as spreadsheets make dates of them.
_RENAMED = re.compile(r"(SEPT|MARCH)(1[0-24]|[1-9])")
# Previous and alias symbols that are in use and lead to one approved symbol, by the HGNC table of 2026.
APPROVED = {
    "OCT4": "POU5F1", "P53": "TP53", "PU.1": "SPI1", "C-MYC": "MYC", "BRN2": "POU3F2", "NGN2": "NEUROG2",
    "HER2": "ERBB2", "HER3": "ERBB3", "MLL": "KMT2A", "MLL1": "KMT2A", "MLL3": "KMT2C", "PDL1": "CD274",
    "PD-L1": "CD274", "TIM3": "HAVCR2", "BLIMP1": "PRDM1", "T-BET": "TBX21", "ERK1": "MAPK3", "ERK2": "MAPK1",
    "MEK1": "MAP2K1", "MEK2": "MAP2K2", "H2AFX": "H2AX", "H2AFZ": "H2AZ1", "CD20": "MS4A1", "AML1": "RUNX1",
    "WDR61": "SKIC8", "IL8": "CXCL8", "FAM60A": "SINHCAF", "C10orf54": "VSIR",
}  # fmt: skip


def gene_key(name: str) -> str:
    """The approved symbol of a gene, and an Ensembl id without its version; any other name stays."""
    if found := _VERSION.fullmatch(name):
        return found[1]
    if found := _RENAMED.fullmatch(name):
        return f"{'SEPTIN' if found[1] == 'SEPT' else 'MARCHF'}{int(found[2])}"
    return APPROVED.get(name, name)


def matched(wanted: Iterable[str], known: Mapping[str, int]) -> dict[str, int]:
    """Find names among known ones: as they are, else the only one of the same gene."""
    names = list(wanted)
    if all(name in known for name in names):
        return {name: known[name] for name in names}
    of_gene: dict[str, list[int]] = {}
    for name, number in known.items():
        of_gene.setdefault(gene_key(name), []).append(number)
    asked = Counter(map(gene_key, names))
    found = {}
    for name in names:
        same = of_gene.get(gene_key(name), [])
        if name in known:
            found[name] = known[name]
        elif len(same) == 1 == asked[gene_key(name)]:
            found[name] = same[0]
    return found


@dataclass(frozen=True)
class Symbols:
    """Approved gene symbols, and the previous and alias symbols that lead to them."""

    approved: frozenset[str]  # every approved symbol
    previous: Mapping[str, tuple[str, ...]]  # from each previous symbol to the genes that bore it
    alias: Mapping[str, tuple[str, ...]]  # the same for alias symbols

    @classmethod
    def from_table(cls, table: pd.DataFrame) -> "Symbols":
        """Read the HGNC table."""
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

    def resolve(self, names: Iterable[str]) -> dict[str, str]:
        """Find the approved symbols of some names; one that is unknown or could mean several genes has none."""
        found = {name: self.candidates(name) for name in names}
        return {name: genes[0] for name, genes in found.items() if len(genes) == 1}


def _lookup(symbols: pd.Series, others: pd.Series) -> dict[str, tuple[str, ...]]:
    genes: dict[str, set[str]] = {}
    for symbol, listed in zip(symbols, others.fillna(""), strict=True):
        for other in filter(None, (part.strip() for part in listed.split(","))):
            genes.setdefault(other, set()).add(symbol)
    return {other: tuple(sorted(found)) for other, found in genes.items()}
