import logging
import math
import warnings
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import optuna
import pandas as pd
import pytest
import torch
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.pruners import BasePruner, MedianPruner, NopPruner
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from strategies.screens import normal, pairs_of, planted_screen

from surrogates.data.novelty import splits_over_doubles, splits_over_targets
from surrogates.data.screen import Screen
from surrogates.errors import DataError, UnknownNameError
from surrogates.evaluation.tuning import Study, Tuned, field_of, tune, with_fields
from surrogates.models.baselines import Additive, FittedScaledAdditive, ScaledAdditive
from surrogates.models.interaction import Interaction

SCREEN = planted_screen(alone=range(8), together=pairs_of(8, 24), noise=0.05)


@dataclass(frozen=True)
class Inner:
    rate: float = 0.1
    kind: str | None = None


@dataclass(frozen=True)
class Scaled:
    """Predicts ``scale`` times the sum of the single effects; the world's own scale is 0.8."""

    scale: float = 1.0
    shift: int = 0
    inner: Inner = field(default_factory=Inner)
    refuse_above: float = math.inf

    def fit(self, screen: Screen, *, seed: int) -> FittedScaledAdditive:
        if self.scale > self.refuse_above:
            raise DataError(f"scale {self.scale} is too large")
        fitted = Additive().fit(screen, seed=seed)
        return replace(fitted, singles=self.scale * fitted.singles + self.shift)


@dataclass(frozen=True)
class Stopped:
    """A model whose third fit the user interrupts."""

    scale: float = 1.0
    fits: list[float] = field(default_factory=list, compare=False, repr=False)
    after: int = 10**9

    def fit(self, screen: Screen, *, seed: int) -> FittedScaledAdditive:
        self.fits.append(self.scale)
        if len(self.fits) > self.after:
            raise KeyboardInterrupt
        return Scaled(self.scale).fit(screen, seed=seed)


def _same_trials(one: pd.DataFrame, other: pd.DataFrame) -> bool:
    return one.drop(columns="seconds").equals(other.drop(columns="seconds"))


# --- the search space -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("value", [None, 1, 1.0, True, "1", (1, 2), Inner(0.5), math.inf])
def test_values_of_any_kind_are_tried_by_their_names(value: object) -> None:
    named = {"none": None, "int": 1, "float": 1.0, "true": True, "text": "1", "pair": (1, 2), "own": Inner(0.5),
             "far": math.inf}  # fmt: skip
    template = Scaled(inner=Inner(kind=value))  # type: ignore[arg-type] - any value
    found = tune(template, {"inner.kind": named}, SCREEN, trials=1, seed=0, study=Study(folds=2))
    assert found.surrogate == template
    kept = field_of(found.surrogate, "inner.kind")
    assert (type(kept), kept) == (type(value), value)
    assert type(named[found.table["inner.kind"][0]]) is type(value)


def test_fields_of_fields_are_reached() -> None:
    changed = with_fields(Scaled(), {"inner.rate": 0.5, "scale": 2.0, "inner.kind": "x"})
    assert changed == Scaled(2.0, inner=Inner(0.5, "x"))
    assert field_of(changed, "inner.rate") == 0.5
    for path, match in (
        ("scael", "field of Scaled 'scael'"),
        ("inner.x", "field of Inner"),
        ("scale.x", "of float"),
    ):
        with pytest.raises(UnknownNameError, match=match):
            field_of(changed, path)


# --- what is found --------------------------------------------------------------------------------------------


def test_the_planted_scale_is_found() -> None:
    found = tune(Scaled(), {"scale": FloatDistribution(0.0, 2.0)}, SCREEN, trials=22, seed=0, study=Study(folds=3))
    assert isinstance(found.surrogate, Scaled)
    assert found.surrogate.scale == pytest.approx(0.8, abs=0.05)
    assert found.trials == len(found.table) == 22
    assert list(found.table.columns) == ["trial", "state", "value", "seconds", "scale"]


