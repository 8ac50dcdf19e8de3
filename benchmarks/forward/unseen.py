"""How well are targets predicted that were never perturbed? Five folds over the single genes of a screen.

Doubles that contain a held-out gene are held out too. Every model is compared, in pairs over held-out genes, with
no change, the mean of all training effects, and the mean single effect. Nothing of a model is chosen on the
held-out genes: weights, noise and trust are learned inside each training set.

Run: python -m benchmarks unseen --seed 0 --json unseen.json
"""

import argparse
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from surrogates.contrib.descriptor_learners import Bilinear, GradientBoosting, RandomForest
from surrogates.contrib.embedded.gears import Gears
from surrogates.contrib.embedded.sclambda import ScLambda
from surrogates.contrib.regulation.cell_oracle import CellOracle, Propagation
from surrogates.data.catalogue import open_dataset
from surrogates.data.descriptors import Descriptors, gene_descriptors
from surrogates.data.novelty import single_splits
from surrogates.data.screen import Screen
from surrogates.evaluation.intervals import Row, bootstrap_interval, median, ratio_of_sums, write_json
from surrogates.evaluation.metrics import pearson_rows, squared_errors
from surrogates.models.base import Surrogate
from surrogates.models.baselines import Additive, FittedScaledAdditive, NoChange, PerturbationMean
from surrogates.models.entries import MeasuredEntries
from surrogates.models.kernel import KernelRidge

REFERENCES: Mapping[str, Surrogate] = {
    "no_change": NoChange(),
    "perturbation_mean": PerturbationMean(),
    "mean_single": Additive(),
}


@dataclass(frozen=True)
class OracleAlone:
    """What the network passes on and nothing else, as published: no mean effect, and no trust."""

    def fit(self, screen: Screen, *, seed: int) -> FittedScaledAdditive:
        """Predict entries never measured by shifts alone."""
        entries = MeasuredEntries.of(screen)
        learner = Propagation.of(CellOracle(), entries, seed=seed)
        prior, departures = entries.departures(entries.train)
        rows = learner(entries.train, departures).departures
        acting = torch.nonzero(entries.own >= 0).flatten()
        rows[acting, entries.own[acting]] = prior[acting, entries.own[acting]]
        rows[entries.train] = entries.additive.table[entries.train]
        return replace(entries.additive, singles=rows)


def growth_profiles() -> Descriptors:
    """Describe genes by their genetic interactions in another screen, of growth: an example of a user's table.

    Returns:
        For each gene of the fitness screen what its pairs with the others do beyond the sum of both genes' means.
    """
    screen = open_dataset("norman2019_fitness")
    size = len(screen.vocabulary)
    pairs = screen.batch.order == 2
    i, j = screen.batch.genes[pairs, :2].T.numpy()
    table = np.full((size, size), np.nan)
    table[i, j] = table[j, i] = screen.effects[pairs, 0].numpy()
    means = np.nanmean(table, axis=1)
    profiles = np.nan_to_num(table - means[:, None] - means + np.nanmean(table))
    symbols = pd.Index(screen.vocabulary.targets)
    return Descriptors.from_table(pd.DataFrame(profiles, index=symbols), name="growth", kernel="cosine")


def models(screen: Screen) -> dict[str, Surrogate]:
    """List what is measured.

    Args:
        screen: Whose genes are to be described.

    Returns:
        Configurations by name.
    """
    shipped = gene_descriptors(screen.vocabulary.targets)
    growth = growth_profiles()
    return {
        **REFERENCES,
        "prior": KernelRidge(descriptors=()),
        **{f"kernel[{each.name}]": KernelRidge(descriptors=(each,)) for each in shipped},
        "kernel[loadings]": KernelRidge(descriptors=(), loadings=20),
        "kernel": KernelRidge(),
        "forest": RandomForest(),
        "gears": Gears(),
        "sclambda": ScLambda(),
        "sclambda[growth]": ScLambda(descriptors=(growth,)),
        "boosting": GradientBoosting(),
        "bilinear": Bilinear(),
        "bilinear[descriptors]": Bilinear(descriptors=shipped),
        "cell_oracle": CellOracle(),
        "cell_oracle, alone": OracleAlone(),
        # Another screen of the same genes, of growth: no expression in it, but more than a public table says.
        "kernel[growth]": KernelRidge(descriptors=(growth,)),
        "kernel+growth": KernelRidge(descriptors=(*shipped, growth)),
        "forest+growth": RandomForest(descriptors=(*shipped, growth)),
    }


def measure(screen: Screen, surrogates: Mapping[str, Surrogate], *, seed: int) -> list[Row]:
    """Predict every single gene by models that have not seen it.

    Args:
        screen: Measured effects in one context.
        surrogates: By name, the references among them.
        seed: Fixes folds, fits and bootstrap.

    Returns:
        Four rows per model: error relative to each reference, and the median correlation.
    """
    splits = [*single_splits(screen, seed=seed)]
    truth = screen.effects[torch.cat([split.test for split in splits])]
    n, dataset = len(truth), screen.provenance["dataset"]
    predictions = {}
    for name, model in surrogates.items():
        start = time.perf_counter()
        fitted = [model.fit(screen.rows(split.train), seed=seed) for split in splits]
        pairs = zip(fitted, splits, strict=True)
        predictions[name] = torch.cat([each.predict(screen.batch.rows(split.test)).mean for each, split in pairs])
        trust = [f"{each.trust:.2f}" for each in fitted if hasattr(each, "trust")]
        print(f"{name}: {(time.perf_counter() - start) / len(splits):.1f} s a fit", *trust)
    rows = []
    for name, prediction in predictions.items():
        error = squared_errors(prediction, truth)
        statistics = {
            f"mse_ratio_to_{reference}": ratio_of_sums(error, squared_errors(predictions[reference], truth))
            for reference in REFERENCES
        }
        statistics["pearson_median"] = median(pearson_rows(prediction, truth))
        for metric, statistic in statistics.items():
            value = float(statistic(torch.arange(n)[None]))
            low, high = bootstrap_interval(statistic, n, seed=seed)
            unit = "correlation" if metric == "pearson_median" else "ratio"
            rows.append(
                Row("unseen", dataset, name, "single, unseen", "all_readouts", metric, value, low, high, n, unit)
            )
    return rows


def main() -> None:
    """Measure, print the table, and write the rows."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    screen = open_dataset("norman2019_expr")
    rows = measure(screen, models(screen), seed=arguments.seed)
    metrics = list(dict.fromkeys(row.metric for row in rows))
    print(f"{'model':24}", *(f"{metric.removeprefix('mse_ratio_'):>24}" for metric in metrics))
    for name in dict.fromkeys(row.model for row in rows):
        cells = [f"{row.value:.3f} [{row.low:.3f}, {row.high:.3f}]" for row in rows if row.model == name]
        print(f"{name:24}", *(f"{cell:>24}" for cell in cells))
    if arguments.json:
        write_json(rows, arguments.json)


if __name__ == "__main__":
    main()
