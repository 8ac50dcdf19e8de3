"""Screens of several contexts: joined from one screen each, and laid out as a table of contexts by actions."""

from collections.abc import Mapping
from dataclasses import dataclass

import pandas as pd
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from surrogates.data.screen import Screen
from surrogates.data.vocabulary import EMPTY, PerturbationBatch, Vocabulary
from surrogates.errors import DataError, UnknownNameError

NOT_AN_ACTION = -1


def join_contexts(screens: Mapping[str, Screen]) -> Screen:
    """Put screens of one context each, of the same readouts, into one screen."""
    if not screens:
        raise DataError("no screens to join; give at least one")
    one = next(iter(screens.values()))
    for name, screen in screens.items():
        _refuse_joining(name, screen, one)
    vocabulary = Vocabulary(tuple({entry for screen in screens.values() for entry in screen.vocabulary.entries}))
    width = max(screen.batch.genes.shape[1] for screen in screens.values())
    errors = [screen.standard_errors for screen in screens.values()]
    return Screen(
        effects=torch.cat([screen.effects for screen in screens.values()]),
        batch=vocabulary.dosed(torch.cat([_renumbered(each, vocabulary, width) for each in screens.values()])),
        vocabulary=vocabulary,
        readouts=one.readouts,
        contexts=tuple(name for name, screen in screens.items() for _ in range(len(screen))),
        standard_errors=None
        if any(each is None for each in errors)
        else torch.cat([e for e in errors if e is not None]),
        annotations=pd.concat([screen.annotations for screen in screens.values()], ignore_index=True),
        provenance={
            f"{name}: {key}": value for name, screen in screens.items() for key, value in screen.provenance.items()
        },
    )


@dataclass(frozen=True)
class Actions:
    """Distinct perturbations, numbered from zero, whatever the context in which they are done."""

    genes: Int[Tensor, "a k"]  # vocabulary ids, ascending, ``-1`` for an empty slot; rows in lexicographic order

    def __len__(self) -> int:
        return len(self.genes)

    def find(self, batch: PerturbationBatch) -> Int[Tensor, "b"]:
        """Number the action of each perturbation."""
        width = max(self.genes.shape[1], batch.genes.shape[1])
        together = torch.cat([_widened(self.genes, width), _widened(batch.genes, width)])
        distinct, number = torch.unique(together, dim=0, return_inverse=True)
        action = torch.full((len(distinct),), NOT_AN_ACTION)
        action[number[: len(self)]] = torch.arange(len(self))
        return action[number[len(self) :]]


@dataclass(frozen=True)
class ActionTable:
    """The measured effects of a screen as contexts by actions: equal for any order of its rows."""

    contexts: tuple[str, ...]  # names, sorted
    vocabulary: Vocabulary  # what the ids of the actions mean
    actions: Actions  # all perturbations of the screen
    measured: Bool[Tensor, "c a"]  # which action was measured in which context
    effects: Float[Tensor, "c a g"]  # the effects, zero where not measured

    @classmethod
    def of(cls, screen: Screen) -> "ActionTable":
        """Lay a screen out."""
        if not len(screen):
            raise DataError("the screen has no conditions; give one that has")
        contexts = tuple(sorted(set(screen.contexts)))
        number = {name: each for each, name in enumerate(contexts)}
        row = torch.tensor([number[name] for name in screen.contexts], dtype=torch.int64)
        distinct, column = torch.unique(screen.batch.genes, dim=0, return_inverse=True)
        measured = torch.zeros(len(contexts), len(distinct), dtype=torch.bool)
        effects = screen.effects.new_zeros(len(contexts), len(distinct), len(screen.readouts))
        measured[row, column] = True
        effects[row, column] = screen.effects
        return cls(contexts, screen.vocabulary, Actions(distinct), measured, effects)

    @property
    def batch(self) -> PerturbationBatch:
        """The actions as perturbations."""
        return self.vocabulary.dosed(self.actions.genes)

    @property
    def alone(self) -> Int[Tensor, "v"]:
        """For each vocabulary entry the action that gives it alone, ``-1`` if none does."""
        batch = self.batch
        singles = torch.nonzero(batch.order == 1).flatten()
        number = torch.full((len(self.vocabulary),), NOT_AN_ACTION)
        number[batch.genes[singles, 0]] = singles
        return number


def context_number(context: str, contexts: tuple[str, ...]) -> int:
    """Look a context up."""
    if context not in contexts:
        raise UnknownNameError.from_known("context", context, contexts)
    return contexts.index(context)


def require_several_contexts(screen: Screen, *, what: str) -> None:
    """Refuse a screen of one context."""
    contexts = sorted(set(screen.contexts))
    if len(contexts) < 2:
        raise DataError(
            f"the screen has only the context(s) {contexts!r}, and one context cannot {what}; join screens with"
            " join_contexts, or take a model of one context, such as scaled_additive"
        )


def _refuse_joining(name: str, screen: Screen, first: Screen) -> None:
    if len(set(screen.contexts)) > 1:
        raise DataError(f"the screen given as {name!r} has several contexts already; take one with in_context")
    if screen.readouts != first.readouts:
        differing = sorted(set(screen.readouts) ^ set(first.readouts))
        shown = ", ".join(map(repr, differing[:3])) or "their order"
        raise DataError(
            f"the readouts of {name!r} differ from those of the first screen ({shown}); take the shared ones with"
            " with_readouts"
        )


def _renumbered(screen: Screen, vocabulary: Vocabulary, width: int) -> Int[Tensor, "n w"]:
    """Ids of another vocabulary; both are sorted, so rows stay ascending."""
    number = torch.tensor([vocabulary.ids[entry.label] for entry in screen.vocabulary.entries] + [EMPTY])
    return _widened(number[screen.batch.genes], width)  # an empty slot, -1, looks the last one up


def _widened(genes: Int[Tensor, "b k"], width: int) -> Int[Tensor, "b w"]:
    return torch.nn.functional.pad(genes, (0, width - genes.shape[1]), value=EMPTY)
