import importlib
import inspect
import json
import math
import pkgutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields, is_dataclass
from typing import Any, Literal, get_args, get_type_hints

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from jaxtyping import Float
from safetensors.torch import save as to_bytes
from torch import Tensor

import surrogates.models
from surrogates import artefact_types
from surrogates.artefact_types import ARTEFACT_TYPES, decode, encode
from surrogates.errors import DataError
from surrogates.models.interaction import FittedInteraction
from surrogates.registry import Registry


@dataclass(frozen=True)
class Nested:
    plain: bool | int | float | str | tuple[Any, ...] | Mapping[Any, Any] | None
    table: Float[Tensor, "n g"]
    row: Float[Tensor, "g"]
    inner: "Nested | None" = None
    rows: tuple[Float[Tensor, "m"], ...] = ()
    word: Literal["one", "two"] = "one"


@dataclass(frozen=True)
class Unregistered:
    value: int


@dataclass
class Thawed:
    value: int


@pytest.fixture(scope="module", autouse=True)
def _types_of_this_file() -> Iterator[None]:
    own = {kind.__name__: f"{__name__}:{kind.__name__}" for kind in (Nested, Thawed)}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            artefact_types,
            "ARTEFACT_TYPES",
            Registry[type[Any]]("artefact type", ARTEFACT_TYPES.group, {**ARTEFACT_TYPES.shipped, **own}),
        )
        yield
    artefact_types._registered.cache_clear()


def _round_trip(value: object) -> Any:
    tensors: dict[str, Tensor] = {}
    text = json.dumps(encode(value, tensors, where="value"), allow_nan=False)
    return decode(json.loads(text), tensors, where="value")


# --- the registry ---------------------------------------------------------------------------------------------


def _fitted_classes() -> Iterator[type]:
    for module in pkgutil.iter_modules(surrogates.models.__path__, "surrogates.models."):
        for name, kind in inspect.getmembers(importlib.import_module(module.name), inspect.isclass):
            if name.startswith("Fitted") and is_dataclass(kind) and kind.__module__ == module.name:
                yield kind


def _held(kind: type) -> Iterator[type]:
    """The dataclasses that the annotations of a dataclass name."""
    pending: list[Any] = list(get_type_hints(kind).values())
    while pending:
        hint = pending.pop()
        pending += get_args(hint)
        if inspect.isclass(hint) and is_dataclass(hint):
            yield hint


def test_every_fitted_model_and_what_it_holds_is_registered() -> None:
    pending, reached = list(_fitted_classes()), set[type]()
    assert FittedInteraction in pending
    while pending:
        kind = pending.pop()
        if kind not in reached:
            reached.add(kind)
            pending += _held(kind)
    places = {kind.__name__: f"{kind.__module__}:{kind.__qualname__}" for kind in reached}
    places.pop("FittedRegressor")  # holds a regressor of another library, which no file can
    missing = {name: place for name, place in places.items() if ARTEFACT_TYPES.shipped.get(name) != place}
    assert not missing, f"add to ARTEFACT_TYPES: {missing}"


@pytest.mark.parametrize("name", ARTEFACT_TYPES.shipped)
def test_shipped_types_are_frozen_dataclasses_under_their_own_names(name: str) -> None:
    kind = ARTEFACT_TYPES.load(name)
    assert kind.__name__ == name
    assert kind.__dataclass_params__.frozen
    assert all(each.init for each in fields(kind))


# --- values ---------------------------------------------------------------------------------------------------


SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text()
VALUES = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(inner, max_size=4).map(tuple) | st.dictionaries(st.text() | st.integers(), inner, max_size=4)
    ),
    max_leaves=12,
)


def _same(one: object, other: object) -> bool:
    """Equality that tells apart 1, 1.0 and True, and knows that nan is nan."""
    if type(one) is not type(other):
        return False
    if isinstance(one, tuple) and isinstance(other, tuple):
        return len(one) == len(other) and all(map(_same, one, other))
    if isinstance(one, dict) and isinstance(other, dict):
        return list(one) == list(other) and all(_same(one[key], other[key]) for key in one)
    if isinstance(one, float) and isinstance(other, float):
        return (math.isnan(one) and math.isnan(other)) or (
            one == other and math.copysign(1, one) == math.copysign(1, other)
        )
    return one == other


