"""Do conformal intervals keep their promise, and what do they cost? Simulated worlds, each of its own network.

A saturating world measures 50 readouts. 30 of its genes are perturbed alone, and in all 435 pairs. The surrogate
is wrong in form: an ensemble of scaled sums, fitted to the singles and 90 pairs. Of the other pairs 20, 50 or 100
calibrate (split), one is the target of the utility (the distance to it), and the rest is judged. CV+ calibrates on
the training pairs instead. Values are averages over worlds, with bootstrap intervals. Median and 5-95 % range of
the worlds stand beside the beta-binomial law of exchangeable scores; shares of readouts are averages, and range
less. Ratios are of mean widths in each world: the band's by that of single readouts, and what the band implies for
the distance (farthest less nearest) by the distance's own.

Last, cells as units. The cells of a perturbation scatter around its measured effect, and share the error of that.
One of each training pair calibrates a model that remembers what was measured of it, and a model that does not;
then one of each held-out pair, and 30 of each of 20, as if they were 600 pairs. Judged are cells of new pairs.

Run: python -m benchmarks conformal_worlds --seed 0 --json conformal_worlds.json
"""

import argparse
import time
from dataclasses import dataclass, replace
from functools import partial
from itertools import combinations
from multiprocessing import get_context
from pathlib import Path

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from inverse_design.problem.objective import Distance
from inverse_design.problem.target import AlignedProfile
from inverse_design.validate.coverage import implied_distances
from surrogates.data.across import Actions
from surrogates.data.perturbation import Intervention, Perturbation
from surrogates.data.screen import Screen
from surrogates.data.simulate import Network, SaturatingWorld
from surrogates.data.vocabulary import PerturbationBatch, Vocabulary
from surrogates.evaluation.intervals import Row, bootstrap_interval, write_json
from surrogates.evaluation.intervals import mean as mean_over
from surrogates.evaluation.metrics import all_covered_rows, expected_coverage
from surrogates.models.base import Fitted, Surrogate
from surrogates.models.baselines import FittedScaledAdditive, ScaledAdditive
from surrogates.models.wrappers.conformal import Conformal, FittedConformal
from surrogates.models.wrappers.ensemble import Ensemble
from surrogates.uncertainty.conformal.quantiles import conformal_quantile, quantile_rank
from surrogates.uncertainty.posterior import GaussianPosterior, Interval, ScalarInterval

LEVEL = 0.9
BASE = Ensemble(ScaledAdditive(), members=5, resample="perturbations")
SCATTER = (0.05, 0.2, 0.8)  # of cells, beside the noise of 0.17 that all cells of a perturbation share
CLUSTERS, CELLS = 20, 30  # held-out pairs whose cells are pooled, and how many of each
Values = dict[tuple[str, str], dict[str, float]]
METRICS = ("coverage", "coverage_of_worlds", "coverage_expected", "width", "ratio")
_CELL = "{0.value:.3f} [{0.low:.3f}, {0.high:.3f}]"


@dataclass(frozen=True)
class Design:
    """How large a world is."""

    genes: int = 30
    readouts: int = 50
    training: int = 90
    counts: tuple[int, ...] = (20, 50, 100)
    noise: float = 0.17  # of each measured effect
    base: Surrogate = BASE


@dataclass(frozen=True)
class World:
    """Singles and pairs to learn from, pairs to calibrate, pairs to judge, and one as the target."""

    train: Screen
    reserve: Screen
    test: Screen
    target: Float[Tensor, "g"]

    @classmethod
    def draw(cls, design: Design, *, seed: int) -> "World":
        """Draw a network, measure it, and deal the pairs."""
        network = Network(genes=design.readouts, spectral_radius=0.8, seed=seed)
        world = SaturatingWorld(network, noise=design.noise, ceiling=2.0)
        genes = [Intervention(name) for name in network.names[: design.genes]]
        parts = [*((gene,) for gene in genes), *combinations(genes, 2)]
        screen = world.screen([Perturbation(each) for each in parts], seed=seed)
        order = torch.randperm(len(parts) - len(genes), generator=torch.Generator().manual_seed(seed))
        cuts = (design.training, design.training + max(design.counts))
        learnt, reserve, test = (len(genes) + order).tensor_split(cuts)
        train = torch.cat([torch.arange(len(genes)), learnt])
        return cls(screen.rows(train), screen.rows(reserve), screen.rows(test[1:]), screen.effects[test[0]])


