"""Do conformal intervals cover new wells, and means of wells? A screen of image features with eight wells a pair.

Five folds over the pairs of the double knock-down screen of Laufer et al. (2013). The interaction model learns
from the singles and four folds. Of the fifth 200 pairs calibrate, one is the target of the distance, and the rest
are judged, in 20 divisions of each fold. The model is fitted in seconds; the automatic choice would take a minute.

The unit is the pair, calibrated in two ways: by the *means* of its wells, as promised to new means, and by *one
well* of each at random, as promised to new wells. Wells scatter more than means: bounds that were calibrated on
means must miss more wells than they say, and bounds for wells are wider than means need.

Shares are averaged within each pair first, then over pairs; intervals resample pairs. A target is a mean of wells.
The single effects of this screen are the authors' averages over pairs, held-out ones among them. That is alike for
pairs that calibrate and pairs that are judged: coverage is honest, while widths are a little too small.

Run: python -m benchmarks replicates --seed 0 --json replicates.json
"""

import argparse
import time
from collections import defaultdict
from dataclasses import dataclass, replace
from pathlib import Path
from typing import get_args

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float, Int
from torch import Tensor

from inverse_design.problem.objective import Distance
from inverse_design.problem.target import AlignedProfile
from surrogates.data.catalogue import locate, open_dataset
from surrogates.data.novelty import splits_over_doubles
from surrogates.data.screen import Screen
from surrogates.errors import DataError
from surrogates.evaluation.intervals import Row, bootstrap_interval, write_json
from surrogates.evaluation.intervals import mean as mean_over
from surrogates.models.base import Surrogate
from surrogates.models.interaction import Interaction
from surrogates.models.wrappers.conformal import FittedConformal, Score
from surrogates.uncertainty.posterior import Interval

DATASET, LEVEL = "laufer2013", 0.9
_ROUNDING = 1e-5  # wells and means are stored in single precision


@dataclass(frozen=True)
class Wells:
    """Wells on the scale of a screen.

    Attributes:
        row: The row of the screen that each well belongs to, ascending.
        effects: What each well showed.
    """

    row: Int[Tensor, "w"]
    effects: Float[Tensor, "w g"]

    def of(self, rows: Int[Tensor, "b"]) -> tuple[Int[Tensor, "w"], Float[Tensor, "w g"]]:
        """Take the wells of some rows, with the place of their row among these."""
        place = torch.full((int(self.row.max()) + 1,), -1)
        place[rows] = torch.arange(len(rows))
        at = place[self.row]
        return at[at >= 0], self.effects[at >= 0]

    def one_of(self, rows: Int[Tensor, "b"], *, generator: torch.Generator) -> Float[Tensor, "b g"]:
        """Draw one well of each row."""
        at, effects = self.of(rows)
        order = (at + torch.rand(len(at), generator=generator, dtype=torch.float64)).argsort()
        first = torch.searchsorted(at[order], torch.arange(len(rows)))
        return effects[order[first]]


def read_wells(screen: Screen, folder: Path) -> Wells:
    """Read the wells of the pairs of a screen, and shift them by what the screen shifted their means.

    Args:
        screen: The pairs, of the same folder.
        folder: Where ``wells.parquet`` is.

    Returns:
        All their wells.

    Raises:
        DataError: If the means of the wells are not those of the screen, but for one shift of each readout.
    """
    table = pd.read_parquet(folder / "wells.parquet")
    names = np.asarray(screen.vocabulary.targets, dtype=object)
    pairs = torch.nonzero(screen.batch.order == 2).flatten()
    rows = dict(zip(map(tuple, names[screen.batch.genes[pairs].numpy()]), pairs.tolist(), strict=True))
    parts = np.sort(table[["target", "query"]].to_numpy(dtype=str), axis=1)
    row = torch.tensor([rows.get(tuple(each), -1) for each in parts.tolist()])
    order = row.argsort(stable=True)[int((row < 0).sum()) :]
    effects = torch.from_numpy(table[list(screen.readouts)].to_numpy(np.float64))[order]
    wells = Wells(row[order], effects)
    shift = _means(wells, pairs) - screen.effects[pairs]
    if not bool(((shift - shift.mean(0)).abs() < _ROUNDING).all()):
        raise DataError(
            f"{folder / 'wells.parquet'} has other means than the screen: are both of the same release?"
        )
    return replace(wells, effects=effects - shift.mean(0))


def _means(wells: Wells, rows: Int[Tensor, "b"]) -> Float[Tensor, "b g"]:
    at, effects = wells.of(rows)
    total = effects.new_zeros(len(rows), effects.shape[1]).index_add_(0, at, effects)
    return total / at.bincount(minlength=len(rows))[:, None]


