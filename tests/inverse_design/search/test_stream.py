import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from strategies.spaces import plain_space, spaces

from inverse_design.errors import SpaceError
from inverse_design.problem.space import CombinationSpace
from inverse_design.search.topk import search_stream
from surrogates.data.vocabulary import PerturbationBatch
from surrogates.errors import DataError


def hashed(batch: PerturbationBatch) -> torch.Tensor:
    """A score without structure, with ties."""
    return ((batch.genes.double() + 2) * torch.tensor([7.0, 13.0, 29.0])[: batch.genes.shape[1]]).sum(1) % 11


def brute_force(space: CombinationSpace, k: int) -> list[tuple[int, float]]:
    batch = space.batch(0, space.size)
    valid = space.valid(batch).tolist()
    scored = [(number, value) for number, value in enumerate(hashed(batch).tolist()) if valid[number]]
    return sorted(scored, key=lambda pair: (-pair[1], pair[0]))[:k]


@given(spaces(), st.integers(1, 60), st.integers(1, 50))
def test_every_order_is_searched_exactly(space: CombinationSpace, k: int, block: int) -> None:
    found = search_stream(space, hashed, k, block=block)
    assert list(zip(found.top.index.tolist(), found.top.score.tolist(), strict=True)) == brute_force(space, k)
    assert found.certificate.scanned == space.size
    assert found.certificate.scanned - found.certificate.masked == space.count_valid


@given(spaces(), st.integers(1, 60), st.data())
def test_shards_merge_to_the_same_bits(space: CombinationSpace, k: int, data: st.DataObject) -> None:
    cut = data.draw(st.integers(0, space.size))
    low = search_stream(space, hashed, k, span=(0, cut))
    high = search_stream(space, hashed, k, span=(cut, space.size))
    whole = search_stream(space, hashed, k)
    for merged in (low.merge(high), high.merge(low)):
        assert torch.equal(merged.top.index, whole.top.index)
        assert torch.equal(merged.top.score, whole.top.score)
        assert merged.certificate.scanned == space.size


def test_one_order_of_several_is_searched_alone() -> None:
    space = plain_space(6, orders=(1, 2, 3))
    found = search_stream(space, hashed, 1000, orders=(1, 3))
    assert sorted(found.top.index.tolist()) == [*range(6), *range(21, 41)]


def test_progress_ends_with_the_whole() -> None:
    seen: list[tuple[int, int]] = []
    search_stream(plain_space(6), hashed, 2, block=4, progress=lambda done, total: seen.append((done, total)))
    assert seen == [(4, 15), (8, 15), (12, 15), (15, 15)]


def test_shards_outside_the_space_and_nan_are_refused() -> None:
    space = plain_space(6)
    with pytest.raises(SpaceError, match="not within"):
        search_stream(space, hashed, 2, span=(3, 16))
    with pytest.raises(DataError, match=r"the score of .* is nan"):
        search_stream(space, lambda batch: hashed(batch) * torch.nan, 2)
