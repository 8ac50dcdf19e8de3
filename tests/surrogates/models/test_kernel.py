from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from strategies.screens import gene, normal, plans, planted_screen

from surrogates.data.catalogue import open_dataset
from surrogates.data.descriptors import Descriptors
from surrogates.data.novelty import single_splits, with_targets
from surrogates.data.perturbation import Perturbation
from surrogates.data.screen import Screen
from surrogates.evaluation.intervals import bootstrap_interval, ratio_of_sums
from surrogates.evaluation.metrics import squared_errors
from surrogates.models.baselines import Additive, NoChange, PerturbationMean
from surrogates.models.kernel import KernelRidge, evidence_of_kernels
from surrogates.testing import check_surrogate
from surrogates.uncertainty.marginal_likelihood import maximise_evidence

GENES, FEATURES = 40, 3


def world(*, noise: float = 0.1, related: bool = True) -> tuple[Screen, Descriptors, torch.Tensor]:
    """Build effects of 40 genes that are linear in known vectors (or in others); the last 10 are unmeasured."""
    vectors = normal(GENES, FEATURES, seed=0)
    causes = vectors if related else normal(GENES, FEATURES, seed=5)
    truth = causes @ normal(FEATURES, 20, seed=1) + normal(20, seed=2)
    effects = truth + noise * normal(GENES, 20, seed=3)
    labels = [gene(number) for number in range(GENES)]
    measured = Screen.from_labels(
        effects[:30], [Perturbation.parse(label) for label in labels[:30]], [f"r{column}" for column in range(20)]
    )
    screen = with_targets(measured, labels, mode="activation")
    return screen, Descriptors("known", "linear", tuple(labels), vectors), truth


def unseen(screen: Screen, surrogate: KernelRidge) -> torch.Tensor:
    return surrogate.fit(screen, seed=0).predict(screen.vocabulary.dosed(torch.arange(30, 40)[:, None])).mean


def test_unmeasured_targets_are_predicted_from_their_descriptors() -> None:
    screen, known, truth = world()
    error = (unseen(screen, KernelRidge((known,))) - truth[30:]).square().mean()
    assert error < 0.05 * (unseen(screen, KernelRidge(())) - truth[30:]).square().mean()
    torch.testing.assert_close(unseen(screen, KernelRidge(())), screen.effects.mean(0).expand(10, -1))


def test_descriptors_that_say_nothing_are_not_trusted() -> None:
    screen, known, truth = world(related=False)
    fitted = KernelRidge((known,)).fit(screen, seed=0)
    error = (unseen(screen, KernelRidge((known,))) - truth[30:]).square().mean()
    assert error < 1.05 * (unseen(screen, KernelRidge(())) - truth[30:]).square().mean()
    related, telling, _ = world()
    assert 0 <= fitted.trust < KernelRidge((telling,)).fit(related, seed=0).trust


def test_measured_entries_keep_their_effects_and_their_scale() -> None:
    screen, known, _ = world()
    posterior = KernelRidge((known,)).fit(screen, seed=0).predict(screen.batch)
    assert torch.equal(posterior.mean, screen.effects)
    assert torch.equal(posterior.scale, torch.ones(30, dtype=torch.float64))


def test_an_entry_without_a_descriptor_has_the_prior_and_is_wider() -> None:
    screen, known, _ = world(noise=0.5)
    partial = Descriptors("partial", "linear", known.symbols[:35], known.vectors[:35])
    fitted = KernelRidge((partial,)).fit(screen, seed=0)
    assert fitted.described.tolist() == [True] * 35 + [False] * 5
    posterior = fitted.predict(screen.vocabulary.dosed(torch.arange(30, 40)[:, None]))
    torch.testing.assert_close(posterior.mean[5:], screen.effects.mean(0).expand(5, -1))
    assert posterior.scale[:5].max() < posterior.scale[5:].min()
    assert posterior.scale.min() == 1  # the surest is the unit, as there are no combinations


def test_the_scale_covers_the_errors_on_unseen_targets() -> None:
    screen, known, truth = world(noise=0.5)
    for surrogate in (KernelRidge((known,)), KernelRidge(())):
        posterior = surrogate.fit(screen, seed=0).predict(screen.vocabulary.dosed(torch.arange(30, 40)[:, None]))
        measured = truth[30:] + 0.5 * normal(10, 20, seed=9)
        ratio = float((measured - posterior.mean).square().sum() / posterior.variance.sum())
        assert 0.3 < ratio < 2.5


