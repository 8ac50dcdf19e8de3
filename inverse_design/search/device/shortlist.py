"""The best cells that a device has seen, kept there: nothing is asked of it before the last tile.

Runs of neighbouring cells share one maximum. Those with the largest are looked at cell by cell, and merged with
the best so far. The largest number that was left out on the way is kept, too: at the end it proves that nothing
was missed, or tells that many cells tie and that the processors have to settle them.
"""

from dataclasses import dataclass
from typing import NamedTuple

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from inverse_design.problem.space import CombinationSpace
from inverse_design.search.topk import refuse_endless

_SLACK = 1024  # cells that are kept beyond twice the answer


@dataclass(frozen=True)
class DeviceShortlist:
    """The cells with the largest quick scores."""

    quick: Float[Tensor, "b"]  # their scores; minus infinity where there are fewer
    number: Int64[Tensor, "b"]  # their numbers
    lost: Float[Tensor, ""]  # no cell that was left out has a larger score

    @classmethod
    def empty(cls, k: int, device: str, dtype: torch.dtype = torch.float32) -> "DeviceShortlist":
        """Start with no cell."""
        quick = torch.full((2 * k + _SLACK,), -torch.inf, device=device, dtype=dtype)
        return cls(quick, torch.zeros_like(quick, dtype=torch.int64), quick[0])

    def best_runs(self, maxima: Float[Tensor, "n"]) -> tuple[Int64[Tensor, "m"], "DeviceShortlist"]:
        """Choose the runs of cells to look at by the maxima of all; those of the others are left out."""
        largest, at = maxima.topk(min(len(self.quick), len(maxima)), sorted=False)
        if len(maxima) == len(largest):
            return at, self
        return at, DeviceShortlist(self.quick, self.number, torch.maximum(self.lost, largest.amin()))

    def merged(self, cells: Float[Tensor, "n c"], first: Int64[Tensor, "n"]) -> "DeviceShortlist":
        """Add runs of cells, of which the first one has a number that counts on."""
        size, length = len(self.quick), cells.shape[1]
        quick, at = torch.cat([cells.flatten(), self.quick]).topk(size, sorted=False)
        old, new = (at - cells.numel()).clamp(min=0), at.clamp(max=cells.numel() - 1)
        number = torch.where(at < cells.numel(), first[new // length] + new % length, self.number[old])
        return DeviceShortlist(quick, number, torch.maximum(self.lost, quick.amin()))

    def near(self, k: int, margin: float, space: CombinationSpace, order: int) -> "NearTop | None":
        """List what is at most a margin worse than the k-th best, the best first; nothing where it is no proof."""
        quick, best_first = self.quick.cpu().sort(descending=True)
        number, lost = self.number.cpu()[best_first], float(self.lost)
        kept = ~(quick == -torch.inf)
        quick, number = quick[kept], number[kept]
        base = len(space.entries)
        positions = torch.stack([number // base**place % base for place in reversed(range(order))], dim=1)
        batch = space.vocabulary.dosed(space.entries[positions])
        refuse_endless(quick, batch, space)
        valid = space.valid(batch)
        if int(valid.sum()) < k:
            return None
        cut = float(quick[valid][k - 1]) - margin
        return NearTop(positions[valid & (quick >= cut)], cut) if lost < cut else None


class NearTop(NamedTuple):
    """Candidates near the best ones, and the quick score that all have which are not worse than the margin."""

    positions: Int64[Tensor, "m k"]
    cut: float
