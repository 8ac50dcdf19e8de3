"""The target as a user gives it: a condition, a table of values, a TOML file, or two groups of cells."""

import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, ClassVar, Literal, TypeAlias

import h5py
import numpy as np
import pandas as pd
import torch
from anndata.io import read_elem, sparse_dataset
from pydantic import ConfigDict, Field, TypeAdapter, ValidationError
from pydantic_core import ErrorDetails

from inverse_design.cli.screens import names_a_file
from inverse_design.cli.value_tables import TABLE_ENDINGS, ValueTable, read_value_table
from inverse_design.errors import TargetError
from inverse_design.problem.target import ProfileTarget, ScalarTarget, SignatureTarget, Target, shift
from surrogates.data.io.design import LEFT_OUT
from surrogates.data.io.pseudobulk import FEWEST_CELLS, CellMatrix, sum_cells
from surrogates.data.screen import Screen
from surrogates.errors import UnknownNameError

Weights: TypeAlias = dict[str, float] | list[str]
_STRICT = ConfigDict(extra="forbid")
_GOALS: Mapping[str, Literal["maximise", "minimise", "reach"]] = {
    "maximise": "maximise", "maximize": "maximise",
    "minimise": "minimise", "minimize": "minimise", "reach": "reach",
}  # fmt: skip


@dataclass(frozen=True)
class ProfileFile:
    """A wanted effect: a table, or values written into the file."""

    kind: Literal["profile"]  # the tag
    name: str | None = None  # what to call the target
    table: str | None = None  # path of a table of readout values
    readout: str | None = None  # its column of readouts, where that is not plain
    value: str | None = None  # its column of values, where that is not plain
    values: dict[str, float] | None = None  # the values themselves, instead of a table
    __pydantic_config__: ClassVar[ConfigDict] = _STRICT

    def target(self, folder: Path) -> Target:
        """Read the profile."""
        if (self.table is None) == (self.values is None):
            raise TargetError("a profile has either a table or values; give one of the two")
        if self.table is None:
            values = self.values or {}
            return ProfileTarget(self.name or "profile", tuple(values), torch.tensor([*values.values()]).double())
        table = read_value_table(folder / self.table, name_col=self.readout, value_col=self.value)
        return profile_of(table, self.name)


@dataclass(frozen=True)
class SignatureFile:
    """Readouts that should rise and fall."""

    kind: Literal["signature"]  # the tag
    name: str | None = None  # what to call the target
    up: Weights = field(default_factory=list)  # readouts that should rise: a list, or a table of weights
    down: Weights = field(default_factory=list)  # readouts that should fall
    __pydantic_config__: ClassVar[ConfigDict] = _STRICT

    def target(self, folder: Path) -> Target:  # noqa: ARG002 - one form for all kinds
        """Build the signature."""
        return SignatureTarget(self.name or "signature", _weights(self.up), _weights(self.down))


@dataclass(frozen=True)
class ShiftFile:
    """From one state to another: two tables of readout values, or two groups of cells."""

    kind: Literal["shift"]  # the tag
    start: Annotated[str, Field(alias="from")]  # table or group that the cells are like now; ``from`` in the file
    to: str  # table or group that they should become like
    name: str | None = None  # what to call the target
    cells: str | None = None  # path of an ``.h5ad`` file of cells
    column: str | None = None  # its column of groups
    __pydantic_config__: ClassVar[ConfigDict] = _STRICT

    def target(self, folder: Path) -> Target:
        """Compute the difference of the two states."""
        if (self.cells is None) != (self.column is None):
            raise TargetError("a shift between groups of cells needs both: cells = a file, column = its groups")
        if self.cells is not None and self.column is not None:
            from inverse_design.cli.targets import cell_shift  # noqa: PLC0415 - AnnData takes seconds

            return cell_shift(folder / self.cells, column=self.column, start=self.start, end=self.to)
        start, end = (profile_of(read_value_table(folder / each)) for each in (self.start, self.to))
        return shift(self.name or f"{self.start} to {self.to}", start, end)


@dataclass(frozen=True)
class ScalarFile:
    """One readout."""

    kind: Literal["scalar"]  # the tag
    readout: str  # its name
    goal: Literal["maximise", "maximize", "minimise", "minimize", "reach"]  # what is wanted
    value: float | None = None  # the wanted effect, if the goal is to reach one
    __pydantic_config__: ClassVar[ConfigDict] = _STRICT

    def target(self, folder: Path) -> Target:  # noqa: ARG002 - one form for all kinds
        """Build the goal."""
        return ScalarTarget(self.readout, _GOALS[self.goal], self.value)


TargetFile: TypeAlias = Annotated[
    ProfileFile | SignatureFile | ShiftFile | ScalarFile, Field(discriminator="kind")
]
_ADAPTER: TypeAdapter[ProfileFile | SignatureFile | ShiftFile | ScalarFile] = TypeAdapter(TargetFile)


