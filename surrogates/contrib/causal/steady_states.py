"""Cells as steady states of a linear stochastic system with cycles, some of it replaced by each perturbation."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from surrogates.contrib.cells.shift import checked_cells
from surrogates.data.io.cells import Cells
from surrogates.data.perturbation import Perturbation
from surrogates.errors import DataError, UnknownNameError, shown
from surrogates.models.training import Schedule, Training, train

_MOST = 0.97  # real part of an eigenvalue of the edges: at one there is no steady state
_DOUBLINGS = 12
_SETTLED = 1e-12
_FEWEST = 3  # cells of a condition
_SLOW = Schedule(epochs=150, batch=16, rate=2e-2, decay=0.0, annealing=0.98)


@dataclass(frozen=True)
class SteadyStates:
    """``dx = (alpha - B x) dt + sigma dW`` with ``B = I - A'``, at rest [after Bicycle: Rohbeck 2024].

    A perturbation replaces the rows of its targets: nothing acts on them, and they have a level and a noise of
    their own. Cells of condition ``k`` are then normal with the mean ``B_k^-1 alpha_k`` and the covariance
    ``Omega_k`` that solves ``B_k Omega_k + Omega_k B_k' = sigma_k sigma_k'``; the edges ``A`` minimise their
    negative log-likelihood plus a penalty on ``|A|``. Cycles are allowed; the system is kept stable.

    What differs from Bicycle: the equation of the covariance is solved (by doubling) and not a penalty, values are
    log-normalised and not counts, targets lose all incoming edges, their level and noise are read from their own
    readout, and there is one estimate, not a posterior.
    """

    # Of an edge between readouts of unit variance, for the mean log-likelihood of a cell; ``None`` for
    # ``sqrt(log(p) / n)``, the rate of the lasso for ``p`` readouts and ``n`` cells.
    penalty: float | None = None
    schedule: Schedule = field(default_factory=lambda: _SLOW)  # how long to train; a batch is of conditions
    most: int = 100  # how many readouts are taken at most: the covariance is that of all of them

    def __post_init__(self) -> None:
        """Refuse a negative penalty."""
        if self.penalty is not None and not self.penalty >= 0:
            raise DataError(f"penalty {self.penalty!r} is negative; take 0 for none")

    def fit(self, cells: Cells, *, seed: int) -> "FittedSteadyStates":
        """Learn the edges from control cells and cells whose readouts were acted on."""
        conditions = Conditions.of(cells, most=self.most)
        size, count = len(cells.readouts), float(conditions.counts.sum())
        penalty = (torch.tensor(size).log() / count).sqrt().item() if self.penalty is None else self.penalty
        edges = torch.zeros(size, size, dtype=torch.float64)
        level = conditions.means[0].clone()
        noise = (2 * conditions.covariances[0].diagonal()).clamp(min=1e-12).log() / 2
        weights = conditions.counts / count * len(conditions.counts)
        off = 1 - torch.eye(size, dtype=torch.float64)

        def loss(rows: Int[Tensor, "m"]) -> Tensor:
            likelihood = conditions.rows(rows).surprise(off * edges, level, noise.exp())
            return (weights[rows] * likelihood).mean() + penalty * (off * edges).abs().sum()

        training = train(
            [edges, level, noise], loss, rows=len(conditions.counts), schedule=self.schedule, seed=seed
        )
        scale, found = conditions.scale, stable(off * edges, conditions.hit)
        return FittedSteadyStates(
            readouts=cells.readouts,
            edges=found * scale / scale[:, None],
            level=level * scale + conditions.origin,
            noise=noise.exp() * scale,
            shift=conditions.mean_shift * scale,
            shifts={cells.readouts[at]: float(value * scale[at]) for at, value in conditions.shifts.items()},
            noises={cells.readouts[at]: float(value * scale[at]) for at, value in conditions.noises.items()},
            training=training,
        )


@dataclass(frozen=True)
class FittedSteadyStates:
    """A stable linear system."""

    readouts: tuple[str, ...]
    edges: Float[Tensor, "g g"]  # what a change of one in a readout (row) adds to the drift of another (column)
    level: Float[Tensor, "g"]  # mean of each readout in control cells
    noise: Float[Tensor, "g"]  # standard deviation of the noise of each readout's drift
    # How far a readout that was never acted on moves when it is: the mean over those that were.
    shift: Float[Tensor, "g"]
    shifts: Mapping[str, float]  # how far each target's own readout moved
    # Noise of each target's own readout where it is acted on; that of the control for other targets.
    noises: Mapping[str, float]
    training: Training

    def moments(self, perturbation: Perturbation) -> tuple[Float[Tensor, "g"], Float[Tensor, "g g"]]:
        """Mean and covariance of cells in a condition."""
        hit = torch.zeros(1, len(self.readouts), dtype=torch.bool)
        moved, noise = torch.zeros(1, len(self.readouts), dtype=torch.float64), self.noise.clone()
        for target in perturbation.targets:
            if target not in self.readouts:
                raise UnknownNameError.from_known("readout", target, self.readouts)
            at = self.readouts.index(target)
            hit[0, at], moved[0, at] = True, self.shifts.get(target, float(self.shift[at]))
            noise[at] = self.noises.get(target, float(noise[at]))
        system = system_of(self.edges, hit)
        mean = self.level + torch.linalg.solve(system, moved[:, :, None])[0, :, 0]
        return mean, lyapunov(system, noise.square().diag()[None])[0]

    def predict(self, control: Float[Tensor, "cells g"], perturbation: Perturbation) -> Float[Tensor, "cells g"]:
        """Carry control cells over by the optimal map between the two normal distributions."""
        (start, before), (end, after) = self.moments(Perturbation()), self.moments(perturbation)
        root = _root(before)
        inverse = torch.linalg.inv(root)
        carry = inverse @ _root(root @ after @ root) @ inverse
        moved: Float[Tensor, "cells g"] = end + (checked_cells(control, self.readouts) - start) @ carry
        return moved


@dataclass(frozen=True)
class Conditions:
    """Moments of the cells of each condition, the control first, in units of the deviation within conditions."""

    counts: Float[Tensor, "k"]
    means: Float[Tensor, "k g"]
    covariances: Float[Tensor, "k g g"]
    hit: Bool[Tensor, "k g"]  # the targets
    origin: Float[Tensor, "g"]  # mean of the control
    scale: Float[Tensor, "g"]

    @classmethod
    def of(cls, cells: Cells, *, most: int) -> "Conditions":
        """Sum cells up, and refuse what gives no moments."""
        if len(cells.readouts) > most:
            raise DataError(
                f"{len(cells.readouts):,} readouts are more than {most}; take those that were acted on, and"
                " the most variable ones"
            )
        if len(cells.context_names) > 1:
            raise DataError(f"the cells have {len(cells.context_names)} contexts; take one of them")
        named = sorted(cells.sizes, key=lambda each: (each[0].order > 0, each[0].label))
        if named[0][0].order:
            raise DataError("there are no control cells; the system at rest is learnt from them")
        parts, hit = [], torch.zeros(len(named), len(cells.readouts), dtype=torch.bool)
        for row, (perturbation, context) in enumerate(named):
            values = cells.of(perturbation, context).to(torch.float64)
            if len(values) < _FEWEST:
                raise DataError(
                    f"{len(values)} cell(s) of {shown(perturbation.label or 'the control')} have no covariance;"
                    f" give {_FEWEST} or more, or leave the condition out"
                )
            for target in perturbation.targets:
                if target not in cells.readouts:
                    raise DataError(f"target {shown(target)} is no readout; leave its cells out, or measure it")
                hit[row, cells.readouts.index(target)] = True
            parts.append(values)
        counts = torch.tensor([float(len(each)) for each in parts], dtype=torch.float64)
        means = torch.stack([each.mean(0) for each in parts])
        covariances = torch.stack([torch.cov(each.T, correction=0).reshape(2 * means.shape[1:]) for each in parts])
        spread = (counts[:, None] * covariances.diagonal(dim1=1, dim2=2)).sum(0) / counts.sum()
        scale = spread.sqrt().clamp(min=1e-12)
        return cls(counts, (means - means[0]) / scale, covariances / scale / scale[:, None], hit, means[0], scale)

    def rows(self, index: Int[Tensor, "m"]) -> "Conditions":
        """Take some of the conditions."""
        return Conditions(
            self.counts[index],
            self.means[index],
            self.covariances[index],
            self.hit[index],
            self.origin,
            self.scale,
        )

    @property
    def shifts(self) -> dict[int, float]:
        """How far each target moved from the control, the mean over its conditions."""
        return {
            int(at): float(self.means[self.hit[:, at], at].mean()) for at in self.hit.any(0).nonzero().flatten()
        }

    @property
    def noises(self) -> dict[int, float]:
        """Noise of each target where nothing else acts on it, the mean variance over its conditions."""
        own = self.covariances.diagonal(dim1=1, dim2=2)
        return {at: float(2 * own[self.hit[:, at], at].mean()) ** 0.5 for at in self.shifts}

    @property
    def mean_shift(self) -> Float[Tensor, "g"]:
        """How far targets move on average."""
        moved = list(self.shifts.values())
        return torch.full((self.means.shape[1],), sum(moved) / max(len(moved), 1), dtype=torch.float64)

    def surprise(
        self, edges: Float[Tensor, "g g"], level: Float[Tensor, "g"], noise: Float[Tensor, "g"]
    ) -> Float[Tensor, "k"]:
        """Negative log-likelihood of each condition's cells, the mean over cells, without its constant."""
        system = system_of(stable(edges, self.hit), self.hit)
        own = self.covariances.diagonal(dim1=1, dim2=2)
        variance = torch.where(self.hit, 2 * own.clamp(min=1e-6), noise.square())
        moved = torch.where(self.hit, self.means - level, 0.0)
        mean = level + torch.linalg.solve(system, moved[:, :, None])[:, :, 0]
        factor, failed = torch.linalg.cholesky_ex(lyapunov(system, torch.diag_embed(variance)))
        away = (self.means - mean)[:, :, None]
        moments = torch.cholesky_solve(self.covariances + away @ away.transpose(1, 2), factor)
        surprise: Float[Tensor, k] = factor.diagonal(dim1=1, dim2=2).log().sum(1)
        surprise = surprise + moments.diagonal(dim1=1, dim2=2).sum(1) / 2
        return torch.where(failed > 0, torch.nan, surprise)  # which the training refuses


