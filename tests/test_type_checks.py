"""The quick checks refuse what jaxtyping's own refuse, and pass what they pass."""

import functools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any, Protocol, runtime_checkable

import beartype
import jaxtyping
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from jaxtyping import Float, Int, Shaped
from torch import Tensor
from type_checks import _AS_JAXTYPING, arrays_in, axes_of, jaxtyped, quick

from surrogates.data.screen import Screen
from surrogates.models.directions import effect_components
from surrogates.uncertainty.error_model import FactorCovariance

WAYS = [
    pytest.param(functools.partial(way, typechecker=beartype.beartype), id=name)
    for name, way in {"quick": jaxtyped, "jaxtyping": _AS_JAXTYPING}.items()
]
Way = functools.partial[Any]


def ones(*shape: int) -> Tensor:
    return torch.ones(*shape)


@pytest.fixture(params=WAYS)
def way(request: pytest.FixtureRequest) -> Way:
    return request.param


def refused(function: Callable[..., Any], *args: Any, **kwargs: Any) -> None:
    with pytest.raises(jaxtyping.TypeCheckError):
        function(*args, **kwargs)


def test_arguments_and_what_is_returned_share_their_axes(way: Way) -> None:
    @way
    def product(
        left: Float[Tensor, "n k"], right: Float[Tensor, "k m"], *, wrong: bool = False
    ) -> Float[Tensor, "n m"]:
        return (left @ right).T if wrong else left @ right

    assert product(ones(2, 3), ones(3, 4)).shape == (2, 4)
    assert product(ones(5, 1), right=ones(1, 4)).shape == (5, 4)  # the letters of another call are forgotten
    refused(product, ones(2, 3), ones(4, 3))
    refused(product, ones(2, 3), right=ones(2, 3, 1))
    refused(product, ones(2, 3).to(torch.int64), ones(3, 4))
    refused(product, ones(2, 3), ones(3, 4), wrong=True)
    assert product(ones(2, 3), ones(3, 4)).shape == (2, 4)


def test_a_call_inside_a_call_has_letters_of_its_own(way: Way) -> None:
    @way
    def inner(rows: Float[Tensor, "n"]) -> float:
        return float(rows.sum())

    @way
    def plain(length: int) -> float:
        return inner(ones(length))

    @way
    def outer(rows: Float[Tensor, "n"]) -> Float[Tensor, "n"]:
        return rows * inner(ones(7)) * plain(9)

    assert outer(ones(3)).tolist() == [63.0] * 3


def test_plain_types_nested_arrays_and_unions(way: Way) -> None:
    @way
    def plain(name: str, counts: Sequence[int] = ()) -> str:
        return name if counts else None  # type: ignore[return-value]

    @way
    def nested(rows: tuple[Float[Tensor, "n"], Float[Tensor, "n"]], at: Int[Tensor, "m"] | None) -> int:
        return len(rows) if at is None else len(at)

    assert plain("a", [1]) == "a"
    refused(plain, 3)
    refused(plain, "a", [1.5])
    refused(plain, "a")
    assert nested((ones(2), ones(2)), None) == 2
    refused(nested, (ones(2), 3), None)
    refused(nested, (ones(2), ones(2)), ones(2))


def test_dataclasses_and_methods(way: Way) -> None:
    @way
    @dataclass(frozen=True)
    class Pair:
        left: Float[Tensor, "n"]
        right: Float[Tensor, "n"]
        name: str = ""

        @classmethod
        @way
        def twice(cls, one: Float[Tensor, "n"]) -> "Any":
            return cls(one, one)

        @property
        @way
        def both(self) -> Float[Tensor, "2 n"]:
            return torch.cat([self.left, self.right]) if self.name else torch.stack([self.left, self.right])

    @way
    @dataclass(frozen=True)
    class Named(Pair):
        name: str = "given"

    assert Pair.twice(ones(3)).both.shape == (2, 3)
    refused(Pair, ones(2), ones(3))
    refused(Pair, ones(2), ones(2), name=3)
    refused(Named, ones(2), ones(3))
    refused(Pair.twice, 3)
    refused(lambda: Named(ones(2), ones(2)).both)
    with pytest.raises(TypeError, match="missing"):
        Pair(ones(2))


def test_a_scope_alone_is_still_one() -> None:
    with jaxtyped("context"):
        assert isinstance(ones(2), Float[Tensor, "n"])
        assert not isinstance(ones(3), Float[Tensor, "n"])