@pytest.mark.parametrize("task", ["doubles", "targets"])
def test_the_value_is_the_cross_fitted_mean_squared_error(task: Any) -> None:
    template = ScaledAdditive(shrinkage=3.0)
    found = tune(template, {}, SCREEN, trials=1, seed=4, study=Study(task=task, folds=3))
    make = {"doubles": splits_over_doubles, "targets": splits_over_targets}[task]
    errors = [
        (template.fit(SCREEN.rows(each.train), seed=4).predict(SCREEN.batch.rows(each.test)).mean
        - SCREEN.effects[each.test]).square()
        for each in make(SCREEN, folds=3, seed=4)
    ]  # fmt: skip
    assert found.value == pytest.approx(float(torch.cat(errors).mean()))
    assert found.surrogate == template


def test_the_template_comes_first_if_it_lies_in_the_space() -> None:
    inside = tune(Scaled(0.8), {"scale": FloatDistribution(0.0, 2.0)}, SCREEN, trials=2, seed=0)
    assert inside.table["scale"][0] == 0.8
    outside = tune(Scaled(3.0), {"scale": FloatDistribution(0.0, 2.0)}, SCREEN, trials=2, seed=0)
    assert len(outside.table) == 2
    assert bool((outside.table["scale"] < 2).all())


def test_the_best_of_all_kinds_of_fields_is_kept() -> None:
    space = {
        "scale": FloatDistribution(0.5, 1.5, log=True),
        "shift": IntDistribution(-1, 1),
        "inner.kind": CategoricalDistribution((None, "a", "b")),
        "inner.rate": FloatDistribution(0.0, 1.0),
    }
    found = tune(Scaled(), space, SCREEN, trials=15, seed=1, study=Study(folds=3, pruner=NopPruner()))
    best = found.table.loc[found.table["value"].idxmin()]
    assert isinstance(found.surrogate, Scaled)
    assert found.value == best["value"]
    assert (found.surrogate.scale, found.surrogate.shift) == (best["scale"], best["shift"])
    assert found.surrogate.inner.kind == best["inner.kind"]
    assert found.table["inner.rate"].nunique() == 15  # every field is drawn on its own
    assert abs(float(found.table["inner.rate"].corr(found.table["scale"]))) < 0.9


def test_a_shipped_surrogate_is_tuned() -> None:
    bent = planted_screen(alone=range(9), together=pairs_of(9, 30), bend=0.5, readouts=20)
    found = tune(
        Interaction(leading=1), {"leading": IntDistribution(1, 8)}, bent, trials=6, seed=0, study=Study(folds=3)
    )
    assert isinstance(found.surrogate, Interaction)
    assert found.surrogate.leading > 1
    assert found.value < found.table["value"][0]


# --- determinism and resumption -------------------------------------------------------------------------------

SPACE = {"scale": FloatDistribution(0.0, 2.0), "shift": IntDistribution(-2, 2)}


def test_the_seed_fixes_everything_and_the_order_of_rows_does_not_matter() -> None:
    one = tune(Scaled(), SPACE, SCREEN, trials=12, seed=0, study=Study(folds=3))
    shuffle = torch.randperm(len(SCREEN), generator=torch.Generator().manual_seed(1))
    other = tune(Scaled(), SPACE, SCREEN.rows(shuffle), trials=12, seed=0, study=Study(folds=3))
    torch.testing.assert_close(torch.tensor(one.table["scale"]), torch.tensor(other.table["scale"]))
    third = tune(Scaled(), SPACE, SCREEN, trials=12, seed=1, study=Study(folds=3))
    assert not _same_trials(one.table, third.table)


@pytest.mark.parametrize("journal", [False, True])
def test_a_stored_study_goes_on_as_if_it_had_not_been_left(journal: bool, tmp_path: Path) -> None:  # noqa: FBT001
    path = str(tmp_path / "study")
    stored = Study(folds=3, storage=JournalStorage(JournalFileBackend(path)) if journal else f"sqlite:///{path}")
    at_once = tune(Scaled(), SPACE, SCREEN, trials=12, seed=0, study=Study(folds=3))
    tune(Scaled(), SPACE, SCREEN, trials=4, seed=0, study=stored)
    later = tune(Scaled(), SPACE, SCREEN, trials=12, seed=0, study=stored)
    assert _same_trials(later.table, at_once.table)
    again = tune(Scaled(), SPACE, SCREEN, trials=12, seed=0, study=stored)
    assert _same_trials(again.table, later.table)
    assert (again.surrogate, again.value, again.trials) == (later.surrogate, later.value, 12)


