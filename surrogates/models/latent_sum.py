"""Networks on sums of one latent row per intervention: what such models are once fitted, and how they are trained.

Layer by layer ``δ_l = relu(a_l + W_l δ_{l-1}) - relu(a_l)``, with ``δ_0`` the sum of the rows and ``a_l`` what the
layer receives in the control: without interventions every ``δ`` is zero, and so is the effect.
"""

from dataclasses import dataclass, replace
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from surrogates.data.novelty import fold_numbers
from surrogates.data.screen import FEWEST_CONDITIONS, Screen
from surrogates.data.vocabulary import PerturbationBatch, Vocabulary
from surrogates.errors import DataError
from surrogates.models.base import (
    LatentFactors,
    LatentNetwork,
    PairFactors,
    PairScale,
    require_one_context,
    sum_over_interventions,
)
from surrogates.models.baselines import residual_variance
from surrogates.models.training import Layers, Schedule, train
from surrogates.uncertainty.posterior import GaussianPosterior, isotropic

# One of so many combinations, or of so many conditions where there are too few combinations, is held out to stop.
_OF_COMBINATIONS, _OF_CONDITIONS = 5, 10


@dataclass(frozen=True)
class FittedLatentSum:
    """What each intervention adds, outside of the networks and to what they decode."""

    vocabulary: Vocabulary  # what the ids of a batch mean
    readouts: tuple[str, ...]  # names of the readouts
    measured_alone: Bool[Tensor, "v"]  # whether each entry's single effect was in the training data
    alone: Float[Tensor, "v g"]  # what each entry adds to the effect outside of the networks
    networks: tuple[LatentNetwork, ...]
    # Error variance of each readout: in-sample, times how much larger the error of the held-out perturbations was
    # on average.
    variance: Float[Tensor, "g"]

    def predict(self, batch: PerturbationBatch) -> GaussianPosterior:
        """Predict the effects of some perturbations."""
        mean = sum_over_interventions(self.alone, batch)
        for network in self.networks:
            mean = mean + network.decode(sum_over_interventions(network.rows, batch))
        return isotropic(mean, self.variance)

    def latent_factors(self) -> LatentFactors:
        """Sums and networks that make all pairs; see :class:`LatentSum`."""
        additive = PairFactors.without_interactions(self.alone)
        return LatentFactors(additive, PairScale.constant(len(self.alone)), self.networks)


@runtime_checkable
class TrainedSum(Protocol):
    """A model of sums while it is trained on some rows of a screen, in single precision."""

    @property
    def parameters(self) -> tuple[Tensor, ...]:
        """What is trained."""
        ...

    def loss(self, rows: Int[Tensor, "m"]) -> Tensor:
        """What training minimises on some rows of the screen."""
        ...

    def error(self, rows: Int[Tensor, "m"]) -> Tensor:
        """Mean squared error of some rows, in squares of :func:`usual_effect`, by which training is stopped."""
        ...

    def decoded(self) -> tuple[Float[Tensor, "v g"], tuple[LatentNetwork, ...]]:
        """What each entry adds outside of the networks, and the networks, in double precision."""
        ...


@runtime_checkable
class Begin(Protocol):
    """Draws the start of a training, the same whichever rows are kept."""

    def __call__(self, screen: Screen, kept: Int[Tensor, "n"]) -> TrainedSum:
        """Begin to train on some rows of a screen in canonical order."""
        ...


def fit_latent_sum(screen: Screen, begin: Begin, *, schedule: Schedule, seed: int) -> FittedLatentSum:
    """Find the number of epochs on held-out perturbations, and train on all of them for as long."""
    require_one_context(screen)
    if len(screen) < FEWEST_CONDITIONS:
        raise DataError(f"{len(screen)} condition(s) are too few; give {FEWEST_CONDITIONS} or more")
    screen = screen.in_canonical_order()
    held = _held_out(screen, seed=seed)
    kept, held_out = torch.nonzero(~held).flatten(), torch.nonzero(held).flatten()
    first, every = begin(screen, kept), torch.arange(len(screen))
    stopped = train(
        first.parameters,
        lambda part: first.loss(kept[part]),
        rows=len(kept),
        schedule=schedule,
        seed=seed,
        held_out=lambda: first.error(held_out),
    )
    whole = begin(screen, every)
    train(
        whole.parameters, whole.loss, rows=len(every), schedule=replace(schedule, epochs=stopped.epochs), seed=seed
    )
    alone, networks = whole.decoded()
    units = torch.ones(len(screen.readouts), dtype=torch.float64)
    measured = screen.single_rows >= 0
    fitted = FittedLatentSum(screen.vocabulary, screen.readouts, measured, alone, networks, units)
    in_sample = residual_variance(screen.effects - fitted.predict(screen.batch).mean)
    inflation = max(1.0, stopped.held_out * usual_effect(screen) ** 2 / float(in_sample.mean()))
    return replace(fitted, variance=inflation * in_sample)


