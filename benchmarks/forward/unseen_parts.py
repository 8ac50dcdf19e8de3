"""Does the mix for perturbations with unseen parts beat its best member, and do its intervals hold?

Five folds over the targets of a screen. The default's mix is fitted without a fold, and predicts what the fold
holds out: singles of unseen targets, and doubles with one or two unseen parts. Its squared error is divided by
that of the member that is best on all of these together, which nobody knows beforehand; intervals draw genes. The
last columns say how often its conformal intervals hold single readouts, all readouts at once, and the distance to
another of the held-out conditions.

Run: python -m benchmarks unseen_parts --screens cellbox_skmel133,norman_dense,laufer_part,few_complex,saturating
"""

import argparse
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from itertools import chain
from pathlib import Path

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from benchmarks.forward.worlds import FAMILIES, ComplexFamily
from inverse_design.problem.objective import Distance
from inverse_design.problem.target import ProfileTarget
from surrogates.data.catalogue import open_dataset
from surrogates.data.novelty import Split, novelty_code, novelty_name, splits_over_targets
from surrogates.data.screen import Screen
from surrogates.errors import CalibrationError
from surrogates.evaluation.intervals import NodeBootstrap, Row, ratio_of_sums, write_json
from surrogates.models.base import Surrogate, surrogate_name
from surrogates.models.baselines import ScaledAdditive
from surrogates.models.wrappers.automatic import Automatic, with_unseen
from surrogates.models.wrappers.calibrated import Calibrated, FittedCalibrated
from surrogates.models.wrappers.conformal import conformal
from surrogates.models.wrappers.stacked import FittedStacked

LEVEL = 0.9


def of_entries(screen: Screen, entries: set[int]) -> Screen:
    """Keep the conditions of some entries.

    Args:
        screen: Any screen.
        entries: Numbers of the vocabulary.

    Returns:
        The conditions of which every part is among them.
    """
    kept = [row for row, genes in enumerate(screen.batch.genes.tolist()) if {*genes} - {-1} <= entries]
    return screen.rows(kept)


def densest(screen: Screen, genes: int) -> Screen:
    """Drop the entry with the fewest doubles until few are left.

    Args:
        screen: Any screen.
        genes: How many to keep.

    Returns:
        The screen of those.
    """
    kept = set(torch.nonzero(screen.single_rows >= 0).flatten().tolist())
    pairs = [{*row} - {-1} for row in screen.batch.genes.tolist()]
    while len(kept) > genes:
        doubles = [pair for pair in pairs if len(pair) == 2 and pair <= kept]
        degree = {entry: sum(entry in pair for pair in doubles) for entry in sorted(kept)}
        kept.remove(min(degree, key=lambda entry: degree[entry]))
    return of_entries(screen, kept)


def random_part(screen: Screen, genes: int) -> Screen:
    """Keep the conditions of random entries.

    Args:
        screen: Any screen.
        genes: How many.

    Returns:
        The screen of those.
    """
    order = torch.randperm(len(screen.single_rows), generator=torch.Generator().manual_seed(0))
    return of_entries(screen, {*order[:genes].tolist()})


SCREENS: Mapping[str, Callable[[], Screen]] = {
    "norman2019_expr": lambda: open_dataset("norman2019_expr"),
    "norman_dense": lambda: densest(open_dataset("norman2019_expr"), 28),
    "cellbox_skmel133": lambda: open_dataset("cellbox_skmel133"),
    "laufer_part": lambda: random_part(open_dataset("laufer2013"), 40),
    "growth_part": lambda: random_part(open_dataset("horlbeck2018_k562"), 40),
    "few_complex": lambda: ComplexFamily(readouts=200, genes=12, doubles=30, noise=0.3).draw(seed=0),
    **{name: partial(family.draw, seed=0) for name, family in FAMILIES.items()},
}


@dataclass(frozen=True)
class HeldOut:
    """What a fit without a fold of targets makes of it.

    Attributes:
        genes: Parts of each held-out condition.
        codes: Its novelty class.
        errors: Squared error of the mix, then of each member.
        held: Share of readouts, whether all, and whether the distance is within 90 % bounds; ``nan`` if unknown.
    """

    genes: Int[Tensor, "n k"]
    codes: Int[Tensor, "n"]
    errors: Float[Tensor, "m n"]
    held: Float[Tensor, "3 n"]


def hold_out(screen: Screen, split: Split, members: tuple[Surrogate, ...], *, seed: int) -> HeldOut:
    """Fit the mix without a fold, and predict it.

    Args:
        screen: Measured effects in one context.
        split: The fold.
        members: Of the mix.
        seed: Fixes fits and inner folds.

    Returns:
        How it did; nothing of classes that the training part could not hold out.
    """
    training = screen.rows(split.train)
    fitted = with_unseen(Calibrated(ScaledAdditive()).fit(training, seed=seed), members, training, seed=seed)
    base = fitted.base
    own = {each.code for each in base.unseen} if isinstance(base, FittedStacked) else set()
    codes = novelty_code(screen.batch.rows(split.test), fitted.measured_alone)
    kept = torch.isin(codes, torch.tensor(sorted(own), dtype=torch.int64))
    rows, codes = split.test[kept], codes[kept]
    batch, effects = screen.batch.rows(rows), screen.effects[rows]
    parts = base.members[1:] if isinstance(base, FittedStacked) else ()
    means = [each.predict(batch).mean for each in (fitted, *parts)]
    errors = torch.stack([(effects - mean).square().sum(1) for mean in means])
    return HeldOut(batch.genes, codes, errors, _held(fitted, screen, rows, codes))


