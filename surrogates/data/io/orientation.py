"""Tables that are laid out in another way: conditions in columns, pairs in a square, the design in columns."""

import re
from collections import Counter
from collections.abc import Collection, Mapping, Sequence

import numpy as np
from jaxtyping import Float

from surrogates.data.columns import folded, unit_of
from surrogates.data.io.labels import (
    ALWAYS_JOIN,
    SEPARATORS,
    control_family,
    divided_labels,
    glues,
    may_be_gene,
    without_call,
)
from surrogates.errors import DataError, listed, shown, some_of

_FEWEST_PAIRS = 2  # columns of which it can be said that they are combinations of others
_SHARE_OF_PAIRS = 0.2  # where names of readouts may hold what divides them, as BIVM-ERCC5 does
_CONTROLS = frozenset({
    "ctrl", "control", "dmso", "vehicle", "untreated", "nt", "ntc", "nontargeting", "mock", "negctrl",
    "safetargeting",
})  # fmt: skip
_GENES = frozenset({
    "gene", "genes", "gene_name", "gene_symbol", "symbol", "gene_id", "unnamed_0", "index", "x", "",
})  # fmt: skip
_LINE, _OF_LINES = re.compile(r"(ACH-\d{6})"), re.compile(r"(\S+) \(\d+\)")  # as DepMap names lines and genes
_SAMPLE = re.compile(r"(.+?)[\s._-]*(?:bio|tech)?(?:rep|replicate|sample)[\s._-]*\d+", re.IGNORECASE)
_OF_GENE = re.compile(  # what tests and techniques write around the name of a gene
    r"(?:(?:avg_?)?(?:log_?2?_?(?:fc|fold_?change)|lfc)[\s._-]+)?(?:(?-i:sg|si|sh)[\s._-]?)?(.+?)(?:[\s._-]+(?:ko|kd|oe|crispr[ai]?))?"
    r"(?:[\s._-]+(?:vs|versus)[\s._-].+|[\s._-]+(?:avg_?)?(?:log_?2?_?(?:fc|fold_?change)|lfc))?",
    re.IGNORECASE,
)
_PLATES = frozenset({(2, 3), (3, 4), (4, 6), (6, 8), (8, 12), (16, 24)})  # rows and columns of wells
COMPARED = (
    "contrast",
    "comparison",
    "group",
    "coef",
    "coefficient",
    "term",
    "test",
)  # columns of what was compared
_VERSUS = re.compile(r"(.+?)[\s_.-]+(?:vs|versus)[\s_.-]+(.+)", re.IGNORECASE)
_BETWEEN = re.compile(r"\s*-\s*|(?<=\w)vs(?=[A-Z])")  # limma writes a difference
_FACTOR = re.compile(
    r"(condition|group|treatment|perturbation|genotype|guide|target)(_|(?-i:(?=[A-Z])))", re.IGNORECASE
)
_LEVEL = re.compile(r"(?:C\()?[\w.]+(?:, .*\))?\)?\[T\.(.+)\]")  # as patsy names coefficients
_NUMBER = re.compile(r"\d+(\.\d+)?([eE]-?\d+)?")
_BRACKETED = re.compile(r"\(([^()]+)\)")
_SHARE, _FEWEST, _TALL = 0.8, 3, 3  # of columns that must look so; columns; rows for each column


def looks_transposed(readouts: Sequence[str], labels: Collection[str]) -> str | None:
    """Find a column that is a condition, where rows are readouts: a combination of others, or a control."""
    if any("+" in label for label in labels):
        return None
    names = frozenset(name.strip() for name in readouts)
    for sep in (*SEPARATORS, *glues(names, frozenset())):
        pairs = divided_labels(names, sep, frozenset())
        if len(pairs) >= _FEWEST_PAIRS and (sep in ALWAYS_JOIN or len(pairs) >= _SHARE_OF_PAIRS * len(names)):
            return min(pairs)
    controls = [name for name in readouts if control_family(name) in _CONTROLS and not may_be_gene(name, names)]
    return controls[0] if controls and "" not in labels else None


def refuse_wrong_way(
    column: str, labels: Sequence[str], readouts: Sequence[str], values: Float[np.ndarray, "rows g"]
) -> None:
    """Refuse tables whose columns are perturbations or samples, or whose rows are cell lines."""
    stems = [found[1] for name in labels if (found := _SAMPLE.fullmatch(name))]
    if len(stems) >= _SHARE * len(labels) and max(Counter(stems).values()) > 1:
        raise DataError(
            f"{column!r} says which replicate a row is (such as {labels[0]!r}), so that each counts as a"
            " perturbation of its own: write the replicate into another column"
        )
    if len(readouts) < _FEWEST:
        return
    if list(labels) == list(readouts) and np.array_equal(values, values.T, equal_nan=True):
        raise DataError(
            f"{listed(labels)} are set against themselves, with the same values on both sides of the diagonal:"
            " each value belongs to a pair; give each pair a row, with its two names and the value"
        )
    if what := _grid(labels, readouts):
        raise DataError(
            f"{what}: give each a row, with what was done in it, such as 'A@0.5+B@1', in a column 'perturbation'"
            f" and the value in another; or, if each {column!r} is a perturbation, say so with --target-col"
            f" {shown(column)} (target_col=)"
        )
    if what := _columns_of_conditions(folded(column), labels, readouts):
        raise DataError(
            f"{what}; give each perturbation a row (in pandas: table.set_index({column!r}).T), or, if each"
            f" {column!r} was perturbed, say so with --target-col {shown(column)} (target_col=)"
        )


