"""Designs of regressions whose first columns only mark what a row is made of: never a dense matrix of marks."""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor


@dataclass(frozen=True)
class MarkedDesign:
    """Rows that are one in a few of the first columns and zero in the others, and dense in the last."""

    marks: Int[Tensor, "n k"]  # columns in which a row is one, each once; ``-1`` where it has fewer
    marked: int  # how many columns are marks
    rest: Float[Tensor, "n q"]  # the last columns

    def __len__(self) -> int:
        return len(self.rest)

    def times(self, weights: Float[Tensor, "p d"]) -> Float[Tensor, "n d"]:
        """Multiply with a matrix."""
        total = self.rest @ weights[self.marked :]
        for rows, columns in self._given:
            total.index_add_(0, rows, weights[columns])
        return total

    def squared_lengths(self, root: Float[Tensor, "p d"]) -> Float[Tensor, "n"]:
        """Multiply with a matrix, and sum the squares of each row: looked up where its own products are fewer."""
        if len(self) < len(root):
            return self.times(root).square().sum(1)
        products = root @ root.T
        beside, together = products[:, self.marked :], products[self.marked :, self.marked :]
        total: Tensor = ((self.rest @ together) * self.rest).sum(1)
        for rows, columns in self._given:
            total.index_add_(0, rows, (beside[columns] * self.rest[rows]).sum(1), alpha=2)
        for one in self.marks.T:
            for other in self.marks.T:
                rows = torch.nonzero((one >= 0) & (other >= 0)).flatten()
                total.index_add_(0, rows, products[one[rows], other[rows]])
        return total

    def onto(self, values: Float[Tensor, "n d"]) -> Float[Tensor, "p d"]:
        """Multiply the transpose with a matrix."""
        own = values.new_zeros(self.marked, values.shape[1])
        for rows, columns in self._given:
            own.index_add_(0, columns, values[rows])
        return torch.cat([own, self.rest.T @ values])

    @property
    def gram(self) -> Float[Tensor, "p p"]:
        """Products of all columns with each other."""
        across = self.onto(self.rest)
        together = self.rest.new_zeros(self.marked, self.marked)
        for one in self.marks.T:
            for other in self.marks.T:
                both = (one >= 0) & (other >= 0)
                ones = self.rest.new_ones(int(both.sum()))
                together.index_put_((one[both], other[both]), ones, accumulate=True)
        own = torch.cat([together, across[: self.marked].T])
        return torch.cat([own, across], dim=1)

    @property
    def dense(self) -> Float[Tensor, "n p"]:
        """All columns."""
        own = self.rest.new_zeros(len(self), self.marked)
        for rows, columns in self._given:
            own[rows, columns] = 1.0
        return torch.cat([own, self.rest], dim=1)

    @property
    def _given(self) -> list[tuple[Int[Tensor, "m"], Int[Tensor, "m"]]]:
        """Rows and columns of the marks, slot by slot."""
        slots = []
        for columns in self.marks.T:
            rows = torch.nonzero(columns >= 0).flatten()
            slots.append((rows, columns[rows]))
        return slots
