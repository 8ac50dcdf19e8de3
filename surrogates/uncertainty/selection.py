"""Choose the error law by what it is for: telling which perturbation made a held-out effect.

Each fold of held-out combinations is identified among many candidates with a law learnt from the residuals of the
*other* folds; the criterion is the mean log posterior probability of the truth under a uniform prior, at the best
temperature. It is a proper score, so that it also calibrates the probabilities, and no test data enter.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float, Int
from scipy.optimize import minimize_scalar
from torch import Tensor

from surrogates.uncertainty.residuals import ErrorLaw, LawChoice, StandardResiduals

RANKS = (0, 5, 10, 20, 40, 80)
SHRINKAGES = (0.0, 0.1, 0.5, 1.0)
COEFFICIENT_VARIANCES = (0.0, 1e-4, 3e-4, 1e-3, 3e-3, 1e-2, 3e-2, 1e-1, 3e-1)
TAILS = (math.inf, 10.0, 1.5, 0.3)
FEWEST_TO_CHOOSE = 12
_AXES: tuple[Callable[[LawChoice], list[LawChoice]], ...] = (
    lambda choice: [replace(choice, rank=each) for each in RANKS],
    lambda choice: [replace(choice, shrinkage=each) for each in SHRINKAGES],
    lambda choice: [replace(choice, coefficient_variance=each) for each in COEFFICIENT_VARIANCES],
    lambda choice: [replace(choice, tails=each) for each in TAILS],
)
_MOST_SWEEPS = 3
_LOG_TEMPERATURES = (-12.0, 0.7)


@dataclass(frozen=True)
class HeldOutFold:
    """Combinations that a model has not seen, and the candidates among which they are to be identified.

    Attributes:
        measured: Measured effects of the held-out combinations.
        truth: Number of each of them among the candidates.
        atoms: Few rows of effects, of which every candidate's predicted effect is a weighted sum.
        weights: Weight of each row in each candidate's prediction.
        scale: Posterior scale of the candidates.
        parts: Vocabulary ids of the two parts of each candidate.
        singles: Single effect of each vocabulary entry.
        probed: Which of the combinations are to be identified; all of them lend their residuals.
    """

    measured: Float[Tensor, "n g"]
    truth: Int[Tensor, "n"]
    atoms: Float[Tensor, "a g"]
    weights: Float[Tensor, "c a"]
    scale: Float[Tensor, "c"]
    parts: Int[Tensor, "c 2"]
    singles: Float[Tensor, "v g"]
    probed: Int[Tensor, "p"]

    @property
    def residuals(self) -> Float[Tensor, "n g"]:
        """Measured minus predicted."""
        return self.measured - self.weights[self.truth] @ self.atoms


@dataclass(frozen=True)
class Selection:
    """A chosen error law and how well it identifies held-out combinations.

    Attributes:
        choice: What was chosen.
        temperature: Power of the likelihood at which held-out probabilities score best.
        log_score: Mean log posterior probability of the truth.
        support: Number of held-out combinations that were identified.
    """

    choice: LawChoice
    temperature: float
    log_score: float
    support: int


def select_law(folds: Sequence[HeldOutFold]) -> Selection:
    """Choose rank, shrinkage, coefficient variance, tails and temperature by cross-fitted identification.

    The grid is searched one coordinate after the other until nothing changes.

    Args:
        folds: Held-out folds of one novelty class; together they hold all its combinations.

    Returns:
        The best choice. With fewer than 12 combinations only a diagonal law with strong shrinkage is tempered.
    """
    support = sum(len(fold.measured) for fold in folds)
    trials = [_Trial(fold, pooled_residuals([other for other in folds if other is not fold])) for fold in folds]
    if support < FEWEST_TO_CHOOSE:
        return _score(trials, [LawChoice()])[0]
    scored: dict[LawChoice, Selection] = {}  # sweeps come back to what they have tried

    def scores(choices: Sequence[LawChoice]) -> list[Selection]:
        new = [choice for choice in choices if choice not in scored]
        scored.update((each.choice, each) for each in _score(trials, new))
        return [scored[choice] for choice in choices]

    # Factors beyond this leave too few residuals to estimate what they do not explain.
    most = min(0.7 * support * (1 - 1 / len(folds)), folds[0].measured.shape[1] - 1)
    ranks = [rank for rank in RANKS if rank <= most]
    best = scores([LawChoice(ranks[len(ranks) // 2], 0.1, 1e-3)])[0]
    for _ in range(_MOST_SWEEPS):
        before = best.choice
        for varied in _AXES:
            tried = scores([choice for choice in varied(best.choice) if choice.rank in ranks])
            best = max([best, *tried], key=lambda each: each.log_score)
        if best.choice == before:
            break
    return best


@dataclass(frozen=True)
class _Trial:
    """A fold to be identified, and the residuals of all other folds."""

    fold: HeldOutFold
    others: StandardResiduals


def _score(trials: Sequence[_Trial], choices: Sequence[LawChoice]) -> list[Selection]:
    """Score choices; those that share a covariance share the whitening, which costs most."""
    truths = [trial.fold.truth[trial.fold.probed] for trial in trials]
    shapes: dict[tuple[int, float], list[LawChoice]] = {}
    for choice in choices:
        shapes.setdefault((choice.rank, choice.shrinkage), []).append(choice)
    selections = []
    for shared in shapes.values():
        laws = [trial.others.law(shared[0]) for trial in trials]
        forms = [_whitened_forms(trial.fold, law) for trial, law in zip(trials, laws, strict=True)]
        for choice in shared:
            same = [
                replace(
                    law,
                    coefficient_variance=choice.coefficient_variance,
                    degrees=choice.tails * len(law.offset),
                )
                for law in laws
            ]
            densities = [law.log_density(*form) for law, form in zip(same, forms, strict=True)]
            temperature, log_score = best_temperature(densities, truths)
            selections.append(Selection(choice, temperature, log_score, sum(map(len, truths))))
    return selections


def pooled_residuals(folds: Sequence[HeldOutFold]) -> StandardResiduals:
    """Standardise the residuals of several folds together.

    Args:
        folds: Held-out folds of one novelty class.

    Returns:
        All their residuals.
    """
    return StandardResiduals.of(
        torch.cat([fold.residuals for fold in folds]),
        torch.cat([fold.scale[fold.truth] for fold in folds]),
    )


def _whitened_forms(
    fold: HeldOutFold, law: ErrorLaw
) -> tuple[
    Float[Tensor, "p c"],
    tuple[Float[Tensor, "p c"], ...],
    tuple[Float[Tensor, "c"], ...],
    Float[Tensor, "c"],
]:
    """The inner products that :meth:`ErrorLaw.log_density` needs, for all probed rows and candidates."""
    atoms = law.covariance.whiten(fold.atoms)
    target = law.covariance.whiten(fold.measured[fold.probed] - law.offset)
    singles = law.covariance.whiten(fold.singles)
    lengths = ((fold.weights @ (atoms @ atoms.T)) * fold.weights).sum(1)
    square = target.square().sum(1)[:, None] - 2 * (target @ atoms.T) @ fold.weights.T + lengths
    on_single, gram, mixed = target @ singles.T, singles @ singles.T, singles @ atoms.T
    first, second = fold.parts.T
    projections = tuple(on_single[:, part] - (mixed[part] * fold.weights).sum(1) for part in (first, second))
    return square, projections, (gram[first, first], gram[first, second], gram[second, second]), fold.scale


def best_temperature(
    densities: Sequence[Float[Tensor, "_n _c"]], truths: Sequence[Int[Tensor, "_n"]]
) -> tuple[float, float]:
    """Find the power of the likelihood with the highest mean log posterior probability of the truth.

    Args:
        densities: Log densities of each fold's rows under each of its candidates.
        truths: Number of each row's true candidate.

    Returns:
        The temperature and the mean log probability at it.
    """
    count = sum(len(truth) for truth in truths)

    def loss(log_temperature: float) -> float:
        power = math.exp(log_temperature)
        total = sum(
            float((power * density).log_softmax(1).gather(1, truth[:, None]).sum())
            for density, truth in zip(densities, truths, strict=True)
        )
        return -total / count

    found = minimize_scalar(loss, bounds=_LOG_TEMPERATURES, method="bounded", options={"xatol": 0.02})
    return math.exp(found.x), -float(found.fun)
