"""Saturating dynamics: the steady state of a network whose nodes respond by a hyperbolic tangent (CellBox).

``dx/dt = ε tanh(W x + u) - α x`` from ``x = 0``, with ``ε`` and ``α`` positive for each readout, ``W`` sparse and
without self-regulation, and ``u`` proportional to the doses [Yuan 2021, CellBox]. Without input ``x = 0`` is at
rest, so the control has no effect. Effects of combinations fall short of their sum as inputs add up inside the
hyperbolic tangent.
"""

from dataclasses import dataclass, field, replace
from math import e, log

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn.functional import softplus
from torchdiffeq import odeint

from surrogates.data.novelty import fold_numbers
from surrogates.data.screen import FEWEST_CONDITIONS, Screen
from surrogates.data.vocabulary import PerturbationBatch, Vocabulary
from surrogates.errors import DataError
from surrogates.models.base import require_one_context
from surrogates.models.baselines import residual_variance
from surrogates.models.training import Schedule, train
from surrogates.uncertainty.error_model import FactorCovariance
from surrogates.uncertainty.posterior import GaussianPosterior

# Each readout is divided by this multiple of its largest effect: training starts where tanh is near linear.
_HEADROOM = 1.5
_FIRST_RADIUS = 0.1  # spectral radius, about, of the random edges at the start
_SOFTPLUS_OF_ONE = log(e - 1)
_FOLDS = 10
_TINY = 1e-30


@dataclass(frozen=True)
class SaturatingNetworks:
    """Several networks of the same readouts, integrated side by side with the Runge-Kutta method of order four.

    The step is fixed: an adaptive one would follow all rows at once and make them depend on each other.
    """

    edges: Float[Tensor, "s g g"]  # ``W``, from column to row, of each member
    gain: Float[Tensor, "s g"]  # ``ε`` of each member and readout
    decay: Float[Tensor, "s g"]  # ``α`` of each member and readout
    horizon: float  # when the state is read, in the unit of time in which ``α`` starts at one
    step: float  # length of a step of the solver, in the same unit

    def settle(self, inputs: Float[Tensor, "s b g"]) -> Float[Tensor, "s b g"]:
        """Integrate from zero to the horizon."""
        forward, gain, decay = self.edges.mT, self.gain[:, None], self.decay[:, None]

        def slope(_: Tensor, state: Tensor) -> Tensor:
            return gain * torch.tanh(torch.baddbmm(inputs, state, forward)) - decay * state

        times = torch.tensor([0.0, self.horizon], dtype=inputs.dtype)
        states = odeint(slope, torch.zeros_like(inputs), times, method="rk4", options={"step_size": self.step})
        end: Tensor = states[-1]
        return end

    def double(self) -> "SaturatingNetworks":
        """Convert to double precision."""
        edges, gain, decay = (each.detach().double() for each in (self.edges, self.gain, self.decay))
        return replace(self, edges=edges, gain=gain, decay=decay)


@dataclass(frozen=True)
class FittedSaturatingDynamics:
    """An ensemble of saturating networks, and what each entry puts into them."""

    vocabulary: Vocabulary  # what the ids of a batch mean
    readouts: tuple[str, ...]  # names of the readouts
    measured_alone: Bool[Tensor, "v"]  # whether each entry's single effect was in the training data
    networks: SaturatingNetworks  # the members
    inputs: Float[Tensor, "s v g"]  # what a unit of dose of each entry adds to ``u``
    unit: Float[Tensor, "g"]  # effect that a state of one stands for, in the unit of the screen
    largest_dose: Float[Tensor, "v"]  # largest dose of each entry's target in the training data, or 0
    variance: Float[Tensor, "g"]  # error variance of each readout on perturbations that a member has not seen

    def predict(self, batch: PerturbationBatch) -> GaussianPosterior:
        """Predict the effects of some perturbations, at the doses of the batch."""
        members = self.members(batch)
        mean = members.mean(0)
        spread = (members - mean).square().mean(0).sum(1) / self.variance.sum()
        covariance = FactorCovariance.independent(self.variance)
        group = torch.zeros(len(batch), dtype=torch.int64)
        return GaussianPosterior(mean, 1 + spread, (covariance,), group)

    def members(self, batch: PerturbationBatch) -> Float[Tensor, "s b g"]:
        """Predict effects by each member on its own."""
        doses = dose_design(batch, len(self.vocabulary))
        return self.networks.settle(torch.einsum("bv,svg->sbg", doses, self.inputs)) * self.unit

    def outside_trained_range(self, batch: PerturbationBatch) -> Bool[Tensor, "b"]:
        """Flag perturbations at doses beyond the training data: their effects are extrapolated.

        The range of a target ends at its largest trained dose and begins at none, as no dose has no effect.
        """
        return (batch.present & (batch.dose > self.largest_dose[batch.genes.clamp(min=0)])).any(1)


