"""One experiment of a campaign, and one of its measurements, as the store keeps them."""

from dataclasses import dataclass

from inverse_design.campaign.state import State


@dataclass(frozen=True, slots=True)
class Experiment:
    """A perturbation that was proposed in a round, or told without having been asked for.

    Attributes:
        number: In its campaign, from 1.
        perturbation: Canonical label.
        round: In which it was proposed; 0 if it never was.
        state: Where it stands.
    """

    number: int
    perturbation: str
    round: int
    state: State


@dataclass(frozen=True, slots=True)
class Measurement:
    """Where the values of one well are.

    Attributes:
        number: Of the experiment.
        replicate: Name of the replicate.
        sequence: Number of the event that told it.
        row: In the block of that event.
    """

    number: int
    replicate: str
    sequence: int
    row: int
