from importlib.metadata import EntryPoint, EntryPoints

import pytest
from hypothesis import given
from hypothesis import strategies as st

from surrogates import registry as module
from surrogates.errors import UnknownNameError
from surrogates.models.base import CellSurrogate, Surrogate
from surrogates.models.registry import CELL_SURROGATES, SURROGATES
from surrogates.registry import DuplicateNameError, Registry

GROUP = "inverse_design.tests"
NAMES = st.text("abcdefgh_", min_size=1, max_size=8)


def _install(monkeypatch: pytest.MonkeyPatch, **values: str) -> None:
    installed = EntryPoints(EntryPoint(name, value, GROUP) for name, value in values.items())
    monkeypatch.setattr(module, "entry_points", lambda group: installed.select(group=group))


@given(names=st.sets(NAMES, max_size=6), name=NAMES)
def test_exactly_the_shipped_names_are_known(names: set[str], name: str) -> None:
    registry: Registry[type] = Registry("thing", GROUP, dict.fromkeys(names, "builtins:dict"))
    assert registry.names() == tuple(sorted(names))
    if name in names:
        assert registry.load(name) is dict
    else:
        with pytest.raises(UnknownNameError, match=f"unknown thing '{name}'"):
            registry.load(name)


def test_names_import_nothing() -> None:
    assert Registry[type]("thing", GROUP, {"a": "no.such.module:Thing"}).names() == ("a",)


def test_an_unknown_name_lists_the_nearest() -> None:
    with pytest.raises(UnknownNameError, match="unknown surrogate 'aditive': did you mean 'additive'"):
        SURROGATES.load("aditive")


def test_entry_points_add_names(monkeypatch: pytest.MonkeyPatch) -> None:
    _install(monkeypatch, theirs="builtins:list")
    registry: Registry[type] = Registry("thing", GROUP, {"ours": "builtins:dict"})
    assert registry.names() == ("ours", "theirs")
    assert registry.load("theirs") is list


def test_a_name_claimed_twice_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    _install(monkeypatch, ours="builtins:list")
    registry: Registry[type] = Registry("thing", GROUP, {"ours": "builtins:dict"})
    with pytest.raises(DuplicateNameError, match="thing 'ours' is both builtins:dict and builtins:list"):
        registry.names()


@pytest.mark.parametrize("name", SURROGATES.shipped)
def test_every_shipped_surrogate_loads(name: str) -> None:
    assert isinstance(SURROGATES.load(name)(), Surrogate)


@pytest.mark.parametrize("name", CELL_SURROGATES.shipped)
def test_every_shipped_surrogate_of_cells_loads(name: str) -> None:
    assert isinstance(CELL_SURROGATES.load(name)(), CellSurrogate)
