"""The short list that a batch is chosen from: good candidates, and what is pending."""

from dataclasses import dataclass

import torch
from jaxtyping import Int
from torch import Tensor

from inverse_design.acquisition.batch import Pool
from inverse_design.campaign.settings import CampaignSettings
from inverse_design.problem.objective import Objective
from inverse_design.problem.space import CombinationSpace
from inverse_design.search.engine import Engine
from inverse_design.search.exhaustive import search
from inverse_design.search.remarks import search_notes
from surrogates.data.vocabulary import PerturbationBatch
from surrogates.models.calibrated import FittedCalibrated


@dataclass(frozen=True)
class ShortList:
    """What a batch is chosen from.

    Attributes:
        batch: The candidates, the best first, and behind them what is pending.
        choice: The same for the chooser.
        notes: What is special about the search behind it.
    """

    batch: PerturbationBatch
    choice: Pool
    notes: tuple[str, ...]


@dataclass(frozen=True)
class Lister:
    """Makes short lists of one space.

    Attributes:
        fitted: The surrogate.
        space: What may be proposed.
        pending: What is on its way.
        settings: Of the campaign, for the costs.
    """

    fitted: FittedCalibrated
    space: CombinationSpace
    pending: PerturbationBatch
    settings: CampaignSettings

    def best(self, objective: Objective, count: int) -> ShortList:
        """Find the best candidates that are not pending.

        Args:
            objective: What they are worth.
            count: How many, at most.

        Returns:
            The short list.
        """
        found = search(objective, self.fitted, self.space, count + len(self.pending))
        best = self.space.take(found.top.index)
        waiting = {tuple(row[row >= 0].tolist()) for row in self.pending.genes}
        free = [at for at, row in enumerate(best.genes) if tuple(row[row >= 0].tolist()) not in waiting]
        best = best.rows(torch.tensor(free[:count], dtype=torch.int64))
        genes = _stacked(best.genes, self.pending.genes)
        choice = Pool(genes, self._cost(genes), torch.arange(len(genes)) >= len(best))
        notes = search_notes(Engine(), found.certificate, self.fitted, self.space)
        return ShortList(self.fitted.vocabulary.dosed(genes), choice, notes)

    def _cost(self, genes: Int[Tensor, "b k"]) -> Tensor:
        entries, costs = self.fitted.vocabulary.entries, self.settings.costs
        own = [sum(costs.get(entries[i].target, 0.0) for i in row if i >= 0) for row in genes.tolist()]
        return torch.tensor(own, dtype=torch.float64) + self.settings.cost_per_well * self.settings.replicates


def _stacked(first: Int[Tensor, "b k"], second: Int[Tensor, "c l"]) -> Int[Tensor, "n j"]:
    """One below the other, with as many slots as the wider of the two."""
    width = max(first.shape[1], second.shape[1] if len(second) else 0)
    wide = [
        torch.nn.functional.pad(each, (0, width - each.shape[1]), value=-1)
        for each in (first, second)
        if len(each)
    ]
    return torch.cat(wide) if wide else first
