"""Do intervals hold for candidates that were chosen because they looked good? Eight rounds in simulated worlds.

In each world 2,000 candidates have 8 features, and effects on 50 readouts that are mostly linear in them. A linear
ridge, so a model of wrong form, is fitted to 120 of them; 50 more, drawn at random, calibrate it. Each round takes
eight candidates that are predicted nearest to a target, states for each an upper bound on its measured distance,
``D <= D_predicted + q`` at 90 %, measures them, and fits the model again. Bounds are from

* static: the 50 random perturbations, judged by the model of the round;
* pooled: these and past picks, each pick by the model that had not seen it;
* adaptive: the pooled scores, at a level that follows the misses (gamma 0.3);
* weighted: the 50, weighted by the known probabilities of drawn picks.

The last needs a second campaign: half of each batch is drawn by a softmax over predicted distances whose
temperature is half their standard deviation in the pool, the other half is greedy. Misfit and noise are set so
that static bounds cover two thirds of the designs of the first round. Infinite bounds cover whatever comes, so
their share is printed, and the coverage of the finite ones.

The unit is the world: values are averages over worlds, with bootstrap intervals.

Run: python -m benchmarks design_shift --seed 0 --json design_shift.json
"""

import argparse
import math
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from benchmarks.bounds.weighted_bounds import MixedBatch, ProposalLog, Softmax, mixed_batch
from surrogates.evaluation.intervals import Row, bootstrap_interval, write_json
from surrogates.uncertainty.conformal.quantiles import conformal_quantile
from surrogates.uncertainty.conformal.rounds import FIRST_TRUSTED_ROUND, AdaptiveLevel, ScorePool, campaign_health

LEVEL = 0.9
ROUNDS, BATCH = 8, 8
BAR = (0.87, 0.94)
SETTLED = f"{FIRST_TRUSTED_ROUND} to {ROUNDS}"
CAMPAIGNS: Mapping[str, float] = {"greedy": 0.0, "half drawn": 0.5}
# Columns of the table: campaign, kind of bound, and which picks it is judged by.
COLUMNS = (
    ("greedy", "static", "all"),
    ("greedy", "pooled", "all"),
    ("greedy", "adaptive", "all"),
    ("half drawn", "adaptive", "all"),
    ("half drawn", "static", "drawn"),
    ("half drawn", "weighted", "drawn"),
)
Column = tuple[str, str, str]
Values = dict[tuple[Column, int, str], list[float]]


@dataclass(frozen=True)
class Design:
    """How large a world is, and how wrong a linear model is in it."""

    features: int = 8
    readouts: int = 50
    training: int = 120
    calibration: int = 50
    pool: int = 2000
    misfit: float = (
        0.7  # standard deviation of the part of an effect that is not linear; of the linear part it is 1
    )
    noise: float = 0.7  # of each measured effect


