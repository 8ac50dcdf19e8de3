"""A standard Gaussian process of BoTorch on descriptors of pairs, with the expected improvement."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from inverse_design.acquisition.gain import LogExpectedImprovement
from inverse_design.acquisition.posterior import UtilityPosterior
from inverse_design.recommend.environment import Choice, Known, Pool
from inverse_design.recommend.fixed import RandomChoice
from inverse_design.recommend.pairs import pair_view
from surrogates.errors import DataError

_FEWEST = 2
_AT_ONCE = 512


@dataclass(frozen=True)
class PairBotorch:
    """Measures the pairs with the largest logarithmic expected improvement, one by one.

    A pair is described by the sum and the absolute difference of what describes its genes: what they do alone, and
    the leading axes of the descriptors of the pool.
    """

    axes: int = 3  # how many axes of each descriptor are used

    def __post_init__(self) -> None:
        """Refuse a negative number of axes."""
        if self.axes < 0:
            raise DataError(f"{self.axes} axes of a descriptor; take none or more")

    def choose(self, pool: Pool, known: Known, count: int, *, seed: int) -> Choice:
        """Take those of the largest expected improvement."""
        if len(known) < _FEWEST:
            return RandomChoice().choose(pool, known, count, seed=seed)
        features = self._features(pool)
        free = known.open_rows(pool)
        score = _log_improvement(features[known.rows], known.utility, features[free])
        return Choice(free[score.argsort(descending=True, stable=True)[:count]])

    def _features(self, pool: Pool) -> Float[Tensor, "c p"]:
        view = pair_view(pool)
        vocabulary = pool.before.vocabulary
        axes = [each.coordinates(vocabulary, rank=self.axes)[0] for each in pool.descriptors if self.axes]
        genes = torch.cat([view.alone[:, None], *axes], 1)
        one, other = genes[view.pairs[:, 0]], genes[view.pairs[:, 1]]
        features = torch.cat([one + other, (one - other).abs()], 1)
        low, high = features.amin(0), features.amax(0)
        return (features - low) / (high - low).clamp(min=1e-12)


def _log_improvement(
    features: Float[Tensor, "m p"], utility: Float[Tensor, "m"], offered: Float[Tensor, "c p"]
) -> Float[Tensor, "c"]:
    from botorch import fit_gpytorch_mll  # noqa: PLC0415 - slow to import, and only this policy needs it
    from botorch.models import SingleTaskGP  # noqa: PLC0415
    from gpytorch.mlls import ExactMarginalLogLikelihood  # noqa: PLC0415

    standard = (utility - utility.mean()) / utility.std().clamp(min=1e-12)
    model = SingleTaskGP(features, standard[:, None], outcome_transform=None)
    fit_gpytorch_mll(ExactMarginalLogLikelihood(model.likelihood, model))
    scores = []
    for part in offered.split(_AT_ONCE):
        with torch.no_grad():
            posterior = model.posterior(part)
            belief = UtilityPosterior(posterior.mean[:, 0], posterior.variance[:, 0].clamp(min=0))
        scores.append(LogExpectedImprovement().score(belief, float(standard.max())))
    return torch.cat(scores)
