"""TOML that a user brings; above all a target: a profile, a signature, a shift, or one readout."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, ClassVar, Literal, TypeAlias

import torch
from pydantic import ConfigDict, Field, TypeAdapter, ValidationError
from pydantic_core import ErrorDetails

from inverse_design.errors import TargetError
from inverse_design.problem.target import ProfileTarget, ScalarTarget, SignatureTarget, Target, shift
from inverse_design.toml_files import read_toml
from inverse_design.value_tables import read_value_table
from surrogates.errors import DataError, shown

Weights: TypeAlias = dict[str, float] | list[str]
_STRICT = ConfigDict(extra="forbid", use_attribute_docstrings=True)
_GOALS: Mapping[str, Literal["maximise", "minimise", "reach"]] = {
    "maximise": "maximise", "maximize": "maximise",
    "minimise": "minimise", "minimize": "minimise", "reach": "reach",
}  # fmt: skip


@dataclass(frozen=True)
class ProfileFile:
    """A wanted effect: a table, or values written into the file."""

    kind: Literal["profile"]
    """Which of the four kinds this is."""
    name: str | None = None
    """What to call the target."""
    table: str | None = None
    """Path of a table of readout values."""
    readout: str | None = None
    """Its column of readouts, where that is not plain."""
    value: str | None = None
    """Its column of values, where that is not plain."""
    values: dict[str, float] | None = None
    """The values themselves, instead of a table."""
    __pydantic_config__: ClassVar[ConfigDict] = _STRICT

    def target(self, folder: Path) -> Target:
        """Read the profile."""
        if (self.table is None) == (self.values is None):
            raise TargetError("a profile has either a table or values; give one of the two")
        if self.table is None:
            if self.readout or self.value:
                raise TargetError("readout and value name columns of a table, and there is none")
            values = self.values or {}
            return ProfileTarget(self.name or "profile", tuple(values), torch.tensor([*values.values()]).double())
        table = read_value_table(folder / self.table, name_col=self.readout, value_col=self.value)
        return table.profile(self.name)


@dataclass(frozen=True)
class SignatureFile:
    """Readouts that should rise and fall."""

    kind: Literal["signature"]
    """Which of the four kinds this is."""
    name: str | None = None
    """What to call the target."""
    up: Weights = field(default_factory=list)
    """Readouts that should rise: a list, or a table of weights."""
    down: Weights = field(default_factory=list)
    """Readouts that should fall."""
    __pydantic_config__: ClassVar[ConfigDict] = _STRICT

    def target(self, folder: Path) -> Target:  # noqa: ARG002 - one form for all kinds
        """Build the signature."""
        return SignatureTarget(self.name or "signature", _weights(self.up), _weights(self.down))


@dataclass(frozen=True)
class ShiftFile:
    """From one state to another: two tables of readout values, or two groups of cells."""

    kind: Literal["shift"]
    """Which of the four kinds this is."""
    start: Annotated[str, Field(alias="from")]
    """What the cells are like now: a table of readout values, or a group of cells."""
    to: str
    """What they should become like."""
    name: str | None = None
    """What to call the target."""
    cells: str | None = None
    """Path of an ``.h5ad`` file of cells."""
    column: str | None = None
    """Its column of groups."""
    __pydantic_config__: ClassVar[ConfigDict] = _STRICT

    def target(self, folder: Path) -> Target:
        """Compute the difference of the two states."""
        if (self.cells is None) != (self.column is None):
            raise TargetError("a shift between groups of cells needs both: cells = a file, column = its groups")
        if self.cells is not None and self.column is not None:
            from inverse_design.cell_targets import cell_shift  # noqa: PLC0415 - AnnData takes seconds

            found = cell_shift(folder / self.cells, column=self.column, start=self.start, end=self.to)
            return replace(found, name=self.name or found.name)
        start, end = (read_value_table(folder / each).profile() for each in (self.start, self.to))
        return shift(self.name or f"{self.start} to {self.to}", start, end)


@dataclass(frozen=True)
class ScalarFile:
    """One readout."""

    kind: Literal["scalar"]
    """Which of the four kinds this is."""
    readout: str
    """Its name."""
    goal: Literal["maximise", "maximize", "minimise", "minimize", "reach"]
    """What is wanted."""
    value: float | None = None
    """The wanted effect, if the goal is to reach one."""
    __pydantic_config__: ClassVar[ConfigDict] = _STRICT

    def target(self, folder: Path) -> Target:  # noqa: ARG002 - one form for all kinds
        """Build the goal."""
        return ScalarTarget(self.readout, _GOALS[self.goal], self.value)


TargetFile: TypeAlias = Annotated[
    ProfileFile | SignatureFile | ShiftFile | ScalarFile, Field(discriminator="kind")
]
_ADAPTER: TypeAdapter[ProfileFile | SignatureFile | ShiftFile | ScalarFile] = TypeAdapter(TargetFile)


def target_schema() -> str:
    """Print the JSON schema of a target file."""
    return json.dumps(_ADAPTER.json_schema(), indent=2)


def read_target_file(path: Path) -> Target:
    """Read a target from TOML."""
    try:
        read = read_toml(path)
    except DataError as error:
        raise TargetError(str(error)) from error
    try:
        return _ADAPTER.validate_python(read).target(path.parent)
    except ValidationError as error:
        said = "; ".join(_in_words(each) for each in error.errors())
        raise TargetError(f"{path.name!r} is not a target: {said}") from error
    except TargetError as error:
        raise TargetError(f"{path.name!r}: {error}") from error


def refuse_further_files(path: Path) -> None:
    """Refuse a target that names files of this machine: who sends it may not be who may read them."""
    if path.suffix != ".toml":
        return
    read = read_toml(path)
    named = [key for key in ("table", "cells", "from", "to") if key in read]
    if named:
        raise TargetError(
            f"the target names another file ({named[0]} = {shown(read[named[0]])}), which is not read here:"
            " give its values in the .toml file, or give the table itself"
        )


def _in_words(problem: ErrorDetails) -> str:
    # The first place is the kind, which the reader knows.
    where = ".".join(str(each) for each in problem["loc"][1:])
    if problem["type"] in {"extra_forbidden", "unexpected_keyword_argument"}:
        return f"unknown key {shown(where)}"
    if problem["type"].startswith("union_tag"):
        return 'its kind must be one of "profile", "signature", "shift", "scalar"'
    return f"{shown(where, bare=True) or 'file'}: {problem['msg']}, found {shown(problem['input'])}"


def _weights(stated: Weights) -> dict[str, float]:
    if isinstance(stated, dict):
        return stated
    _refuse_repeats(stated)
    return dict.fromkeys(stated, 1.0)


def _refuse_repeats(names: Sequence[str]) -> None:
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise TargetError(f"the signature names {twice[0]!r} more than once")
