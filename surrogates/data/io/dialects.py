"""Which columns of a table say what was done, and in which words: found by rules, and refused on a tie."""

import re
from collections.abc import Callable, Container, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TypedDict

import numpy as np
import pandas as pd

from surrogates.data.io.labels import (
    GENES_AS_WELL,
    SEPARATORS,
    Controls,
    LabelFormat,
    control_family,
    divided_labels,
    find_separator,
    stated_separator,
    without_call,
)
from surrogates.data.io.tabular import name_wells
from surrogates.data.perturbation import MODES, Mode
from surrogates.errors import DataError, UnknownNameError

Columns = tuple[str, ...]

# Names of a column in use, lower case: scPerturb, GEARS, Arc, cell-eval, OP3, LINCS, sci-Plex, two-column tables.
_LABELS = (
    "perturbation", "target", "drug", "gene", "compound", "guide_target", "condition", "target_gene",
    "gene_symbol", "pert_iname", "pert", "sm_name", "product_name", "drugname", "treatment",
)  # fmt: skip
_PARTNERS = tuple(
    pair
    for name in _LABELS
    for pair in (
        (f"{name}_1", f"{name}_2"), (f"{name}1", f"{name}2"), (f"{name}_a", f"{name}_b"), (f"{name}a", f"{name}b"),
        (name, f"{name}_2"), (name, f"{name}2"), (name, f"{name}_b"), (name, f"{name}_combination"),
    )
)  # fmt: skip
TARGET_COLUMNS: tuple[Columns, ...] = (
    *_PARTNERS, ("target", "query"), ("id1", "id2"), ("anchor", "library"), ("anchor_gene", "library_gene"),
    ("row", "col"), ("drug_row", "drug_col"), ("condition",), ("perturbation",), ("target_gene",), ("gene",),
    ("target",), ("sm_name",), ("pert_iname",), ("cmap_name",), ("product_name",), ("drug",),
    ("drugname_drugconc",), ("compound",),
)  # fmt: skip
COMPOUND_COLUMNS = frozenset({
    *(name for pair in _PARTNERS for name in pair if name.startswith(("drug", "compound"))),
    "sm_name", "pert_iname", "cmap_name", "product_name", "drug", "compound", "drug_row", "drugname_drugconc",
})  # fmt: skip
_DOSES = ("dose", "concentration", "conc")
DOSE_COLUMNS: tuple[Columns, ...] = (
    *(
        pair
        for name in _DOSES
        for pair in ((f"{name}_1", f"{name}_2"), (f"{name}1", f"{name}2"), (f"{name}_a", f"{name}_b"))
    ),
    ("conc_row", "conc_col"), ("dose_value",), ("dose_val",), ("pert_dose",), ("pert_idose",), ("drug_dose",),
    *((f"{name}{unit}",) for name in _DOSES for unit in ("", "_pm", "_nm", "_um", "_µm", "_mm", "_m")),
)  # fmt: skip
DOSE_UNIT_COLUMNS = ("dose_unit", "pert_dose_unit", "dose_units", "conc_unit")
CONTEXT_COLUMNS: tuple[Columns, ...] = (
    ("cell_type",), ("celltype",), ("cell_line",), ("cell_id",), ("cell_iname",),
)  # fmt: skip
REPLICATE_COLUMNS: tuple[Columns, ...] = (("replicate",), ("rep",), ("replicate_id",))
MODE_COLUMNS: tuple[Columns, ...] = (
    ("perturbation_type",), ("modality",), ("pert_type",), ("perturbation_technology",), ("technique",),
    ("crispr_type",), ("perturbation_method",),
)  # fmt: skip
# Techniques as they are written, without what is no letter or digit.
MODE_VALUES: Mapping[str, Mode] = {
    **{mode: mode for mode in MODES},
    **dict.fromkeys(
        ("crispra", "dcas9vpr", "vpr", "sam", "dcas9sam", "overexpression", "orf", "oe", "cdna", "gain", "trtoe"),
        "activation",
    ),
    **dict.fromkeys(
        ("crispri", "dcas9krab", "krab", "dcas9kox1krab", "zim3dcas9", "sirna", "shrna", "rnai", "cas13", "cas13d",
         "aso", "kd", "trtsh", "trtshcgs"),
        "knockdown",
    ),
    **dict.fromkeys(
        ("crispr", "crisprcas9", "crisprcas", "crisprko", "crisprnuclease", "crisprn", "cas9", "cas12a", "ko",
         "genedeletion", "deletion", "knockouts", "trtxpr"),
        "knockout",
    ),
    **dict.fromkeys(
        ("drug", "drugs", "smallmolecule", "smallmolecules", "chemical", "inhibitor", "ligand", "cytokine",
         "compounds", "trtcp", "trtlig", "treatment"),
        "compound",
    ),
}  # fmt: skip


