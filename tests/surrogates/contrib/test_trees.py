import numpy as np
import pytest
import torch
from strategies.screens import gene, normal, planted_screen

from surrogates.contrib.descriptor_learners import GradientBoosting, RandomForest
from surrogates.data.descriptors import Descriptors
from surrogates.data.novelty import with_targets
from surrogates.data.perturbation import Perturbation
from surrogates.data.screen import Screen
from surrogates.models.kernel import KernelRidge
from surrogates.testing import check_surrogate


def _steps() -> tuple[Screen, Descriptors]:
    """Effects that depend on the sign of one descriptor, 30 genes measured and 10 not."""
    vectors = normal(40, 2, seed=0)
    effects = torch.sign(vectors[:, :1]) * normal(1, 15, seed=1) + 0.1 * normal(40, 15, seed=2)
    labels = [gene(number) for number in range(40)]
    screen = Screen.from_labels(
        effects[:30], [Perturbation.parse(label) for label in labels[:30]], [f"r{column}" for column in range(15)]
    )
    return with_targets(screen, labels, mode="activation"), Descriptors("known", "linear", tuple(labels), vectors)


@pytest.mark.parametrize("kind", [RandomForest, GradientBoosting])
def test_steps_are_learned(kind: type[RandomForest] | type[GradientBoosting]) -> None:
    screen, known = _steps()
    surrogate = kind(descriptors=(known,), trees=40, components=2)
    batch = screen.vocabulary.dosed(torch.arange(30, 40)[:, None])
    truth = torch.sign(known.vectors[30:, :1]) * normal(1, 15, seed=1)
    fitted = surrogate.fit(screen, seed=0)
    error = (fitted.predict(batch).mean - truth).square().mean()
    prior = (KernelRidge(()).fit(screen, seed=0).predict(batch).mean - truth).square().mean()
    assert error < 0.3 * prior
    assert fitted.trust > 0.7
    assert torch.equal(fitted.predict(screen.batch).mean, screen.effects)


def test_an_entry_without_a_descriptor_has_the_prior() -> None:
    screen, known = _steps()
    partial = Descriptors("partial", "linear", known.symbols[:35], known.vectors[:35])
    fitted = RandomForest((), trees=20).fit(screen, seed=0)
    assert not fitted.described.any()
    mean = fitted.predict(screen.vocabulary.dosed(torch.tensor([[34]]))).mean[0]
    torch.testing.assert_close(mean, screen.effects.mean(0))
    fitted = RandomForest((partial,), trees=20).fit(screen, seed=0)
    posterior = fitted.predict(screen.vocabulary.dosed(torch.tensor([[34], [35]])))
    torch.testing.assert_close(posterior.mean[1], screen.effects.mean(0))
    assert posterior.scale[0] < posterior.scale[1]


@pytest.mark.parametrize("kind", [RandomForest, GradientBoosting])
def test_contract(kind: type[RandomForest] | type[GradientBoosting]) -> None:
    screen = planted_screen(alone=range(7), together=[(0, 1), (2, 3), (1, 7), (0, 2, 4)])
    known = Descriptors("known", "rbf", screen.vocabulary.targets[1:], normal(7, 2, seed=4))
    check_surrogate(kind(descriptors=(known,), trees=5, components=2), screen)


def test_random_state_of_numpy_is_not_touched() -> None:
    screen, known = _steps()
    before = np.random.get_state()[1].copy()  # noqa: NPY002 - what must stay as it is
    for surrogate in (RandomForest((known,), trees=5), GradientBoosting((known,), trees=5, components=2)):
        surrogate.fit(screen, seed=0)
    assert (np.random.get_state()[1] == before).all()  # noqa: NPY002
