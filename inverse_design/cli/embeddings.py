"""Tables of embeddings, as an option of the command line: models that know them, and targets never given."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch

from inverse_design.cli.console import complaints, say
from inverse_design.validate.forward import named_surrogates
from surrogates.data.descriptors import Descriptors
from surrogates.data.embeddings import coverage, read_embedding
from surrogates.data.novelty import with_targets
from surrogates.data.screen import Screen
from surrogates.errors import DataError, listed, shown
from surrogates.models.base import Surrogate, single_effects
from surrogates.models.wrappers.automatic import Automatic

_OPTION = "--embedding"


@dataclass(frozen=True)
class Embedding:
    """A vector for each target, and the models that are to know them in place of the shipped tables."""

    table: Descriptors
    models: dict[str, Surrogate]  # by name

    @classmethod
    def read(cls, path: str | None, models: Sequence[str], *, unseen: bool) -> "Embedding | None":
        """Read a table, if there is one; models that take none are refused.

        The default takes one for targets that were never measured alone, where ``unseen`` says that they are asked
        for.
        """
        if path is None:
            return None
        made = named_surrogates(models)
        if not any(_takes(each) or (unseen and isinstance(each, Automatic)) for each in made.values()):
            raise DataError(
                f"{_OPTION} is of no use to {listed(models)} here; ask for a model that takes descriptors, such as"
                " kernel_ridge, random_forest, gears or sclambda, or leave the table out"
            )
        table = read_embedding(path)
        known = {name: _knowing(each, table) for name, each in made.items()}
        return cls(table, {name: each for name, each in known.items() if each is not None})

    def on(self, screen: Screen) -> dict[str, Surrogate]:
        """Say how many targets of a screen have a vector, and give the models that know the table."""
        self._refuse_effects(screen)
        say(complaints(), coverage(self.table, screen.vocabulary), "dim")
        return self.models

    def _refuse_effects(self, screen: Screen) -> None:
        """Refuse the measured effects themselves as vectors: what they are to predict would be known."""
        if self.table.vectors.shape[1] != len(screen.readouts):
            return
        singles = single_effects(screen)[0]
        for entry, row in zip(screen.vocabulary.entries, singles, strict=True):
            if entry.target in self.table.symbols:
                vector = self.table.vectors[self.table.symbols.index(entry.target)]
                if torch.allclose(vector, row) and bool((row != 0).any()):
                    raise DataError(
                        f"the vector of {shown(entry.target)} in {self.table.name!r} is its measured effect in the"
                        " data, which is what it is to predict; give vectors from elsewhere"
                    )

    def widened(self, screen: Screen, names: Iterable[str]) -> Screen:
        """Make targets known to a screen that were never given and have a vector."""
        new = {*names} & {*self.table.symbols} - {*screen.vocabulary.targets}
        modes = {each.mode for each in screen.vocabulary.entries}
        if not new:
            return screen
        if len(modes) > 1:
            raise DataError(
                f"targets of the data have several modes, {listed(sorted(modes))}; read one with --mode"
            )
        return with_targets(screen, new, mode=modes.pop())


def _takes(surrogate: Surrogate) -> bool:
    return "descriptors" in getattr(surrogate, "__dataclass_fields__", ())


def _knowing(surrogate: Any, table: Descriptors) -> Surrogate | None:  # noqa: ANN401 - configurations of any kind
    """Give a model a table, or the models of unseen parts that the default mixes; ``None`` where none takes it."""
    if isinstance(surrogate, Automatic):
        unseen = tuple(_knowing(each, table) or each for each in surrogate.unseen or ())
        return replace(surrogate, unseen=unseen)
    known: Surrogate | None = replace(surrogate, descriptors=(table,)) if _takes(surrogate) else None
    return known
