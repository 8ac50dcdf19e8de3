"""Do conformal intervals of one number hold across lines? Growth of gene pairs in Jurkat, from K562 and few pairs.

The transfer model learns from all pairs of K562 and 5 % of those of Jurkat (Horlbeck et al. 2018), as in
`contexts.py`. Of the other pairs of Jurkat 2,000 calibrate and 12,000 are judged, in 10 draws of both; the fit is
the same in all of them. Its posterior is equally wide for all pairs, so that errors in standard deviations are
errors: the normalised score is tried on an ensemble, each member of which has seen half of the pairs of each line.

A value is the mean over draws, with the 5-95 % range of the draws; the expected range is that of exchangeable
scores, for as many pairs as were judged. It is promised for all pairs of a novelty class. What is not promised
stands beside it: pairs that were and were not measured in K562, and the tenth of the judged pairs with the lowest
predicted growth, which a designer would choose; `above` is the share of pairs that grow better than their upper
bound, half of one minus coverage where misses are even.

Run: python -m benchmarks scalar_transfer --seed 0 --json scalar_transfer.json
"""

import argparse
import time
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import get_args

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from surrogates.contrib.contexts.transfer import Transfer
from surrogates.data.across import NOT_AN_ACTION, Actions
from surrogates.data.catalogue import open_dataset
from surrogates.data.novelty import novelty_code, novelty_name
from surrogates.data.screen import Screen
from surrogates.evaluation.intervals import Row, write_json
from surrogates.evaluation.metrics import expected_coverage
from surrogates.models.base import Fitted
from surrogates.models.wrappers.conformal import FittedConformal, Score
from surrogates.models.wrappers.ensemble import FittedEnsemble
from surrogates.uncertainty.conformal.quantiles import quantile_rank
from surrogates.uncertainty.posterior import Posterior, ScalarPosterior

LEVEL = 0.9
NOT_PROMISED = "(not promised) "
Key = tuple[str, str, str, str]


@dataclass(frozen=True)
class Plan:
    """Which pairs do what.

    Attributes:
        line: Whose pairs are predicted.
        other: Whose pairs are all known.
        share: Of the pairs of the line that are learnt from.
        members: Of the ensemble.
        calibration: How many pairs calibrate.
        judged: How many others are judged.
        draws: How often both are drawn.
    """

    line: str = "Jurkat"
    other: str = "K562"
    share: float = 0.05
    members: int = 4
    calibration: int = 2000
    judged: int = 12000
    draws: int = 10


@dataclass(frozen=True)
class Only:
    """The one readout of a screen, as an outcome."""

    name: str

    def predicted(self, posterior: Posterior) -> ScalarPosterior:
        """Take its column."""
        return ScalarPosterior(posterior.mean[:, 0], posterior.variance[:, 0])

    def measured(self, effects: Float[Tensor, "b g"]) -> Float[Tensor, "b"]:
        """Take its column."""
        return effects[:, 0]


def fits(
    screen: Screen, known: Int[Tensor, "n"], plan: Plan, *, seed: int
) -> dict[str, tuple[Fitted, tuple[Score, ...]]]:
    """Fit the model, and an ensemble of it on halves of the pairs.

    Args:
        screen: Two lines.
        known: Rows to learn from.
        plan: The line, and the members.
        seed: Fixes the halves.

    Returns:
        Models in the line by name, with the scores that differ for them.
    """
    whole = Transfer().fit(screen.rows(known), seed=seed).in_context(plan.line)
    generator = torch.Generator().manual_seed(seed)
    paired, members = screen.batch.order[known] == 2, []
    for _ in range(plan.members):
        kept = known[~paired | (torch.rand(len(known), generator=generator) < 0.5)]
        members.append(Transfer().fit(screen.rows(kept), seed=seed).in_context(plan.line))
    together = FittedEnsemble(tuple(members), whole.measured_alone)
    return {"transfer": (whole, ("absolute",)), f"{plan.members} transfers": (together, get_args(Score))}


