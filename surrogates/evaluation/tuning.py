"""The cross-fitted error of a surrogate, as the objective of an Optuna study over its fields."""

from typing import Literal, get_args

import torch
from optuna import Trial, TrialPruned
from optuna.pruners import WilcoxonPruner

from surrogates.data.novelty import splits_over_doubles, splits_over_targets
from surrogates.data.screen import Screen
from surrogates.errors import DataError, UnknownNameError
from surrogates.evaluation.metrics import squared_errors
from surrogates.models.base import Surrogate, require_one_context

Task = Literal["doubles", "targets"]


def held_out_error(
    surrogate: Surrogate,
    screen: Screen,
    *,
    seed: int,
    task: Task = "doubles",
    folds: int = 8,
    trial: Trial | None = None,
) -> float:
    """Average the squared error of perturbations that the fits behind it had not seen.

    The error of the best of many configurations on the same folds is optimistic: judge it on perturbations that
    were not in the screen it was tuned on.

    Example:
        >>> import optuna
        >>> from surrogates import Ridge
        >>> def error(trial):
        ...     return held_out_error(Ridge(trial.suggest_float("penalty", 0.1, 10)), screen, seed=0, trial=trial)
        >>> study = optuna.create_study()
        >>> study.optimize(error, n_trials=3)
        >>> study.best_value > 0
        True

    Args:
        surrogate: The configuration to judge.
        screen: Measured effects in one context.
        seed: Fixes folds and fits.
        task: What is held out: ``"doubles"`` of two entries measured alone, or ``"targets"``, with every condition
            that contains one of them.
        folds: Over those.
        trial: Of an Optuna study, whose pruner may stop it after each fold. A ``WilcoxonPruner`` sees fold by
            fold, any other the mean so far.

    Returns:
        The mean squared error, in the squared unit of the effects.

    Raises:
        DataError: If nothing can be held out, or predictions are not finite.
        UnknownNameError: If the task is not known.
        TrialPruned: If the study's pruner stops the trial.
    """
    if task not in get_args(Task):
        raise UnknownNameError.from_known("task", task, get_args(Task))
    require_one_context(screen)
    ordered = screen.in_canonical_order()
    splits = (splits_over_doubles if task == "doubles" else splits_over_targets)(ordered, folds=folds, seed=seed)
    if len(splits) < 2:
        raise DataError(f"fewer than two {task} can be held out in {folds} folds; take more folds or another task")
    errors: list[torch.Tensor] = []
    for step, split in enumerate(splits, 1):
        fitted = surrogate.fit(ordered.rows(split.train), seed=seed)
        predicted = fitted.predict(ordered.batch.rows(split.test)).mean
        errors.append(squared_errors(predicted, ordered.effects[split.test]) / len(ordered.readouts))
        if not bool(errors[-1].isfinite().all()):
            raise DataError(f"{surrogate!r} predicts effects that are not finite")
        if trial is not None:
            alone = isinstance(trial.study.pruner, WilcoxonPruner)
            trial.report(float((errors[-1] if alone else torch.cat(errors)).mean()), step - 1)
            if step < len(splits) and trial.should_prune():
                raise TrialPruned
    return float(torch.cat(errors).mean())
