from collections.abc import Callable

import numpy as np
import pytest
import torch
from scipy.optimize import OptimizeResult
from strategies.screens import normal
from torch import Tensor

from surrogates.uncertainty import marginal_likelihood
from surrogates.uncertainty.marginal_likelihood import maximise_evidence

Criterion = Callable[[np.ndarray], tuple[float, np.ndarray]]


def spied_criterion(
    monkeypatch: pytest.MonkeyPatch, design: Tensor, sizes: tuple[int, ...], scores: Tensor
) -> Criterion:
    """The criterion that ``maximise_evidence`` minimises, taken from the call of the optimiser."""
    caught = []

    def spy(criterion: Criterion, start: np.ndarray, **_: object) -> OptimizeResult:
        caught.append(criterion)
        return OptimizeResult(x=start)

    monkeypatch.setattr("scipy.optimize.minimize", spy)
    maximise_evidence(design, sizes, scores)
    return caught[0]


@pytest.mark.parametrize(("n", "many"), [(6, 500), (30, 500), (6, 1)])
def test_evidence_and_its_gradient(monkeypatch: pytest.MonkeyPatch, n: int, many: int) -> None:
    monkeypatch.setattr(marginal_likelihood, "_MANY", many)
    sizes = (5, 4, 2)
    design, scores = normal(n, 11, seed=1), normal(n, 3, seed=2)
    criterion = spied_criterion(monkeypatch, design, sizes, scores)
    at = np.array([-1.0, 0.5, -4.0])
    value, gradient = criterion(at)

    kernel = torch.eye(n, dtype=torch.float64)
    for log_weight, block in zip(at, design.split(sizes, dim=1), strict=True):
        outer = block @ block.T
        kernel = kernel + np.exp(log_weight) * outer / outer.diagonal().mean()
    # minus twice the log marginal likelihood per number, the noise variance at its maximum
    noise = float((scores * torch.linalg.solve(kernel, scores)).sum()) / (3 * n)
    assert value == pytest.approx(float(torch.logdet(kernel)) / n + np.log(noise * 3 * n))

    step = 1e-5 * np.eye(3)
    slopes = [(criterion(at + each)[0] - criterion(at - each)[0]) / 2e-5 for each in step]
    np.testing.assert_allclose(gradient, slopes, rtol=1e-5, atol=1e-8)


def test_large_and_small_weights_are_recovered() -> None:
    sizes, n = (6, 6), 300
    design = normal(n, 12, seed=1)
    scores = design[:, :6] @ normal(6, 40, seed=2) * (8.0 / 6) ** 0.5 + normal(n, 40, seed=3)
    large, small = maximise_evidence(design, sizes, scores).tolist()
    assert large == pytest.approx(8.0, rel=0.25)
    assert small < 0.01


def test_the_weights_found_minimise_the_criterion(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes = (5, 4, 2)
    design = normal(30, 11, seed=1)
    scores = design @ normal(11, 3, seed=4) + normal(30, 3, seed=2)
    found = maximise_evidence(design, sizes, scores).log().numpy()
    criterion = spied_criterion(monkeypatch, design, sizes, scores)
    for step in (0.3, -0.3):
        for axis in np.eye(3):
            assert criterion(found)[0] < criterion(np.clip(found + step * axis, -8, 4))[0] + 1e-9
