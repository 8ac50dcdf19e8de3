"""A screen: measured effects of perturbations on readouts, with their design."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TypeAlias, Unpack

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float, Int
from torch import Tensor

from surrogates.data.canonical import content_order
from surrogates.data.io.annotated import AnnotatedMatrix
from surrogates.data.io.dialects import ReadOptions
from surrogates.data.io.notes import NOTE
from surrogates.data.perturbation import Perturbation
from surrogates.data.vocabulary import EMPTY, PerturbationBatch, Vocabulary
from surrogates.errors import DataError, UnknownNameError, amount
from surrogates.summary import as_html, counted, lines_of

Numbers: TypeAlias = Float[Tensor, "n g"] | Float[np.ndarray, "n g"] | pd.DataFrame

FEWEST_CONDITIONS = 3


@dataclass(frozen=True)
class Screen:
    """A table of measured effects against the control of the same context.

    Attributes:
        effects: Change of each readout, in the unit ``provenance["unit"]`` (often log fold change).
        batch: What was done in each row.
        vocabulary: What the ids of ``batch`` mean.
        readouts: Names of the measured variables.
        contexts: Cell type, line or batch of each row.
        standard_errors: Of each effect, or ``None`` when the source has no replicates.
        annotations: Further columns of the source, one row per condition (for example ``double_fold``).
        provenance: Where the numbers come from: path, hash, unit, what was detected.
    """

    effects: Float[Tensor, "n g"]
    batch: PerturbationBatch
    vocabulary: Vocabulary
    readouts: tuple[str, ...]
    contexts: tuple[str, ...]
    standard_errors: Float[Tensor, "n g"] | None = None
    annotations: pd.DataFrame = field(default_factory=pd.DataFrame, repr=False)
    provenance: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Refuse shapes that do not fit, values that are not finite, and readouts named twice."""
        n, g = self.effects.shape
        if (n, g, n) != (len(self.batch), len(self.readouts), len(self.contexts)):
            raise DataError(
                f"effects of shape {(n, g)} do not fit {len(self.batch)} perturbations,"
                f" {len(self.contexts)} contexts and {len(self.readouts)} readouts"
            )
        _refuse_repeats("readout", self.readouts)
        _refuse_not_finite(self.effects, "effect", self)
        if self.standard_errors is not None:
            if self.standard_errors.shape != self.effects.shape:
                raise DataError(
                    f"standard errors of shape {tuple(self.standard_errors.shape)} beside effects of {(n, g)}"
                )
            _refuse_not_finite(self.standard_errors, "standard error", self)
            if bool((self.standard_errors < 0).any()):
                raise DataError("a standard error is negative")

    @classmethod
    def from_frame(cls, frame: pd.DataFrame, **stated: Unpack[ReadOptions]) -> "Screen":
        """Read a table of effects: one row per condition or replicate, one column of numbers per readout.

        Labels such as ``"KLF1+CEBPE"`` are the row names, or a column. What is detected and what is refused is the
        same as for a file, see :func:`surrogates.read_screen`, which also says what may be stated.

        Args:
            frame: The table.
            stated: What is known about its columns, such as ``target_col="condition"``.

        Returns:
            The screen.

        Raises:
            DataError: If the table is refused; the message names the value seen and what to do.
        """
        return _read(frame, stated)

    @classmethod
    def from_anndata(cls, adata: AnnotatedMatrix, **stated: Unpack[ReadOptions]) -> "Screen":
        """Read ``AnnData``: effects, one row per condition, or single cells with those of their control.

        Args:
            adata: In memory, or backed by a file: cells become effects block by block.
            stated: What is known about it, with the names that pertpy uses: ``target_col``, ``reference_key``,
                ``dose_col``, ``group_col``, ``layer_key``, ``sep``; see :func:`surrogates.read_screen`.

        Returns:
            The screen; of cells, with standard errors.

        Raises:
            DataError: If it is refused; the message names the value seen and what to do.
        """
        return _read(adata, stated)

    @classmethod
    def from_labels(
        cls,
        effects: Numbers,
        perturbations: Sequence[Perturbation | str],
        readouts: Sequence[str],
        *,
        contexts: Sequence[str] | None = None,
        standard_errors: Numbers | None = None,
        annotations: pd.DataFrame | None = None,
        provenance: Mapping[str, str] | None = None,
    ) -> "Screen":
        """Build a screen from spelled-out perturbations, with every check that a reader owes.

        Args:
            effects: Measured effects, one row per perturbation: a tensor, an array or a table.
            perturbations: What was done in each row, spelled out or as labels; none may be the control.
            readouts: Names of the columns.
            contexts: Context of each row; one unnamed context by default.
            standard_errors: Of each effect, if known.
            annotations: Further columns, one row per perturbation.
            provenance: Where the numbers come from.

        Returns:
            The screen.

        Raises:
            DataError: On a condition measured twice, a constant readout, fewer than three conditions, a
                control among the rows, values that are not finite, or shapes that do not fit.
        """
        done = [Perturbation.parse(each) if isinstance(each, str) else each for each in perturbations]
        context = tuple(contexts) if contexts is not None else ("",) * len(done)
        if any(one.order == 0 for one in done):
            raise DataError("the control is among the effects; effects are already relative to it")
        if len(done) < FEWEST_CONDITIONS:
            raise DataError(f"{len(done)} condition(s) are too few; a screen needs at least {FEWEST_CONDITIONS}")
        vocabulary = Vocabulary.of(done)
        screen = cls(
            effects=_tensor(effects),
            batch=vocabulary.batch(done),
            vocabulary=vocabulary,
            readouts=tuple(readouts),
            contexts=context,
            standard_errors=None if standard_errors is None else _tensor(standard_errors),
            annotations=pd.DataFrame(index=range(len(done)))
            if annotations is None
            else annotations.reset_index(drop=True),
            provenance=dict(provenance or {}),
        )
        _refuse_repeated_conditions(screen)
        _refuse_constant_readouts(screen)
        return screen

    def __len__(self) -> int:
        return len(self.effects)

    def __repr__(self) -> str:
        orders = torch.bincount(self.batch.order, minlength=4).tolist()
        counts = dict(zip(("control", "single", "double", "triple"), orders, strict=False)) | {
            "larger set": sum(orders[4:])
        }
        kinds = [f"{count:,} {name}{'s' * (count > 1)}" for name, count in counts.items() if count]
        unit, source = (self.provenance.get(key) for key in ("unit", "source"))
        where = [f"unit: {unit}" if unit else "", f"read from {source}" if source else ""]
        contexts = sorted({each for each in self.contexts if each})
        return lines_of(
            f"Screen: {amount(len(self), 'condition')} ({', '.join(kinds)}) on"
            f" {amount(len(self.readouts), 'readout')}"
            + (", with standard errors" if self.standard_errors is not None else ""),
            "; ".join(part for part in where if part),
            f"contexts: {counted(contexts)}" if contexts else "",
            *[f"note: {note}" for note in self.notes],
        )

    def _repr_html_(self) -> str:
        shown = self.rows(range(min(len(self), 5))).with_readouts(range(min(len(self.readouts), 8)))
        return as_html(repr(self).splitlines(), shown.to_frame())

    def to_frame(self) -> pd.DataFrame:
        """Lay the effects out as a table, which :meth:`from_frame` reads back.

        Returns:
            One column per readout; the rows are named ``perturbation`` by their canonical labels, and ``context``
            where there are contexts (then read back with ``group_col="context"``).
        """
        index = pd.Index(self.labels, name="perturbation", dtype=object)
        frame = pd.DataFrame(self.effects.numpy(), index=index, columns=list(self.readouts))
        if any(self.contexts):
            frame = frame.set_index(pd.Index(self.contexts, name="context", dtype=object), append=True)
        return frame

    @property
    def notes(self) -> tuple[str, ...]:
        """What the reader found worth knowing before anything is computed, such as counts of molecules."""
        return tuple(said for key, said in self.provenance.items() if key.startswith(NOTE))

    @cached_property
    def labels(self) -> tuple[str, ...]:
        """The canonical label of each row."""
        parts = [entry.label for entry in self.vocabulary.entries]  # sorted, so that numbers sort as names do
        rows = self.batch.genes.tolist()
        return tuple("+".join(parts[gene] for gene in sorted(row) if gene != EMPTY) for row in rows)

    def perturbation(self, row: int) -> Perturbation:
        """Spell out what was done in a row."""
        return self.vocabulary.perturbation(self.batch.genes[row])

    def rows(self, index: Int[Tensor, "m"] | Sequence[int]) -> "Screen":
        """Take some of the conditions as a screen; the vocabulary stays, so ids keep their meaning."""
        at = torch.as_tensor(index, dtype=torch.int64)
        taken = replace(
            self,
            effects=self.effects[at],
            batch=self.batch.rows(at),
            contexts=tuple(self.contexts[row] for row in at.tolist()),
            standard_errors=None if self.standard_errors is None else self.standard_errors[at],
            annotations=self.annotations.iloc[at.numpy()].reset_index(drop=True),
        )
        # Folds of combinations leave all singles: one table of them and one order serve the screen and its parts.
        if len(at) and "singles" in self.__dict__:
            alone = torch.where(taken.single_rows >= 0, at[taken.single_rows], -1)
            if torch.equal(alone, self.single_rows):
                taken.__dict__["singles"] = self.singles
                every = int((taken.batch.order == 1).sum()) == int((self.batch.order == 1).sum())
                if "places" in self.__dict__ and every and bool((at[1:] > at[:-1]).all()):
                    taken.__dict__["places"] = self.places[at].argsort().argsort()
        return taken

    def with_readouts(self, keep: Sequence[int]) -> "Screen":
        """Take some of the readouts, by their numbers, as a screen."""
        at = torch.as_tensor(keep, dtype=torch.int64)
        return replace(
            self,
            effects=self.effects[:, at],
            standard_errors=None if self.standard_errors is None else self.standard_errors[:, at],
            readouts=tuple(self.readouts[int(column)] for column in at),
        )

    def in_context(self, context: str) -> "Screen":
        """Take the conditions of one context as a screen; an unknown one is an ``UnknownNameError``."""
        if context not in self.contexts:
            raise UnknownNameError.from_known("context", context, self.contexts)
        return self.rows([row for row, name in enumerate(self.contexts) if name == context])

    @cached_property
    def places(self) -> Int[Tensor, "n"]:
        """The place of each row in canonical order: by what its parts do alone, see :func:`content_order`.

        So neither names nor the order of a table matter, and what combinations do has no say in how they are held
        out. Entries that were never measured alone stand behind the others, by label.
        """
        order = self.batch.order.tolist()
        singles = [row for row in self._by_label() if order[row] == 1]
        by_content = (
            [singles[number] for number in content_order(self.effects[singles]).tolist()] if singles else []
        )
        entries = [*(int(self.batch.genes[row, 0]) for row in by_content), *range(len(self.vocabulary))]
        place = {entry: number for number, entry in enumerate(dict.fromkeys(entries))}
        parts = [sorted(place[entry] for entry in ids if entry >= 0) for ids in self.batch.genes.tolist()]
        ranked = sorted(range(len(self)), key=lambda row: (parts[row], self.contexts[row]))
        return torch.tensor(ranked, dtype=torch.int64).argsort()

    def in_canonical_order(self) -> "Screen":
        """Sort the rows by what parts do alone: random draws then depend on neither order nor names."""
        return self.rows(self.places.argsort())

    def sorted_by_label(self) -> "Screen":
        """Sort the rows by condition and context."""
        return self.rows(self._by_label())

    def _by_label(self) -> list[int]:
        keys = list(zip(self.labels, self.contexts, strict=True))
        return sorted(range(len(self)), key=keys.__getitem__)

    def row_of(self, perturbation: Perturbation | str) -> int:
        """Find the first row in which a perturbation was measured, or raise an ``UnknownNameError``."""
        done = self.vocabulary.parse(perturbation) if isinstance(perturbation, str) else perturbation
        if done.label not in self.labels:
            raise UnknownNameError.from_known("condition", done.label, self.labels)
        return self.labels.index(done.label)

    @cached_property
    def single_rows(self) -> Int[Tensor, "v"]:
        """For each vocabulary entry the row in which it was measured alone, ``-1`` if it never was.

        With several contexts this is the first such row: take one context first.
        """
        rows = torch.full((len(self.vocabulary),), -1, dtype=torch.int64)
        singles = torch.nonzero(self.batch.order == 1).flatten().flip(0)
        rows[self.batch.genes[singles, 0]] = singles
        return rows

    @cached_property
    def singles(self) -> Float[Tensor, "v g"]:
        """Effect of each vocabulary entry given alone; the mean of all others where it was not measured alone."""
        rows = self.single_rows
        if len(rows) and bool((rows.diff() == 1).all()) and int(rows[0]) >= 0:  # no copy where they lie together
            return self.effects[int(rows[0]) : int(rows[-1]) + 1]
        table = self.effects[rows]
        missing = torch.nonzero(rows < 0).flatten()
        if len(missing):
            table[missing] = 0.0
            table[missing] = table.sum(0) / (len(rows) - len(missing))
        return table


