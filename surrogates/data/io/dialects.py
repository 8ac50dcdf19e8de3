"""Which columns of a table say what was done, and in which words: found by rules, and refused on a tie."""

from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TypedDict

import numpy as np
import pandas as pd

from surrogates.data.io.labels import CONTROL_LABELS, LabelFormat, find_separator
from surrogates.data.perturbation import MODES, Mode
from surrogates.errors import DataError, UnknownNameError

Columns = tuple[str, ...]

# Column names in use, lower case: scPerturb, GEARS, Arc, cell-eval, OP3, LINCS, sci-Plex, two-column tables.
TARGET_COLUMNS: tuple[Columns, ...] = (
    ("perturbation", "perturbation_2"), ("target_1", "target_2"), ("drug_1", "drug_2"), ("gene_1", "gene_2"),
    ("target", "query"), ("id1", "id2"), ("condition",), ("perturbation",), ("target_gene",), ("gene",),
    ("target",), ("sm_name",), ("pert_iname",), ("product_name",), ("drug",),
)  # fmt: skip
COMPOUND_COLUMNS = frozenset({"drug_1", "sm_name", "pert_iname", "product_name", "drug"})
DOSE_COLUMNS: tuple[Columns, ...] = (
    ("dose_1", "dose_2"), ("dose_value",), ("dose_val",), ("dose_um",), ("pert_dose",), ("dose",),
)  # fmt: skip
CONTEXT_COLUMNS: tuple[Columns, ...] = (
    ("cell_type",), ("celltype",), ("cell_line",), ("cell_id",), ("cell_iname",),
)  # fmt: skip
MODE_COLUMNS: tuple[Columns, ...] = (("perturbation_type",), ("modality",), ("pert_type",))
MODE_VALUES: Mapping[str, Mode] = {
    **{mode: mode for mode in MODES},
    **dict.fromkeys(("crispra", "overexpression", "orf"), "activation"),
    **dict.fromkeys(("crispri", "sirna", "shrna", "rnai"), "knockdown"),
    **dict.fromkeys(("crispr", "crispr-cas9", "crispr/cas9", "crispr-cas", "cas9"), "knockout"),
    **dict.fromkeys(("drug", "drugs", "small molecule", "trt_cp"), "compound"),
}


def as_text(column: pd.Series) -> tuple[str, ...]:
    """Write the values of a column out."""
    codes, distinct = pd.factorize(column)
    texts = [_text(value) for value in distinct]
    return tuple(np.array([*texts, ""], dtype=object)[codes])


def modes_of(column: pd.Series) -> tuple[Mode | None, ...]:
    """Read the modes of a column such as ``perturbation_type``."""
    return tuple(MODE_VALUES.get(text.casefold()) for text in as_text(column))


def _text(value: object) -> str:
    text = str(value).strip()
    return text.removesuffix(".0") if isinstance(value, float | np.floating) else text


class Stated(TypedDict, total=False):
    """What may be stated when a screen is read; see :func:`surrogates.data.io.readers.read_screen`."""

    target_col: str | Sequence[str] | None
    reference_key: str | None
    dose_col: str | None
    group_col: str | None
    layer_key: str | None
    sep: str | None
    mode: Mode | None
    readouts: Sequence[str] | None


@dataclass(frozen=True)
class Dialect:
    """What the caller states about a table; whatever is ``None`` is to be found.

    Attributes:
        reference_key: The label of the control; empty when no label is one (``CTRL`` is a gene, too).
        mode: How targets are acted upon; where the table names several modes, only rows of this one are read.
    """

    target_col: str | Sequence[str] | None = None  # the column of labels, or several columns with one part each
    reference_key: str | None = None
    dose_col: str | None = None  # the column of doses
    group_col: str | None = None  # the column of contexts
    sep: str | None = None  # what stands between the parts of a combination
    mode: Mode | None = None


