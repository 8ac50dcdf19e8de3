"""Choosing the fields of a surrogate by cross-fitted error, with Optuna.

The error of the chosen configuration is the smallest of many on the same folds, hence optimistic: judge the
configuration on perturbations that were not in the screen it was tuned on.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import optuna
import pandas as pd
import torch
from jaxtyping import Float
from optuna.trial import FixedTrial, FrozenTrial, TrialState
from torch import Tensor

from surrogates.artefact import fingerprint
from surrogates.data.screen import Screen
from surrogates.data.splits import Split, splits_over_doubles, splits_over_targets
from surrogates.errors import DataError
from surrogates.evaluation.metrics import squared_errors
from surrogates.evaluation.search_space import SearchSpace, field_of, with_fields
from surrogates.evaluation.study import Pruner, Study, open_study
from surrogates.models.base import Surrogate
from surrogates.models.context import require_one_context

_FINISHED = (TrialState.COMPLETE, TrialState.PRUNED)


@dataclass(frozen=True)
class Tuned:
    """What tuning found.

    Attributes:
        surrogate: The best configuration.
        value: Its cross-fitted mean squared error, in the squared unit of the effects; optimistic.
        trials: How many trials of the study have finished, those of earlier runs and other workers included.
        table: One row per trial: its number, state, value, seconds, and what it tried.
    """

    surrogate: Surrogate
    value: float
    trials: int
    table: pd.DataFrame = field(repr=False)


def tune(
    template: Surrogate,
    space: SearchSpace,
    screen: Screen,
    *,
    trials: int,
    seed: int,
    study: Study | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Tuned:
    """Try configurations of a surrogate and keep the one with the smallest cross-fitted squared error.

    The template itself comes first, if it lies in the space; then the tree-structured Parzen estimator proposes
    [Bergstra 2011]. What it proposes depends on the seed, the number of the trial and the other trials only: a
    study that was interrupted goes on as if it had not been, and workers do not repeat each other. A configuration
    that the surrogate refuses is a failed trial; whatever else interrupts a trial leaves the finished ones stored.

    Example:
        >>> tune(Interaction(), {"leading": IntRange(2, 16)}, screen, trials=30, seed=0)  # doctest: +SKIP

    Args:
        template: Has the values of all fields that are not tried.
        space: What to try, by the name of a field; ``"schedule.rate"`` is the field of a field.
        screen: Measured effects in one context.
        trials: How many finished trials the study is to have; those of earlier runs count.
        seed: Fixes folds, fits and proposals.
        study: How trials are judged, cut short, and kept; by default as :class:`Study` says, in memory.
        progress: Called with the number of finished trials and ``trials``.

    Returns:
        The best configuration and all trials.

    Raises:
        DataError: If nothing can be held out, the storage cannot be opened, the stored study is about something
            else, or no trial succeeds.
        UnknownNameError: If the space names a field that is not there.
    """
    require_one_context(screen)
    start = {name: each.spelled(field_of(template, name)) for name, each in space.items()}
    settings, ordered = study or Study(), screen.in_canonical_order()
    objective = _Objective(template, space, ordered, _splits(ordered, settings, seed), settings.pruner, seed)
    subject = {
        "template": repr(template),
        "space": repr(sorted(space.items())),
        "data": fingerprint(ordered),
        "folds": f"{settings.folds} over {settings.task}, seed {seed}",
    }
    with open_study(settings, first={} if None in start.values() else start, seed=seed) as stored:
        _require_subject(stored, subject)
        _run(stored, objective, trials, progress or (lambda _done, _total: None))
        return _result(stored, template, space)


@dataclass(frozen=True)
class _Objective:
    """The cross-fitted mean squared error of what a trial proposes."""

    template: Surrogate
    space: SearchSpace
    screen: Screen
    splits: list[Split]
    pruner: Pruner
    seed: int

    def __call__(self, trial: optuna.Trial) -> float:
        surrogate = with_fields(
            self.template, {name: each.suggest(trial, name) for name, each in self.space.items()}
        )
        errors: list[Tensor] = []
        for step, split in enumerate(self.splits):
            errors.append(self._errors(surrogate, split))
            # The signed-rank test compares fold with fold, the median what has been seen so far.
            value = float((errors[-1] if self.pruner == "wilcoxon" else torch.cat(errors)).mean())
            if not math.isfinite(value):
                raise DataError(f"{surrogate!r} predicts effects that are not finite")
            trial.report(value, step)
            if step + 1 < len(self.splits) and trial.should_prune():
                raise optuna.TrialPruned
        return float(torch.cat(errors).mean())

    def _errors(self, surrogate: Surrogate, split: Split) -> Float[Tensor, "b"]:
        fitted = surrogate.fit(self.screen.rows(split.train), seed=self.seed)
        predicted = fitted.predict(self.screen.batch.rows(split.test)).mean
        return squared_errors(predicted, self.screen.effects[split.test]) / len(self.screen.readouts)


def _splits(screen: Screen, settings: Study, seed: int) -> list[Split]:
    make = splits_over_doubles if settings.task == "doubles" else splits_over_targets
    splits = make(screen, folds=settings.folds, seed=seed)
    if len(splits) < 2:
        raise DataError(
            f"the screen has fewer than two {settings.task} that can be held out; tune on another task"
        )
    return splits


def _require_subject(stored: optuna.Study, subject: Mapping[str, str]) -> None:
    """Note what a new study is about; refuse to go on with one that is about something else."""
    noted = stored.user_attrs
    if other := sorted(key for key in subject if key in noted and noted[key] != subject[key]):
        raise DataError(
            f"the stored study {stored.study_name!r} has another {' and '.join(other)}: its errors do not compare;"
            " give yours another name"
        )
    for key in subject:
        if key not in noted:
            stored.set_user_attr(key, subject[key])


def _run(stored: optuna.Study, objective: _Objective, trials: int, progress: Callable[[int, int], None]) -> None:
    for _ in range(trials):
        done = _finished(stored)
        progress(min(done, trials), trials)
        if done >= trials:
            return
        trial = stored.ask()
        try:
            value = objective(trial)
        except optuna.TrialPruned:
            stored.tell(trial, state=TrialState.PRUNED)
        except BaseException as error:
            trial.set_user_attr("refusal", str(error))
            stored.tell(trial, state=TrialState.FAIL)
            if not isinstance(error, DataError):
                raise
        else:
            stored.tell(trial, value)
    progress(min(_finished(stored), trials), trials)


def _finished(stored: optuna.Study) -> int:
    return len(stored.get_trials(deepcopy=False, states=_FINISHED))


def _result(stored: optuna.Study, template: Surrogate, space: SearchSpace) -> Tuned:
    trials = stored.get_trials(deepcopy=False)
    complete = [
        (each.value, each.number, each)
        for each in trials
        if each.state is TrialState.COMPLETE and each.value is not None
    ]
    if not complete:
        refusals = [each.user_attrs["refusal"] for each in trials if "refusal" in each.user_attrs]
        raise DataError(
            f"none of the {len(trials)} trials succeeded; the last one said: {(refusals or ['-'])[-1]}"
        )
    value, _, best = min(complete, key=lambda each: each[:2])
    fixed = FixedTrial(best.params)
    surrogate = with_fields(template, {name: each.suggest(fixed, name) for name, each in space.items()})
    return Tuned(surrogate, value, _finished(stored), pd.DataFrame([_row(each) for each in trials]))


def _row(trial: FrozenTrial) -> dict[str, object]:
    return {
        "trial": trial.number,
        "state": trial.state.name.lower(),
        "value": trial.value if trial.state is TrialState.COMPLETE else math.nan,
        "seconds": trial.duration.total_seconds() if trial.duration else math.nan,
        **trial.params,
    }
