"""Which columns of a table say what was done, and in which words: found by rules, and refused on a tie."""

from collections.abc import Callable, Container, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TypedDict

import numpy as np
import pandas as pd

from surrogates.data.columns import (
    COMPOUND_COLUMNS,
    CONTEXT_COLUMNS,
    GROWTH_COLUMNS,
    MODE_COLUMNS,
    OTHER_MODE_COLUMNS,
    REPLICATE_COLUMNS,
    TARGET_COLUMNS,
    Columns,
    dose_columns,
    folded,
    is_unit_column,
    other_unit_of,
)
from surrogates.data.io.labels import (
    GENES_AS_WELL,
    NO_DOSE,
    SEPARATORS,
    UNITS,
    Controls,
    LabelFormat,
    control_family,
    divided_labels,
    find_separator,
    may_be_gene,
    stated_separator,
    without_call,
)
from surrogates.data.io.notes import genes_of_guides
from surrogates.data.io.pseudobulk.spread import HERE, Spread
from surrogates.data.io.tabular import name_wells
from surrogates.data.perturbation import Mode, mode_of
from surrogates.errors import DataError, UnknownNameError, shown, some_of


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
    spread: Spread


@dataclass(frozen=True)
class Dialect:
    """What the caller states about a table; whatever is ``None`` is to be found."""

    target_col: str | Sequence[str] | None = None  # the column of labels, or several columns with one part each
    reference_key: str | Sequence[str] | None = None  # the control, or several, pooled; empty for none
    dose_col: str | None = None  # the column of doses
    group_col: str | None = None  # the column of contexts
    sep: str | None = None  # what stands between the parts of a combination
    mode: Mode | None = None  # how targets are acted upon; rows of other modes are not read
    collapse_guides: bool = False  # labels name guides, which are read as their gene
    normalise: bool | None = None  # whether values are counts to be normalised; ``None`` if nobody said
    batch_col: str | None = None  # the column of batches, within which rows are compared with controls
    modality: str | None = None  # which modality of several is read
    baseline_cols: Sequence[str] | None = None  # columns of counts of guides before, or without, the treatment
    endpoint_cols: Sequence[str] | None = None  # columns of counts of guides after it
    layer_key: str | None = None  # the layer that is read instead of ``X``
    readouts: Sequence[str] | None = None  # names of the readouts; by default all
    spread: Spread = HERE  # who reads and sums cells; the screen is the same bytes


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
    genes: Mapping[str, str]  # the gene of each part of labels that is a guide, if guides are read as their gene
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
    present = set(map(folded, columns))
    return any(present >= set(each) for each in TARGET_COLUMNS)


def detect(table: pd.DataFrame, stated: Dialect) -> Detection:
    """Find the columns and the format of labels.

    What the caller states comes first, then names in use, then values.
    """
    targets, target_rule = _find_targets(table, stated)
    label_format, format_rules = _label_format(table, targets, stated)
    doses, dose_rule = _find_named(table, dose_columns(table), stated.dose_col, "dose_col", as_text)
    if stated.dose_col is None and (odd := next((name for name in doses if other_unit_of(name)), None)):
        raise DataError(
            f"{odd!r} holds doses in {other_unit_of(odd)!r}, which is no concentration that is converted; take its"
            f" numbers as they are {_by_stating('dose_col')}, or convert them to uM"
        )
    contexts, context_rule = _find_named(
        table, _named(table, CONTEXT_COLUMNS), stated.group_col, "group_col", _partition
    )
    mode_col, modes, mode_rule = _find_mode(table, targets, stated)
    batches = () if stated.batch_col is None else _refuse_unknown(table, (stated.batch_col,))
    return Detection(
        target_cols=targets,
        dose_cols=doses,
        unit_col=_unit_column(table, doses, stated),
        context_col=contexts[0] if contexts else None,
        mode_col=mode_col,
        modes=modes,
        label_format=label_format,
        genes=_genes(table, targets, label_format) if stated.collapse_guides else {},
        rules={
            "targets": target_rule,
            **format_rules,
            "dose": dose_rule,
            "context": context_rule,
            "mode": mode_rule,
            **({"batch": f"{_quoted(batches)} (as stated): compared within batches"} if batches else {}),
        },
    )


def _genes(table: pd.DataFrame, targets: Columns, form: LabelFormat) -> dict[str, str]:
    labels = {text for column in targets for text in as_text(table[column])} - {""}
    return genes_of_guides({part for label in labels for part in form.split(label) if part not in form.controls})