def mode_of(text: str) -> Mode | None:
    """Read a technique such as ``CRISPR KO`` or ``dCas9-KRAB``."""
    return MODE_VALUES.get(re.sub(r"[^a-z0-9]", "", text.casefold()))


def as_text(column: pd.Series) -> tuple[str, ...]:
    """Write the values of a column out."""
    codes, distinct = pd.factorize(column)
    texts = [_text(value) for value in distinct]
    return tuple(np.array([*texts, ""], dtype=object)[codes])


def modes_of(column: pd.Series) -> tuple[Mode | None, ...]:
    """Read the modes of a column such as ``perturbation_type``."""
    return tuple(mode_of(text) for text in as_text(column))


def _text(value: object) -> str:
    text = str(value).strip()
    return text.removesuffix(".0") if isinstance(value, float | np.floating) else text


class ReadOptions(TypedDict, total=False):
    """What may be stated when a screen is read; see :func:`surrogates.data.io.readers.read_screen`."""

    target_col: str | Sequence[str] | None
    reference_key: str | Sequence[str] | None
    dose_col: str | None
    group_col: str | None
    batch_col: str | None
    layer_key: str | None
    normalise: bool | None
    collapse_guides: bool
    sep: str | None
    mode: Mode | None
    modality: str | None
    baseline_cols: Sequence[str] | None
    endpoint_cols: Sequence[str] | None
    readouts: Sequence[str] | None


@dataclass(frozen=True)
class Dialect:
    """What the caller states about a table; whatever is ``None`` is to be found.

    Attributes:
        reference_key: The label of the control, or several, which are pooled; empty when no label is one.
        mode: How targets are acted upon; where the table names several modes, only rows of this one are read.
    """

    target_col: str | Sequence[str] | None = None  # the column of labels, or several columns with one part each
    reference_key: str | Sequence[str] | None = None
    dose_col: str | None = None  # the column of doses
    group_col: str | None = None  # the column of contexts
    sep: str | None = None  # what stands between the parts of a combination
    mode: Mode | None = None
    collapse_guides: bool = False  # labels name guides, which are read as their gene
    normalise: bool | None = None  # whether values are counts to be normalised; ``None`` if nobody said
    batch_col: str | None = None  # the column of batches, within which rows are compared with controls
    modality: str | None = None  # which modality of several is read
    baseline_cols: Sequence[str] | None = None  # columns of counts of guides before, or without, the treatment
    endpoint_cols: Sequence[str] | None = None  # columns of counts of guides after it


