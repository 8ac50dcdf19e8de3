"""How the trials of a tuning are judged, cut short, and kept: an Optuna study."""

import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal, get_args
from zlib import crc32

import optuna
from optuna.distributions import BaseDistribution
from optuna.exceptions import ExperimentalWarning, StorageInternalError
from optuna.pruners import BasePruner, MedianPruner, NopPruner, WilcoxonPruner
from optuna.samplers import BaseSampler, TPESampler
from optuna.storages import BaseStorage, InMemoryStorage, JournalStorage, RDBStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import FrozenTrial
from sqlalchemy.exc import SQLAlchemyError

from surrogates.errors import DataError, UnknownNameError

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

    Args:
        settings: How trials are judged, cut short, and kept.
        first: What the very first trial tries, as trials know it; the rest of it is drawn.
        seed: Fixes what is proposed.

    Yields:
        The study, which minimises.

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
