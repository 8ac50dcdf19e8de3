"""Does a model keep what its cross-validation promises? Simulated screens of several families with known truth.

For every screen the doubles are held out in five outer folds. Inside the training data of a fold the model finds
how probable held-out truths are (promised); outside it is seen how probable they are (kept). The difference of the
mean log probabilities (difference), and how much less probable truths are than promised (lost), are given in
dyadic standard errors, which know that doubles share genes.

Models: additive effects with the likelihood, the default, and the default as it once was (leaky): the law that
identifies a fold was learnt from residuals of models trained on that fold, and the surrogate of the best score
named alone.

More may be kept than promised: the models that make a promise, and the laws that they are judged by, are learnt
from fewer doubles than what keeps it. Where doubles teach much, that shows; what must not be is that less is kept.

The unit is the screen: values are averages over screens, with bootstrap intervals.

Run: python -m benchmarks promise --screens 10 --json promise.json
"""

import argparse
import math
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from itertools import combinations
from multiprocessing import get_context
from pathlib import Path

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from benchmarks.forward.promise_card import Model, measure_promise
from benchmarks.forward.worlds import FAMILIES, ComplexFamily
from inverse_design.validate.judged import AGREE
from surrogates.data.novelty import SEEN_DOUBLE, novelty_name
from surrogates.data.screen import Screen
from surrogates.data.vocabulary import PerturbationBatch, Vocabulary
from surrogates.evaluation.intervals import Row, bootstrap_interval, write_json
from surrogates.models.base import Fitted, Surrogate
from surrogates.models.baselines import Additive
from surrogates.models.wrappers.automatic import Automatic
from surrogates.models.wrappers.calibrated import Calibrated, FittedCalibrated
from surrogates.models.wrappers.cross_fitting import CrossFits
from surrogates.uncertainty.posterior import Posterior


@dataclass(frozen=True)
class TrainedOnTheOther:
    """Stands for a fit that saw neither of two folds: predicts each by the fit without it, which saw the other.

    Attributes:
        without_first: Fit to all but the first fold.
        without_second: Fit to all but the second.
        first: The perturbations of the first.
    """

    without_first: Fitted
    without_second: Fitted
    first: PerturbationBatch

    @property
    def vocabulary(self) -> Vocabulary:
        """What the ids of a batch mean."""
        return self.without_first.vocabulary

    @property
    def readouts(self) -> tuple[str, ...]:
        """Names of the readouts."""
        return self.without_first.readouts

    @property
    def measured_alone(self) -> Bool[Tensor, "v"]:
        """Whether each entry was measured alone."""
        return self.without_first.measured_alone

    def predict(self, batch: PerturbationBatch) -> Posterior:
        """Predict one of the two folds.

        Args:
            batch: All of its perturbations.

        Returns:
            What the fit without them predicts.
        """
        is_first = torch.equal(batch.genes, self.first.genes)
        return (self.without_first if is_first else self.without_second).predict(batch)


@dataclass(frozen=True)
class Leaky:
    """Learns error laws as before they were nested, and takes the surrogate with the best score.

    The law that identifies a fold is learnt from residuals of models that were trained on that fold.

    Attributes:
        bases: The surrogates.
    """

    bases: tuple[Surrogate, ...]

    def fit(self, screen: Screen, *, seed: int) -> FittedCalibrated:
        """Fit all surrogates.

        Args:
            screen: Measured effects in one context, with doubles.
            seed: Fixes folds and candidates.

        Returns:
            The one that scores best.
        """
        fits = [leaky(base, screen, seed=seed) for base in self.bases]
        return max(fits, key=lambda fit: fit.selection.log_score if fit.selection else -math.inf)


def leaky(base: Surrogate, screen: Screen, *, seed: int) -> FittedCalibrated:
    """Fit one surrogate, and learn its laws from residuals of models that were trained on the fold to be judged.

    Args:
        base: The surrogate.
        screen: Measured effects in one context, with doubles.
        seed: Fixes folds and candidates.

    Returns:
        The fitted surrogate with those laws.
    """
    whole = Calibrated(base)
    tests = whole.tests(screen, seed=seed)
    parts = whole.parts(screen, seed=seed)[: len(tests) + 1]
    everything, *without = [base.fit(screen.rows(each), seed=seed) for each in parts]
    together = [
        TrainedOnTheOther(without[one], without[other], tests[one][0])
        for one, other in combinations(range(len(tests)), 2)
    ]
    (fits,) = CrossFits.several([(each,) for each in (everything, *without, *together)], tests)
    return whole.learn(screen, fits, seed=seed)()


