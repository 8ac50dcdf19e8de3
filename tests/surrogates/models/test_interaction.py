from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import combinations
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from strategies.screens import gene, label, normal, pairs_of, plans, planted_screen
from torch import Tensor

from surrogates.data.perturbation import Perturbation
from surrogates.data.screen import Screen
from surrogates.data.vocabulary import PerturbationBatch
from surrogates.models import directions
from surrogates.models.base import Fitted, PairFactored
from surrogates.models.baselines import ScaledAdditive
from surrogates.models.directions import EffectProducts, effect_components
from surrogates.models.interaction import Features, FittedInteraction, Interaction
from surrogates.models.marked import MarkedDesign
from surrogates.uncertainty import marginal_likelihood
from surrogates.uncertainty.marginal_likelihood import maximise_evidence
from surrogates.uncertainty.posterior import GaussianPosterior

SMALL = Interaction(components=4, leading=2)


def batch_of(fitted: FittedInteraction, many: Sequence[tuple[int, ...]]) -> PerturbationBatch:
    """Number some perturbations, given as tuples of gene numbers."""
    return fitted.vocabulary.batch([Perturbation.parse(label(parts)) for parts in many])


def every_pair(v: int) -> Tensor:
    return torch.combinations(torch.arange(v), 2)


def features_of(v: int, g: int, leading: int, seed: int) -> tuple[Features, Tensor, Tensor, Tensor]:
    singles = normal(v, g, seed=seed)
    components = torch.linalg.qr(normal(g, g, seed=seed + 1)).Q[:4]
    combined = torch.arange(v) % 3 != 0
    return Features.of(singles, components, leading=leading, combined=combined), singles, components, combined


def test_coordinates_are_projections_of_single_effects() -> None:
    features, singles, components, combined = features_of(6, 5, 2, 0)
    projected = singles @ components.T
    assert features.owned.tolist() == [-1, 0, 1, -1, 2, 3]
    assert torch.equal(features.owned >= 0, combined)
    assert features.sizes == (4, 4, 2, 2)
    torch.testing.assert_close(features.similarity.norm(dim=1), torch.ones(6, dtype=torch.float64))
    for row in range(6):
        direction = torch.cosine_similarity(features.similarity[row], projected[row], dim=0)
        assert float(direction) == pytest.approx(1)
    ratio = features.scores / projected[:, :2]
    torch.testing.assert_close(ratio, ratio[0, 0].expand(6, 2))
    assert float(features.scores.square().sum(1).mean()) == pytest.approx(1)


@given(st.integers(2, 7), st.integers(0, 3), st.integers(0, 99))
@settings(deadline=None, max_examples=25)
def test_features_of_pairs_are_main_effects_and_products(v: int, leading: int, seed: int) -> None:
    features, *_ = features_of(v, 5, leading, seed)
    pairs = every_pair(v)
    first, second = pairs.T
    made = features.of_batch(PerturbationBatch(pairs, torch.ones(pairs.shape))).dense
    main = features.main(torch.eye(sum(features.sizes), dtype=torch.float64))
    products = features.scores[first] * features.scores[second]
    torch.testing.assert_close(made, main[first] + main[second] + products @ features.basis())


@given(st.sampled_from([1, 2, 3, 4]), st.integers(1, 3), st.integers(0, 99))
@settings(deadline=None, max_examples=25)
def test_features_of_any_order_are_sums_over_parts_and_pairs(order: int, leading: int, seed: int) -> None:
    features, *_ = features_of(5, 5, leading, seed)
    rows = list(combinations(range(5), order))
    padded = torch.tensor([[*row, *[-1] * (5 - order)] for row in rows])
    made = features.of_batch(PerturbationBatch(padded, (padded >= 0).to(torch.float64))).dense
    zero = torch.zeros(leading, dtype=torch.float64)
    expected = [
        torch.cat(
            [
                torch.eye(3, dtype=torch.float64)[features.owned[[i for i in row if i % 3]]].sum(0),
                features.similarity[list(row)].sum(0),
                sum((features.scores[i] * features.scores[j] for i, j in combinations(row, 2)), zero),
                sum(((features.scores[i] - features.scores[j]).square() for i, j in combinations(row, 2)), zero),
            ]
        )
        for row in rows
    ]
    torch.testing.assert_close(made, torch.stack(expected))


