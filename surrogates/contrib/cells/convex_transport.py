"""Transport maps of single cells as gradients of input-convex networks.

The form of CellOT.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
from jaxtyping import Float
from torch import Tensor

from surrogates.contrib.cells.axes import PrincipalAxes
from surrogates.contrib.cells.shift import checked_cells, known_parts, treated_beside_controls
from surrogates.data.io.cells import CONTROL, Cells
from surrogates.data.perturbation import Perturbation
from surrogates.errors import DataError
from surrogates.models.training import placed


@dataclass(frozen=True)
class ConvexNetwork:
    """A scalar function that is convex in its input [Amos 2017, equation 2].

    ``z_1 = s(V_0 x + b_0)``, ``z_k+1 = s(softplus(W_k) z_k + V_k x + b_k)`` with the convex and rising ``s`` of
    softplus, plus ``exp(q) |x|^2 / 2`` with ``q`` zero at first: an untrained gradient is close to the identity.
    """

    skips: tuple[Float[Tensor, "_ r"], ...]  # V: from the input to each layer
    inner: tuple[Float[Tensor, "_ _"], ...]  # W: from each layer to the next, made positive by softplus
    biases: tuple[Float[Tensor, "_"], ...]  # b: one vector per layer
    quadratic: Float[Tensor, "1"]  # q: logarithm of the weight of the quadratic term

    @classmethod
    def random(cls, width: int, hidden: Sequence[int], *, generator: torch.Generator) -> "ConvexNetwork":
        """Draw starting weights; those between layers so small that the quadratic term leads at first."""
        sizes = [*hidden, 1]

        def normal(*shape: int) -> Tensor:
            return torch.randn(*shape, generator=generator)

        skips = tuple(normal(out, width) / width**0.5 for out in sizes)
        inner = tuple(-4.0 + 0.1 * normal(out, into) for into, out in pairwise(sizes))
        return cls(skips, inner, tuple(torch.zeros(out) for out in sizes), torch.zeros(1))

    @property
    def parameters(self) -> tuple[Tensor, ...]:
        """All weights and biases."""
        return (*self.skips, *self.inner, *self.biases, self.quadratic)

    def __call__(self, rows: Float[Tensor, "b r"]) -> Float[Tensor, "b"]:
        """Evaluate the function."""
        softplus = torch.nn.functional.softplus
        found = softplus(rows @ self.skips[0].T + self.biases[0])
        for number, weight in enumerate(self.inner, start=1):
            found = found @ softplus(weight).T + rows @ self.skips[number].T + self.biases[number]
            if number < len(self.inner):
                found = softplus(found)
        return found[:, 0] + self.quadratic.exp() * rows.square().sum(1) / 2

    def gradient(self, rows: Float[Tensor, "b r"], *, differentiable: bool = False) -> Float[Tensor, "b r"]:
        """Differentiate by the input: a monotone map, hence an optimal one between its input and its output."""
        with torch.enable_grad():
            rows = rows if rows.requires_grad else rows.detach().requires_grad_()
            (found,) = torch.autograd.grad(self(rows).sum(), rows, create_graph=differentiable)
        return found if differentiable else found.detach()


@dataclass(frozen=True)
class FittedConvexTransport:
    """A transport map for each perturbation."""

    readouts: tuple[str, ...]  # names of the readouts
    axes: PrincipalAxes  # coordinates in which the maps work
    maps: dict[str, ConvexNetwork]  # potential by the label of the perturbation

    def predict(self, control: Float[Tensor, "cells g"], perturbation: Perturbation) -> Float[Tensor, "cells g"]:
        """Map control cells, by the parts of a new combination in turn; what no component carries stays."""
        cells = checked_cells(control, self.readouts)
        start = moved = self.axes.coordinates(cells)
        for label in known_parts(perturbation, self.maps):
            moved = self.maps[label].gradient(moved)
        return cells + (moved - start) @ self.axes.axes * self.axes.scale


@dataclass(frozen=True)
class ConvexTransport:
    """Sends control to treated cells by ``x -> grad g(x)`` with convex ``g`` [Bunne 2023, Nat Methods 20, 1759].

    For each perturbation two input-convex networks play ``max_f min_g E[f(grad g(x)) - <x, grad g(x)>] - E[f(y)]``
    over control cells ``x`` and treated cells ``y``, pooled over the contexts that have both, each context drawn
    equally often. Departure from the source: principal components stand for its autoencoder, and what they lose of
    a cell is kept.
    """

    components: int = 50  # number of principal coordinates
    hidden: tuple[int, ...] = (64, 64)  # width of each hidden layer of both networks
    steps: int = 1000  # steps of ``f``
    inner_steps: int = 5  # steps of ``g`` for each
    batch: int = 256  # cells in each step
    rate: float = 5e-3  # step size of Adam

    def __post_init__(self) -> None:
        """Refuse sizes that train nothing."""
        if min(self.components, self.steps, self.inner_steps, self.batch, *self.hidden) < 1 or not self.rate > 0:
            raise DataError(f"sizes, steps and the rate of {self!r} must be positive")

    def fit(self, cells: Cells, *, seed: int) -> FittedConvexTransport:
        """Train a map for each perturbation; control cells of the context to predict belong here."""
        ordered = cells.in_canonical_order()
        beside = treated_beside_controls(ordered)
        axes = PrincipalAxes.of(ordered.values.double(), self.components)
        maps = {}
        for treatment, contexts in beside.items():
            sides = [
                [axes.coordinates(ordered.of(what, each).double()).float() for each in contexts]
                for what in (CONTROL, treatment)
            ]
            maps[treatment.label] = self._map(sides[0], sides[1], label=treatment.label, seed=seed)
        return FittedConvexTransport(ordered.readouts, axes, maps)

    def _map(self, control: list[Tensor], treated: list[Tensor], *, label: str, seed: int) -> ConvexNetwork:
        generator = torch.Generator().manual_seed(seed)
        width = control[0].shape[1]
        f, g = (ConvexNetwork.random(width, self.hidden, generator=generator) for _ in range(2))
        for each in (*f.parameters, *g.parameters):
            each.requires_grad_()
        of_f, of_g = (torch.optim.Adam(each.parameters, lr=self.rate, betas=(0.5, 0.9)) for each in (f, g))

        def drawn(contexts: list[Tensor]) -> Float[Tensor, "b r"]:
            chances = torch.cat([torch.full((len(each),), 1 / len(each)) for each in contexts])
            return torch.cat(contexts)[chances.multinomial(self.batch, replacement=True, generator=generator)]

        for step in range(self.steps):
            for _ in range(self.inner_steps):
                x = drawn(control)
                moved = g.gradient(x, differentiable=True)
                of_g.zero_grad()
                (f(moved) - (x * moved).sum(1)).mean().backward()
                of_g.step()
            x, y = drawn(control), drawn(treated)
            of_f.zero_grad()
            loss = f(y).mean() - f(g.gradient(x)).mean()
            loss.backward()
            of_f.step()
            if not bool(torch.isfinite(loss)):
                raise DataError(f"the transport map of {label!r} diverged in step {step + 1}; lower the rate")
        # In float64, predictions do not depend on how many cells stand beside.
        return placed(g, device="cpu", dtype=torch.float64)
