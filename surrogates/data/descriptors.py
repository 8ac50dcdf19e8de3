"""Descriptors of targets, measured or not: vectors and gene sets for genes, Morgan fingerprints for compounds."""

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache, cached_property
from pathlib import Path
from typing import Literal, get_args

import numpy as np
import pandas as pd
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from surrogates.data.catalogue import GENE_FEATURES, is_available, locate
from surrogates.data.symbols import Symbols
from surrogates.data.vocabulary import Vocabulary
from surrogates.errors import DataError

Kernel = Literal["linear", "cosine", "jaccard", "rbf"]
# Coordinates are found from at most so many targets, and extended to the others [Williams and Seeger 2001].
_MOST_LANDMARKS = 512
_VANISHING = 1e-10
_ROWS = 1024  # entries whose likeness to all others is held at once
_SHORTEST_WORD = 3


@dataclass(frozen=True)
class Descriptors:
    """A table from symbols to vectors, with the kernel by which they are compared.

    Two descriptors are equal when their contents are.

    Attributes:
        name: What it is called in tables.
        kernel: ``linear`` (inner product), ``cosine``, ``jaccard`` (of the columns that are not zero), or ``rbf``
            with the median distance as its length.
        symbols: Name of each row.
        vectors: One row per symbol.
        resolver: Finds symbols under their other names; without it, names must be spelled as in the table.
        digest: Hash of symbols and vectors.
    """

    name: str
    kernel: Kernel
    symbols: tuple[str, ...]
    vectors: Float[Tensor, "m f"] = field(compare=False, repr=False)
    resolver: Symbols | None = field(default=None, compare=False, repr=False)
    digest: str = field(init=False, repr=False)

    def __post_init__(self) -> None:
        """Refuse an unknown kernel, an empty table, symbols given twice, and values that are not finite."""
        if self.kernel not in get_args(Kernel):
            raise DataError(f"kernel {self.kernel!r} is not one of {', '.join(get_args(Kernel))}")
        if len(self.symbols) != len(self.vectors):
            raise DataError(f"{len(self.vectors)} vectors for {len(self.symbols)} symbols in {self.name!r}")
        if not self.vectors.numel():
            raise DataError(
                f"descriptor {self.name!r} has shape {tuple(self.vectors.shape)}; it describes nothing"
            )
        if twice := pd.Series(self.symbols)[pd.Series(self.symbols).duplicated()].tolist():
            raise DataError(f"symbol {twice[0]!r} occurs twice in descriptor {self.name!r}; keep one row of it")
        if len(bad := torch.nonzero(~torch.isfinite(self.vectors))):
            row, column = bad[0].tolist()
            raise DataError(
                f"descriptor {self.name!r} has {len(bad)} value(s) that are not finite, the first is"
                f" {float(self.vectors[row, column])} for {self.symbols[row]!r}, column {column}; remove those"
                " rows or columns, or impute them"
            )
        digest = hashlib.sha256("\n".join(self.symbols).encode())
        digest.update(str(self.vectors.dtype).encode() + self.vectors.contiguous().numpy().tobytes())
        object.__setattr__(self, "digest", digest.hexdigest())

    def __repr__(self) -> str:
        return (
            f"Descriptors({self.name!r}, {self.kernel}, {len(self.symbols):,} symbols, digest {self.digest[:12]})"
        )

    @classmethod
    def from_table(
        cls, table: pd.DataFrame, *, name: str, kernel: Kernel = "rbf", resolver: Symbols | None = None
    ) -> "Descriptors":
        """Take any table of embeddings.

        Args:
            table: Symbols in the index, one number per column.
            name: What to call it.
            kernel: How vectors are compared.
            resolver: Finds symbols under their other names.

        Returns:
            The descriptors.

        Raises:
            DataError: If a column is not numeric, a symbol occurs twice (whether or not the rows agree, or
                under two of its names), a value is not finite, or the table is empty.
        """
        if texts := [column for column in table if not pd.api.types.is_numeric_dtype(table[column])]:
            raise DataError(
                f"column {texts[0]!r} of descriptor {name!r} holds {table[texts[0]].dtype}, not numbers; drop it,"
                " or make the symbols the index"
            )
        vectors = torch.tensor(table.to_numpy(dtype=np.float64, na_value=np.nan), dtype=torch.float64)
        made = cls(name, kernel, tuple(map(str, table.index)), vectors, resolver)
        made._refuse_synonyms()
        return made

    def of(self, vocabulary: Vocabulary) -> tuple[Float[Tensor, "v f"], Bool[Tensor, "v"]]:
        """Look the vector of each entry up by target, zeros where it has none, and whether it has one."""
        rows = torch.tensor([self._row(target) for target in vocabulary.targets], dtype=torch.int64)
        known = rows >= 0
        return self.vectors[rows.clamp(min=0)].to(torch.float64) * known[:, None], known

    def unresolved(self, vocabulary: Vocabulary) -> tuple[str, ...]:
        """List the targets of a vocabulary that have no vector under any of their names, each once."""
        return tuple(dict.fromkeys(target for target in vocabulary.targets if self._row(target) < 0))

    def coordinates(self, vocabulary: Vocabulary, *, rank: int) -> tuple[Float[Tensor, "v r"], Bool[Tensor, "v"]]:
        """Place the entries of a vocabulary so that inner products are their kernel (kernel principal axes).

        Args:
            vocabulary: What can be acted upon.
            rank: Most axes; the leading ones are kept.

        Returns:
            The coordinates, zeros for entries without a vector, and whether each entry has a vector.
        """
        vectors, known = self.of(vocabulary)
        # One vector per target: doses do not count twice.
        first = {target: number for number, target in reversed([*enumerate(vocabulary.targets)])}
        described = torch.tensor(sorted(number for number in first.values() if known[number]), dtype=torch.int64)
        if not len(described):
            return vectors.new_zeros(len(known), 0), known
        landmarks = described[_evenly(len(described))]
        similarity = _similarity(vectors, vectors[landmarks], self.kernel)
        values, axes = torch.linalg.eigh(similarity[landmarks])
        keep = torch.nonzero(values > _VANISHING * values[-1].clamp(min=_VANISHING)).flatten().flip(0)[:rank]
        # The sign of an axis is arbitrary: fix it.
        largest = axes.gather(0, axes.abs().argmax(0, keepdim=True))
        axes = axes * torch.where(largest < 0, -1.0, 1.0)
        return similarity @ (axes[:, keep] / values[keep].sqrt()) * known[:, None], known

    def nearest(self, vocabulary: Vocabulary, *, count: int) -> tuple[Int[Tensor, "v c"], Float[Tensor, "v c"]]:
        """Find the entries most alike to each, and how alike: not at all itself and the undescribed."""
        vectors, known = self.of(vocabulary)
        described = torch.nonzero(known).flatten()
        near, alike = [], []
        for rows in torch.arange(len(vectors)).split(_ROWS):
            similarity = _similarity(vectors[rows], vectors[described], self.kernel) * known[rows, None]
            similarity[rows[:, None] == described] = 0.0
            found = similarity.topk(min(count, len(described)), dim=1)
            near.append(described[found.indices])
            alike.append(found.values)
        return torch.cat(near), torch.cat(alike)

    @cached_property
    def _rows(self) -> dict[str, int]:
        return {symbol: row for row, symbol in enumerate(self.symbols)}

    @cached_property
    def _approved_rows(self) -> dict[str, int]:
        if self.resolver is None:
            return {}
        approved = self.resolver.resolve(self.symbols)
        return {approved[symbol]: row for row, symbol in enumerate(self.symbols) if symbol in approved}

    def _row(self, target: str) -> int:
        """Number of the row of a target, ``-1`` if it has none; a row of exactly that name comes first."""
        if target in self._rows or self.resolver is None:
            return self._rows.get(target, -1)
        genes = self.resolver.candidates(target)
        return self._approved_rows.get(genes[0], -1) if len(genes) == 1 else -1

    def _refuse_synonyms(self) -> None:
        if self.resolver is None:
            return
        seen: dict[str, str] = {}
        for symbol, gene in self.resolver.resolve(self.symbols).items():
            if gene in seen:
                raise DataError(
                    f"{seen[gene]!r} and {symbol!r} in descriptor {self.name!r} are one gene, {gene!r}; keep one"
                )
            seen[gene] = symbol