def four_kernels(
    screen: Screen,
    left: Sequence[tuple[int, ...]],
    right: Sequence[tuple[int, ...]],
    *,
    components: int,
    leading: int,
) -> np.ndarray:
    """The covariances of the four terms, each straight from its description; sets of gene numbers."""
    singles = ScaledAdditive().fit(screen, seed=0).singles
    directions = torch.linalg.svd(screen.effects, full_matrices=False).Vh[:components]
    coordinates = (singles @ directions.T).numpy()
    unit = coordinates / np.linalg.norm(coordinates, axis=1, keepdims=True)
    lead = coordinates[:, :leading]
    lead = lead / np.sqrt((lead**2).sum(1).mean())

    def shared() -> list[list[int]]:
        return [[len(set(a) & set(b)) for b in right] for a in left]

    def agreement(describe: Callable[[tuple[int, ...]], np.ndarray]) -> np.ndarray:
        return np.array([describe(a) for a in left]) @ np.array([describe(b) for b in right]).T

    def alike(parts: tuple[int, ...]) -> np.ndarray:
        return sum(unit[i] for i in parts)

    def products(parts: tuple[int, ...]) -> np.ndarray:
        return sum(lead[i] * lead[j] for i, j in combinations(parts, 2))

    def differences(parts: tuple[int, ...]) -> np.ndarray:
        return sum((lead[i] - lead[j]) ** 2 for i, j in combinations(parts, 2))

    return np.array([shared(), agreement(alike), agreement(products), agreement(differences)])


@given(plans(fewest_doubles=9))
@settings(deadline=None, max_examples=6)
def test_predictions_are_those_of_the_dense_gaussian_process(plan: dict[str, Any]) -> None:
    screen = planted_screen(**plan)
    fitted = SMALL.fit(screen, seed=0)
    additive = ScaledAdditive().fit(screen, seed=0)
    rows = [row for row in range(len(screen)) if int(screen.batch.order[row]) > 1]
    seen = [tuple(int(i) for i in screen.batch.genes[row] if i >= 0) for row in rows]
    v = len(screen.vocabulary)
    new = [*combinations(range(v), 2), *list(combinations(range(v), 3))[:8]]
    residual = screen.effects[rows] - additive.predict(screen.batch.rows(torch.tensor(rows))).mean

    design = fitted.features.of_batch(screen.batch.rows(torch.tensor(rows))).dense
    directions = torch.linalg.svd(screen.effects, full_matrices=False).Vh[:4]
    weights = maximise_evidence(design, fitted.features.sizes, residual @ directions.T).numpy()

    shape = {"components": 4, "leading": 2}
    train = four_kernels(screen, seen, seen, **shape)
    unit = np.array([weight / np.diag(term).mean() for weight, term in zip(weights, train, strict=True)])
    kernel = np.einsum("t,tij->ij", unit, train) + np.eye(len(seen))
    across = np.einsum("t,tij->ij", unit, four_kernels(screen, new, seen, **shape))
    prior = np.einsum("t,tij->ij", unit, four_kernels(screen, new, new, **shape)).diagonal()
    mean = across @ np.linalg.solve(kernel, residual.numpy())
    scale = 1 + prior - np.einsum("ij,ji->i", across, np.linalg.solve(kernel, across.T))

    batch = batch_of(fitted, new)
    found = fitted.predict(batch)
    torch.testing.assert_close(
        found.mean - additive.predict(batch).mean, torch.from_numpy(mean), rtol=1e-5, atol=1e-6
    )
    torch.testing.assert_close(found.scale, torch.from_numpy(scale), rtol=1e-5, atol=1e-6)


@given(plans())
@settings(deadline=None, max_examples=8)
def test_pair_factors_and_scale_are_predictions(plan: dict[str, Any]) -> None:
    fitted = SMALL.fit(planted_screen(**plan), seed=0)
    factors, scale = fitted.pair_factors(), fitted.pair_scale()
    pairs = every_pair(len(fitted.vocabulary))
    predicted = fitted.predict(fitted.vocabulary.dosed(pairs))
    first, second = pairs.T
    mean = factors.main[first] + factors.main[second]
    mean = mean + (factors.scores[first] * factors.scores[second]) @ factors.basis
    both = fitted.measured_alone[pairs].all(1)
    torch.testing.assert_close(mean[both], predicted.mean[both])
    for a, b in ((first, second), (second, first)):
        made = scale.side[a] + scale.side[b] + (scale.left[a] * scale.right[b]).sum(1)
        torch.testing.assert_close(made, predicted.scale)


