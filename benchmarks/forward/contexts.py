"""Measures models of several contexts on held-out cells of three screens.

``growth``: pairs of one line from the pairs of the other and 5 % of its own. ``lines``: knock-downs in three
glioma lines, each held out in one line at a time. ``synergy``: drug pairs, a fifth of the cells at a time.
"""

import argparse
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from jaxtyping import Float, Int
from torch import Tensor

from surrogates.contrib.contexts.large_perturbation import LargePerturbation
from surrogates.contrib.contexts.transfer import Transfer
from surrogates.contrib.contexts.two_way import ContextMean, SyntheticInterventions, TwoFactor, TwoWay
from surrogates.data.catalogue import open_dataset
from surrogates.data.novelty import fold_numbers
from surrogates.data.screen import Screen
from surrogates.evaluation.intervals import Row, bootstrap_interval, median, ratio_of_sums, write_json
from surrogates.evaluation.metrics import pearson_rows, squared_errors
from surrogates.models.base import ContextSurrogate, sum_over_interventions

ACROSS: dict[str, ContextSurrogate] = {
    "context mean": ContextMean(),
    "two-factor": TwoFactor(),
    "two-way": TwoWay(),
    "synthetic interventions": SyntheticInterventions(),
    "large perturbation": LargePerturbation(),
}
SHARE = 0.05


@dataclass(frozen=True)
class Judge:
    """Turns predictions of the same cells into rows.

    Attributes:
        dataset: Name of the screen.
        variant: Which cells.
        truth: Measured effects of the cells.
        cluster: Number of the unit of the bootstrap that each cell belongs to.
        seed: Fixes the bootstrap.
    """

    dataset: str
    variant: str
    truth: Float[Tensor, "b g"]
    cluster: Int[Tensor, "b"]
    seed: int

    def row(self, model: str, metric: str, value: float, interval: tuple[float, float]) -> Row:
        """Make a row."""
        row = Row(
            "contexts",
            self.dataset,
            model,
            "held-out cell",
            self.variant,
            metric,
            value,
            *interval,
            len(self.truth),
            "1",
        )
        print(f"{self.variant:26} {model:30} {metric:42} {value:8.4f} [{interval[0]:8.4f}, {interval[1]:8.4f}]")
        return row

    def ratio(self, model: str, metric: str, one: Float[Tensor, "b g"], other: Float[Tensor, "b g"]) -> Row:
        """Compare the squared errors of two predictions, resampling clusters."""
        sums = [
            torch.zeros(int(self.cluster.max()) + 1, dtype=torch.float64).index_add(
                0, self.cluster, squared_errors(each, self.truth)
            )
            for each in (one, other)
        ]
        interval = bootstrap_interval(ratio_of_sums(sums[0], sums[1]), len(sums[0]), seed=self.seed, n_boot=1000)
        return self.row(model, metric, float(sums[0].sum() / sums[1].sum()), interval)

    def table(self, predictions: dict[str, Float[Tensor, "b g"]]) -> Iterator[Row]:
        """Compare every model with no change, with the two-factor model, and with the mean of the context."""
        for name, each in predictions.items():
            yield self.ratio(name, "squared error / no change", each, torch.zeros_like(each))
            for other in ("two-factor", "context mean"):
                yield self.ratio(name, f"squared error / {other}", each, predictions[other])
            if self.truth.shape[1] > 1:
                pearson = pearson_rows(each, self.truth)
                interval = bootstrap_interval(median(pearson), len(pearson), seed=self.seed, n_boot=1000)
                yield self.row(name, "median Pearson", float(pearson.nanquantile(0.5)), interval)


def growth(seed: int, draws: int) -> Iterator[Row]:
    """Held-out pairs of one line from the other line and few pairs."""
    screen = open_dataset("horlbeck2018_both")
    for line, other in (("Jurkat", "K562"), ("K562", "Jurkat")):
        here = torch.tensor([context == line for context in screen.contexts]) & (screen.batch.order == 2)
        pairs = torch.nonzero(here).flatten()
        for draw in range(seed, seed + draws):
            order = torch.randperm(len(pairs), generator=torch.Generator().manual_seed(draw))
            count = round(SHARE * len(pairs))
            yield from _growth_of(
                screen, pairs[order[:count]], pairs[order[count:]], line=line, other=other, seed=draw
            )


def _growth_of(
    screen: Screen, few: Int[Tensor, "m"], held: Int[Tensor, "b"], *, line: str, other: str, seed: int
) -> Iterator[Row]:
    keep = torch.ones(len(screen), dtype=torch.bool)
    keep[held] = False
    train, batch, truth = screen.rows(torch.nonzero(keep).flatten()), screen.batch.rows(held), screen.effects[held]
    alone = torch.tensor([context == other for context in train.contexts]) & (train.batch.order == 2)
    predictions = _from_singles(screen.in_context(line), screen, few, held)
    for name in [each for each in ACROSS if each != "large perturbation"]:  # trains for minutes
        predictions[name] = ACROSS[name].fit(train, seed=seed).in_context(line).predict(batch).mean
    without = train.rows(torch.nonzero(~alone).flatten())
    own = f"transfer without {other} pairs"
    predictions[own] = Transfer().fit(without, seed=seed).in_context(line).predict(batch).mean
    predictions["transfer"] = Transfer().fit(train, seed=seed).in_context(line).predict(batch).mean
    judge = Judge("horlbeck2018_both", f"{line} from {other}, {seed}", truth, torch.arange(len(held)), seed)
    spread = truth.mean().expand_as(truth)
    for name, each in predictions.items():
        inverse = _gene_ratio(screen, held, each, spread, truth, seed=seed)
        value = 1 - float((each - truth).square().sum() / (spread - truth).square().sum())
        yield judge.row(name, "R2 (interval over genes)", value, (1 - inverse[1], 1 - inverse[0]))
    for name in [each for each in predictions if each != "transfer"]:
        metric = f"squared error of transfer / {name}"
        row = judge.ratio("transfer", metric, predictions["transfer"], predictions[name])
        yield row
        interval = _gene_ratio(screen, held, predictions["transfer"], predictions[name], truth, seed=seed)
        yield judge.row("transfer", f"{metric}, over genes", row.value, interval)