@dataclass(frozen=True)
class Remembering:
    """Says of a known perturbation what was measured of it, and of any other what a model predicts."""

    vocabulary: Vocabulary
    readouts: tuple[str, ...]
    measured_alone: Bool[Tensor, "v"]
    other: FittedScaledAdditive
    known: Actions
    effects: Float[Tensor, "n g"]

    def predict(self, batch: PerturbationBatch) -> GaussianPosterior:
        """Look up, or predict."""
        posterior, number = self.other.predict(batch), self.known.find(batch)
        return replace(posterior, mean=torch.where((number >= 0)[:, None], self.effects[number], posterior.mean))


def of_readouts(interval: Interval, test: Screen) -> dict[str, float]:
    """Judge the bounds of single readouts."""
    covered = (interval.lower <= test.effects) & (test.effects <= interval.upper)
    return {"readout_coverage": float(covered.double().mean()), "readout_width": _width(interval)}


def of_band(band: Interval, interval: Interval, test: Screen) -> dict[str, float]:
    """Judge the bounds of all readouts at once, and compare their width with that of single readouts."""
    covered, width = all_covered_rows(band, test.effects), _width(band)
    return {"band_coverage": float(covered.mean()), "band_width": width, "band_ratio": width / _width(interval)}


def of_utility(fitted: FittedConformal, band: Interval, test: Screen, target: Tensor) -> dict[str, float]:
    """Judge the bounds of the distance to the target, and compare them with what the band implies."""
    outcome = Distance(AlignedProfile.exact(range(len(target)), target))
    bounds, truth = fitted.scalar(outcome, test.batch, LEVEL), outcome.measured(test.effects)
    covered = (bounds.lower <= truth) & (truth <= bounds.upper)
    nearest, farthest = implied_distances(band, target)
    return {
        "utility_coverage": float(covered.double().mean()),
        "utility_width": _width(bounds),
        "utility_ratio": float((farthest - nearest).mean()) / _width(bounds),
    }


def _width(bounds: Interval | ScalarInterval) -> float:
    return float((bounds.upper - bounds.lower).mean())


def identified(fitted: Fitted, world: World) -> float:
    """Tell how often the prediction nearest to a measured pair, among those of all pairs, is its own."""
    pairs = torch.combinations(torch.arange(len(fitted.vocabulary)))
    posterior = fitted.predict(fitted.vocabulary.dosed(pairs))
    unit = posterior.variance.mean(0).sqrt()
    nearest = pairs[torch.cdist(world.test.effects / unit, posterior.mean / unit).argmin(1)]
    return float((nearest == world.test.batch.genes).all(1).double().mean())


def judge(fitted: FittedConformal, test: Screen, target: Tensor) -> dict[str, float]:
    """Judge everything that a calibrated model promises."""
    interval, band = fitted.interval(test.batch, LEVEL), fitted.band(test.batch, LEVEL)
    return of_readouts(interval, test) | of_band(band, interval, test) | of_utility(fitted, band, test, target)


def cells_as_units(world: World, *, seed: int) -> Values:
    """Calibrate on cells, by training pairs and by held-out ones; judge cells of new pairs."""
    generator = torch.Generator().manual_seed(seed)

    def cells(screen: Screen, scatter: float) -> Screen:
        noise = torch.randn(screen.effects.shape, generator=generator, dtype=torch.float64)
        return replace(screen, effects=screen.effects + scatter * noise)

    rigid, middle = ScaledAdditive().fit(world.train, seed=seed), SCATTER[1]
    pairs = world.train.rows(torch.nonzero(world.train.batch.order == 2).flatten())
    names = (rigid.vocabulary, rigid.readouts, rigid.measured_alone)
    memory = Remembering(*names, rigid, Actions(pairs.batch.genes), pairs.effects)
    plan: list[tuple[str, Fitted, Screen, float]] = [("held-out pair", memory, world.reserve, middle)]
    plan += [("training pair, remembered", memory, pairs, scatter) for scatter in SCATTER]
    found = {}
    for name, fitted, units, scatter in [*plan, ("training pair, not remembered", rigid, pairs, middle)]:
        calibrated, new = FittedConformal.split(fitted, cells(units, scatter)), cells(world.test, scatter)
        found[f"a cell of each {name}", f"scatter {scatter}"] = judge(calibrated, new, world.target)
    few, new = world.reserve.rows(torch.arange(CLUSTERS).repeat(CELLS)), cells(world.test, middle)
    error, mean = (cells(few, middle).effects - rigid.predict(few.batch).mean).abs(), rigid.predict(new.batch).mean
    unit = rigid.variance.sqrt()
    halves = conformal_quantile(error, LEVEL), conformal_quantile((error / unit).amax(1), LEVEL) * unit
    interval, band = (Interval(mean - half, mean + half, LEVEL) for half in halves)
    name = f"{CELLS} cells of each of {CLUSTERS} held-out pairs"
    return found | {(name, f"scatter {middle}"): of_readouts(interval, new) | of_band(band, interval, new)}


