"""Objectives that read an ensemble member by member, so that every search searches for an acquisition."""

from dataclasses import dataclass, replace

import torch
from jaxtyping import Float64
from torch import Tensor

from inverse_design.acquisition.pairs import PairAcquisition, PairGain
from inverse_design.problem.objective import Objective
from inverse_design.problem.score import PairScore, ProductScore
from inverse_design.problem.space import CombinationSpace
from surrogates.data.vocabulary import PerturbationBatch
from surrogates.errors import DataError
from surrogates.models.wrappers.calibrated import FittedCalibrated
from surrogates.models.wrappers.ensemble import FittedEnsemble
from surrogates.uncertainty.posterior import Outcome, ScalarPosterior


def member_views(fitted: FittedCalibrated) -> tuple[FittedCalibrated, ...]:
    """Take a calibrated ensemble as one calibrated model per member, all with the ensemble's error laws.

    Raises:
        DataError: If the model is no ensemble.
    """
    if not isinstance(fitted.base, FittedEnsemble):
        raise DataError(
            f"{fitted.name or type(fitted.base).__name__} has no members to disagree; fit an Ensemble of it"
        )
    return tuple(replace(fitted, base=member, cross=()) for member in fitted.base.members)


@dataclass(frozen=True)
class EnsembleGain:
    """An acquisition of the utilities that the members of an ensemble expect.

    Of objectives whose utility is a product of factors (distance, projection) all pairs are searched by the
    products of the members; any other is streamed.
    """

    objective: Objective  # what members are asked for
    acquisition: PairAcquisition  # what a candidate is worth by their answers

    def utility(self, fitted: FittedCalibrated, batch: PerturbationBatch) -> ScalarPosterior:
        """Value candidates."""
        value = self.acquisition.value(_utilities(self.objective, fitted, batch))
        return ScalarPosterior(value, torch.zeros_like(value))

    @property
    def outcome(self) -> Outcome:
        """What an experiment shows: the outcome of the objective."""
        return self.objective.outcome

    def pair_score(self, fitted: FittedCalibrated, space: CombinationSpace) -> PairScore | None:
        """Factorise the utilities of all members over all pairs."""
        if not fitted.factorises:
            return None
        scores = [self.objective.pair_score(member, space) for member in member_views(fitted)]
        products = tuple(each for each in scores if isinstance(each, ProductScore))
        return PairGain(products, self.acquisition) if len(products) == len(scores) else None


@dataclass(frozen=True)
class EnsembleDraw:
    """The utility that one member expects: a Thompson draw, as all members are equally likely."""

    objective: Objective  # what the member is asked for
    member: int  # its number, from zero; drawn by whoever asks

    def __post_init__(self) -> None:
        """Refuse to count from the end."""
        if self.member < 0:
            raise DataError(f"there is no member {self.member}; count them from 0")

    def utility(self, fitted: FittedCalibrated, batch: PerturbationBatch) -> ScalarPosterior:
        """Value candidates as the member does."""
        return self.objective.utility(self._drawn(fitted), batch)

    @property
    def outcome(self) -> Outcome:
        """What an experiment shows: the outcome of the objective."""
        return self.objective.outcome

    def pair_score(self, fitted: FittedCalibrated, space: CombinationSpace) -> PairScore | None:
        """Factorise the member's utility over all pairs."""
        return self.objective.pair_score(self._drawn(fitted), space)

    def _drawn(self, fitted: FittedCalibrated) -> FittedCalibrated:
        members = member_views(fitted)
        if self.member >= len(members):
            raise DataError(f"there is no member {self.member} among {len(members)}; count them from 0")
        return members[self.member]


def draws(objective: Objective, fitted: FittedCalibrated, *, count: int, seed: int) -> tuple[EnsembleDraw, ...]:
    """Draw members for Thompson sampling, each as likely as any other, with replacement.

    Raises:
        DataError: If the model is no ensemble, or ``count`` is not positive.
    """
    if count < 1:
        raise DataError(f"{count} draws propose nothing; take 1 or more")
    generator = torch.Generator().manual_seed(seed)
    drawn = torch.randint(len(member_views(fitted)), (count,), generator=generator)
    return tuple(EnsembleDraw(objective, member) for member in drawn.tolist())


def predicted_incumbent(objective: Objective, fitted: FittedCalibrated, measured: PerturbationBatch) -> float:
    """Find the best utility that the model expects of what was measured, for candidates to improve upon.

    Raises:
        DataError: If nothing was measured.
    """
    if not len(measured):
        raise DataError("nothing was measured, so there is nothing to improve upon; name an incumbent")
    return float(objective.utility(fitted, measured).mean.max())


def _utilities(objective: Objective, fitted: FittedCalibrated, batch: PerturbationBatch) -> Float64[Tensor, "s b"]:
    return torch.stack([objective.utility(member, batch).mean for member in member_views(fitted)])
