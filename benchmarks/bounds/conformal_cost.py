"""What do calibrated answers cost? Intervals of many readouts, and the set of a target among all pairs.

*intervals*: 200 held-out perturbations, 2,000 readouts, five cross-fits that are there already: the choice of
the score, and intervals, band and distance of 20 candidates. *set*: all pairs of many genes, scored by the
likelihood of a target: the search for the best 20, and the search that also reads the set off its list, turn by
turn; then one pass more for a set that is longer than the list. The calibration of the set is paid once for each
question: it asks the question of every held-out double, or of 40 of them in a space as large as this.

Run: python -m benchmarks conformal_cost --genes 10000 --seed 0 --json conformal_cost.json
"""

import argparse
import statistics
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import torch

from inverse_design.problem.likelihood import TargetLikelihood
from inverse_design.problem.objective import Distance
from inverse_design.problem.space import CombinationSpace
from inverse_design.problem.target import AlignedProfile
from inverse_design.search.exhaustive import evidence, search
from inverse_design.search.identification import Identification
from inverse_design.search.inverse_set import LISTED, inverse_set
from surrogates.data.novelty import SEEN_DOUBLE
from surrogates.data.perturbation import Intervention
from surrogates.data.vocabulary import Vocabulary
from surrogates.evaluation.intervals import Row, write_json
from surrogates.models.baselines import FittedScaledAdditive
from surrogates.models.wrappers.calibrated import FittedCalibrated, HeldOutError
from surrogates.models.wrappers.conformal import conformal
from surrogates.models.wrappers.cross_fitting import HeldOutFit
from surrogates.uncertainty.error_model import LawChoice, StandardResiduals

_TOP, _HELD_OUT, _FOLDS, _CANDIDATES = 20, 200, 5, 20