def refuse_design_columns(readouts: Sequence[str], values: Float[np.ndarray, "rows g"], *, guessed: bool) -> None:
    """Refuse columns of numbers that say what was done: marks of 0 and 1, and doses with a unit.

    Beside a known column of perturbations, which was not ``guessed``, a unit is that of a readout.
    """
    doses = [name for name in readouts if guessed and unit_of(name)]
    marks = [name for name, column in zip(readouts, values.T, strict=True) if set(np.unique(column)) == {0.0, 1.0}]
    for found, what in ((doses, "doses"), (marks, "marks of what was done, 0 or 1")):
        if len(found) > 1:
            raise DataError(
                f"{listed(found)} look like {what}, not like readouts: say in one column 'perturbation' what was"
                " done in each row, such as 'A@0.5+B' ('control' for nothing); or name the readouts with"
                " readouts= (--readouts)"
            )


def _grid(labels: Sequence[str], readouts: Sequence[str]) -> str | None:
    """Say what is at each row and column, if these are of a plate or of a matrix of doses."""
    letters = [chr(ord("A") + at) for at in range(len(labels))]
    of_wells = (len(labels), len(readouts)) in _PLATES and list(labels) == letters
    if of_wells and [name.lstrip("0") for name in readouts] == [str(1 + at) for at in range(len(readouts))]:
        return (
            f"rows {labels[0]}-{labels[-1]} and columns {readouts[0]}-{readouts[-1]} are of the wells of a plate"
        )
    if all(map(_NUMBER.fullmatch, (*labels, *readouts))) and min(map(float, labels)) == 0:
        return f"rows ({listed(labels)}) and columns are numbers from 0, as doses of two drugs against each other"
    return None


def _columns_of_conditions(column: str, labels: Sequence[str], readouts: Sequence[str]) -> str | None:
    """Say why columns seem to be perturbations or samples, if they do."""

    def most(pattern: re.Pattern[str], names: Sequence[str]) -> list[str]:
        found = [match[1] for name in names if (match := pattern.fullmatch(name))]
        return found if len(found) >= _SHARE * len(names) else []

    if most(_LINE, labels) and most(_OF_LINES, readouts):
        return f"the rows are cell lines (such as {labels[0]!r}) and the columns genes ({readouts[0]!r})"
    if column not in _GENES:
        return None
    if (samples := most(_SAMPLE, readouts)) and max(Counter(samples).values()) > 1:
        return f"the columns are samples (such as {readouts[0]!r}), and the rows what was measured in each"
    rows, stems = set(labels), [(name, match[1]) for name in readouts if (match := _OF_GENE.fullmatch(name))]
    own = sum(not rows.isdisjoint(each) for each in stems)
    if len(rows) >= _TALL * len(readouts) and own >= _SHARE * len(readouts):
        return f"the columns {listed(readouts)} are of genes that have rows, of which there are many more"
    return None


def perturbed_in(
    labels: Sequence[str], column: str, reference: str | Sequence[str] | None
) -> tuple[list[str], dict[str, str]]:
    """Take perturbations out of names such as ``KLF1_vs_NT``; what they are compared with must be the control."""
    keys = (reference,) if isinstance(reference, str) else reference or ()
    read = [label for label in labels if not without_call(label, keys)]
    pairs = {label: pair for label in read if (pair := _sides(label, column, keys))}
    if not read or len(pairs) < len(set(read)):
        levels = {label: found[1] for label in read if (found := _LEVEL.fullmatch(label))}
        if read and len(levels) < len(set(read)):
            levels = _without_factor({label: label for label in read}) if len(read) < len(labels) else {}
        return [levels.get(label, label) for label in labels], {}
    if turned := next((label for label, (left, _) in pairs.items() if _is_control(left, keys)), None):
        raise DataError(
            f"{turned!r} compares a control with a perturbation, so that signs are turned round: compare each"
            " perturbation with the control, or write combinations with '+'"
        )
    controls = sorted({right for _, right in pairs.values()})
    if len(controls) > 1 and not all(_is_control(each, keys) for each in controls):
        raise DataError(
            f"comparisons are with {some_of(map(repr, controls), 4)}: effects are differences from one control;"
            " keep the comparisons with it"
        )
    names = _without_factor({label: left for label, (left, _) in pairs.items()})
    said = f"{some_of(map(repr, controls), 4)}, as in {read[0]!r}"
    return [names.get(label, label) for label in labels], {"compared with": said}


def _is_control(name: str, keys: Collection[str]) -> bool:
    return name in keys or control_family(name) is not None


def _sides(label: str, column: str, keys: Collection[str]) -> tuple[str, str] | None:
    """What is compared with what, if a label says so; a difference has the control on a side."""
    if found := _VERSUS.fullmatch(label):
        return found[1], found[2]
    cuts = [(label[: at.start()], label[at.end() :]) for at in _BETWEEN.finditer(label)]
    right = [cut for cut in cuts if _is_control(cut[1], keys)]
    left = [cut for cut in cuts if _is_control(cut[0], keys)] if folded(column) in COMPARED else []
    return next(iter((*right, *left)), None)


def _without_factor(names: Mapping[str, str]) -> dict[str, str]:
    """Leave out the name of the factor that all begin with, and brackets around all of a name."""
    prefixes = {found[0] if (found := _FACTOR.match(name)) else "" for name in names.values()}
    prefix = min(prefixes) if len(prefixes) == 1 else ""
    bare = {label: name.removeprefix(prefix) for label, name in names.items()}
    return {label: found[1] if (found := _BRACKETED.fullmatch(name)) else name for label, name in bare.items()}
