"""States that a user may ask for, some of which no candidate makes, and how far each candidate is from them.

They are built from measured effects, so that the true distance of every candidate is known: what a ranking costs
against the best choice can be measured, also where there is no truth to retrieve.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from inverse_design.problem.outcome import Distance
from inverse_design.problem.target import AlignedProfile
from surrogates.errors import DataError

ITSELF = "a double"
MAKER_LEFT_OUT = "maker left out"
FEWEST = 3  # candidates, below which nothing can be chosen among those that did not make the state
MOST_READOUTS = 100
SCALES = (0.7, 1.5)
_UNIT_WEIGHT = 1.0


@dataclass(frozen=True)
class KnownEffects:
    """Measured effects of some perturbations.

    Attributes:
        effects: One row per perturbation.
        genes: Vocabulary ids of its parts; -1 fills unused columns.
    """

    effects: Float[Tensor, "n g"]
    genes: Int[Tensor, "n k"]

    def __len__(self) -> int:
        return len(self.effects)


@dataclass(frozen=True)
class AskedState:
    """One state that is asked for.

    Attributes:
        kind: What kind of state it is.
        asked: What the ranking is told.
        wanted: What is meant: the same without the noise that was added. True distances are to this.
        left_out: Number of the candidate that may not be proposed, -1 for none.
        genes: Vocabulary ids of all that went into it.
        base: Number of the held-out double that it goes with.
    """

    kind: str
    asked: AlignedProfile
    wanted: AlignedProfile
    left_out: int
    genes: tuple[int, ...]
    base: int

    def distances(self, effects: Float[Tensor, "n g"]) -> Float[Tensor, "n"]:
        """Find how far each candidate truly is.

        Args:
            effects: Measured effects of the candidates.

        Returns:
            Root mean square over the readouts; infinite for the candidate that is left out.
        """
        found = Distance(self.wanted).measured(effects)
        return found.index_fill(0, torch.tensor([self.left_out]), torch.inf) if self.left_out >= 0 else found

    def allowed(self, count: int) -> Bool[Tensor, "n"]:
        """Tell which candidates may be proposed.

        Args:
            count: How many candidates there are.

        Returns:
            False for the one that is left out.
        """
        return torch.arange(count) != self.left_out


def asked_states(
    held_out: KnownEffects,
    singles: KnownEffects,
    trained: KnownEffects,
    *,
    seed: int,
    weights: Float[Tensor, "g"] | None = None,
) -> list[AskedState]:
    """Build one state of every kind for every held-out double, which are also the candidates.

    A candidate made the state if the state is a held-out double, with or without noise; a scaled one, and one on
    part of the readouts, is made as far as that goes. The mean of two doubles, a double plus a single, a single,
    and a double that was measured before are made by none of the candidates, and a double is not once it is left
    out itself.

    Args:
        held_out: Doubles that the model has not seen.
        singles: Measured singles.
        trained: Doubles that the model has seen; without any, that kind is left out.
        seed: Fixes what is drawn.
        weights: Importance of each readout, one by default.

    Returns:
        The states, double after double.

    Raises:
        DataError: If there are fewer than :data:`FEWEST` held-out doubles, or no singles.
    """
    n, g = held_out.effects.shape
    if n < FEWEST or not len(singles):
        raise DataError(f"{n} held-out doubles and {len(singles)} singles; {FEWEST} and one are the fewest")
    generator = torch.Generator().manual_seed(seed)
    weights = torch.full((g,), _UNIT_WEIGHT, dtype=torch.float64) if weights is None else weights
    others = (torch.arange(n) + torch.randint(1, n, (n,), generator=generator)) % n
    added, alone = (_drawn(len(singles), n, generator) for _ in range(2))
    before = _drawn(len(trained), n, generator) if len(trained) else torch.empty(0, dtype=torch.int64)
    readouts = min(MOST_READOUTS, -(-g // 2))
    states = []
    for row in range(n):
        double, genes = held_out.effects[row], _ids(held_out.genes[row])
        state = partial(_state, weights, base=row)
        noise = torch.randn(g, generator=generator, dtype=torch.float64) * double.square().mean().sqrt()
        partner, single = int(others[row]), int(added[row])
        with_partner = (*genes, *_ids(held_out.genes[partner]))
        with_single = (*genes, *_ids(singles.genes[single]))
        random = torch.randperm(g, generator=generator)[:readouts].sort().values
        strongest = double.abs().topk(readouts).indices.sort().values
        states += [
            state(ITSELF, double, genes),
            state(MAKER_LEFT_OUT, double, genes, left_out=row),
            state("mean of two", (double + held_out.effects[partner]) / 2, with_partner),
            state("noise as large", double, genes, noise=noise),
            *(state(f"scaled by {scale:g}", scale * double, genes) for scale in SCALES),
            state("random readouts", double, genes, columns=random),
            state("strongest readouts", double, genes, columns=strongest),
            state("double plus single", double + singles.effects[single], with_single),
            state("single", singles.effects[alone[row]], _ids(singles.genes[alone[row]])),
        ]
        if len(before):
            seen = int(before[row])
            states.append(state("measured double", trained.effects[seen], _ids(trained.genes[seen])))
    return states


def regret(chosen: float, distance: Float[Tensor, "n"]) -> float:
    """Find how much farther from a state a choice is than the best candidate.

    Args:
        chosen: True distance of what was chosen.
        distance: True distance of every candidate, infinite for those that may not be proposed.

    Returns:
        ``(chosen - d_min) / (d_mean - d_min)``: 0 for the best choice, 1 for one as good as a random one; ``nan``
        if all candidates are equally far.
    """
    possible = distance[distance < torch.inf]
    least, mean = float(possible.min()), float(possible.mean())
    return (chosen - least) / (mean - least) if mean > least else float("nan")


def regrets(listed: Int[Tensor, "m"], distance: Float[Tensor, "n"], firsts: Sequence[int]) -> tuple[float, ...]:
    """Find the regret of the best of the first candidates of a list.

    Args:
        listed: Numbers of candidates, the first choice first; none that may not be proposed.
        distance: True distance of every candidate, infinite for those.
        firsts: How many of the list are made.

    Returns:
        The :func:`regret` for each number.
    """
    return tuple(regret(float(distance[listed[:first]].min()), distance) for first in firsts)


def _state(
    weights: Float[Tensor, "g"],
    kind: str,
    values: Float[Tensor, "g"],
    genes: tuple[int, ...],
    *,
    base: int,
    left_out: int = -1,
    noise: Float[Tensor, "g"] | None = None,
    columns: Int[Tensor, "m"] | None = None,
) -> AskedState:
    columns = torch.arange(len(values)) if columns is None else columns
    wanted = AlignedProfile(columns, values[columns], torch.zeros(len(columns)).double(), weights[columns])
    asked = wanted if noise is None else AlignedProfile(columns, values + noise, wanted.variance, wanted.weights)
    return AskedState(kind, asked, wanted, left_out, genes, base)


def _drawn(count: int, wanted: int, generator: torch.Generator) -> Int[Tensor, "w"]:
    """Draw numbers, each as seldom as possible more than once."""
    rounds = -(-wanted // count)
    return torch.cat([torch.randperm(count, generator=generator) for _ in range(rounds)])[:wanted]


def _ids(genes: Int[Tensor, "k"]) -> tuple[int, ...]:
    return tuple(genes[genes >= 0].tolist())
