"""Linear regression on the design: the effect of a perturbation is the sum of a row per intervention.

``x = d^T R`` with ``R = (D^T D + penalty I)^-1 D^T X`` and, for noise variance ``s²_g`` in readout ``g``, the
posterior covariance ``s²_g (D^T D + penalty I)^-1`` of the column ``R_g`` (Hoerl and Kennard 1970; the Bayesian
reading: Bishop 2006, section 3.3). Without a penalty this is least squares, by the pseudo-inverse.
"""

from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from surrogates.data.screen import Screen
from surrogates.data.vocabulary import PerturbationBatch, Vocabulary
from surrogates.errors import DataError
from surrogates.models.base import PairFactors, PairScale, require_one_context, sum_over_interventions
from surrogates.uncertainty.error_model import FactorCovariance, squared_norm
from surrogates.uncertainty.posterior import GaussianPosterior

PENALTIES = (0.0, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0)
Columns = Literal["entries", "doses"]


@dataclass(frozen=True)
class FittedRidge:
    """A row of effects for each entry, with the uncertainty of the regression."""

    vocabulary: Vocabulary  # what the ids of a batch mean
    readouts: tuple[str, ...]  # names of the readouts
    measured_alone: Bool[Tensor, "v"]  # whether each entry's single effect was in the training data
    rows: Float[Tensor, "v g"]  # what each entry adds to an effect
    root: Float[Tensor, "v p"]  # ``root @ root.T`` is the covariance of the entries' rows, in units of the noise
    noise: Float[Tensor, "g"]  # noise variance of each readout
    penalty: float  # the penalty that was used

    def predict(self, batch: PerturbationBatch) -> GaussianPosterior:
        """Predict effects."""
        scale = 1 + sum_over_interventions(self.root, batch).square().sum(1)
        covariance = FactorCovariance.independent(self.noise)
        group = torch.zeros(len(batch), dtype=torch.int64)
        return GaussianPosterior(sum_over_interventions(self.rows, batch), scale, (covariance,), group)

    @property
    def factorises(self) -> bool:
        """Pairs are scored by products."""
        return True

    def pair_factors(self) -> PairFactors:
        """Factors of the mean effect of all pairs."""
        return PairFactors.without_interactions(self.rows)

    def pair_scale(self) -> PairScale:
        """Factors of the posterior scale of all pairs."""
        none = self.root.new_zeros(len(self.root), 0)
        side, left, right = squared_norm(self.root, none, self.root.new_zeros(0, self.root.shape[1]))
        return PairScale(side + 0.5, left, right)


@dataclass(frozen=True)
class Ridge:
    """Ridge regression on the design; singles and combinations inform each other.

    Attributes:
        penalty: Penalty on the rows; 0 is least squares, ``None`` chooses by leave-one-out.
        columns: A coefficient row per entry, or one per target which its dose multiplies, in units of the target's
            largest dose.
    """

    penalty: float | None = None
    columns: Columns = "entries"

    def __post_init__(self) -> None:
        """Refuse a negative penalty."""
        if self.penalty is not None and not self.penalty >= 0:
            raise DataError(f"penalty {self.penalty!r} is negative; take 0 for least squares")

    def fit(self, screen: Screen, *, seed: int) -> FittedRidge:  # noqa: ARG002 - nothing is random
        """Solve the regression, by its shortest solution where there are several; absent entries have none."""
        require_one_context(screen)
        inputs = _inputs(screen.vocabulary, self.columns)
        design = screen.batch.multi_hot(len(screen.vocabulary)) @ inputs
        left, values, right = torch.linalg.svd(design, full_matrices=False)
        kept = values > values.max() * 1e-9
        left, values, right = left[:, kept], values[kept], right[kept]
        scores = left.T @ screen.effects
        tried = PENALTIES if self.penalty is None else (self.penalty,)
        residuals = [_left_out(left, values, scores, screen.effects, penalty) for penalty in tried]
        best = int(torch.stack([each.square().sum() for each in residuals]).argmin())
        penalty, noise = tried[best], residuals[best].square().mean(0)
        rows = right.T @ (scores * (values / (values.square() + penalty))[:, None])
        # Directions that no condition varies keep their prior variance, 1 / penalty; least squares has none.
        root = right.T / (values.square() + penalty).sqrt()
        if penalty > 0:
            rest = torch.eye(len(right.T), dtype=torch.float64) - right.T @ right
            root = torch.cat([root, rest / penalty**0.5], dim=1)
        return FittedRidge(
            vocabulary=screen.vocabulary,
            readouts=screen.readouts,
            measured_alone=screen.single_rows >= 0,
            rows=inputs @ rows,
            root=inputs @ root,
            noise=noise.clamp(min=torch.finfo(noise.dtype).eps),
            penalty=penalty,
        )


def _inputs(vocabulary: Vocabulary, columns: Columns) -> Float[Tensor, "v c"]:
    """What each entry puts into each column of the design."""
    if columns == "entries":
        return torch.eye(len(vocabulary), dtype=torch.float64)
    targets = sorted(set(vocabulary.targets))
    inputs = torch.zeros(len(vocabulary), len(targets), dtype=torch.float64)
    column = torch.tensor([targets.index(target) for target in vocabulary.targets])
    inputs[torch.arange(len(vocabulary)), column] = vocabulary.doses
    return inputs / inputs.amax(0)


def _left_out(
    left: Float[Tensor, "n p"],
    values: Float[Tensor, "p"],
    scores: Float[Tensor, "p g"],
    effects: Float[Tensor, "n g"],
    penalty: float,
) -> Float[Tensor, "n g"]:
    """Leave-one-out residuals ``e / (1 - h)``; a condition that alone determines a column has none."""
    shrink = values.square() / (values.square() + penalty)
    residual = effects - left @ (shrink[:, None] * scores)
    free = 1 - left.square() @ shrink
    return torch.where(free[:, None] > 1e-9, residual / free[:, None].clamp(min=1e-9), effects)
