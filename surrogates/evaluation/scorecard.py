"""How well do forward models predict perturbations that they have not seen, beside the baselines?"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from surrogates.data.novelty import SEEN_DOUBLE, novelty_code, novelty_name
from surrogates.data.screen import Screen
from surrogates.data.splits import folds_of_doubles, folds_of_singles
from surrogates.errors import DataError
from surrogates.evaluation.metrics import (
    bootstrap_interval,
    median,
    pearson_rows,
    ratio_of_sums,
    squared_errors,
)
from surrogates.evaluation.rows import Row
from surrogates.models.additive import Additive, ScaledAdditive
from surrogates.models.base import Surrogate
from surrogates.models.baselines import MatchingMean, NoChange, PerturbationMean
from surrogates.models.context import require_one_context

BASELINES: Mapping[str, Surrogate] = {
    "no_change": NoChange(),
    "perturbation_mean": PerturbationMean(),
    "matching_mean": MatchingMean(),
    "additive": Additive(),
    "scaled_additive": ScaledAdditive(),
}


@dataclass(frozen=True)
class Split:
    """Rows to learn from and rows to predict.

    Attributes:
        train: Rows of the training conditions.
        test: Rows of the held-out conditions.
    """

    train: Int[Tensor, "n"]
    test: Int[Tensor, "b"]


def double_splits(screen: Screen, *, seed: int) -> Iterator[Split]:
    """Hold doubles out, fold by fold; all singles and the other folds' doubles are for training.

    Args:
        screen: Measured effects in one context.
        seed: Fixes the folds of a screen that has no ``double_fold``.

    Yields:
        Splits whose held-out doubles have both parts measured alone.
    """
    order, folds = screen.batch.order, folds_of_doubles(screen, seed=seed)
    predictable = novelty_code(screen.batch, screen.single_rows >= 0) == SEEN_DOUBLE
    for fold in torch.unique(folds[folds >= 0]):
        test = (folds == fold) & predictable
        if test.any():
            yield Split(_numbers((order == 1) | ((order == 2) & (folds != fold))), _numbers(test))


def single_splits(screen: Screen, *, seed: int) -> Iterator[Split]:
    """Hold singles out in five folds; whatever contains none of their targets is for training.

    Args:
        screen: Measured effects in one context.
        seed: Fixes the folds.

    Yields:
        Splits whose held-out singles are of targets absent from training, at any dose and in any combination.
    """
    folds = folds_of_singles(screen, seed=seed)
    targets = screen.vocabulary.targets
    for fold in torch.unique(folds[folds >= 0]):
        test = folds == fold
        held = {targets[gene] for gene in screen.batch.genes[test, 0].tolist()}
        hidden = torch.tensor([target in held for target in targets])
        touched = (hidden[screen.batch.genes.clamp(min=0)] & screen.batch.present).any(1)
        yield Split(_numbers(~touched), _numbers(test))


def score_forward(screen: Screen, surrogates: Mapping[str, Surrogate], *, seed: int) -> list[Row]:
    """Measure surrogates and baselines on held-out doubles and on unseen singles.

    Doubles are scored by squared error relative to the additive model, singles relative to no change, both also by
    the median correlation across readouts; folds are pooled, and intervals are 95 % paired bootstrap over held-out
    perturbations. A screen without doubles is scored on singles only.

    Args:
        screen: Measured effects in one context; ``provenance["dataset"]`` names it in the rows.
        surrogates: By name; the baselines are always added.
        seed: Fixes folds, fits and bootstrap.

    Returns:
        Two rows per task and model.

    Raises:
        DataError: If the screen has several contexts, or a surrogate that is no baseline bears the name of one.
    """
    require_one_context(screen)
    models = {**BASELINES, **surrogates}
    if taken := [name for name in BASELINES if models[name] != BASELINES[name]]:
        raise DataError(f"{taken[0]!r} is the name of a baseline with other settings; name yours differently")
    rows: list[Row] = []
    for reference, splits in (
        ("additive", [*double_splits(screen, seed=seed)]),
        ("no_change", [*single_splits(screen, seed=seed)]),
    ):
        if splits:
            rows += _score(screen, models, splits, reference=reference, seed=seed)
    return rows


def _score(
    screen: Screen,
    models: Mapping[str, Surrogate],
    splits: list[Split],
    *,
    reference: str,
    seed: int,
) -> list[Row]:
    predicted = {name: _pooled(screen, model, splits, seed=seed) for name, model in models.items()}
    truth = screen.effects[torch.cat([split.test for split in splits])]
    dataset, novelty = screen.provenance.get("dataset", ""), _novelty(screen, splits[0])
    scale = squared_errors(predicted[reference], truth)
    rows = []
    for name, prediction in predicted.items():
        statistics = (
            (f"mse_ratio_to_{reference}", "ratio", ratio_of_sums(squared_errors(prediction, truth), scale)),
            ("pearson_median", "correlation", median(pearson_rows(prediction, truth))),
        )
        for metric, unit, statistic in statistics:
            value = float(statistic(torch.arange(len(truth))[None]))
            low, high = bootstrap_interval(statistic, len(truth), seed=seed)
            rows.append(
                Row("forward", dataset, name, novelty, "all_readouts", metric, value, low, high, len(truth), unit)
            )
    return rows


def _pooled(screen: Screen, model: Surrogate, splits: list[Split], *, seed: int) -> Float[Tensor, "b g"]:
    return torch.cat([
        model.fit(screen.rows(split.train), seed=seed).predict(screen.batch.rows(split.test)).mean
        for split in splits
    ])  # fmt: skip


def _novelty(screen: Screen, split: Split) -> str:
    """Name the class of the held-out perturbations, which a protocol makes one and the same for all."""
    measured_alone = screen.rows(split.train).single_rows >= 0
    return novelty_name(int(novelty_code(screen.batch.rows(split.test[:1]), measured_alone)))


def _numbers(chosen: Bool[Tensor, "n"]) -> Int[Tensor, "m"]:
    return torch.nonzero(chosen).flatten()