@dataclass(frozen=True)
class SaturatingDynamics:
    """Fits saturating networks by gradient descent through the solver.

    The input of a target is its dose over its largest trained dose, times a learnt vector; a target that is itself
    a readout acts on that readout alone. A target absent from training gets the mean vector (the mean strength) of
    those that were there. Training starts from the least-squares effects of the doses and small random edges.
    Each member holds another tenth of the perturbations out, and training stops at the epoch at which the members
    predict these best.

    Attributes:
        restarts: Number of members, each with other starting edges and other held-out perturbations.
        penalty: Factor of the mean over readouts of the absolute incoming edges, beside the mean squared error in
            units of the mean squared effect.
        horizon: When the state is read, in the unit of time in which ``α`` starts at one.
        step: Length of a step of the solver, in the same unit.
        most_readouts: More readouts are refused: work grows with their square, and edges outnumber the data.
        schedule: How long and how fast to train.
    """

    restarts: int = 5
    penalty: float = 0.01
    horizon: float = 6.0
    step: float = 0.5
    most_readouts: int = 200
    schedule: Schedule = field(default=Schedule(epochs=150, batch=256, rate=0.003, decay=0.0, patience=15))

    def __post_init__(self) -> None:
        """Refuse settings that integrate or train nothing."""
        if self.restarts < 1 or not 0 < self.step <= self.horizon or not self.penalty >= 0:
            raise DataError(
                f"saturating dynamics need restarts >= 1, 0 < step <= horizon and penalty >= 0; got {self!r}"
            )

    def fit(self, screen: Screen, *, seed: int) -> FittedSaturatingDynamics:
        """Learn the networks and the inputs."""
        require_one_context(screen)
        if len(screen) < FEWEST_CONDITIONS:
            raise DataError(f"{len(screen)} condition(s) are too few; give {FEWEST_CONDITIONS} or more")
        if len(screen.readouts) > self.most_readouts:
            raise DataError(
                f"{len(screen.readouts)} readouts are too many for a network of all of them; take at most"
                f" {self.most_readouts} with screen.with_readouts, or raise most_readouts"
            )
        screen = screen.in_canonical_order()
        targets = _Targets.of(screen)
        held = self._held_out(screen, seed)
        largest = screen.effects.abs().amax(0)
        unit = _HEADROOM * torch.where(largest > 0, largest, 1.0)
        parameters = self._train(screen, targets, unit, held, seed)
        inputs = targets.completed(parameters.inputs.double(), targets.trained(screen.batch, held))
        fitted = FittedSaturatingDynamics(
            screen.vocabulary,
            screen.readouts,
            screen.single_rows >= 0,
            parameters.networks(self.horizon, self.step).double(),
            (inputs / targets.dose_unit[:, None])[:, targets.of_entry],
            unit,
            targets.largest_dose[targets.of_entry],
            torch.ones_like(unit),
        )
        unseen = (fitted.members(screen.batch) - screen.effects)[held]
        return replace(fitted, variance=residual_variance(unseen))

    def _held_out(self, screen: Screen, seed: int) -> Bool[Tensor, "s n"]:
        """Mark the perturbations that each member does not learn from."""
        folds = min(_FOLDS, len(screen))
        numbers = fold_numbers(screen.places, folds=folds, seed=seed)
        return numbers == (torch.arange(self.restarts) % folds)[:, None]

    def _train(
        self, screen: Screen, targets: "_Targets", unit: Float[Tensor, "g"], held: Bool[Tensor, "s n"], seed: int
    ) -> "_Parameters":
        doses, wanted = targets.design(screen.batch), screen.effects / unit
        parameters = _Parameters.start(doses, wanted, held, seed=seed)
        doses, wanted, trained = doses.float(), wanted.float(), targets.trained(screen.batch, held)
        weight = (unit.square() / screen.effects.square().mean().clamp(min=_TINY)).float()

        def error(part: Int[Tensor, "m"], counted: Bool[Tensor, "s n"]) -> Tensor:
            inputs = torch.einsum("bt,stg->sbg", doses[part], targets.completed(parameters.inputs, trained))
            states = parameters.networks(self.horizon, self.step).settle(inputs)
            squares = ((states - wanted[part]).square() * weight).mean(2)
            chosen = counted[:, part]
            return (squares * chosen).sum() / chosen.sum().clamp(min=1)

        def loss(part: Int[Tensor, "m"]) -> Tensor:
            return error(part, ~held) + self.penalty * parameters.free_edges.abs().sum(2).mean()

        every = torch.arange(len(screen))
        train(
            (parameters.edges, parameters.inputs, parameters.gain, parameters.decay),
            loss,
            rows=len(screen),
            schedule=self.schedule,
            seed=seed,
            held_out=lambda: error(every, held),
        )
        return parameters


