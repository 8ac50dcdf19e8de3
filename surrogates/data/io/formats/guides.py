"""Pooled screens by their guides: counts in arms, as gimap and GEMINI take them, and summaries of MAGeCK.

Counts have a row for each guide or pair, columns that name its genes, and one column of counts for each sample;
their readout is the log2 fold change between arms.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float

from surrogates.data.columns import (
    COMPOUND_COLUMNS,
    MODE_COLUMNS,
    NO_READOUTS,
    TARGET_COLUMNS,
    dose_columns,
    folded,
)
from surrogates.data.io.design import Design, design_of
from surrogates.data.io.dialects import Dialect, names_targets
from surrogates.data.io.effects import screen_of_effects
from surrogates.data.io.tabular import holds_numbers
from surrogates.data.screen import Screen
from surrogates.errors import DataError, UnknownNameError, some_of

READOUT = "lfc"
_PAIRS = (("u6.gene", "h1.gene"), ("gene1_symbol", "gene2_symbol"), ("gene_1_symbol", "gene_2_symbol"))
_OF_GUIDES = re.compile(
    r"(sg|g|pg|cr)rna([_.]?(id|name|pair))?|guide([_.]?(id|pair))?|construct([_.]?id)?|seq_?[12]"
)
_BASELINE = re.compile(
    r"(?<![a-z0-9])(plasmid|pdna|etp|input|initial|baseline|pre[-_ ]?treatment|(day|d|t|time)[_ ]?0+)(?![a-z0-9])"
)
# A replicate's letter or number behind a sample's name, unless it counts days.
_REPLICATE = re.compile(
    r"(?<!day)(?<!time)(?<!week)(?<![^a-z]d)(?<![^a-z]t)[-_. ](biol?|tech|r|rep|replicate)?[-_. ]?([a-d]|\d)$"
    r"|(?<=[-_. \d])rep(licate)?[-_. ]?([a-d]|\d+)$"
)
_LARGEST_CALL = 3
_LARGE = 100
_PSEUDOCOUNT = 1.0


@dataclass(frozen=True)
class Arms:
    """Columns of counts that are compared."""

    baseline: tuple[str, ...]  # before the treatment, or without it
    endpoint: tuple[str, ...]  # after it
    rule: str  # how they were found


def holds_guide_counts(table: pd.DataFrame, stated: Dialect) -> bool:
    """Tell counts of guides by their columns, or because arms are stated."""
    if stated.baseline_cols or stated.endpoint_cols:
        return True
    if stated.normalise is False or (stated.readouts is not None and set(stated.readouts) <= set(table)):
        return False
    names = {str(name).casefold() for name in table}
    of_guides = any(len(each) == 2 and names >= set(each) for each in (*_PAIRS, *TARGET_COLUMNS)) or any(
        map(_OF_GUIDES.fullmatch, names)
    )
    if not of_guides and not any(map(_BASELINE.search, names)):
        return False
    numbers, counts = _numbers(table, stated), _samples(table, stated)
    texts = {folded(name) for name in table if name not in numbers}
    compounds = texts & COMPOUND_COLUMNS or dose_columns(table)
    if len(counts) < 2 or compounds:
        return False
    named = any(_BASELINE.search(name.casefold()) for name in counts)
    nothing_else = all(_are_calls(column) for name, column in numbers.items() if name not in counts)
    return (of_guides and (named or nothing_else)) or (named and nothing_else)


def screen_of_guide_counts(table: pd.DataFrame, stated: Dialect, provenance: Mapping[str, str]) -> Screen:
    """Read the fold change between two arms, averaged over guides; a control beside a gene makes a single."""
    if unknown := next((name for name in stated.readouts or () if name != READOUT), None):
        raise UnknownNameError.from_known("readout", unknown, [READOUT])
    arms = arms_of(table, stated)
    columns = [*arms.baseline, *arms.endpoint]
    counts = _counts(table, columns)
    is_baseline = np.arange(len(columns)) < len(arms.baseline)
    seen = np.flatnonzero(counts[:, is_baseline].sum(axis=1) > 0)
    if not len(seen):
        raise DataError(f"no guide was counted in the baseline, {', '.join(map(repr, arms.baseline))}")
    unread = [name for name in _numbers(table, stated) if name not in columns]
    others, unseen = (
        table.drop(columns=[*columns, *unread]).iloc[seen].reset_index(drop=True),
        len(table) - len(seen),
    )
    design, assumed = design_of_guides(others, stated)
    context = design.detection.context_col
    changes = np.zeros((len(seen), 1))
    for rows in [np.arange(len(seen))] if context is None else others.groupby(context).indices.values():
        changes[rows, 0] = fold_changes(counts[seen[rows]], is_baseline)
    return screen_of_effects(
        changes,
        design,
        [READOUT],
        standard_errors=None,
        annotations=pd.DataFrame(index=range(len(changes))),
        provenance={
            **provenance,
            **design.provenance,
            **assumed,
            "unit": "log2 fold change of counts, scaled by the median ratio to their geometric mean over samples",
            "arms": arms.rule,
            **({"dropped columns": f"{_shown(unread)} (not compared)"} if unread else {}),
            **({"dropped guides": f"{unseen} without counts in the baseline"} if unseen else {}),
        },
    )


def arms_of(table: pd.DataFrame, stated: Dialect) -> Arms:
    """Find which columns are counts before and after."""
    if stated.baseline_cols or stated.endpoint_cols:
        baseline, endpoint = tuple(stated.baseline_cols or ()), tuple(stated.endpoint_cols or ())
        for name in (*baseline, *endpoint):
            if name not in table:
                raise UnknownNameError.from_known("column of counts", name, map(str, table.columns))
        if not baseline or not endpoint or set(baseline) & set(endpoint):
            raise DataError(
                "a fold change is between two arms: state baseline_cols= (--baseline-cols A,B) and endpoint_cols="
                " (--endpoint-cols C,D), which share no column"
            )
        return Arms(baseline, endpoint, f"{_shown(endpoint)} against {_shown(baseline)} (as stated)")
    samples = _samples(table, stated)
    before = [name for name in samples if _BASELINE.search(name.casefold())]
    after = [name for name in samples if name not in before]
    groups = [_groups(before), _groups(after)]
    if [len(each) for each in groups] != [1, 1]:
        one, other = (
            next(iter(each.values()), ["..."]) for each in (groups[0], dict(reversed(groups[1].items())))
        )
        raise DataError(
            f"the counts of guides are of {len(groups[0])} arm(s) before ({_shown(before) or 'none by name'}) and"
            f" {len(groups[1])} after ({_shown(after) or 'none'}); say which columns are compared, such as"
            f" --baseline-cols {','.join(one)} --endpoint-cols {','.join(other)} (baseline_cols=, endpoint_cols=);"
            " whole numbers that are no counts are read as they are with --no-normalise (normalise=False)"
        )
    return Arms(tuple(before), tuple(after), f"{_shown(after)} against {_shown(before)} (by name)")


def fold_changes(
    counts: Float[np.ndarray, "guides samples"], is_baseline: Bool[np.ndarray, "samples"]
) -> Float[np.ndarray, "guides"]:
    """Log2 of scaled counts with one added, the mean over samples after less that over samples before."""
    logs = np.log2(counts / size_factors(counts) + _PSEUDOCOUNT)
    changes: np.ndarray = logs[:, ~is_baseline].mean(axis=1) - logs[:, is_baseline].mean(axis=1)
    return changes


def size_factors(counts: Float[np.ndarray, "guides samples"]) -> Float[np.ndarray, "samples"]:
    """Median ratio to the geometric mean over samples, of guides that all of these have; else of their totals."""
    if not counts.sum(axis=0).all():
        raise DataError("a sample has no counts at all; leave its column out")
    common = counts[(counts > 0).all(axis=1)]
    logs = np.log(common if len(common) else counts.sum(axis=0, keepdims=True))
    factors: np.ndarray = np.exp(np.median(logs - logs.mean(axis=1, keepdims=True), axis=0))
    return factors


def design_of_guides(table: pd.DataFrame, stated: Dialect) -> tuple[Design, dict[str, str]]:
    """Find what guides target; unless something says otherwise, it is knocked out, which is said."""
    names = {str(name).casefold(): str(name) for name in table}
    pair = next((tuple(names[name] for name in each) for each in _PAIRS if names.keys() >= set(each)), None)
    assumed = {}
    if stated.target_col is None and pair is not None:
        stated = replace(stated, target_col=pair)
        assumed["detected targets"] = f"{pair[0]!r}, {pair[1]!r} (by name)"
    if stated.target_col is None and not names_targets(table.columns):
        raise DataError(
            f"no column names the genes of a guide, among {_shown(list(map(str, table)))}; add one, or one for"
            " each guide of a pair (gene1, gene2), from the table of the library, or name it with target_col="
            " (--target-col)"
        )
    if stated.mode is None and not any((folded(name),) in MODE_COLUMNS for name in table):
        stated = replace(stated, mode="knockout")
        assumed["detected mode"] = "knockout (assumed: tables of guides do not say; state it with mode=, --mode)"
    return design_of(table, stated, used=list(table.columns)), assumed


def _numbers(table: pd.DataFrame, stated: Dialect) -> dict[str, Float[np.ndarray, "guides"]]:
    """The columns of numbers that are not stated to be something else, nor known to be none."""
    targets = (stated.target_col,) if isinstance(stated.target_col, str) else stated.target_col or ()
    apart = {stated.group_col, stated.batch_col, *targets}
    numbers = table.loc[:, [holds_numbers(kind) for kind in table.dtypes]]
    columns = zip(map(str, numbers), numbers.to_numpy(dtype=np.float64, na_value=np.nan).T, strict=True)
    return {
        name: values for name, values in columns if name not in apart and not NO_READOUTS.fullmatch(folded(name))
    }


def _samples(table: pd.DataFrame, stated: Dialect) -> list[str]:
    """The columns that hold counts: of whole numbers, or of large ones, as after scaling."""
    return [name for name, column in _numbers(table, stated).items() if _are_counts(column)]


def _are_counts(values: Float[np.ndarray, "guides"]) -> bool:
    if not len(values) or not (values >= 0).all():
        return False
    return bool(
        values.max() > _LARGE or (values.max() > _LARGEST_CALL and np.array_equal(values, np.floor(values)))
    )


def _are_calls(values: Float[np.ndarray, "guides"]) -> bool:
    """Tell small whole numbers, such as those of clones and pools."""
    return bool(np.isin(values[~np.isnan(values)], np.arange(_LARGEST_CALL + 1)).all())


def _counts(table: pd.DataFrame, columns: Sequence[str]) -> Float[np.ndarray, "guides samples"]:
    counts = []
    for name in columns:
        numbers = pd.to_numeric(table[name], errors="coerce").to_numpy(dtype=np.float64)
        if not (np.isfinite(numbers) & (numbers >= 0)).all():
            row = int(np.flatnonzero(~(np.isfinite(numbers) & (numbers >= 0)))[0])
            raise DataError(
                f"column {name!r} holds {str(table[name].iloc[row])[:80]!r} in row {row}, which is no count"
            )
        counts.append(numbers)
    return np.stack(counts, axis=1)


def _groups(names: Sequence[str]) -> dict[str, list[str]]:
    """Samples that differ only in what counts replicates."""
    groups: dict[str, list[str]] = {}
    for name in names:
        groups.setdefault(_REPLICATE.sub("", name.casefold()), []).append(name)
    return groups


def _shown(names: Sequence[str]) -> str:
    return some_of(map(repr, names), 6)


_CHANGES = ("neg|lfc", "pos|lfc")
_COEFFICIENT = "|beta"
_OF_TESTS = ({"sgrna", "control_count", "treatment_count"}, {"sgrna", "lfc", "p.twosided"})


def summarises_genes(table: pd.DataFrame) -> bool:
    """Tell a summary of MAGeCK by its columns."""
    columns = {str(name).casefold() for name in table}
    counts = "its table of counts, with --baseline-cols and --endpoint-cols"
    if any(each <= columns for each in _OF_TESTS):
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
        changes = {known: _numeric(table[known]) for name, known in named.items() if name in _CHANGES}
        first, *others = changes.values()
        same = all(np.array_equal(first, other, equal_nan=True) for other in others)
        found = pd.DataFrame({"lfc": first} if same else changes)
        return found, None, {"unit": "log2 fold change of a gene (mageck test)"}
    effects, errors, filled = {}, {}, 0
    for name, known in named.items():
        if not name.endswith(_COEFFICIENT):
            continue
        condition = known[: -len(_COEFFICIENT)]
        effects[condition] = _numeric(table[known])
        if (z := named.get(f"{condition.casefold()}|z")) is None:
            raise DataError(f"{known!r} has no '{condition}|z' beside it, from which its standard error is had")
        with np.errstate(divide="ignore", invalid="ignore"):
            error = np.abs(effects[condition] / _numeric(table[z]))
        unknown = ~np.isfinite(error)
        if unknown.all():
            raise DataError(f"no standard error can be had from {z!r}; all its values are zero or missing")
        errors[condition] = np.where(unknown, error[~unknown].max(), error)
        filled += int((unknown & np.isfinite(effects[condition])).sum())
    rule = "beta / z of mageck mle" + (f"; the largest one in {filled} place(s) where z is 0" if filled else "")
    said = {"unit": "beta: log fold change per condition (mageck mle)", "standard errors": rule}
    return pd.DataFrame(effects), pd.DataFrame(errors), said


def _numeric(column: pd.Series) -> Float[np.ndarray, "genes"]:
    numbers: np.ndarray = pd.to_numeric(column, errors="coerce").to_numpy(dtype=np.float64)
    return numbers