@dataclass(frozen=True)
class Detection:
    """What was found in a table, and by which rule."""

    target_cols: Columns  # columns that name what was done
    dose_cols: Columns  # columns of doses, if any
    unit_col: str | None  # column of their units, if any
    context_col: str | None  # column of contexts, if any
    mode_col: str | None  # column of modes, if any
    modes: tuple[Mode, ...]  # the modes that are read; the first one holds where ``mode_col`` is silent
    label_format: LabelFormat  # how labels are read
    collapse_guides: bool  # whether parts of labels are guides, to be read as their gene
    rules: Mapping[str, str]  # for each finding a sentence on what was taken and why

    @property
    def columns(self) -> Columns:
        """All columns that describe the design."""
        single = [column for column in (self.unit_col, self.context_col, self.mode_col) if column is not None]
        return (*self.target_cols, *self.dose_cols, *single)

    def lines(self) -> tuple[str, ...]:
        """Say what was found, one finding in each line."""
        return tuple(f"{finding}: {rule}" for finding, rule in self.rules.items())


def names_targets(columns: Iterable[object]) -> bool:
    """Say whether some columns are known by their names to say what was done."""
    present = {str(column).casefold() for column in columns}
    return any(present >= set(each) for each in TARGET_COLUMNS)


def detect(table: pd.DataFrame, stated: Dialect) -> Detection:
    """Find the columns and the format of labels.

    What the caller states comes first, then names in use, then values.

    Raises:
        UnknownNameError: If a stated column or control does not exist.
        DataError: If nothing or more than one thing qualifies; the message names the argument that decides.
    """
    targets, target_rule = _find_targets(table, stated)
    label_format, format_rules = _label_format(table, targets, stated)
    doses, dose_rule = _find_named(table, DOSE_COLUMNS, stated.dose_col, "dose_col", as_text)
    units = [unit for (unit,) in _named(table, tuple((name,) for name in DOSE_UNIT_COLUMNS))] if doses else []
    contexts, context_rule = _find_named(table, CONTEXT_COLUMNS, stated.group_col, "group_col", _partition)
    mode_col, modes, mode_rule = _find_mode(table, targets, stated)
    batches = () if stated.batch_col is None else _refuse_unknown(table, (stated.batch_col,))
    return Detection(
        target_cols=targets,
        dose_cols=doses,
        unit_col=units[0] if units else None,
        context_col=contexts[0] if contexts else None,
        mode_col=mode_col,
        modes=modes,
        label_format=label_format,
        collapse_guides=stated.collapse_guides,
        rules={
            "targets": target_rule,
            **format_rules,
            "dose": dose_rule,
            "context": context_rule,
            "mode": mode_rule,
            **({"batch": f"{_quoted(batches)} (as stated): compared within batches"} if batches else {}),
        },
    )


def _find_targets(table: pd.DataFrame, stated: Dialect) -> tuple[Columns, str]:
    if stated.target_col is not None:
        columns = (stated.target_col,) if isinstance(stated.target_col, str) else tuple(stated.target_col)
        return _refuse_unknown(table, columns), f"{_quoted(columns)} (as stated)"
    known_names = [columns for columns in _named(table, TARGET_COLUMNS) if not name_wells(table, columns)]
    named = [columns for columns in known_names if table[list(columns)].notna().any().all()]
    whole = [one for one in named if not any(set(one) < set(wider) for wider in named)]
    known = (*DOSE_COLUMNS, *CONTEXT_COLUMNS, *MODE_COLUMNS, *REPLICATE_COLUMNS)
    other = {name for names in known for name in names}
    words = table.select_dtypes(exclude=["number", "bool"]).columns.map(str)
    texts = [name for name in words if name.casefold() not in other and name != stated.group_col]
    wanted = _controls(stated)
    probed = [(name,) for name in texts if any(text in wanted for text in set(as_text(table[name])) - {""})]
    for found, why in (
        (whole, "by name"),
        (probed, "holds a control label"),
        ([(name,) for name in texts if _combines(table[name], wanted)], "holds combinations of its own names"),
        ([(name,) for name in texts if table[name].nunique() > 1] or [(name,) for name in texts], "only text"),
    ):
        if found:
            return _decide(table, found, _by_stating("target_col"), lambda t, c: _target_sets(t, c, stated), why)
    raise DataError(
        f"no column names what was done, among {_quoted(table.columns)}; say which one does,"
        f" {_by_stating('target_col')}; the row names of an .h5ad file are called 'index'"
    )


