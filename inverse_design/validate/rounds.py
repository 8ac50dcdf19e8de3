"""The calibration card of a finished campaign: did the bounds that were stated before each round hold in it?"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from inverse_design.validate.judged import calibration_errors, calibration_noise
from surrogates.evaluation.coverage import exact_binomial_interval
from surrogates.evaluation.intervals import Row, node_bootstrap_interval
from surrogates.uncertainty.conformal.adaptive import ScorePool
from surrogates.uncertainty.conformal.exchangeability import Health, campaign_health
from surrogates.uncertainty.dyadic import dyadic_standard_error

ALL = "all rounds"


@dataclass(frozen=True)
class Rounds:
    """What was stated before each measurement of a campaign, and what was measured.

    Attributes:
        random: Whether it was drawn at random, not designed; ``None`` if that is not known.
        nodes: Genes of each measurement, -1 in unused columns; ``None`` if they are not known.
    """

    number: Int[Tensor, "n"]  # round of each measurement
    lower: Float[Tensor, "n"]  # stated lower bound; may be infinite
    upper: Float[Tensor, "n"]  # stated upper bound; may be infinite
    measured: Float[Tensor, "n"]  # what was found
    random: Bool[Tensor, "n"] | None = None
    probability: Float[Tensor, "n"] | None = None  # stated probability of a hit, ``None`` if none was stated
    hit: Bool[Tensor, "n"] | None = None  # whether it was one
    nodes: Int[Tensor, "n k"] | None = None

    @property
    def covered(self) -> Bool[Tensor, "n"]:
        """Whether each measurement is within its bounds, both included."""
        return (self.lower <= self.measured) & (self.measured <= self.upper)

    @property
    def scores(self) -> Float[Tensor, "n"]:
        """How far each measurement is from the middle of its bounds, in half their distance: 1 is at a bound.

        Bounds that have no middle or no distance tell only inside, which is 0, from outside, which is infinite.
        """
        half = (self.upper - self.lower) / 2
        plain = half.isfinite() & (half > 0)
        coarse = torch.where(self.covered, 0.0, torch.inf).double()
        return torch.where(plain, (self.measured - (self.lower + self.upper) / 2).abs() / half, coarse)


def health_of(rounds: Rounds, level: float, *, adaptive: bool, seed: int) -> Health | None:
    """Judge for whom the bounds hold."""
    if rounds.random is None:
        return None
    order = rounds.number.argsort(stable=True)
    scores, number, random = rounds.scores[order], rounds.number[order], rounds.random[order]
    designed = [(number == each) & ~random for each in number.unique().tolist()]
    designed = [chosen for chosen in designed if bool(chosen.any())]
    missed = [int((~rounds.covered[order][chosen]).sum()) for chosen in designed]
    pool = ScorePool(scores[random], tuple(scores[chosen] for chosen in designed))
    return campaign_health(pool, missed, level, adaptive=adaptive, seed=seed)


def rounds_rows(rounds: Rounds, *, dataset: str, seed: int) -> list[Row]:
    """Measure coverage in every round and over all."""
    rows = []
    for variant, chosen in _parts(rounds):
        row = partial(Row, "rounds", dataset, "stated bounds", "", variant)
        for kind, among in _kinds(rounds, chosen):
            n, hits = int(among.sum()), int(rounds.covered[among].sum())
            bounds, error = exact_binomial_interval(hits, n), math.nan
            if rounds.nodes is not None:
                error = dyadic_standard_error(rounds.covered[among].double(), rounds.nodes[among])
            rows.append(row(f"coverage{kind}", hits / n, *bounds, n, "share", standard_error=error))
        width = float((rounds.upper - rounds.lower)[chosen].mean())
        rows.append(row("width", width, math.nan, math.nan, int(chosen.sum()), "outcome"))
    if rounds.probability is not None and rounds.hit is not None:
        rows += _of_probabilities(rounds.probability, rounds.hit, rounds.nodes, dataset, seed)
    return rows


def uncovered(rows: Sequence[Row], level: float) -> list[str]:
    """Say in which rounds bounds held too seldom."""
    single = len({row.variant for row in rows} - {ALL}) == 1
    return [
        f"warning: {row.variant}: bounds hold {row.value:.2f} of {row.n}{_kind(row)} measurements, 95 % interval"
        f" {row.low:.2f} to {row.high:.2f}, nominal {level:g}"
        for row in rows
        if row.metric.startswith("coverage") and row.high < level and not (single and row.variant == ALL)
    ]


def _kind(row: Row) -> str:
    kind = row.metric.removeprefix("coverage").strip("_")
    return f" {kind}" if kind else ""


def _parts(rounds: Rounds) -> Iterator[tuple[str, Bool[Tensor, "n"]]]:
    for number in rounds.number.unique().tolist():
        yield f"round {number}", rounds.number == number
    yield ALL, torch.ones_like(rounds.number, dtype=torch.bool)


def _kinds(rounds: Rounds, chosen: Bool[Tensor, "n"]) -> Iterator[tuple[str, Bool[Tensor, "n"]]]:
    yield "", chosen
    if rounds.random is not None:
        for kind, among in (("_random", chosen & rounds.random), ("_designed", chosen & ~rounds.random)):
            if bool(among.any()):
                yield kind, among


def _of_probabilities(
    probability: Float[Tensor, "n"],
    hit: Bool[Tensor, "n"],
    nodes: Int[Tensor, "n k"] | None,
    dataset: str,
    seed: int,
) -> list[Row]:
    n = len(hit)
    nodes = torch.arange(n)[:, None] if nodes is None else nodes
    row = partial(Row, "rounds", dataset, "stated probabilities", "", ALL)
    value = float(calibration_errors(probability[None], hit[None])[0])
    bounds = node_bootstrap_interval(
        lambda rows: calibration_errors(probability[rows], hit[rows]), nodes, seed=seed
    )
    noise = calibration_noise(probability, seed=seed)
    return [
        row("ece", value, *bounds, n, "share"),
        row("ece_by_chance", noise, math.nan, math.nan, n, "share"),
    ]