MODELS: Mapping[str, Model] = {
    "additive": Calibrated(Additive()),
    "default": Automatic(),
    "default, leaky": Leaky(Automatic().bases),
}
_IDENTIFIED = ("top1", "top10", "covered", "set_size", "unreachable")
COLUMNS = ("promised", "kept", "difference", "agree", "lost", *_IDENTIFIED, "seconds")


def measure(task: tuple[str, int], *, models: Sequence[str], readouts: int | None) -> list[Row]:
    """Measure all models on one screen.

    Args:
        task: Family and seed.
        models: Names of :data:`MODELS`.
        readouts: Of a screen of the family ``complex``, or as many as it has by default.

    Returns:
        One row per model and number.
    """
    torch.set_num_threads(1)
    name, seed = task
    family = FAMILIES[name]
    if readouts is not None and isinstance(family, ComplexFamily):
        family = replace(family, readouts=readouts)
    screen = family.draw(seed=seed)
    rows = []
    for model in models:
        began = time.process_time()
        card = measure_promise(screen, MODELS[model], seed=seed)
        kept = card.kept
        found = {
            "promised": (kept.promised, math.nan, "nats"),
            "kept": (kept.kept, math.nan, "nats"),
            "difference": (kept.difference, math.nan, "standard errors"),
            "lost": (card.lost, math.nan, "standard errors"),
            **{metric: (*value, "share") for metric, value in card.shares.items()},
            "set_size": (card.set_size, math.nan, "candidates"),
            "seconds": (time.process_time() - began, math.nan, "CPU seconds"),
        }
        place = ("promise", name, model, novelty_name(SEEN_DOUBLE), f"seed {seed}")
        rows += [
            Row(*place, metric, value, math.nan, math.nan, kept.n, unit, error)
            for metric, (value, error, unit) in found.items()
        ]
    return rows


def averages(rows: Sequence[Row], *, seed: int = 0) -> list[Row]:
    """Average over screens.

    Args:
        rows: Of all screens.
        seed: Fixes the bootstrap.

    Returns:
        One row per family, model and number, and as ``agree`` the share of screens on which what was promised and
        what was kept are within 2.5 standard errors.
    """
    values: dict[tuple[str, str, str, str], list[float]] = {}
    for row in rows:
        values.setdefault((row.dataset, row.model, row.metric, row.unit), []).append(row.value)
        if row.metric == "difference":
            agree = float(abs(row.value) <= AGREE)
            values.setdefault((row.dataset, row.model, "agree", "share"), []).append(agree)
    found = []
    for (family, model, metric, unit), numbers in values.items():
        each = torch.tensor(numbers, dtype=torch.float64)
        low, high = bootstrap_interval(partial(_mean, each), len(each), seed=seed)
        place = ("promise", family, model, novelty_name(SEEN_DOUBLE), "all screens", metric)
        found.append(Row(*place, float(each.nanmean()), low, high, len(each), unit))
    return found


def _mean(values: Float[Tensor, "n"], drawn: Int[Tensor, "m n"]) -> Float[Tensor, "m"]:
    return values[drawn].nanmean(1)


def table(rows: Sequence[Row]) -> str:
    """Lay averages out, a line per family and model.

    Args:
        rows: From :func:`averages`.

    Returns:
        The table.
    """
    lines = [f"{'':12}{'':16}" + "".join(f"{column:>12}" for column in COLUMNS)]
    for family, model in dict.fromkeys((row.dataset, row.model) for row in rows):
        value = {row.metric: row.value for row in rows if (row.dataset, row.model) == (family, model)}
        lines.append(f"{family:12}{model:16}" + "".join(f"{value[column]:12.3f}" for column in COLUMNS))
    return "\n".join(lines)


def main() -> None:
    """Measure, print the table, and write the rows."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--families", nargs="+", choices=FAMILIES, default=list(FAMILIES))
    parser.add_argument("--models", nargs="+", choices=MODELS, default=list(MODELS))
    parser.add_argument("--readouts", type=int, help="of the family complex")
    parser.add_argument("--first", type=int, default=0, help="seed of the first screen")
    parser.add_argument("--screens", type=int, default=10)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--json", type=Path)
    asked = parser.parse_args()
    began = time.perf_counter()
    seeds = range(asked.first, asked.first + asked.screens)
    tasks = [(family, seed) for family in asked.families for seed in seeds]
    work = partial(measure, models=asked.models, readouts=asked.readouts)
    with ProcessPoolExecutor(asked.workers, mp_context=get_context("spawn")) as pool:
        rows = [row for found in pool.map(work, tasks) for row in found]
    print(table(averages(rows)))
    print(f"\n{asked.screens} screens of each family, {time.perf_counter() - began:.0f} s")
    if asked.json:
        write_json([*averages(rows), *rows], asked.json)


if __name__ == "__main__":
    main()
