"""Random gene effects against dense algebra, and that they tell genes apart."""

import pytest
import torch

from inverse_design.recommend.states import GeneEffects
from surrogates.errors import DataError


def _screen(seed: int, n: int = 40, genes: int = 12) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    truth = torch.randn(genes, 3, generator=generator, dtype=torch.float64)
    pairs = torch.combinations(torch.arange(genes))
    chosen = pairs[torch.randperm(len(pairs), generator=generator)[:n]]
    marks = torch.zeros(n, genes, dtype=torch.float64).scatter_(1, chosen, 1.0)
    noise = torch.randn(n, 3, generator=generator, dtype=torch.float64)
    return marks, marks @ truth + 0.1 * noise, truth


def _dense(fitted: GeneEffects, marks: torch.Tensor, asked: torch.Tensor, axis: int) -> tuple[torch.Tensor, ...]:
    """Weights of the measurements, and the variance of new ones, by the law of all of them at once."""
    ratio = fitted.ratio[axis]
    weights = torch.linalg.solve(ratio * marks @ marks.T + torch.eye(len(marks)).double(), ratio * marks @ asked.T)
    left = ratio * (asked.square().sum(1) - (asked @ marks.T * weights.T).sum(1))
    return weights, fitted.noise[axis].square() * (1 + left)


def test_the_posterior_is_that_of_the_dense_normal_law() -> None:
    marks, effects, _ = _screen(0)
    fitted, asked = GeneEffects.of(marks, effects), torch.eye(12, dtype=torch.float64)[:5] + marks[:5]
    for axis in range(3):
        weights, variance = _dense(fitted, marks, asked, axis)
        rest = effects @ fitted.axes[:, axis] - marks.sum(1) * fitted.level[axis]
        torch.testing.assert_close(asked @ fitted.mean[:, axis], weights.T @ rest)
        torch.testing.assert_close(fitted.variance(asked)[:, axis], variance)


def test_the_density_is_that_of_a_normal_law_of_the_readouts() -> None:
    marks, effects, _ = _screen(4)
    fitted, asked, profile = GeneEffects.of(marks, effects), marks[:4], effects[7]
    covariance = fitted.axes @ torch.diag_embed(fitted.variance(asked)) @ fitted.axes.T
    law = torch.distributions.MultivariateNormal(fitted.predict(asked), covariance)
    apart = law.log_prob(profile) - fitted.log_density(asked, profile)
    torch.testing.assert_close(apart, apart[:1].expand(4))


def test_gene_effects_are_recovered() -> None:
    marks, effects, truth = _screen(1, n=60)
    fitted = GeneEffects.of(marks, effects)
    torch.testing.assert_close(fitted.predict(torch.eye(12, dtype=torch.float64)), truth, rtol=0, atol=0.2)


def test_samples_have_the_moments_that_are_stated() -> None:
    marks, effects, _ = _screen(2)
    fitted = GeneEffects.of(marks, effects)
    sampled = fitted.sample(marks[:3], 4000, torch.Generator().manual_seed(0))
    torch.testing.assert_close(sampled.mean(0), fitted.predict(marks[:3]), rtol=0, atol=0.02)
    turned = (sampled @ fitted.axes).var(0)
    torch.testing.assert_close(turned, fitted.variance(marks[:3]), rtol=0.15, atol=0)


def test_two_measurements_are_refused() -> None:
    marks, effects, _ = _screen(3)
    with pytest.raises(DataError, match=r"2 measurement\(s\)"):
        GeneEffects.of(marks[:2], effects[:2])


@pytest.mark.parametrize("n", [15, 30, 55])
def test_fewer_measurements_than_readouts_still_tell_where_a_profile_belongs(n: int) -> None:
    generator = torch.Generator().manual_seed(n)
    truth, pairs = torch.randn(20, 60, generator=generator).double(), torch.combinations(torch.arange(20))
    marks = torch.zeros(len(pairs), 20, dtype=torch.float64).scatter_(1, pairs, 1.0)
    measured = marks @ truth + 0.3 * torch.randn(len(pairs), 60, generator=generator).double()
    order = torch.randperm(len(pairs), generator=generator)
    fitted, hidden = GeneEffects.of(marks[order[:n]], measured[order[:n]]), order[n : n + 40]
    ranks = {"likely": [], "near": []}  # type: dict[str, list[int]]
    for row in hidden.tolist():
        near = -(fitted.predict(marks) - measured[row]).square().sum(1)
        for name, score in (("likely", fitted.log_density(marks, measured[row])), ("near", near)):
            ranks[name].append(int((score > score[row]).sum()))
    likely, near = (torch.tensor(each).double().median() for each in ranks.values())
    assert float(likely) <= float(near) + 5
