"""What the protocol ``retrieval`` compares: forward models, and how their pairs are scored against a target."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from inverse_design.problem.likelihood import TargetLikelihood
from inverse_design.problem.objective import Correlation
from inverse_design.problem.score import PairScore, ProductScore
from inverse_design.problem.space import CombinationSpace
from inverse_design.problem.target import AlignedProfile
from inverse_design.search.exhaustive import normalised
from surrogates.data.perturbation import Mode
from surrogates.data.screen import Screen
from surrogates.data.vocabulary import Vocabulary
from surrogates.models.additive import Additive, ScaledAdditive
from surrogates.models.interaction import Interaction
from surrogates.models.wrappers.automatic import Automatic
from surrogates.models.wrappers.calibrated import Calibrated, FittedCalibrated

YARDSTICK = "additive, likelihood"
DEFAULT = "automatic, likelihood"
OWN_READOUTS = "own readouts"
SIMPLE = (YARDSTICK, "scaled additive, likelihood", "interaction, likelihood")  # what the default is to beat
_SIGNS: Mapping[Mode, float] = {"activation": 1.0, "knockdown": -1.0, "knockout": -1.0}

Scoring = Callable[[FittedCalibrated, CombinationSpace, Float[Tensor, "g"]], PairScore | None]


@dataclass(frozen=True)
class Method:
    """A forward model, and how its pairs are scored.

    Attributes:
        score: From the fit, the pairs and the target on all readouts to the score of every pair, ``None`` if it
            does not factorise over pairs.
    """

    model: Calibrated | Automatic  # what is fitted; a model that several methods share is fitted once
    score: Scoring
    probabilistic: bool  # whether scores are log densities, so that probabilities follow from them
    applies: Callable[[Screen], bool] = lambda _: True  # whether the method exists on a screen


def likelihood_score(
    fitted: FittedCalibrated, space: CombinationSpace, effect: Float[Tensor, "g"]
) -> PairScore | None:
    """Score pairs by the log density of the target, or of experts by the log posterior, without a prior."""
    prior = torch.zeros(len(fitted.vocabulary), dtype=torch.float64)
    target = AlignedProfile.exact(range(len(effect)), effect)
    return normalised(TargetLikelihood(target, prior), fitted, space).pair_score(fitted, space)


def pearson_score(
    fitted: FittedCalibrated, space: CombinationSpace, effect: Float[Tensor, "g"]
) -> PairScore | None:
    """Score pairs by the correlation of the bare model's prediction with the target."""
    target = AlignedProfile.exact(range(len(effect)), effect)
    return Correlation(target, "pearson").pair_score(fitted.without_offsets(), space)


def own_readouts_score(
    fitted: FittedCalibrated, space: CombinationSpace, effect: Float[Tensor, "g"]
) -> ProductScore:
    """Look a pair up: the sum of what the target shows on the two genes' own readouts.

    Activation raises its own gene, knock-down and knock-out lower it; no model is asked. Genes that are no
    readouts, and compounds, count nothing.
    """
    columns, signs = _own_columns(fitted.vocabulary, fitted.readouts)
    own = torch.cat([effect, effect.new_zeros(1)])[columns] * signs
    none = torch.zeros(len(space.entries), 0)
    return ProductScore(own[space.entries], none, none)


def reads_own(screen: Screen) -> Float[Tensor, "v"]:
    """Say which entries act on a readout, and in which direction it is expected to go."""
    columns, signs = _own_columns(screen.vocabulary, screen.readouts)
    return torch.where(columns < len(screen.readouts), signs, 0.0)


def _own_columns(vocabulary: Vocabulary, readouts: tuple[str, ...]) -> tuple[Tensor, Float[Tensor, "v"]]:
    """Column of each entry's own readout, one past the last where there is none, and its expected sign."""
    column = {readout: number for number, readout in enumerate(readouts)}
    columns = torch.tensor([column.get(target, len(readouts)) for target in vocabulary.targets])
    signs = torch.tensor([_SIGNS.get(entry.mode, 0.0) for entry in vocabulary.entries], dtype=torch.float64)
    return columns, signs


METHODS: Mapping[str, Method] = {
    YARDSTICK: Method(Calibrated(Additive()), likelihood_score, probabilistic=True),
    OWN_READOUTS: Method(
        Calibrated(Additive()),
        own_readouts_score,
        probabilistic=False,
        applies=lambda screen: bool(reads_own(screen).any()),
    ),
    "additive, pearson": Method(Calibrated(Additive()), pearson_score, probabilistic=False),
    "scaled additive, likelihood": Method(Calibrated(ScaledAdditive()), likelihood_score, probabilistic=True),
    "interaction, pearson": Method(Calibrated(Interaction()), pearson_score, probabilistic=False),
    "interaction, likelihood": Method(Calibrated(Interaction()), likelihood_score, probabilistic=True),
    DEFAULT: Method(Automatic(), likelihood_score, probabilistic=True),
}