def test_the_better_of_two_kernels_gets_the_weight() -> None:
    screen, known, truth = world()
    blind = Descriptors("blind", "rbf", known.symbols, normal(GENES, 3, seed=8))
    both = (unseen(screen, KernelRidge((blind, known))) - truth[30:]).square().mean()
    alone = (unseen(screen, KernelRidge((known,))) - truth[30:]).square().mean()
    assert both < 2 * alone


@given(st.integers(0, 99))
@settings(max_examples=10)
def test_evidence_on_entries_is_evidence_on_coordinates(seed: int) -> None:
    blocks = [normal(9, 3, seed=seed), normal(9, 2, seed=seed + 100)]
    blocks = [block / block.square().sum(1).mean().sqrt() for block in blocks]
    scores = blocks[0] @ normal(3, 4, seed=seed + 200) + 0.5 * normal(9, 4, seed=seed + 300)
    by_entries = evidence_of_kernels(torch.stack([block @ block.T for block in blocks]), scores)
    by_coordinates = maximise_evidence(torch.cat(blocks, dim=1), (3, 2), scores)
    torch.testing.assert_close(by_entries.log(), by_coordinates.log(), atol=0.05, rtol=0)


def test_one_component_is_the_textbook_gaussian_process() -> None:
    # With a single kernel and component, weight times ratio is the maximum-likelihood signal-to-noise ratio.
    vectors, slope = normal(12, 2, seed=0), normal(2, 1, seed=1)
    effects = (vectors @ slope + 0.3 * normal(12, 1, seed=2)) @ torch.ones(1, 1, dtype=torch.float64)
    names = [gene(number) for number in range(12)]
    measured = Screen.from_labels(effects[:11], [Perturbation.parse(name) for name in names[:11]], ["r"])
    screen = with_targets(measured, names, mode="activation")
    known = Descriptors("known", "linear", tuple(names), vectors)
    fitted = KernelRidge((known,)).fit(screen, seed=0)
    got = float(fitted.predict(screen.vocabulary.dosed(torch.tensor([[11]]))).mean)
    y = (effects[:11] - effects[:11].mean()).numpy()[:, 0]
    kernel = (vectors @ vectors.T).numpy()
    grid = np.exp(np.linspace(-8, 10, 400))
    likelihood = [
        np.linalg.slogdet(np.eye(11) + w * kernel[:11, :11])[1] / 11
        + np.log(y @ np.linalg.solve(np.eye(11) + w * kernel[:11, :11], y))
        for w in grid
    ]
    best = grid[int(np.argmin(likelihood))]
    expected = best * kernel[11, :11] @ np.linalg.solve(np.eye(11) + best * kernel[:11, :11], y)
    assert got - float(effects[:11].mean()) == pytest.approx(fitted.trust * expected, rel=0.05)


def test_unmeasured_targets_that_are_readouts_change_their_own() -> None:
    names = [gene(number) for number in range(10)]
    effects = 0.1 * normal(8, 10, seed=0) + 3 * torch.eye(8, 10, dtype=torch.float64)
    effects[0, 8:] += 0.01
    screen = Screen.from_labels(effects, [Perturbation.parse(name) for name in names[:8]], names)
    screen = with_targets(screen, names, mode="activation")
    mean = KernelRidge(()).fit(screen, seed=0).predict(screen.vocabulary.dosed(torch.tensor([[8], [9]]))).mean
    gain = mean[[0, 1], [8, 9]]
    assert (gain - 3 * 8 / 9).abs().max() < 0.3  # shrunk by 8 / 9
    assert mean[0, :8].max() < 0.6


def test_entries_measured_in_combinations_only_are_taken_out_of_them() -> None:
    screen = planted_screen(
        alone=range(6), together=[(0, 6), (1, 6), (2, 6), (3, 6), (0, 1), (2, 3), (4, 5)], noise=0
    )
    fitted = KernelRidge(()).fit(screen, seed=0)
    assert fitted.measured.all()
    assert not fitted.measured_alone[6]
    truth = normal(7, 12, seed=0)[6]
    law = fitted.additive.laws[0]
    mean = screen.effects[:6].mean(0)
    # four combinations of the gene against a penalty of one, in the unit of the law's scale
    weight = 4 * law.scale**2 / (4 * law.scale**2 + 1)
    wanted = mean + weight * (0.8 * truth / law.scale - mean)
    assert (fitted.additive.singles[6] - wanted).norm() < 0.5 * (mean - wanted).norm()


