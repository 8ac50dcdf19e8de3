"""Does the inverse conformal set hold the perturbation behind a target? Simulated worlds, each of its own network.

A saturating world measures 50 readouts; 30 of its genes are perturbed alone, and 20, 50 or 100 of their 435
pairs. From these everything is learnt: scaled sums, the error law, and by cross-fits the rule of the set and its
threshold.
Other pairs are targets: of each one measurement is given, and all 435 pairs are candidates. The choice among the
rules (gap, rank, surprise) is that of the program; each rule is also shown by itself.

The unit is the world: values are averages over worlds, with bootstrap intervals.

Run: python -m benchmarks inverse_worlds --seed 0 --json inverse_worlds.json
"""

import argparse
import time
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from itertools import combinations
from multiprocessing import get_context
from pathlib import Path
from typing import get_args

import torch

from inverse_design.problem.constraints import Constraints
from inverse_design.problem.likelihood import TargetLikelihood
from inverse_design.problem.problem import candidate_space
from inverse_design.problem.target import AlignedProfile
from inverse_design.search.identification import Rule, identify
from inverse_design.search.inverse_set import SetRule, calibrate_set
from surrogates.data.novelty import SEEN_DOUBLE, novelty_name
from surrogates.data.perturbation import Intervention, Perturbation
from surrogates.data.screen import Screen
from surrogates.data.simulate import Network, SaturatingWorld
from surrogates.evaluation.intervals import Row, bootstrap_interval, write_json
from surrogates.models.baselines import ScaledAdditive
from surrogates.models.wrappers.calibrated import Calibrated
from surrogates.uncertainty.conformal.quantiles import conformal_quantile

COUNTS = (20, 50, 100)
LEVELS = (0.8, 0.9)
_GENES, _READOUTS, _NOISE = 30, 50, 0.17
Values = dict[tuple[str, str, str], float]


def draw(*, seed: int) -> Screen:
    """Measure all singles and pairs of a world, the pairs in random order.

    Args:
        seed: Fixes network, noise and order.

    Returns:
        The screen.
    """
    network = Network(genes=_READOUTS, spectral_radius=0.8, seed=seed)
    genes = [Intervention(name) for name in network.names[:_GENES]]
    parts = [*((gene,) for gene in genes), *combinations(genes, 2)]
    world = SaturatingWorld(network, noise=_NOISE, ceiling=2.0)
    screen = world.screen([Perturbation(each) for each in parts], seed=seed)
    order = torch.randperm(len(parts) - _GENES, generator=torch.Generator().manual_seed(seed))
    return screen.rows(torch.cat([torch.arange(_GENES), _GENES + order]))


def measure(world: int, *, seed: int, targets: int) -> Values:
    """Learn from some pairs of one world and identify others.

    Args:
        world: Its number.
        seed: Of the benchmark.
        targets: How many other pairs are targets.

    Returns:
        Coverage and size by number of pairs, level and rule.
    """
    torch.set_num_threads(1)
    screen = draw(seed=1000 * seed + world)
    test = screen.rows(range(_GENES + max(COUNTS), _GENES + max(COUNTS) + targets))
    found: Values = {}
    for count in COUNTS:
        training = screen.rows(range(_GENES + count))
        fitted = Calibrated(ScaledAdditive()).fit(training, seed=world)
        space = candidate_space(training, "2", Constraints(measured="keep"))
        batch, truth = space.batch(0, space.size), space.indices(test.batch)
        prior = torch.zeros(len(fitted.vocabulary), dtype=torch.float64)
        ask = [TargetLikelihood(AlignedProfile.exact(range(_READOUTS), effect), prior) for effect in test.effects]
        held_out = identify(ask[0], fitted, space, seed=world)
        density = torch.stack([each.utility(fitted, batch).mean for each in ask])
        own = density.gather(1, truth[:, None])
        found[f"{count} pairs", "first", "coverage"] = float((own[:, 0] == density.amax(1)).double().mean())
        for level in LEVELS:
            rules = {"chosen": calibrate_set(held_out, level)} | {
                rule: SetRule(rule, float(conformal_quantile(getattr(held_out, rule), level)), level, count)
                for rule in get_args(Rule)
            }
            for name, rule in rules.items():
                inside = members(rule, density)
                held = inside.gather(1, truth[:, None]).double().mean()
                found[f"{count} pairs", f"{name} {level:.0%}", "coverage"] = float(held)
                sizes = inside.sum(1).double()
                found[f"{count} pairs", f"{name} {level:.0%}", "size"] = float(sizes.median())
                found[f"{count} pairs", f"{name} {level:.0%}", "mean_size"] = float(sizes.mean())
    return found


def members(rule: SetRule, density: torch.Tensor) -> torch.Tensor:
    """Spell the sets of some targets out, without the list and the cuts of the program.

    Args:
        rule: Which candidates are members.
        density: Log density of each target (rows) under every candidate (columns).

    Returns:
        True for members.
    """
    best = density.amax(1, keepdim=True)
    if rule.rule == "rank":
        return (density[:, None, :] >= density[:, :, None]).sum(2) <= rule.threshold
    top = best if rule.rule == "gap" else density.logsumexp(1, keepdim=True)
    return (top - density <= rule.threshold + 1e-9) | (density == best)


def rows_of(values: list[Values], *, seed: int) -> list[Row]:
    """Average over worlds.

    Args:
        values: Of each world.
        seed: Fixes the bootstrap.

    Returns:
        One row per number of pairs, quantity and metric.
    """
    rows = []
    for variant, model, metric in values[0]:
        each = torch.tensor([found[variant, model, metric] for found in values], dtype=torch.float64)
        low, high = bootstrap_interval(lambda drawn, each=each: each[drawn].mean(1), len(each), seed=seed)
        place = ("inverse_worlds", "SaturatingWorld", model, novelty_name(SEEN_DOUBLE), variant, metric)
        unit = "share" if metric == "coverage" else "candidates"
        rows.append(Row(*place, float(each.mean()), low, high, len(each), unit))
    return rows


def main() -> None:
    """Measure, print the table, and write the rows."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--worlds", type=int, default=200)
    parser.add_argument("--targets", type=int, default=60)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--json", type=Path)
    asked = parser.parse_args()
    began = time.perf_counter()
    work = partial(measure, seed=asked.seed, targets=asked.targets)
    with ProcessPoolExecutor(asked.workers, mp_context=get_context("spawn")) as pool:
        rows = rows_of(list(pool.map(work, range(asked.worlds))), seed=asked.seed)
    for row in rows:
        print(f"{row.variant:12}{row.model:16}{row.metric:12}{row.value:8.3f} [{row.low:.3f}, {row.high:.3f}]")
    print(f"\n{asked.worlds} worlds, {asked.targets} targets each, {time.perf_counter() - began:.0f} s")
    if asked.json:
        write_json(rows, asked.json)


if __name__ == "__main__":
    main()
