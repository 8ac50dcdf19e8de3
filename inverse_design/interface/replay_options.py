"""The options of the verb ``replay``, as the command line and its help know them."""

from dataclasses import dataclass
from typing import Annotated, Literal

from cyclopts import Group, Parameter, validators

from inverse_design.interface.options import Words

Goal = Literal["minimise", "maximise"]
_AtLeastOne = Annotated[int, Parameter(validator=validators.Number(gte=1))]

GAME = Group("What is played", sort_key=1)
PLAYERS = Group("Who plays, and how often", sort_key=2)


@Parameter(name="*", group=GAME)
@dataclass(frozen=True)
class GameOptions:
    """The rules of a replayed campaign on pairs.

    Attributes:
        readout: Which readout is to be made small or large; the only one if there is one.
        goal: Whether small or large values are wanted.
        start: How many random pairs are known at the start, beside everything that was measured alone.
        rounds: How many rounds are played.
        batch: How many pairs are measured in a round.
        top: How many of the truly best pairs are sought.
    """

    readout: str | None = None
    goal: Goal = "minimise"
    start: Annotated[int, Parameter(validator=validators.Number(gte=0))] = 100
    rounds: _AtLeastOne = 4
    batch: _AtLeastOne = 100
    top: _AtLeastOne = 100


@Parameter(name="*", group=PLAYERS)
@dataclass(frozen=True)
class PlayerOptions:
    """Who plays.

    Attributes:
        policy: Policies to play: A,B or repeated; by default all that choose pairs, and the last one permuted.
        seeds: How many replicates, each with other random pairs at the start.
        workers: Number of processes; the results do not depend on it.
        seed: The first of the seeds.
    """

    policy: Words = ()
    seeds: _AtLeastOne = 20
    workers: _AtLeastOne = 1
    seed: int = 0
