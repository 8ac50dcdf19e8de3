"""scLAMBDA in the form that effects allow: from the embedding of a perturbation to what it does, and back."""

from dataclasses import dataclass, field, replace
from functools import partial

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from surrogates.data.descriptors import Descriptors, known_to_any
from surrogates.data.screen import Screen
from surrogates.data.vocabulary import PerturbationBatch, Vocabulary
from surrogates.errors import DataError
from surrogates.models.base import LatentNetwork, sum_over_interventions
from surrogates.models.kernel import chosen_descriptors
from surrogates.models.latent_sum import (
    FittedLatentSum,
    TargetRows,
    decoded_departure,
    fit_latent_sum,
    network_of,
    usual_effect,
)
from surrogates.models.training import Layers, Schedule, gaussian_divergence


@dataclass(frozen=True)
class ScLambda:
    """Decodes what an embedding of the perturbation says beside what it does not [Wang 2024, scLAMBDA].

    Of a perturbation with embedding ``p``, the sum of its targets', ``s = MLP(p)``; of its profile ``x`` a normal
    ``z``. The decoder makes ``x̂ = D(z + s)``, another one ``p̂`` from ``s``. The loss is ``|x - x̂|^2 / 2 +
    |p - p̂|^2 / 2 + KL(z) + information I(z; s)``, with ``I`` bounded by a critic that is trained against the rest,
    and ``|x - D(s')|^2 / 2`` of an embedding that is moved against the prediction by ``robust`` of its size.

    As published: all of these parts. Different: ``x`` are effects of perturbations against the control, for which
    ``z = s = 0``, and not cells. A ``z`` of one profile can say all of it, and ``s`` then learns nothing: the
    moved embedding is hence decoded without ``z``, as predictions are. A prediction is ``D(s)``, a network on
    sums, by which all pairs are searched exactly. A target without a vector has one that is learnt, and if it was
    never given the mean of all others'. The epochs are chosen on held-out combinations.
    """

    # Tables of embeddings; by default what the shipped tables say of genes.
    descriptors: tuple[Descriptors, ...] | None = None
    rank: int = 64  # most coordinates of each table
    latent: int = 30  # length of ``z`` and ``s``
    hidden: int = 128  # width of the hidden layers
    # Weight of the mutual information; of 10 and 200 the better on folds inside of training data.
    information: float = 10.0
    robust: float = 1e-3  # how far embeddings are moved, of their root mean square
    # How long and how fast to train.
    schedule: Schedule = field(default=Schedule(epochs=100, batch=32, rate=1e-3, decay=1e-4, patience=20))

    def __post_init__(self) -> None:
        """Refuse what makes no network."""
        if min(self.rank, self.latent, self.hidden) < 1 or min(self.information, self.robust) < 0:
            raise DataError(
                f"{self!r} is no network; take positive widths, and information and robust not below zero"
            )

    def fit(self, screen: Screen, *, seed: int) -> FittedLatentSum:
        """Train the model; it predicts in double precision."""
        return fit_latent_sum(screen, partial(_begin, self, seed=seed), schedule=self.schedule, seed=seed)


def _begin(asked: ScLambda, screen: Screen, kept: Int[Tensor, "n"], *, seed: int) -> "_Network":
    generator, unit = torch.Generator().manual_seed(seed), usual_effect(screen)
    targets, readouts = TargetRows.of(screen, kept), len(screen.readouts)
    vectors, described = _embedding(asked, screen.vocabulary, targets)
    size = vectors.shape[1]
    learnt = torch.randn(vectors.shape, generator=generator) / size**0.5

    def layers(*sizes: int) -> Layers:
        return Layers.random(sizes, generator=generator)

    decoder = layers(asked.latent, asked.hidden, readouts)
    decoder.weights[-1].zero_()  # it starts as no effect
    return _Network(
        asked=asked,
        unit=unit,
        effects=(screen.effects / unit).float(),
        batch=screen.batch,
        targets=targets,
        vectors=vectors,
        described=described,
        learnt=learnt,
        sense=layers(size, asked.hidden, asked.latent),
        decoder=decoder,
        back=layers(asked.latent, asked.hidden, size),
        encoder=layers(readouts, asked.hidden, 2 * asked.latent),
        critic=layers(2 * asked.latent, asked.hidden, 1),
    )


def _embedding(
    asked: ScLambda, vocabulary: Vocabulary, targets: TargetRows
) -> tuple[Float[Tensor, "t f"], Bool[Tensor, "t"]]:
    """Lay tables side by side, each of the same usual length, and say which targets are in any."""
    chosen = chosen_descriptors(asked.descriptors, vocabulary)
    blocks = [each.coordinates(vocabulary, rank=asked.rank)[0] for each in chosen]
    blocks = [block / block.square().sum(1).mean().sqrt() for block in blocks if bool(block.any())]
    entries = torch.zeros(len(targets.names), dtype=torch.int64)
    entries[targets.number] = torch.arange(len(vocabulary))
    if not blocks:
        return torch.zeros(len(entries), asked.latent), torch.zeros(len(entries), dtype=torch.bool)
    return torch.cat(blocks, dim=1)[entries].float(), known_to_any(chosen, vocabulary)[entries]


