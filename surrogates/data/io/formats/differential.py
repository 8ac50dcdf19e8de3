"""Long tables of effects, one row for each perturbation and readout, with more numbers beside the effect.

Most are tests of differential expression, as their programs write them:
DESeq2, edgeR, limma, scanpy, Seurat, presto, pertpy and sceptre name a fold change, a readout, and what only such
tests have; a further column says which perturbation was compared with the control.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
from jaxtyping import Float

from surrogates.data.columns import CONTEXT_COLUMNS, MODE_COLUMNS, REPLICATE_COLUMNS, dose_columns, folded
from surrogates.data.io.design import design_of
from surrogates.data.io.dialects import Dialect, as_text
from surrogates.data.io.effects import screen_of_effects
from surrogates.data.io.orientation import COMPARED, looks_transposed, perturbed_in
from surrogates.data.io.tabular import positions
from surrogates.data.screen import Screen
from surrogates.errors import DataError, shown

_CHANGE = re.compile(r"(avg_)?log_?(2|10|e)?_?(fc|fold_?changes?)|lfc")
_VALUE = re.compile(r"value|effect|mean|estimate|delta|z_?score")  # of what a column of measured names says
_ERROR = re.compile(r"lfc_?se|se|sem|std_?err(or)?|standard_?errors?")
_OF_EXPRESSION = re.compile(
    r"base_?mean|lfc_?se|(ave|avg)_?expr|log_?cpm|pct_(1|2|in|out|nz_.*)|avg_log.*|logfoldchanges|n_nonzero_.*"
    r"|response_id|variable|(target|reference)_mean|percent_change"
)
# Of each kind the first that is there; symbols before other names.
_SURELY_MEASURED = ("readout", "marker", "analyte")
_MEASURED = (*_SURELY_MEASURED, "feature", "variable")
_READOUTS = (
    *_MEASURED,
    "symbol", "gene_symbol", "gene_name", "gene", "genes", "names", "response_id",
    "protein", "gene_id", "feature_id", "ensembl", "ensembl_id", "ensembl_gene_id", "geneid", "primerid", "id",
    "unnamed_0", "index", "x", "name",
)  # fmt: skip
_IDENTIFIERS = ("gene_id", "feature_id", "ensembl", "ensembl_id", "ensembl_gene_id", "geneid", "primerid", "id")
_PERTURBED = ("perturbation", "perturbed_gene", "gene_target", "target_gene", "grna_target", "guide_target")
_FURTHER = (
    "condition", "treatment", "target", "guide", "grna", "grna_id", "sgrna", "drug", "compound", "pert",
    "pert_iname", "sm_name", "product_name",
)  # fmt: skip


@dataclass(frozen=True)
class Comparisons:
    """Which columns say what."""

    compared: str  # which perturbation was compared
    readout: str
    identifier: str | None  # what tells readouts of one name apart
    change: str  # log fold change
    error: str | None  # its standard error


def screen_of_comparisons(
    table: pd.DataFrame, parts: Comparisons, stated: Dialect, provenance: Mapping[str, str]
) -> Screen:
    """Read one condition for each comparison; readouts that were not tested in all of them are left out."""
    codes, conditions = _conditions(table, parts, stated)
    rows, names = pd.factorize(_named(table, parts))
    readouts = [str(name) for name in names]
    _refuse_twice(table, parts, codes, rows)

    def matrix(name: str) -> Float[np.ndarray, "n g"]:
        found = np.full((len(conditions), len(readouts)), np.nan)
        found[codes, rows] = pd.to_numeric(table[name], errors="coerce").to_numpy(dtype=np.float64)
        return found

    effects = matrix(parts.change)
    errors = None if parts.error is None else matrix(parts.error)
    labels, against = perturbed_in(as_text(conditions[parts.compared]), parts.compared, stated.reference_key)
    of_labels = replace(stated, target_col=parts.compared, reference_key="" if against else stated.reference_key)
    design = design_of(conditions.assign(**{parts.compared: labels}), of_labels)
    kept = np.flatnonzero(np.isfinite(effects).all(0))
    if 2 * len(kept) < len(readouts):
        raise DataError(
            f"only {len(kept):,} of {len(readouts):,} readouts have a {parts.change!r} in each of the"
            f" {len(conditions):,} comparisons, as if only some rows were kept: write all rows of all tests"
        )
    untested = len(readouts) - len(kept)
    if stated.readouts is not None:
        kept, untested = np.array(positions(stated.readouts, readouts)), 0
    shared = f" (or {parts.identifier!r}, where names are shared or missing)" if parts.identifier else ""
    if errors is not None and not (errors[:, kept] > 0).all():
        errors = None
    return screen_of_effects(
        effects[:, kept],
        design,
        [readouts[column] for column in kept],
        standard_errors=None if errors is None else errors[:, kept],
        annotations=conditions.drop(columns=parts.compared),
        provenance={
            **provenance,
            **design.provenance,
            **({} if stated.target_col else {"detected targets": f"{parts.compared!r} (by name)"}),
            **against,
            **({"unit": f"log fold change ({parts.change!r})"} if _CHANGE.fullmatch(folded(parts.change)) else {}),
            "shape": f"one row per comparison in {parts.compared!r} and readout in {parts.readout!r}{shared}",
            **({} if errors is None else {"standard errors": repr(parts.error)}),
            **(
                {"dropped readouts not tested": f"{untested:,} without a value in each comparison"}
                if untested
                else {}
            ),
        },
    )


def _conditions(table: pd.DataFrame, parts: Comparisons, stated: Dialect) -> tuple[np.ndarray, pd.DataFrame]:
    """Number what was compared, where and at which dose."""
    named = {name for (name,) in (*CONTEXT_COLUMNS, *MODE_COLUMNS, *REPLICATE_COLUMNS)}
    further = [
        str(name) for name in table if folded(name) in named or str(name) in {stated.group_col, stated.batch_col}
    ]
    doses = [stated.dose_col] if stated.dose_col else [name for each in dose_columns(table) for name in each]
    keys = list(dict.fromkeys([parts.compared, *further, *doses]))
    codes = table.groupby(keys, sort=False, dropna=False).ngroup().to_numpy()
    return codes, table[keys].drop_duplicates(ignore_index=True)


def _named(table: pd.DataFrame, parts: Comparisons) -> pd.Series:
    """Name what was measured: genes without a symbol, or of one symbol, by their identifiers, if there are any."""
    names = table[parts.readout].astype(str).str.strip().where(table[parts.readout].notna())
    if parts.identifier is not None:
        finer = table[parts.identifier]
        pairs = pd.DataFrame({"name": names, "finer": finer}).drop_duplicates()
        names = names.mask(names.isna() | names.isin(pairs["name"][pairs["name"].duplicated()]), finer)
    if names.isna().any():
        raise DataError(
            f"{int(names.isna().sum())} row(s) have no name in {parts.readout!r}; remove them, or fill it in"
        )
    return names


def _refuse_twice(table: pd.DataFrame, parts: Comparisons, codes: np.ndarray, rows: np.ndarray) -> None:
    twice = pd.DataFrame({"code": codes, "row": rows}).duplicated()
    if twice.any():
        one, of = (shown(str(table[name].iloc[int(twice.argmax())])) for name in (parts.readout, parts.compared))
        raise DataError(
            f"{one} stands twice for {of}; name the column in which the two differ with --group-col (group_col=)"
            " or --dose-col (dose_col=), call it 'replicate' if they are to be averaged, or remove one"
        )


def comparisons_in(table: pd.DataFrame, stated: Dialect) -> Comparisons | None:
    """Tell results of differential expression by their columns."""
    names = {folded(name): str(name) for name in table.columns[::-1]}
    texts = {name for name, column in names.items() if not pd.api.types.is_numeric_dtype(table[column])}
    changes = [name for name in names if _CHANGE.fullmatch(name)]
    if not changes and not texts.isdisjoint(_MEASURED):
        changes = [name for name in names if _VALUE.fullmatch(name)]
    readouts = [names[name] for name in _READOUTS if name in texts]
    target = stated.target_col
    if not isinstance(target, str | None):
        return None
    if target is not None and (folded(target) in _READOUTS or target not in table):
        return None
    of_expression = any(map(_OF_EXPRESSION.fullmatch, names))
    if not changes and of_expression and readouts and "fold_change" in names:
        raise DataError(
            f"{names['fold_change']!r} is a ratio, and effects are differences: put its logarithm into a column"
            " 'log2_fold_change'"
        )
    if len(changes) != 1:
        return None
    chosen = _compared(table, stated, names, texts, of_expression=of_expression)
    readouts = [name for name in readouts if name != chosen]
    if not readouts or (chosen is None and not of_expression):
        return None
    if chosen is None or table[chosen].nunique() < 2:
        raise DataError(
            f"{names[changes[0]]!r} of each {readouts[0]!r} is the result of one test of expression, and a screen"
            " has many: put their rows into one table, with a column 'perturbation' that says what was compared"
            " with the control, or name that column with --target-col (target_col=); if each row is a perturbation"
            f" that was measured by one number, say --target-col {readouts[0]}"
        )
    finer = [names[name] for name in _IDENTIFIERS if name in texts and names[name] in readouts[1:]]
    distinct = max(table[name].nunique() for name in (readouts[0], *finer[:1]))
    if distinct < 2 or (not of_expression and 2 * len(table) < distinct * table[chosen].nunique()):
        return None
    error = next((names[name] for name in names if _ERROR.fullmatch(name)), None)
    return Comparisons(chosen, readouts[0], next(iter(finer), None), names[changes[0]], error)


def _compared(
    table: pd.DataFrame, stated: Dialect, names: Mapping[str, str], texts: set[str], *, of_expression: bool
) -> str | None:
    """Find the column that says what was compared with the control."""
    if isinstance(stated.target_col, str):
        return stated.target_col
    sure = [names[name] for name in _PERTURBED if name in texts]
    others = [names[name] for name in (*COMPARED, *(_FURTHER if of_expression else ())) if name in texts]
    if sure or not others:
        return sure[0] if sure else None
    varied = [name for name in others if table[name].nunique() > 1]
    repeated = [names[name] for name in _READOUTS if name in texts and table[names[name]].duplicated().any()]
    if len(varied) == 1 and (
        not texts.isdisjoint(_SURELY_MEASURED) or looks_transposed(list(table[varied[0]].unique()), ())
    ):
        return varied[0]  # it holds combinations, or the other one measured names
    which = varied if of_expression else [*varied[:1], *repeated[:1]]
    if len(which) > 1:
        raise DataError(
            f"each row is about one of {which[0]!r} and one of {which[1]!r}: which of the two says what was"
            f" perturbed? State it with target_col=: --target-col {which[0]} or --target-col {which[1]}"
        )
    return next(iter(varied), others[0]) if of_expression else None
