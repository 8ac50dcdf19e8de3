"""The user's library of reagents: which guides, siRNAs or vials act on which gene or compound."""

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property

import pandas as pd

from inverse_design.errors import LibraryError
from surrogates.data.io.dialects import as_text
from surrogates.data.io.labels import control_family
from surrogates.data.names import name_of
from surrogates.data.perturbation import Perturbation
from surrogates.errors import DataError, listed, nearest_hint, shown, some_of

REAGENT_COLUMNS = ("gene", "reagent", "sequence", "catalogue", "experiments", "wells")
_PLACES = ("source_plate", "source_well", "labware", "slot")  # where a reagent is, if the library says
_SHOWN, _LONGEST = 5, 10_000
# Names in use for the columns, folded as by _folded, the plainest first.
_NAMES: Mapping[str, tuple[str, ...]] = {
    "gene": ("gene", "genesymbol", "symbol", "genename", "targetgene", "target", "compound", "drug"),
    "reagent": (
        "reagent", "reagentid", "guide", "guideid", "sgrna", "sgrnaid", "grna", "grnaid", "sirna", "sirnaid",
        "oligo", "oligoid", "construct", "clone", "id",
    ),
    "sequence": ("sequence", "guidesequence", "sgrnasequence", "sirnasequence", "protospacer", "smiles"),
    "catalogue": (
        "catalogue", "catalog", "cataloguenumber", "catalognumber", "catalogueno", "catalogno", "catno", "cat#",
        "sku",
    ),
}  # fmt: skip
# Libraries have many columns of plates and wells: the first name that is there is taken.
_PLACE_NAMES: Mapping[str, tuple[str, ...]] = {
    "source_plate": ("sourceplate", "sourceplatename", "plate", "platename"),
    "source_well": ("sourcewell", "well", "wellposition"),
    "labware": ("labware", "sourcelabware"),
    "slot": ("slot", "sourceslot"),
}


@dataclass(frozen=True)
class Reagent:
    """One thing on the shelf."""

    gene: str  # gene or compound that it acts on
    reagent: str  # its name in the library
    sequence: str = ""  # of a guide or siRNA, or the structure of a compound; empty if the library does not say
    catalogue: str = ""  # number by which it is ordered; empty if the library does not say
    source_plate: str = ""  # the plate that it is in; empty if the library does not say, as all below
    source_well: str = ""  # its well there
    labware: str = ""  # what that plate is called in the Labware Library of Opentrons
    slot: str = ""  # where that plate stands on the deck


@dataclass(frozen=True)
class ReagentLibrary:
    """All reagents that a user has, several for a gene where there are several."""

    reagents: tuple[Reagent, ...]  # in the order of the user's table

    def __post_init__(self) -> None:
        """Refuse an empty library, a reagent without a gene or a name, and one that is listed twice."""
        if not self.reagents:
            raise LibraryError("the library has no reagents; give one row for each")
        for row, each in enumerate(self.reagents, start=1):
            if not each.gene or not each.reagent:
                raise LibraryError(f"row {row} of the library names no {'reagent' if each.gene else 'gene'}")
        counts = Counter((each.gene, each.reagent) for each in self.reagents)
        (gene, reagent), most = counts.most_common(1)[0]
        if most > 1:
            raise LibraryError(
                f"the library lists {shown(reagent)} of {shown(gene)} {most} times; remove repetitions"
            )

    @classmethod
    def of_table(cls, table: pd.DataFrame) -> "ReagentLibrary":
        """Read a table with one row per reagent; columns are found by name, in any spelling."""
        found = {what: _column(table, what) for what in _NAMES}
        if found["reagent"] is None:
            found["reagent"] = found["sequence"]
        for what in ("gene", "reagent"):
            if found[what] is None:
                raise LibraryError(
                    f"the library has no column of {what}s among {listed(table)}; call it {shown(what)}"
                )
        found |= {what: _place_column(table, what) for what in _PLACES}
        texts = {what: _printable(table[name], what) for what, name in found.items() if name is not None}
        rows = zip(*texts.values(), strict=True)
        return cls(tuple(Reagent(**dict(zip(texts, row, strict=True))) for row in rows))

    @cached_property
    def by_gene(self) -> dict[str, tuple[Reagent, ...]]:
        """The reagents of each gene or compound."""
        found: dict[str, list[Reagent]] = {}
        for each in self.reagents:
            found.setdefault(each.gene, []).append(each)
        return {gene: tuple(reagents) for gene, reagents in found.items()}

    @cached_property
    def controls(self) -> tuple[Reagent, ...]:
        """The reagents that control wells get: those of a gene that is called like a control."""
        return tuple(each for each in self.reagents if control_family(each.gene))

    def missing(self, genes: Iterable[str]) -> tuple[str, ...]:
        """List what the library has no reagent for."""
        return tuple(sorted(set(genes) - self.by_gene.keys()))

    def require(self, perturbations: Iterable[Perturbation]) -> None:
        """Refuse a batch that cannot be made from the library."""
        missing = self.missing(target for one in perturbations for target in one.targets)
        if missing:
            named = [f"{shown(each)} ({nearest_hint(each, self.by_gene)})" for each in missing]
            raise LibraryError(
                f"the library has no reagent for {len(missing)} of the genes or compounds of the batch:"
                f" {some_of(named, _SHOWN)}; add them to the library, or withdraw these experiments"
            )

    def list_for(self, perturbations: Sequence[Perturbation], *, replicates: int = 1) -> pd.DataFrame:
        """List the reagents of a batch."""
        self.require(perturbations)
        uses = Counter(target for one in perturbations for target in one.targets)
        rows = [
            {**asdict(each), "experiments": uses[gene], "wells": uses[gene] * replicates}
            for gene in sorted(uses)
            for each in self.by_gene[gene]
        ]
        table = pd.DataFrame(rows, columns=[*REAGENT_COLUMNS, *_PLACES])
        return table.drop(columns=[name for name in _PLACES if not table[name].any()])


def _column(table: pd.DataFrame, what: str) -> str | None:
    """Find the only column that goes by one of the names in use."""
    found = [str(column) for column in table if _folded(column) in _NAMES[what]]
    if len(found) > 1:
        raise LibraryError(f"columns {listed(found)} of the library both qualify as {what}; rename all but one")
    return found[0] if found else None


def _place_column(table: pd.DataFrame, what: str) -> str | None:
    folded = {_folded(column): str(column) for column in table}
    return next((folded[name] for name in _PLACE_NAMES[what] if name in folded), None)


def _printable(column: pd.Series, what: str) -> tuple[str, ...]:
    """Read a column of which every text fills one line; a structure may be long."""
    texts = list(as_text(column))
    for row, text in enumerate(texts):
        try:
            texts[row] = name_of(text, what, longest=_LONGEST) if text else text
        except DataError as error:
            raise LibraryError(f"row {row + 1} of the library: {error}") from error
    return tuple(texts)


def _folded(name: object) -> str:
    return re.sub(r"[ ._-]", "", str(name).casefold())