def test_singles_are_left_to_the_additive_model() -> None:
    screen = planted_screen(alone=range(7), together=pairs_of(7, 12), bend=0.5)
    fitted = SMALL.fit(screen, seed=0)
    assert isinstance(fitted, Fitted)
    assert isinstance(fitted, PairFactored)
    batch = batch_of(fitted, [(one,) for one in range(7)])
    predicted = fitted.predict(batch)
    torch.testing.assert_close(predicted.mean, screen.effects[:7])
    assert torch.equal(predicted.scale, torch.ones(7, dtype=torch.float64))


def test_entries_that_behave_otherwise_in_combinations_are_learnt() -> None:
    screen = planted_screen(alone=range(10), together=pairs_of(10, 45), noise=0.05)
    marks = screen.batch.multi_hot(10) * (screen.batch.order > 1)[:, None]
    screen = replace(screen, effects=screen.effects + marks @ normal(10, 12, seed=9))
    held = torch.arange(len(screen)) % 5 == 0
    held[:10] = False
    training = screen.rows(torch.nonzero(~held).flatten())
    unseen = screen.rows(torch.nonzero(held).flatten())
    error = (SMALL.fit(training, seed=0).predict(unseen.batch).mean - unseen.effects).square().mean()
    plain = (ScaledAdditive().fit(training, seed=0).predict(unseen.batch).mean - unseen.effects).square().mean()
    assert float(error) < 0.05 * float(plain)


def test_the_noise_is_that_of_leave_one_out_predictions() -> None:
    screen = planted_screen(alone=range(7), together=pairs_of(7, 14), bend=0.5)
    fitted = SMALL.fit(screen, seed=0)
    batch = screen.batch.rows(torch.arange(7, 21))
    design, residual = (
        fitted.features.of_batch(batch).dense,
        screen.effects[7:] - fitted.additive.predict(batch).mean,
    )
    precision = torch.linalg.inv(fitted.root @ fitted.root.T)
    inverse_prior = precision - design.T @ design
    squares = []
    for row in range(14):
        others = torch.arange(14) != row
        covariance = torch.linalg.inv(inverse_prior + design[others].T @ design[others])
        missed = residual[row] - design[row] @ covariance @ design[others].T @ residual[others]
        squares.append(missed.square() / (1 + design[row] @ covariance @ design[row]))
    torch.testing.assert_close(fitted.noise, torch.stack(squares).mean(0), rtol=1e-5, atol=1e-8)


def test_entries_in_no_training_combination_are_less_certain() -> None:
    # Genes 6 and 7 do the same alone; only 6 was also combined.
    screen = planted_screen(alone=range(8), together=pairs_of(7, 15), bend=0.5)
    effects = screen.effects.clone()
    effects[7] = effects[6]
    twins = Screen.from_labels(
        effects, [Perturbation.parse(each) for each in screen.labels], list(screen.readouts)
    )
    fitted = SMALL.fit(twins, seed=0)
    known, unknown = fitted.predict(batch_of(fitted, [(0, 6), (0, 7)])).scale.tolist()
    assert unknown > known > 1
    assert float(fitted.unknown[7]) > 0
    assert not fitted.unknown[:7].any()


@pytest.mark.parametrize("count", [0, 1, 7])
def test_few_combinations_leave_the_scaled_additive_model(count: int) -> None:
    screen = planted_screen(alone=range(6), together=pairs_of(6, count), bend=0.5)
    fitted, additive = SMALL.fit(screen, seed=0), ScaledAdditive().fit(screen, seed=0)
    batch = batch_of(fitted, [*combinations(range(6), 2), (0,), (0, 1, 2)])
    predicted = fitted.predict(batch)
    torch.testing.assert_close(predicted.mean, additive.predict(batch).mean)
    assert torch.equal(predicted.scale, torch.ones(len(batch), dtype=torch.float64))
    # Without interactions there is one estimate of the noise: that of the additive model, in the screen's unit.
    torch.testing.assert_close(predicted.variance, additive.predict(batch).variance)


