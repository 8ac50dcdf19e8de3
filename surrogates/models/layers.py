"""A multilayer perceptron as a value: what the neural models are made of, and what an artefact stores."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
from jaxtyping import Float
from torch import Tensor


@dataclass(frozen=True)
class Layers:
    """Linear layers with rectifiers between them.

    Attributes:
        weights: One matrix per layer, outputs by inputs.
        biases: One vector per layer.
    """

    weights: tuple[Float[Tensor, "_ _"], ...]
    biases: tuple[Float[Tensor, "_"], ...]

    @classmethod
    def random(
        cls, sizes: Sequence[int], *, generator: torch.Generator, dtype: torch.dtype = torch.float32
    ) -> "Layers":
        """Draw starting weights, uniform with the variance that keeps rectified signals alike [He 2015].

        Args:
            sizes: Width of the input, of each hidden layer, and of the output.
            generator: Source of randomness.
            dtype: Precision of the weights.

        Returns:
            The layers, with biases of zero; no tensor asks for a gradient.
        """
        steps = list(pairwise(sizes))
        weights = tuple(
            (2 * torch.rand(out, into, generator=generator, dtype=dtype) - 1) * (6 / max(into, 1)) ** 0.5
            for into, out in steps
        )
        return cls(weights, tuple(torch.zeros(out, dtype=dtype) for _, out in steps))

    def __call__(self, rows: Float[Tensor, "b _"], *, dropout: float = 0.0) -> Float[Tensor, "b _"]:
        """Apply the layers.

        Args:
            rows: Inputs.
            dropout: Probability with which each hidden unit is left out: for training only.

        Returns:
            Outputs; nothing follows the last linear layer.
        """
        last = len(self.weights) - 1
        for number, (weight, bias) in enumerate(zip(self.weights, self.biases, strict=True)):
            rows = torch.nn.functional.linear(rows, weight, bias)
            if number < last:
                rows = torch.nn.functional.dropout(rows.relu(), dropout)
        return rows

    @property
    def parameters(self) -> tuple[Tensor, ...]:
        """All weights, then all biases."""
        return (*self.weights, *self.biases)

    def to(self, *, device: str, dtype: torch.dtype) -> "Layers":
        """Move and convert the layers.

        Args:
            device: Where, for example ``"cpu"``.
            dtype: Precision.

        Returns:
            Detached copies.
        """
        return Layers(
            tuple(weight.detach().to(device=device, dtype=dtype) for weight in self.weights),
            tuple(bias.detach().to(device=device, dtype=dtype) for bias in self.biases),
        )