@dataclass(frozen=True)
class _Network:
    """What training reads and changes."""

    asked: ScLambda
    unit: float  # effect that an output of one stands for
    effects: Float[Tensor, "n g"]  # measured, in that unit
    batch: PerturbationBatch  # what was given in each row
    targets: TargetRows
    vectors: Float[Tensor, "t f"]  # embedding of each target
    described: Bool[Tensor, "t"]  # whether it has one
    learnt: Float[Tensor, "t f"]  # what stands for it if it has none
    sense: Layers  # from embeddings to the latent state
    decoder: Layers  # from the latent state to effects
    back: Layers  # from the latent state to embeddings
    encoder: Layers  # from effects to means and log variances of the rest of the latent state
    critic: Layers  # of pairs of both parts of it

    @property
    def parameters(self) -> tuple[Tensor, ...]:
        """What is trained."""
        networks = (self.sense, self.decoder, self.back, self.encoder, self.critic)
        learnt = () if bool(self.described.all()) else (self.learnt,)
        return (*learnt, *(each for network in networks for each in network.parameters))

    def loss(self, rows: Int[Tensor, "m"]) -> Tensor:
        """The published loss, per perturbation."""
        wanted, given = self.effects[rows], self._given(rows)
        given = given if given.requires_grad else given.requires_grad_()
        mean, log_variance = self.encoder(wanted).chunk(2, dim=1)
        rest = mean + (log_variance / 2).exp() * torch.randn_like(mean)
        said = decoded_departure(self.sense, given)
        whole = _half_square(decoded_departure(self.decoder, rest + said) - wanted)
        missed = _half_square(decoded_departure(self.decoder, said) - wanted)
        (slope,) = torch.autograd.grad(missed, given, retain_graph=True)
        step = self.asked.robust * given.detach().square().mean().sqrt() * slope.sign()
        moved = decoded_departure(self.decoder, decoded_departure(self.sense, given + step))
        divergence = gaussian_divergence(mean, log_variance).sum(1).mean()
        shared = mutual_information(opposed(self.critic), rest, said)
        described = _half_square(self.back(said) - given.detach())
        information = self.asked.information * shared
        return whole + _half_square(moved - wanted) + described + divergence + information

    def error(self, rows: Int[Tensor, "m"]) -> Tensor:
        """Squared error of held-out rows, predicted from their embeddings alone."""
        said = decoded_departure(self.sense, self._given(rows))
        return (decoded_departure(self.decoder, said) - self.effects[rows]).square().mean()

    def decoded(self) -> tuple[Float[Tensor, "v g"], tuple[LatentNetwork, ...]]:
        """Both networks as one on sums of embeddings."""
        joined = self.decoder.weights[0] @ self.sense.weights[1]
        whole = Layers(
            (self.sense.weights[0], joined, self.decoder.weights[1]), (self.sense.biases[0], *self.decoder.biases)
        )
        network = network_of(self._entries(), whole, unit=self.unit)
        return network.rows.new_zeros(1, 1).expand(len(network.rows), len(network.output)), (network,)

    def _given(self, rows: Int[Tensor, "m"]) -> Float[Tensor, "m f"]:
        return sum_over_interventions(self._entries(), self.batch.rows(rows))

    def _entries(self) -> Float[Tensor, "v f"]:
        rows = torch.where(self.described[:, None], self.vectors, self.learnt)
        return self.targets.of_entries(self.targets.filled(rows, self.targets.trained | self.described))


def _half_square(missed: Float[Tensor, "b f"]) -> Tensor:
    return missed.square().sum(1).mean() / 2


def mutual_information(critic: Layers, one: Float[Tensor, "b r"], other: Float[Tensor, "b q"]) -> Tensor:
    """Bound the mutual information of two variables from below by a critic of pairs, in nats.

    ``E[T(x, y)] - log E[exp T(x, y')]``, with ``y'`` from other rows [Donsker and Varadhan 1983; Belghazi 2018].
    """
    shuffled = other[torch.randperm(len(other))]
    together = critic(torch.cat([one, other], dim=1)).mean()
    apart = critic(torch.cat([one, shuffled], dim=1)).flatten().logsumexp(0)
    return together - (apart - torch.tensor(float(len(one))).log())


def opposed(critic: Layers) -> Layers:
    """Reverse the gradients of a critic: what is minimised by all others is maximised by it [Ganin 2015]."""
    return replace(
        critic,
        weights=tuple(2 * each.detach() - each for each in critic.weights),
        biases=tuple(2 * each.detach() - each for each in critic.biases),
    )
