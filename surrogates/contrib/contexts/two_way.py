"""Models of a table of contexts by actions: means, two factors, the two-way layout, synthetic interventions."""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from surrogates.contrib.contexts.subspace import SpanTest, span_test
from surrogates.data.across import Actions, ActionTable, context_number, require_several_contexts
from surrogates.data.screen import Screen
from surrogates.data.vocabulary import PerturbationBatch, Vocabulary
from surrogates.errors import DataError
from surrogates.models.base import sum_over_interventions
from surrogates.models.baselines import FittedMean, residual_variance
from surrogates.uncertainty.error_model import FactorCovariance
from surrogates.uncertainty.posterior import GaussianPosterior, isotropic

_PARTS = 20  # measured actions are predicted without a twentieth of the donors, themselves among it
_MOST_JUDGED = 200


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
        """Average each action over contexts."""
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
        """View the model in one context."""
        return replace(self.view, shift=self.shifts[context_number(context, self.contexts)])


@dataclass(frozen=True)
class TwoWay:
    """Predicts ``alpha_c + beta_a`` with both terms fitted: the main effects of a two-way layout [Scheffé 1959].

    Other than in :class:`TwoFactor`, a context may answer to every action more or less than the others do.
    """

    def fit(self, screen: Screen, *, seed: int) -> FittedTwoWay:  # noqa: ARG002 - nothing is random
        """Solve the least squares problem of the layout, in which cells may be missing."""
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
        """View the model in one context."""
        mean = self.means[context_number(context, self.contexts)]
        return replace(self.view, rows=mean.repeat(len(self.view.vocabulary), 1))


@dataclass(frozen=True)
class ContextMean:
    """Predicts the mean effect over all actions measured in the context, also called the cell-type mean."""

    def fit(self, screen: Screen, *, seed: int) -> FittedContextMean:  # noqa: ARG002 - nothing is random
        """Average each context over its actions."""
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


@dataclass(frozen=True)
class FittedSyntheticInContext:
    """Synthetic interventions in one context.

    An action measured in no other context, or one that shares no donor with this context, is predicted by the
    two-factor model, which :meth:`falls_back` tells, and the posterior by a group of its own.
    """

    readouts: tuple[str, ...]  # names of the readouts
    context: int  # number of the context
    table: ActionTable  # all training data
    energy: float  # share of the squared singular values that is kept
    fallback: ActionEffects  # the two-factor model
    variance: Float[Tensor, "g"]  # error variance of synthetic predictions of measured actions, unseen by them

    @property
    def vocabulary(self) -> Vocabulary:
        """What the ids of a batch mean."""
        return self.table.vocabulary

    @property
    def measured_alone(self) -> Bool[Tensor, "v"]:
        """Whether each entry was measured alone, in any context."""
        return self.fallback.measured_alone

    def predict(self, batch: PerturbationBatch) -> GaussianPosterior:
        """Predict the effects of some perturbations."""
        mean = self.fallback.predict(batch).mean
        number = self.table.actions.find(batch)
        wanted, back = torch.unique(number[number >= 0], return_inverse=True)
        effects, made = synthesise(self.table, self.context, wanted, energy=self.energy)
        rows = torch.nonzero(number >= 0).flatten()
        group = torch.ones(len(batch), dtype=torch.int64)
        group[rows[made[back]]] = 0
        mean[rows] = torch.where(made[back][:, None], effects[back], mean[rows])
        covariances = tuple(map(FactorCovariance.independent, (self.variance, self.fallback.variance)))
        return GaussianPosterior(mean, mean.new_ones(len(mean)), covariances, group)

    def falls_back(self, batch: PerturbationBatch) -> Bool[Tensor, "b"]:
        """Tell which perturbations the two-factor model predicts."""
        return self.predict(batch).group == 1

    def spans(self, batch: PerturbationBatch, *, seed: int) -> list[SpanTest | None]:
        """Test for each perturbation whether weights that are learnt elsewhere can be carried to this context.

        A small p-value warns: the donors vary here in directions that the other contexts do not show, so that the
        weights say nothing of them. ``None`` stands where the two-factor model predicts, which has no weights.
        """
        number = self.table.actions.find(batch)
        found: list[SpanTest | None] = [None] * len(batch)
        wanted = torch.unique(number[number >= 0])
        for alike, others, donors in _learnt_from(self.table, self.context, wanted):
            train, here = _stacked(self.table, others, donors), self.table.effects[self.context, donors].T
            values = torch.linalg.svdvals(train)
            if not float(values[0]) > 0:
                continue
            test = span_test(train, here, rank=_kept(values, self.energy), seed=seed)
            for row in torch.nonzero(torch.isin(number, wanted[alike])).flatten().tolist():
                found[row] = test
        return found