def _unit_column(table: pd.DataFrame, doses: Columns, stated: Dialect) -> str | None:
    """Find the column of the units of doses; one that is not converted is taken as it is where that is meant."""
    name = next((str(name) for name in table if doses and is_unit_column(name)), None)
    if name is None:
        return None
    given = table[list(doses)].notna().any(axis=1)
    units = {unit for unit in as_text(table[name][given]) if unit not in NO_DOSE}
    odd = sorted(unit for unit in units if unit.casefold() not in {known.casefold() for known in UNITS})
    if not odd:
        return name
    if stated.dose_col is None or len(units) > 1:
        raise DataError(
            f"{name!r} holds {shown(odd[0])}, which is no concentration that is converted: write doses in uM, or"
            f" all in one unit, and take their numbers as they are {_by_stating('dose_col')}"
        )
    return None


def _find_targets(table: pd.DataFrame, stated: Dialect) -> tuple[Columns, str]:
    if stated.target_col is not None:
        columns = (stated.target_col,) if isinstance(stated.target_col, str) else tuple(stated.target_col)
        return _refuse_unknown(table, columns), f"{_quoted(columns)} (as stated)"
    acting = [columns for columns in _named(table, TARGET_COLUMNS) if not name_wells(table, columns)]
    named = [columns for columns in acting if table[list(columns)].notna().any().all()]
    seconds = [columns[1:] for columns in named]  # x_1 goes with x_2, and x does not then
    named = [one for at, one in enumerate(named) if len(one) < 2 or one[1:] not in seconds[:at]]
    whole = [one for one in named if not any(set(one) < set(wider) for wider in named)]
    known = (*CONTEXT_COLUMNS, *MODE_COLUMNS, *REPLICATE_COLUMNS)
    other = {name for names in known for name in names}
    doses = {name for names in dose_columns(table) for name in names}
    words = table.select_dtypes(exclude=["number", "bool"]).columns.map(str)
    texts = [name for name in words if folded(name) not in other and name not in {stated.group_col, *doses}]
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
    if keys is None and len(tokens) == 1 and may_be_gene(tokens[0], parts):
        raise DataError(
            f"{tokens[0]!r} in {_quoted(targets)} is a word for controls and a gene that may be among these"
            f" {len(parts):,}; say which it is, {_by_stating('reference_key')}: --reference-key {tokens[0]} for"
            " the control, --reference-key '' for the gene, where no row is a control"
        )
    if keys and len(parts) > 2:  # two groups of cells are a comparison
        _refuse_other_controls(parts, found, targets)
    why = "a known control label" if keys is None else "as stated"
    control = (
        f"{some_of(map(repr, tokens), 4)} ({why}{', pooled' if len(tokens) > 1 else ''})" if tokens else "none"
    )
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
    labels = {text for text in set(as_text(table[targets[0]])) if text and not without_call(text, controls)}
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
    named: Sequence[Columns],
    stated: str | None,
    argument: str,
    content: Callable[[pd.Series], Hashable],
) -> tuple[Columns, str]:
    if stated is not None:
        return _refuse_unknown(table, (stated,)), f"{stated!r} (as stated)"
    found = [columns for columns in named if table[list(columns)].notna().to_numpy().any()]
    if not found:
        return (), "none"
    return _decide(table, found, _by_stating(argument), lambda t, cs: tuple(content(t[c]) for c in cs), "by name")


def _find_mode(table: pd.DataFrame, targets: Columns, stated: Dialect) -> tuple[str | None, tuple[Mode, ...], str]:
    named = _named(table, (*MODE_COLUMNS, *OTHER_MODE_COLUMNS))
    found = [columns for columns in named if set(modes_of(table[columns[0]])) != {None}]
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
    if folded(targets[0]) in COMPOUND_COLUMNS:
        return None, ("compound",), f"compound (column {targets[0]!r} names compounds)"
    unread = [
        f"{column!r} says {_quoted(sorted(set(as_text(table[column]))))}"
        for (column,) in _named(table, MODE_COLUMNS)
    ]
    why = f"column {unread[0][:120]}, which is not known" if unread else "the table does not say"
    if growth := [str(name) for name in table if folded(name) in GROWTH_COLUMNS]:
        return (
            None,
            ("knockout",),
            f"knockout (assumed: {why}, and {growth[0]!r} is of growth; state it with mode=, --mode)",
        )
    return None, ("activation",), f"activation (assumed: {why}; state it with mode=, --mode)"


def _named(table: pd.DataFrame, names: tuple[Columns, ...]) -> list[Columns]:
    present = {folded(column): str(column) for column in table.columns[::-1]}
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
