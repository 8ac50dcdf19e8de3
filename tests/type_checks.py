"""The checks that jaxtyping's import hook puts around every function, at half their cost.

``jaxtyping.jaxtyped(typechecker=...)`` checks the arguments of a call twice, once alone and once with what is
returned, and binds them to names as well: its messages tell which argument was wrong. On the small matrices of the
tests that is most of the time. Here beartype wraps the function itself, in a scope of axis letters where an
annotation has any: each argument is checked once, then what is returned, with the same letters.
"""

import dataclasses
import inspect
from collections.abc import Callable
from functools import partial, wraps
from typing import Any, get_args

import jaxtyping
from beartype import BeartypeConf, beartype

_AS_JAXTYPING = jaxtyping.jaxtyped
_CHECKED = beartype(conf=BeartypeConf(violation_type=jaxtyping.TypeCheckError))
_MARK = "__axes_are_checked__"


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


def has_axes(annotation: Any) -> bool:
    """Whether an annotation holds an array with axes, at any depth."""
    if inspect.isclass(annotation) and issubclass(annotation, jaxtyping.AbstractArray):
        return True
    if isinstance(annotation, list | tuple):  # the arguments of a Callable
        return any(map(has_axes, annotation))
    return any(map(has_axes, get_args(annotation)))


def _function(function: Callable[..., Any], typechecker: Any) -> Callable[..., Any]:
    if inspect.isgeneratorfunction(function):  # its body runs when the scope is long closed
        return _AS_JAXTYPING(function, typechecker=typechecker)
    checked = _CHECKED(function)
    if any(map(has_axes, function.__annotations__.values())):
        checked = _in_own_scope(checked)
    setattr(checked, _MARK, True)
    return checked


def _in_own_scope(function: Callable[..., Any]) -> Callable[..., Any]:
    scope = _AS_JAXTYPING("context")

    @wraps(function)
    def scoped(*args: Any, **kwargs: Any) -> Any:
        with scope:
            return function(*args, **kwargs)

    return scoped
