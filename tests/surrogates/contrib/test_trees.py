import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.ensemble import GradientBoostingRegressor, RandomForestRegressor
from strategies.screens import gene, normal, planted_screen

from surrogates.contrib.trees import (
    FittedTrees,
    GradientBoosting,
    RandomForest,
    export_boosting,
    export_forest,
    no_trees,
)
from surrogates.data.descriptors import Descriptors
from surrogates.data.novelty import with_targets
from surrogates.data.perturbation import Perturbation
from surrogates.data.screen import Screen
from surrogates.models.kernel import KernelRidge
from surrogates.testing import check_surrogate


@given(st.integers(0, 999), st.integers(1, 4), st.sampled_from([None, 1, 3]))
@settings(max_examples=15)
def test_forests_walk_as_scikit_learn_does(seed: int, outputs: int, depth: int | None) -> None:
    inputs = normal(30, 3, seed=seed).round(decimals=1)  # ties and values at the thresholds
    scores = normal(30, outputs, seed=seed + 1).numpy()
    forest = RandomForestRegressor(5, max_depth=depth, random_state=seed)
    forest.fit(inputs.numpy(), scores if outputs > 1 else scores[:, 0])
    asked = torch.cat([inputs, normal(20, 3, seed=seed + 2), (inputs[:-1] + inputs[1:]) / 2])
    expected = forest.predict(asked.numpy()).reshape(len(asked), outputs)
    np.testing.assert_allclose(export_forest(forest).predict(asked).numpy(), expected, rtol=1e-12, atol=1e-12)


@given(st.integers(0, 999), st.integers(1, 3))
@settings(max_examples=15)
def test_boosted_trees_walk_as_scikit_learn_does(seed: int, outputs: int) -> None:
    inputs = normal(30, 3, seed=seed).round(decimals=1)
    boosted = [
        GradientBoostingRegressor(n_estimators=4, max_depth=2, random_state=seed).fit(
            inputs.numpy(), column.numpy()
        )
        for column in normal(outputs, 30, seed=seed + 1)
    ]
    asked = torch.cat([inputs, normal(20, 3, seed=seed + 2)])
    expected = np.stack([each.predict(asked.numpy()) for each in boosted], axis=1)
    np.testing.assert_allclose(export_boosting(boosted).predict(asked).numpy(), expected, rtol=1e-12, atol=1e-12)


def test_constant_scores_make_trees_of_one_leaf() -> None:
    forest = RandomForestRegressor(3).fit(np.ones((4, 2)), np.full(4, 2.5))
    assert export_forest(forest).predict(torch.zeros(2, 2).double()).tolist() == [[2.5], [2.5]]


def test_no_trees_sum_to_nothing() -> None:
    assert no_trees().predict(torch.zeros(3, 0).double()).shape == (3, 0)


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
    assert not fitted.described.described.any()
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
        assert isinstance(surrogate.fit(screen, seed=0), FittedTrees)
    assert (np.random.get_state()[1] == before).all()  # noqa: NPY002
