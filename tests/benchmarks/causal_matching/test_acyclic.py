"""Networks without cycles, and the world that stands on one."""

from typing import get_args

import pytest
import torch

from benchmarks.causal_matching.graphs import Family, acyclic_edges, causal_order, edge_variance
from surrogates.errors import DataError

FAMILIES = get_args(Family)


@pytest.mark.parametrize("family", FAMILIES)
def test_causes_come_before_effects(family: Family) -> None:
    edges = acyclic_edges(family, 12, seed=3)
    order = causal_order(edges != 0)
    assert sorted(order) == list(range(12))
    assert not edges[list(order)][:, list(order)].tril().any()
    assert torch.equal(edges, acyclic_edges(family, 12, seed=3))
    assert not torch.equal(edges, acyclic_edges(family, 12, seed=4))


def test_each_family_has_its_edges() -> None:
    path, hubs, dense = (acyclic_edges(family, 40, seed=0) != 0 for family in FAMILIES)
    assert int(path.sum()) == 39
    assert int(path.sum(0).max()) == int(path.sum(1).max()) == 1
    assert int(hubs.sum()) == 2 * 38
    assert int(hubs.sum(1).max()) > 8
    assert 0.4 < float(dense.sum()) / (40 * 39 / 2) < 0.6


@pytest.mark.parametrize("family", FAMILIES)
def test_the_stated_variance_is_that_of_the_weights(family: Family) -> None:
    many = [acyclic_edges(family, 30, seed=seed) for seed in range(30)]
    scaled = [edges.square() / edge_variance(edges) for edges in many]
    seen = torch.cat([each[edges != 0] for each, edges in zip(scaled, many, strict=True)])
    assert float(seen.mean()) == pytest.approx(1, abs=0.1)


def test_what_is_no_network_is_refused() -> None:
    with pytest.raises(DataError, match="3 or more"):
        acyclic_edges("path", 2, seed=0)
    ring = torch.eye(4, dtype=torch.bool).roll(1, 1)
    with pytest.raises(DataError, match="cycle"):
        causal_order(ring)
