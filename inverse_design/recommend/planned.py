"""The planner of campaigns as a policy, round after round."""

from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from itertools import combinations

import torch

from inverse_design.campaign.gain_planner import GainPlanner
from inverse_design.campaign.planner import PERTURBATION
from inverse_design.campaign.settings import CampaignSettings
from inverse_design.problem.target import is_state
from inverse_design.recommend.environment import Choice, Known, Pool
from surrogates.errors import DataError


@dataclass(frozen=True)
class Planned:
    """Asks the planner of campaigns as ``campaign ask`` does, but for three things.

    Nothing is drawn at random; standard errors are not known; and one surrogate is fitted, as the choice among
    several (``automatic``) takes ten times as long.
    """

    surrogate: str = "interaction"  # forward model, by its name
    gain: str = "expected_improvement"  # by which gain experiments are chosen, by its name
    level: float = 0.9  # nominal probability of the stated bounds

    def choose(self, pool: Pool, known: Known, count: int, *, seed: int) -> Choice:
        """Plan a round.

        Raises:
            DataError: If a candidate is no pair of genes that were measured alone.
        """
        numbers = {tuple(genes[:2]): at for at, genes in enumerate(pool.candidates.genes.tolist())}
        alone = torch.nonzero(pool.before.single_rows >= 0).flatten().tolist()
        every = set(combinations(alone, 2))
        if bool((pool.candidates.order != 2).any()) or not numbers.keys() <= every:
            raise DataError(_unplanned(pool, every))
        labels = [each.label for each in pool.before.vocabulary.entries]
        settings = CampaignSettings(
            "replay",
            pool.target.name,
            batch_size=count,
            random_share=0.0,
            incompatible=tuple((labels[i], labels[j]) for i, j in sorted(every - numbers.keys())),
            level=self.level,
            surrogate=self.surrogate,
            gain=self.gain,
        )
        plan = GainPlanner(settings, pool.target).plan(known.screen(pool), count, pending=(), seed=seed).table
        parsed = pool.before.vocabulary.batch([pool.before.vocabulary.parse(one) for one in plan[PERTURBATION]])
        rows = torch.tensor([numbers[tuple(genes[:2])] for genes in parsed.genes.tolist()])
        lower, upper = (torch.tensor(plan[name].to_numpy(dtype=float)) for name in ("lower", "upper"))
        return Choice(rows, -upper, -lower) if is_state(pool.target) else Choice(rows, lower, upper)


def _unplanned(pool: Pool, every: AbstractSet[tuple[int, int]]) -> str:
    odd = next(genes for genes in pool.candidates.genes if tuple(genes[genes >= 0].tolist()) not in every)
    label = pool.before.vocabulary.perturbation(odd).label
    return (
        f"candidate {label!r} is no pair of genes that were both measured alone, and the planner of campaigns"
        " proposes no others; leave 'campaign' out of the policies"
    )
