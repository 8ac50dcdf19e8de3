"""The planner of a campaign: fit, search the whole space, choose the batch of the largest joint gain."""

import tempfile
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from jaxtyping import Int
from torch import Tensor

from inverse_design.acquisition.batch import BatchRules, Pool, choose_batch
from inverse_design.acquisition.belief import Belief
from inverse_design.acquisition.gain import GAINS
from inverse_design.acquisition.joint_effects import joint_effects
from inverse_design.acquisition.preference import ExpectedMaximum, Fixed, Followed, Preference, Thompson
from inverse_design.campaign.planner import PLAN_COLUMNS, Plan
from inverse_design.campaign.settings import CampaignSettings
from inverse_design.campaign.short_list import Lister
from inverse_design.problem.constraints import Constraints
from inverse_design.problem.question import candidate_space
from inverse_design.problem.space import CombinationSpace
from inverse_design.problem.target import Target
from inverse_design.valuation import Aim, value
from surrogates.artefact import Origin, save_fitted
from surrogates.data.perturbation import Perturbation
from surrogates.data.screen import Screen
from surrogates.data.vocabulary import PerturbationBatch
from surrogates.errors import UnknownNameError
from surrogates.models.automatic import Automatic, best_identifying, calibrated
from surrogates.models.base import Surrogate
from surrogates.models.calibrated import Calibrated, FittedCalibrated
from surrogates.models.registered import SURROGATES
from surrogates.uncertainty.random_share import MixedBatch

JOINT_GAIN, THOMPSON = "expected_improvement", "thompson"
_AUTOMATIC = "automatic"
_LIKELIEST = "what most probably made the target, if anything did"
_HOPELESS = "warning: no draw improves on the best measured"


def require_plannable(settings: CampaignSettings, screen: Screen) -> None:
    """Refuse settings by which nothing could be planned, before a campaign stands on them.

    Args:
        settings: Of the campaign.
        screen: What is known already.

    Raises:
        UnknownNameError: If there is no such surrogate or gain; the message names the nearest ones.
        SpaceError: If there are fewer genes or compounds than are to be given together.
        NothingToProposeError: If everything is measured or excluded.
    """
    surrogates, gains = (_AUTOMATIC, *SURROGATES.names()), (THOMPSON, *GAINS.names())
    if settings.surrogate not in surrogates:
        raise UnknownNameError.from_known("surrogate", settings.surrogate, surrogates)
    if settings.gain not in gains:
        raise UnknownNameError.from_known("gain", settings.gain, gains)
    _space_of(settings, screen)


