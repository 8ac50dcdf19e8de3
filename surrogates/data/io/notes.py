"""What is worth knowing of a table before anything is computed from it: pooled columns, odd names."""

import re
from collections import Counter, defaultdict
from collections.abc import Collection, Iterator

import numpy as np
import pandas as pd
from jaxtyping import Int

from surrogates.data.io.batches import names_batches
from surrogates.errors import some_of

NOTE = "note "  # begins the keys of a provenance that are worth knowing before anything is computed
COUNTS = f"{NOTE}of counts"  # the key under which a provenance says that values are counts
_MOST_VALUES = 50  # a column with more is a measurement or a name of each cell
_MOST_NUMBERS = 12
_OF_CELLS = re.compile(
    r".*(guide|grna|barcode|umi|doublet|cluster|leiden|louvain|phase|percent|pct|n_?counts?|n_?genes?|n_?perts?|total"
    r"|feature_call|cell_?(name|barcode)|qc|score).*|index|well|cell",
    re.IGNORECASE,
)
# Words in the names of columns in which replicates may differ.
_OF_REPLICATES = frozenset({
    "replicate", "rep", "biorep", "techrep", "batch", "donor", "patient", "individual", "plate", "well", "row",
    "col", "column", "lane", "gem", "library", "sample", "run", "experiment", "guide", "grna", "sgrna", "barcode",
    "id", "index", "unnamed", "file", "source", "date", "note", "comment", "kind", "fold", "n", "count", "cells",
})  # fmt: skip
_MONTH = "(jan|feb|mar|mrz|apr|may|mai|jun|jul|aug|sep|sept|oct|okt|nov|dec|dez)[a-z]*"
_DATE = re.compile(
    rf"\d{{1,2}}[-. ]+{_MONTH}([-. ]\d+)?|{_MONTH}[- ]\d{{1,4}}"
    r"|\d{4}-\d\d-\d\d( 00:00:00)?|\d{1,2}/\d{1,2}/\d{2,4}",
    re.IGNORECASE,
)
_DAY_NUMBER = re.compile(
    r"4[0-9]{4}(\.0)?"
)  # days since 1900 of the years 2009 to 2036, as spreadsheets store dates
# A gene with a number behind an underscore, or with what says that it is a guide: NKX2-1 is a gene.
_GUIDE = re.compile(
    r"(?:sg|sh|si|cr)[_-]?(?P<a>[A-Z][A-Z0-9.-]*?)[_-]#?\d{1,3}"
    r"|(?P<b>[A-Z][A-Z0-9.-]*?)(?:_P\d(?:P\d)?)?"
    r"(?:_| ?#|[_ -]?(?:sg|guide|s?grna)[_-]?|[_-](?:g|s|i|sh|si|cr)[_-]?)\d{1,3}"
    r"|(?P<c>[A-Z][A-Z0-9.-]*?)_[+-]_\d+(?:\.\d+)?(?:-P\dP?\d?)?",
    re.IGNORECASE,
)
# Only where most names are written so.
_NUMBERED_NAME = re.compile(r"([A-Z][A-Z0-9]*)[-.]\d{1,2}", re.IGNORECASE)

# How a gene was acted upon, before or behind its name; the case of letters tells siRT1 from SIRT1.
_ACTED = re.compile(
    r"(?:(?P<how>si|sh|sg)[-_ ]?(?P<gene>[A-Z][A-Za-z0-9.-]*))"
    r"|(?P<other>[A-Za-z][A-Za-z0-9.-]*?)[-_ ]"
    r"(?P<by>(?i:KO|KD|OE|CRISPR[ia]|knock-?(?:out|down)|over-?expression))"
)
_MODES = {
    "si": "knockdown", "sh": "knockdown", "kd": "knockdown", "knockdown": "knockdown", "crispri": "knockdown",
    "ko": "knockout", "knockout": "knockout", "oe": "activation", "overexpression": "activation",
    "crispra": "activation", "sg": "",
}  # fmt: skip


def may_be_replicates(column: str) -> bool:
    """Tell whether rows of one condition that differ in a column may be replicates, by a word in its name."""
    return bool(_OF_REPLICATES & set(re.split(r"[^a-z]+", column.casefold())))


def notes_on_columns(table: pd.DataFrame, codes: Int[np.ndarray, "rows"], used: Collection[str]) -> Iterator[str]:
    """Name each column that varies inside of conditions, whose values are pooled then."""
    kept = codes >= 0
    if not kept.any():
        return
    for column in table.columns:
        name = str(column)
        if name in used or _OF_CELLS.fullmatch(name):
            continue
        numbers, distinct = pd.factorize(table[column][kept])
        batches = names_batches(name)
        most = _MOST_NUMBERS if pd.api.types.is_numeric_dtype(table[column]) and not batches else _MOST_VALUES
        if not 1 < len(distinct) <= most or len(distinct) > kept.sum() / 2:
            continue
        pairs = np.unique(np.stack([codes[kept], numbers]), axis=1)
        each = np.bincount(pairs[0])
        mixed = int((each > 1).sum())
        if not mixed:
            continue
        shown = ", ".join(map(str, distinct[:4])) + (", ..." if len(distinct) > 4 else "")
        said = f"{name!r} varies inside of {mixed} condition(s) ({shown}), whose rows are pooled"
        if batches:
            yield (
                f"{said}: what differs between its values stays in the effects; --batch-col {name} (batch_col=)"
                " compares each row with the controls of its own batch"
            )
        else:
            yield f"{said}; keep them apart with --group-col {name} (or --dose-col {name} if it is a dose)"


