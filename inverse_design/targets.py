"""The target as a user gives it: a label, a file, values by readout, cells, or a target."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeAlias

import pandas as pd
import torch

from inverse_design.errors import TargetError
from inverse_design.problem.target import ProfileTarget, ScalarTarget, SignatureTarget, Target
from inverse_design.value_tables import names_a_file, read_value_table
from surrogates.data.io.annotated import AnnotatedMatrix, is_annotated
from surrogates.data.io.formats.registry import TABLE_ENDINGS
from surrogates.data.screen import Screen
from surrogates.errors import UnknownNameError, shown

TargetLike: TypeAlias = str | Path | Target | pd.Series | Mapping[str, Any] | AnnotatedMatrix


def target_of(wanted: TargetLike, screen: Screen) -> str | Target:
    """Take what a user names as the target: the label of a measured condition stays a label."""
    if isinstance(wanted, ProfileTarget | SignatureTarget | ScalarTarget):
        return wanted
    if isinstance(wanted, str | Path):
        return read_target(str(wanted), screen)
    if isinstance(wanted, pd.Series | Mapping):
        return _profile(wanted)
    if is_annotated(wanted):
        from inverse_design.cell_targets import state_of_cells  # noqa: PLC0415 - AnnData takes seconds to import

        return state_of_cells(wanted)
    raise TargetError(
        f"a {type(wanted).__name__} is no target; give the label of a condition, a path, a Series or dict of"
        " wanted values by readout, an AnnData of cells with their control, or a target"
    )


def read_target(text: str, screen: Screen) -> str | Target:
    """Read what a user names as the target."""
    if text.endswith(".toml"):
        from inverse_design.target_files import read_target_file  # noqa: PLC0415 - pydantic, where a file is read

        return read_target_file(Path(text))
    if text.endswith(TABLE_ENDINGS):
        return read_value_table(Path(text)).profile()
    if text in screen.labels:
        return text
    if names_a_file(text):
        known = ", ".join((*TABLE_ENDINGS, ".toml"))
        raise TargetError(f"target {text!r} is a file with none of the known endings {known}")
    return condition_of(text, screen, what="neither a file nor a condition of the data")


def condition_of(text: str, screen: Screen, *, what: str = "not a condition of the data") -> str:
    """Take the label of a condition of the data, however its parts are ordered; else say what it is."""
    if not text.strip():
        raise TargetError("the target is empty; name a condition of the data, a table or a .toml file")
    try:
        return screen.labels[screen.row_of(screen.vocabulary.parse(text))]
    except UnknownNameError as error:
        raise UnknownNameError(f"target {shown(text)} is {what}: {error}") from error


def _profile(wanted: "pd.Series | Mapping[str, Any]") -> ProfileTarget:
    """Take wanted values by readout."""
    series = wanted if isinstance(wanted, pd.Series) else pd.Series(dict(wanted), dtype=object)
    numbers = pd.to_numeric(series, errors="coerce")
    stray = series[numbers.isna() & series.notna()]
    if len(stray):
        raise TargetError(f"the target wants {stray.iloc[0]!r} of {str(stray.index[0])!r}, which is not a number")
    return ProfileTarget(
        name="profile" if series.name is None else str(series.name),
        readouts=tuple(map(str, series.index)),
        values=torch.tensor(numbers.to_numpy(dtype=float), dtype=torch.float64),
    )
