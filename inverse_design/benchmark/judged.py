"""What was found of held-out perturbations: named numbers, one for each perturbation."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

Columns = Mapping[str, Float[Tensor, "n *c"]]


@dataclass(frozen=True)
class Judged:
    """Numbers of the held-out perturbations of one novelty class.

    Attributes:
        conditions: Rows of the screen, each once.
        columns: Numbers by name, ``nan`` where undefined.
    """

    conditions: Int[Tensor, "n"]
    columns: Columns

    def __len__(self) -> int:
        return len(self.conditions)

    def column(self, name: str) -> Float[Tensor, "n *c"]:
        """Take one number of each perturbation.

        Args:
            name: What was found.

        Returns:
            The numbers, all ``nan`` if it was never found.
        """
        return self.columns.get(name, torch.full((len(self),), torch.nan, dtype=torch.float64))

    @classmethod
    def pooled(cls, parts: Sequence["Judged"]) -> "Judged":
        """Pool folds; a perturbation that several of them hold out counts once, with the mean of its numbers.

        Args:
            parts: What was found in each fold, at least one.

        Returns:
            All of it.
        """
        conditions, place = torch.unique(torch.cat([part.conditions for part in parts]), return_inverse=True)
        shapes = {name: values.shape[1:] for part in parts for name, values in part.columns.items()}
        columns = {}
        for name, shape in shapes.items():
            missing = torch.tensor(torch.nan, dtype=torch.float64)
            values = torch.cat([part.columns.get(name, missing.expand(len(part), *shape)) for part in parts])
            columns[name] = _averaged(values, place, len(conditions))
        return cls(conditions, columns)


def _averaged(values: Float[Tensor, "m *c"], place: Int[Tensor, "m"], count: int) -> Float[Tensor, "n *c"]:
    defined = ~values.isnan()
    total = values.new_zeros(count, *values.shape[1:]).index_add(0, place, values.nan_to_num(0.0))
    return total / values.new_zeros(count, *values.shape[1:]).index_add(0, place, defined.double())