def _evenly(count: int) -> Int[Tensor, "l"]:
    return torch.linspace(0, count - 1, min(count, _MOST_LANDMARKS), dtype=torch.float64).round().to(torch.int64)


def _similarity(
    vectors: Float[Tensor, "v f"], others: Float[Tensor, "l f"], kernel: Kernel
) -> Float[Tensor, "v l"]:
    """Compare vectors with landmarks; rows of undescribed entries are meaningless and dropped by the caller."""
    match kernel:
        case "linear":
            return vectors @ others.T
        case "cosine":
            return _unit(vectors) @ _unit(others).T
        case "jaccard":
            one, other = (vectors != 0).to(torch.float64), (others != 0).to(torch.float64)
            shared = one @ other.T
            union = one.sum(1)[:, None] + other.sum(1) - shared
            return shared / union.clamp(min=1.0)
        case "rbf":
            apart = torch.cdist(others, others)
            between = apart[apart > 0]
            length = between.median() if len(between) else apart.new_ones(())
            return (-(torch.cdist(vectors, others) / length).square() / 2).exp()


def _unit(vectors: Float[Tensor, "v f"]) -> Float[Tensor, "v f"]:
    return torch.nn.functional.normalize(vectors, dim=1)


def known_to_any(descriptors: Sequence[Descriptors], vocabulary: Vocabulary) -> Bool[Tensor, "v"]:
    """Say which entries of a vocabulary at least one descriptor describes."""
    known = torch.zeros(len(vocabulary), dtype=torch.bool)
    for each in descriptors:
        known |= each.of(vocabulary)[1]
    return known


