"""Fitting once: a fit is kept under a hash of everything that it depends on, and read again.

What is worked out of a fit for many questions is kept beside it, under a hash of its key and of what else counts.

What is kept are artefacts (:mod:`surrogates.artefact`): no file of a cache is ever executed, and each must fit the
screen that is asked for.
"""

import hashlib
import json
import logging
import time
from collections.abc import Callable, Container, Mapping
from dataclasses import dataclass, fields, is_dataclass
from functools import cache as once
from importlib.resources import files
from pathlib import Path
from typing import TypeVar

import numpy as np
import pandas as pd
import torch
from torch import Tensor
from torch.backends.cpu import get_cpu_capability

from surrogates.artefact import FORMAT, Origin, load_fitted, load_value, save_fitted, save_value
from surrogates.data.screen import Screen
from surrogates.errors import DataError
from surrogates.fit_cache import FitCache, say_once
from surrogates.models.wrappers.automatic import Automatic
from surrogates.models.wrappers.calibrated import Calibrated, FittedCalibrated
from surrogates.registry import installed_version
from surrogates.team import team_on
from surrogates.threads import limited_threads, threads_for

_LOGGER = logging.getLogger(__name__)
_PACKAGE = __name__.partition(".")[0]
_FASTER = 10  # times as quick as a fit may be what is still worth a file beside it
T = TypeVar("T")


def cached_fit(
    surrogate: Automatic | Calibrated, screen: Screen, *, seed: int, cache: FitCache | None
) -> FittedCalibrated:
    """Fit a surrogate to a screen, or read the fit that was made of the same; both are equal bit for bit."""
    return fit_beside(BesideFit.of_fit(surrogate, screen, seed=seed, cache=cache), surrogate, screen, seed=seed)


def fit_beside(
    beside: "BesideFit", surrogate: Automatic | Calibrated, screen: Screen, *, seed: int
) -> FittedCalibrated:
    """Do the same where it is known under which key the fit is kept: to find that takes a pass over the screen."""

    def made() -> FittedCalibrated:
        with limited_threads(threads_for(screen)), team_on(screen):
            return surrogate.fit(screen, seed=seed)

    if beside.cache is None or beside.key is None:
        return made()
    return _found_or_made(
        beside.cache,
        beside.key,
        lambda path: _read(path, screen),
        made,
        lambda fitted, path: save_fitted(fitted, path, origin=Origin.of(screen, surrogate, seed=seed)),
        quickest=beside.cache.quickest,
    )


@dataclass(frozen=True)
class BesideFit:
    """What is worked out of one fit, and serves further questions."""

    cache: FitCache | None = None  # where it is kept; ``None`` to work it out each time
    key: str | None = None  # of the fit; ``None`` where the fit is none that is kept

    @classmethod
    def of_fit(cls, surrogate: object, screen: Screen, *, seed: int, cache: FitCache | None) -> "BesideFit":
        """Say where what is worked out of a fit is kept."""
        return cls(cache, None if cache is None else fit_key(surrogate, screen, seed=seed))

    @property
    def has_fit(self) -> bool:
        """Whether the fit itself is kept, so that it takes no time worth planning."""
        return self.cache is not None and self.key is not None and self.cache.holds(self.key)

    def of(
        self, kind: type[T], make: Callable[[], T], *things: object, fits: Callable[[T], bool] = lambda _: True
    ) -> T:
        """Work something out of the fit and of ``things``, or read what was before; both are equal bit for bit."""
        key = self._key(kind, things)
        if self.cache is None or key is None:
            return make()

        def read(path: Path) -> T | None:
            try:
                value = load_value(path)
            except DataError as error:
                say_once(f"what was kept beside a fit is not used: {error}; working it out anew")
                return None
            if isinstance(value, kind) and fits(value):
                return value
            say_once(f"what was kept beside a fit is not used: {path.name!r} is no {kind.__name__} of it")
            return None

        def write(made: T, path: Path) -> None:
            save_value(made, path, origin=key)

        return _found_or_made(self.cache, key, read, make, write, quickest=self.cache.quickest / _FASTER)

    def holds(self, kind: type[object], *things: object) -> bool:
        """Tell whether :meth:`of` would find it."""
        key = self._key(kind, things)
        return self.cache is not None and key is not None and self.cache.holds(key)

    def _key(self, kind: type[object], things: tuple[object, ...]) -> str | None:
        if self.cache is None or self.key is None:
            return None
        package = kind.__module__.partition(".")[0]
        return _hashed((self.key, package, _code_of(package), kind.__name__, things), {_PACKAGE, package})


