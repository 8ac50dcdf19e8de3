import pytest
import torch
from hypothesis import given, settings
from strategies.screens import gene, normal, plans, planted_screen

from surrogates.contrib.descriptor_learners import Bilinear
from surrogates.data.descriptors import Descriptors
from surrogates.data.novelty import with_targets
from surrogates.data.perturbation import Perturbation
from surrogates.data.screen import Screen
from surrogates.models.entries import MeasuredEntries, own_readout_scores, prior_rows
from surrogates.testing import check_surrogate


def _responsive() -> Screen:
    """Targets are readouts; what a target does follows from how its own readout responds: symmetric effects."""
    names = [gene(number) for number in range(30)]
    loading = normal(30, 2, seed=0)
    effects = loading @ loading.T + 0.05 * normal(30, 30, seed=1)
    screen = Screen.from_labels(effects[:24], [Perturbation.parse(name) for name in names[:24]], names)
    return with_targets(screen, names, mode="activation")


def test_targets_are_predicted_by_how_their_readout_responds() -> None:
    screen = _responsive()
    loading = normal(30, 2, seed=0)
    truth = loading[24:] @ loading.T
    fitted = Bilinear(rank=3).fit(screen, seed=0)
    mean = fitted.predict(screen.vocabulary.dosed(torch.arange(24, 30)[:, None])).mean
    assert (mean - truth).square().mean() < 0.1 * truth.square().mean()
    assert fitted.trust > 0.9


def test_the_formula() -> None:
    screen = _responsive()
    entries = MeasuredEntries.of(screen)
    prior, departures = entries.departures(entries.train)
    _, singular, right = torch.linalg.svd(departures, full_matrices=False)
    g = (singular[:3, None] * right[:3]).T
    p, unit = g[:24], torch.eye(3, dtype=torch.float64)  # the readouts are the targets
    inner = torch.linalg.inv(g.T @ g + 0.1 * unit) @ g.T @ departures.T @ p
    weights = inner @ torch.linalg.inv(p.T @ p + 0.1 * unit)
    expected = (g @ weights @ g[24:].T).T
    fitted = Bilinear(rank=3).fit(screen, seed=0)
    mean = fitted.predict(screen.vocabulary.dosed(torch.arange(24, 30)[:, None])).mean
    torch.testing.assert_close(mean, prior[24:] + fitted.trust * expected)


def test_descriptors_take_the_place_of_own_readouts() -> None:
    vectors = normal(30, 2, seed=0)
    labels = [gene(number) for number in range(30)]
    effects = vectors @ normal(2, 12, seed=1) + 0.05 * normal(30, 12, seed=2)
    measured = [Perturbation.parse(label) for label in labels[:24]]
    screen = Screen.from_labels(effects[:24], measured, [f"r{column}" for column in range(12)])
    screen = with_targets(screen, labels, mode="activation")
    batch = screen.vocabulary.dosed(torch.arange(24, 30)[:, None])
    known = Descriptors("known", "linear", tuple(labels), vectors)
    blind = Bilinear().fit(screen, seed=0)
    assert not blind.described.any()
    torch.testing.assert_close(blind.predict(batch).mean, screen.effects.mean(0).expand(6, -1))
    fitted = Bilinear((known,)).fit(screen, seed=0)
    assert (fitted.predict(batch).mean - effects[24:]).square().mean() < 0.05 * effects[24:].square().mean()


@given(plans())
@settings(max_examples=5)
def test_contract(plan: dict[str, object]) -> None:
    screen = planted_screen(**plan)  # type: ignore[arg-type]
    known = Descriptors("known", "rbf", screen.vocabulary.targets, normal(len(screen.vocabulary), 2, seed=4))
    check_surrogate(Bilinear(), screen)
    check_surrogate(Bilinear((known,), rank=3), screen)


def test_prior_by_hand() -> None:
    effects = torch.tensor([[5.0, 1, 0], [1, 7, 0], [0, 1, 0]]).double()
    rows = prior_rows(effects, torch.tensor([0, 1, 2]), torch.tensor([0, 1, -1, 2]))
    # 5 - (1 + 0) / 2 and 7 - (1 + 1) / 2, shrunk by 2 / 3
    gain = (4.5 + 6) / 3
    assert rows[2].tolist() == pytest.approx([(6 - gain) / 3, (9 - gain) / 3, 0])
    assert float(rows[3, 2]) == pytest.approx(gain)


def test_scores_of_own_readouts() -> None:
    departures = normal(6, 4, seed=0)
    readouts, entries = own_readout_scores(departures, torch.tensor([2, -1]), rank=4)
    torch.testing.assert_close(readouts @ readouts.T, departures.T @ departures)
    assert torch.equal(entries, torch.stack([readouts[2], torch.zeros(4).double()]))
