"""Choosing the fields of a surrogate by cross-fitted error, as an Optuna study that can be stored and resumed.

The error of the chosen configuration is the smallest of many on the same folds, hence optimistic: judge the
configuration on perturbations that were not in the screen it was tuned on.
"""

import math
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, fields, is_dataclass, replace
from typing import Any, Literal, TypeAlias, TypeVar, get_args
from zlib import crc32

import optuna
import pandas as pd
import torch
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.exceptions import ExperimentalWarning, StorageInternalError
from optuna.pruners import BasePruner, WilcoxonPruner
from optuna.samplers import PartialFixedSampler, TPESampler
from optuna.storages import BaseStorage, RDBStorage
from optuna.trial import FrozenTrial, TrialState
from sqlalchemy.exc import SQLAlchemyError

from surrogates.artefact import fingerprint
from surrogates.data.novelty import Split, splits_over_doubles, splits_over_targets
from surrogates.data.screen import Screen
from surrogates.errors import DataError, UnknownNameError
from surrogates.evaluation.metrics import squared_errors
from surrogates.models.base import Surrogate, require_one_context

Configuration = TypeVar("Configuration")
Task = Literal["doubles", "targets"]
# By the name of a field ("schedule.rate" is the field of a field): a distribution, or named values of any kind.
SearchSpace: TypeAlias = Mapping[str, BaseDistribution | Mapping[str, Any]]
_FINISHED = (TrialState.COMPLETE, TrialState.PRUNED)


@dataclass(frozen=True)
class Study:
    """How trials are judged, cut short, and kept.

    Attributes:
        task: What is held out: ``"doubles"`` of two entries measured alone, or ``"targets"``, with every condition
            that contains one of them.
        folds: Over those; a trial can be cut short after each.
        pruner: Of Optuna. ``None`` stops a trial whose folds are worse than those of the best one by a signed-rank
            test (from the fourth fold on). A ``WilcoxonPruner`` sees fold by fold, any other the mean so far.
        storage: ``None`` for memory, the path of an SQLite file, the URL of a database such as
            ``postgresql://...``, or a storage of Optuna; for many workers take one of the last two.
        name: Of the study in the storage; the same name resumes it.
    """

    task: Task = "doubles"
    folds: int = 8
    pruner: BasePruner | None = None
    storage: str | BaseStorage | None = None
    name: str = "tuning"

    def __post_init__(self) -> None:
        """Refuse an unknown task, and folds that leave nothing to learn from."""
        if self.task not in get_args(Task):
            raise UnknownNameError.from_known("task", self.task, get_args(Task))
        if self.folds < 2:
            raise DataError(f"folds is {self.folds}; take 2 or more")


@dataclass(frozen=True)
class Tuned:
    """What tuning found."""

    surrogate: Surrogate  # the best configuration
    value: float  # its cross-fitted mean squared error, in the squared unit of the effects; optimistic
    trials: int  # how many trials of the study have finished, those of earlier runs and other workers included
    table: pd.DataFrame = field(repr=False)  # of each trial its number, state, value, seconds, and what it tried


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
        >>> tune(Interaction(), {"leading": IntDistribution(2, 16)}, screen, trials=30, seed=0)  # doctest: +SKIP

    Args:
        template: Has the values of all fields that are not tried.
        space: What to try, by the name of a field; ``"schedule.rate"`` is the field of a field. A distribution of
            Optuna, or values of any kind by a name of your own, such as ``{"narrow": (64,), "wide": (256, 256)}``.
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
    settings, ordered = study or Study(), screen.in_canonical_order()
    first = _spelled(template, space)
    objective = _Objective(template, space, ordered, _splits(ordered, settings, seed), first, seed)
    subject = {
        "template": repr(template),
        "space": repr(sorted(space.items())),
        "data": fingerprint(ordered),
        "folds": f"{settings.folds} over {settings.task}, seed {seed}",
    }

    def after_each(stored: optuna.Study, _trial: FrozenTrial | None) -> None:
        done = len(stored.get_trials(deepcopy=False, states=_FINISHED))
        if progress is not None:
            progress(min(done, trials), trials)
        if done >= trials and _trial is not None:
            stored.stop()

    with _opened(settings) as stored:
        _require_subject(stored, subject)
        after_each(stored, None)
        if len(stored.get_trials(deepcopy=False, states=_FINISHED)) < trials:
            stored.optimize(objective, n_trials=trials, callbacks=[after_each], catch=(DataError,))
        return _result(stored, template, space)


