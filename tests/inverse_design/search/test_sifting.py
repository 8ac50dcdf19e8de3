import itertools

import torch
from hypothesis import given
from hypothesis import strategies as st

from inverse_design.problem.score import ProductScore
from inverse_design.search.pruning import BlockPruner, ProductPruner, Tile, reaching


@given(st.integers(0, 6), st.integers(0, 6), st.integers(0, 6), st.integers(0, 6))
def test_a_tile_counts_its_pairs(start: int, more: int, column: int, wide: int) -> None:
    tile = Tile(start, start + more, (start + column, start + column + wide))
    cells = itertools.product(range(tile.start, tile.stop), range(*tile.columns))
    assert tile.pairs == sum(i < j for i, j in cells)
    assert tile.shape == (more, wide)


@given(st.integers(1, 20), st.integers(1, 300), st.sampled_from([-torch.inf, 0.0, 1.0, 9.0]))
def test_what_is_not_below_the_cut_is_found(rows: int, columns: int, cut: float) -> None:
    scores = torch.randn(rows, columns, generator=torch.Generator().manual_seed(rows * columns))
    scores[0, -1] = torch.nan
    tile = Tile(2, 2 + rows, (5, 5 + columns))
    found = reaching(scores, tile, cut)
    wanted = [
        (i + 2, j + 5, scores[i, j].item())
        for i, j in itertools.product(range(rows), range(columns))
        if i + 2 < j + 5 and not scores[i, j] < cut
    ]
    first, second = found.positions.T.tolist()
    assert repr(list(zip(first, second, found.quick.tolist(), strict=True))) == repr(wanted)


def test_products_in_buffers_are_the_blocks() -> None:
    generator = torch.Generator().manual_seed(0)
    side, left, right = (
        torch.randn(*shape, generator=generator, dtype=torch.float64) for shape in ((30,), (30, 4), (30, 4))
    )
    score = ProductScore(side, left, right)
    product, block = ProductPruner(score), BlockPruner(score)
    for tile in (Tile(0, 8, (0, 30)), Tile(8, 30, (8, 17)), Tile(8, 30, (17, 30))):
        one, other = (pruner.sift(tile, 0.5) for pruner in (product, block))
        assert torch.equal(one.positions, other.positions)
        torch.testing.assert_close(one.quick, other.quick, atol=2 * score.error, rtol=0)
    assert product.error == block.error == score.error
