import pytest
import torch

from benchmarks.causal_matching.graphs import scale_free_edges
from surrogates.errors import DataError


def test_size_radius_and_no_loop_on_a_gene() -> None:
    edges = scale_free_edges(200, seed=0)
    assert int((edges != 0).sum()) == 2 * 198
    assert float(torch.linalg.eigvals(edges).abs().max()) == pytest.approx(0.75)
    assert not edges.diagonal().any()


def test_it_has_hubs_and_cycles() -> None:
    edges = scale_free_edges(200, seed=0)
    degree = (edges != 0).sum(0) + (edges != 0).sum(1)
    assert int(degree.max()) > 5 * float(degree.to(torch.float64).mean())
    assert float(torch.linalg.eigvals((edges != 0).to(torch.float64)).abs().max()) > 0.9  # 0 without cycles


def test_the_seed_fixes_it() -> None:
    torch.testing.assert_close(scale_free_edges(30, seed=1), scale_free_edges(30, seed=1))
    assert not torch.equal(scale_free_edges(30, seed=1), scale_free_edges(30, seed=2))


@pytest.mark.parametrize(
    "wrong", [{"genes": 2}, {"forward": 1.5}, {"spectral_radius": 1.0}, {"parents": 0}, {"forward": 1.0}]
)
def test_a_network_that_cannot_be_is_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(DataError, match="network"):
        scale_free_edges(**{"genes": 20, "seed": 0} | wrong)
