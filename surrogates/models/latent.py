"""LatentAdditive: interventions add up in a latent space, and a network decodes the sum.

``x̂ = D(E(x0) + sum_i z_i)`` with ``x0`` the profile of control cells [Wu 2024, PerturBench]. Here effects against
the control are learnt, and one control profile stands for all, so that its encoding is a constant ``b0`` and
``effect = D(b0 + sum_i z_i) - D(b0)``. Layer by layer the difference of the two is
``δ_l = relu(a_l + W_l δ_{l-1}) - relu(a_l)`` with ``δ_0 = sum_i z_i``, and ``a_l`` what the layer receives in the
control: thresholds that are learnt, and in which ``b0`` and the biases are absorbed. Without interventions every
``δ`` is zero.
"""

from dataclasses import dataclass, field, replace

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from surrogates.data.descriptors import Descriptors
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
from surrogates.models.training import Layers, Schedule, Training, train
from surrogates.uncertainty.posterior import GaussianPosterior, isotropic

_FOLDS = 10  # one of them is held out to stop


@dataclass(frozen=True)
class FittedLatentAdditive:
    """A latent row for each entry, and the network that decodes sums of them.

    Attributes:
        decoder: Weights, and the thresholds of the hidden layers; the threshold of the last layer has no effect.
        variance: Error variance of each readout: in-sample, times how much larger the error of the held-out
            perturbations was on average.
    """

    vocabulary: Vocabulary  # what the ids of a batch mean
    readouts: tuple[str, ...]  # names of the readouts
    measured_alone: Bool[Tensor, "v"]  # whether each entry's single effect was in the training data
    rows: Float[Tensor, "v r"]  # what each entry adds to the latent state, its dose included
    decoder: Layers
    unit: float  # effect that an output of one stands for, in the unit of the screen
    variance: Float[Tensor, "g"]

    def predict(self, batch: PerturbationBatch) -> GaussianPosterior:
        """Predict the effects of some perturbations."""
        return isotropic(self.decode(sum_over_interventions(self.rows, batch)), self.variance)

    def latent_factors(self) -> LatentFactors:
        """Rows of the first hidden layer, and all that follows; see :class:`LatentSum`."""
        (*weights, last), (*thresholds, _) = self.decoder.weights, self.decoder.biases
        scale, output = PairScale.constant(len(self.rows)), self.unit * last
        if not weights:
            return LatentFactors(PairFactors.without_interactions(self.rows @ output.T), scale)
        none = PairFactors.without_interactions(self.rows.new_zeros(len(self.rows), len(output)))
        network = LatentNetwork(self.rows @ weights[0].T, tuple(thresholds), tuple(weights[1:]), output)
        return LatentFactors(none, scale, (network,))

    def decode(self, latent: Float[Tensor, "b r"]) -> Float[Tensor, "b g"]:
        """Decode summed latent rows."""
        return self.unit * decoded_departure(self.decoder, latent)


