"""The design of a table: which condition each row belongs to, and which rows belong to none."""

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
from jaxtyping import Int

from surrogates.data.columns import unit_of
from surrogates.data.io.annotated import LEFT_OUT
from surrogates.data.io.batches import Assigned, Batches, batches_of, notes_on_batches, without_controls
from surrogates.data.io.dialects import Detection, Dialect, as_text, detect
from surrogates.data.io.labels import NO_DOSE, NO_PARTNER, UNITS, dose_parts, without_call
from surrogates.data.io.notes import NOTE, notes_on_columns, notes_on_names
from surrogates.data.perturbation import Mode, Perturbation, mode_of
from surrogates.errors import DataError, some_of

_NO_LABEL = "without a label"
_FEWEST_PARTNERS = 2


@dataclass(frozen=True)
class Design:
    """What was done in each row of a table, and in which context."""

    codes: Int[np.ndarray, "rows"]  # number of the condition of each row, ``-1`` where the row is not read
    perturbations: tuple[Perturbation, ...]  # what was done in each condition
    contexts: tuple[str, ...]  # context of each condition, empty when the table has none
    detection: Detection  # how this was found
    left_out: Mapping[str, int]  # how many rows are not read, by the reason
    notes: tuple[str, ...] = ()  # what is worth knowing of labels and other columns
    batches: Batches | None = None  # within which rows are compared with controls, if they are stated

    def __len__(self) -> int:
        return len(self.perturbations)

    @property
    def provenance(self) -> dict[str, str]:
        """What was detected and left out, as entries of a screen's provenance."""
        found = {f"detected {finding}": rule for finding, rule in self.detection.rules.items()}
        if self.left_out:
            found["dropped rows"] = "; ".join(f"{count:,} {why}" for why, count in self.left_out.items())
        return {**found, **{f"{NOTE}{number}": note for number, note in enumerate(self.notes, 1)}}

    @property
    def is_replicated(self) -> bool:
        """Whether conditions have two rows or more on average: cells then, not effects."""
        return int((self.codes != LEFT_OUT).sum()) >= 2 * len(self)

    def refuse_without_label(self) -> None:
        """Refuse rows without a label, in tables whose every row is a measurement."""
        if missing := self.left_out.get(_NO_LABEL):
            raise DataError(
                f"{missing} row(s) have no label in {' and '.join(map(repr, self.detection.target_cols))};"
                f" fill it in or"
                " remove the row"
            )


def design_of(table: pd.DataFrame, stated: Dialect, *, used: Collection[str] = ()) -> Design:
    """Find what was done in each row; columns that are ``used`` otherwise are not worth a note."""
    detection = detect(table, stated)
    texts = pd.DataFrame({column: as_text(table[column]) for column in detection.columns})
    group = texts.groupby(list(texts.columns), sort=False).ngroup().to_numpy()
    numbers: dict[tuple[Perturbation, str], int] = {}
    of_group: list[int] = []
    why_left: dict[int, str] = {}
    for row in texts.drop_duplicates().to_dict("records"):
        condition = _condition({str(name): str(text) for name, text in row.items()}, detection)
        if isinstance(condition, str):
            why_left[len(of_group)] = condition
            of_group.append(LEFT_OUT)
        else:
            of_group.append(numbers.setdefault(condition, len(numbers)))
    codes = np.asarray(of_group, dtype=np.int64)[group]
    sizes = Counter(group.tolist())
    left_out: Counter[str] = Counter()
    for number, why in why_left.items():
        left_out[why] += sizes[number]
    perturbations = tuple(perturbation for perturbation, _ in numbers)
    if stated.target_col is None and len(detection.target_cols) == 1:
        _refuse_partner(table, codes, perturbations, detection)
    assigned = Assigned(codes, tuple(one.label for one in perturbations), tuple(where for _, where in numbers))
    known = {*detection.columns, *used}
    batches = None if stated.batch_col is None else _batches(table[stated.batch_col], assigned, left_out)
    return Design(
        codes=codes if batches is None else np.where(batches.of_row == LEFT_OUT, LEFT_OUT, codes),
        perturbations=perturbations,
        contexts=assigned.contexts,
        detection=detection,
        left_out=dict(left_out),
        batches=batches,
        notes=(
            *notes_on_columns(table, codes, known if batches is None else {*known, batches.column}),
            *notes_on_batches(table, assigned, used=known, stated=stated.batch_col),
            *notes_on_names({target for one in perturbations for target in one.targets}),
        ),
    )