def measure(design: Design, number: int, *, seed: int, cells: int) -> Values:
    """Draw one world and judge every calibration in it; cells as units in the first worlds only."""
    world = World.draw(design, seed=seed + number)
    fitted = design.base.fit(world.train, seed=seed)
    values = {("nearest prediction", ""): {"identified": identified(fitted, world)}}
    plus = Conformal(design.base, score="absolute").fit(world.train, seed=seed)
    splits = {n: FittedConformal.split(fitted, world.reserve.rows(torch.arange(n))) for n in design.counts}
    calibrated = {f"split, n = {n}": each for n, each in splits.items()} | {f"CV+, n = {design.training}": plus}
    for name, each in calibrated.items():
        for score in ("absolute", "normalised"):
            values[name, score] = judge(replace(each, score=score), world.test, world.target)
    return values | (cells_as_units(world, seed=seed + number) if number < cells else {})


def rows_of(values: list[Values], judged: int, *, seed: int) -> list[Row]:
    """Average over worlds; of coverages also the range of the worlds, and that of exchangeable scores."""
    rows, ends = [], torch.tensor([0.05, 0.95], dtype=torch.float64)
    for (model, variant), metric in [(key, metric) for key, named in values[0].items() for metric in named]:
        drawn = [world[model, variant][metric] for world in values if (model, variant) in world]
        each = torch.tensor(drawn, dtype=torch.float64)
        found = {metric: (float(each.mean()), *bootstrap_interval(mean_over(each), len(each), seed=seed))}
        if metric.endswith("_coverage"):
            found[f"{metric}_of_worlds"] = (float(each.median()), *each.quantile(ends).tolist())
            if " n = " in model:
                count = int(model.rsplit(" ", 1)[1])
                mean = quantile_rank(count, LEVEL) / (count + 1)
                found[f"{metric}_expected"] = (mean, *expected_coverage(count, judged, LEVEL, probability=0.9))
        for name, (value, low, high) in found.items():
            of = ("SaturatingWorld", model, "double, 2 of 2 seen", variant, name, value, low, high)
            rows.append(Row("conformal_worlds", *of, len(each), "screen" if "width" in metric else "1"))
    return rows


def show(rows: list[Row]) -> None:
    """Print a table: calibrations by quantities."""
    found = {(row.model, row.variant, row.metric): row for row in rows}
    print(f"{rows[0].model} is of the true pair: {_CELL.format(rows[0])}\n")
    print(f"{'':71}" + "".join(f"{name:24}" for name in ("coverage", "5-95 %", "expected", "width", "ratio")))
    for model, variant in dict.fromkeys((row.model, row.variant) for row in rows[1:]):
        for quantity in ("readout", "band", "utility"):
            cells = [found.get((model, variant, f"{quantity}_{metric}")) for metric in METRICS]
            texts = [f"{_CELL.format(cell) if cell else '':24}" for cell in cells]
            if cells[0]:
                print(f"{f'{model}, {variant}':62}{quantity:9}" + "".join(texts).rstrip())


def main() -> None:
    """Measure, print the table, and write the rows."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--worlds", type=int, default=200)
    parser.add_argument("--cells", type=int, default=50, help="worlds in which cells are units")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--json", type=Path)
    asked = parser.parse_args()
    design, began = Design(), time.perf_counter()
    work = partial(measure, design, seed=asked.seed, cells=asked.cells)
    with get_context("spawn").Pool(asked.workers, torch.set_num_threads, (1,)) as pool:
        values = pool.map(work, range(asked.worlds), chunksize=1)
    judged = len(World.draw(design, seed=asked.seed).test)
    show(rows := rows_of(values, judged, seed=asked.seed))
    print(f"\n{asked.worlds} worlds, {judged} pairs judged in each, {time.perf_counter() - began:.0f} s")
    if asked.json:
        write_json(rows, asked.json)


if __name__ == "__main__":
    main()
