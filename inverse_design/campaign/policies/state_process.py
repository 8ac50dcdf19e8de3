"""A Gaussian process on the distance alone, by BoTorch: what is usual when a state is to be reached."""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from inverse_design.acquisition.belief import Belief
from inverse_design.acquisition.gain import LogExpectedImprovement
from inverse_design.campaign.game import Choice, Known, Pool
from inverse_design.campaign.policies.state_effects import learn_effects

_AT_ONCE = 256
_SMALLEST = 1e-12
_HALF = 1.645  # of a 90 % interval, in standard deviations
_MOST_STEPS = 60  # of the optimiser of the likelihood


@dataclass(frozen=True)
class StateProcess:
    """Takes the candidates of largest expected improvement of the utility under a process on it.

    Genes have no coordinates. A candidate's are the profile that additive gene effects, learnt from the same
    experiments, expect of it, so that the process sees the same model as :class:`StateGreedy`, and corrects it.
    """

    def choose(self, pool: Pool, known: Known, count: int, *, seed: int) -> Choice:
        """Fit ``SingleTaskGP``, and rank by the logarithm of the expected improvement.

        Args:
            pool: What is known from the start.
            known: What was revealed since.
            count: How many experiments.
            seed: Fixes the restarts of the optimiser.

        Returns:
            The choice, with 90 % bounds on the utility of each.

        Raises:
            DataError: If fewer than three perturbations were measured.
        """
        fitted, free = learn_effects(pool, known), known.open_rows(pool)
        every = fitted.predict(pool.candidates.multi_hot(len(pool.before.vocabulary)))
        low, high = every.amin(0), every.amax(0)
        inputs = (every - low) / (high - low).clamp(min=_SMALLEST)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            return _best(inputs, known, free, count)


def _best(inputs: Float[Tensor, "c d"], known: Known, free: Int[Tensor, "f"], count: int) -> Choice:
    from botorch.fit import fit_gpytorch_mll  # noqa: PLC0415 - slow to import, only needed here
    from botorch.models import SingleTaskGP  # noqa: PLC0415
    from gpytorch.mlls import ExactMarginalLogLikelihood  # noqa: PLC0415

    model = SingleTaskGP(inputs[known.rows], known.utility[:, None])
    likelihood = ExactMarginalLogLikelihood(model.likelihood, model)
    fit_gpytorch_mll(likelihood, optimizer_kwargs={"options": {"maxiter": _MOST_STEPS}})
    with torch.no_grad():
        # A posterior of many at once is cheaper than many posteriors of one.
        parts = [model.posterior(part) for part in inputs[free].split(_AT_ONCE)]
        mean, variance = (torch.cat([getattr(part, of)[:, 0] for part in parts]) for of in ("mean", "variance"))
        score = LogExpectedImprovement().score(Belief(mean, variance.clamp(min=0)), float(known.utility.max()))
        rows = free[score.argsort(descending=True, stable=True)[:count]]
        posterior = model.posterior(inputs[rows], observation_noise=True)
        middle, half = posterior.mean[:, 0], _HALF * posterior.variance[:, 0].sqrt()
    return Choice(rows, middle - half, middle + half)
