"""A game: a fully measured screen, of which a policy sees only what it has paid for."""

from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Protocol, runtime_checkable

import pandas as pd
import torch
from jaxtyping import Float, Int
from torch import Tensor

from inverse_design.acquisition.utility import measured_utility
from inverse_design.problem.target import Target
from surrogates.data.descriptors import Descriptors
from surrogates.data.screen import Screen
from surrogates.data.vocabulary import PerturbationBatch
from surrogates.errors import DataError


@dataclass(frozen=True)
class Pool:
    """What a policy knows from the start."""

    candidates: PerturbationBatch  # what may be measured, numbered from zero
    before: Screen  # what was measured before the campaign, such as the singles; it may be empty
    target: Target  # where the cells should go; the utility is that of :mod:`inverse_design.campaign.create`
    descriptors: tuple[Descriptors, ...] = ()  # what is known of the genes beside the screen

    def __len__(self) -> int:
        return len(self.candidates)

    def worth(self, effects: Float[Tensor, "b g"], rows: Int[Tensor, "b"]) -> Float[Tensor, "b"]:
        """Value predicted or measured effects by the target."""
        contexts = ("",) * len(rows)
        batch = self.candidates.rows(rows)
        return measured_utility(
            self.target, Screen(effects, batch, self.before.vocabulary, self.before.readouts, contexts)
        )

    @cached_property
    def additive(self) -> Float[Tensor, "c g"]:
        """Sum of the effects of each candidate's parts; one that was not measured alone counts as their mean."""
        rows = self.before.single_rows
        alone = self.before.effects[rows[rows >= 0]]
        usual = alone.mean(0) if len(alone) else torch.zeros(self.before.effects.shape[1], dtype=torch.float64)
        effects = usual.expand(len(rows), -1).clone()
        effects[rows >= 0] = alone
        genes = self.candidates.genes
        return (effects[genes.clamp(min=0)] * (genes >= 0)[..., None]).sum(1)


@dataclass(frozen=True)
class Known:
    """What was revealed so far, in the order in which it was."""

    rows: Int[Tensor, "m"]  # numbers of the candidates that were measured
    effects: Float[Tensor, "m g"]  # what was measured of each
    utility: Float[Tensor, "m"]  # what that is worth, larger is better

    def __len__(self) -> int:
        return len(self.rows)

    def screen(self, pool: Pool) -> Screen:
        """Join what was measured before and since, to learn from."""
        before, since = pool.before, pool.candidates.rows(self.rows)
        batch = PerturbationBatch(
            torch.cat([before.batch.genes, since.genes]), torch.cat([before.batch.dose, since.dose])
        )
        effects = torch.cat([before.effects, self.effects])
        return Screen(
            effects,
            batch,
            before.vocabulary,
            before.readouts,
            before.contexts + (before.contexts[:1] or ("",)) * len(self),
            annotations=pd.DataFrame(index=range(len(effects))),
        )

    def open_rows(self, pool: Pool) -> Int[Tensor, "c"]:
        """List the candidates that were not measured yet."""
        free = torch.ones(len(pool), dtype=torch.bool)
        free[self.rows] = False
        return free.nonzero().flatten()


@dataclass(frozen=True)
class Choice:
    """What a policy wants measured next, and what it predicts of it.

    Attributes:
        rows: Numbers of candidates, each once and none of them measured.
        lower: Lower bound on the utility of each, at the level of the game, or ``None``.
        upper: Upper bound.
    """

    rows: Int[Tensor, "q"]
    lower: Float[Tensor, "q"] | None = None
    upper: Float[Tensor, "q"] | None = None


@runtime_checkable
class Policy(Protocol):
    """A way to choose experiments: a function of what is known, and of nothing else.

    A policy is a frozen value that can be sent to another process. It is called anew in each round.
    """

    def choose(self, pool: Pool, known: Known, count: int, *, seed: int) -> Choice:
        """Choose the experiments of a round.

        Args:
            pool: What is known from the start.
            known: What was revealed since.
            count: How many experiments; at least as many candidates are left.
            seed: Fixes everything that is random; another one in each round.

        Returns:
            The choice.
        """
        ...


@dataclass(frozen=True)
class Game:
    """A screen in which everything is measured, and the rules by which it is revealed.

    Attributes:
        descriptors: What is known of the genes beside the screen.
    """

    screen: Screen = field(repr=False)  # all measured effects, in one context
    target: Target  # where the cells should go
    candidates: Int[Tensor, "c"] = field(repr=False)  # rows of the screen that may be chosen
    before: Int[Tensor, "k"] = field(repr=False)  # rows that are known from the start
    start: int  # how many candidates, drawn at random, are revealed before the first round
    rounds: int  # how many rounds are played; fewer if the candidates run out
    count: int  # how many experiments there are in a round
    name: str = ""  # what to call the game
    descriptors: tuple[Descriptors, ...] = field(default=(), repr=False)

    def __post_init__(self) -> None:
        """Refuse candidates that occur twice or are known already, too few of them, and rules without play."""
        if len(self.candidates.unique()) < len(self.candidates):
            raise DataError("a candidate is named twice; name each row once")
        if bool(torch.isin(self.candidates, self.before).any()):
            raise DataError("a row is both known from the start and a candidate; make it one of the two")
        if self.rounds < 1 or self.count < 1 or self.start < 0:
            raise DataError(
                f"{self.rounds} rounds of {self.count} after {self.start} random ones are no game; take at"
                " least one round of one experiment"
            )
        if self.start + self.count > len(self.candidates):
            raise DataError(
                f"{self.start} random experiments and a round of {self.count} need more than the"
                f" {len(self.candidates)} candidates; take fewer"
            )

    @cached_property
    def pool(self) -> Pool:
        """What a policy may see from the start."""
        before = replace(self.screen.rows(self.before), provenance={})
        return Pool(self.screen.batch.rows(self.candidates), before, self.target, self.descriptors)

    @cached_property
    def utility(self) -> Float[Tensor, "c"]:
        """What each candidate is worth: the hidden truth."""
        return measured_utility(self.target, self.screen.rows(self.candidates))

    def reveal(self, rows: Int[Tensor, "m"]) -> Known:
        """Show what was measured of some candidates."""
        return Known(rows.clone(), self.screen.effects[self.candidates[rows]], self.utility[rows])


def pairs_game(
    screen: Screen,
    target: Target,
    *,
    start: int,
    rounds: int,
    count: int,
    name: str = "",
    descriptors: tuple[Descriptors, ...] = (),
) -> Game:
    """Make a game of the combinations of a screen; what was measured alone is known.

    Raises:
        DataError: If there are too few combinations.
    """
    order = screen.batch.order
    return Game(
        screen,
        target,
        torch.nonzero(order > 1).flatten(),
        torch.nonzero(order == 1).flatten(),
        start,
        rounds,
        count,
        name,
        descriptors,
    )
