"""Results as people bring them: a table, checked cell by cell and turned into arrays."""

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NoReturn

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float, Int

from inverse_design.campaign.plate import PLATE, ControlWells, controls_of, is_control
from inverse_design.errors import ResultsError
from surrogates.data.columns import TARGET_COLUMNS, folded
from surrogates.data.io.dialects import as_text
from surrogates.data.io.tabular import MISSING
from surrogates.data.names import name_of
from surrogates.data.perturbation import Perturbation
from surrogates.data.vocabulary import Vocabulary
from surrogates.errors import DataError, UnknownNameError, nearest_hint, shown, some_of

PERTURBATION, REPLICATE, STATUS, CAMPAIGN, ROUND = "perturbation", "replicate", "status", "campaign", "round"
ONLY = "1"  # the replicate of a table that names none
_STATUSES = {"": "measured", "measured": "measured", "ok": "measured", "failed": "failed", "pending": "pending"}
_SHOWN = 3
_LONGEST_ROUND = 9  # digits
_THOUSANDS = re.compile(r"[+-]?\d{1,3}([,.'\u2019\u202f\u00a0 ]\d{3})+([.,]\d+)?")


@dataclass(frozen=True)
class Results:
    """Wells of a table of results; those that are pending, and controls, are left out."""

    lines: tuple[int, ...]  # line of each well in the file, of which the first is the header
    labels: tuple[str, ...]  # canonical label of its perturbation
    genes: Int[np.ndarray, "m k"]  # vocabulary ids of it, ``-1`` where empty
    replicates: tuple[str, ...]  # name of the replicate, ``"1"`` where none is stated
    rounds: tuple[int | None, ...]  # in which it was proposed, ``None`` where not stated
    failed: Bool[np.ndarray, "m"]  # whether it gave no values
    readouts: tuple[str, ...]  # the measured variables
    values: Float[np.ndarray, "m g"]  # measured effects, NaN where failed or not measured
    pending: int  # how many wells are still to come
    controls: ControlWells  # what the control wells say
    digest: str  # SHA-256 of all this, whatever the order of lines and columns

    def __len__(self) -> int:
        return len(self.labels)


def results_of(table: pd.DataFrame, *, vocabulary: Vocabulary, readouts: Sequence[str], key: str) -> Results:
    """Check a table of results."""
    _require_columns(table, readouts)
    _refuse_other_campaign(table, key)
    statuses = _statuses(table)
    control = is_control(table, as_text(table[PERTURBATION]), vocabulary)
    kept = np.flatnonzero((statuses != "pending") & ~control)
    lines = kept + 2
    told = table.iloc[kept]
    parsed = _perturbations(told[PERTURBATION], lines, vocabulary)
    labels = tuple(one.label for one in parsed)
    failed = statuses[kept] == "failed"
    values = _numbers(
        told, readouts, failed, [f"line {line} ({shown(one)})" for line, one in zip(lines, labels, strict=True)]
    )
    replicates = _names(told, REPLICATE, lines)
    _names(table, PLATE, np.arange(len(table)) + 2)
    rounds = _rounds(told, lines)
    _refuse_repeats(labels, replicates, rounds, lines)
    return Results(
        lines=tuple(lines.tolist()),
        labels=labels,
        genes=vocabulary.batch(parsed).genes.numpy(),
        replicates=replicates,
        rounds=rounds,
        failed=failed,
        readouts=tuple(readouts),
        values=values,
        pending=int(((statuses == "pending") & ~control).sum()),
        controls=controls_of(table[control & (statuses == "measured")], readouts),
        digest=_digest(labels, replicates, rounds, failed, values),
    )


def _require_columns(table: pd.DataFrame, readouts: Sequence[str]) -> None:
    names = [str(name) for name in table]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise ResultsError(f"column {shown(twice[0])} occurs {names.count(twice[0])} times; names must be unique")
    known = frozenset(names)
    missing = [name for name in (PERTURBATION, *readouts) if name not in known]
    if missing:
        others = known - {PERTURBATION, REPLICATE, STATUS, CAMPAIGN, ROUND, *readouts}
        hint = _remedy(table, missing, readouts) or nearest_hint(missing[0], others)
        raise ResultsError(
            f"the results need {len(missing)} more column(s), such as {missing[0]!r} ({hint}); each well needs"
            f" all {len(readouts)} readout(s) of the campaign"
        )
    if not len(table):
        raise ResultsError("the results have no line below the header")


def _remedy(table: pd.DataFrame, missing: Sequence[str], readouts: Sequence[str]) -> str | None:
    """What mends labels in two columns, or one row for each readout of a well."""
    if PERTURBATION in missing:
        found = {folded(name): shown(str(name)) for name in table}
        pair = next((each for each in TARGET_COLUMNS if len(each) == 2 and found.keys() >= set(each)), None)
        return pair and f"join {found[pair[0]]} and {found[pair[1]]} in it, with '+' between the parts"
    long = next((str(name) for name in table if len({*as_text(table[name])} & {*readouts}) > 1), None)
    return long and f"{shown(long)} holds names of readouts: give a column to each, and a row to each well"


def _refuse_other_campaign(table: pd.DataFrame, key: str) -> None:
    stated = set(as_text(table[CAMPAIGN])) - {"", key} if CAMPAIGN in table else set()
    if stated:
        raise ResultsError(
            f"the results are those of campaign {shown(min(stated))}, and this is {shown(key)}; tell them there,"
            f" or remove the column {CAMPAIGN!r} if they were measured for both"
        )