@dataclass(frozen=True)
class Detection:
    """What was found in a table, and by which rule."""

    target_cols: Columns  # columns that name what was done
    dose_cols: Columns  # columns of doses, if any
    context_col: str | None  # column of contexts, if any
    mode_col: str | None  # column of modes, if any
    modes: tuple[Mode, ...]  # the modes that are read; the first one holds where ``mode_col`` is silent
    label_format: LabelFormat  # how labels are read
    rules: Mapping[str, str]  # for each finding a sentence on what was taken and why

    @property
    def columns(self) -> Columns:
        """All columns that describe the design."""
        single = [column for column in (self.context_col, self.mode_col) if column is not None]
        return (*self.target_cols, *self.dose_cols, *single)

    def lines(self) -> tuple[str, ...]:
        """Say what was found, one finding in each line."""
        return tuple(f"{finding}: {rule}" for finding, rule in self.rules.items())


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
    contexts, context_rule = _find_named(table, CONTEXT_COLUMNS, stated.group_col, "group_col", _partition)
    mode_col, modes, mode_rule = _find_mode(table, targets, stated)
    return Detection(
        target_cols=targets,
        dose_cols=doses,
        context_col=contexts[0] if contexts else None,
        mode_col=mode_col,
        modes=modes,
        label_format=label_format,
        rules={
            "targets": target_rule,
            **format_rules,
            "dose": dose_rule,
            "context": context_rule,
            "mode": mode_rule,
        },
    )


def _find_targets(table: pd.DataFrame, stated: Dialect) -> tuple[Columns, str]:
    if stated.target_col is not None:
        columns = (stated.target_col,) if isinstance(stated.target_col, str) else tuple(stated.target_col)
        return _refuse_unknown(table, columns), f"{_quoted(columns)} (as stated)"
    named = [columns for columns in _named(table, TARGET_COLUMNS) if table[list(columns)].notna().any().all()]
    whole = [one for one in named if not any(set(one) < set(wider) for wider in named)]
    other = {name for names in (*DOSE_COLUMNS, *CONTEXT_COLUMNS, *MODE_COLUMNS) for name in names}
    words = table.select_dtypes(exclude=["number", "bool"]).columns.map(str)
    texts = [name for name in words if name.casefold() not in other and name != stated.group_col]
    wanted = _control_labels(stated)
    probed = [(name,) for name in texts if wanted.intersection(map(str.casefold, set(as_text(table[name]))))]
    for found, why in (
        (whole, "by name"),
        (probed, "holds a control label"),
        ([(name,) for name in texts], "only text"),
    ):
        if found:
            return _decide(table, found, _by_stating("target_col"), lambda t, c: _target_sets(t, c, stated), why)
    raise DataError(
        f"no column names what was done, among {_quoted(table.columns)}; say which one does,"
        f" {_by_stating('target_col')}; the row names of an .h5ad file are called 'index'"
    )


def _label_format(table: pd.DataFrame, targets: Columns, stated: Dialect) -> tuple[LabelFormat, dict[str, str]]:
    found, rule = _any_format(table, targets, stated)
    distinct = {text for column in targets for text in as_text(table[column])}
    parts = {part for label in distinct for part in found.split(label)}
    tokens = sorted(part for part in parts if part.casefold() in found.controls)
    folded = frozenset(token.casefold() for token in tokens)
    if stated.reference_key and not tokens:
        raise UnknownNameError.from_known("control label", stated.reference_key, parts)
    if len(folded) > 1:
        raise DataError(
            f"{_quoted(tokens)} all look like controls in {_quoted(targets)}; say which one is,"
            f" {_by_stating('reference_key')}"
        )
    why = "a known control label" if stated.reference_key is None else "as stated"
    control = f"{_quoted(tokens)} ({why})" if tokens else "none"
    return replace(found, controls=folded), {"separator": rule, "control": control}


def _any_format(table: pd.DataFrame, targets: Columns, stated: Dialect) -> tuple[LabelFormat, str]:
    controls = _control_labels(stated)
    if len(targets) > 1:
        return LabelFormat(None, controls), "none: each part has its column"
    if stated.sep is not None:
        return LabelFormat(stated.sep, controls), f"{stated.sep!r} (as stated)"
    return find_separator(set(as_text(table[targets[0]])), controls)


def _control_labels(stated: Dialect) -> frozenset[str]:
    if stated.reference_key is None:
        return CONTROL_LABELS
    return frozenset({stated.reference_key.casefold()} - {""})


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
    return None, ("activation",), "activation (assumed: the table does not say; state it with mode=)"


def _named(table: pd.DataFrame, names: tuple[Columns, ...]) -> list[Columns]:
    present = {str(column).casefold(): str(column) for column in reversed(table.columns)}
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
