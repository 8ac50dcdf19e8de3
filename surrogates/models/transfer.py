"""Transfer of combinations: a context learns from few of its own and from those of the other contexts."""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from surrogates.data.across import Actions, ActionTable, require_several_contexts
from surrogates.data.screen import Screen
from surrogates.data.vocabulary import PerturbationBatch, Vocabulary
from surrogates.errors import DataError, UnknownNameError
from surrogates.models.pair_law import PairLaw, fit_pair_law
from surrogates.uncertainty.posterior import GaussianPosterior, isotropic

_FROM_ELSEWHERE = 2  # the deviation and the residual


@dataclass(frozen=True)
class Elsewhere:
    """What the other contexts say of a combination.

    Attributes:
        laws: The law of each other context that has combinations, learnt from that context alone.
        actions: The combinations measured in any of them.
        residuals: Mean over those that measured it of measured minus lawful effect.
    """

    laws: tuple[PairLaw, ...]
    actions: Actions
    residuals: Float[Tensor, "a g"]

    def of(self, batch: PerturbationBatch) -> Float[Tensor, "b e g"]:
        """Look combinations up.

        Args:
            batch: The perturbations.

        Returns:
            Two quantities for each: the mean over the other laws of offsets and slopes, which is predicted for
            any combination, and the residual, which is zero where the combination was not measured.
        """
        number = self.actions.find(batch)
        blank = self.residuals.new_zeros(len(batch), self.residuals.shape[1])
        if not self.laws:
            return torch.stack([blank, blank], dim=1)
        residual = torch.where((number >= 0)[:, None], self.residuals[number], blank)
        deviation = torch.stack([law.deviation(batch) for law in self.laws]).mean(0)
        return torch.stack([deviation, residual], dim=1)


@dataclass(frozen=True)
class TransferInContext:
    """The transfer model in one context.

    Attributes:
        vocabulary: What the ids of a batch mean.
        readouts: Names of the readouts.
        measured_alone: Whether each entry was measured alone, in any context.
        law: What combinations do here.
        elsewhere: What the other contexts say of them.
    """

    vocabulary: Vocabulary
    readouts: tuple[str, ...]
    measured_alone: Bool[Tensor, "v"]
    law: PairLaw
    elsewhere: Elsewhere

    def predict(self, batch: PerturbationBatch) -> GaussianPosterior:
        """Predict the effects of some perturbations.

        Args:
            batch: Ids of this model's vocabulary.

        Returns:
            Effects with the same independent error for every perturbation.
        """
        return isotropic(self.law.mean(batch, self.elsewhere.of(batch)), self.law.variance)


@dataclass(frozen=True)
class FittedTransfer:
    """The transfer model after it has seen a screen.

    Attributes:
        contexts: The contexts of the training data.
        views: The model in each of them.
    """

    contexts: tuple[str, ...]
    views: tuple[TransferInContext, ...]

    def in_context(self, context: str) -> TransferInContext:
        """View the model in one context.

        Args:
            context: Its name.

        Returns:
            A forward model of that context.

        Raises:
            UnknownNameError: If the context was never seen: its single effects are not known.
        """
        if context not in self.contexts:
            raise UnknownNameError.from_known("context", context, self.contexts)
        return self.views[self.contexts.index(context)]


@dataclass(frozen=True)
class Transfer:
    """Predicts combinations of a context from its single effects, few combinations, and those of other contexts.

    Each context first gets a law of its own, :mod:`surrogates.models.pair_law`: the sum of the single effects
    there, a curve, and an offset and a slope for each entry. Then the law is learnt again beside what the other
    contexts say: their offsets and slopes, and by how much each combination measured there departed from them.
    How much weight these get is learnt from the context's own combinations, so a context without 8 of its own is
    additive. Single effects not measured in a context are the mean of those in the others, or else the mean
    single effect. One regression per readout: meant for few readouts and up to 100,000s of pairs.
    """

    def fit(self, screen: Screen, *, seed: int) -> FittedTransfer:  # noqa: ARG002 - nothing is random
        """Learn the law of each context.

        Args:
            screen: Measured effects in two contexts or more, with single perturbations.
            seed: Not used.

        Returns:
            The fitted model.

        Raises:
            DataError: If there are fewer than two contexts, or nothing was measured alone.
        """
        require_several_contexts(screen, what="learn from another")
        table = ActionTable.of(screen)
        singles = _singles_of_contexts(table)
        combined = table.batch.order > 1
        rows = [torch.nonzero(measured & combined).flatten() for measured in table.measured]
        nothing = Elsewhere(
            (), Actions(table.actions.genes[:0]), screen.effects.new_zeros(0, len(screen.readouts))
        )
        own = tuple(_law(table, number, rows[number], singles[number], nothing) for number in range(len(rows)))
        views = []
        for number, here in enumerate(rows):
            elsewhere = _elsewhere(table, own, rows, but=number)
            law = _law(table, number, here, singles[number], elsewhere)
            views.append(TransferInContext(screen.vocabulary, screen.readouts, table.alone >= 0, law, elsewhere))
        return FittedTransfer(table.contexts, tuple(views))


def _law(
    table: ActionTable,
    context: int,
    rows: Int[Tensor, "n"],
    singles: Float[Tensor, "v g"],
    elsewhere: Elsewhere,
) -> PairLaw:
    batch = table.batch.rows(rows)
    return fit_pair_law(batch, table.effects[context, rows], singles, elsewhere.of(batch))


def _elsewhere(
    table: ActionTable, laws: tuple[PairLaw, ...], rows: list[Int[Tensor, "_"]], *, but: int
) -> Elsewhere:
    """Collect the residuals of all contexts but one."""
    others = [number for number in range(len(laws)) if number != but and len(rows[number])]
    total = torch.zeros_like(table.effects[0])
    for number in others:
        batch = table.batch.rows(rows[number])
        blank = total.new_zeros(len(batch), _FROM_ELSEWHERE, total.shape[1])
        total[rows[number]] += table.effects[number, rows[number]] - laws[number].mean(batch, blank)
    count = table.measured[others].sum(0)
    kept = torch.nonzero((count > 0) & (table.batch.order > 1)).flatten()
    residuals = total[kept] / count[kept, None]
    return Elsewhere(tuple(laws[each] for each in others), Actions(table.actions.genes[kept]), residuals)


def _singles_of_contexts(table: ActionTable) -> Float[Tensor, "c v g"]:
    """Single effects of each context, filled up from the other contexts, then with the mean single effect."""
    alone = table.alone
    if not bool((alone >= 0).any()):
        raise DataError(
            f"none of the {len(alone)} interventions was measured alone in any context; add single perturbations,"
            " or take a model that needs none, such as two_way"
        )
    measured = (table.measured[:, alone] & (alone >= 0))[:, :, None]
    values = torch.where(measured, table.effects[:, alone], 0.0)
    across = values.sum(0) / measured.sum(0).clamp(min=1)
    filled = torch.where(measured, values, across)
    known = (alone >= 0)[:, None]
    return torch.where(known, filled, (filled * known).sum(1, keepdim=True) / known.sum())
