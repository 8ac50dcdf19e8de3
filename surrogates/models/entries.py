"""The measured entries of a screen, and what a learner of descriptors makes of the others.

An entry that was measured keeps its measured effect. For any other, a model predicts a departure from the prior:
the mean effect, and the effect that targets have on their own readout. The departure is multiplied by a trust
factor ``clip(<P, X> / <P, P>, 0, 1)``, with ``P`` the departures predicted for held-out targets and ``X`` the
measured ones, so that a model that is no better than the prior becomes the prior.
"""

from dataclasses import dataclass, replace
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from surrogates.data.novelty import fold_numbers, own_columns
from surrogates.data.screen import Screen
from surrogates.data.vocabulary import PerturbationBatch, Vocabulary
from surrogates.models.base import PairFactors, PairScale, require_one_context, sum_over_interventions
from surrogates.models.baselines import CombinationLaw, FittedScaledAdditive, ScaledAdditive, residual_variance
from surrogates.models.directions import effect_components
from surrogates.uncertainty.posterior import GaussianPosterior


@dataclass(frozen=True)
class FittedDescribed:
    """Measured effects where there are any, else predictions from descriptors or the prior, and their sums."""

    # Effect of each entry, measured or predicted, and the law of combinations of measured entries.
    additive: FittedScaledAdditive
    measured: Bool[Tensor, "v"]  # whether each entry's effect is measured, alone or within combinations
    # Whether each entry has a descriptor. Without one, an unmeasured entry has the prior's effect.
    described: Bool[Tensor, "v"]
    # What each entry adds to the scale of the posterior: zero where measured, more the less is known.
    excess: Float[Tensor, "v"]
    trust: float  # factor on the departures of unmeasured entries from the prior, learned on held-out targets

    @property
    def vocabulary(self) -> Vocabulary:
        """What the ids of a batch mean."""
        return self.additive.vocabulary

    @property
    def readouts(self) -> tuple[str, ...]:
        """Names of the readouts."""
        return self.additive.readouts

    @property
    def measured_alone(self) -> Bool[Tensor, "v"]:
        """Whether each entry was measured alone."""
        return self.additive.measured_alone

    def predict(self, batch: PerturbationBatch) -> GaussianPosterior:
        """Predict the effects of some perturbations."""
        scale = 1 + sum_over_interventions(self.excess[:, None], batch)[:, 0]
        return replace(self.additive.predict(batch), scale=scale)

    @property
    def factorises(self) -> bool:
        """Pairs are scored by products."""
        return True

    def pair_factors(self) -> PairFactors:
        """Factors of the mean effect of all pairs."""
        return self.additive.pair_factors()

    def pair_scale(self) -> PairScale:
        """Factors of the posterior scale of all pairs."""
        scale = self.additive.pair_scale()
        return replace(scale, side=scale.side + self.excess)


@dataclass(frozen=True)
class Learnt:
    """What a model predicts for each entry of a vocabulary."""

    departures: Float[Tensor, "v g"]  # of each entry's effect from the prior; zeros where nothing describes it
    spread: Float[Tensor, "v"]  # predictive variance of each entry, in any unit

    @classmethod
    def nothing(cls, entries: int, departures: Float[Tensor, "m g"]) -> "Learnt":
        """Depart from the prior nowhere."""
        return cls(departures.new_zeros(entries, departures.shape[1]), departures.new_ones(entries))


@runtime_checkable
class Learner(Protocol):
    """Learns departures from the prior for the entries of one vocabulary."""

    def __call__(self, train: Int[Tensor, "m"], departures: Float[Tensor, "m g"]) -> Learnt:
        """Learn from some entries.

        Args:
            train: Vocabulary ids of the measured entries.
            departures: Their measured departures.

        Returns:
            Predictions for all entries.
        """
        ...


