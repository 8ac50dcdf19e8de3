"""Files from the bench: tables of wells, measured cells or effects, and the library of reagents."""

from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from inverse_design.campaign.library import ReagentLibrary
from inverse_design.campaign.plate import CONTROL_LABEL
from inverse_design.campaign.results import PERTURBATION
from inverse_design.cli.options import Reading
from inverse_design.cli.screens import stated_dialect
from inverse_design.value_tables import text_table
from surrogates.data.io.formats.registry import TABLE_ENDINGS
from surrogates.errors import DataError

H5AD = ".h5ad"


def read_results(path: str, reading: Reading, readouts: Sequence[str]) -> pd.DataFrame:
    """Read results in the form that a campaign takes."""
    if path.endswith(H5AD):
        return _of_h5ad(path, reading, readouts)
    if reading != Reading():
        raise DataError(
            f"{path!r} is a table of wells, read in one way; give reading options for .h5ad files only"
        )
    if not path.endswith(TABLE_ENDINGS):
        raise DataError(f"results {path!r} have none of the known endings {', '.join((*TABLE_ENDINGS, H5AD))}")
    return text_table(Path(path))


def read_library(path: str) -> ReagentLibrary:
    """Read the user's library of reagents."""
    return ReagentLibrary.of_table(text_table(Path(path)))


def _of_h5ad(path: str, reading: Reading, readouts: Sequence[str]) -> pd.DataFrame:
    from surrogates.data.io.read_h5ad import read_effect_rows  # noqa: PLC0415 - AnnData takes seconds to import

    found = read_effect_rows(Path(path), stated_dialect(reading))
    if len(set(found.contexts)) > 1:
        names = ", ".join(sorted(map(repr, set(found.contexts)))[:5])
        raise DataError(f"{path!r} holds the contexts {names}, and a campaign is run in one; tell that one alone")
    numbers = {name: column for column, name in enumerate(found.readouts)}
    shared = [name for name in readouts if name in numbers]
    effects = pd.DataFrame(found.effects[:, [numbers[name] for name in shared]], columns=shared)
    labels = [label or CONTROL_LABEL for label in found.labels]
    return pd.concat([pd.Series(labels, name=PERTURBATION, dtype=object), effects], axis=1)