def _held_out(screen: Screen, *, seed: int) -> Bool[Tensor, "n"]:
    """Choose what stops the training: combinations, which are asked for, before singles, which most fits know."""
    rows, folds = torch.nonzero(screen.batch.order > 1).flatten(), _OF_COMBINATIONS
    if len(rows) < 2 * folds:
        rows, folds = torch.arange(len(screen)), min(_OF_CONDITIONS, len(screen))
    held = torch.zeros(len(screen), dtype=torch.bool)
    held[rows[fold_numbers(screen.places[rows], folds=folds, seed=seed) == 0]] = True
    return held


def usual_effect(screen: Screen) -> float:
    """Root mean square effect; one if there is none."""
    size = float(screen.effects.square().mean().sqrt())
    return size if size > 0 else 1.0


@dataclass(frozen=True)
class TargetRows:
    """One row for each target, from which the rows of its doses are made.

    A target that training does not know gets the mean row of those that it knows.
    """

    names: tuple[str, ...]  # the targets, sorted
    number: Int[Tensor, "v"]  # of each entry's target
    dose: Float[Tensor, "v"]  # of each entry, over the largest dose of its target
    trained: Bool[Tensor, "t"]  # which targets occur in the rows that are trained on

    @classmethod
    def of(cls, screen: Screen, kept: Int[Tensor, "n"], *, device: str = "cpu") -> "TargetRows":
        """Look up what some rows of a screen know."""
        vocabulary, batch = screen.vocabulary, screen.batch.rows(kept)
        names = sorted(set(vocabulary.targets))
        place = {name: number for number, name in enumerate(names)}
        number = torch.tensor([place[target] for target in vocabulary.targets])
        largest = vocabulary.doses.new_zeros(len(names)).scatter_reduce(0, number, vocabulary.doses, "amax")
        trained = torch.zeros(len(names), dtype=torch.bool)
        trained[number[batch.genes[batch.present]]] = True
        dose = (vocabulary.doses / largest[number]).float()
        return cls(tuple(names), number.to(device), dose.to(device), trained.to(device))

    def filled(self, rows: Float[Tensor, "t r"], known: Bool[Tensor, "t"] | None = None) -> Float[Tensor, "t r"]:
        """Give targets that are not known, such as those never trained, the mean row of all that were."""
        known = self.trained if known is None else known
        return torch.where(known[:, None], rows, rows[self.trained].mean(0))

    def of_entries(self, rows: Float[Tensor, "t r"]) -> Float[Tensor, "v r"]:
        """Multiply the row of each entry's target by its dose."""
        return self.dose[:, None] * rows[self.number]


def decoded_departure(
    decoder: Layers, latent: Float[Tensor, "b r"], *, dropout: float = 0.0
) -> Float[Tensor, "b g"]:
    """Propagate a departure from the control through layers, whose biases are the thresholds."""
    *hidden, last = zip(decoder.weights, decoder.biases, strict=True)
    for weight, threshold in hidden:
        latent = (latent @ weight.T + threshold).relu() - threshold.relu()
        latent = torch.nn.functional.dropout(latent, dropout)
    return latent @ last[0].T


def network_of(rows: Float[Tensor, "v r"], decoder: Layers, *, unit: float) -> LatentNetwork:
    """Take latent rows and the layers that decode their sums as one network, of one hidden layer or more."""
    decoder = decoder.to(device="cpu", dtype=torch.float64)
    (first, *weights, last), (*thresholds, _) = decoder.weights, decoder.biases
    rows = rows.detach().double().cpu() @ first.T
    return LatentNetwork(rows, tuple(thresholds), tuple(weights), unit * last)