def field_of(configuration: object, path: str) -> Any:  # noqa: ANN401 - a field can be anything
    """Look a field up."""
    value = configuration
    for name in path.split("."):
        known = [each.name for each in fields(value) if each.init] if is_dataclass(value) else []
        if name not in known:
            raise UnknownNameError.from_known(f"field of {type(value).__name__}", name, known)
        value = getattr(value, name)
    return value


def with_fields(configuration: Configuration, values: Mapping[str, object]) -> Configuration:
    """Change some fields."""
    changed: Any = configuration
    for path, value in values.items():
        head, _, rest = path.partition(".")
        changed = replace(changed, **{head: with_fields(getattr(changed, head), {rest: value}) if rest else value})
    result: Configuration = changed
    return result


@dataclass(frozen=True)
class _Objective:
    """The cross-fitted mean squared error of what a trial proposes."""

    template: Surrogate
    space: SearchSpace
    screen: Screen
    splits: list[Split]
    first: dict[str, Any]  # what the first trial tries
    seed: int

    def __call__(self, trial: optuna.Trial) -> float:
        # Seeded by its number: nothing depends on when and where a trial is run.
        sampler = TPESampler(seed=crc32(f"{self.seed}/{trial.number}".encode()))
        trial.study.sampler = sampler if trial.number else PartialFixedSampler(self.first, sampler)
        tried = {name: _suggested(trial, name, each) for name, each in self.space.items()}
        try:
            return self._error(with_fields(self.template, _meant(self.space, tried)), trial)
        except DataError as error:
            trial.set_user_attr("refusal", str(error))
            raise

    def _error(self, surrogate: Surrogate, trial: optuna.Trial) -> float:
        errors: list[torch.Tensor] = []
        for step, split in enumerate(self.splits):
            fitted = surrogate.fit(self.screen.rows(split.train), seed=self.seed)
            predicted = fitted.predict(self.screen.batch.rows(split.test)).mean
            errors.append(squared_errors(predicted, self.screen.effects[split.test]) / len(self.screen.readouts))
            # The signed-rank test compares fold with fold, others compare what has been seen so far.
            alone = isinstance(trial.study.pruner, WilcoxonPruner)
            value = float((errors[-1] if alone else torch.cat(errors)).mean())
            if not math.isfinite(value):
                raise DataError(f"{surrogate!r} predicts effects that are not finite")
            trial.report(value, step)
            if step + 1 < len(self.splits) and trial.should_prune():
                raise optuna.TrialPruned
        return float(torch.cat(errors).mean())


def _options(entry: BaseDistribution | Mapping[str, Any]) -> dict[Any, Any]:
    """List what a field may be by what a trial calls it; nothing for numbers in a range."""
    if isinstance(entry, CategoricalDistribution):
        return {each: each for each in entry.choices}
    return dict(entry) if isinstance(entry, Mapping) else {}


def _suggested(trial: optuna.Trial, name: str, entry: BaseDistribution | Mapping[str, Any]) -> object:
    if isinstance(entry, IntDistribution):
        return trial.suggest_int(name, entry.low, entry.high, step=entry.step, log=entry.log)
    if isinstance(entry, FloatDistribution):
        return trial.suggest_float(name, entry.low, entry.high, step=entry.step, log=entry.log)
    return trial.suggest_categorical(name, tuple(_options(entry)))