def _read(source: pd.DataFrame | AnnotatedMatrix, stated: ReadOptions) -> Screen:
    from surrogates.data.io.readers import read_screen  # noqa: PLC0415 - which makes screens itself

    return read_screen(source, **stated)


def _tensor(numbers: Numbers) -> Float[Tensor, "n g"]:
    if isinstance(numbers, pd.DataFrame):
        if words := [str(name) for name in numbers if not pd.api.types.is_numeric_dtype(numbers[name])]:
            raise DataError(f"column {words[0]!r} of the effects holds no numbers; drop it, or correct its values")
        numbers = numbers.to_numpy(dtype=np.float64)
    return torch.as_tensor(numbers).to(torch.float64)


def _refuse_repeats(kind: str, names: Sequence[str]) -> None:
    if len(set(names)) < len(names):
        values, counts = np.unique(np.asarray(names, dtype=object), return_counts=True)
        raise DataError(f"{kind} {values[counts > 1][0]!r} occurs {counts.max()} times; names must be unique")


def _refuse_not_finite(values: Float[Tensor, "n g"], what: str, screen: Screen) -> None:
    if bool(values.sum().isfinite()):
        return  # one pass; what is not finite stays so in a sum
    bad = torch.nonzero(~torch.isfinite(values))
    if len(bad):
        row, column = (int(each) for each in bad[0])
        raise DataError(
            f"{len(bad)} {what}(s) are not finite, the first is {values[row, column].item()} for condition"
            f" {screen.labels[row]!r}, readout {screen.readouts[column]!r}; remove or impute them first"
        )


def _refuse_repeated_conditions(screen: Screen) -> None:
    first: dict[tuple[str, str], int] = {}
    for row, key in enumerate(zip(screen.labels, screen.contexts, strict=True)):
        if key not in first:
            first[key] = row
            continue
        gap = float((screen.effects[row] - screen.effects[first[key]]).abs().max())
        where = f" in context {key[1]!r}" if key[1] else ""
        said = f"with values that differ by up to {gap:.3g}" if gap > 0 else "with equal values"
        raise DataError(
            f"condition {key[0]!r}{where} is measured twice (rows {first[key]} and {row}; the order of genes"
            f" does not matter) {said}; average or remove one first"
        )


def _refuse_constant_readouts(screen: Screen) -> None:
    constant = torch.nonzero(screen.effects.amax(0) == screen.effects.amin(0)).flatten()
    if len(constant):
        names = ", ".join(repr(screen.readouts[int(column)]) for column in constant[:3])
        raise DataError(f"{len(constant)} readout(s) never change, such as {names}; remove them first")
