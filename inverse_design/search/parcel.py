"""A question with everything that is needed to answer it, as bytes that travel to other processes and machines."""

import hashlib
import json
from dataclasses import astuple, dataclass, replace
from functools import cached_property
from typing import Any

import torch
from jaxtyping import Int
from safetensors import SafetensorError
from safetensors.torch import load as from_bytes
from safetensors.torch import save as to_bytes
from torch import Tensor

from inverse_design.errors import SpaceError
from inverse_design.problem.limits import Limits
from inverse_design.problem.objective import Objective
from inverse_design.problem.space import CombinationSpace
from surrogates.artefact_types import decode, encode
from surrogates.data.vocabulary import Vocabulary
from surrogates.errors import DataError
from surrogates.models.calibrated import FittedCalibrated

_KIND = "inverse-design parcel"
_HEADER = 8  # bytes that say how long the header of a safetensors file is


@dataclass(frozen=True)
class Parcel:
    """An objective, a fitted surrogate and a space, as tensors and plain values.

    Attributes:
        objective: What candidates are worth.
        fitted: The surrogate, without cross-fits and held-out predictions, which no search needs.
        vocabulary: Of the space.
        entries: Vocabulary ids that may be used.
        orders: How many interventions are given together.
        required: For each required target, the ids of which a candidate holds one.
        excluded: Numbers of the measured combinations that are left out.
        groups: Ids of each group of which a candidate holds few.
        at_most: How many of each.
        apart: Ids that may not stand together.
        costs: Of each entry, in millionths, where there is a budget.
        budget: In millionths.
    """

    objective: Any
    fitted: FittedCalibrated
    vocabulary: Vocabulary
    entries: Int[Tensor, "v"]
    orders: tuple[int, ...]
    required: tuple[tuple[int, ...], ...]
    excluded: Int[Tensor, "m"]
    groups: tuple[tuple[int, ...], ...]
    at_most: tuple[int, ...]
    apart: tuple[tuple[int, int], ...]
    costs: tuple[int, ...]
    budget: int | None

    @classmethod
    def of(cls, objective: Objective, fitted: FittedCalibrated, space: CombinationSpace) -> "Parcel":
        """Wrap a question up.

        Args:
            objective: What candidates are worth.
            fitted: The surrogate.
            space: What may be proposed.

        Returns:
            The parcel.

        Raises:
            SpaceError: If the numbers of the space do not fit 64 bits.
        """
        if space.excluded.dtype == object:
            raise SpaceError(
                f"a space of {space.size:,} combinations cannot be sharded: its numbers do not fit 64 bits; take a"
                " lower order or fewer genes"
            )
        return cls(
            objective,
            replace(fitted, cross=(), evidence={}, promise=None),
            space.vocabulary,
            space.entries,
            space.orders,
            space.required,
            torch.from_numpy(space.excluded.astype("int64")),
            *astuple(space.limits),
        )

    @property
    def space(self) -> CombinationSpace:
        """What may be proposed."""
        return CombinationSpace(
            self.vocabulary,
            self.entries,
            self.orders,
            self.required,
            self.excluded.numpy().copy(),
            Limits(self.groups, self.at_most, self.apart, self.costs, self.budget),
        )

    def pack(self) -> bytes:
        """Spell the parcel out; equal parcels give equal bytes.

        Returns:
            A safetensors file whose header holds the document.

        Raises:
            DataError: If the objective or the surrogate holds something that an artefact cannot hold.
        """
        return self._packed

    @cached_property
    def _packed(self) -> bytes:
        tensors: dict[str, Tensor] = {}
        document = json.dumps(encode(self, tensors, where="parcel"), allow_nan=False, sort_keys=True)
        # One entry: the order of several in the header of a safetensors file is left to chance.
        return to_bytes(tensors, {_KIND: document})

    @classmethod
    def unpack(cls, content: bytes) -> "Parcel":
        """Read what :meth:`pack` has written; nothing of it is ever executed.

        Args:
            content: The bytes, from whomever.

        Returns:
            The parcel.

        Raises:
            DataError: If they are no parcel.
        """
        try:
            tensors = from_bytes(content)
            header = json.loads(content[_HEADER : _HEADER + int.from_bytes(content[:_HEADER], "little")])
            found = decode(json.loads(header["__metadata__"][_KIND]), tensors, where="parcel")
        except (SafetensorError, ValueError, KeyError, RecursionError) as error:
            raise DataError(f"these {len(content)} bytes are not an intact {_KIND}: {error}") from error
        if not isinstance(found, cls):
            raise DataError(f"these bytes hold a {type(found).__name__}, not an {_KIND}")
        return found


def identity(content: bytes) -> str:
    """Name a parcel by its content.

    Args:
        content: What :meth:`Parcel.pack` returned.

    Returns:
        The SHA-256, in hexadecimal.
    """
    return hashlib.sha256(content).hexdigest()