def prior_rows(
    effects: Float[Tensor, "m g"], train: Int[Tensor, "m"], own: Int[Tensor, "v"]
) -> Float[Tensor, "v g"]:
    """Give every entry the mean effect, and on the readout of its own name what targets have there beyond it.

    That is averaged over ``m`` targets with an own readout, and shrunk by ``m / (m + 1)``: one target alone could
    be an accident.
    """
    known = torch.nonzero(own[train] >= 0).flatten()
    columns = own[train[known]]
    values = effects[known, columns]
    others = (effects.sum(0)[columns] - values) / max(len(effects) - 1, 1)
    gain = float((values - others).sum() / (len(known) + 1)) if len(effects) > 1 else 0.0
    plain = effects.clone()
    plain[known, columns] -= gain
    rows = plain.mean(0).repeat(len(own), 1)
    having = torch.nonzero(own >= 0).flatten()
    rows[having, own[having]] += gain
    return rows


def own_readout_scores(
    departures: Float[Tensor, "m g"], own: Int[Tensor, "v"], *, rank: int
) -> tuple[Float[Tensor, "g r"], Float[Tensor, "v r"]]:
    """Describe targets by how their own readout responds to other perturbations."""
    basis = effect_components(departures, rank)
    readouts = (basis * (departures @ basis.T).norm(dim=0)[:, None]).T
    return readouts, readouts[own.clamp(min=0)] * (own >= 0)[:, None]


FOLDS = 5
FEWEST_TARGETS = 3


@dataclass(frozen=True)
class Trial:
    """How a learner did on held-out targets."""

    trust: float  # factor on its departures
    # Mean squared error of described entries, in units of the model's variance, per unit of spread.
    described: float
    undescribed: float  # mean squared error of the prior in the same unit


@dataclass(frozen=True)
class MeasuredEntries:
    """The entries of a screen whose effects are measured, alone or only within combinations."""

    additive: FittedScaledAdditive  # the effects, with the law of combinations of entries measured alone
    train: Int[Tensor, "m"]  # vocabulary ids of the entries with effects
    own: Int[Tensor, "v"]  # number of each entry's own readout
    # Whether the screen has combinations. Their errors are then the unit of the posterior's scale; else the surest
    # unmeasured entry is.
    combined: bool

    @classmethod
    def of(cls, screen: Screen) -> "MeasuredEntries":
        """Look effects up, and take those of entries never given alone out of their combinations.

        The latter minimise the squared error of the combinations that contain them plus the squared departure
        from the mean single effect (zero without single effects).
        """
        require_one_context(screen)
        screen = screen.in_canonical_order()
        alone = screen.single_rows >= 0
        law = _law_of_measured(screen)
        rows, known = _deconvolved(screen, law)
        additive = FittedScaledAdditive(
            screen.vocabulary,
            screen.readouts,
            alone,
            rows,
            () if law is None else (law,),
            residual_variance(rows[known]),
        )
        together = torch.nonzero(screen.batch.order > 1).flatten()
        if len(together):
            residuals = screen.effects[together] - additive.predict(screen.batch.rows(together)).mean
            additive = replace(additive, variance=residual_variance(residuals))
        return cls(
            additive,
            torch.nonzero(known).flatten(),
            own_columns(screen.vocabulary, screen.readouts),
            len(together) > 0,
        )

    def departures(self, train: Int[Tensor, "m"]) -> tuple[Float[Tensor, "v g"], Float[Tensor, "m g"]]:
        """Split effects into the prior of some entries and the rest."""
        effects = self.additive.table[train]
        prior = prior_rows(effects, train, self.own)
        return prior, effects - prior[train]

    def trial(self, learner: Learner, described: Bool[Tensor, "v"], *, seed: int) -> Trial:
        """Let a learner predict targets that it has not seen, in five folds over targets."""
        targets = [self.additive.vocabulary.targets[entry] for entry in self.train.tolist()]
        distinct = sorted(set(targets))
        if len(distinct) < FEWEST_TARGETS:
            return Trial(0.0, 1.0, 1.0)
        dealt = fold_numbers(torch.arange(len(distinct)), folds=min(FOLDS, len(distinct)), seed=seed)
        number = dict(zip(distinct, dealt.tolist(), strict=True))
        folds = torch.tensor([number[target] for target in targets])
        held = [
            self._held_out(learner, self.train[folds != fold], self.train[folds == fold])
            for fold in folds.unique()
        ]
        measured, predicted, spread, entries = (torch.cat(part) for part in zip(*held, strict=True))
        told = described[entries]
        trust = _trust(predicted[told], measured[told])
        noise = self.additive.variance
        prior_error = float((measured.square() / noise).mean())
        error = ((measured - trust * predicted)[told].square() / noise).mean(1)
        unit = float(error.sum() / spread[told].sum()) if told.any() else prior_error
        return Trial(trust, unit, max(prior_error, float(error.mean()) if told.any() else 0.0))

    def complete(self, learnt: Learnt, trial: Trial, described: Bool[Tensor, "v"]) -> FittedDescribed:
        """Fill in the entries without measured effects."""
        prior, _ = self.departures(self.train)
        predicted = prior + trial.trust * learnt.departures * described[:, None]
        measured = torch.zeros(len(prior), dtype=torch.bool)
        measured[self.train] = True
        rows = torch.where(measured[:, None], self.additive.table, predicted)
        error = (trial.described * learnt.spread).clamp(max=trial.undescribed)
        scale = torch.where(described, error, trial.undescribed)
        unit = scale[~measured].amin() if not self.combined and not measured.all() else scale.new_ones(())
        unit = unit.clamp(min=torch.finfo(scale.dtype).eps)
        excess = torch.where(measured, 0.0, (scale / unit - 1).clamp(min=0.0))
        additive = replace(self.additive, singles=rows, variance=self.additive.variance * unit)
        return FittedDescribed(additive, measured, described, excess, trial.trust)

    def _held_out(
        self, learner: Learner, train: Int[Tensor, "m"], held: Int[Tensor, "h"]
    ) -> tuple[Float[Tensor, "h g"], Float[Tensor, "h g"], Float[Tensor, "h"], Int[Tensor, "h"]]:
        prior, departures = self.departures(train)
        learnt = learner(train, departures)
        return self.additive.table[held] - prior[held], learnt.departures[held], learnt.spread[held], held