@dataclass(frozen=True)
class _Targets:
    """The distinct targets of a vocabulary, whatever their doses."""

    of_entry: Int[Tensor, "v"]  # number of each entry's target
    largest_dose: Float[Tensor, "t"]  # largest trained dose of each target, 0 if it was never trained
    dose_unit: Float[Tensor, "t"]  # dose at which an input is one: the largest trained, else the largest known
    reach: Bool[Tensor, "t g"]  # readouts on which a target acts directly: itself if it is one, else all
    own: Bool[Tensor, "t"]  # which targets are readouts

    @classmethod
    def of(cls, screen: Screen) -> "_Targets":
        """Collect the targets of a screen."""
        names = sorted(set(screen.vocabulary.targets))
        of_entry = torch.tensor([names.index(target) for target in screen.vocabulary.targets])
        trained = dose_design(screen.batch, len(screen.vocabulary)).amax(0)
        nothing = trained.new_zeros(len(names))
        largest = nothing.scatter_reduce(0, of_entry, trained, "amax")
        known = nothing.scatter_reduce(0, of_entry, screen.vocabulary.doses, "amax")
        same = torch.tensor([[name == readout for readout in screen.readouts] for name in names])
        own = same.any(1)
        return cls(of_entry, largest, torch.where(largest > 0, largest, known), same | ~own[:, None], own)

    def design(self, batch: PerturbationBatch) -> Float[Tensor, "b t"]:
        """Doses of the targets, in their units."""
        doses = dose_design(batch, len(self.of_entry))
        return doses.new_zeros(len(doses), len(self.own)).index_add_(1, self.of_entry, doses) / self.dose_unit

    def trained(self, batch: PerturbationBatch, held: Bool[Tensor, "s n"]) -> Bool[Tensor, "s t"]:
        """Which targets each member learns from."""
        given = self.design(batch) > 0
        return (given & ~held[:, :, None]).any(1)

    def completed(self, inputs: Float[Tensor, "s t g"], trained: Bool[Tensor, "s t"]) -> Float[Tensor, "s t g"]:
        """Give targets that a member does not learn from the mean of those of their kind that it does."""
        reached = inputs * self.reach
        same, others = trained & self.own, trained & ~self.own
        mean = (reached * others[:, :, None]).sum(1) / others.sum(1).clamp(min=1)[:, None]
        strength = (reached * same[:, :, None]).sum((1, 2)) / same.sum(1).clamp(min=1)
        guess = torch.where(self.own[:, None], strength[:, None, None] * self.reach, mean[:, None])
        return torch.where(trained[:, :, None], reached, guess)


@dataclass(frozen=True)
class _Parameters:
    """What training changes, in single precision; gain and decay before they are made positive."""

    edges: Float[Tensor, "s g g"]
    inputs: Float[Tensor, "s t g"]
    gain: Float[Tensor, "s g"]
    decay: Float[Tensor, "s g"]

    @classmethod
    def start(
        cls, doses: Float[Tensor, "n t"], wanted: Float[Tensor, "n g"], held: Bool[Tensor, "s n"], *, seed: int
    ) -> "_Parameters":
        """Take each member's least-squares effects of its doses as inputs, and draw small edges."""
        members, readouts = len(held), wanted.shape[1]
        generator = torch.Generator().manual_seed(seed)
        edges = torch.randn(members, readouts, readouts, generator=generator) * _FIRST_RADIUS / readouts**0.5
        inputs = torch.stack([torch.linalg.pinv(doses[~each]) @ wanted[~each] for each in held])
        one = torch.full((members, readouts), _SOFTPLUS_OF_ONE)
        return cls(edges, inputs.float(), one, one.clone())

    @property
    def free_edges(self) -> Float[Tensor, "s g g"]:
        """Edges without self-regulation."""
        return self.edges * (1 - torch.eye(self.edges.shape[1]))

    def networks(self, horizon: float, step: float) -> SaturatingNetworks:
        """The networks of these parameters."""
        return SaturatingNetworks(self.free_edges, softplus(self.gain), softplus(self.decay), horizon, step)


def dose_design(batch: PerturbationBatch, size: int) -> Float[Tensor, "b v"]:
    """Spread the doses of a batch over the vocabulary: the design matrix ``D`` of ``x = D R``."""
    doses = torch.zeros(len(batch), size + 1, dtype=torch.float64)
    return doses.scatter_(1, torch.where(batch.present, batch.genes, size), batch.dose)[:, :size]