def test_eight_combinations_are_enough() -> None:
    screen = planted_screen(alone=range(6), together=pairs_of(6, 8), bend=0.5)
    assert bool(SMALL.fit(screen, seed=0).weights.any())


def finite(posterior: GaussianPosterior) -> bool:
    values = torch.cat([posterior.mean.flatten(), posterior.scale, posterior.variance.flatten()])
    return bool(torch.isfinite(values).all())


def test_combinations_of_parts_never_measured_alone() -> None:
    # All unseen parts share one stand-in effect: differences never vary, and nothing is learnt about them.
    screen = planted_screen(
        alone=range(4), together=[(4 + i, 4 + j) for i, j in combinations(range(5), 2)], bend=0.5
    )
    fitted = SMALL.fit(screen, seed=0)
    predicted = fitted.predict(batch_of(fitted, list(combinations(range(9), 2))))
    assert finite(predicted)
    assert float(predicted.scale.max()) < 1e3


def test_parts_without_any_effect() -> None:
    screen = planted_screen(alone=range(10), together=[(i, j) for i, j in combinations(range(5), 2)])
    effects = screen.effects.clone()
    effects[:5] = 0
    silent = Screen.from_labels(
        effects, [Perturbation.parse(each) for each in screen.labels], list(screen.readouts)
    )
    fitted = SMALL.fit(silent, seed=0)
    predicted = fitted.predict(batch_of(fitted, list(combinations(range(10), 2))))
    assert finite(predicted)
    assert float(predicted.scale.max()) < 1e3


def test_combinations_that_add_up_exactly() -> None:
    truth = normal(6, 5, seed=0)
    pairs = pairs_of(6, 12)
    screen = Screen.from_labels(
        torch.cat([truth, torch.stack([truth[i] + truth[j] for i, j in pairs])]),
        [Perturbation.parse(label(parts)) for parts in [*((i,) for i in range(6)), *pairs]],
        [gene(number) for number in range(5)],
    )
    predicted = SMALL.fit(screen, seed=0).predict(screen.batch)
    assert finite(predicted)
    torch.testing.assert_close(predicted.mean, screen.effects)


