"""What an unmeasured target is expected to do before anything is known of it but its name."""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from surrogates.models.features import effect_components


@dataclass(frozen=True)
class Prior:
    """What an unmeasured entry is expected to do when nothing is known of it but its name.

    Attributes:
        mean: Mean effect, apart from the own-readout term.
        own_gain: By how much a target changes the readout of its own name, beyond the mean.
        own: Number of that readout for each entry, ``-1`` if there is none.
    """

    mean: Float[Tensor, "g"]
    own_gain: float
    own: Int[Tensor, "v"]

    @classmethod
    def of(cls, effects: Float[Tensor, "m g"], train: Int[Tensor, "m"], own: Int[Tensor, "v"]) -> "Prior":
        """Average measured effects.

        The gain is the mean over ``m`` targets with an own readout, shrunk by ``m / (m + 1)``: one target alone
        could be an accident.

        Args:
            effects: Effects of the measured entries.
            train: Their vocabulary ids.
            own: Number of the own readout of each entry.

        Returns:
            The prior.
        """
        rows = torch.nonzero(own[train] >= 0).flatten()
        columns = own[train[rows]]
        values = effects[rows, columns]
        others = (effects.sum(0)[columns] - values) / max(len(effects) - 1, 1)
        gain = float((values - others).sum() / (len(rows) + 1)) if len(effects) > 1 else 0.0
        plain = effects.clone()
        plain[rows, columns] -= gain
        return cls(plain.mean(0), gain, own)

    def rows(self) -> Float[Tensor, "v g"]:
        """Spell the expected effect of every entry out."""
        rows = self.mean.repeat(len(self.own), 1)
        having = torch.nonzero(self.own >= 0).flatten()
        rows[having, self.own[having]] += self.own_gain
        return rows


def own_readout_scores(
    departures: Float[Tensor, "m g"], own: Int[Tensor, "v"], *, rank: int
) -> tuple[Float[Tensor, "g r"], Float[Tensor, "v r"]]:
    """Describe targets by how their own readout responds to other perturbations.

    Args:
        departures: Training departures from the prior.
        own: Number of the own readout of each entry, ``-1`` if there is none.
        rank: Most principal components.

    Returns:
        The principal component scores of all readouts, and for each entry those of its own, zeros without one.
    """
    basis = effect_components(departures, rank)
    readouts = (basis * (departures @ basis.T).norm(dim=0)[:, None]).T
    return readouts, readouts[own.clamp(min=0)] * (own >= 0)[:, None]