def _combines(column: pd.Series, controls: Container[str]) -> bool:
    """Tell whether some values of a column are combinations of others."""
    labels = frozenset(as_text(column)) - {""}
    return any(divided_labels(labels, sep, controls) for sep in SEPARATORS)


def _label_format(table: pd.DataFrame, targets: Columns, stated: Dialect) -> tuple[LabelFormat, dict[str, str]]:
    found, rule = _any_format(table, targets, stated)
    distinct = {text for column in targets for text in as_text(table[column])} - {""}
    parts = {part for label in distinct for part in found.split(label)}
    tokens = sorted(part for part in parts if part in found.controls)
    keys = _reference_keys(stated)
    for key in keys or ():
        if key.casefold() not in {token.casefold() for token in tokens}:
            raise UnknownNameError.from_known("control label", key, parts)
    families = {str(control_family(token)): token for token in tokens}
    if keys is None and len(targets) == 1 and len(families) > 1:
        # Beside another control it is a cell of which no guide was read.
        tokens = [token for token in tokens if token.casefold() != "negative"]
        families.pop("negative", None)
    if keys is None and len(families) > 1:
        repeated = " ".join(f"--reference-key {token!r}" for token in sorted(families.values()))
        raise DataError(
            f"{_quoted(tokens)} all look like controls in {_quoted(targets)}; say which one is,"
            f" {_by_stating('reference_key')}, or name all that are: {repeated}"
        )
    if keys and len(parts) > 2:  # two groups of cells are a comparison
        _refuse_other_controls(parts, found, targets)
    why = "a known control label" if keys is None else "as stated"
    shown = _quoted(tokens[:4]) + (f" and {len(tokens) - 4} more" if len(tokens) > 4 else "")
    control = f"{shown} ({why}{', pooled' if len(tokens) > 1 else ''})" if tokens else "none"
    folded = frozenset(token.casefold() for token in tokens)
    return replace(found, controls=Controls(folded, stated=True)), {"separator": rule, "control": control}


def _refuse_other_controls(parts: Iterable[str], found: LabelFormat, targets: Columns) -> None:
    """Refuse words for controls that are none of those stated: they would be read as genes."""
    others = sorted(
        part
        for part in parts
        if part not in found.controls and control_family(part) is not None and part.casefold() not in GENES_AS_WELL
    )
    if others:
        also = " ".join(f"--reference-key {word!r}" for word in others[:4])
        raise DataError(
            f"{_quoted(others[:4])} in {_quoted(targets)} looks like a control as well, but is not stated as"
            f" one; add {also}, or remove those rows"
        )


def _any_format(table: pd.DataFrame, targets: Columns, stated: Dialect) -> tuple[LabelFormat, str]:
    controls = _controls(stated)
    if len(targets) > 1:
        return LabelFormat(None, controls), "none: each part has its column"
    labels = {text for text in as_text(table[targets[0]]) if text and not without_call(text, controls)}
    if stated.sep == "":
        return LabelFormat(None, controls), "none (as stated)"
    if stated.sep is not None:
        found, rule = stated_separator(labels, stated.sep, controls)
        return found, f"{rule} (as stated)"
    return find_separator(labels, controls)


def _reference_keys(stated: Dialect) -> tuple[str, ...] | None:
    if stated.reference_key is None:
        return None
    keys = (stated.reference_key,) if isinstance(stated.reference_key, str) else tuple(stated.reference_key)
    return tuple(key for key in keys if key)


def _controls(stated: Dialect) -> Controls:
    keys = _reference_keys(stated)
    return Controls() if keys is None else Controls(frozenset(key.casefold() for key in keys), stated=True)