def test_row_order_and_seed_do_not_matter() -> None:
    screen = planted_screen(alone=range(7), together=pairs_of(7, 14), bend=0.5)
    order = torch.randperm(len(screen), generator=torch.Generator().manual_seed(0))
    batch = screen.vocabulary.dosed(every_pair(7))
    first, second = SMALL.fit(screen, seed=0).predict(batch), SMALL.fit(screen.rows(order), seed=1).predict(batch)
    torch.testing.assert_close(first.mean, second.mean, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(first.scale, second.scale, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("count", [1, 3, 50])
def test_effect_components_are_leading_directions(count: int) -> None:
    effects = normal(9, 2, seed=1) @ normal(2, 6, seed=2) * 3 + 0.1 * normal(9, 6, seed=3)
    components = effect_components(effects, count)
    keep = min(count, 6)
    torch.testing.assert_close(components @ components.T, torch.eye(keep, dtype=torch.float64))
    values = torch.linalg.svdvals(effects)[:keep]
    torch.testing.assert_close((effects @ components.T).norm(dim=0), values)
    assert bool((components.gather(1, components.abs().argmax(1, keepdim=True)) > 0).all())
    torch.testing.assert_close(effect_components(effects.flip(0), count), components)


@pytest.mark.parametrize("count", [1, 4, 12])
def test_components_of_few_rows_are_those_of_the_decomposition(count: int) -> None:
    effects = normal(12, 3, seed=1) @ normal(3, 40, seed=2) + 0.1 * normal(12, 40, seed=3)
    components = effect_components(effects, count)
    _, _, expected = torch.linalg.svd(effects, full_matrices=False)
    torch.testing.assert_close(components.abs(), expected[:count].abs(), rtol=1e-8, atol=1e-10)
    torch.testing.assert_close(components @ components.T, torch.eye(count, dtype=torch.float64))
    nearly_flat = torch.cat([effects[:3], effects[:3] + 1e-5 * normal(3, 40, seed=4)])
    torch.testing.assert_close(
        effect_components(nearly_flat, count) @ effect_components(nearly_flat, count).T,
        torch.eye(min(count, 6), dtype=torch.float64),
    )
    assert effect_components(effects, 0).shape == (0, 40)


def test_vanishing_components_are_left_out() -> None:
    effects = normal(9, 2, seed=1) @ normal(2, 6, seed=2)
    assert effect_components(effects, 5).shape == (2, 6)


def test_directions_of_a_large_screen_are_looked_for_in_a_frame(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes = 5.0 * 0.8 ** torch.arange(6, dtype=torch.float64)
    effects = (normal(400, 6, seed=1) * sizes) @ normal(6, 300, seed=2) + 0.5 * normal(400, 300, seed=3)
    kept = torch.arange(400)[torch.arange(400) % 10 != 3]
    exact = EffectProducts.of(effects)
    monkeypatch.setattr(directions, "_WIDE", 10)
    quick = EffectProducts.of(effects, most=6)
    assert exact.frame is None
    assert quick.products.shape == (32, 32)
    assert EffectProducts.of(effects, most=60).frame is None  # a frame of half of all readouts saves nothing
    for one, other in ((exact, quick), (exact.rows(kept), quick.rows(kept))):
        (wanted, squares), (found, lengths) = one.leading(6), other.leading(6)
        torch.testing.assert_close(found @ found.T, torch.eye(6, dtype=torch.float64))
        assert float((wanted @ found.T).square().sum(1).min()) > 1 - 1e-4
        torch.testing.assert_close(lengths, squares, rtol=1e-4, atol=0)
        torch.testing.assert_close(other.powers, one.powers)
    noise, mixed = normal(400, 300, seed=4), torch.randperm(300, generator=torch.Generator().manual_seed(1))
    one, other = (EffectProducts.of(each, most=6).leading(6)[0] for each in (noise, 7.0 * noise[:, mixed]))
    torch.testing.assert_close(other.T @ other, (one.T @ one)[mixed][:, mixed], rtol=0, atol=1e-4)
    both = torch.cat([effects, effects[:50]])  # rows and readouts change places
    assert EffectProducts.of(both.T.contiguous(), most=6).leading(6)[0].shape == (6, 450)


@pytest.mark.parametrize("marked", [0, 4])
def test_a_marked_design_multiplies_as_its_dense_matrix(marked: int) -> None:
    marks = torch.tensor([[0, 2, -1], [3, 1, 0], [-1, 2, -1], [-1, -1, -1]])
    design = MarkedDesign(marks if marked else torch.full_like(marks, -1), marked, normal(4, 3, seed=1))
    dense = design.dense
    if marked:
        assert dense[:, :4].tolist() == [[1, 0, 1, 0], [1, 1, 0, 1], [0, 0, 1, 0], [0, 0, 0, 0]]
    weights, values = normal(marked + 3, 2, seed=2), normal(4, 5, seed=3)
    torch.testing.assert_close(design.times(weights), dense @ weights)
    torch.testing.assert_close(design.onto(values), dense.T @ values)
    torch.testing.assert_close(design.gram, dense.T @ dense)
    root = normal(marked + 3, marked + 3, seed=4)
    many = MarkedDesign(design.marks.repeat(2, 1), marked, normal(8, 3, seed=5))
    for each in (design, many):  # fewer rows than columns, and more
        torch.testing.assert_close(each.squared_lengths(root), (each.dense @ root).square().sum(1))


def test_many_genes_are_fitted_alike_by_rows_and_by_features(monkeypatch: pytest.MonkeyPatch) -> None:
    screen = planted_screen(alone=range(20), together=pairs_of(20, 12), bend=0.5)
    batch, fits = screen.vocabulary.dosed(every_pair(20)), []
    for many in (500, 1):
        monkeypatch.setattr(marginal_likelihood, "_MANY", many)
        fits.append(SMALL.fit(screen, seed=0).predict(batch))
    torch.testing.assert_close(fits[0].mean, fits[1].mean, rtol=1e-5, atol=1e-7)
    torch.testing.assert_close(fits[0].scale, fits[1].scale, rtol=1e-5, atol=1e-7)
