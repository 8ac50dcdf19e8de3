"""Protocol ``forward``: forward models by name on held-out perturbations, beside every baseline."""

import math
from collections.abc import Mapping, Sequence
from typing import Literal

from surrogates.data.novelty import CLASSES, SEEN_DOUBLE, novelty_name
from surrogates.data.screen import Screen
from surrogates.errors import UnknownChoiceError
from surrogates.evaluation.intervals import Row
from surrogates.evaluation.scorecard import BASELINES, ForwardReport, Progress, measure_forward
from surrogates.executors import Workers
from surrogates.models.base import Surrogate
from surrogates.models.registry import SURROGATES
from surrogates.models.wrappers.automatic import Automatic

AUTOMATIC, ALL = "automatic", "all"
DEFAULT_MODELS = ("interaction", AUTOMATIC)
RATIO = "mse_ratio_to_"
_ROUNDING = 1e-9

Verdict = Literal["better", "worse", "unclear", "same"]


def forward_report(
    screen: Screen,
    models: Sequence[str] | Mapping[str, Surrogate] = DEFAULT_MODELS,
    *,
    seed: int,
    classes: Sequence[str] = (),
    workers: Workers = 1,
    progress: Progress | None = None,
) -> ForwardReport:
    """Score forward models, named or by name, and the baselines on every novelty class that can be held out."""
    for word in classes:
        if word not in CLASSES:
            raise UnknownChoiceError.from_known("novelty class", word, CLASSES)
    return measure_forward(
        screen,
        models if isinstance(models, Mapping) else named_surrogates(models),
        seed=seed,
        classes=tuple(classes) or tuple(CLASSES),
        workers=workers,
        progress=progress,
    )


def named_surrogates(names: Sequence[str]) -> dict[str, Surrogate]:
    """Configure forward models with their default settings."""
    known = tuple(dict.fromkeys((*SURROGATES.names(), AUTOMATIC)))
    for name in names:
        if name not in {*known, ALL}:
            raise UnknownChoiceError.from_known("model", name, (*known, ALL))
    wanted = known if ALL in names else names
    return {name: Automatic() if name == AUTOMATIC else SURROGATES.load(name)() for name in wanted}


def verdict(ratio: Row) -> Verdict:
    """Read a ratio of errors by its interval."""
    if max(abs(bound - 1) for bound in (ratio.low, ratio.high)) <= _ROUNDING:
        return "same"
    if ratio.high < 1:
        return "better"
    return "worse" if ratio.low > 1 else "unclear"


def losses(rows: Sequence[Row], models: Sequence[str]) -> list[str]:
    """Say which models are not better than the baseline that a novelty class asks to be beaten.

    That is scaled additive for doubles of two seen parts, and perturbation mean for whatever has an unseen part.
    """
    asked = {row.model for row in rows if row.model in models or (ALL in models and row.model not in BASELINES)}
    lines = []
    for row in rows:
        reference = "scaled_additive" if row.novelty == novelty_name(SEEN_DOUBLE) else "perturbation_mean"
        found = verdict(row)
        if row.model not in asked - {reference} or row.metric != RATIO + reference or found == "better":
            continue
        clear = found == "same" or row.value >= 1 or math.isnan(row.value)
        said = "does not beat" if clear else "cannot be told from"
        lines.append(
            f"warning: {row.model!r} {said} {reference!r} ({row.novelty}): squared error {row.value:.3f} of its,"
            f" 95 % interval {row.low:.3f} to {row.high:.3f}"
        )
    return lines