def test_generators_are_checked_as_before(way: Way) -> None:
    @way
    def rows(of: Float[Tensor, "n g"]) -> Iterator[Float[Tensor, "g"]]:
        yield from of

    assert len(list(rows(ones(2, 3)))) == 2
    refused(lambda: list(rows(ones(2))))


def test_arrays_with_axes_are_found_at_any_depth() -> None:
    row = Float[Tensor, "n"]
    for annotation in (row, tuple[row, ...], row | None, Callable[[row], int], dict[str, list[row]]):
        assert arrays_in(annotation) == [row]
    for annotation in (Callable[[int], int], Callable[..., int], dict[str, int] | None, Tensor, "Screen"):
        assert arrays_in(annotation) == []
        assert quick(annotation) is annotation


def test_only_letters_and_sizes_are_checked_here() -> None:
    assert axes_of(Float[Tensor, "n 2 _ _k g1"]) == ("n", 2, None, None, "g1")
    assert axes_of(Float[Tensor, ""]) == ()
    for other in ("*b", "#n", "n+1", "...", "n k-1"):
        assert axes_of(Float[Tensor, other]) is None


sizes = st.lists(st.integers(0, 3), max_size=3).map(tuple)
axes = st.lists(st.sampled_from(["n", "k", "2", "_", "#n", "*b"]), max_size=3, unique=True).map(" ".join)
kinds = st.sampled_from([torch.float64, torch.float32, torch.int64, torch.bool])


@settings(max_examples=100)
@given(st.tuples(axes, axes, axes), st.tuples(sizes, sizes, sizes), st.tuples(kinds, kinds, kinds))
def test_both_ways_agree(
    named: tuple[str, ...], shapes: tuple[tuple[int, ...], ...], of: tuple[torch.dtype, ...]
) -> None:
    first, second, third = (torch.ones(shape).to(kind) for shape, kind in zip(shapes, of, strict=True))

    def call(one: Any, other: Any) -> Any:
        return None if one is other else third

    call.__annotations__ = {
        "one": Float[Tensor, named[0]],
        "other": Float[Tensor, named[1]] | tuple[Int[Tensor, named[1]], Float[Tensor, named[0]]],
        "return": Shaped[Tensor, named[2]] | None,
    }
    said = []
    for way in (jaxtyped, _AS_JAXTYPING):
        checked = way(call, typechecker=beartype.beartype)
        for arguments in ((first, second), (first, (second, first)), (first, first)):
            try:
                checked(*arguments)
                said.append(True)
            except jaxtyping.TypeCheckError:
                said.append(False)
    assert said[:3] == said[3:]


def test_protocols_ask_for_every_attribute_and_compute_each_property_once_per_class(way: Way) -> None:
    computed = []

    @runtime_checkable
    class Sized(Protocol):
        @property
        def size(self) -> int: ...

        def grow(self) -> int: ...

    @dataclass(frozen=True)
    class Good:
        @property
        def size(self) -> int:
            computed.append(self)
            return 1

        def grow(self) -> int:
            return 2

    @dataclass(frozen=True)
    class Bad:
        size: int

    @way
    def take(one: Sized, more: Sequence[Sized] = ()) -> Sized | None:
        return one if len(more) < 2 else 3  # type: ignore[return-value]

    assert take(Good(), [Good()]) == Good()
    before = len(computed)
    assert take(Good()) == Good()
    assert way.func is not jaxtyped or len(computed) == before == 1
    loose, empty = SimpleNamespace(size=1, grow=print), SimpleNamespace(size=1)
    assert take(loose) is loose
    for wrong in (Bad(1), 3, empty):
        refused(take, wrong)
        refused(take, Good(), [wrong])
    refused(take, Good(), [Good(), Good()])


def test_the_packages_are_checked() -> None:
    assert jaxtyping.jaxtyped is jaxtyped
    refused(effect_components, ones(3).double(), 2)
    refused(effect_components, ones(3, 2).double(), "2")
    refused(FactorCovariance, ones(3), ones(2, 1))
    refused(FactorCovariance.independent, ones(3, 1))
    refused(FactorCovariance(ones(3), ones(3, 1)).whiten, ones(2, 3, 1))
    refused(Screen.from_labels, ones(3), [], [])