def _statuses(table: pd.DataFrame) -> np.ndarray:
    texts = as_text(table[STATUS]) if STATUS in table else ("",) * len(table)
    for line, text in enumerate(texts, start=2):
        if text.casefold() not in _STATUSES:
            known = [each for each in _STATUSES if each]
            raise UnknownNameError(f"line {line}: {UnknownNameError.from_known('status', text, known)}")
    return np.array([_STATUSES[text.casefold()] for text in texts], dtype=object)


def _perturbations(column: pd.Series, lines: np.ndarray, vocabulary: Vocabulary) -> list[Perturbation]:
    texts = as_text(column)
    parsed: dict[str, Perturbation] = {}
    wrong: list[str] = []
    for line, text in zip(lines, texts, strict=True):
        if text in parsed:
            continue
        try:
            parsed[text] = _perturbation(text, vocabulary)
        except DataError as error:
            wrong.append(f"line {line} ({shown(text)}): {error}")
    if wrong:
        raise UnknownNameError(some_of(wrong, _SHOWN, sep="; "))
    return [parsed[text] for text in texts]


def _perturbation(text: str, vocabulary: Vocabulary) -> Perturbation:
    if not text:
        raise DataError("the perturbation is empty; results are effects against the control, which has none")
    return vocabulary.parse(text)


def _names(table: pd.DataFrame, column: str, lines: np.ndarray) -> tuple[str, ...]:
    """Read names of replicates or plates."""
    texts = as_text(table[column]) if column in table else ("",) * len(table)
    known = {"": ONLY}
    for line, text in zip(lines, texts, strict=True):
        if text not in known:
            try:
                known[text] = name_of(text, f"name of a {column}")
            except DataError as error:
                raise ResultsError(f"line {line}, column {shown(column)}: {error}") from error
    return tuple(known[text] for text in texts)


def _numbers(
    table: pd.DataFrame, readouts: Sequence[str], failed: Bool[np.ndarray, "m"], wells: Sequence[str]
) -> Float[np.ndarray, "m g"]:
    """Read the readouts; cells that are empty, in a well that has other values, were not measured."""
    values = np.full((len(table), len(readouts)), np.nan)
    for place, name in enumerate(readouts):
        if not (pd.api.types.is_object_dtype(table[name]) or pd.api.types.is_string_dtype(table[name])):
            _require_real(table[name])
        column = pd.to_numeric(table[name], errors="coerce").to_numpy(dtype=np.float64, na_value=np.nan)
        odd = np.flatnonzero(~np.isfinite(column) & ~failed)
        texts = as_text(table[name].iloc[odd])
        for row, text in zip(odd.tolist(), texts, strict=True):
            if text not in MISSING:
                _refuse_number(wells[row], name, text)
        values[:, place] = np.where(failed, np.nan, column)
    empty = np.flatnonzero(np.isnan(values).all(1) & ~failed)
    if len(empty):
        row = int(empty[0])
        _refuse_number(wells[row], readouts[0], str(table[readouts[0]].iloc[row]))
    return values


def _refuse_number(well: str, column: str, seen: str) -> NoReturn:
    remedy = (
        "write it without the percent sign, in the unit of the campaign's readout"
        if seen.endswith("%")
        else "write it without marks between thousands"
        if _THOUSANDS.fullmatch(seen)
        else f"if the well failed, or is still to come, write 'failed' or 'pending' into a column {STATUS!r}; a"
        " readout of a well that was not measured stays empty"
    )
    raise ResultsError(f"{well}, column {shown(column)}: {shown(seen)} is not a finite number; {remedy}")


def _require_real(column: pd.Series) -> None:
    """Refuse what is converted to numbers without being any, such as truth values and dates."""
    if not pd.api.types.is_any_real_numeric_dtype(column.dtype):
        raise ResultsError(f"column {shown(str(column.name))} holds {column.dtype}, which are no measured values")


def _rounds(table: pd.DataFrame, lines: np.ndarray) -> tuple[int | None, ...]:
    if ROUND not in table:
        return (None,) * len(table)
    texts = as_text(table[ROUND])
    for line, text in zip(lines, texts, strict=True):
        if text and not (text.isascii() and text.isdigit() and len(text) <= _LONGEST_ROUND):
            raise ResultsError(f"line {line}, column {ROUND!r}: {shown(text)} is not the number of a round")
    return tuple(int(text) if text and int(text) else None for text in texts)


def _refuse_repeats(
    labels: Sequence[str], replicates: Sequence[str], rounds: Sequence[int | None], lines: np.ndarray
) -> None:
    """Refuse a well that is there twice; a row that states no round may be of any."""
    known: dict[tuple[str, str], dict[int | None, int]] = {}
    for label, replicate, stated, line in zip(labels, replicates, rounds, lines.tolist(), strict=True):
        earlier = known.setdefault((label, replicate), {})
        if earlier and (stated is None or stated in earlier or None in earlier):
            before = earlier.get(stated, max(earlier.values()))
            raise ResultsError(
                f"lines {before} and {line} are the same well: {shown(label)}, replicate {shown(replicate)};"
                f" remove one of them, tell replicates apart in a column {REPLICATE!r}, or state both rounds"
                f" ({ROUND!r})"
            )
        earlier[stated] = line


def _digest(
    labels: Sequence[str],
    replicates: Sequence[str],
    rounds: Sequence[int | None],
    failed: Bool[np.ndarray, "m"],
    values: Float[np.ndarray, "m g"],
) -> str:
    wells = zip(labels, replicates, rounds, failed.tolist(), strict=True)
    keys = [repr(well) for well in wells]
    digest = hashlib.sha256()
    for row in sorted(range(len(keys)), key=keys.__getitem__):
        digest.update(keys[row].encode())
        digest.update(values[row].astype("<f8").tobytes())
    return digest.hexdigest()
