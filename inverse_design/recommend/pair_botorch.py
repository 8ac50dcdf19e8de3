"""A standard Gaussian process of BoTorch on descriptors of pairs, with the expected improvement."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from inverse_design.acquisition.acquisition import log_expected_improvement
from inverse_design.acquisition.posterior import UtilityPosterior
from inverse_design.recommend.pairs import PairView, pair_view
from inverse_design.recommend.protocol import DecisionState, Recommendation
from inverse_design.recommend.simple import RandomChoice, best_first
from surrogates.data.perturbation import Perturbation
from surrogates.errors import DataError

_FEWEST = 2
_AT_ONCE = 512


@dataclass(frozen=True)
class PairBotorch:
    """Measures the pairs with the largest logarithmic expected improvement, one by one.

    A pair is described by the sum and the absolute difference of what describes its genes: what they do alone, and
    the leading axes of the descriptors of the state.
    """

    axes: int = 3  # how many axes of each descriptor are used

    def __post_init__(self) -> None:
        """Refuse a negative number of axes."""
        if self.axes < 0:
            raise DataError(f"{self.axes} axes of a descriptor; take none or more")

    def recommend(
        self, state: DecisionState, count: int, *, pending: tuple[Perturbation, ...], seed: int
    ) -> Recommendation:
        """Take those of the largest expected improvement."""
        view = pair_view(state, pending)
        if len(view.known) < _FEWEST:
            return RandomChoice().recommend(state, count, pending=pending, seed=seed)
        known, offered = self._features(state, view)
        score = _log_improvement(known, view.utility, offered)
        return Recommendation.of(state, view.left.rows(best_first(score, count)))

    def _features(self, state: DecisionState, view: PairView) -> tuple[Float[Tensor, "m p"], Float[Tensor, "c p"]]:
        """Describe the measured pairs and the candidates, each coordinate from zero to one over them all."""
        vocabulary = state.measured.vocabulary
        axes = [each.coordinates(vocabulary, rank=self.axes)[0] for each in state.descriptors if self.axes]
        genes = torch.cat([view.alone[:, None], *axes], 1)
        pairs = torch.cat([view.known, view.pairs])
        one, other = genes[pairs[:, 0]], genes[pairs[:, 1]]
        features = torch.cat([one + other, (one - other).abs()], 1)
        low, high = features.amin(0), features.amax(0)
        scaled = (features - low) / (high - low).clamp(min=1e-12)
        return scaled[: len(view.known)], scaled[len(view.known) :]


def _log_improvement(
    features: Float[Tensor, "m p"], utility: Float[Tensor, "m"], offered: Float[Tensor, "c p"]
) -> Float[Tensor, "c"]:
    from botorch import fit_gpytorch_mll  # noqa: PLC0415 - slow to import, and only this recommender needs it
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
        scores.append(log_expected_improvement(belief, float(standard.max())).score)
    return torch.cat(scores)
