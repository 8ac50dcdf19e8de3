"""How near policies come to a target mean, as rows: distances, paired differences, bounds that held."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from benchmarks.causal_matching.replay import ShiftTrace
from surrogates.evaluation.intervals import Row, bootstrap_interval, ratio_of_sums

DISTANCE, PLUG_IN, NEAREST, EXPECTED = "distance", "distance_plug_in", "distance_nearest", "distance_expected"
MORE, TIMES, COVERAGE = "distance_more", "distance_ratio", "coverage"
SHARE = "share of no shift"
AT_END, OVERALL, EVERY_ROUND = "at the end", "mean of all rounds", "after every round"


@dataclass(frozen=True)
class Maker:
    """What the rows of one family have in common.

    Attributes:
        dataset: Name of the family.
        seed: Fixes the bootstrap.
    """

    dataset: str
    seed: int

    def mean(self, model: str, metric: str, values: Float[Tensor, "w"], variant: str, *, unit: str = SHARE) -> Row:
        """Average over worlds, with a bootstrap interval over them.

        Args:
            model: Who played.
            metric: What was measured.
            values: One number for each world.
            variant: When, or against whom.
            unit: Of the values.

        Returns:
            The row.
        """
        low, high = bootstrap_interval(lambda drawn: values[drawn].mean(1), len(values), seed=self.seed)
        value = float(values.mean())
        return Row("replay", self.dataset, model, "", variant, metric, value, low, high, len(values), unit)

    def ratio(self, model: str, theirs: Float[Tensor, "w"], ours: Float[Tensor, "w"], variant: str) -> Row:
        """Divide mean distances, with a bootstrap interval over worlds, in pairs.

        Args:
            model: Who played.
            theirs: Its distance in each world.
            ours: That of the one it is compared with.
            variant: Against whom.

        Returns:
            The row.
        """
        low, high = bootstrap_interval(ratio_of_sums(theirs, ours), len(ours), seed=self.seed)
        value = float(theirs.sum() / ours.sum())
        return Row("replay", self.dataset, model, "", variant, TIMES, value, low, high, len(ours), "times")


def causal_rows(
    results: Mapping[str, Mapping[str, Sequence[ShiftTrace]]], *, ours: str, level: float, seed: int
) -> list[Row]:
    """Spell the results out, with bootstrap intervals over worlds.

    Args:
        results: By family and player, traces of the same games in the same order.
        ours: The player that the others are compared with.
        level: Nominal probability of the bounds on the distance.
        seed: Fixes the bootstrap.

    Returns:
        For each family and player: the squared distance after each number of experiments under the recommended
        shift, under that which expected edges ask for, under the nearest measured one, and as expected by the
        posterior; the share of bounds that held after the first and the last round and over all rounds; and
        against ``ours``, in pairs, the difference and the ratio at the end and over all rounds.
    """
    return [
        row
        for family, players in results.items()
        for player, traces in players.items()
        for row in _player_rows(Maker(f"causal {family}", seed), player, traces, players[ours], ours, level)
    ]


def _player_rows(  # noqa: PLR0917 - one call
    maker: Maker, player: str, traces: Sequence[ShiftTrace], ours: Sequence[ShiftTrace], name: str, level: float
) -> list[Row]:
    distance = torch.stack([trace.distance for trace in traces])
    curves = {
        DISTANCE: distance,
        PLUG_IN: torch.stack([trace.plug_in for trace in traces]),
        NEAREST: torch.stack([trace.nearest for trace in traces]),
        EXPECTED: torch.stack([trace.expected for trace in traces]),
    }
    rounds = distance.shape[1] - 1
    count = len(traces[0].tried) // rounds
    rows = [
        maker.mean(player, metric, values, f"{number * count} experiments")
        for metric, curve in curves.items()
        for number, values in enumerate(curve.unbind(1))
    ]
    held = torch.stack([(trace.lower <= trace.distance) & (trace.distance <= trace.upper) for trace in traces])
    share = held.double()
    for variant, values in (
        (f"after {count} experiments", share[:, 1]),
        (f"after {rounds * count} experiments", share[:, -1]),
        (EVERY_ROUND, share[:, 1:].mean(1)),
    ):
        rows.append(maker.mean(player, COVERAGE, values, f"nominal {level:g}, {variant}", unit="share"))
    if player != name:
        reference = torch.stack([trace.distance for trace in ours])
        for variant, theirs, their_reference in (
            (f"{AT_END}, than {name}", distance[:, -1], reference[:, -1]),
            (f"{OVERALL}, than {name}", distance[:, 1:].mean(1), reference[:, 1:].mean(1)),
        ):
            rows.append(maker.mean(player, MORE, theirs - their_reference, variant))
            rows.append(maker.ratio(player, theirs, their_reference, variant))
    return rows