@dataclass(frozen=True)
class FittedSyntheticInterventions:
    """Synthetic interventions in several contexts."""

    readouts: tuple[str, ...]  # names of the readouts
    table: ActionTable  # all training data
    energy: float  # share of the squared singular values that is kept
    fallback: ActionEffects  # the two-factor model
    variance: Float[Tensor, "c g"]  # error variance of the synthetic predictions of each context

    @property
    def contexts(self) -> tuple[str, ...]:
        """The contexts of the training data."""
        return self.table.contexts

    def in_context(self, context: str) -> FittedSyntheticInContext:
        """View the model in one context."""
        number = context_number(context, self.contexts)
        return FittedSyntheticInContext(
            self.readouts, number, self.table, self.energy, self.fallback, self.variance[number]
        )


@dataclass(frozen=True)
class SyntheticInterventions:
    """Synthetic interventions over actions (SI-A) [Agarwal 2020; Squires 2022].

    An action ``a`` is regressed on the donors, the actions measured in the target context ``c`` and in the
    contexts ``C'`` that have ``a``; the rows of that regression are the readouts in each of ``C'``. With the
    weights ``w`` the prediction is ``x_ca = sum over donors s of w_s x_cs``. The regression is one on principal
    components, by hard singular value truncation. With missing cells the donors get few when ``C'`` gets large:
    contexts are added from the one that shares most actions with ``c`` on, as long as the training matrix grows.
    An action that was measured in ``c`` is predicted without its own measurement there.

    Attributes:
        energy: Share of the squared singular values that is kept; above 0 and at most 1.
    """

    energy: float = 0.95

    def __post_init__(self) -> None:
        """Refuse an impossible share."""
        if not 0 < self.energy <= 1:
            raise DataError(f"energy {self.energy!r} is no share of the singular values; take one such as 0.95")

    def fit(self, screen: Screen, *, seed: int) -> FittedSyntheticInterventions:
        """Keep the training data, and measure how well each context's measured actions are predicted."""
        require_several_contexts(screen, what="tell how actions relate elsewhere")
        table = ActionTable.of(screen)
        fallback = TwoFactor().fit(screen, seed=seed).view
        variance = torch.stack([
            self._variance(table, number, fallback.variance) for number in range(len(table.contexts))
        ])  # fmt: skip
        return FittedSyntheticInterventions(screen.readouts, table, self.energy, fallback, variance)

    def _variance(self, table: ActionTable, context: int, otherwise: Float[Tensor, "g"]) -> Float[Tensor, "g"]:
        measured = torch.nonzero(table.measured[context]).flatten()
        judged = measured[:: 1 + len(measured) // _MOST_JUDGED]
        effects, made = synthesise(table, context, judged, energy=self.energy)
        if not bool(made.any()):
            return otherwise
        return residual_variance((table.effects[context, judged] - effects)[made])


def synthesise(
    table: ActionTable, context: int, wanted: Int[Tensor, "m"], *, energy: float
) -> tuple[Float[Tensor, "m g"], Bool[Tensor, "m"]]:
    """Predict some actions in one context as weighted sums of others there."""
    effects = table.effects.new_zeros(len(wanted), table.effects.shape[2])
    made = torch.zeros(len(wanted), dtype=torch.bool)
    for alike, others, donors in _learnt_from(table, context, wanted):
        train = _stacked(table, others, donors)
        target = table.effects[others][:, wanted[alike]].transpose(1, 2).flatten(0, 1)
        # In this order of products: there may be thousands of donors and of targets.
        onto = table.effects[context, donors].T @ principal_inverse(train, energy=energy)
        effects[alike] = (onto @ target).T
        made[alike] = True
    return effects, made


def _learnt_from(
    table: ActionTable, context: int, wanted: Int[Tensor, "m"]
) -> Iterator[tuple[Int[Tensor, "_"], Int[Tensor, "_"], Int[Tensor, "_"]]]:
    """Group wanted actions that have donors: their places, the contexts that are learnt from, and the donors."""
    for alike, left_out in _alike(table, context, wanted):
        others, donors = _training(table, context, table.measured[:, wanted[alike[0]]], left_out)
        if len(donors):
            yield alike, others, donors


def _stacked(table: ActionTable, contexts: Int[Tensor, "_"], donors: Int[Tensor, "_s"]) -> Float[Tensor, "n _s"]:
    """Lay out one row for each readout in each context."""
    return table.effects[contexts][:, donors].transpose(1, 2).flatten(0, 1)


def _kept(values: Float[Tensor, "r"], energy: float) -> int:
    """Count the singular values that hold a share of the sum of squares."""
    held = values.square().cumsum(0)
    keep = 1 + int((held < energy * held[-1]).sum())
    return min(keep, int((values > values[0] * 1e-12).sum()))


def principal_inverse(train: Float[Tensor, "n s"], *, energy: float) -> Float[Tensor, "s n"]:
    """Invert a matrix on its leading singular directions: principal component regression [Agarwal 2019]."""
    left, values, right = torch.linalg.svd(train, full_matrices=False)
    if not len(values) or float(values[0]) == 0:
        return torch.zeros_like(train.T)
    kept = slice(0, _kept(values, energy))
    inverse: Tensor = (right[kept].T / values[kept]) @ left[:, kept].T
    return inverse


def _alike(
    table: ActionTable, context: int, wanted: Int[Tensor, "m"]
) -> Iterator[tuple[Int[Tensor, "_"], Bool[Tensor, "a"]]]:
    """Group wanted actions that share contexts and donors, with the actions that may not be donors."""
    here = table.measured[context]
    part = torch.where(here, (here.cumsum(0) - 1) % _PARTS, -1)
    pattern = torch.cat([table.measured[:, wanted].to(torch.int64), part[wanted][None]])
    distinct, number = torch.unique(pattern, dim=1, return_inverse=True)
    for each in range(distinct.shape[1]):
        yield torch.nonzero(number == each).flatten(), here & (part == distinct[-1, each])


def _training(
    table: ActionTable, context: int, measured: Bool[Tensor, "c"], left_out: Bool[Tensor, "a"]
) -> tuple[Int[Tensor, "_"], Int[Tensor, "_"]]:
    """Choose the other contexts, among those where the target was measured, and the donors measured in all."""
    candidates = table.measured[context] & ~left_out
    shared = (table.measured & candidates).sum(1)
    others = sorted((each for each in torch.nonzero(measured).flatten().tolist() if each != context),
                    key=lambda each: (-int(shared[each]), each))  # fmt: skip
    best, chosen, donors = 0, 0, candidates & False
    for count, other in enumerate(others, start=1):
        candidates = candidates & table.measured[other]
        if count * int(candidates.sum()) > best:
            best, chosen, donors = count * int(candidates.sum()), count, candidates
    return torch.tensor(others[:chosen], dtype=torch.int64), torch.nonzero(donors).flatten()
