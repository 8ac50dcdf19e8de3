"""Fitting once: a fit is kept under a hash of everything that it depends on, and read again.

What is kept are artefacts (:mod:`surrogates.artefact`): no file of a cache is ever executed, and each must fit the
screen that is asked for.
"""

import hashlib
import json
import logging
import time
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from functools import cache as once
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import Tensor
from torch.backends.cpu import get_cpu_capability

from surrogates.artefact import FORMAT, Origin, load_fitted, save_fitted
from surrogates.data.screen import Screen
from surrogates.errors import DataError
from surrogates.fit_cache import FitCache, say_once
from surrogates.models.wrappers.automatic import Automatic
from surrogates.models.wrappers.calibrated import Calibrated, FittedCalibrated
from surrogates.registry import installed_version

_LOGGER = logging.getLogger(__name__)
_PACKAGE = __name__.partition(".")[0]


def cached_fit(
    surrogate: Automatic | Calibrated, screen: Screen, *, seed: int, cache: FitCache | None
) -> FittedCalibrated:
    """Fit a surrogate to a screen, or read the fit that was made of the same before; both are equal bit for bit.

    Args:
        surrogate: The configuration; one that holds what another package has made is always fitted.
        screen: Measured effects in one context.
        seed: Of the fit.
        cache: Where fits are kept; ``None`` to fit.

    Returns:
        The fitted surrogate with its error models.

    Raises:
        DataError: If the surrogate refuses the screen.
    """
    key = None if cache is None else fit_key(surrogate, screen, seed=seed)
    if cache is None or key is None:
        return surrogate.fit(screen, seed=seed)
    found = cache.find(key)
    kept = None if found is None else _read(found, screen)
    if kept is not None:
        _LOGGER.info("fit: read from %s", found)
        return kept
    begun = time.monotonic()
    fitted = surrogate.fit(screen, seed=seed)
    if time.monotonic() - begun >= cache.quickest:
        try:
            cache.keep(key, lambda path: save_fitted(fitted, path, origin=Origin.of(screen, surrogate, seed=seed)))
        except DataError as error:  # too many names for one file
            _LOGGER.info("fit: not kept, as %s", error)
    return fitted


def fit_key(surrogate: object, screen: Screen, *, seed: int) -> str | None:
    """Hash all that a fit depends on, to the order of rows: the bytes of a sum depend on it.

    Args:
        surrogate: The configuration.
        screen: Every field of it counts.
        seed: Of the fit.

    Returns:
        The hash; ``None`` if something in the configuration comes from elsewhere, whose content is not known.
    """
    try:
        spelled = _spelled((_software(), torch.get_num_threads(), seed, surrogate, screen))
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


def _spelled(value: object) -> object:
    """Spell a value out as JSON, numbers in bulk by their hash.

    Raises:
        TypeError: If it holds anything but plain values, tensors, tables, and dataclasses of this package.
    """
    kind, name = type(value), type(value).__qualname__
    if value is None or kind in (bool, int, str):
        return value
    content: object
    if kind is float:
        content = repr(value)
    elif isinstance(value, Tensor):
        held = value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data
        content = [str(value.dtype), list(value.shape), hashlib.sha256(held).hexdigest()]
    elif isinstance(value, pd.DataFrame):
        rows = pd.util.hash_pandas_object(value).to_numpy().tobytes()
        content = [*map(str, value.columns), *map(str, value.dtypes), hashlib.sha256(rows).hexdigest()]
    elif isinstance(value, tuple):
        content = [_spelled(each) for each in value]
    elif isinstance(value, Mapping):
        content = [[_spelled(key), _spelled(each)] for key, each in value.items()]
    elif is_dataclass(value) and kind.__module__.partition(".")[0] == _PACKAGE:
        content = [kind.__module__, *(_spelled(getattr(value, each.name)) for each in fields(value))]
    else:
        raise TypeError(f"what a {name} holds is not known")
    return {name: content}


@once
def _software() -> tuple[object, ...]:
    """What computes: versions, the code of the models, and what decides in which order numbers are added."""
    root, code = Path(__file__).parent, hashlib.sha256()
    for file in sorted(root.rglob("*.py")):
        code.update(f"{file.relative_to(root)}\0".encode() + file.read_bytes())
    versions = tuple(installed_version(name) for name in ("inverse-design", "scipy", "scikit-learn", "pandas"))
    return FORMAT, *versions, str(torch.__version__), np.__version__, get_cpu_capability(), code.hexdigest()
