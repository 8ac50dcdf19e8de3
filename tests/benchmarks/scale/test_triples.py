import math
from pathlib import Path

import pytest
import torch
from strategies.screens import planted_screen

from benchmarks.scale import triples
from benchmarks.scale.triples import VARIANTS, effect_norms, triple_rows
from surrogates.errors import DataError, UnknownNameError


def test_norms_are_those_of_the_single_effects() -> None:
    screen = planted_screen(alone=range(5), together=[(0, 1), (2, 3, 4)])
    norms = effect_norms(screen)
    assert norms.tolist() == pytest.approx([float(screen.effects[row].norm()) for row in range(5)])
    with pytest.raises(DataError, match="none of the 3 conditions was measured alone"):
        effect_norms(planted_screen(alone=[], together=[(0, 1), (1, 2), (0, 2)]))


def test_every_variant_is_searched_and_measured(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    norms = effect_norms(planted_screen(alone=range(12), together=[(0, 1)]))
    monkeypatch.setattr(triples, "STATUS", tmp_path / "none")
    rows = triple_rows(norms=norms, genes=80, dimensions=6, k=5, seed=1)
    assert tuple(dict.fromkeys(row.variant for row in rows)) == VARIANTS
    for variant in VARIANTS:
        by_metric = {row.metric: row for row in rows if row.variant == variant}
        assert set(by_metric) == {"seconds", "pruned_share", "gap", "exact"}
        assert by_metric["exact"].value == 1.0
        assert by_metric["gap"].value == 0.0
        assert 0 < by_metric["pruned_share"].value < 1
        assert 0 < by_metric["seconds"].value < 60
        for row in by_metric.values():
            assert (row.benchmark, row.dataset, row.n) == ("triples", "80 random rows", 1)
            assert row.low == row.value == row.high


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="memory is measured on Linux only")
def test_memory_is_measured_in_a_fresh_process() -> None:
    rows = triple_rows(norms=torch.ones(3), genes=1500, dimensions=4, k=5, variants=("realistic",))
    assert [row.metric for row in rows] == ["seconds", "pruned_share", "gap", "exact", "peak_mb"]
    assert 1500**2 * 4 / 1e6 <= rows[-1].value < 400


def test_out_of_time_a_gap_is_left(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(triples, "STATUS", tmp_path / "none")
    rows = triple_rows(norms=torch.tensor([1.0, 2.0, 5.0]), genes=60, dimensions=12, k=20, seconds=0.0)
    hardest = {row.metric: row.value for row in rows if row.variant == "cancelling"}
    assert hardest["exact"] == 0.0
    assert 0 < hardest["gap"] < math.inf


def test_worlds_are_what_they_say() -> None:
    norms = torch.tensor([2.0, 3.0, 9.0]).double()
    for variant in VARIANTS:
        rows, target = triples._Case(variant, tuple(norms.tolist()), 100, 8, 3).world
        again, _ = triples._Case(variant, tuple(norms.tolist()), 100, 8, 3).world
        assert torch.equal(rows, again)
        sizes = rows.norm(dim=1)
        if variant == "realistic":
            assert int((sizes > 1.999).sum()) == 20
        elif variant == "as_measured":
            assert bool((sizes[:, None] - norms).abs().min(1).values.max() < 1e-9)
        else:
            assert sizes.tolist() == pytest.approx([3.0] * 100)
        wanted = {"adversarial": 3 * 3**0.5, "cancelling": 0.0}
        if variant in wanted:
            assert float(target.norm()) == pytest.approx(wanted[variant])


def test_what_cannot_be_made_is_refused() -> None:
    for norms in (torch.empty(0), torch.tensor([1.0, torch.nan]), torch.tensor([-1.0])):
        with pytest.raises(DataError, match="none of them negative"):
            triple_rows(norms=norms)
    with pytest.raises(DataError, match="2 genes have no triples"):
        triple_rows(norms=torch.ones(3), genes=2)
    with pytest.raises(UnknownNameError, match="real"):
        triple_rows(norms=torch.ones(3), variants=("real",))
