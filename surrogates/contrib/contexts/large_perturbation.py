"""The large perturbation model: one network from perturbation, readout and context to a single value."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from surrogates.contrib.contexts.two_way import ActionEffects, TwoFactor
from surrogates.data.across import context_number
from surrogates.data.novelty import fold_numbers
from surrogates.data.screen import Screen
from surrogates.data.vocabulary import PerturbationBatch, Vocabulary
from surrogates.errors import DataError
from surrogates.models.base import sum_over_interventions
from surrogates.models.baselines import residual_variance
from surrogates.models.training import Layers, Schedule, train
from surrogates.uncertainty.error_model import FactorCovariance
from surrogates.uncertainty.posterior import GaussianPosterior

_UNITS_AT_ONCE = 2**22  # hidden units, 32 MiB
_FEWEST_TO_HOLD_OUT = 10


@dataclass(frozen=True)
class Member:
    """One network ``value = MLP([e_P; e_R; e_C])``."""

    entries: Float[Tensor, "v d"]  # embedding of each entry; ``e_P`` is the mean over a perturbation's parts
    readouts: Float[Tensor, "g d"]  # embedding ``e_R`` of each readout
    contexts: Float[Tensor, "c d"]  # embedding ``e_C`` of each context
    layers: Layers  # the network, from the three side by side

    @classmethod
    def random(cls, sizes: tuple[int, int, int], width: int, hidden: tuple[int, ...], *, seed: int) -> "Member":
        """Draw starting values."""
        generator = torch.Generator().manual_seed(seed)
        entries, readouts, contexts = (torch.randn(size, width, generator=generator) for size in sizes)
        layers = Layers.random((3 * width, *hidden, 1), generator=generator)
        return cls(entries, readouts, contexts, layers)

    @property
    def parameters(self) -> tuple[Tensor, ...]:
        """Everything that is trained."""
        return (self.entries, self.readouts, self.contexts, *self.layers.parameters)

    def of_cells(
        self,
        batch: PerturbationBatch,
        context: Int[Tensor, "b"],
        readout: Int[Tensor, "b"],
        *,
        dropout: float = 0.0,
    ) -> Float[Tensor, "b"]:
        """Give one value for each perturbation, in its context and for its readout."""
        parts = _mean_part(self.entries, batch)
        rows = torch.cat([parts, self.readouts[readout], self.contexts[context]], dim=1)
        return self.layers(rows, dropout=dropout)[:, 0]

    def of_rows(self, batch: PerturbationBatch, context: int) -> Float[Tensor, "b g"]:
        """Give the values of all readouts in one context.

        The first layer is linear in the three embeddings, so that its three parts are computed apart.
        """
        width = self.entries.shape[1]
        into = self.layers.weights[0].split(width, dim=1)
        fixed = self.readouts @ into[1].T + self.contexts[context] @ into[2].T + self.layers.biases[0]
        after = Layers(self.layers.weights[1:], self.layers.biases[1:])
        parts = _mean_part(self.entries, batch) @ into[0].T
        at_once = max(1, _UNITS_AT_ONCE // max(1, fixed.numel()))
        blocks = [after((part[:, None] + fixed).relu().flatten(0, 1)) for part in parts.split(at_once)]
        return torch.cat(blocks).reshape(len(parts), len(fixed))

    def doubled(self) -> "Member":
        """Convert to double precision, detached."""
        return Member(
            self.entries.detach().double(),
            self.readouts.detach().double(),
            self.contexts.detach().double(),
            self.layers.to(device="cpu", dtype=torch.float64),
        )


@dataclass(frozen=True)
class LargePerturbationInContext:
    """The large perturbation model in one context.

    A perturbation with a part that no training condition holds is predicted by the two-factor model, which
    :meth:`falls_back` tells, and the posterior by a group of its own.
    """

    readouts: tuple[str, ...]  # names of the readouts
    context: int  # number of the context
    members: tuple[Member, ...]  # networks, whose predictions are averaged
    trained: Bool[Tensor, "v"]  # whether each entry occurs in the training data
    unit: float  # what the networks' values are multiplied with
    fallback: ActionEffects  # the two-factor model
    variance: Float[Tensor, "g"]  # error variance on the conditions that stopped the training, hence optimistic

    @property
    def vocabulary(self) -> Vocabulary:
        """What the ids of a batch mean."""
        return self.fallback.vocabulary

    @property
    def measured_alone(self) -> Bool[Tensor, "v"]:
        """Whether each entry was measured alone, in any context."""
        return self.fallback.measured_alone

    def predict(self, batch: PerturbationBatch) -> GaussianPosterior:
        """Predict the effects of some perturbations."""
        falls = self.falls_back(batch)
        values = sum(
            (member.of_rows(batch, self.context) for member in self.members),
            start=torch.zeros(len(batch), len(self.readouts), dtype=torch.float64),
        )
        mean = torch.where(
            falls[:, None], self.fallback.predict(batch).mean, self.unit * values / len(self.members)
        )
        covariances = tuple(map(FactorCovariance.independent, (self.variance, self.fallback.variance)))
        effects = torch.where((batch.order > 0)[:, None], mean, 0.0)
        return GaussianPosterior(effects, mean.new_ones(len(mean)), covariances, falls.to(torch.int64))

    def falls_back(self, batch: PerturbationBatch) -> Bool[Tensor, "b"]:
        """Tell which perturbations the two-factor model predicts."""
        return (batch.present & ~self.trained[batch.genes.clamp(min=0)]).any(dim=1)


@dataclass(frozen=True)
class FittedLargePerturbation:
    """The large perturbation model after it has seen a screen."""

    contexts: tuple[str, ...]  # the contexts of the training data
    view: LargePerturbationInContext  # what they see; its context is the first one

    def in_context(self, context: str) -> LargePerturbationInContext:
        """View the model in one context."""
        return replace(self.view, context=context_number(context, self.contexts))


@dataclass(frozen=True)
class LargePerturbation:
    """Predicts each value by a network on embeddings of perturbation, readout and context [Miladinovic 2025].

    Each member is trained on the values of all contexts by the squared error, but for a tenth of the conditions,
    the same for all members, on which it stops early. Fewer than 10 conditions leave none to stop on.

    Attributes:
        width: Length of each embedding.
        hidden: Widths of the hidden layers.
        dropout: Probability with which each hidden unit is left out in training.
        members: How many networks are averaged.
        schedule: How long and how fast to train.
    """

    width: int = 32
    hidden: tuple[int, ...] = (128, 128)
    dropout: float = 0.1
    members: int = 3
    schedule: Schedule = field(
        default_factory=lambda: Schedule(epochs=50, batch=1000, rate=2e-3, annealing=0.97, patience=10)
    )

    def __post_init__(self) -> None:
        """Refuse a model without weights."""
        if min(self.width, self.members, len(self.hidden), *self.hidden) < 1 or not 0 <= self.dropout < 1:
            raise DataError(f"{self!r} has nothing to train; take positive sizes and a dropout below 1")

    def fit(self, screen: Screen, *, seed: int) -> FittedLargePerturbation:
        """Train the networks."""
        two_factor = TwoFactor().fit(screen, seed=seed)
        ordered = screen.in_canonical_order()
        context = torch.tensor([two_factor.contexts.index(name) for name in ordered.contexts])
        judge = _held_out(ordered, seed=seed)
        unit = float(ordered.effects.square().mean().sqrt())  # zero where every effect is: so is every prediction
        target = (ordered.effects / (unit or 1.0)).float()
        members = tuple(
            self._member(ordered, context, target, judge, seed=seed * self.members + number)
            for number in range(self.members)
        )
        trained = torch.zeros(len(screen.vocabulary), dtype=torch.bool)
        trained[ordered.batch.genes[ordered.batch.present]] = True
        view = LargePerturbationInContext(
            screen.readouts, 0, members, trained, unit, two_factor.view, two_factor.view.variance
        )
        kept = torch.nonzero(judge if bool(judge.any()) else ~judge).flatten()
        residuals = ordered.effects[kept]
        for number in range(len(two_factor.contexts)):
            here = context[kept] == number
            batch = ordered.batch.rows(kept[here])
            residuals[here] -= replace(view, context=number).predict(batch).mean
        return FittedLargePerturbation(two_factor.contexts, replace(view, variance=residual_variance(residuals)))

    def _member(
        self,
        screen: Screen,
        context: Int[Tensor, "n"],
        target: Float[Tensor, "n g"],
        judge: Bool[Tensor, "n"],
        *,
        seed: int,
    ) -> Member:
        readouts = target.shape[1]
        sizes = (len(screen.vocabulary), readouts, int(context.max()) + 1)
        member = Member.random(sizes, self.width, self.hidden, seed=seed)
        learn, stop = (torch.nonzero(each).flatten() for each in (~judge, judge))

        def loss_of(conditions: Int[Tensor, "_"], dropout: float) -> Callable[[Int[Tensor, "m"]], Tensor]:
            def loss(cells: Int[Tensor, "m"]) -> Tensor:
                row, readout = conditions[cells // readouts], cells % readouts
                value = member.of_cells(screen.batch.rows(row), context[row], readout, dropout=dropout)
                return (value - target[row, readout]).square().mean()

            return loss

        every = torch.arange(len(stop) * readouts)
        train(
            member.parameters,
            loss_of(learn, self.dropout),
            rows=len(learn) * readouts,
            schedule=self.schedule,
            seed=seed,
            held_out=(lambda: loss_of(stop, 0.0)(every)) if len(stop) else None,
        )
        return member.doubled()


def _held_out(screen: Screen, *, seed: int) -> Bool[Tensor, "n"]:
    """Choose a tenth of the conditions, each with its context."""
    if len(screen) < _FEWEST_TO_HOLD_OUT:
        return torch.zeros(len(screen), dtype=torch.bool)
    return fold_numbers(screen.places, folds=10, seed=seed) == 0


def _mean_part(rows: Float[Tensor, "v d"], batch: PerturbationBatch) -> Float[Tensor, "b d"]:
    return sum_over_interventions(rows, batch) / batch.order.clamp(min=1)[:, None]