@dataclass(frozen=True)
class World:
    """Candidates, and how far each would be measured from the target; the first are training, then calibration."""

    design: Design
    features: Float[Tensor, "c p"]
    measured: Float[Tensor, "c g"]
    target: Float[Tensor, "g"]

    @classmethod
    def draw(cls, design: Design, *, seed: int) -> "World":
        """Draw features, a linear and a saturating map of them to effects, and another candidate as the target."""
        normal = partial(torch.randn, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
        count, p, hidden = design.training + design.calibration + design.pool + 1, design.features, 16
        features = normal(count, p)
        linear = features @ normal(p, design.readouts) / p**0.5
        bent = (2 * features @ normal(p, hidden) / p**0.5).tanh() @ normal(hidden, design.readouts)
        effects = linear + design.misfit * bent / bent.std()
        measured = effects + design.noise * normal(count, design.readouts)
        constant = torch.ones(count, 1, dtype=torch.float64)
        return cls(design, torch.cat([features, constant], 1)[:-1], measured[:-1], effects[-1])

    @property
    def distance(self) -> Float[Tensor, "c"]:
        """Measured distance of each candidate to the target: root mean square over readouts."""
        return (self.measured - self.target).square().mean(1).sqrt()

    def predicted(self, seen: Int[Tensor, "n"]) -> Float[Tensor, "c"]:
        """Predict the distance of every candidate by a ridge on those that were measured."""
        known, penalty = self.features[seen], torch.eye(self.features.shape[1], dtype=torch.float64)
        weights = torch.linalg.solve(known.T @ known + penalty, known.T @ self.measured[seen])
        return (self.features @ weights - self.target).square().mean(1).sqrt()


@dataclass(frozen=True)
class Stated:
    """One kind of bound in one round: for each pick it speaks of, whether it held, and whether it was infinite."""

    covered: Bool[Tensor, "b"]
    infinite: Bool[Tensor, "b"]

    @classmethod
    def of(cls, scores: Float[Tensor, "b"], bound: Float[Tensor, "*b"]) -> "Stated":
        """Compare scores with the bounds that were stated for them."""
        return cls(scores <= bound, bound.expand_as(scores) == torch.inf)


@dataclass(frozen=True)
class Round:
    """What was stated before a round, by kind of bound and which picks, and what the campaign knew then."""

    stated: Mapping[tuple[str, str], Stated]
    pool: ScorePool
    effective_count: float


def campaign(world: World, share: float, *, seed: int) -> Iterator[Round]:
    """Take a batch, state bounds, measure, fit again.

    Args:
        world: Where.
        share: Of each batch that is drawn with known probabilities.
        seed: Fixes the draws.

    Yields:
        One value per round.
    """
    generator = torch.Generator().manual_seed(seed)
    training, fresh = world.design.training, world.design.training + world.design.calibration
    seen, calibration = torch.arange(training), torch.arange(training, fresh)
    left = torch.arange(fresh, len(world.features))
    pool = ScorePool(torch.zeros(len(calibration), dtype=torch.float64))
    level = AdaptiveLevel.start(LEVEL)
    for _ in range(ROUNDS):
        predicted = world.predicted(seen)
        scores = world.distance - predicted
        pool = replace(pool, random=scores[calibration])
        law = Softmax(float(predicted[left].std()) / 2)
        batch = mixed_batch(-predicted[left], BATCH, share=share, law=law, generator=generator)
        picks = left[batch.numbers]
        stated = {
            ("static", "all"): Stated.of(scores[picks], conformal_quantile(pool.random, LEVEL)),
            ("pooled", "all"): Stated.of(scores[picks], conformal_quantile(pool.scores, LEVEL)),
            ("adaptive", "all"): Stated.of(scores[picks], level.quantile(pool.scores)),
        }
        effective_count = math.nan
        if share:
            drawn = scores[picks][batch.drawn]
            weighted = weigh(law, predicted, calibration, picks, batch).bound(pool.random, LEVEL)
            stated["static", "drawn"] = Stated.of(drawn, conformal_quantile(pool.random, LEVEL))
            stated["weighted", "drawn"] = Stated.of(drawn, weighted.quantile)
            effective_count = weighted.effective_count
        yield Round(stated, pool, effective_count)
        level = level.updated(float((~stated["adaptive", "all"].covered).double().mean()))
        pool = replace(pool, designed=(*pool.designed, scores[picks]))
        seen = torch.cat([seen, picks])
        left = left[~torch.isin(left, picks)]


def weigh(
    law: Softmax,
    predicted: Float[Tensor, "c"],
    calibration: Int[Tensor, "n"],
    picks: Int[Tensor, "b"],
    batch: MixedBatch,
) -> ProposalLog:
    """Compare the softmax of a round with the uniform law that drew the calibration perturbations.

    Each draw is from the candidates that are left; what it is divided by is the same for calibration
    perturbations and cancels, so that weights need not be normalised.
    """
    weights = (law.log_weights(-predicted) - law.log_weights(-predicted).max()).exp()
    drawn = picks[batch.drawn]
    uniform = torch.full_like(predicted, 1 / len(predicted))
    return ProposalLog(uniform[calibration], weights[calibration], uniform[drawn], weights[drawn])


def measure(design: Design, worlds: int, *, seed: int) -> Values:
    """Run both campaigns in every world.

    Args:
        design: Of the worlds.
        worlds: How many.
        seed: Of the first; each world has its own.

    Returns:
        For each column, round and metric one value per world.
    """
    values: Values = defaultdict(list)
    for number in range(seed * worlds, (seed + 1) * worlds):
        world = World.draw(design, seed=number)
        for name, share in CAMPAIGNS.items():
            for at, each in enumerate(campaign(world, share, seed=number), start=1):
                for (kind, judged), stated in each.stated.items():
                    column = (name, kind, judged)
                    values[column, at, "covered"].append(float(stated.covered.double().mean()))
                    values[column, at, "infinite"].append(float(stated.infinite.double().mean()))
                    held = stated.covered & ~stated.infinite
                    values[column, at, "covered_finite"].append(float(held.double().mean()))
                    values[column, at, "effective_count"].append(each.effective_count)
    return values


def rows_of(values: Values, *, seed: int) -> list[Row]:
    """Average over worlds.

    Args:
        values: What was measured.
        seed: Fixes the bootstrap.

    Returns:
        Coverage, share of infinite bounds, coverage of the finite ones, and the effective count of weighted
        scores: for each column, each round, and the rounds from the third on.
    """
    rounds = {f"round {at}": [at] for at in range(1, ROUNDS + 1)}
    rounds[f"rounds {SETTLED}"] = list(range(FIRST_TRUSTED_ROUND, ROUNDS + 1))
    rows = []
    for column in COLUMNS:
        for name, numbers in rounds.items():
            covered, infinite, finite, count = (
                torch.tensor([values[column, at, metric] for at in numbers], dtype=torch.float64).mean(0)
                for metric in ("covered", "infinite", "covered_finite", "effective_count")
            )
            one = torch.ones_like(covered)
            measured = {"coverage": (covered, one), "share_infinite": (infinite, one)}
            measured["coverage_of_finite"] = (finite, 1 - infinite)
            if column[1] == "weighted":
                measured["effective_count"] = (count, one)
            rows += [_row(column, name, metric, pair, seed=seed) for metric, pair in measured.items()]
    return rows


def _row(
    column: Column, rounds: str, metric: str, pair: tuple[Float[Tensor, "w"], Float[Tensor, "w"]], *, seed: int
) -> Row:
    numerator, denominator = pair

    def ratio(worlds: Int[Tensor, "m w"]) -> Float[Tensor, "m"]:
        return numerator[worlds].sum(1) / denominator[worlds].sum(1)

    n = len(numerator)
    value = float(ratio(torch.arange(n)[None]))
    low, high = bootstrap_interval(ratio, n, seed=seed)
    campaign_name, kind, judged = column
    unit = "perturbations" if metric == "effective_count" else "share"
    variant = f"{campaign_name}, {judged} picks, {rounds}"
    return Row("design_shift", "simulated", kind, "designed", variant, metric, value, low, high, n, unit)


def print_table(rows: Sequence[Row], metric: str, columns: Sequence[Column]) -> None:
    """Print one line per round, and mark the rounds of which the campaign's health says not to believe them."""
    print(f"\n{metric}")
    print(f"{'':16}", *(f"{f'{campaign}: {kind}':>22}" for campaign, kind, _ in columns))
    print(f"{'':16}", *(f"{f'({judged} picks)':>22}" for _, _, judged in columns))
    found = {(row.model, row.variant): row for row in rows if row.metric == metric}
    for at in (*range(1, ROUNDS + 1), SETTLED):
        name = f"rounds {at}" if at == SETTLED else f"round {at}"
        flag = " flagged" if isinstance(at, int) and at < FIRST_TRUSTED_ROUND else ""
        cells = [found[kind, f"{campaign}, {judged} picks, {name}"] for campaign, kind, judged in columns]
        shown = [f"{each.value:.3f} [{each.low:.3f}, {each.high:.3f}]" for each in cells]
        print(f"{name + flag:16}", *(f"{cell:>22}" for cell in shown))


def health_rows(design: Design, worlds: int, *, seed: int) -> list[Row]:
    """Ask before each round of greedy campaigns whether bounds may be believed, and print one world's answers.

    Args:
        design: Of the worlds.
        worlds: How many; each test takes half a second.
        seed: Of the first.

    Returns:
        For static and adaptive bounds and each round, in which share of worlds bounds of designs are trusted.
    """
    trusted: dict[tuple[str, int], list[float]] = defaultdict(list)
    for number in range(seed * worlds, (seed + 1) * worlds):
        missed: dict[str, list[int]] = {"static": [], "adaptive": []}
        for at, each in enumerate(campaign(World.draw(design, seed=number), 0.0, seed=number), start=1):
            for kind, misses in missed.items():
                health = campaign_health(each.pool, misses, LEVEL, adaptive=kind == "adaptive", seed=number)
                trusted[kind, at].append(float(health.holds_for_designed))
                misses.append(int((~each.stated[kind, "all"].covered).sum()))
                if number == seed * worlds:
                    print(f"  {kind:9} {health.line}")
    rows = []
    for (kind, at), held in trusted.items():
        column = ("greedy", kind, "all")
        pair = (torch.tensor(held, dtype=torch.float64), torch.ones(len(held), dtype=torch.float64))
        rows.append(_row(column, f"round {at}", "share_trusted", pair, seed=seed))
    return rows


def main() -> None:
    """Measure, print the tables and the health of the campaigns, and write the rows."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--worlds", type=int, default=120)
    parser.add_argument("--health-worlds", type=int, default=8)
    parser.add_argument("--misfit", type=float, default=Design.misfit)
    parser.add_argument("--noise", type=float, default=Design.noise)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    start = time.perf_counter()
    design = replace(Design(), misfit=arguments.misfit, noise=arguments.noise)
    rows = rows_of(measure(design, arguments.worlds, seed=arguments.seed), seed=arguments.seed)
    print(f"{arguments.worlds} worlds, {time.perf_counter() - start:.0f} s")
    print_table(rows, "coverage", COLUMNS)
    print_table(rows, "share_infinite", COLUMNS[2:])
    print_table(rows, "coverage_of_finite", COLUMNS[2:])
    print_table(rows, "effective_count", COLUMNS[-1:])
    print("\nhealth in one world")
    rows += health_rows(design, arguments.health_worlds, seed=arguments.seed)
    print("\nshare of worlds in which bounds of designs are trusted")
    for kind in ("static", "adaptive"):
        shares = [row.value for row in rows if row.metric == "share_trusted" and row.model == kind]
        print(f"  {kind:9}", *(f"{share:.2f}" for share in shares))
    print(verdict(rows))
    if arguments.json:
        write_json(rows, arguments.json)


def verdict(rows: Sequence[Row]) -> str:
    """Hold adaptive bounds of greedy campaigns against the bar, on average and in each round."""
    adaptive = [
        row for row in rows if row.metric == "coverage" and row.model == "adaptive" and "greedy" in row.variant
    ]
    rounds = [row.value for row in adaptive[FIRST_TRUSTED_ROUND - 1 : ROUNDS]]
    mean = adaptive[-1].value
    met = "met" if BAR[0] <= mean <= BAR[1] else "not met"
    outside = sum(not BAR[0] <= value <= BAR[1] for value in rounds)
    return (
        f"\nadaptive, greedy, rounds {SETTLED}: {mean:.3f}; {BAR[0]} to {BAR[1]} is {met} on average,"
        f" {outside} of {len(rounds)} rounds are outside it ({min(rounds):.3f} to {max(rounds):.3f})"
    )


if __name__ == "__main__":
    main()
