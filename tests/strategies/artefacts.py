"""What values that files can hold are made of."""

from dataclasses import fields, is_dataclass
from itertools import chain

from torch import Tensor


def tensors_of(value: object) -> list[Tensor]:
    """List what a fit holds in bulk, in order."""
    if isinstance(value, Tensor):
        return [value]
    if is_dataclass(value):
        value = [getattr(value, each.name) for each in fields(value)]
    parts = value.values() if isinstance(value, dict) else value if isinstance(value, list | tuple) else ()
    return list(chain.from_iterable(map(tensors_of, parts)))