def notes_on_names(names: Collection[str], *, what: str = "targets") -> Iterator[str]:
    """Name those that a spreadsheet made dates, that differ in case only, or that look like guides of a gene."""
    dates = sorted(name for name in names if _DATE.fullmatch(name) or _DAY_NUMBER.fullmatch(name))
    if dates:
        yield (
            f"{some_of(dates, 3)} among the {what} look like dates that a spreadsheet made of gene symbols (1-Mar"
            f" is MARCHF1,"
            " 2-Sep is SEPTIN2); correct them in the file"
        )
    spellings: dict[str, list[str]] = defaultdict(list)
    for name in sorted(names):
        spellings[name.casefold()].append(name)
    if differing := [each for each in spellings.values() if len(each) > 1]:
        shown = "; ".join(" and ".join(each) for each in differing[:4]) + ("; ..." if len(differing) > 4 else "")
        yield f"{len(differing)} of the {what} are spelt in ways that differ in case only, counted as two: {shown}"
    if commented := sorted(name for name in names if name.startswith("#")):
        yield (
            f"names among the {what} begin with #, as what is commented out does: {some_of(commented, 3)}; remove"
            " the sign, or the row"
        )
    if what == "targets":
        yield from _guides(names)
        yield from _techniques(names)


def gene_of(name: str) -> str:
    """The gene of a guide such as ``KLF1_1`` or ``sgKLF1-2``; any other name stays."""
    found = _GUIDE.fullmatch(name)
    return next(filter(None, found.groups()), name) if found else name


def genes_of_guides(names: Collection[str]) -> dict[str, str]:
    """The gene of each guide; ``KLF1-2`` and ``KLF1.2`` are guides where most names are, several of one gene."""
    numbered = {name: found[1] for name in names if (found := _NUMBERED_NAME.fullmatch(name))}
    several = Counter(numbered.values())
    numbered = {name: gene for name, gene in numbered.items() if several[gene] > 1}
    guides = {name: gene for name in names if (gene := gene_of(name)) != name}
    guides = _acted_upon(names)[0] | guides
    return numbered | guides if 2 * len(numbered) >= len(names) else guides


def _acted_upon(names: Collection[str]) -> tuple[dict[str, str], set[str]]:
    """The gene of each name that says how it was acted upon, if all say the same, and the ways in which it was."""
    found = {name: match for name in sorted(names) if (match := _ACTED.fullmatch(name))}
    modes = {_MODES[(each["how"] or each["by"]).casefold().replace("-", "")] for each in found.values()}
    return {name: each["gene"] or each["other"] for name, each in found.items()} if len(modes) == 1 else {}, modes


def _techniques(names: Collection[str]) -> Iterator[str]:
    genes, modes = _acted_upon(names)
    genes = {name: gene for name, gene in genes.items() if gene_of(name) == name}  # else it is a guide, and said
    if len(modes) > 1:
        yield (
            "targets say in their names that genes were acted upon in several ways, such as KO and KD: each counts"
            " as a gene of its own; put each way into a file of its own, and state its --mode"
        )
    elif genes:
        how = f", and --mode {min(modes)} (mode=) says how" if min(modes) else ""
        yield (
            f"names such as {some_of(map(repr, genes), 3)} say how a gene was acted upon, and are taken for its"
            f" name: --collapse-guides (collapse_guides=True) reads them as {some_of(genes.values(), 3)}{how}"
        )


def guides_of_genes(names: Collection[str]) -> dict[str, tuple[str, ...]]:
    """The guides of each gene that has several, if most names are such guides; else none."""
    guides: dict[str, list[str]] = defaultdict(list)
    for name, gene in sorted(genes_of_guides(names).items()):
        guides[gene].append(name)
    several = {gene: tuple(each) for gene, each in guides.items() if len(each) > 1}
    return several if 2 * sum(map(len, several.values())) >= len(names) else {}


def _guides(names: Collection[str]) -> Iterator[str]:
    if several := guides_of_genes(names):
        yield (
            f"{some_of(next(iter(several.values())), 3)} look like guides of one gene"
            f" ({sum(map(len, several.values()))}"
            f" targets, {len(several)} genes): each counts as a gene of its own, and two guides of one gene"
            f" are never"
            " proposed together; --collapse-guides (collapse_guides=True) reads them as their gene"
        )