def world(genes: int, readouts: int, *, seed: int) -> tuple[FittedCalibrated, CombinationSpace]:
    """Make an additive model with an error law and held-out pairs, of normal numbers.

    Args:
        genes: Entries of the vocabulary.
        readouts: Number of readouts.
        seed: Fixes the numbers.

    Returns:
        The model with five cross-fits of 40 held-out pairs, and the space of all pairs.
    """
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    vocabulary = Vocabulary(tuple(Intervention(f"G{one:06d}") for one in range(genes)))
    names = tuple(f"r{one}" for one in range(readouts))
    alone = torch.ones(genes, dtype=torch.bool)
    # Most genes do little: sizes fall off as in real screens.
    singles = normal(genes, readouts) * normal(genes, 1).abs().square()
    base = FittedScaledAdditive(vocabulary, names, alone, singles, (), torch.ones(readouts, dtype=torch.float64))
    residuals = StandardResiduals.of(0.3 * normal(_HELD_OUT, readouts), torch.ones(_HELD_OUT, dtype=torch.float64))
    law = residuals.law(LawChoice(rank=10, coefficient_variance=1e-2), temperature=0.5)
    whole = FittedCalibrated(base, {SEEN_DOUBLE: law}, singles, None, HeldOutError(0.0, 0.0, 0), "additive")
    pairs = torch.unique(torch.randint(genes, (4 * _HELD_OUT, 2), generator=generator).sort(1).values, dim=0)
    pairs = pairs[pairs[:, 0] < pairs[:, 1]]
    pairs = pairs[torch.randperm(len(pairs), generator=generator)[:_HELD_OUT]]
    cross = []
    for part in pairs.split(_HELD_OUT // _FOLDS):
        batch = vocabulary.dosed(part)
        cross.append(HeldOutFit(whole, batch, whole.predict(batch).mean + 0.3 * normal(len(part), readouts)))
    return replace(whole, cross=tuple(cross)), CombinationSpace.of(vocabulary, orders=(2,))


def interval_rows(*, readouts: int, repeats: int, seed: int) -> list[Row]:
    """Time everything that intervals need beyond the cross-fits.

    Args:
        readouts: Number of readouts.
        repeats: How often.
        seed: Fixes the world.

    Returns:
        One row per step.
    """
    fitted, space = world(300, readouts, seed=seed)
    calibrated, batch = conformal(fitted), space.batch(0, _CANDIDATES)
    target = AlignedProfile.exact(range(readouts), fitted.predict(space.batch(30, 31)).mean[0])
    steps: dict[str, Callable[[], object]] = {
        "choose score": lambda: conformal(fitted),
        "readouts": lambda: calibrated.interval(batch, 0.9),
        "band": lambda: calibrated.band(batch, 0.9),
        "distance": lambda: calibrated.scalar(Distance(target), batch, 0.9),
    }
    times = {name: [_seconds(step) for _ in range(repeats)] for name, step in steps.items()}
    times["all together"] = [sum(each) for each in zip(*times.values(), strict=True)]
    variant = f"{_HELD_OUT} held out, {readouts} readouts"
    return [_row("conformal", variant, name, values, "seconds") for name, values in times.items()]


def set_rows(*, genes: int, readouts: int, repeats: int, seed: int) -> list[Row]:
    """Time the set beside the search, turn by turn.

    Args:
        genes: Number of genes; all their pairs are candidates.
        readouts: Number of readouts.
        repeats: How often.
        seed: Fixes the world.

    Returns:
        Seconds of the search and ratios of the sets to it.
    """
    fitted, space = world(genes, readouts, seed=seed)
    fold = fitted.cross[0]
    likelihood = TargetLikelihood(
        AlignedProfile.exact(range(readouts), fold.effects[0]), torch.zeros(genes, dtype=torch.float64)
    )
    best = search(likelihood, fitted, space, LISTED).top
    short, long = float(best.score[0] - best.score[3]), float(best.score[0] - best.score[-1]) * 1.2
    scan, ratio, longer, passes = [], [], [], []
    for _ in range(repeats):
        scan.append(_seconds(lambda: search(likelihood, fitted, space, _TOP)))
        ratio.append(_seconds(lambda: _set(likelihood, fitted, space, short)) / scan[-1])
        longer.append(_seconds(lambda: _set(likelihood, fitted, space, long)) / scan[-1])
        passes.append(
            _seconds(lambda: evidence(likelihood, fitted, space, peak=float(best.score[0]), cut=0.0)) / scan[-1]
        )
    variant = f"{space.size:,} pairs, {readouts} readouts"
    return [
        _row("search for the best 20", variant, "whole space", scan, "seconds"),
        _row("search and set", variant, "set on the list", ratio, "ratio_to_search"),
        _row("search and set", variant, "set longer than the list", longer, "ratio_to_search"),
        _row("normaliser", variant, "whole space", passes, "ratio_to_search"),
    ]


def _set(likelihood: TargetLikelihood, fitted: FittedCalibrated, space: CombinationSpace, gap: float) -> None:
    """Search and find the set of a gap; the held-out targets that would have led to this gap are made up."""
    listed = search(likelihood, fitted, space, LISTED).top
    gaps = torch.full((40,), gap, dtype=torch.float64)
    flat = torch.zeros(40, dtype=torch.float64)
    # All nearest candidates at a distance of zero: no rule makes smaller sets than the gap, which is kept.
    near = torch.zeros(40, 1, dtype=torch.float64)
    first = torch.zeros(40, dtype=torch.int64)
    found = Identification(gaps, flat + 1e9, flat + 1e9, flat, flat, flat, first, near, first)
    inverse_set(likelihood, fitted, space, listed, log_sum=0.0, found=found, level=0.9)


def _seconds(work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def _row(model: str, variant: str, part: str, values: list[float], metric: str) -> Row:
    middle, low, high = statistics.median(values), min(values), max(values)
    unit = "s" if metric == "seconds" else "1"
    return Row("conformal_cost", "simulated", model, part, variant, metric, middle, low, high, len(values), unit)


def main() -> None:
    """Measure, print the table, and write the rows."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--genes", type=int, default=10_000)
    parser.add_argument("--readouts", type=int, default=64)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--json", type=Path)
    asked = parser.parse_args()
    rows = interval_rows(readouts=2000, repeats=asked.repeats, seed=asked.seed)
    rows += set_rows(genes=asked.genes, readouts=asked.readouts, repeats=asked.repeats, seed=asked.seed)
    for row in rows:
        print(
            f"{row.variant:32}{row.model:24}{row.novelty:26}{row.metric:18}"
            f"{row.value:8.3f} [{row.low:.3f}, {row.high:.3f}]"
        )
    if asked.json:
        write_json(rows, asked.json)


if __name__ == "__main__":
    main()