ALONE = BesideFit()  # of a fit beside which nothing is kept


def _found_or_made(
    cache: FitCache,
    key: str,
    read: Callable[[Path], T | None],
    make: Callable[[], T],
    write: Callable[[T, Path], None],
    *,
    quickest: float,
) -> T:
    """Read what is kept under a key, or make it and keep it if that took long enough."""
    found = cache.find(key)
    kept = None if found is None else read(found)
    if kept is not None:
        _LOGGER.info("fit: read from %s", found)
        return kept
    begun = time.monotonic()
    made = make()
    if time.monotonic() - begun >= quickest:
        try:
            cache.keep(key, lambda path: write(made, path))
        except DataError as error:  # too many names for one file
            _LOGGER.info("fit: not kept, as %s", error)
    return made


def fit_key(surrogate: object, screen: Screen, *, seed: int) -> str | None:
    """Hash all that a fit depends on, to the order of rows; ``None`` where foreign values are among it."""
    return _hashed((_software(), threads_for(screen), seed, surrogate, screen), {_PACKAGE})


def _hashed(value: object, packages: Container[str]) -> str | None:
    try:
        spelled = _spelled(value, packages)
    except TypeError:
        return None
    return hashlib.sha256(json.dumps(spelled).encode()).hexdigest()


def _read(path: Path, screen: Screen) -> FittedCalibrated | None:
    try:
        fitted = load_fitted(path)
    except DataError as error:
        say_once(f"a kept fit is not used: {error}; fitting anew")
        return None
    if (
        isinstance(fitted, FittedCalibrated)
        and fitted.vocabulary == screen.vocabulary
        and fitted.readouts == screen.readouts
    ):
        return fitted
    say_once(f"a kept fit is not used: {path.name!r} is no calibrated model of this screen; fitting anew")
    return None


def _spelled(value: object, packages: Container[str]) -> object:
    """Spell a value out as JSON, numbers in bulk by their hash."""
    kind, name = type(value), type(value).__qualname__
    if value is None or kind in (bool, int, str):
        return value
    content: object
    if kind is float:
        content = repr(value)
    elif isinstance(value, Tensor):
        held = value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data
        content = [str(value.dtype), list(value.shape), hashlib.sha256(held).hexdigest()]
    elif isinstance(value, np.ndarray | np.generic) and not value.dtype.hasobject:
        content = [value.dtype.str, list(value.shape), hashlib.sha256(value.tobytes()).hexdigest()]
    elif isinstance(value, pd.DataFrame):
        columns = (_spelled((each, *_column(column)), packages) for each, column in value.items())
        content = [_spelled(_column(value.index), packages), *columns]
    elif value is pd.NA:
        content = None
    elif isinstance(value, tuple):
        content = [_spelled(each, packages) for each in value]
    elif isinstance(value, Mapping):
        content = [[_spelled(key, packages), _spelled(each, packages)] for key, each in value.items()]
    elif is_dataclass(value) and kind.__module__.partition(".")[0] in packages:
        content = [kind.__module__, *(_spelled(getattr(value, each.name), packages) for each in fields(value))]
    else:
        raise TypeError(f"what a {name} holds is not known")
    return {name: content}


def _column(values: pd.Series | pd.Index) -> tuple[object, ...]:
    """List what a column holds so that 1 and "1", or a missing number and a missing text, are not the same."""
    kind = values.dtype
    if isinstance(kind, np.dtype) and not kind.hasobject:
        return str(kind), values.to_numpy()
    categories = tuple(kind.categories) if isinstance(kind, pd.CategoricalDtype) else ()
    return str(kind), categories, tuple(values)


@once
def _software() -> tuple[object, ...]:
    """What computes: versions, the code of the models, and what decides in which order numbers are added."""
    versions = tuple(installed_version(name) for name in ("inverse-design", "scipy", "scikit-learn", "pandas"))
    return FORMAT, *versions, str(torch.__version__), np.__version__, get_cpu_capability(), _code_of(_PACKAGE)


@once
def _code_of(package: str) -> str:
    """Hash the source of a package."""
    root, code = Path(str(files(package))), hashlib.sha256()
    for file in sorted(root.rglob("*.py")):
        code.update(f"{file.relative_to(root)}\0".encode() + file.read_bytes())
    return code.hexdigest()
