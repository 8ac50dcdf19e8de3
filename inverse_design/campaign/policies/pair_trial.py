"""The tree-structured Parzen estimator of Optuna, on the two singles of a pair."""

import warnings
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from inverse_design.campaign.game import Choice, Known, Pool
from inverse_design.campaign.policies.pairs import pair_view

_AXES = ("lower", "higher")


@dataclass(frozen=True)
class PairTrial:
    """Asks Optuna for two numbers, and takes the nearest pair that is left.

    The axes are the ranks, from zero to one, of the two genes by their utility alone. What is asked for in a round
    stays pending in it, with the pessimistic outcome that Optuna calls a constant liar.
    """

    def choose(self, pool: Pool, known: Known, count: int, *, seed: int) -> Choice:
        """Ask.

        Args:
            pool: What is known from the start.
            known: What was revealed since: the completed trials.
            count: How many experiments.
            seed: Fixes the sampler.

        Returns:
            The choice.
        """
        view = pair_view(pool)
        ranks = view.alone.argsort(stable=True).argsort(stable=True).double() / max(1, len(view.alone) - 1)
        places = ranks[view.pairs].sort(dim=1).values
        study, axes = _study(places[known.rows], known.utility, seed)
        free = known.open_rows(pool)
        left = torch.ones(len(free), dtype=torch.bool)
        rows = []
        for _ in range(count):
            asked = study.ask(axes)
            wanted = torch.tensor([asked.params[axis] for axis in _AXES], dtype=torch.float64).sort().values
            apart = (places[free] - wanted).square().sum(1).masked_fill(~left, torch.inf)
            nearest = int(apart.argmin())
            left[nearest] = False
            rows.append(int(free[nearest]))
        return Choice(torch.tensor(rows))


def _study(places: Float[Tensor, "m 2"], utility: Float[Tensor, "m"], seed: int) -> tuple[Any, dict[str, Any]]:
    import optuna  # noqa: PLC0415 - slow to import, and only this policy needs it

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        sampler = optuna.samplers.TPESampler(seed=seed % 2**32, constant_liar=True, multivariate=True)
    study = optuna.create_study(direction="maximize", sampler=sampler)
    axes: dict[str, Any] = {axis: optuna.distributions.FloatDistribution(0.0, 1.0) for axis in _AXES}
    study.add_trials(
        [
            optuna.trial.create_trial(
                params=dict(zip(_AXES, place, strict=True)), distributions=dict(axes), value=value
            )
            for place, value in zip(places.tolist(), utility.tolist(), strict=True)
        ]
    )
    return study, axes