def system_of(edges: Float[Tensor, "g g"], hit: Bool[Tensor, "k g"]) -> Float[Tensor, "k g g"]:
    """``B`` of each condition: nothing acts on what is acted on."""
    unit = torch.eye(len(edges), dtype=edges.dtype)
    return unit - torch.where(hit[:, :, None], 0.0, edges.T)


def stable(edges: Float[Tensor, "g g"], hit: Bool[Tensor, "k g"]) -> Float[Tensor, "g g"]:
    """Shrink edges so that every condition has a steady state."""
    if not bool(torch.isfinite(edges).all()):
        return edges  # of a training that diverges, and is refused
    acting = torch.where(hit[:, :, None], 0.0, edges.detach().T)
    largest = float(torch.linalg.eigvals(acting).real.max())
    return edges * min(1.0, _MOST / max(largest, 1e-12))


def lyapunov(system: Float[Tensor, "k g g"], noise: Float[Tensor, "k g g"]) -> Float[Tensor, "k g g"]:
    """Solve ``B X + X B' = Q`` for stable ``B`` by Cayley's transform and doubling [Smith 1968]."""
    unit = torch.eye(system.shape[-1], dtype=system.dtype)
    step = torch.linalg.solve(system + unit, torch.cat([system - unit, noise], dim=2))
    power, half = step.chunk(2, dim=2)
    found: Float[Tensor, "k g g"] = 2 * torch.linalg.solve(system + unit, half.transpose(1, 2))
    for _ in range(_DOUBLINGS):
        found = found + power @ found @ power.transpose(1, 2)
        power = power @ power
        if float(power.detach().abs().max()) < _SETTLED:
            break
    return (found + found.transpose(1, 2)) / 2


def _root(square: Float[Tensor, "g g"]) -> Float[Tensor, "g g"]:
    """Symmetric square root of a positive definite matrix."""
    values, axes = torch.linalg.eigh(square)
    root: Float[Tensor, "g g"] = axes @ (values.clamp(min=0).sqrt()[:, None] * axes.T)
    return root
