"""Descriptors of genes made of the shipped tables: functions, regulation, and what genes are called."""

import re
from collections.abc import Sequence
from functools import cache
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from surrogates.data.catalogue import GENE_FEATURES, is_available, locate
from surrogates.data.descriptors import Descriptors
from surrogates.data.symbols import Symbols
from surrogates.errors import DataError

_SHORTEST_WORD = 3


def gene_descriptors(targets: Sequence[str]) -> tuple[Descriptors, ...]:
    """Describe genes by Gene Ontology, CollecTRI and TRRUST, and HGNC names, as far as the tables know them.

    Args:
        targets: Gene symbols, of any age.

    Returns:
        Up to four descriptors, compared by cosine, each without the genes that it does not know: ``go``
        (biological processes), ``regulated`` (the genes that a transcription factor regulates, with sign),
        ``regulators`` (the factors that regulate a gene) and ``gene_names`` (words of the full name, and stems of
        the symbol, which families share). Rare columns weigh more. None when the tables are not on this machine.
    """
    if not is_available(GENE_FEATURES):
        return ()
    folder = locate(GENE_FEATURES)
    resolver = read_symbols(folder)
    genes = sorted({*resolver.resolve(targets).approved.values()})
    made = [_described(table, genes, name=name, resolver=resolver) for name, table in _tables(folder).items()]
    return tuple(each for each in made if each is not None)


@cache
def read_symbols(folder: Path) -> Symbols:
    """Read the HGNC table of a folder, once."""
    return Symbols.from_table(pd.read_parquet(folder / "hgnc.parquet"))


def membership(
    table: pd.DataFrame, genes: Sequence[str], *, name: str, resolver: Symbols | None = None
) -> Descriptors | None:
    """Make a descriptor of a long table of memberships.

    A column's values are multiplied by ``sqrt(log(n / n_c))``, with ``n`` genes in the table and ``n_c`` of them
    in the column: sharing a rare set says more (inverse document frequency).

    Raises:
        DataError: If a column is missing, or a weight is not finite.
    """
    if missing := [column for column in ("gene", "feature", "weight") if column not in table]:
        raise DataError(f"the memberships of {name!r} have no column {missing[0]!r}")
    return _described(_by_rarity(table), genes, name=name, resolver=resolver)


def _by_rarity(table: pd.DataFrame) -> pd.DataFrame:
    table = table.drop_duplicates(["gene", "feature"])
    rarity = np.sqrt(np.log(table["gene"].nunique() / table.groupby("feature")["gene"].transform("size")))
    counted = table.assign(weight=table["weight"] * rarity)
    return counted[counted["weight"] != 0]


def _described(
    table: pd.DataFrame, genes: Sequence[str], *, name: str, resolver: Symbols | None
) -> Descriptors | None:
    chosen = table[table["gene"].isin(set(genes))]
    if chosen.empty:
        return None
    rows, symbols = pd.factorize(chosen["gene"], sort=True)
    columns, features = pd.factorize(chosen["feature"], sort=True)
    vectors = torch.zeros(len(symbols), len(features), dtype=torch.float64)
    vectors[torch.tensor(rows), torch.tensor(columns)] = torch.tensor(chosen["weight"].to_numpy(np.float64))
    return Descriptors(name, "cosine", tuple(symbols), vectors, resolver)


@cache
def _tables(folder: Path) -> dict[str, pd.DataFrame]:
    resolver = read_symbols(folder)
    network = _network(folder, resolver)
    processes = pd.read_parquet(folder / "go_bp.parquet").rename(columns={"term": "feature"})
    tables = {
        "go": _approved(processes.assign(weight=1.0), "gene", resolver),
        "regulated": network.rename(columns={"source": "gene", "target": "feature"}),
        "regulators": network.rename(columns={"target": "gene", "source": "feature"}),
        "gene_names": _names(pd.read_parquet(folder / "hgnc.parquet")),
    }
    return {name: _by_rarity(table) for name, table in tables.items()}


def _network(folder: Path, resolver: Symbols) -> pd.DataFrame:
    """Join both networks; where they disagree on the sign, CollecTRI counts."""
    sign = {"Repression": -1.0}
    trrust = pd.read_parquet(folder / "trrust.parquet")
    trrust = trrust.assign(weight=trrust["mode"].map(sign).fillna(1.0))[["source", "target", "weight"]]
    edges = pd.concat([pd.read_parquet(folder / "collectri.parquet"), trrust], ignore_index=True)
    edges = edges.assign(weight=edges["weight"].astype(np.float64))
    edges = _approved(_approved(edges, "source", resolver), "target", resolver)
    return edges.drop_duplicates(["source", "target"])


def _approved(table: pd.DataFrame, column: str, resolver: Symbols) -> pd.DataFrame:
    """Bring a column of symbols up to date; names that cannot be resolved stay, and match themselves only."""
    approved = resolver.resolve(table[column].unique()).approved
    return table.assign(**{column: table[column].map(lambda name: approved.get(name, name))})


def _names(hgnc: pd.DataFrame) -> pd.DataFrame:
    rows = [
        (symbol, word)
        for symbol, name in zip(hgnc["symbol"], hgnc["name"].fillna(""), strict=True)
        for word in _words(symbol, name)
    ]
    return pd.DataFrame(rows, columns=["gene", "feature"]).assign(weight=1.0)


def _words(symbol: str, name: str) -> set[str]:
    """Words of a full name, and the beginnings of the letters that open a symbol."""
    words = {word for word in re.findall(r"[a-z]+", name.lower()) if len(word) >= _SHORTEST_WORD}
    found = re.match(r"[A-Z]+", symbol)
    stem = found[0] if found else ""
    return words | {f"{stem[:length]}-" for length in range(_SHORTEST_WORD, len(stem) + 1)}
