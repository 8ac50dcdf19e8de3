"""Contract checks that spaces, pair scores and searches of plug-in authors are held to.

Each check raises :class:`AssertionError` with what was expected and what was found.
"""

import itertools
from collections.abc import Callable

import torch

from inverse_design.problem.constraints import Constraints
from inverse_design.problem.score import PairScore, ProductScore
from inverse_design.problem.space import CombinationSpace
from inverse_design.search.topk import SearchResult
from surrogates.data.perturbation import Intervention
from surrogates.data.vocabulary import EMPTY, Vocabulary

Searcher = Callable[[ProductScore, int, CombinationSpace], SearchResult]


def check_space(space: CombinationSpace) -> None:
    """Spell a small space out and compare it with :func:`itertools.combinations`.

    Args:
        space: A space of at most some thousand combinations.

    Raises:
        AssertionError: If numbers and combinations do not correspond, or the count of valid ones is wrong.
    """
    batch = space.batch(0, space.size)
    found = [tuple(int(gene) for gene in row if int(gene) != EMPTY) for row in batch.genes]
    entries = [int(one) for one in space.entries]
    wanted = [each for order in space.orders for each in itertools.combinations(entries, order)]
    _expect("the combinations", found, wanted)
    _expect("the numbers", space.indices(batch).tolist(), list(range(space.size)))
    _expect("the number of valid combinations", space.count_valid, int(space.valid(batch).sum()))
    distinct = [number for number, genes in enumerate(found) if _has_distinct_targets(space.vocabulary, genes)]
    for number in distinct[:: max(1, len(distinct) // 20)]:
        perturbation = space.vocabulary.perturbation(found[number])
        _expect(f"the number of {perturbation}", space.index(perturbation), number)


def check_pair_score(score: PairScore) -> None:
    """Compare the quick scores of all pairs with the exact ones.

    Args:
        score: Of at most some hundred entries.

    Raises:
        AssertionError: If a block has the wrong shape or holds NaN, the bound on its error does not hold, or an
            exact score depends on what else is asked for.
    """
    first, second = torch.triu_indices(score.size, score.size, offset=1).unbind(0)
    exact = score.exact(first, second)
    whole = score.block(0, score.size)
    _expect("the shape of the whole block", tuple(whole.shape), (score.size, score.size))
    _expect("the number of NaN", int(whole.isnan().sum()), 0)
    for start, stop in itertools.pairwise((0, score.size // 3, score.size)):
        block = score.block(start, stop).double()
        _expect("the shape of a block", tuple(block.shape), (stop - start, score.size - start))
        middle = (start + score.size) // 2
        halves = [score.block(start, stop, each) for each in ((start, middle), (middle, score.size))]
        _expect("the shape of a tile", tuple(halves[0].shape), (stop - start, middle - start))
        _expect("the shape of both tiles", tuple(torch.cat(halves, 1).shape), tuple(block.shape))
        apart = float((torch.cat(halves, 1).double() - block).triu(1).abs().max()) if block.numel() else 0.0
        if not apart <= 2 * score.error:
            raise AssertionError(f"tiles and blocks differ by {apart}, more than twice the bound {score.error}")
        inside = (first >= start) & (first < stop)
        quick = block[first[inside] - start, second[inside] - start]
        largest = float((quick - exact[inside]).abs().max()) if bool(inside.any()) else 0.0
        if not largest <= score.error:
            raise AssertionError(f"quick scores are wrong by {largest}, more than the bound {score.error}")
    for pair in range(0, len(first), max(1, len(first) // 20)):
        alone = score.exact(first[pair : pair + 1], second[pair : pair + 1])
        _expect("an exact score asked for alone", alone.tolist(), exact[pair : pair + 1].tolist())


def check_searcher(search: Searcher, *, seed: int = 0) -> None:
    """Compare a search over pairs with brute force, with ties, constraints and more asked for than there is.

    Args:
        search: Called with a score, how many pairs, and the space.
        seed: Fixes the cases.

    Raises:
        AssertionError: If an answer is not the true one, bit for bit.
    """
    generator = torch.Generator().manual_seed(seed)
    doses = {"G03": 2.0, "G07": 0.5}
    entries = [Intervention(f"G{one:02d}") for one in range(40)]
    vocabulary = Vocabulary((*entries, *(Intervention(name, dose=dose) for name, dose in doses.items())))
    measured = vocabulary.batch([vocabulary.parse(f"G{one:02d}+G{one + 1:02d}") for one in range(0, 38, 3)])
    for rules, k in itertools.product((Constraints(), Constraints(required=("G07",))), (1, 20, 2000)):
        space = CombinationSpace.of(vocabulary, orders=(1, 2), constraints=rules, measured=measured)
        side, left, right = (
            torch.randint(-2, 3, shape, generator=generator).double() for shape in ((42,), (42, 3), (42, 3))
        )
        score = ProductScore(side, left, right)
        top = search(score, k, space).top
        wanted = _brute_force(score, k, space)
        _expect(f"the {k} best pairs", list(zip(top.index.tolist(), top.score.tolist(), strict=True)), wanted)


def _brute_force(score: ProductScore, k: int, space: CombinationSpace) -> list[tuple[int, float]]:
    start, stop = space.span(2)
    valid = space.valid(space.batch(start, stop)).tolist()
    scored = []
    for number, (i, j) in enumerate(itertools.combinations(range(score.size), 2)):
        product = torch.dot(score.left[i].double(), score.right[j].double())
        if valid[number]:
            scored.append((start + number, float(score.side[i] + score.side[j] + product)))
    return sorted(scored, key=lambda pair: (-pair[1], pair[0]))[:k]


def _has_distinct_targets(vocabulary: Vocabulary, genes: tuple[int, ...]) -> bool:
    return len({vocabulary.targets[gene] for gene in genes}) == len(genes)


def _expect(what: str, found: object, wanted: object) -> None:
    if found != wanted:
        raise AssertionError(f"{what}: found {found}, wanted {wanted}")
