"""What was found of held-out perturbations: numbers for each, promises and what was kept, reliability.

A fit promises by the perturbations that it holds out inside its training data; what it keeps is seen on those held
out of them. Each perturbation is in the training data of all outer folds but one, so that the same ones are
compared with themselves. Reliability is that of stated probabilities, binned, with the expected calibration error.
Everything is asked with all readouts, and without those that are targets themselves.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from surrogates.data.screen import Screen
from surrogates.evaluation.intervals import Row, node_bootstrap_interval
from surrogates.evaluation.metrics import exact_binomial_interval
from surrogates.uncertainty.conformal.rounds import Health, ScorePool, campaign_health
from surrogates.uncertainty.dyadic import dyadic_standard_error
from surrogates.uncertainty.selection import Promise

Columns = Mapping[str, Float[Tensor, "n *c"]]
ALL = "all rounds"


@dataclass(frozen=True)
class Judged:
    """Numbers of the held-out perturbations of one novelty class."""

    conditions: Int[Tensor, "n"]  # rows of the screen, each once
    columns: Columns  # numbers by name, ``nan`` where undefined

    def __len__(self) -> int:
        return len(self.conditions)

    def column(self, name: str) -> Float[Tensor, "n *c"]:
        """Take one number of each perturbation."""
        return self.columns.get(name, torch.full((len(self),), torch.nan, dtype=torch.float64))

    @classmethod
    def pooled(cls, parts: Sequence["Judged"]) -> "Judged":
        """Pool folds; a perturbation that several of them hold out counts once, with the mean of its numbers."""
        conditions, place = torch.unique(torch.cat([part.conditions for part in parts]), return_inverse=True)
        shapes = {name: values.shape[1:] for part in parts for name, values in part.columns.items()}
        columns = {}
        for name, shape in shapes.items():
            missing = torch.tensor(torch.nan, dtype=torch.float64)
            values = torch.cat([part.columns.get(name, missing.expand(len(part), *shape)) for part in parts])
            columns[name] = _averaged(values, place, len(conditions))
        return cls(conditions, columns)


def _averaged(values: Float[Tensor, "m *c"], place: Int[Tensor, "m"], count: int) -> Float[Tensor, "n *c"]:
    defined = ~values.isnan()
    total = values.new_zeros(count, *values.shape[1:]).index_add(0, place, values.nan_to_num(0.0))
    return total / values.new_zeros(count, *values.shape[1:]).index_add(0, place, defined.double())


AGREE = 2.5  # standard errors between promise and performance that chance is taken to explain


@dataclass(frozen=True)
class Kept:
    """Mean log posterior probability of the truth, inside the training data and outside them."""

    promised: float  # as the inner folds of the training data found it, in nats
    kept: float  # as the outer folds found it, on perturbations that nothing had seen, in nats
    error: float  # dyadic standard error of ``kept - promised``, in nats
    n: int  # number of held-out perturbations

    @property
    def difference(self) -> float:
        """``kept - promised`` in standard errors: negative if more was promised than kept.

        Zero if they are equal, ``nan`` without a standard error.
        """
        gap = self.kept - self.promised
        if self.error > 0:
            return gap / self.error
        return 0.0 if gap == 0 else gap * torch.inf

    @property
    def line(self) -> str:
        """Both numbers in one sentence."""
        return (
            f"mean log P(truth): promised by inner folds {self.promised:.3f}, kept in outer folds {self.kept:.3f},"
            f" difference {self.kept - self.promised:+.3f} = {self.difference:+.1f} dyadic standard errors (n ="
            f" {self.n})"
        )


def promised(promises: Sequence[Promise], parts: Int[Tensor, "n 2"]) -> Float[Tensor, "n"]:
    """Average what fits to outer folds promised of doubles that they had in their training data."""
    asked = torch.cat([parts.new_empty(0, 2), *(promise.parts for promise in promises)])
    found = torch.cat([torch.empty(0).double(), *(promise.log_probability for promise in promises)])
    means = [found[(asked == pair).all(1)].mean() for pair in parts]
    return torch.stack(means) if means else found[:0]


def compare(promise: Float[Tensor, "n"], kept: Float[Tensor, "n"], nodes: Int[Tensor, "n k"]) -> Kept:
    """Set promises against what became of them, in pairs."""
    both = ~(promise.isnan() | kept.isnan())
    promise, kept = promise[both], kept[both]
    error = dyadic_standard_error(kept - promise, nodes[both])
    return Kept(float(promise.mean()), float(kept.mean()), error, int(both.sum()))


BINS = 10


@dataclass(frozen=True)
class Bin:
    """Predictions of similar probability."""

    low: float  # lower edge
    high: float  # upper edge
    stated: float  # mean stated probability
    found: float  # share that came true
    n: int  # number of predictions


def reliability(probability: Float[Tensor, "n"], hit: Bool[Tensor, "n"]) -> tuple[Bin, ...]:
    """Bin predictions by their probability, ten bins of equal width; empty ones are left out."""
    numbers = (probability * BINS).long().clamp(max=BINS - 1)
    return tuple(
        Bin(
            low=each / BINS,
            high=(each + 1) / BINS,
            stated=float(probability[numbers == each].mean()),
            found=float(hit[numbers == each].double().mean()),
            n=int((numbers == each).sum()),
        )
        for each in numbers.unique().tolist()
    )


def calibration_errors(probability: Float[Tensor, "m n"], hit: Bool[Tensor, "m n"]) -> Float[Tensor, "m"]:
    """Average the gap between stated and found over the bins, weighted by their size (Naeini et al. 2015).

    The error is never zero by chance: see :func:`calibration_noise`.
    """
    numbers = (probability * BINS).long().clamp(max=BINS - 1)
    gaps = torch.zeros(len(probability), BINS, dtype=probability.dtype)
    return gaps.scatter_add(1, numbers, probability - hit.to(probability.dtype)).abs().sum(1) / hit.shape[1]


def calibration_noise(probability: Float[Tensor, "n"], *, seed: int, draws: int = 1000) -> float:
    """Find the expected calibration error that perfectly calibrated probabilities would show by chance."""
    generator = torch.Generator().manual_seed(seed)
    stated = probability.expand(draws, -1)
    came_true = torch.rand(stated.shape, generator=generator, dtype=torch.float64) < stated
    return float(calibration_errors(stated, came_true).mean())


def variants_of(screen: Screen) -> dict[str, Screen]:
    """Look at a screen with the readouts that are targets themselves removed, and with all readouts.

    Activation raises its own gene: to find that again is a look-up, so that the honest variant comes first.
    """
    own = set(screen.vocabulary.targets)
    kept = [column for column, readout in enumerate(screen.readouts) if readout not in own]
    if kept and len(kept) < len(screen.readouts):
        return {"targets_removed": screen.with_readouts(kept), "all_readouts": screen}
    return {"all_readouts": screen}


def drawn_of(sizes: Sequence[int], most: int, *, seed: int) -> Sequence[Bool[Tensor, "_"]]:
    """Mark at most so many held-out rows, drawn at random over folds of some sizes."""
    kept = torch.zeros(sum(sizes), dtype=torch.bool)
    kept[torch.randperm(len(kept), generator=torch.Generator().manual_seed(seed))[:most]] = True
    return kept.split(list(sizes)) if sizes else ()


@dataclass(frozen=True)
class Rounds:
    """What was stated before each measurement of a campaign, and what was measured."""

    number: Int[Tensor, "n"]  # round of each measurement
    lower: Float[Tensor, "n"]  # stated lower bound; may be infinite
    upper: Float[Tensor, "n"]  # stated upper bound; may be infinite
    measured: Float[Tensor, "n"]  # what was found
    random: Bool[Tensor, "n"] | None = None  # whether drawn at random; ``None`` if not known
    probability: Float[Tensor, "n"] | None = None  # stated probability of a hit, ``None`` if none was stated
    hit: Bool[Tensor, "n"] | None = None  # whether it was one
    nodes: Int[Tensor, "n k"] | None = None  # genes of each, -1 where unused; ``None`` if not known

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
    return [row("ece", value, *bounds, n, "share"), row("ece_by_chance", noise, math.nan, math.nan, n, "share")]