def test_an_interruption_leaves_finished_trials(tmp_path: Path) -> None:
    stored = Study(folds=2, pruner=NopPruner(), storage=str(tmp_path / "study.db"))
    template = Stopped(after=2 * 3 + 1)
    space = {"scale": FloatDistribution(0.0, 2.0)}
    with pytest.raises(KeyboardInterrupt):
        tune(template, space, SCREEN, trials=9, seed=0, study=stored)
    found = tune(replace(template, fits=[], after=template.after), space, SCREEN, trials=3, seed=0, study=stored)
    assert found.trials == 3
    assert found.table["state"].tolist() == ["complete"] * 3 + ["fail"]


@pytest.mark.parametrize(
    ("change", "what"),
    [
        ({"template": Scaled(shift=1)}, "template"),
        ({"space": {"scale": FloatDistribution(0.0, 3.0)}}, "space"),
        ({"screen": SCREEN.rows(range(20))}, "data"),
        ({"seed": 1}, "folds"),
        ({"folds": 4}, "folds"),
    ],
)
def test_a_study_about_something_else_is_not_continued(change: dict[str, Any], what: str, tmp_path: Path) -> None:
    def run(
        template: Scaled = Scaled(), space: Any = SPACE, screen: Screen = SCREEN, seed: int = 0, folds: int = 3
    ) -> Tuned:
        study = Study(folds=folds, storage=str(tmp_path / "study.db"))
        return tune(template, space, screen, trials=1, seed=seed, study=study)

    run()
    with pytest.raises(DataError, match=f"has another {what}.*give yours another name"):
        run(**change)


def test_workers_share_a_study_without_repeating_each_other(tmp_path: Path) -> None:
    study = Study(folds=2, storage=JournalStorage(JournalFileBackend(str(tmp_path / "study.log"))))
    space = {"scale": FloatDistribution(0.0, 2.0)}

    def work(_number: int) -> Tuned:
        return tune(Scaled(), space, SCREEN, trials=12, seed=0, study=study)

    before = optuna.logging.get_verbosity()
    try:
        with ThreadPoolExecutor(2) as pool:
            found = list(pool.map(work, range(2)))
    finally:
        optuna.logging.set_verbosity(before)  # threads of one process share it
    assert all(each.trials >= 12 for each in found)
    last = max(found, key=lambda each: len(each.table)).table
    tried = last["scale"].dropna()  # the other worker may be at it
    assert tried.nunique() == len(tried) >= 12


# --- pruning, failing, telling --------------------------------------------------------------------------------


@pytest.mark.parametrize(("pruner", "first"), [(None, 4), (MedianPruner(), 1)])
def test_hopeless_trials_are_cut_short(pruner: BasePruner | None, first: int) -> None:
    template = Stopped(0.8)
    study = Study(folds=8, pruner=pruner)
    found = tune(template, {"scale": FloatDistribution(0.8, 50.0)}, SCREEN, trials=12, seed=0, study=study)
    states = found.table.set_index("scale")["state"].to_dict()
    assert states[0.8] == "complete"
    assert "pruned" in states.values()
    for scale, state in states.items():
        assert template.fits.count(scale) == 8 if state == "complete" else first <= template.fits.count(scale) < 8
    assert found.table["value"].isna().sum() == sum(state == "pruned" for state in states.values())
    assert found.surrogate == template


def test_without_a_pruner_every_fold_is_fitted() -> None:
    template = Stopped(0.8)
    study = Study(folds=5, pruner=NopPruner())
    tune(template, {"scale": FloatDistribution(0.8, 50.0)}, SCREEN, trials=6, seed=0, study=study)
    assert len(template.fits) == 5 * 6