def _spelled(template: Surrogate, space: SearchSpace) -> dict[str, Any]:
    """Spell the template as a trial, empty if it does not lie in the space."""
    found: dict[str, Any] = {}
    for name, entry in space.items():
        value = field_of(template, name)
        if isinstance(entry, IntDistribution | FloatDistribution):
            inside = isinstance(value, int | float) and entry.low <= value <= entry.high
            names = [value] if inside else []
        else:
            known = _options(entry).items()
            names = [each for each, meant in known if type(meant) is type(value) and meant == value]
        if not names:
            return {}
        found[name] = names[0]
    return found


def _meant(space: SearchSpace, tried: Mapping[str, Any]) -> dict[str, object]:
    return {name: (_options(space[name]) or {value: value})[value] for name, value in tried.items()}


def _splits(screen: Screen, settings: Study, seed: int) -> list[Split]:
    make = splits_over_doubles if settings.task == "doubles" else splits_over_targets
    splits = make(screen, folds=settings.folds, seed=seed)
    if len(splits) < 2:
        raise DataError(
            f"the screen has fewer than two {settings.task} that can be held out; tune on another task"
        )
    return splits


@contextmanager
def _opened(settings: Study) -> Iterator[optuna.Study]:
    """Open a study, or begin it; Optuna is silent meanwhile, and a storage that is opened here is closed."""
    before = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    own: RDBStorage | None = None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ExperimentalWarning)
            storage, name, pruner = settings.storage, settings.name, settings.pruner or WilcoxonPruner()
            if isinstance(storage, str):
                storage = own = _database(storage)
            yield optuna.create_study(storage=storage, pruner=pruner, study_name=name, load_if_exists=True)
    finally:
        optuna.logging.set_verbosity(before)
        if own is not None:
            own.remove_session()
            own.engine.dispose()


def _database(address: str) -> RDBStorage:
    try:
        return RDBStorage(address if "://" in address else f"sqlite:///{address}")
    except (SQLAlchemyError, StorageInternalError, OSError, ImportError) as error:
        # An address can hold a password: it never goes into a message.
        raise DataError(
            f"the storage cannot be opened ({type(error).__name__}); take the path of an SQLite file, or the URL"
            " of a database whose driver is installed"
        ) from error


def _require_subject(stored: optuna.Study, subject: Mapping[str, str]) -> None:
    """Note what a new study is about; refuse to go on with one that is about something else."""
    noted = stored.user_attrs
    if other := sorted(key for key in subject if key in noted and noted[key] != subject[key]):
        raise DataError(
            f"the stored study {stored.study_name!r} has another {' and '.join(other)}: its errors do not compare;"
            " give yours another name"
        )
    for key in subject.keys() - noted.keys():
        stored.set_user_attr(key, subject[key])


def _result(stored: optuna.Study, template: Surrogate, space: SearchSpace) -> Tuned:
    trials = stored.get_trials(deepcopy=False)
    complete = [each for each in trials if each.state is TrialState.COMPLETE]
    if not complete:
        refusals = [each.user_attrs["refusal"] for each in trials if "refusal" in each.user_attrs]
        raise DataError(
            f"none of the {len(trials)} trials succeeded; the last one said: {(refusals or ['-'])[-1]}"
        )
    best = min(complete, key=lambda each: (each.values, each.number))
    surrogate = with_fields(template, _meant(space, best.params))
    finished = sum(each.state in _FINISHED for each in trials)
    return Tuned(surrogate, best.values[0], finished, pd.DataFrame([_row(each) for each in trials]))


def _row(trial: FrozenTrial) -> dict[str, object]:
    return {
        "trial": trial.number,
        "state": trial.state.name.lower(),
        "value": trial.value if trial.state is TrialState.COMPLETE else math.nan,
        "seconds": trial.duration.total_seconds() if trial.duration else math.nan,
        **trial.params,
    }
