"""The checks that jaxtyping's import hook puts around every function, at a fraction of their cost.

``jaxtyping.jaxtyped(typechecker=...)`` checks the arguments of a call twice, once alone and once with what is
returned, and binds them to names as well: its messages tell which argument was wrong. On the small matrices of the
tests all that takes longer than what is tested. Here beartype wraps the function itself, in a scope of axis
letters where an annotation has any: each argument is checked once, then what is returned, with the same letters.
Axes such as ``*b`` or ``n+1``, and the letters beside them, are left to jaxtyping. Before Python 3.12 a protocol
is checked by computing every property that it asks for; here this is done once for each class of data.
"""

import dataclasses
import inspect
import threading
from collections.abc import Callable
from functools import cache, partial, reduce, wraps
from operator import or_
from types import FunctionType, UnionType
from typing import Annotated, Any, Union, get_args, get_origin

import jaxtyping
from beartype import BeartypeConf, beartype
from beartype.vale import Is

_AS_JAXTYPING = jaxtyping.jaxtyped
_CHECKED = beartype(conf=BeartypeConf(violation_type=jaxtyping.TypeCheckError))
_MARK = "__is_checked__"


class _Scope(threading.local):
    """Sizes of the axis letters of the call that is being checked."""

    letters: dict[str, int] = {}  # noqa: RUF012 - replaced by each call


_SCOPE = _Scope()


def jaxtyped(one: Any = None, *, typechecker: Any = None) -> Any:
    """Decorate what the import hook decorates: functions, classes, and what wraps functions.

    Args:
        one: A function, a class, a property, a class method or a static method.
        typechecker: As jaxtyping calls it; used where the quick way does not apply.
    """
    if one is None:
        return partial(jaxtyped, typechecker=typechecker)
    if isinstance(one, str):  # a scope alone
        return _AS_JAXTYPING(one)
    if inspect.isclass(one):
        if dataclasses.is_dataclass(one) and not hasattr(one.__init__, _MARK):
            one.__init__ = _function(one.__init__, typechecker)  # type: ignore[misc]
        return one
    if inspect.isfunction(one):
        return _function(one, typechecker)
    if isinstance(one, classmethod | staticmethod):
        return type(one)(jaxtyped(one.__func__, typechecker=typechecker))
    return _AS_JAXTYPING(one, typechecker=typechecker)


def _function(function: Callable[..., Any], typechecker: Any) -> Callable[..., Any]:
    if inspect.isgeneratorfunction(function):  # its body runs when the scope of the call is long closed
        return _AS_JAXTYPING(function, typechecker=typechecker)
    arrays = [each for hint in function.__annotations__.values() for each in arrays_in(hint)]
    simple = all(axes_of(each) is not None for each in arrays)
    same = FunctionType(
        function.__code__, function.__globals__, function.__name__, function.__defaults__, function.__closure__
    )
    same.__kwdefaults__, same.__qualname__ = function.__kwdefaults__, function.__qualname__
    same.__module__ = function.__module__
    same.__annotations__ = {name: quick(hint, arrays=simple) for name, hint in function.__annotations__.items()}
    checked = wraps(function)(_CHECKED(same))
    if arrays:
        checked = _in_own_scope(checked) if simple else _in_scope_of_jaxtyping(checked)
    setattr(checked, _MARK, True)
    return checked


def _in_own_scope(function: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(function)
    def scoped(*args: Any, **kwargs: Any) -> Any:
        outer = _SCOPE.letters
        _SCOPE.letters = {}
        try:
            return function(*args, **kwargs)
        finally:
            _SCOPE.letters = outer

    return scoped


def _in_scope_of_jaxtyping(function: Callable[..., Any]) -> Callable[..., Any]:
    scope = _AS_JAXTYPING("context")

    @wraps(function)
    def scoped(*args: Any, **kwargs: Any) -> Any:
        with scope:
            return function(*args, **kwargs)

    return scoped


def _is_array(hint: Any) -> bool:
    return inspect.isclass(hint) and issubclass(hint, jaxtyping.AbstractArray)


def arrays_in(hint: Any) -> list[Any]:
    """List the arrays with axes that an annotation holds, at any depth."""
    if _is_array(hint):
        return [hint]
    parts = hint if isinstance(hint, list | tuple) else get_args(hint)  # the arguments of a Callable are a list
    return [each for part in parts for each in arrays_in(part)]


def axes_of(array: Any) -> tuple[str | int | None, ...] | None:
    """Take axes apart: a letter, a size, or ``None`` for any; ``None`` instead if one is something else."""
    axes: list[str | int | None] = []
    for axis in array.dim_str.split():
        if not (axis.isidentifier() or axis.isdigit()):
            return None
        axes.append(int(axis) if axis.isdigit() else None if axis.startswith("_") else axis)
    return tuple(axes)


def quick(hint: Any, *, arrays: bool = True) -> Any:
    """Replace protocols in an annotation, and arrays if wanted, by what is checked faster."""
    if _is_array(hint) and arrays:
        return Annotated[hint.array_type, Is[_array_check(hint)]]
    if inspect.isclass(hint) and getattr(hint, "_is_runtime_protocol", False):
        return Annotated[object, Is[_protocol_check(hint)]]
    origin, parts = get_origin(hint), get_args(hint)
    if origin is None or origin in {Annotated, Callable} or not parts:
        return hint
    new = tuple(quick(part, arrays=arrays) for part in parts)
    if all(one is other for one, other in zip(new, parts, strict=True)):
        return hint
    return reduce(or_, new) if origin in {Union, UnionType} else origin[new]


@cache
def _array_check(array: Any) -> Callable[[Any], bool]:
    axes, of_any_shape = axes_of(array), array.dtype[array.array_type, "..."]
    kinds: dict[tuple[type, Any], bool] = {}

    def has_axes(value: Any) -> bool:
        kind = (type(value), value.dtype)
        if kind not in kinds:
            kinds[kind] = isinstance(value, of_any_shape)
        if not kinds[kind] or len(value.shape) != len(axes):
            return False
        letters = _SCOPE.letters
        found: dict[str, int] = {}
        for axis, size in zip(axes, value.shape, strict=True):
            if axis is None:
                continue
            if axis != size if isinstance(axis, int) else letters.get(axis, found.setdefault(axis, size)) != size:
                return False
        letters.update(found)
        return True

    return _called(f"{array.dtype.__name__}[{array.array_type.__module__}.{array.__name__}]", has_axes)


@cache
def _protocol_check(protocol: type) -> Callable[[Any], bool]:
    known: set[type] = set()

    def offers(value: Any) -> bool:
        kind = type(value)
        if kind in known:
            return True
        offered = isinstance(value, protocol)
        if offered and dataclasses.is_dataclass(kind):  # all values of which have the same attributes
            known.add(kind)
        return offered

    return _called(f"{protocol.__module__}.{protocol.__qualname__} {id(protocol)}", offers)


def _called(name: str, check: Callable[[Any], bool]) -> Callable[[Any], bool]:
    """Give a check a name of its own: beartype takes annotations for the same if they are spelt the same."""
    check.__qualname__ = check.__name__ = name
    return check
