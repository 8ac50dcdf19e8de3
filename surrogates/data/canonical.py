"""An order of conditions that depends on what was measured alone.

Whatever draws conditions at random numbers them in this order, so that an answer depends neither on the names of
genes and readouts, nor on the order of rows and columns, nor on the unit of the effects or of a single readout.
A random permutation of an order that the data fix is as random as one of any other order.
"""

import torch
from jaxtyping import Float, Int
from torch import Tensor

_DIGITS = 12  # beyond them sums depend on the order of their terms


def content_order(values: Float[Tensor, "n g"]) -> Int[Tensor, "n"]:
    """List the rows of a table by their mean in units of each column's mean size; equal ones stay as they are."""
    size = values.abs().mean(0)
    standard = values / torch.where((size > 0) & size.isfinite(), size, 1.0)
    return standard.mean(1).round(decimals=_DIGITS).argsort(stable=True)