def _find_named(
    table: pd.DataFrame,
    names: tuple[Columns, ...],
    stated: str | None,
    argument: str,
    content: Callable[[pd.Series], Hashable],
) -> tuple[Columns, str]:
    if stated is not None:
        return _refuse_unknown(table, (stated,)), f"{stated!r} (as stated)"
    found = [columns for columns in _named(table, names) if table[list(columns)].notna().to_numpy().any()]
    if not found:
        return (), "none"
    return _decide(table, found, _by_stating(argument), lambda t, cs: tuple(content(t[c]) for c in cs), "by name")


def _find_mode(table: pd.DataFrame, targets: Columns, stated: Dialect) -> tuple[str | None, tuple[Mode, ...], str]:
    found = [columns for columns in _named(table, MODE_COLUMNS) if set(modes_of(table[columns[0]])) != {None}]
    if found:
        remedy = "by removing the other one from the file"
        (column,), rule = _decide(table, found, remedy, lambda t, cs: modes_of(t[cs[0]]), "by name")
        known = tuple(sorted({mode for mode in modes_of(table[column]) if mode is not None}))
        if stated.mode is None:
            return column, known, f"{', '.join(known)}, from column {rule}"
        if stated.mode not in known:
            raise DataError(f"mode={stated.mode!r} is stated, but column {column!r} says {_quoted(known)} only")
        return column, (stated.mode,), f"{stated.mode} (as stated), rows that column {rule} marks so"
    if stated.mode is not None:
        return None, (stated.mode,), f"{stated.mode} (as stated)"
    if targets[0].casefold() in COMPOUND_COLUMNS:
        return None, ("compound",), f"compound (column {targets[0]!r} names compounds)"
    unread = [
        f"{column!r} says {_quoted(sorted(set(as_text(table[column]))))}"
        for (column,) in _named(table, MODE_COLUMNS)
    ]
    why = f"column {unread[0][:120]}, which is not known" if unread else "the table does not say"
    return None, ("activation",), f"activation (assumed: {why}; state it with mode=, --mode)"


def _named(table: pd.DataFrame, names: tuple[Columns, ...]) -> list[Columns]:
    present = {str(column).casefold(): str(column) for column in table.columns[::-1]}
    return [tuple(present[name] for name in each) for each in names if present.keys() >= set(each)]


def _decide(
    table: pd.DataFrame,
    found: Sequence[Columns],
    remedy: str,
    content: Callable[[pd.DataFrame, Columns], Hashable],
    why: str,
) -> tuple[Columns, str]:
    """Take the first of some columns, unless another one says something else."""
    first, *others = found
    involved = list(dict.fromkeys(column for columns in found for column in columns))
    distinct = table[involved].drop_duplicates()
    for other in others:
        if content(distinct, other) != content(distinct, first):
            raise DataError(
                f"{_quoted(first)} and {_quoted(other)} both qualify ({why}) and differ; say which one is meant,"
                f" {remedy}"
            )
    same = f"; the same as {' and '.join(map(_quoted, others))}" if others else ""
    return first, f"{_quoted(first)} ({why}{same})"


def _target_sets(table: pd.DataFrame, columns: Columns, stated: Dialect) -> Hashable:
    label_format, _ = _any_format(table, columns, stated)
    rows = zip(*(as_text(table[column]) for column in columns), strict=True)
    split = (tuple(part for label in row for part in label_format.split(label)) for row in rows)
    return tuple(label_format.perturbation(parts, (), "compound").targets for parts in split)


def _partition(column: pd.Series) -> Hashable:
    return tuple(pd.factorize(column)[0])


def _refuse_unknown(table: pd.DataFrame, columns: Columns) -> Columns:
    for column in columns:
        if column not in table:
            raise UnknownNameError.from_known("column", column, map(str, table.columns))
    return columns


def _by_stating(argument: str) -> str:
    return f"with {argument}= (--{argument.replace('_', '-')})"


def _quoted(names: Iterable[object]) -> str:
    return ", ".join(repr(str(name)) for name in names)