def test_equal_trials_are_not_cut_short_and_the_first_is_kept() -> None:
    found = tune(Scaled(), {"inner.rate": FloatDistribution(0.0, 1.0)}, SCREEN, trials=6, seed=0)
    assert set(found.table["state"]) == {"complete"}
    assert found.surrogate == Scaled()


def test_configurations_that_are_refused_fail_alone() -> None:
    found = tune(Scaled(refuse_above=1.0), {"scale": FloatDistribution(0.0, 2.0)}, SCREEN, trials=12, seed=0)
    states = found.table.set_index("scale")["state"]
    assert set(states[states.index > 1]) == {"fail"}
    assert found.trials == int((states.index <= 1).sum()) > 1


def test_nothing_but_refusals_is_an_error() -> None:
    with pytest.raises(DataError, match=r"none of the 3 trials succeeded; .* scale .* is too large"):
        tune(Scaled(refuse_above=-1.0), {"scale": FloatDistribution(0.0, 2.0)}, SCREEN, trials=3, seed=0)


def test_predictions_that_are_not_finite_fail() -> None:
    with pytest.raises(DataError, match="predicts effects that are not finite"):
        tune(Scaled(math.inf), {}, SCREEN, trials=1, seed=0)


def test_progress_counts_finished_trials() -> None:
    seen: list[tuple[int, int]] = []
    tune(Scaled(), SPACE, SCREEN, trials=3, seed=0, progress=lambda done, total: seen.append((done, total)))
    assert seen == [(0, 3), (1, 3), (2, 3), (3, 3)]


def test_optuna_is_silent_and_left_as_it_was(caplog: pytest.LogCaptureFixture) -> None:
    before, filters = optuna.logging.get_verbosity(), list(warnings.filters)
    optuna.logging.enable_propagation()
    try:
        with caplog.at_level(logging.DEBUG):
            tune(Scaled(refuse_above=1.0), {"scale": FloatDistribution(0.0, 2.0)}, SCREEN, trials=4, seed=0)
    finally:
        optuna.logging.disable_propagation()
    assert not [record for record in caplog.records if record.name.startswith("optuna")]
    assert optuna.logging.get_verbosity() == before
    assert list(warnings.filters) == filters


# --- bad settings ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("field_name", "value", "match"),
    [
        ("task", "double", "unknown task 'double': did you mean 'doubles'"),
        ("folds", 1, "folds is 1; take 2 or more"),
    ],
)
def test_bad_studies_are_refused(field_name: str, value: object, match: str) -> None:
    study = Study()
    object.__setattr__(study, field_name, value)  # past the type checks of the tests
    with pytest.raises(DataError, match=match):
        study.__post_init__()


def test_a_field_that_is_not_there_is_refused() -> None:
    with pytest.raises(UnknownNameError, match="did you mean 'scale'"):
        tune(Scaled(), {"scal": IntDistribution(1, 2)}, SCREEN, trials=1, seed=0)


def test_nothing_to_hold_out_is_an_error() -> None:
    singles = SCREEN.rows(range(8))
    with pytest.raises(DataError, match="fewer than two doubles"):
        tune(Scaled(), {}, singles, trials=1, seed=0)
    assert tune(Scaled(), {}, singles, trials=1, seed=0, study=Study(task="targets")).trials == 1


@pytest.mark.parametrize("address", ["/no/such/folder/x.db", "bogus://user:secret@host/x"])
def test_a_storage_that_cannot_be_opened_is_an_error(address: str) -> None:
    with pytest.raises(DataError, match="the storage cannot be opened") as caught:
        tune(Scaled(), {}, SCREEN, trials=1, seed=0, study=Study(storage=address))
    assert "secret" not in str(caught.value)


def test_a_file_that_is_no_database_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "study.db"
    path.write_bytes(normal(2000, seed=0).numpy().tobytes())
    with pytest.raises(DataError, match="the storage cannot be opened"):
        tune(Scaled(), {}, SCREEN, trials=1, seed=0, study=Study(storage=str(path)))
