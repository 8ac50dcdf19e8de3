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
from jaxtyping import Float
from optuna.distributions import BaseDistribution
from optuna.exceptions import ExperimentalWarning, StorageInternalError
from optuna.pruners import BasePruner, MedianPruner, NopPruner, WilcoxonPruner
from optuna.samplers import BaseSampler, TPESampler
from optuna.storages import BaseStorage, InMemoryStorage, JournalStorage, RDBStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import BaseTrial, FixedTrial, FrozenTrial, TrialState
from sqlalchemy.exc import SQLAlchemyError
from torch import Tensor

from surrogates.artefact import fingerprint
from surrogates.data.screen import Screen
from surrogates.data.splits import Split, splits_over_doubles, splits_over_targets
from surrogates.errors import DataError, UnknownNameError
from surrogates.evaluation.metrics import squared_errors
from surrogates.models.base import Surrogate, require_one_context

Configuration = TypeVar("Configuration")


@dataclass(frozen=True)
class IntRange:
    """Whole numbers between two bounds, both included.

    Attributes:
        low: The smallest.
        high: The largest.
    """

    low: int
    high: int

    def __post_init__(self) -> None:
        """Refuse an empty range."""
        _require_order(float(self.low), float(self.high))

    def suggest(self, trial: BaseTrial, name: str) -> int:
        """Take what a trial proposes.

        Args:
            trial: The trial.
            name: Of the field.

        Returns:
            A value of the field.
        """
        return trial.suggest_int(name, self.low, self.high)

    def spelled(self, value: object) -> int | None:
        """Spell a value the way a trial knows it.

        Args:
            value: A value of the field.

        Returns:
            The spelling, ``None`` if the value is outside.
        """
        return value if isinstance(value, int) and self.low <= value <= self.high else None


@dataclass(frozen=True)
class RealRange:
    """Numbers between two bounds, both included, tried evenly.

    Attributes:
        low: The smallest.
        high: The largest.
    """

    low: float
    high: float

    def __post_init__(self) -> None:
        """Refuse an empty range."""
        _require_order(self.low, self.high)

    def suggest(self, trial: BaseTrial, name: str) -> float:
        """Take what a trial proposes, as :meth:`IntRange.suggest`."""
        return trial.suggest_float(name, self.low, self.high)

    def spelled(self, value: object) -> float | None:
        """Spell a value the way a trial knows it, as :meth:`IntRange.spelled`."""
        return float(value) if isinstance(value, (int, float)) and self.low <= value <= self.high else None


@dataclass(frozen=True)
class LogRange:
    """Positive numbers between two bounds, both included, whose orders of magnitude are tried evenly.

    Attributes:
        low: The smallest; positive.
        high: The largest.
    """

    low: float
    high: float

    def __post_init__(self) -> None:
        """Refuse an empty range, and one that reaches zero."""
        _require_order(self.low, self.high)
        if self.low <= 0:
            raise DataError(f"the range from {self.low!r} has no logarithm; begin above zero")

    def suggest(self, trial: BaseTrial, name: str) -> float:
        """Take what a trial proposes, as :meth:`IntRange.suggest`."""
        return trial.suggest_float(name, self.low, self.high, log=True)

    def spelled(self, value: object) -> float | None:
        """Spell a value the way a trial knows it, as :meth:`IntRange.spelled`."""
        return float(value) if isinstance(value, (int, float)) and self.low <= value <= self.high else None


@dataclass(frozen=True)
class Choice:
    """Some values of any kind; trials know them by their ``repr``.

    Attributes:
        options: The values.
    """

    options: tuple[Any, ...]

    def __post_init__(self) -> None:
        """Refuse no options, and options that look alike."""
        if not self.options or len(self._by_name) < len(self.options):
            raise DataError(f"there are no options in {self.options!r}, or two of them look alike")

    def suggest(self, trial: BaseTrial, name: str) -> Any:  # noqa: ANN401 - a field can be anything
        """Take what a trial proposes, as :meth:`IntRange.suggest`."""
        return self._by_name[trial.suggest_categorical(name, tuple(self._by_name))]

    def spelled(self, value: object) -> str | None:
        """Spell a value the way a trial knows it, as :meth:`IntRange.spelled`."""
        return repr(value) if repr(value) in self._by_name else None

    @property
    def _by_name(self) -> dict[str, Any]:
        return {repr(each): each for each in self.options}


# By the name of a field; "schedule.rate" is the field of a field.
SearchSpace: TypeAlias = Mapping[str, IntRange | RealRange | LogRange | Choice]


def field_of(configuration: object, path: str) -> Any:  # noqa: ANN401 - a field can be anything
    """Look a field up.

    Raises:
        UnknownNameError: If there is no such field.
    """
    value = configuration
    for name in path.split("."):
        known = [each.name for each in fields(value) if each.init] if is_dataclass(value) else []
        if name not in known:
            raise UnknownNameError.from_known(f"field of {type(value).__name__}", name, known)
        value = getattr(value, name)
    return value


