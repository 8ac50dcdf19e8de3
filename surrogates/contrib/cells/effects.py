"""Any model of cells as a forward model of effects: the conditions of a screen stand for its cells."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from surrogates.contrib.cells.additive_autoencoder import AdditiveAutoencoder, cpa, sams_vae
from surrogates.contrib.cells.shift import TwoFactorCells
from surrogates.data.io.cells import CONTROL, Cells
from surrogates.data.perturbation import Intervention
from surrogates.data.screen import FEWEST_CONDITIONS, Screen
from surrogates.data.vocabulary import PerturbationBatch, Vocabulary
from surrogates.errors import DataError
from surrogates.models.base import (
    CellSurrogate,
    FittedCells,
    LatentFactors,
    LatentNetwork,
    PairFactors,
    PairScale,
    require_one_context,
    sum_over_interventions,
)
from surrogates.models.baselines import residual_variance
from surrogates.models.training import Schedule
from surrogates.uncertainty.posterior import GaussianPosterior, isotropic


@runtime_checkable
class DecodesSums(Protocol):
    """A fitted model of cells that decodes sums of one latent row per intervention."""

    def latent_network(self, control: Float[Tensor, "g"], interventions: Sequence[Intervention]) -> LatentNetwork:
        """Give the effects of all sums of some interventions on one control profile."""
        ...


@dataclass(frozen=True)
class FittedEffectsOfCells:
    """A model of cells, applied to the one control profile of effects, which is zero."""

    vocabulary: Vocabulary  # what the ids of a batch mean
    readouts: tuple[str, ...]  # names of the readouts
    measured_alone: Bool[Tensor, "v"]  # whether each entry's single effect was in the training data
    known: Bool[Tensor, "v"]  # which entries the model has seen, alone or together with others
    model: FittedCells
    unseen: Float[Tensor, "g"]  # effect of an entry that it has not: the mean of the others
    variance: Float[Tensor, "g"]  # in-sample, hence optimistic

    def predict(self, batch: PerturbationBatch) -> GaussianPosterior:
        """Predict the effects of some perturbations."""
        return isotropic(self._mean(batch), self.variance)

    def latent_factors(self) -> LatentFactors | None:
        """All pairs by one network, if the model decodes sums; see :class:`LatentSum`."""
        network = self._network()
        if network is None:
            return None
        main = torch.where(self.known[:, None], torch.zeros_like(self.unseen), self.unseen)
        scale = PairScale.constant(len(self.known))
        return LatentFactors(PairFactors.without_interactions(main), scale, (network,))

    def _network(self) -> LatentNetwork | None:
        if not isinstance(self.model, DecodesSums):
            return None
        entries = [self.vocabulary.entries[at] for at in torch.nonzero(self.known).flatten().tolist()]
        network = self.model.latent_network(torch.zeros_like(self.unseen), entries)
        rows = network.rows.new_zeros(len(self.known), network.rows.shape[1])
        rows[self.known] = network.rows
        return LatentNetwork(rows, network.thresholds, network.weights, network.output)

    def _mean(self, batch: PerturbationBatch) -> Float[Tensor, "b g"]:
        missing = (batch.present & ~self.known[batch.genes.clamp_min(0)]).sum(1, keepdim=True)
        unseen = missing * self.unseen
        if (network := self._network()) is not None:
            return unseen + network.decode(sum_over_interventions(network.rows, batch))
        control = self.unseen.new_zeros(1, len(self.unseen))
        ids = torch.where(batch.present & self.known[batch.genes.clamp_min(0)], batch.genes, -1)
        distinct, place = ids.sort(dim=1).values.unique(dim=0, return_inverse=True)
        untreated = self.model.predict(control, CONTROL)[0]
        each = [
            self.model.predict(control, what)[0] - untreated if what.order else control[0]
            for what in map(self.vocabulary.perturbation, distinct)
        ]
        return unseen + torch.stack([*each, control[0]])[place]


@dataclass(frozen=True)
class EffectsOfCells:
    """Trains a model of cells on effects: every condition is a cell, and control cells have no effect.

    An entry without any training condition is predicted to do what the others do on average. Without cells the
    states of one condition do not vary: what a model learns from that, it does not learn here.
    """

    surrogate: CellSurrogate  # the model of cells
    controls: float = 0.1  # control cells, as a fraction of the others; at least one
    copies: int = 1  # how many equal cells stand for a condition: so much evidence it is beside a prior

    def __post_init__(self) -> None:
        """Refuse fractions that are none, and conditions without cells."""
        if not (0 <= self.controls <= 1 and self.copies >= 1):
            raise DataError(f"controls={self.controls} must be a fraction, copies={self.copies} at least 1")

    def fit(self, screen: Screen, *, seed: int) -> FittedEffectsOfCells:
        """Train the model."""
        require_one_context(screen)
        if len(screen) < FEWEST_CONDITIONS:
            raise DataError(f"{len(screen)} condition(s) are too few; give {FEWEST_CONDITIONS} or more")
        conditions = (CONTROL, *(screen.perturbation(row) for row in range(len(screen))))
        untreated = max(1, round(self.controls * self.copies * len(screen)))
        zeros = screen.effects.new_zeros(untreated, len(screen.readouts))
        cells = Cells(
            torch.cat([zeros, screen.effects.repeat(self.copies, 1)]),
            torch.cat([torch.zeros(untreated).long(), torch.arange(1, len(conditions)).repeat(self.copies)]),
            conditions,
            ("",) * len(conditions),
            screen.readouts,
        )
        # Where nothing has an effect there are no axes, and no network to train.
        surrogate = self.surrogate if bool((screen.effects != 0).any()) else TwoFactorCells()
        known = torch.zeros(len(screen.vocabulary), dtype=torch.bool)
        known[screen.batch.genes[screen.batch.present]] = True
        fitted = FittedEffectsOfCells(
            screen.vocabulary,
            screen.readouts,
            screen.single_rows >= 0,
            known,
            surrogate.fit(cells, seed=seed),
            zeros[0].clone(),
            torch.ones_like(zeros[0]),
        )
        seen = torch.nonzero(known)
        alone = fitted.predict(PerturbationBatch(seen, screen.vocabulary.doses[seen])).mean
        residuals = screen.effects - fitted.predict(screen.batch).mean
        return replace(fitted, unseen=alone.mean(0), variance=residual_variance(residuals))


# As LatentAdditive trains; chosen on the doubles that the split of PerturBench leaves for tuning.
_SCHEDULE = Schedule(epochs=150, batch=32, rate=2e-3, decay=1e-2)


def _for_conditions(model: AdditiveAutoencoder) -> AdditiveAutoencoder:
    return replace(model, hidden=(64,), held_out=0.0, schedule=_SCHEDULE)


def cpa_of_effects() -> EffectsOfCells:
    """CPA on effects: the encoder sees the effects themselves."""
    return EffectsOfCells(replace(_for_conditions(cpa()), schedule=replace(_SCHEDULE, epochs=50)))


def cpa_without_adversary_of_effects() -> EffectsOfCells:
    """CPA without adversaries on effects: the encoder sees the control, so that nothing needs an adversary."""
    return EffectsOfCells(_for_conditions(AdditiveAutoencoder(encoded="control")))


def sams_vae_of_effects() -> EffectsOfCells:
    """SAMS-VAE on effects: the encoder sees the control, and each condition stands for twenty cells."""
    model = replace(_for_conditions(sams_vae()), encoded="control", rate=1.0)
    return EffectsOfCells(replace(model, schedule=replace(_SCHEDULE, epochs=10)), copies=20)
