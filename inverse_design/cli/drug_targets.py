"""What drugs act on, as a table of the command line: models that know it, and drugs that were never given."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from inverse_design.fitting import AUTOMATIC
from inverse_design.value_tables import NAME_COLUMNS, WEIGHT_COLUMNS, text_table
from surrogates.data.novelty import with_targets
from surrogates.data.screen import Screen
from surrogates.errors import DataError, UnknownNameError, amount, listed, shown
from surrogates.models.base import KnowsTargets, Surrogate
from surrogates.models.registry import SURROGATES

_OPTION = "--drug-targets"
_COLUMNS = {
    "drug": ("drug", "compound", "perturbation"),
    "readout": ("target", *NAME_COLUMNS),
    "weight": WEIGHT_COLUMNS,
}


@dataclass(frozen=True)
class DrugTargets:
    """The direct effects of drugs, and the models that are to know them."""

    path: Path
    table: pd.DataFrame  # drug, readout, weight
    bare: frozenset[str]  # drugs of which it is stated that nothing is known
    models: tuple[tuple[str, KnowsTargets], ...]  # by name

    @classmethod
    def read(cls, path: str | None, models: Sequence[str], *, standardise: bool = False) -> "DrugTargets | None":
        """Read a table, if there is one; models that know nothing of targets are refused."""
        if path is None:
            return None
        if standardise:
            raise DataError(
                f"the weights of {_OPTION} are in units of the readouts, which --standardise changes; leave one"
                " out"
            )
        loaded = {name: SURROGATES.load(name)() for name in models if name in SURROGATES.names()}
        knowing = tuple((name, each) for name, each in loaded.items() if isinstance(each, KnowsTargets))
        if not knowing:
            asked = listed(models) if models else shown(AUTOMATIC)
            raise DataError(f"{_OPTION} is of no use to the model {asked}; ask for causal, or leave the table out")
        table = _read(Path(path))
        known = table["readout"] != ""
        bare = frozenset(table["drug"][~known])
        if both := bare & {*table["drug"][known]}:
            raise DataError(
                f"{Path(path).name!r} says of {shown(min(both))} both what it acts on and that nothing is known;"
                " keep one"
            )
        for _, each in knowing:
            each.knowing_targets(table[known])  # which refuses weights that are no numbers
        return cls(Path(path), table[known].reset_index(drop=True), bare, knowing)

    def on(self, screen: Screen) -> dict[str, Surrogate]:
        """Let the models know the table, which must fit a screen."""
        for readout in self.table["readout"]:
            if readout not in screen.readouts:
                raise UnknownNameError.from_known(
                    f"readout among the targets of {self.path.name!r}", readout, screen.readouts
                )
        given = [each for each in screen.vocabulary.entries if each.target in set(self.table["drug"])]
        if not given:
            first = listed(list(dict.fromkeys(self.table["drug"]))[:3])
            raise DataError(
                f"no drug of {self.path.name!r} is in the data: it names {first}, the data"
                f" {listed(list(dict.fromkeys(screen.vocabulary.targets))[:3])}"
            )
        alike = {each.mode for each in given}
        stated = {*self.table["drug"], *self.bare, *screen.readouts}
        missing = [e.target for e in screen.vocabulary.entries if e.mode in alike and e.target not in stated]
        if missing:
            raise DataError(
                f"{self.path.name!r} says nothing of {amount(len(set(missing)), 'drug')} of the data, such as"
                f" {shown(missing[0])}; state its targets, or leave target and weight of its row empty"
            )
        return {name: each.knowing_targets(self.table) for name, each in self.models}

    def widened(self, screen: Screen) -> Screen:
        """Make drugs known to a screen that were never given, at a dose of one."""
        modes = {each.mode for each in screen.vocabulary.entries if each.target in set(self.table["drug"])}
        new = {*self.table["drug"]} - {*screen.vocabulary.targets}
        if not new or not modes:
            return screen
        if len(modes) > 1:
            raise DataError(
                f"the drugs of {self.path.name!r} have several modes in the data; read one with --mode"
            )
        return with_targets(screen, new, mode=modes.pop())


def _read(path: Path) -> pd.DataFrame:
    found = text_table(path)
    columns = {}
    for name, words in _COLUMNS.items():
        fitting = [str(column) for column in found if str(column).strip().casefold() in words]
        if len(fitting) != 1:
            raise DataError(
                f"{path.name!r} needs one column called like {words[0]!r}, and has {listed(found)}; give drug,"
                " target and weight, such as -1 where a drug takes one unit of its target away"
            )
        columns[fitting[0]] = name
    table: pd.DataFrame = found[[*columns]].rename(columns=columns)[[*_COLUMNS]]
    table = table.apply(lambda column: column.str.strip())
    if table.empty:
        raise DataError(f"{path.name!r} has no rows; give one for each target of a drug")
    for row, (drug, readout, weight) in enumerate(table.itertuples(index=False), 1):
        if not drug or bool(readout) != bool(weight):
            raise DataError(
                f"row {row} of {path.name!r} ({shown(drug)}, {shown(readout)}, {shown(weight)}) is incomplete;"
                " fill it, or leave target and weight both empty where nothing is known of a drug"
            )
    return table