@given(value=VALUES)
def test_nested_values_survive(value: object) -> None:
    again = _round_trip(Nested(value, torch.ones(1, 2), torch.ones(2)))  # type: ignore[arg-type]
    assert _same(again.plain, value)


@given(
    dtype=st.sampled_from([torch.bool, torch.uint8, torch.int8, torch.int64, torch.bfloat16, torch.float32]),
    shape=st.lists(st.integers(0, 3), max_size=3),
)
def test_tensors_keep_type_and_shape(dtype: torch.dtype, shape: list[int]) -> None:
    value = torch.arange(math.prod(shape)).reshape(shape).to(dtype)
    (again,) = _round_trip((value,))
    assert again.dtype is dtype
    assert torch.equal(again, value)


def test_bits_of_floats_survive() -> None:
    value = torch.tensor([math.nan, -0.0, math.inf, 5e-324, 0.1], dtype=torch.float64)
    assert torch.equal(_round_trip((value,))[0].view(torch.int64), value.view(torch.int64))


def test_views_survive_and_one_tensor_is_stored_once() -> None:
    table = torch.arange(12.0, requires_grad=True).reshape(3, 4)
    tensors: dict[str, Tensor] = {}
    values = (table, table.T, table[:, ::2], table[0].expand(5, -1), table)
    again = decode(encode(values, tensors, where="value"), tensors, where="value")
    assert len(tensors) == 4
    assert again[0] is again[4]
    assert all(torch.equal(one, other) for one, other in zip(again, values, strict=True))
    assert not any(each.requires_grad for each in again)
    to_bytes(tensors)


def test_dataclasses_survive_in_dataclasses() -> None:
    inner = Nested(1.5, torch.ones(2, 3), torch.zeros(3), rows=(torch.ones(1), torch.ones(4)), word="two")
    again = _round_trip(Nested((True, {1: "a"}), torch.ones(0, 2), torch.zeros(2), inner)).inner
    assert (again.plain, again.word) == (1.5, "two")
    assert [len(each) for each in again.rows] == [1, 4]


@pytest.mark.parametrize(
    ("value", "match"),
    [
        ([1], r"extra is a list, which an artefact cannot hold"),
        ({1}, r"extra is a set"),
        (object, r"extra is a type"),
        (lambda: 0, r"extra is a function"),
        (1j, r"extra is a complex"),
        (torch.ones(1, dtype=torch.complex64), r"extra is a torch\.complex64 tensor"),
        (torch.eye(2).to_sparse(), r"extra is a torch\.float32 tensor of layout torch\.sparse_coo"),
        ({True: 1}, r"extra has the key True"),
        ({(1,): 1}, r"extra has the key \(1,\)"),
        ((0, {"a": [1]}), r"extra\[1\]\['a'\] is a list"),
        (Unregistered(1), r"Unregistered, which is not a registered artefact type"),
        (Thawed(1), r"Thawed is not frozen"),
        (Nested(1, torch.ones(2, 3), torch.ones(3), inner=Unregistered(1)), "inner is a Unregistered"),  # type: ignore[arg-type]
        (Nested(1, torch.ones(2, 3), torch.ones(4)), r"row is a torch\.float32 tensor of shape \(4,\)"),
    ],
)
def test_what_cannot_be_stored_is_named(value: object, match: str) -> None:
    with pytest.raises(DataError, match=match):
        encode(value, {}, where="extra")


def test_a_class_that_only_bears_a_registered_name_is_refused() -> None:
    impostor = dataclass(frozen=True)(type("Layers", (), {"__annotations__": {"value": int}}))
    with pytest.raises(DataError, match="Layers, which is not a registered artefact type"):
        encode(impostor(value=1), {}, where="value")
