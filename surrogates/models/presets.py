"""Surrogates made of others, under the names by which they are chosen."""

from surrogates.models.baselines import MatchingMean, ScaledAdditive
from surrogates.models.interaction import Interaction
from surrogates.models.latent import LatentAdditive
from surrogates.models.linear import Ridge
from surrogates.models.wrappers.denoised import Denoised
from surrogates.models.wrappers.ensemble import Ensemble, Residual
from surrogates.models.wrappers.stacked import Stacked


def least_squares() -> Ridge:
    """Least squares on the design: ridge regression without a penalty."""
    return Ridge(0.0)


def denoised_additive() -> Denoised:
    """Scaled sums of single effects that have been shrunk."""
    return Denoised(ScaledAdditive())


def denoised_interaction() -> Denoised:
    """Scaled sums of shrunk single effects, with Bayesian interactions."""
    return Denoised(Interaction())


def stacked() -> Denoised:
    """The convex combination of scaled sums, matching means and interactions, on shrunk single effects."""
    return Denoised(Stacked((ScaledAdditive(), MatchingMean(), Interaction()), unseen=False))


def ensemble() -> Ensemble:
    """Eight interaction models on resampled combinations."""
    return Ensemble(Interaction())


def latent_residual() -> Residual:
    """A latent additive network that corrects the scaled additive prediction."""
    return Residual(ScaledAdditive(), LatentAdditive())