def with_fields(configuration: Configuration, values: Mapping[str, object]) -> Configuration:
    """Change some fields.

    Raises:
        DataError: If the configuration refuses the values.
    """
    changed: Any = configuration
    for path, value in values.items():
        head, _, rest = path.partition(".")
        changed = replace(changed, **{head: with_fields(getattr(changed, head), {rest: value}) if rest else value})
    result: Configuration = changed
    return result


def _require_order(low: float, high: float) -> None:
    if not low <= high:
        raise DataError(f"the range from {low!r} to {high!r} is empty")


Task = Literal["doubles", "targets"]
Pruner = Literal["wilcoxon", "median", "none"]


@dataclass(frozen=True)
class Study:
    """How trials are judged, cut short, and kept.

    Attributes:
        task: What is held out: ``"doubles"`` of two entries measured alone, or ``"targets"``, with every condition
            that contains one of them.
        folds: Over those; a trial can be cut short after each.
        pruner: ``"wilcoxon"`` stops a trial whose folds are worse than those of the best one by a signed-rank test
            (from the fourth fold on), ``"median"`` one whose mean so far is worse than the median of the others.
        storage: ``None`` for memory, the path of an SQLite file, ``journal:PATH``, or the URL of a database such
            as ``postgresql://...``; for many workers take one of the last two.
        name: Of the study in the storage; the same name resumes it.
    """

    task: Task = "doubles"
    folds: int = 8
    pruner: Pruner = "wilcoxon"
    storage: str | None = None
    name: str = "tuning"

    def __post_init__(self) -> None:
        """Refuse unknown names, and folds that leave nothing to learn from."""
        for what, name, known in (("task", self.task, get_args(Task)), ("pruner", self.pruner, get_args(Pruner))):
            if name not in known:
                raise UnknownNameError.from_known(what, name, known)
        if self.folds < 2:
            raise DataError(f"folds is {self.folds}; take 2 or more")


@contextmanager
def open_study(settings: Study, *, first: Mapping[str, object], seed: int) -> Iterator[optuna.Study]:
    """Open a study, or begin it; Optuna is silent meanwhile, and its storage is closed afterwards.

    Raises:
        DataError: If the storage cannot be opened.
    """
    with _quiet(), _opened(settings.storage) as storage:
        yield optuna.create_study(
            storage=storage,
            sampler=_SeededByNumber(first, seed),
            pruner=_pruner(settings.pruner),
            study_name=settings.name,
            direction="minimize",
            load_if_exists=True,
        )


class _SeededByNumber(BaseSampler):
    """The Parzen estimator, drawing anew for each trial: nothing depends on when and where a trial is run."""

    def __init__(self, first: Mapping[str, object], seed: int) -> None:
        self._first = first
        self._seed = seed

    def infer_relative_search_space(self, study: optuna.Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        return self._own(trial, "").infer_relative_search_space(study, trial)

    def sample_relative(
        self, study: optuna.Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        return self._own(trial, "").sample_relative(study, trial, search_space)

    def sample_independent(
        self, study: optuna.Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:  # noqa: ANN401 - a field can be anything
        if trial.number == 0 and param_name in self._first:
            return self._first[param_name]
        return self._own(trial, param_name).sample_independent(study, trial, param_name, param_distribution)

    def _own(self, trial: FrozenTrial, name: str) -> TPESampler:
        return TPESampler(seed=crc32(f"{self._seed}/{trial.number}/{name}".encode()))


def _pruner(name: Pruner) -> BasePruner:
    pruners: Mapping[Pruner, Callable[[], BasePruner]] = {
        "wilcoxon": WilcoxonPruner,
        "median": MedianPruner,
        "none": NopPruner,
    }
    return pruners[name]()


@contextmanager
def _quiet() -> Iterator[None]:
    """Silence what Optuna tells and that parts of it are experimental, for the time being."""
    before = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ExperimentalWarning)
            yield
    finally:
        optuna.logging.set_verbosity(before)


@contextmanager
def _opened(address: str | None) -> Iterator[BaseStorage]:
    # An address can hold a password: it never goes into a message.
    try:
        storage = _storage(address)
    except (SQLAlchemyError, StorageInternalError, OSError, ImportError) as error:
        raise DataError(
            f"the storage cannot be opened ({type(error).__name__}); take the path of an SQLite file,"
            " journal:PATH, or the URL of a database whose driver is installed"
        ) from error
    try:
        yield storage
    finally:
        if isinstance(storage, RDBStorage):
            storage.remove_session()
            storage.engine.dispose()


def _storage(address: str | None) -> BaseStorage:
    if address is None:
        return InMemoryStorage()
    if address.startswith("journal:"):
        return JournalStorage(JournalFileBackend(address.removeprefix("journal:")))
    return RDBStorage(address if "://" in address else f"sqlite:///{address}")


_FINISHED = (TrialState.COMPLETE, TrialState.PRUNED)


@dataclass(frozen=True)
class Tuned:
    """What tuning found.

    Attributes:
        table: One row per trial: its number, state, value, seconds, and what it tried.
    """

    surrogate: Surrogate  # the best configuration
    value: float  # its cross-fitted mean squared error, in the squared unit of the effects; optimistic
    trials: int  # how many trials of the study have finished, those of earlier runs and other workers included
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
