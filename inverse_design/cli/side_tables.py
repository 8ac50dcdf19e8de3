"""Tables that models know beside the screen: what drugs act on, and a vector for each gene or compound."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pandas as pd
import torch

from inverse_design.cli.console import complaints, say
from inverse_design.validate.forward import named_surrogates
from inverse_design.value_tables import NAME_COLUMNS, WEIGHT_COLUMNS, text_table
from surrogates.data.descriptors import Descriptors
from surrogates.data.embeddings import coverage, read_embedding
from surrogates.data.novelty import with_targets
from surrogates.data.screen import Screen
from surrogates.errors import DataError, UnknownNameError, amount, listed, shown
from surrogates.models.base import KnowsTargets, Surrogate, single_effects
from surrogates.models.wrappers.automatic import Automatic

_COLUMNS = {
    "drug": ("drug", "compound", "perturbation"),
    "readout": ("target", *NAME_COLUMNS),
    "weight": WEIGHT_COLUMNS,
}


@dataclass(frozen=True)
class DrugTargets:
    """The direct effects of drugs."""

    path: Path
    table: pd.DataFrame  # drug, readout, weight
    bare: frozenset[str]  # drugs of which it is stated that nothing is known

    @classmethod
    def read(cls, path: Path) -> "DrugTargets":
        """Read a table, in which a drug without target and weight is one of which nothing is known."""
        table = _rows_of(path)
        known = table["readout"] != ""
        bare = frozenset(table["drug"][~known])
        if both := bare & {*table["drug"][known]}:
            raise DataError(
                f"{path.name!r} says of {shown(min(both))} both what it acts on and that nothing is known; keep"
                " one"
            )
        return cls(path, table[known].reset_index(drop=True), bare)

    def require_fit(self, screen: Screen) -> None:
        """Refuse a screen without its readouts or drugs, or with drugs of which nothing is said."""
        for readout in self.table["readout"]:
            if readout not in screen.readouts:
                raise UnknownNameError.from_known(
                    f"readout among the targets of {self.path.name!r}", readout, screen.readouts
                )
        modes = self.modes(screen)
        if not modes:
            first = listed(list(dict.fromkeys(self.table["drug"]))[:3])
            raise DataError(
                f"no drug of {self.path.name!r} is in the data: it names {first}, the data"
                f" {listed(list(dict.fromkeys(screen.vocabulary.targets))[:3])}"
            )
        stated = {*self.table["drug"], *self.bare, *screen.readouts}
        missing = [e.target for e in screen.vocabulary.entries if e.mode in modes and e.target not in stated]
        if missing:
            raise DataError(
                f"{self.path.name!r} says nothing of {amount(len(set(missing)), 'drug')} of the data, such as"
                f" {shown(missing[0])}; state its targets, or leave target and weight of its row empty"
            )

    def modes(self, screen: Screen) -> set[str]:
        """Find how its drugs act in a screen."""
        drugs = {*self.table["drug"]}
        return {each.mode for each in screen.vocabulary.entries if each.target in drugs}


@dataclass(frozen=True)
class SideTables:
    """The tables that were stated, and the models that are to know them, each as configured without them."""

    targets: DrugTargets | None
    vectors: Descriptors | None
    models: Mapping[str, Surrogate]  # by name

    @classmethod
    def read(
        cls,
        drug_targets: str | None,
        embedding: str | None,
        models: Sequence[str],
        *,
        standardise: bool = False,
        unseen: bool = True,
    ) -> "SideTables":
        """Read the tables that are stated; one that no model takes is refused.

        The default takes an embedding for targets that were never measured alone, where ``unseen`` says that they
        are asked for.
        """
        if drug_targets is None and embedding is None:
            return cls(None, None, {})
        if drug_targets is not None and standardise:
            raise DataError(
                "the weights of --drug-targets are in units of the readouts, which --standardise changes; leave"
                " one out"
            )
        made = named_surrogates(models)
        targets = None if drug_targets is None else DrugTargets.read(Path(drug_targets))
        knowing = [each for each in made.values() if isinstance(each, KnowsTargets)]
        if targets is not None and not knowing:
            raise DataError(
                f"--drug-targets is of no use to the model {listed(models)}; ask for causal, or leave the table"
                " out"
            )
        if targets is not None:
            knowing[0].knowing_targets(targets.table)  # which refuses weights that are no numbers
        takes = any(_takes(each) or (unseen and isinstance(each, Automatic)) for each in made.values())
        if embedding is not None and not takes:
            raise DataError(
                f"--embedding is of no use to {listed(models)} here; ask for a model that takes descriptors, such"
                " as kernel_ridge, random_forest, gears or sclambda, or leave the table out"
            )
        return cls(targets, None if embedding is None else read_embedding(embedding), made)

    def known_on(self, screen: Screen) -> dict[str, Surrogate]:
        """Let the models know the tables, which must fit a screen; say how many targets have a vector."""
        models = dict(self.models)
        if self.targets is not None:
            self.targets.require_fit(screen)
            for name, each in models.items():
                if isinstance(each, KnowsTargets):
                    models[name] = each.knowing_targets(self.targets.table)
        if self.vectors is not None:
            _refuse_effects(self.vectors, screen)
            say(complaints(), coverage(self.vectors, screen.vocabulary), "dim")
            models = {name: _knowing(each, self.vectors) for name, each in models.items()}
        return models

    def widened(self, screen: Screen, labels: Sequence[str]) -> Screen:
        """Make known what was never given: drugs, at a dose of one, and what labels name and has a vector."""
        if self.targets is not None:
            screen = _with(screen, {*self.targets.table["drug"]}, self.targets.modes(screen))
        if self.vectors is not None:
            parts = {part.strip() for label in labels for part in label.split("+")}
            modes = {each.mode for each in screen.vocabulary.entries}
            screen = _with(screen, parts & {*self.vectors.symbols}, modes)
            for number, label in enumerate(labels, 1):
                try:
                    screen.vocabulary.parse(label)
                except UnknownNameError as error:
                    raise UnknownNameError(
                        f"experiment {number}, {shown(label)}: {error}; it has no vector in {self.vectors.name!r}"
                        " either"
                    ) from error
        return screen


def _with(screen: Screen, names: set[str], modes: set[Any]) -> Screen:
    """Add names that a screen does not know; they act as those that it knows do."""
    new = names - {*screen.vocabulary.targets}
    if not new or not modes:
        return screen
    if len(modes) > 1:
        raise DataError(
            f"it cannot be said how {listed(sorted(new)[:3])} would act: the data have several modes,"
            f" {listed(sorted(modes))}; read one with --mode"
        )
    return with_targets(screen, new, mode=modes.pop())


def _refuse_effects(vectors: Descriptors, screen: Screen) -> None:
    """Refuse the measured effects themselves as vectors: what they are to predict would be known."""
    if vectors.vectors.shape[1] != len(screen.readouts):
        return
    rows = {symbol: row for row, symbol in enumerate(vectors.symbols)}
    for entry, effect in zip(screen.vocabulary.entries, single_effects(screen)[0], strict=True):
        vector = vectors.vectors[rows[entry.target]] if entry.target in rows else None
        if vector is not None and torch.allclose(vector, effect) and bool((effect != 0).any()):
            raise DataError(
                f"the vector of {shown(entry.target)} in {vectors.name!r} is its measured effect in the data,"
                " which is what it is to predict; give vectors from elsewhere"
            )


def _takes(surrogate: Surrogate) -> bool:
    return "descriptors" in getattr(surrogate, "__dataclass_fields__", ())


def _knowing(surrogate: Any, vectors: Descriptors) -> Surrogate:  # noqa: ANN401 - configurations of any kind
    """Give a model vectors, or the models of unseen parts that the default mixes; others stay as they are."""
    known: Surrogate = surrogate
    if isinstance(surrogate, Automatic):
        known = replace(surrogate, unseen=tuple(_knowing(each, vectors) for each in surrogate.unseen or ()))
    elif _takes(surrogate):
        known = replace(surrogate, descriptors=(vectors,))
    return known


def _rows_of(path: Path) -> pd.DataFrame:
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
