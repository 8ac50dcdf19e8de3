"""Which transcription factors regulate which genes: CollecTRI, or a table of the user's."""

from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import TypeAlias

import pandas as pd

from surrogates.data.catalogue import GENE_FEATURES, is_available, locate
from surrogates.data.descriptors import read_symbols
from surrogates.errors import DataError

Regulations: TypeAlias = tuple[tuple[str, str], ...]  # regulator, and the gene that it regulates


def regulations_among(names: Sequence[str]) -> Regulations:
    """Take from CollecTRI [Müller-Dott 2023] what links genes of these names, of any age.

    Nothing where the tables of gene features are not on this machine. Self-regulation is left out.
    """
    if not is_available(GENE_FEATURES):
        return ()
    folder = locate(GENE_FEATURES)
    approved = read_symbols(folder).resolve(names)
    spelt: dict[str, list[str]] = {}
    for name in dict.fromkeys(names):
        spelt.setdefault(approved.get(name, name), []).append(name)
    known = {gene for gene, of in spelt.items() if len(of) == 1}  # two names of one gene say nothing of either
    table = _collectri(folder)
    table = table[table["source"].isin(known) & table["target"].isin(known)]
    return tuple((spelt[source][0], spelt[target][0]) for source, target in table.itertuples(index=False))


def regulations_from(table: pd.DataFrame) -> Regulations:
    """Read a network of your own from a table with the columns ``source`` and ``target``."""
    if missing := {"source", "target"} - set(table.columns):
        raise DataError(f"a network needs the columns source and target; {min(missing)!r} is missing")
    pairs = table[["source", "target"]]
    if (gaps := pairs.isna().any(axis=1)).any():
        row = int(gaps.to_numpy().argmax())
        raise DataError(f"row {row + 1} of the network lacks a name; fill it or remove the row")
    return tuple(dict.fromkeys((str(one), str(other)) for one, other in pairs.itertuples(index=False)))


@cache
def _collectri(folder: Path) -> pd.DataFrame:
    table = pd.read_parquet(folder / "collectri.parquet")[["source", "target"]]
    symbols = read_symbols(folder)
    approved = symbols.resolve([*table["source"], *table["target"]])
    table = table.map(lambda name: approved.get(name, name))
    return table[table["source"] != table["target"]].drop_duplicates(ignore_index=True)
