"""The quick checks refuse what jaxtyping's own refuse, and pass what they pass."""

import functools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import beartype
import jaxtyping
import pytest
import torch
from jaxtyping import Float, Int
from torch import Tensor
from type_checks import _AS_JAXTYPING, has_axes, jaxtyped

from surrogates.data.screen import Screen
from surrogates.models.features import effect_components
from surrogates.uncertainty.covariance import FactorCovariance

WAYS = [
    pytest.param(functools.partial(way, typechecker=beartype.beartype), id=name)
    for name, way in {"quick": jaxtyped, "jaxtyping": _AS_JAXTYPING}.items()
]
Way = Callable[[Any], Any]


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
        assert has_axes(annotation)
    for annotation in (Callable[[int], int], Callable[..., int], dict[str, int] | None, Tensor, "Screen"):
        assert not has_axes(annotation)


def test_the_packages_are_checked() -> None:
    assert jaxtyping.jaxtyped is jaxtyped
    refused(effect_components, ones(3).double(), 2)
    refused(effect_components, ones(3, 2).double(), "2")
    refused(FactorCovariance, ones(3), ones(2, 1))
    refused(FactorCovariance.independent, ones(3, 1))
    refused(FactorCovariance(ones(3), ones(3, 1)).whiten, ones(2, 3, 1))
    refused(Screen.from_labels, ones(3), [], [])