def read_target(text: str, screen: Screen) -> str | Target:
    """Read what a user names as the target.

    Raises:
        UnknownNameError: If it is neither a condition nor a file; the message names the nearest conditions.
        TargetError: If the file cannot be used; the message names the row and the value, or the key.
    """
    if text.endswith(".toml"):
        return _of_toml(Path(text))
    if text.endswith(TABLE_ENDINGS):
        return profile_of(read_value_table(Path(text)))
    if text in screen.labels:
        return text
    if names_a_file(text):
        known = ", ".join((*TABLE_ENDINGS, ".toml"))
        raise TargetError(f"target {text!r} is a file with none of the known endings {known}")
    return _condition(text, screen)


def profile_of(table: ValueTable, name: str | None = None) -> ProfileTarget:
    """Turn a table of readout values into a target."""
    return ProfileTarget(
        name=name or table.origin,
        readouts=table.names,
        values=torch.tensor(table.values, dtype=torch.float64),
        standard_errors=None if table.errors is None else torch.tensor(table.errors, dtype=torch.float64),
        weights=None if table.weights is None else torch.tensor(table.weights, dtype=torch.float64),
    )


def _condition(text: str, screen: Screen) -> str:
    if not text.strip():
        raise TargetError("the target is empty; name a condition of the data, a table or a .toml file")
    try:
        return screen.labels[screen.row_of(screen.vocabulary.parse(text))]
    except UnknownNameError as error:
        raise UnknownNameError(
            f"target {text!r} is neither a file nor a condition of the data: {error}"
        ) from error


def _of_toml(path: Path) -> Target:
    try:
        read = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise TargetError(f"{str(path)!r} cannot be read as TOML: {error}") from error
    try:
        return _ADAPTER.validate_python(read).target(path.parent)
    except ValidationError as error:
        said = "; ".join(_in_words(each) for each in error.errors())
        raise TargetError(f"{path.name!r} is not a target: {said}") from error
    except TargetError as error:
        raise TargetError(f"{path.name!r}: {error}") from error


def _in_words(problem: ErrorDetails) -> str:
    # The first place is the kind, which the reader knows.
    where = ".".join(str(each) for each in problem["loc"][1:])
    if problem["type"] in {"extra_forbidden", "unexpected_keyword_argument"}:
        return f"unknown key {where!r}"
    if problem["type"].startswith("union_tag"):
        return 'its kind must be one of "profile", "signature", "shift", "scalar"'
    return f"{where or 'file'}: {problem['msg']}, found {problem['input']!r}"


def _weights(stated: Weights) -> dict[str, float]:
    if isinstance(stated, dict):
        return stated
    _refuse_repeats(stated)
    return dict.fromkeys(stated, 1.0)


def _refuse_repeats(names: Sequence[str]) -> None:
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise TargetError(f"the signature names {twice[0]!r} more than once")


def cell_shift(path: Path, *, column: str, start: str, end: str) -> ProfileTarget:
    """Take the difference of means of two groups of cells, block by block.

    Raises:
        TargetError: If the file cannot be read, or a group has too few cells.
        UnknownNameError: If there is no such column or group.
    """
    try:
        file = h5py.File(path, "r")
    except OSError as error:
        raise TargetError(f"{str(path)!r} is not a readable .h5ad file ({error})") from error
    with file:
        if not {"obs", "var", "X"} <= set(file):
            raise TargetError(f"{path.name!r} has no obs, var and X: it is HDF5, but not AnnData")
        groups = _groups(read_elem(file["obs"]), column)
        readouts = tuple(read_elem(file["var"]).index.map(str))
        stored = file["X"]
        matrix: CellMatrix = sparse_dataset(stored) if isinstance(stored, h5py.Group) else stored
        moments = sum_cells(matrix, _codes(groups, column, (start, end)), 2)
    difference, variance = moments.mean[1] - moments.mean[0], moments.mean_variance.sum(0)
    return ProfileTarget(
        name=f"{start} to {end} ({path.name}, {column!r})",
        readouts=readouts,
        values=torch.from_numpy(difference),
        standard_errors=torch.from_numpy(np.sqrt(variance)),
    )


def _groups(obs: pd.DataFrame, column: str) -> pd.Series:
    if column not in obs:
        raise UnknownNameError.from_known("column of cells", column, map(str, obs.columns))
    return obs[column].astype(str)


def _codes(groups: pd.Series, column: str, wanted: tuple[str, str]) -> np.ndarray:
    codes = np.full(len(groups), LEFT_OUT, dtype=np.int64)
    for code, name in enumerate(wanted):
        chosen = (groups == name).to_numpy()
        if not chosen.any():
            raise UnknownNameError.from_known(f"group of {column!r}", name, groups.unique())
        if chosen.sum() < FEWEST_CELLS:
            raise TargetError(f"group {name!r} of {column!r} has {chosen.sum()} cell(s); it needs {FEWEST_CELLS}")
        codes[chosen] = code
    return codes
