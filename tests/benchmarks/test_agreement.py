import pytest
import torch
from strategies.screens import normal

from benchmarks.forward import agreement
from surrogates.data.perturbation import Perturbation
from surrogates.data.screen import Screen
from surrogates.errors import DataError


def additive_screen() -> Screen:
    """Seven genes whose effects add up, all singles and pairs."""
    genes, noise = normal(7, 20, seed=0), 0.05 * normal(28, 20, seed=1)
    singles = [Perturbation.parse(f"G{i}") for i in range(7)]
    pairs = [(i, j) for i in range(7) for j in range(i)]
    doubles = [Perturbation.parse(f"G{i}+G{j}") for i, j in pairs]
    effects = torch.cat([genes, torch.stack([genes[i] + genes[j] for i, j in pairs])]) + noise
    return Screen.from_labels(effects, [*singles, *doubles], [f"r{number}" for number in range(20)])


def test_lists_share_what_is_in_both() -> None:
    one, other = torch.tensor([[1, 2, 3, 4], [5, 6, 7, 8]]), torch.tensor([[4, 3, 9, 0], [8, 7, 6, 5]])
    assert agreement.shared(one, other).tolist() == [0.5, 1.0]


def test_models_of_an_additive_world_agree_on_the_pair_behind_each_state() -> None:
    screen = additive_screen()
    doubles = torch.nonzero(screen.batch.order == 2).flatten()
    targets, train = doubles[:4], torch.cat([torch.nonzero(screen.batch.order == 1).flatten(), doubles[4:]])
    found = [
        agreement.lists(screen, train, targets, name, seed=0, first=3) for name in ("additive", "scaled_additive")
    ]
    for each in found:
        assert each.rank.tolist() == [1] * 4
    assert found[0].first[:, 0].tolist() == found[1].first[:, 0].tolist()
    with pytest.raises(DataError, match="'no_change' expects the same of all pairs"):
        agreement.lists(screen, train, targets, "no_change", seed=0, first=3)