def fit_described(screen: Screen, learner: Learner, described: Bool[Tensor, "v"], *, seed: int) -> FittedDescribed:
    """Learn departures, and how far to trust them."""
    entries = MeasuredEntries.of(screen)
    trial = entries.trial(learner, described, seed=seed)
    return entries.complete(learner(entries.train, entries.departures(entries.train)[1]), trial, described)


def _trust(predicted: Float[Tensor, "h g"], measured: Float[Tensor, "h g"]) -> float:
    size = float(predicted.square().sum())
    return min(max(float((predicted * measured).sum()) / size, 0.0), 1.0) if size > 0 else 0.0


def _law_of_measured(screen: Screen) -> CombinationLaw | None:
    """Learn how combinations of entries measured alone depart from sums; the pairs' law where there are pairs."""
    if not bool((screen.single_rows >= 0).any()):
        return None
    laws = ScaledAdditive().fit(screen, seed=0).laws
    # In "16 * order + seen", all parts are seen when both are equal.
    return next((law for law in laws if law.code // 16 == law.code % 16), None)


def _deconvolved(screen: Screen, law: CombinationLaw | None) -> tuple[Float[Tensor, "v g"], Bool[Tensor, "v"]]:
    alone = screen.single_rows >= 0
    effects = screen.effects[screen.single_rows[alone]]
    mean = effects.mean(0) if len(effects) else screen.effects.new_zeros(len(screen.readouts))
    rows = mean.repeat(len(alone), 1)
    rows[alone] = effects
    marks = screen.batch.multi_hot(len(alone))
    partial = marks[:, ~alone].sum(1) > 0
    scale, offset = (1.0, 0.0) if law is None else (law.scale, law.offset)
    design = scale * marks[partial][:, ~alone]
    remainder = screen.effects[partial] - offset - scale * marks[partial] @ rows
    eye = torch.eye(design.shape[1], dtype=torch.float64)
    rows[~alone] += torch.linalg.solve(design.T @ design + eye, design.T @ remainder)
    return rows, alone | (marks.sum(0) > 0)