@dataclass(frozen=True)
class LatentAdditive:
    """Trains latent rows and decoder on effects, and stops on held-out perturbations.

    A target's row is proportional to its dose: ``dose / largest dose * (own + map(descriptor))``. A target
    absent from training gets the mean of the others' own rows, to which its descriptor adds; so do targets that
    are hidden at random while training, by which the map of descriptors is learnt. One of ten perturbations is
    held out to find the number of epochs; the model is then trained on all of them for as long.

    Attributes:
        latent: Length of the latent rows.
        hidden: Widths of the decoder's hidden layers.
        descriptors: What is known of the targets.
        rank: Most coordinates of each descriptor.
        hide: Probability with which a target is treated as one never seen, for training only.
        dropout: Probability with which a hidden unit is left out, for training only.
        schedule: How long and how fast to train.
        device: Where to train.
    """

    latent: int = 64
    hidden: tuple[int, ...] = (64,)
    descriptors: tuple[Descriptors, ...] = ()
    rank: int = 64
    hide: float = 0.1
    dropout: float = 0.1
    schedule: Schedule = field(default=Schedule(epochs=200, batch=32, rate=2e-3, decay=1e-2, patience=20))
    device: str = "cpu"

    def __post_init__(self) -> None:
        """Refuse widths and probabilities that make no network."""
        if min(self.latent, self.rank, *self.hidden, 1) < 1:
            raise DataError(f"widths latent, hidden and rank must be positive; got {self!r}")
        if not (0 <= self.hide < 1 and 0 <= self.dropout < 1):
            raise DataError(f"hide and dropout must be in [0, 1); got {self!r}")

    def fit(self, screen: Screen, *, seed: int) -> FittedLatentAdditive:
        """Train the model; it predicts in double precision on the CPU."""
        require_one_context(screen)
        if len(screen) < FEWEST_CONDITIONS:
            raise DataError(f"{len(screen)} condition(s) are too few; give {FEWEST_CONDITIONS} or more")
        screen = screen.in_canonical_order()
        held = fold_numbers(screen.places, folds=min(_FOLDS, len(screen)), seed=seed) == 0
        kept, held_out = torch.nonzero(~held).flatten(), torch.nonzero(held).flatten()
        stopped = self._train(screen, kept, held_out, self.schedule, seed)[1]
        every = torch.arange(len(screen))
        network, _ = self._train(screen, every, every[:0], replace(self.schedule, epochs=stopped.epochs), seed)
        unit = _unit(screen)
        fitted = FittedLatentAdditive(
            screen.vocabulary,
            screen.readouts,
            screen.single_rows >= 0,
            network.rows().detach().double().cpu(),
            network.decoder.to(device="cpu", dtype=torch.float64),
            unit,
            torch.ones(len(screen.readouts), dtype=torch.float64),
        )
        in_sample = residual_variance(screen.effects - fitted.predict(screen.batch).mean)
        inflation = max(1.0, stopped.held_out * unit**2 / float(in_sample.mean()))
        return replace(fitted, variance=inflation * in_sample)

    def _train(
        self,
        screen: Screen,
        kept: Int[Tensor, "n"],
        held_out: Int[Tensor, "m"],
        schedule: Schedule,
        seed: int,
    ) -> tuple["_Network", Training]:
        """Train on some rows, and stop by the others if there are any."""
        network = self._start(screen, kept, seed=seed)
        wanted = (screen.effects / _unit(screen)).float().to(self.device)
        batch = PerturbationBatch(screen.batch.genes.to(self.device), screen.batch.dose.to(self.device))

        def error(rows: Int[Tensor, "m"], *, hide: float = 0.0, dropout: float = 0.0) -> Tensor:
            latent = sum_over_interventions(network.rows(hide=hide), batch.rows(rows))
            return (decoded_departure(network.decoder, latent, dropout=dropout) - wanted[rows]).square().mean()

        def loss(part: Int[Tensor, "m"]) -> Tensor:
            return error(kept[part], hide=self.hide, dropout=self.dropout)

        outcome = train(
            network.parameters,
            loss,
            rows=len(kept),
            schedule=schedule,
            seed=seed,
            held_out=(lambda: error(held_out)) if len(held_out) else None,
        )
        return network, outcome

    def _start(self, screen: Screen, kept: Int[Tensor, "n"], *, seed: int) -> "_Network":
        """Draw starting values, the same whichever rows are kept."""
        generator = torch.Generator().manual_seed(seed)
        vocabulary, batch = screen.vocabulary, screen.batch.rows(kept)
        names = sorted(set(vocabulary.targets))
        target = torch.tensor([names.index(each) for each in vocabulary.targets])
        largest = vocabulary.doses.new_zeros(len(names)).scatter_reduce(0, target, vocabulary.doses, "amax")
        trained = torch.zeros(len(names), dtype=torch.bool)
        trained[target[batch.genes[batch.present]]] = True
        none = vocabulary.doses.new_zeros(len(target), 0)
        blocks = [each.coordinates(vocabulary, rank=self.rank)[0] for each in self.descriptors]
        described = torch.cat([none, *blocks], dim=1)
        own = torch.randn(len(names), self.latent, generator=generator) / self.latent**0.5
        sizes = (self.latent, *self.hidden, len(screen.readouts))
        return _Network(
            target=target.to(self.device),
            dose=(vocabulary.doses / largest[target]).float().to(self.device),
            trained=trained.to(self.device),
            described=described.float().to(self.device),
            own=own.to(self.device),
            map=torch.zeros(described.shape[1], self.latent, device=self.device),
            decoder=Layers.random(sizes, generator=generator).to(device=self.device, dtype=torch.float32),
        )


@dataclass(frozen=True)
class _Network:
    """What training reads and changes, in single precision."""

    target: Int[Tensor, "v"]  # number of each entry's target
    dose: Float[Tensor, "v"]  # dose of each entry over the largest dose of its target
    trained: Bool[Tensor, "t"]  # which targets occur in the rows that are trained on
    described: Float[Tensor, "v f"]  # coordinates of each entry's descriptors
    own: Float[Tensor, "t r"]  # row of each target
    map: Float[Tensor, "f r"]  # from coordinates to the latent state
    decoder: Layers  # weights and thresholds

    @property
    def parameters(self) -> tuple[Tensor, ...]:
        """What is trained."""
        mapped = (self.map,) if len(self.map) else ()
        return (self.own, *mapped, *self.decoder.parameters)

    def rows(self, *, hide: float = 0.0) -> Float[Tensor, "v r"]:
        """Latent rows, with some targets treated as if they were unseen."""
        known = self.trained
        if hide > 0:
            known = known & (torch.rand(len(known), device=known.device) >= hide)
        mean = self.own[self.trained].mean(0)
        own = torch.where(known[:, None], self.own, mean)[self.target]
        return self.dose[:, None] * (own + self.described @ self.map)


def _unit(screen: Screen) -> float:
    """Root mean square effect; one if there is none."""
    size = float(screen.effects.square().mean().sqrt())
    return size if size > 0 else 1.0


def decoded_departure(
    decoder: Layers, latent: Float[Tensor, "b r"], *, dropout: float = 0.0
) -> Float[Tensor, "b g"]:
    """Propagate a departure from the control through the decoder."""
    *hidden, last = zip(decoder.weights, decoder.biases, strict=True)
    for weight, threshold in hidden:
        latent = (latent @ weight.T + threshold).relu() - threshold.relu()
        latent = torch.nn.functional.dropout(latent, dropout)
    return latent @ last[0].T
