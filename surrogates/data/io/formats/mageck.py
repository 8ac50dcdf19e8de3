"""Summaries of genes by MAGeCK: log fold changes of a test, or coefficients of a maximum-likelihood fit."""

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import pandas as pd
from jaxtyping import Float

from surrogates.data.io.dialects import Dialect
from surrogates.data.io.effects import screen_of_effects
from surrogates.data.io.formats.guide_counts import design_of_guides
from surrogates.data.screen import Screen
from surrogates.errors import DataError, UnknownNameError

_CHANGES = ("neg|lfc", "pos|lfc")
_COEFFICIENT = "|beta"
_OF_GUIDES = ({"sgrna", "control_count", "treatment_count"}, {"sgrna", "lfc", "p.twosided"})


def summarises_genes(table: pd.DataFrame) -> bool:
    """Tell a summary of MAGeCK by its columns."""
    columns = {str(name).casefold() for name in table}
    counts = "its table of counts, with --baseline-cols and --endpoint-cols"
    if any(each <= columns for each in _OF_GUIDES):
        raise DataError(
            "this is MAGeCK's summary of guides (sgrna_summary), whose rows are tests; give the gene_summary.txt"
            f" of the same run, or {counts}"
        )
    if "neg|score" in columns and not columns & set(_CHANGES):
        raise DataError(
            "this summary of MAGeCK holds scores and ranks, but no fold changes ('neg|lfc'); run a later version"
            f" of mageck test, or give {counts}"
        )
    return bool(columns & set(_CHANGES)) or any(name.endswith(_COEFFICIENT) for name in columns)


def screen_of_summary(table: pd.DataFrame, stated: Dialect, provenance: Mapping[str, str]) -> Screen:
    """Read effects of genes: the fold change of a test, or the coefficient of each condition with its error.

    P-values, ranks and numbers of guides are left out, and so are genes without an effect.
    """
    named = {str(name).casefold(): str(name) for name in table}
    genes = [named[name] for name in ("id", "gene") if name in named]
    effects, errors, said = _effects(table, named)
    if stated.target_col is None and genes:
        stated = replace(stated, target_col=genes[0])
        said["detected targets"] = f"{genes[0]!r} (by name)"
    if (readouts := stated.readouts) is not None:
        if unknown := next((name for name in readouts if name not in effects), None):
            raise UnknownNameError.from_known("readout", unknown, map(str, effects))
        effects, errors = effects[list(readouts)], None if errors is None else errors[list(readouts)]
    whole = np.isfinite(effects.to_numpy()).all(axis=1)
    if not whole.any():
        raise DataError(f"no gene has a finite effect in {', '.join(map(repr, effects))}")
    labels = table.drop(columns=[name for name in table if "|" in str(name)]).loc[whole].reset_index(drop=True)
    design, assumed = design_of_guides(labels, stated)
    return screen_of_effects(
        effects.to_numpy()[whole],
        design,
        [str(name) for name in effects],
        standard_errors=None if errors is None else errors.to_numpy()[whole],
        annotations=pd.DataFrame(index=range(len(labels))),
        provenance={
            **provenance,
            **design.provenance,
            **assumed,
            **said,
            "dropped columns": "p-values, scores, ranks and numbers of guides",
            **({} if whole.all() else {"dropped genes": f"{int((~whole).sum())} without an effect"}),
        },
    )


def _effects(
    table: pd.DataFrame, named: Mapping[str, str]
) -> tuple[pd.DataFrame, pd.DataFrame | None, dict[str, str]]:
    """Effects of genes, their standard errors where they are known, and what they are."""
    if not any(name.endswith(_COEFFICIENT) for name in named):
        changes = {known: _numbers(table[known]) for name, known in named.items() if name in _CHANGES}
        first, *others = changes.values()
        same = all(np.array_equal(first, other, equal_nan=True) for other in others)
        found = pd.DataFrame({"lfc": first} if same else changes)
        return found, None, {"unit": "log2 fold change of a gene (mageck test)"}
    effects, errors, filled = {}, {}, 0
    for name, known in named.items():
        if not name.endswith(_COEFFICIENT):
            continue
        condition = known[: -len(_COEFFICIENT)]
        effects[condition] = _numbers(table[known])
        if (z := named.get(f"{condition.casefold()}|z")) is None:
            raise DataError(f"{known!r} has no '{condition}|z' beside it, from which its standard error is had")
        with np.errstate(divide="ignore", invalid="ignore"):
            error = np.abs(effects[condition] / _numbers(table[z]))
        unknown = ~np.isfinite(error)
        if unknown.all():
            raise DataError(f"no standard error can be had from {z!r}; all its values are zero or missing")
        errors[condition] = np.where(unknown, error[~unknown].max(), error)
        filled += int((unknown & np.isfinite(effects[condition])).sum())
    rule = "beta / z of mageck mle" + (f"; the largest one in {filled} place(s) where z is 0" if filled else "")
    said = {"unit": "beta: log fold change per condition (mageck mle)", "standard errors": rule}
    return pd.DataFrame(effects), pd.DataFrame(errors), said


def _numbers(column: pd.Series) -> Float[np.ndarray, "genes"]:
    numbers: np.ndarray = pd.to_numeric(column, errors="coerce").to_numpy(dtype=np.float64)
    return numbers
