import math
from dataclasses import dataclass, field, replace
from typing import Any

import optuna
import pytest
import torch
from optuna.pruners import BasePruner, MedianPruner, NopPruner, WilcoxonPruner
from strategies.screens import pairs_of, planted_screen

from surrogates.data.novelty import splits_over_doubles, splits_over_targets
from surrogates.errors import DataError, UnknownNameError
from surrogates.evaluation.tuning import held_out_error
from surrogates.models.baselines import Additive, FittedScaledAdditive, ScaledAdditive

SCREEN = planted_screen(alone=range(8), together=pairs_of(8, 24), noise=0.05)


@dataclass(frozen=True)
class Scaled:
    """Predicts ``scale`` times the sum of the single effects; the world's own scale is 0.8."""

    scale: float = 1.0
    fits: list[float] = field(default_factory=list, compare=False, repr=False)

    def fit(self, screen: Any, *, seed: int) -> FittedScaledAdditive:
        self.fits.append(self.scale)
        fitted = Additive().fit(screen, seed=seed)
        return replace(fitted, singles=self.scale * fitted.singles)


@pytest.mark.parametrize("task", ["doubles", "targets"])
def test_the_value_is_the_cross_fitted_mean_squared_error(task: Any) -> None:
    model = ScaledAdditive(shrinkage=3.0)
    make = {"doubles": splits_over_doubles, "targets": splits_over_targets}[task]
    errors = [
        (model.fit(SCREEN.rows(each.train), seed=4).predict(SCREEN.batch.rows(each.test)).mean
        - SCREEN.effects[each.test]).square()
        for each in make(SCREEN, folds=3, seed=4)
    ]  # fmt: skip
    found = held_out_error(model, SCREEN, seed=4, task=task, folds=3)
    assert found == pytest.approx(float(torch.cat(errors).mean()))


def test_the_order_of_rows_does_not_matter() -> None:
    shuffle = torch.randperm(len(SCREEN), generator=torch.Generator().manual_seed(1))
    one, other = (held_out_error(Scaled(0.9), each, seed=0) for each in (SCREEN, SCREEN.rows(shuffle)))
    assert one == pytest.approx(other)


def tuned(pruner: BasePruner, *, highest: float, fits: list[float], trials: int = 12) -> optuna.Study:
    study = optuna.create_study(pruner=pruner, sampler=optuna.samplers.TPESampler(seed=0))
    study.enqueue_trial({"scale": 0.8})

    def objective(trial: optuna.Trial) -> float:
        return held_out_error(
            Scaled(trial.suggest_float("scale", 0.0, highest), fits), SCREEN, seed=0, trial=trial
        )

    study.optimize(objective, n_trials=trials)
    return study


@pytest.mark.filterwarnings("ignore::optuna.exceptions.ExperimentalWarning")
@pytest.mark.parametrize(("pruner", "first"), [(WilcoxonPruner, 4), (MedianPruner, 1)])
def test_hopeless_trials_are_cut_short(pruner: type[BasePruner], first: int) -> None:
    fits: list[float] = []
    study = tuned(pruner(), highest=50.0, fits=fits)
    states = {each.params["scale"]: each.state.name for each in study.trials}
    assert states[0.8] == "COMPLETE"
    assert "PRUNED" in states.values()
    for scale, state in states.items():
        assert fits.count(scale) == 8 if state == "COMPLETE" else first <= fits.count(scale) < 8


def test_without_a_pruner_every_fold_is_fitted_and_the_planted_scale_is_found() -> None:
    fits: list[float] = []
    study = tuned(NopPruner(), highest=2.0, fits=fits, trials=5)
    assert len(fits) == 8 * 5
    assert study.best_params["scale"] == pytest.approx(0.8)


def test_what_cannot_be_judged_is_refused() -> None:
    singles = SCREEN.rows(range(8))
    with pytest.raises(DataError, match="fewer than two doubles can be held out in 8 folds"):
        held_out_error(Scaled(), singles, seed=0)
    assert held_out_error(Scaled(), singles, seed=0, task="targets") > 0
    with pytest.raises(DataError, match="predicts effects that are not finite"):
        held_out_error(Scaled(math.inf), SCREEN, seed=0)


def test_an_unknown_task_is_refused() -> None:
    unchecked: Any = held_out_error.__wrapped__ if hasattr(held_out_error, "__wrapped__") else held_out_error
    with pytest.raises(UnknownNameError, match="unknown task 'double': did you mean 'doubles'"):
        unchecked(Scaled(), SCREEN, seed=0, task="double")