@dataclass(frozen=True)
class GainPlanner:
    """Plans rounds by expected gain.

    The forward model is fitted anew to all that is known. The best candidates of the whole space by expected
    utility make a short list; joint draws of their utilities choose the batch one by one, knowing what is pending.
    Random picks are uniform over the short list, which for small spaces is the whole space.

    Gains do not take a target state as evidence on what made it, and may all be nothing. A batch by expected
    improvement goes on with the candidates under which the target is most likely: the best for a target that
    one of them reaches.

    Attributes:
        settings: Of the campaign.
        target: Where the cells should go.
        surrogate: The forward model; by default the one that the settings name.
        listed: Length of the short list.
        draws: Joint draws.
    """

    settings: CampaignSettings
    target: Target
    surrogate: Surrogate | None = None
    listed: int = 300
    draws: int = 1024

    def plan(self, screen: Screen, count: int, *, pending: tuple[Perturbation, ...], seed: int) -> Plan:
        """Choose the experiments of a round.

        Args:
            screen: Everything that is known.
            count: How many experiments are wanted; fewer are proposed where the rules allow no more.
            pending: Experiments whose results are not known yet: they count as chosen.
            seed: Fixes everything that is random.

        Returns:
            The plan, the random picks last.

        Raises:
            NothingToProposeError: If no candidate is left.
            DataError: If the screen, the target or a setting cannot be used.
        """
        model, fitted = self._fit(screen, seed)
        aim = Aim.at(self.target, screen)
        space = _space_of(self.settings, screen)
        lister = Lister(fitted, space, screen.vocabulary.batch(list(pending)), self.settings)
        pool = lister.best(aim.objective, self.listed)
        belief = self._belief(fitted, pool.batch, aim, screen, seed=seed)
        joint_gain = ExpectedMaximum.of(belief, aim.incumbent.utility)
        promising = int(((belief.joint() > aim.incumbent.utility).any(0) & ~pool.choice.pending).sum())
        # Where no draw improves on the incumbent, the best that the batch itself may hold is still worth choosing.
        rival = aim.incumbent.utility if promising else float(belief.joint().min())
        preference = self._preference(belief, rival)
        by_likelihood = aim.is_state and self.settings.gain == JOINT_GAIN and promising < count
        if by_likelihood:
            likelihood = aim.likelihood(screen)
            pool = pool if promising else lister.best(likelihood, self.listed)
            likeliest = Fixed(likelihood.utility(fitted, pool.batch).mean)
            preference = Followed(preference, likeliest) if promising else likeliest
        chosen = choose_batch(
            preference, pool.choice, self._rules(count), generator=torch.Generator().manual_seed(seed)
        )
        chosen = _designed_first(chosen)
        valuation = value(fitted, pool.batch.rows(chosen.numbers), aim, screen, level=self.settings.level)
        table = valuation.table.rename(columns={aim.worth.name: "predicted"}).assign(
            chosen=["random" if drawn else "designed" for drawn in chosen.drawn.tolist()],
            log_probability=chosen.log_probability.tolist(),
        )
        shown = [*PLAN_COLUMNS, *(name for name in table if name not in PLAN_COLUMNS)]
        return Plan(
            table=table[shown],
            expected_gain=_gain_of(joint_gain, pool.choice, chosen.numbers) if promising else 0.0,
            notes=(
                *_notes(fitted, aim, space),
                *pool.notes,
                *_prospects(promising, count, by_likelihood=by_likelihood),
                *valuation.notes,
            ),
            model=_as_bytes(fitted, Origin.of(screen, model, seed=seed)),
        )

    def _fit(self, screen: Screen, seed: int) -> tuple[Calibrated, FittedCalibrated]:
        """The one that identifies held-out doubles best; all candidates have parts that were measured alone."""
        name = self.settings.surrogate
        if self.surrogate is not None:
            bases: tuple[Surrogate, ...] = (self.surrogate,)
        else:
            bases = Automatic().bases if name == _AUTOMATIC else (SURROGATES.load(name)(),)
        fits = list(calibrated(bases, screen, seed=seed))
        best = best_identifying(fits)
        return next(Calibrated(base) for base, fit in zip(bases, fits, strict=True) if fit is best), best

    def _belief(
        self, fitted: FittedCalibrated, batch: PerturbationBatch, aim: Aim, screen: Screen, *, seed: int
    ) -> Belief:
        joint = joint_effects(fitted, batch, aim.aligned.columns, screen)
        return joint.believe(aim.worth, self.draws, seed=seed)

    def _preference(self, belief: Belief, incumbent: float) -> Preference:
        name = self.settings.gain
        if name == JOINT_GAIN:
            return ExpectedMaximum.of(belief, incumbent)
        if name == THOMPSON:
            return Thompson(belief.joint())
        return Fixed(GAINS.load(name)().score(belief, incumbent))

    def _rules(self, count: int) -> BatchRules:
        return BatchRules(
            size=count, most_per_gene=self.settings.max_per_gene, random_share=self.settings.random_share
        )


def _space_of(settings: CampaignSettings, screen: Screen) -> CombinationSpace:
    rules = Constraints(excluded=settings.exclude, incompatible=settings.incompatible)
    return candidate_space(screen, settings.order, rules)


def _designed_first(chosen: MixedBatch) -> MixedBatch:
    order = torch.argsort(chosen.drawn.int(), stable=True)
    return replace(
        chosen,
        numbers=chosen.numbers[order],
        drawn=chosen.drawn[order],
        log_probability=chosen.log_probability[order],
    )


def _gain_of(joint: ExpectedMaximum, pool: Pool, numbers: Int[Tensor, "q"]) -> float:
    """What the batch adds to the joint expected improvement of what is pending."""
    for number in torch.nonzero(pool.pending).flatten().tolist():
        joint = joint.adding(number)
    before = float(joint.best.mean())
    for number in numbers.tolist():
        joint = joint.adding(number)
    return float(joint.best.mean()) - before


def _prospects(promising: int, count: int, *, by_likelihood: bool) -> tuple[str, ...]:
    """Say where the hope of a gain ends."""
    if not promising:
        return (f"{_HOPELESS}; the batch holds {_LIKELIEST}" if by_likelihood else _HOPELESS,)
    if promising < count:
        rest = f"; the rest of the batch is {_LIKELIEST}" if by_likelihood else ""
        return (f"{promising} candidate(s) of the short list improve on the best measured in any draw{rest}",)
    return ()


def _notes(fitted: FittedCalibrated, aim: Aim, space: CombinationSpace) -> tuple[str, ...]:
    best = aim.incumbent
    notes = [
        f"space: {space.summary}; best measured: {best.label} with a {aim.worth.name} of"
        f" {aim.outcome(best.measured):.4g} ({aim.outcome(best.utility):.4g} without the luck of its noise)",
        f"model: {fitted.name}",
    ]
    held_out = fitted.held_out
    if held_out.conditions == 0:
        notes.append(
            "warning: no held-out combination could test the model or its error law; its gains are guesses"
        )
    elif held_out.ratio >= 1:
        notes.append(
            f"warning: the model does not beat additive: {held_out.ratio:.3f} of its squared error on"
            f" {held_out.conditions} held-out doubles"
        )
    return tuple(notes)


def _as_bytes(fitted: FittedCalibrated, origin: Origin) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.safetensors"
        save_fitted(fitted, path, origin=origin)
        return path.read_bytes()