def within(
    calibrated: FittedConformal, screen: Screen, rows: Int[Tensor, "b"], wells: Wells, target: Float[Tensor, "g"]
) -> dict[tuple[str, str], Float[Tensor, "b"]]:
    """Judge the bounds of some pairs by the means and by the wells of each.

    Args:
        calibrated: A model with conformal bounds.
        screen: Where the means are.
        rows: The pairs.
        wells: Their wells.
        target: Of the distance.

    Returns:
        By quantity and what is judged the share of each pair within bounds; by quantity and ``"width"`` the width.
    """
    batch, (at, single) = screen.batch.rows(rows), wells.of(rows)
    outcome = Distance(AlignedProfile.exact(range(len(target)), target))
    interval, band = calibrated.interval(batch, LEVEL), calibrated.band(batch, LEVEL)
    scalar = calibrated.scalar(outcome, batch, LEVEL)
    distance = Interval(scalar.lower[:, None], scalar.upper[:, None], LEVEL)
    found = {}
    for name, bounds in (("readout", interval), ("band", band), ("distance", distance)):
        found[name, "width"] = (bounds.upper - bounds.lower).mean(1)
        for unit, place, effects in (
            ("mean", torch.arange(len(rows)), screen.effects[rows]),
            ("well", at, single),
        ):
            values = outcome.measured(effects)[:, None] if name == "distance" else effects
            inside = ((bounds.lower[place] <= values) & (values <= bounds.upper[place])).double()
            share = inside.amin(1) if name == "band" else inside.mean(1)
            total = share.new_zeros(len(rows)).index_add_(0, place, share)
            found[name, unit] = total / place.bincount(minlength=len(rows))
    return found


def measure(
    screen: Screen, wells: Wells, surrogate: Surrogate, *, calibration: int, draws: int, seed: int
) -> list[Row]:
    """Calibrate on means and on single wells, and judge both by both.

    Args:
        screen: Singles and pairs.
        wells: Of all the pairs.
        surrogate: What predicts.
        calibration: How many pairs calibrate; each fold has more.
        draws: Divisions of each fold.
        seed: Fixes folds, divisions and bootstrap.

    Returns:
        Coverage of means and of wells and the width, for each calibration, score and quantity.
    """
    generator = torch.Generator().manual_seed(seed)
    shares: defaultdict[tuple[str, str, str, str], Tensor] = defaultdict(
        lambda: torch.zeros(2, len(screen), dtype=torch.float64)
    )
    for split in splits_over_doubles(screen, folds=5, seed=seed):
        fitted = surrogate.fit(screen.rows(split.train), seed=seed)
        for _ in range(draws):
            rows = split.test[torch.randperm(len(split.test), generator=generator)]
            target, few, judged = rows.tensor_split((1, calibration + 1))
            held = screen.rows(few)
            by_well = replace(held, effects=wells.one_of(few, generator=generator))
            for unit, units in (("means", held), ("one well each", by_well)):
                for score in get_args(Score):
                    calibrated = FittedConformal.split(fitted, units, score=score)
                    found = within(calibrated, screen, judged, wells, screen.effects[target[0]])
                    for (quantity, of), each in found.items():
                        total = shares[unit, score, quantity, of]
                        total[0, judged] += each
                        total[1, judged] += 1
    return [_row(key, each[0] / each[1], seed=seed) for key, each in shares.items()]


def _row(key: tuple[str, str, str, str], values: Float[Tensor, "n"], *, seed: int) -> Row:
    """Average over the pairs that were judged."""
    unit, score, quantity, of = key
    judged = values[~values.isnan()]
    low, high = bootstrap_interval(mean_over(judged), len(judged), seed=seed)
    metric = f"{quantity}_width" if of == "width" else f"{quantity}_coverage_of_{of}s"
    named = (
        DATASET,
        f"calibrated on {unit}",
        "double, 2 of 2 seen",
        score,
        metric,
        float(judged.mean()),
        low,
        high,
    )
    return Row("replicates", *named, len(judged), "screen" if of == "width" else "1")


def show(rows: list[Row]) -> None:
    """Print a table: calibrations by what is judged."""
    found = {(row.model, row.variant, row.metric): row for row in rows}
    print(f"{'':49}" + "".join(f"{each:24}" for each in ("covers new means", "covers new wells", "width")))
    for model, variant in dict.fromkeys((row.model, row.variant) for row in rows):
        for quantity in ("readout", "band", "distance"):
            metrics = (f"{quantity}_coverage_of_means", f"{quantity}_coverage_of_wells", f"{quantity}_width")
            cells = [found[model, variant, metric] for metric in metrics]
            texts = [f"{f'{each.value:.3f} [{each.low:.3f}, {each.high:.3f}]':24}" for each in cells]
            print(f"{f'{model}, {variant}':40}{quantity:9}" + "".join(texts).rstrip())


def main() -> None:
    """Measure, print the table, and write the rows."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--calibration", type=int, default=200, help="pairs that calibrate")
    parser.add_argument("--draws", type=int, default=20, help="divisions of each fold")
    parser.add_argument("--json", type=Path)
    asked = parser.parse_args()
    torch.set_num_threads(1)
    began, screen = time.perf_counter(), open_dataset(DATASET)
    wells = read_wells(screen, locate(DATASET))
    rows = measure(screen, wells, Interaction(), calibration=asked.calibration, draws=asked.draws, seed=asked.seed)
    show(rows)
    print(f"\n{len(wells.row)} wells, {rows[0].n} pairs judged, {time.perf_counter() - began:.0f} s")
    if asked.json:
        write_json(rows, asked.json)


if __name__ == "__main__":
    main()
