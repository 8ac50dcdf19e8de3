"""Results as people bring them: a table, checked cell by cell and turned into arrays."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float, Int

from inverse_design.campaign.plate import ControlWells, controls_of, is_control
from inverse_design.errors import ResultsError
from surrogates.data.io.dialects import as_text
from surrogates.data.perturbation import Perturbation
from surrogates.data.vocabulary import Vocabulary
from surrogates.errors import DataError, UnknownNameError, nearest_hint

PERTURBATION, REPLICATE, STATUS, CAMPAIGN, ROUND = "perturbation", "replicate", "status", "campaign", "round"
ONLY = "1"  # the replicate of a table that names none
_STATUSES = {"": "measured", "measured": "measured", "ok": "measured", "failed": "failed", "pending": "pending"}
_SHOWN = 3


@dataclass(frozen=True)
class Results:
    """Wells of a table of results; those that are pending, and controls, are left out."""

    lines: tuple[int, ...]  # line of each well in the file, of which the first is the header
    labels: tuple[str, ...]  # canonical label of its perturbation
    genes: Int[np.ndarray, "m k"]  # vocabulary ids of it, ``-1`` where empty
    replicates: tuple[str, ...]  # name of the replicate, ``"1"`` where none is stated
    rounds: tuple[int | None, ...]  # in which it was proposed, ``None`` where not stated
    failed: Bool[np.ndarray, "m"]  # whether it gave no values
    values: Float[np.ndarray, "m g"]  # measured effects, NaN where failed
    pending: int  # how many wells are still to come
    controls: ControlWells  # what the control wells say
    digest: str  # SHA-256 of all this, whatever the order of lines and columns

    def __len__(self) -> int:
        return len(self.labels)


def results_of(table: pd.DataFrame, *, vocabulary: Vocabulary, readouts: Sequence[str], key: str) -> Results:
    """Check a table of results.

    Raises:
        ResultsError: If a column is missing, a number is missing, not finite or no number, a status is unknown,
            a well occurs twice, or the table is of another campaign; the message names line, column and value.
        UnknownNameError: If a gene or compound is unknown; the message names the nearest ones.
    """
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
        told, readouts, failed, [f"line {line} ({label!r})" for line, label in zip(lines, labels, strict=True)]
    )
    replicates = as_text(told[REPLICATE]) if REPLICATE in told else ("",) * len(told)
    replicates = tuple(each or ONLY for each in replicates)
    rounds = _rounds(told, lines)
    _refuse_repeats(labels, replicates, rounds, lines)
    return Results(
        lines=tuple(lines.tolist()),
        labels=labels,
        genes=vocabulary.batch(parsed).genes.numpy(),
        replicates=replicates,
        rounds=rounds,
        failed=failed,
        values=values,
        pending=int(((statuses == "pending") & ~control).sum()),
        controls=controls_of(table[control & (statuses == "measured")], readouts),
        digest=_digest(labels, replicates, rounds, failed, values),
    )


def _require_columns(table: pd.DataFrame, readouts: Sequence[str]) -> None:
    names = [str(name) for name in table]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise ResultsError(f"column {twice[0]!r} occurs {names.count(twice[0])} times; names must be unique")
    known = frozenset(names)
    missing = [name for name in (PERTURBATION, *readouts) if name not in known]
    if missing:
        others = known - {PERTURBATION, REPLICATE, STATUS, CAMPAIGN, ROUND, *readouts}
        hint = nearest_hint(missing[0], others)
        raise ResultsError(
            f"the results need {len(missing)} more column(s), such as {missing[0]!r} ({hint}); each well needs"
            f" all {len(readouts)} readout(s) of the campaign"
        )
    if not len(table):
        raise ResultsError("the results have no line below the header")


def _refuse_other_campaign(table: pd.DataFrame, key: str) -> None:
    stated = set(as_text(table[CAMPAIGN])) - {"", key} if CAMPAIGN in table else set()
    if stated:
        raise ResultsError(
            f"the results are those of campaign {min(stated)!r}, and this is {key!r}; tell them there, or"
            f" remove the column {CAMPAIGN!r} if they were measured for both"
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
            wrong.append(f"line {line} ({text!r}): {error}")
    if wrong:
        more = f"; and {len(wrong) - _SHOWN} more" if len(wrong) > _SHOWN else ""
        raise UnknownNameError("; ".join(wrong[:_SHOWN]) + more)
    return [parsed[text] for text in texts]


def _perturbation(text: str, vocabulary: Vocabulary) -> Perturbation:
    if not text:
        raise DataError("the perturbation is empty; results are effects against the control, which has none")
    return vocabulary.parse(text)


def _numbers(
    table: pd.DataFrame, readouts: Sequence[str], failed: Bool[np.ndarray, "m"], wells: Sequence[str]
) -> Float[np.ndarray, "m g"]:
    values = np.empty((len(table), len(readouts)))
    for place, name in enumerate(readouts):
        column = pd.to_numeric(table[name], errors="coerce").to_numpy(dtype=np.float64)
        odd = np.flatnonzero(~np.isfinite(column) & ~failed)
        if len(odd):
            seen = table[name].iloc[int(odd[0])]
            raise ResultsError(
                f"{wells[int(odd[0])]}, column {name!r}: {str(seen)!r} is not a finite number; if the well failed,"
                f" or is still to come, write 'failed' or 'pending' into a column {STATUS!r}"
            )
        values[:, place] = np.where(failed, np.nan, column)
    return values


def _rounds(table: pd.DataFrame, lines: np.ndarray) -> tuple[int | None, ...]:
    if ROUND not in table:
        return (None,) * len(table)
    texts = as_text(table[ROUND])
    for line, text in zip(lines, texts, strict=True):
        if text and not (text.isascii() and text.isdigit()):
            raise ResultsError(f"line {line}, column {ROUND!r}: {text!r} is not the number of a round")
    return tuple(int(text) if text and int(text) else None for text in texts)


def _refuse_repeats(
    labels: Sequence[str], replicates: Sequence[str], rounds: Sequence[int | None], lines: np.ndarray
) -> None:
    first: dict[tuple[str, str, int | None], int] = {}
    for well, line in zip(zip(labels, replicates, rounds, strict=True), lines.tolist(), strict=True):
        if (earlier := first.setdefault(well, line)) != line:
            label, replicate, _ = well
            raise ResultsError(
                f"lines {earlier} and {line} are the same well: {label!r}, replicate {replicate!r}; remove one of"
                f" them, or tell replicates apart in a column {REPLICATE!r}"
            )


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