def fingerprints(smiles: Mapping[str, str], *, radius: int = 2, size: int = 2048) -> Descriptors:
    """Describe compounds by hashed circular substructures [Rogers and Hahn 2010], compared by Jaccard (Tanimoto).

    Args:
        smiles: From the name of each compound to its structure.
        radius: Bonds around each atom.
        size: Number of bits.

    Returns:
        The descriptor ``morgan``.

    Raises:
        DataError: If RDKit is not installed, or a structure cannot be read; the message names all of them.
    """
    try:
        from rdkit import Chem, rdBase  # noqa: PLC0415 - an optional extra
        from rdkit.Chem.rdFingerprintGenerator import GetMorganGenerator  # noqa: PLC0415
    except ImportError as error:
        raise DataError(
            "fingerprints need RDKit, which is not installed; install the extra 'inverse-design[drugs]'"
        ) from error
    with rdBase.BlockLogs():  # its complaints are collected into one error
        molecules = {name: Chem.MolFromSmiles(text) if text else None for name, text in smiles.items()}
    if bad := [f"{name!r} ({smiles[name]!r})" for name, molecule in molecules.items() if molecule is None]:
        raise DataError(f"{len(bad)} SMILES cannot be read: {', '.join(bad)}; correct or remove them")
    generator = GetMorganGenerator(radius=radius, fpSize=size)
    bits = [generator.GetFingerprintAsNumPy(molecule) for molecule in molecules.values()]
    vectors = torch.tensor([row.tolist() for row in bits], dtype=torch.float64).reshape(len(bits), -1)
    return Descriptors("morgan", "jaccard", tuple(molecules), vectors)


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
    genes = sorted({*resolver.resolve(targets).values()})
    made = [_described(table, genes, name=name, resolver=resolver) for name, table in _tables(folder).items()]
    return tuple(each for each in made if each is not None)


@cache
def read_symbols(folder: Path) -> Symbols:
    """Read the HGNC table of a folder, once."""
    return Symbols.from_table(pd.read_parquet(folder / "hgnc.parquet"))


def by_rarity(table: pd.DataFrame) -> pd.DataFrame:
    """Multiply memberships by ``sqrt(log(n / n_c))``, of ``n`` genes and ``n_c`` in a set; rare ones say more."""
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
    return {name: by_rarity(table) for name, table in tables.items()}


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
    approved = resolver.resolve(table[column].unique())
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