def _from_singles(
    own: Screen, screen: Screen, few: Int[Tensor, "m"], held: Int[Tensor, "b"]
) -> dict[str, Float[Tensor, "b g"]]:
    """Predict from the single effects of the line: their sum, and a quadratic in it fitted to the few pairs."""
    singles = own.effects[own.single_rows] * (own.single_rows >= 0)[:, None]
    sums = [sum_over_interventions(singles, screen.batch.rows(rows))[:, 0] for rows in (few, held)]
    terms = [torch.stack([torch.ones_like(each), each, each.square()], dim=1) for each in sums]
    found: Tensor = torch.linalg.lstsq(terms[0], screen.effects[few]).solution
    return {"additive": sums[1][:, None], "quadratic in the sum": terms[1] @ found}


def _gene_ratio(
    screen: Screen,
    held: Int[Tensor, "b"],
    one: Float[Tensor, "b g"],
    other: Float[Tensor, "b g"],
    truth: Float[Tensor, "b g"],
    *,
    seed: int,
) -> tuple[float, float]:
    """Bound a ratio of errors when genes are resampled: the count of a pair is the product of its genes'."""
    size = len(screen.vocabulary)
    i, j = screen.batch.genes[held].T
    grids = []
    for prediction in (one, other):
        grid = torch.zeros(size, size, dtype=torch.float64)
        grid[i, j] = squared_errors(prediction, truth)
        grids.append(grid)

    def statistic(drawn: Int[Tensor, "m n"]) -> Float[Tensor, "m"]:
        count = torch.zeros(len(drawn), size, dtype=torch.float64)
        count.scatter_add_(1, drawn, torch.ones_like(drawn, dtype=torch.float64))
        above, below = (((count @ grid) * count).sum(1) for grid in grids)
        return above / below

    return bootstrap_interval(statistic, size, seed=seed, n_boot=1000)


def lines(seed: int) -> Iterator[Row]:
    """Knock-downs in three lines, each held out in one line while the others keep it."""
    screen = open_dataset("perturbseq_cells_crispri")
    contexts = sorted(set(screen.contexts))
    row = torch.tensor([contexts.index(each) for each in screen.contexts])
    entry = screen.batch.genes[:, 0]
    # Fold f holds out another knock-down in each line.
    fold = (entry + 3 * row) % len(screen.vocabulary)
    judge = Judge("perturbseq_cells_crispri", "glioma lines", screen.effects, entry, seed)
    if screen.standard_errors is not None:
        noise = float(screen.standard_errors.square().sum() / screen.effects.square().sum())
        # The error of a line's control is in all of its effects: whoever knows the other effects predicts it.
        print(f"squared standard errors / squared effects: {noise:.3f}, including the error shared within a line")
    yield from judge.table(_cross_fitted(screen, fold, seed))


def synergy(seed: int) -> Iterator[Row]:
    """Drug pairs in 31 lines, a fifth of the cells held out at a time."""
    screen = open_dataset("oneil2016_synergy")
    labels = sorted(set(screen.labels))
    cluster = torch.tensor([labels.index(label) for label in screen.labels])
    judge = Judge("oneil2016_synergy", "drug pairs x lines", screen.effects, cluster, seed)
    predictions = _cross_fitted(screen, fold_numbers(screen.places, folds=5, seed=seed), seed)
    for name, each in predictions.items():
        together = torch.cat([each, screen.effects], dim=1).T
        value = float(torch.corrcoef(together)[0, 1])
        yield judge.row(name, "Pearson over cells", value, (float("nan"), float("nan")))
    yield from judge.table(predictions)


def _cross_fitted(screen: Screen, fold: Int[Tensor, "n"], seed: int) -> dict[str, Float[Tensor, "n g"]]:
    predictions = {name: torch.zeros_like(screen.effects) for name in ACROSS}
    for each in torch.unique(fold).tolist():
        train = screen.rows(torch.nonzero(fold != each).flatten())
        for name, model in ACROSS.items():
            fitted = model.fit(train, seed=seed)
            for row in torch.nonzero(fold == each).flatten().tolist():
                view = fitted.in_context(screen.contexts[row])
                predictions[name][row] = view.predict(screen.batch.rows(slice(row, row + 1))).mean[0]
    return predictions


def main() -> None:
    """Run the parts that are asked for and print their rows."""
    parts: dict[str, Callable[[int, int], Iterator[Row]]] = {
        "growth": growth,
        "lines": lambda seed, _: lines(seed),
        "synergy": lambda seed, _: synergy(seed),
    }
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("parts", nargs="*", choices=[[], *parts], default=[], help="which parts; all by default")
    parser.add_argument("--seed", type=int, default=0, help="of the splits, the models and the bootstrap")
    parser.add_argument("--draws", type=int, default=3, help="how many random 5 %% of the pairs")
    parser.add_argument("--json", type=Path, help="where to write the rows")
    arguments = parser.parse_args()
    rows = [row for part in arguments.parts or parts for row in parts[part](arguments.seed, arguments.draws)]
    if arguments.json:
        write_json(rows, arguments.json)


if __name__ == "__main__":
    main()