def groups(
    screen: Screen, rows: Int[Tensor, "b"], fitted: Fitted, elsewhere: Actions
) -> dict[str, Bool[Tensor, "b"]]:
    """Tell pairs apart: all, by novelty class, by what is known elsewhere, and by their prediction."""
    batch = screen.batch.rows(rows)
    codes, known = novelty_code(batch, fitted.measured_alone), elsewhere.find(batch) != NOT_AN_ACTION
    mean = fitted.predict(batch).mean[:, 0]
    lowest = torch.zeros(len(rows), dtype=torch.bool)
    lowest[mean.argsort()[: len(rows) // 10]] = True
    classes = {novelty_name(code): codes == code for code in codes.unique().tolist()}
    beside = {"measured elsewhere": known, "not measured elsewhere": ~known, "lowest tenth by prediction": lowest}
    every = {"all pairs": torch.ones_like(known)}
    return every | classes | {NOT_PROMISED + name: mask for name, mask in beside.items() if bool(mask.any())}


def measure(screen: Screen, plan: Plan, *, seed: int) -> list[Row]:
    """Fit once, then calibrate and judge again and again.

    Args:
        screen: Two lines, one readout.
        plan: Which pairs do what.
        seed: Fixes all draws.

    Returns:
        Coverage, its expected range, the share above and the width, for each model, score and group.
    """
    (readout,), generator = screen.readouts, torch.Generator().manual_seed(seed)
    lines = {name: torch.tensor([each == name for each in screen.contexts]) for name in (plan.line, plan.other)}
    here = torch.nonzero(lines[plan.line] & (screen.batch.order == 2)).flatten()
    few, held = here[torch.randperm(len(here), generator=generator)].tensor_split((round(plan.share * len(here)),))
    learnt = torch.ones(len(screen), dtype=torch.bool)
    learnt[held] = False
    known, outcome = torch.nonzero(learnt).flatten(), Only(readout)
    models = fits(screen, known, plan, seed=seed)
    elsewhere = Actions(screen.batch.genes[lines[plan.other]])
    print(
        f"{len(known)} rows to learn from, {len(few)} of them pairs of {plan.line}; {len(held)} other pairs of it"
    )
    values: defaultdict[Key, list[float]] = defaultdict(list)
    for _ in range(plan.draws):
        drawn = held[torch.randperm(len(held), generator=generator)[: plan.calibration + plan.judged]]
        calibrating, judged = drawn.tensor_split((plan.calibration,))
        truth = outcome.measured(screen.effects[judged])
        for name, (fitted, scores) in models.items():
            masks = groups(screen, judged, fitted, elsewhere)
            for score in scores:
                calibrated = FittedConformal.split(fitted, screen.rows(calibrating), score=score)
                bounds = calibrated.scalar(outcome, screen.batch.rows(judged), LEVEL)
                above = (truth > bounds.upper).double()
                found = {"coverage": 1 - above - (truth < bounds.lower).double(), "above": above}
                found["width"] = bounds.upper - bounds.lower
                for group, mask in masks.items():
                    values[name, score, group, "judged"].append(float(mask.sum()))
                    for metric, each in found.items():
                        values[name, score, group, metric].append(float(each[mask].mean()))
    return rows_of(values, plan)


def rows_of(values: dict[Key, list[float]], plan: Plan) -> list[Row]:
    """Average over draws, and set the expected range beside the coverage of each draw."""
    rows, ends = [], torch.tensor([0.05, 0.95], dtype=torch.float64)
    for (model, score, group, metric), drawn in values.items():
        each = torch.tensor(drawn, dtype=torch.float64)
        judged = round(sum(values[model, score, group, "judged"]) / plan.draws)
        found = {metric: (float(each.mean()), *each.quantile(ends).tolist())} if metric != "judged" else {}
        if metric == "coverage":
            mean = quantile_rank(plan.calibration, LEVEL) / (plan.calibration + 1)
            expected = expected_coverage(plan.calibration, judged, LEVEL, probability=0.9)
            found["coverage_expected"] = (mean, *expected)
        for name, three in found.items():
            said, unit = f"{plan.line} from {plan.other}, {score}", "screen" if name == "width" else "1"
            rows.append(
                Row("scalar_transfer", "horlbeck2018_both", model, group, said, name, *three, judged, unit)
            )
    return rows


def show(rows: list[Row]) -> None:
    """Print a table: models and groups by coverage, range and width."""
    metrics = ("coverage", "coverage_expected", "above", "width")
    found = {(row.model, row.variant, row.novelty, row.metric): row for row in rows}
    print(f"{'':84}{'judged':8}" + "".join(f"{metric:24}" for metric in metrics))
    for model, variant, group in dict.fromkeys((row.model, row.variant, row.novelty) for row in rows):
        cells = [found[model, variant, group, metric] for metric in metrics]
        texts = [f"{f'{each.value:.3f} [{each.low:.3f}, {each.high:.3f}]':24}" for each in cells]
        print(f"{f'{model}, {variant}':42}{group:42}{cells[0].n:<8}" + "".join(texts).rstrip())


def main() -> None:
    """Measure, print the table, and write the rows."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--draws", type=int, default=Plan.draws)
    parser.add_argument("--json", type=Path)
    asked = parser.parse_args()
    began = time.perf_counter()
    rows = measure(open_dataset("horlbeck2018_both"), Plan(draws=asked.draws), seed=asked.seed)
    show(rows)
    print(f"\n{time.perf_counter() - began:.0f} s")
    if asked.json:
        write_json(rows, asked.json)


if __name__ == "__main__":
    main()
