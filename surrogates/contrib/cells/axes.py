"""Principal coordinates of cells, in which small networks and distances work."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from surrogates.errors import DataError


@dataclass(frozen=True)
class PrincipalAxes:
    """Leading directions of the cells: coordinates in which a small network can stand for all readouts.

    The axes are orthonormal, so a squared error of coordinates is that of readouts, up to what no axis carries.
    """

    centre: Float[Tensor, "g"]  # mean of the cells
    axes: Float[Tensor, "r g"]  # orthonormal rows
    scale: float  # root mean square of the coordinates, by which they are divided

    @classmethod
    def of(cls, cells: Float[Tensor, "cells g"], count: int) -> "PrincipalAxes":
        """Find the axes of some cells."""
        centre = cells.mean(0)
        centred = cells - centre
        # The eigenvectors of the smaller product cost a fraction of a decomposition of all cells by all readouts.
        wide = len(cells) < cells.shape[1]
        values, vectors = torch.linalg.eigh(centred @ centred.T if wide else centred.T @ centred)
        keep = min(count, int((values > values[-1] * 1e-9).sum()))
        if keep == 0 or not float(values[-1]) > 0:
            raise DataError(f"all {len(cells)} cells are equal; there is nothing to learn from them")
        values, vectors = values.flip(0)[:keep], vectors.flip(1)[:, :keep]
        axes = (vectors.T @ centred) / values.sqrt()[:, None] if wide else vectors.T
        return cls(centre, axes, float((values.mean() / len(cells)).sqrt()))

    def coordinates(self, cells: Float[Tensor, "cells g"]) -> Float[Tensor, "cells r"]:
        """Express cells by the axes."""
        return (cells - self.centre) @ self.axes.T / self.scale

    def cells(self, coordinates: Float[Tensor, "cells r"]) -> Float[Tensor, "cells g"]:
        """Go back to readouts."""
        return coordinates @ self.axes * self.scale + self.centre