def _held(
    fitted: FittedCalibrated, screen: Screen, rows: Int[Tensor, "n"], codes: Int[Tensor, "n"]
) -> Float[Tensor, "3 n"]:
    found = torch.full((3, len(rows)), torch.nan, dtype=torch.float64)
    calibrated = conformal(fitted)
    for code in codes.unique().tolist():
        some = torch.nonzero(codes == code).flatten()
        batch, effects = screen.batch.rows(rows[some]), screen.effects[rows[some]]
        target = ProfileTarget("another", screen.readouts, screen.effects[rows[some[-1]]])
        outcome = Distance(target.on(screen.readouts))
        try:
            each, all_at_once = calibrated.interval(batch, LEVEL), calibrated.band(batch, LEVEL)
            far, shown = calibrated.scalar(outcome, batch, LEVEL), outcome.measured(effects)
        except CalibrationError:
            continue
        found[0, some] = ((each.lower <= effects) & (effects <= each.upper)).double().mean(1)
        found[1, some] = ((all_at_once.lower <= effects) & (effects <= all_at_once.upper)).all(1).double()
        within: Bool[Tensor, n] = (far.lower <= shown) & (shown <= far.upper)
        # The target itself is at no distance: no bounds are asked for it.
        found[2, some] = torch.where(shown > 0, within.double(), torch.nan)
    return found


def measure(name: str, screen: Screen, *, seed: int) -> list[Row]:
    """Compare the mix with its members on every class that was held out.

    Args:
        name: Of the screen.
        screen: Measured effects in one context.
        seed: Fixes folds, fits and draws.

    Returns:
        For each class the best member's error relative to no change, the mix's relative to the best member's, and
        the shares that its 90 % bounds hold.
    """
    default = Automatic()
    members = (*default.unseen, *default.bases)
    folds = [
        hold_out(screen, split, members, seed=seed) for split in splits_over_targets(screen, folds=5, seed=seed)
    ]
    genes, codes = torch.cat([each.genes for each in folds]), torch.cat([each.codes for each in folds])
    errors = torch.cat([each.errors for each in folds], 1)
    held = torch.cat([each.held for each in folds], 1)
    rows = []
    for code in codes.unique().tolist():
        own = codes == code
        mix, singles = errors[0, own], errors[1:, own]
        best = int(singles.sum(1).argmin())
        draws = NodeBootstrap.of(genes[own], seed=seed)
        statistics = {
            "best_to_no_change": ratio_of_sums(singles[best], singles[0]),
            "mix_to_best": ratio_of_sums(mix, singles[best]),
        }
        intervals = {metric: (float(of(torch.arange(len(mix))[None])), of) for metric, of in statistics.items()}
        names = ("readouts_held", "band_held", "distance_held")
        values = {
            metric: (float(share[own].nanmean()), share[own]) for metric, share in zip(names, held, strict=True)
        }
        for metric, (value, of) in chain(intervals.items(), values.items()):
            low, high = draws.interval(of)
            unit = "ratio" if metric in statistics else "share"
            model = surrogate_name(members[best]) if metric == "best_to_no_change" else "mix"
            row = ("unseen_parts", name, model, novelty_name(code), "all_readouts", metric, value, low, high)
            rows.append(Row(*row, len(mix), unit))
    return rows


def show(rows: list[Row]) -> None:
    """Print one line per class.

    Args:
        rows: Of one screen.
    """
    for novelty in dict.fromkeys(row.novelty for row in rows):
        of = {row.metric: row for row in rows if row.novelty == novelty}
        best, mix = of["best_to_no_change"], of["mix_to_best"]
        shares = " ".join(f"{of[name].value:6.3f}" for name in ("readouts_held", "band_held", "distance_held"))
        print(
            f"{best.dataset:18}{novelty:22}{best.n:5} {best.model:26}{best.value:7.3f}"
            f"{mix.value:8.3f} [{mix.low:.3f}, {mix.high:.3f}]  {shares}",
            flush=True,
        )


def main() -> None:
    """Measure, print the table, and write the rows."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--screens", default=",".join(SCREENS))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    print(
        f"{'screen':18}{'class':22}{'n':>5} {'best member':26}{'error':>7}{'mix/best':>8}{'95 %':>17}"
        "   90 % bounds: readouts, band, distance"
    )
    rows = []
    for name in arguments.screens.split(","):
        found = measure(name, SCREENS[name](), seed=arguments.seed)
        show(found)
        rows += found
    if arguments.json:
        write_json(rows, arguments.json)


if __name__ == "__main__":
    main()