def _refuse_partner(
    table: pd.DataFrame,
    codes: Int[np.ndarray, "rows"],
    perturbations: Sequence[Perturbation],
    detection: Detection,
) -> None:
    """Refuse a column that names other targets beside those of the label."""
    known = {target for one in perturbations for target in one.targets}
    (first,) = detection.target_cols
    for name in table.select_dtypes(exclude=["number", "bool"]):
        if name in detection.columns:
            continue
        values = pd.DataFrame({"code": codes, "value": as_text(table[name])}).drop_duplicates()
        values = values[(values["code"] != LEFT_OUT) & values["value"].isin(known)]
        beside = {
            value for code, value in values.itertuples(index=False) if value not in perturbations[code].targets
        }
        if len(beside) >= _FEWEST_PARTNERS and 2 * len(beside) >= len(set(as_text(table[name]))) - 2:
            raise DataError(
                f"{name!r} names targets beside those of {first!r} ({', '.join(sorted(beside)[:3])}): state both,"
                f" with --target-col {first} --target-col {name} (target_col=[...]), or --target-col {first} alone"
            )


def _batches(column: pd.Series, assigned: Assigned, left_out: Counter[str]) -> Batches:
    """Number the batches; rows without a batch, or controls in it, are left out and counted."""
    names = as_text(column)
    empty = assigned.kept & (np.asarray(names, dtype=object) == "")
    left_out.update({f"without a batch in {column.name!r}": int(empty.sum())} if empty.any() else {})
    assigned = replace(assigned, codes=np.where(empty, LEFT_OUT, assigned.codes))
    batches = batches_of(names, str(column.name), assigned)
    if not assigned.controls.any():
        return batches
    bare = without_controls(batches, assigned)
    if not (assigned.kept & ~bare & ~assigned.controls).any():
        raise DataError(
            f"no batch of {column.name!r} holds controls beside other rows, so that nothing can be compared within"
            " one; leave batch_col= (--batch-col) out, or name another column"
        )
    if bare.any():
        few = sorted({batches.names[number] for number in batches.of_row[bare]})
        why = f"in batches without controls ({some_of(few, 4)})"
        left_out[why] = int(bare.sum())
    return replace(batches, of_row=np.where(bare, LEFT_OUT, batches.of_row))


def _condition(row: Mapping[str, str], detection: Detection) -> tuple[Perturbation, str] | str:
    """What was done in a row and in which context, or why the row is not read."""
    form = detection.label_format
    first, *partners = (row[column] for column in detection.target_cols)
    partners = [
        "" if label.casefold() in NO_PARTNER and label not in form.controls else label for label in partners
    ]
    labels = [first, *partners]
    if not any(labels):
        return _NO_LABEL
    if unknown := [label for label in labels if without_call(label, form.controls)]:
        return f"labelled {unknown[0]!r}, of which nothing is known"
    context = "" if detection.context_col is None else row[detection.context_col]
    if detection.context_col is not None and not context:
        raise DataError(
            f"the row(s) of {labels[0]!r} have no context in {detection.context_col!r}; fill it in, remove"
            f" them, or state"
            " another column with group_col= (--group-col)"
        )
    named = None if detection.mode_col is None else mode_of(row[detection.mode_col])
    if named is not None and named not in detection.modes:
        return "of another mode"
    parts = [part for label in labels for part in form.split(label)]
    if unknown := [part for part in parts if without_call(part, form.controls) and len(parts) > len(labels)]:
        return f"of which a part is {unknown[0]!r}, so that nobody knows what was done"
    parts = [detection.genes.get(part, part) for part in parts]
    targets = [part for part in parts if part and part not in form.controls]
    if len(set(targets)) < len(targets) and not detection.dose_cols:
        return f"that name a target twice, such as {'+'.join(targets)!r}"
    return form.perturbation(parts, _doses(row, detection), _mode(row, detection, named, targets)), context


def _mode(row: Mapping[str, str], detection: Detection, named: Mode | None, targets: list[str]) -> Mode:
    if targets and named is None and detection.mode_col is not None:
        raise DataError(
            f"column {detection.mode_col!r} says {row[detection.mode_col]!r} for {'+'.join(targets)!r}, which"
            f" is no"
            " technique that is known; write activation, knockdown, knockout or compound, or remove the"
            " column and state"
            " mode= (--mode)"
        )
    return named or detection.modes[0]


def _doses(row: Mapping[str, str], detection: Detection) -> list[str]:
    """The dose of each part as a text with its unit."""
    doses = []
    for column in detection.dose_cols:
        unit = row[detection.unit_col] if detection.unit_col else unit_of(column)
        unit = next((known for known in UNITS if known.casefold() == unit.casefold()), unit)
        for dose in dose_parts(row[column]) or ("",):
            bare = dose not in NO_DOSE and not dose[-1:].isalpha()
            doses.append(f"{dose} {unit}".strip() if bare else dose)
    return doses
