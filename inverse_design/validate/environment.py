"""An environment: a fully measured screen, of which a recommender sees only what it has paid for."""

from dataclasses import dataclass, field, replace
from functools import cached_property

import pandas as pd
import torch
from jaxtyping import Float, Int
from torch import Tensor

from inverse_design.acquisition.utility import measured_utility
from inverse_design.errors import PlanError
from inverse_design.problem.target import Target
from inverse_design.recommend.protocol import PERTURBATION, DecisionState, Recommendation
from surrogates.data.descriptors import Descriptors
from surrogates.data.screen import Screen
from surrogates.errors import DataError


@dataclass(frozen=True)
class Environment:
    """A screen in which everything is measured, and the rules by which it is revealed."""

    screen: Screen = field(repr=False)  # all measured effects, in one context
    target: Target  # where the cells should go
    candidates: Int[Tensor, "c"] = field(repr=False)  # rows of the screen that may be chosen
    before: Int[Tensor, "k"] = field(repr=False)  # rows that are known from the start
    start: int  # how many candidates, drawn at random, are revealed before the first round
    rounds: int  # how many rounds are played; fewer if the candidates run out
    count: int  # how many experiments there are in a round
    name: str = ""  # what to call it
    descriptors: tuple[Descriptors, ...] = field(default=(), repr=False)  # what is known of the genes beside it

    def __post_init__(self) -> None:
        """Refuse candidates that occur twice or are known already, too few of them, and rules without rounds."""
        if len(self.candidates.unique()) < len(self.candidates):
            raise DataError("a candidate is named twice; name each row once")
        if bool(torch.isin(self.candidates, self.before).any()):
            raise DataError("a row is both known from the start and a candidate; make it one of the two")
        if self.rounds < 1 or self.count < 1 or self.start < 0:
            raise DataError(
                f"{self.rounds} rounds of {self.count} after {self.start} random ones are no replay; take at"
                " least one round of one experiment"
            )
        if self.start + self.count > len(self.candidates):
            raise DataError(
                f"{self.start} random experiments and a round of {self.count} need more than the"
                f" {len(self.candidates)} candidates; take fewer"
            )

    def __len__(self) -> int:
        return len(self.candidates)

    @cached_property
    def utility(self) -> Float[Tensor, "c"]:
        """What each candidate is worth: the hidden truth."""
        return measured_utility(self.target, self.screen.rows(self.candidates))

    def state(self, rows: Int[Tensor, "m"]) -> DecisionState:
        """Show what was measured of some candidates, in their order, behind what was known from the start."""
        known = self.screen.rows(torch.cat([self.before, self.candidates[rows]]))
        return DecisionState(
            measured=replace(
                known, standard_errors=None, annotations=pd.DataFrame(index=range(len(known))), provenance={}
            ),
            target=self.target,
            candidates=self.screen.batch.rows(self.candidates),
            started=len(self.before),
            descriptors=self.descriptors,
        )

    def numbers(self, answer: Recommendation) -> Int[Tensor, "q"]:
        """Find the numbers of recommended candidates."""
        found = []
        for label in map(str, answer.table[PERTURBATION]):
            if label not in self._number:
                raise PlanError(f"{label!r} is recommended, which is none of the {len(self)} candidates")
            found.append(self._number[label])
        return torch.tensor(found, dtype=torch.int64)

    @cached_property
    def _number(self) -> dict[str, int]:
        return {self.screen.labels[row]: number for number, row in enumerate(self.candidates.tolist())}


def pairs_environment(
    screen: Screen,
    target: Target,
    *,
    start: int,
    rounds: int,
    count: int,
    name: str = "",
    descriptors: tuple[Descriptors, ...] = (),
) -> Environment:
    """Take the combinations of a screen as candidates; what was measured alone is known."""
    order = screen.batch.order
    return Environment(
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
