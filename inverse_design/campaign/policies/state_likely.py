"""The target is a profile: candidates are ranked by how likely just this is measured, and by how near they are."""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from inverse_design.campaign.game import Choice, Known, Pool
from inverse_design.campaign.policies.state_effects import GeneEffects, learn_effects, marks_of
from inverse_design.problem.target import AlignedProfile, is_state
from surrogates.errors import DataError

_DRAWS = 200  # behind the stated bounds
_TAIL = 0.05  # on each side of them


@dataclass(frozen=True)
class StateLikely:
    """Takes in turns the candidate that is likeliest to be the target, and that which is expected nearest to it.

    If one candidate has the profile that is wanted, its predictive density there, over the sum of those of all,
    is the probability that it is the one. At most one is, so the likeliest make the likeliest batch, and neither
    draws nor a tolerance are needed: a candidate of known genes that should miss is behind one of unknown genes
    that may hit, in units of how well each axis is predicted (:class:`GeneEffects`). These variances are learnt
    from few experiments; where they are wrong, the nearest expectation is the better guess, so half of a round is
    its share.
    """

    def choose(self, pool: Pool, known: Known, count: int, *, seed: int) -> Choice:
        """Learn what genes do to the readouts of the target, and take the best by either measure.

        Args:
            pool: What is known from the start.
            known: What was revealed since.
            count: How many experiments.
            seed: Fixes the draws behind the bounds.

        Returns:
            The choice, with 90 % bounds on the utility of each.

        Raises:
            DataError: If fewer than three perturbations were measured, or the target is no state.
        """
        if not is_state(pool.target):
            raise DataError(f"target {pool.target.name!r} is a direction and cannot be reached; name a profile")
        target, free = pool.target.on(pool.before.readouts), known.open_rows(pool)
        fitted = learn_effects(pool, known, target.columns)
        marks = marks_of(pool, free)
        likely = fitted.log_density(marks, target.values)
        near = -((fitted.predict(marks) - target.values).square() @ target.weights)
        orders = [score.argsort(descending=True, stable=True)[:count] for score in (likely, near)]
        # Either list alone would fill the round, so without repeats there are enough.
        rows = free[list(dict.fromkeys(torch.stack(orders, 1).flatten().tolist()))[:count]]
        return Choice(rows, *_bounds(fitted, pool, target, rows, seed))


def _bounds(
    fitted: GeneEffects, pool: Pool, target: AlignedProfile, rows: Int[Tensor, "q"], seed: int
) -> tuple[Float[Tensor, "q"], Float[Tensor, "q"]]:
    """Bound utilities by draws of what would be measured."""
    drawn = fitted.sample(marks_of(pool, rows), _DRAWS, torch.Generator().manual_seed(seed))
    # Readouts that the target leaves open do not count.
    effects = torch.zeros(_DRAWS * len(rows), len(pool.before.readouts), dtype=torch.float64)
    effects[:, target.columns] = drawn.flatten(0, 1)
    worth = pool.worth(effects, rows.repeat(_DRAWS)).reshape(_DRAWS, len(rows))
    lower, upper = worth.quantile(torch.tensor([_TAIL, 1 - _TAIL], dtype=torch.float64), dim=0)
    return lower, upper