def test_a_screen_of_combinations_only_is_learned_from() -> None:
    truth = normal(6, 5, seed=0)
    pairs = torch.combinations(torch.arange(6))
    screen = Screen.from_labels(
        truth[pairs].sum(1),
        [Perturbation.parse(f"{gene(i)}+{gene(j)}") for i, j in pairs.tolist()],
        [f"r{column}" for column in range(5)],
    )
    fitted = KernelRidge(()).fit(screen, seed=0)
    assert fitted.measured.all()
    assert not fitted.measured_alone.any()
    error = (fitted.predict(screen.batch).mean - screen.effects).square().mean()
    assert error < 0.1 * screen.effects.square().mean()


@given(plans())
@settings(max_examples=4)
def test_contract(plan: dict[str, object]) -> None:
    screen = planted_screen(**plan)  # type: ignore[arg-type]
    names = screen.vocabulary.targets[1:]
    known = Descriptors("known", "rbf", names, normal(len(names), 2, seed=4))
    check_surrogate(KernelRidge((known,), loadings=2), screen)


@pytest.mark.parametrize("effects", [torch.zeros(3, 2), torch.ones(3, 2)])
def test_effects_that_are_all_alike_are_predicted(effects: torch.Tensor) -> None:
    flat = replace(planted_screen(alone=range(3), together=[], readouts=2), effects=effects.double())
    known = Descriptors("known", "rbf", ("G00", "G01", "G02", "G03"), normal(4, 2, seed=0))
    flat = with_targets(flat, ["G03"], mode="activation")
    fitted = KernelRidge((known,)).fit(flat, seed=0)
    posterior = fitted.predict(flat.vocabulary.dosed(torch.tensor([[3]])))
    torch.testing.assert_close(posterior.mean, effects[:1].double())
    assert torch.isfinite(posterior.variance).all()


@pytest.mark.parametrize("alone", [1, 2])
def test_one_or_two_conditions_give_the_prior(alone: int) -> None:
    screen = planted_screen(alone=range(3), together=[]).rows(range(alone))
    known = Descriptors("known", "rbf", ("G00", "G01", "G02"), normal(3, 2, seed=0))
    fitted = KernelRidge((known,)).fit(screen, seed=0)
    mean = fitted.predict(screen.vocabulary.dosed(torch.tensor([[2]]))).mean[0]
    torch.testing.assert_close(mean, screen.effects.mean(0))
    assert fitted.trust == 0


@pytest.mark.real_data
def test_unseen_genes_of_norman2019_are_predicted_better_than_by_baselines(
    real_data: Callable[[str], Path],
) -> None:
    real_data("norman2019_expr")
    real_data("gene_features")
    screen = open_dataset("norman2019_expr")
    splits = [*single_splits(screen, seed=0)]
    truth = screen.effects[torch.cat([split.test for split in splits])]
    errors = [
        squared_errors(
            torch.cat(
                [
                    model.fit(screen.rows(split.train), seed=0).predict(screen.batch.rows(split.test)).mean
                    for split in splits
                ]
            ),
            truth,
        )
        for model in (KernelRidge(), NoChange(), PerturbationMean(), Additive())
    ]
    for reference in errors[1:]:
        low, high = bootstrap_interval(ratio_of_sums(errors[0], reference), len(truth), seed=0)
        assert low < high < 1


@pytest.mark.real_data
def test_compounds_called_like_a_gene_are_not_described_as_genes(real_data: Callable[[str], Path]) -> None:
    real_data("gene_features")
    names = ["KLF1", "CEBPA", "DUSP9"]
    for mode, count in (("compound", 0), ("knockdown", 3)):
        perturbations = [Perturbation.parse(name, mode=mode) for name in names]
        screen = Screen.from_labels(normal(3, 2, seed=0), perturbations, ["r0", "r1"])
        assert int(KernelRidge().fit(screen, seed=0).described.sum()) == count
