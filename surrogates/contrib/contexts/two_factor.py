"""Baselines across contexts: the mean of the context, the two-factor model, and the two-way layout."""

from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from surrogates.data.across import Actions, ActionTable, context_number
from surrogates.data.screen import Screen
from surrogates.data.vocabulary import PerturbationBatch, Vocabulary
from surrogates.models.base import sum_over_interventions
from surrogates.models.baselines import FittedMean, residual_variance
from surrogates.uncertainty.posterior import GaussianPosterior, isotropic


@dataclass(frozen=True)
class ActionEffects:
    """One effect per action and one shift of the context: the view of a two-factor model in one context.

    An action never measured is predicted as the sum of its parts when each was measured alone, and otherwise as
    the mean over all actions. The control is predicted to have no effect.
    """

    vocabulary: Vocabulary  # what the ids of a batch mean
    readouts: tuple[str, ...]  # names of the readouts
    measured_alone: Bool[Tensor, "v"]  # whether each entry was measured alone, in any context
    actions: Actions  # the measured actions
    effects: Float[Tensor, "a g"]  # effect of each, over contexts
    parts: Float[Tensor, "v g"]  # effect of each entry alone, zero where it was not measured alone
    shift: Float[Tensor, "g"]  # what the context adds to every action
    variance: Float[Tensor, "g"]  # in-sample error variance of each readout

    def predict(self, batch: PerturbationBatch) -> GaussianPosterior:
        """Predict the effects of some perturbations."""
        known = self.measured_alone[batch.genes.clamp(min=0)] | ~batch.present
        sums = sum_over_interventions(self.parts, batch)
        unseen = torch.where(known.all(dim=1)[:, None], sums, self.effects.mean(0))
        number = self.actions.find(batch)
        effects = torch.where((number >= 0)[:, None], self.effects[number], unseen)
        return isotropic(torch.where((batch.order > 0)[:, None], effects + self.shift, 0.0), self.variance)


@dataclass(frozen=True)
class FittedTwoFactor:
    """Effects of actions that hold in any context."""

    contexts: tuple[str, ...]  # the contexts of the training data
    view: ActionEffects  # what every context sees

    def in_context(self, context: str) -> ActionEffects:  # noqa: ARG002 - the same in each
        """View the model in one context, which may be one never seen: effects are relative to its own control."""
        return self.view


@dataclass(frozen=True)
class TwoFactor:
    """Predicts the mean effect of an action over the training contexts: ``x_ca = alpha_c + beta_a``.

    ``alpha_c`` is the control of the context. Effects are relative to it, so that it drops out, and ``beta_a`` is
    also what is called the perturbation mean over contexts [Zhu 2025].
    """

    def fit(self, screen: Screen, *, seed: int) -> FittedTwoFactor:  # noqa: ARG002 - nothing is random
        """Average each action over contexts.

        Args:
            screen: Measured effects in any number of contexts.
            seed: Not used.

        Returns:
            The fitted model.

        Raises:
            DataError: If the screen has no rows.
        """
        table = ActionTable.of(screen)
        nothing = table.effects.new_zeros(len(table.contexts), len(screen.readouts))
        return FittedTwoFactor(table.contexts, _action_effects(table, screen.readouts, nothing))


@dataclass(frozen=True)
class FittedTwoWay:
    """Effects of actions, and a shift of each context."""

    contexts: tuple[str, ...]  # the contexts of the training data
    view: ActionEffects  # what they see, without shift
    shifts: Float[Tensor, "c g"]  # what each context adds to every action; they sum to zero

    def in_context(self, context: str) -> ActionEffects:
        """View the model in one context.

        Raises:
            UnknownNameError: If the context was never seen: its shift is not known.
        """
        return replace(self.view, shift=self.shifts[context_number(context, self.contexts)])


@dataclass(frozen=True)
class TwoWay:
    """Predicts ``alpha_c + beta_a`` with both terms fitted: the main effects of a two-way layout [Scheffé 1959].

    Other than in :class:`TwoFactor`, a context may answer to every action more or less than the others do.
    """

    def fit(self, screen: Screen, *, seed: int) -> FittedTwoWay:  # noqa: ARG002 - nothing is random
        """Solve the least squares problem of the layout, in which cells may be missing.

        Args:
            screen: Measured effects in any number of contexts.
            seed: Not used.

        Returns:
            The fitted model.

        Raises:
            DataError: If the screen has no rows.
        """
        table = ActionTable.of(screen)
        shifts = _context_shifts(table)
        return FittedTwoWay(table.contexts, _action_effects(table, screen.readouts, shifts), shifts)


@dataclass(frozen=True)
class FittedContextMean:
    """One mean effect per context."""

    contexts: tuple[str, ...]  # the contexts of the training data
    view: FittedMean  # what they see, with the mean over all of them
    means: Float[Tensor, "c g"]  # mean effect of each

    def in_context(self, context: str) -> FittedMean:
        """View the model in one context.

        Raises:
            UnknownNameError: If the context was never seen: its mean is not known.
        """
        mean = self.means[context_number(context, self.contexts)]
        return replace(self.view, rows=mean.repeat(len(self.view.vocabulary), 1))


@dataclass(frozen=True)
class ContextMean:
    """Predicts the mean effect over all actions measured in the context, also called the cell-type mean."""

    def fit(self, screen: Screen, *, seed: int) -> FittedContextMean:  # noqa: ARG002 - nothing is random
        """Average each context over its actions.

        Args:
            screen: Measured effects in any number of contexts.
            seed: Not used.

        Returns:
            The fitted model.

        Raises:
            DataError: If the screen has no rows.
        """
        table = ActionTable.of(screen)
        means = table.effects.sum(1) / table.measured.sum(1, keepdim=True)
        variance = residual_variance((table.effects - means[:, None])[table.measured])
        rows = means.mean(0).repeat(len(screen.vocabulary), 1)
        view = FittedMean(screen.vocabulary, screen.readouts, table.alone >= 0, rows, variance)
        return FittedContextMean(table.contexts, view, means)


def _action_effects(table: ActionTable, readouts: tuple[str, ...], shifts: Float[Tensor, "c g"]) -> ActionEffects:
    holds = table.measured[:, :, None]
    shifted = torch.where(holds, table.effects - shifts[:, None], 0.0)
    effects = shifted.sum(0) / holds.sum(0)
    alone = table.alone
    parts = torch.where((alone >= 0)[:, None], effects[alone], 0.0)
    variance = residual_variance((shifted - effects)[table.measured])
    return ActionEffects(
        table.vocabulary, readouts, alone >= 0, table.actions, effects, parts, torch.zeros_like(variance), variance
    )


def _context_shifts(table: ActionTable) -> Float[Tensor, "c g"]:
    """Solve the normal equations with the actions eliminated: as many unknowns as there are contexts."""
    holds = table.measured.to(torch.float64)
    weight = holds / holds.sum(0)
    system = torch.diag(holds.sum(1)) - holds @ weight.T
    right = table.effects.sum(1) - weight @ table.effects.sum(0)
    # The shifts are known up to a constant for each group of contexts that share actions: the pseudo-inverse
    # takes the solution whose shifts sum to zero.
    shifts: Tensor = torch.linalg.pinv(system, hermitian=True) @ right
    return shifts
