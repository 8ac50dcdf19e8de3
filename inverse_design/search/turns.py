"""One list from two searches that disagree: by turns, each names its best candidate that is not listed yet.

For every ``k`` the first ``k`` of the list hold the best ``ceil(k / 2)`` of the first search and the best
``floor(k / 2)`` of the second (team-draft interleaving without a coin [Radlinski 2008]), so that what either
search proves of its own order holds in the list.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Int64
from torch import Tensor

from inverse_design.search.topk import SearchResult, TopK


@dataclass(frozen=True)
class Turns:
    """A list that several searches of one space filled by turns.

    Attributes:
        index: Numbers of the candidates in their space, the first choice first.
        found_by: Which search named each.
        searches: Every search with its own certificate, by name, in the order of their turns.
    """

    index: Int64[Tensor, "m"]
    found_by: tuple[str, ...]
    searches: dict[str, SearchResult]


def by_turns(searches: dict[str, SearchResult], count: int) -> Turns:
    """Fill a list by turns.

    Args:
        searches: Certified searches of the same space, by name; each kept at least ``count`` candidates, or all.
        count: How long the list is to be.

    Returns:
        The list; shorter only if all searches together name fewer candidates.
    """
    index, whose = drafted([found.top for found in searches.values()], count)
    names = tuple(searches)
    return Turns(index, tuple(names[number] for number in whose), dict(searches))


def drafted(rankings: list[TopK], count: int) -> tuple[Int64[Tensor, "m"], tuple[int, ...]]:
    """Let rankings name candidates by turns.

    Args:
        rankings: The best of the same candidates, by different scores.
        count: How many are to be named.

    Returns:
        Numbers of the candidates, and which ranking named each.
    """
    waiting = [iter(ranking.index.tolist()) for ranking in rankings]
    listed: dict[int, int] = {}
    while len(listed) < count:
        before = len(listed)
        for number, ranking in enumerate(waiting):
            if len(listed) < count:
                named = next((each for each in ranking if each not in listed), None)
                if named is not None:
                    listed[named] = number
        if len(listed) == before:
            break
    return torch.tensor(list(listed), dtype=torch.int64), tuple(listed.values())
