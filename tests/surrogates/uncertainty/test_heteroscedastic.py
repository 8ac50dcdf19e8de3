from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from strategies.errors import described, doubles
from strategies.screens import normal
from torch import Tensor

from surrogates.data.vocabulary import PerturbationBatch
from surrogates.uncertainty import heteroscedastic as module
from surrogates.uncertainty.heteroscedastic import CombinationFactor, ErrorScale, Form
from surrogates.uncertainty.marginal_likelihood import column_prior, maximise_evidence
from surrogates.uncertainty.readout_variance import Circumstances

GENES, READOUTS = 12, 40


def circumstances(count: int, *, seed: int = 0) -> Circumstances:
    return described(doubles(GENES, count, seed=seed), normal(GENES, READOUTS, seed=seed), seed=seed + 1)


def hard_genes(given_: Circumstances, size: float = 0.7) -> Tensor:
    """Log factor: combinations of some genes are hard, and so are those of large single effects."""
    of_gene = size * normal(GENES, seed=7)
    return given_.entries @ of_gene + 0.8 * (given_.traits[:, 1] - given_.traits[:, 1].mean())


def test_factors_without_each_combination_are_those_of_a_fit_to_the_others() -> None:
    given_ = circumstances(20)
    logs = hard_genes(given_) + 0.3 * normal(20, seed=3)
    logs = logs - logs.mean()
    design = torch.cat([given_.traits - given_.traits.mean(0), given_.entries], dim=1)
    sizes = (given_.traits.shape[1], GENES)
    prior = column_prior(design, sizes, maximise_evidence(design, sizes, logs[:, None]))
    learnt, left_out = module._regression(design, sizes, logs)

    def ridge(rows: Tensor) -> Tensor:
        x, y = design[rows], logs[rows]
        kernel = x @ (prior[:, None] * x.T) + torch.eye(len(x)).double()
        return prior * (x.T @ torch.linalg.solve(kernel, y))

    every = torch.arange(20)
    torch.testing.assert_close(learnt, ridge(every))
    for row in range(20):
        torch.testing.assert_close(left_out[row], design[row] @ ridge(every[every != row]))


def test_hard_genes_and_traits_are_recognised_in_new_combinations() -> None:
    given_ = circumstances(66)
    truth = hard_genes(given_)
    ratios = (truth + 0.3 * normal(66, seed=3)).exp()
    learnt, new = torch.arange(50), torch.arange(50, 66)
    factor, left_out = CombinationFactor.learn(ratios[learnt], _rows(given_, learnt))
    for found, rows in ((left_out, learnt), (factor.of(_rows(given_, new)), new)):
        assert float(torch.corrcoef(torch.stack([found.log(), truth[rows]]))[0, 1]) > 0.85
    assert float((ratios[learnt] / left_out).mean()) == pytest.approx(1)


def test_rows_of_one_perturbation_have_one_number() -> None:
    genes = torch.tensor([[0, 1, -1], [0, -1, -1], [0, 1, -1], [0, 1, 2], [1, 2, -1], [0, 1, 2], [2, -1, -1]])
    batch = PerturbationBatch(genes, torch.ones(genes.shape))
    singles = normal(3, 4, seed=0)
    found = Circumstances.of(
        normal(7, 4, seed=1),
        torch.ones(7),
        batch,
        singles=singles,
        alone=torch.ones(3, dtype=torch.bool),
        own=torch.zeros(7, 4, dtype=torch.bool),
    )
    alike = (found.entries[:, None] == found.entries).all(2)
    assert torch.equal(found.same[:, None] == found.same, alike)


def _rows(given_: Circumstances, rows: Tensor) -> Circumstances:
    return Circumstances(
        given_.mean[rows], given_.squares[rows], given_.products[rows], given_.own[rows], given_.traits[rows],
        given_.entries[rows], given_.same[rows],
    )  # fmt: skip


def test_traits_beyond_those_that_were_seen_are_taken_for_the_nearest() -> None:
    given_ = circumstances(40)
    factor, _ = CombinationFactor.learn(hard_genes(given_).exp(), given_)
    far = replace(given_, traits=given_.traits + 50)
    nearest = replace(given_, traits=given_.traits.amax(0).expand_as(given_.traits))
    assert torch.equal(factor.of(far), factor.of(nearest))


@given(st.integers(0, 99), st.floats(0.01, 100))
@settings(max_examples=15)
def test_alike_is_the_mean_whatever_the_combination(seed: int, size: float) -> None:
    given_, ratios = circumstances(15, seed=seed), size * normal(15, seed=seed).square()
    found = CombinationFactor.alike(ratios, given_).of(given_)
    torch.testing.assert_close(found, ratios.mean().expand(15))


def errors_of(
    given_: Circumstances, *, seed: int, factors: bool = True, effects: bool = True
) -> tuple[Tensor, Tensor]:
    """Errors, and their true variance."""
    variance = torch.linspace(0.1, 2, READOUTS).expand(len(given_), READOUTS)
    variance = variance + (0.5 * given_.mean.square() if effects else 0.0)
    variance = variance * (hard_genes(given_).exp()[:, None] if factors else 1.0)
    return variance.sqrt() * normal(len(given_), READOUTS, seed=seed), variance


@pytest.mark.parametrize("form", ["readouts", "effects", "combinations"])
def test_each_form_tells_what_it_knows(form: Form) -> None:
    given_ = circumstances(66)
    errors, truth = errors_of(given_, seed=5, factors=form == "combinations", effects=form != "readouts")
    learnt, new = torch.arange(50), torch.arange(50, 66)
    scales = ErrorScale.learn(errors[learnt], _rows(given_, learnt))
    assert [*scales] == ["readouts", "effects", "combinations"]
    density = {}
    for name, scale in scales.items():
        variance = scale.variance(_rows(given_, new))
        density[name] = -float((variance.log() + errors[new].square() / variance).mean())
        assert scale.support == 50
    off = (scales[form].variance(_rows(given_, new)) / truth[new]).log()
    assert float(off.square().mean().sqrt()) < 0.5
    assert density[form] > max(density.values()) - 0.02
    if form != "readouts":
        assert density[form] > density["readouts"] + 0.05


def test_few_combinations_are_not_compared() -> None:
    given_ = circumstances(11)
    errors, _ = errors_of(given_, seed=5)
    assert [*ErrorScale.learn(errors, given_)] == ["readouts", "effects"]
    assert "combinations" in ErrorScale.learn(*_one_more())


def _one_more() -> tuple[Tensor, Circumstances]:
    given_ = circumstances(12)
    return errors_of(given_, seed=5)[0], given_


def test_the_order_of_held_out_perturbations_does_not_matter() -> None:
    given_ = circumstances(30)
    errors, _ = errors_of(given_, seed=5)
    order = torch.randperm(30, generator=torch.Generator().manual_seed(1))
    one = ErrorScale.learn(errors, given_)["combinations"]
    other = ErrorScale.learn(errors[order], _rows(given_, order))["combinations"]
    torch.testing.assert_close(one.variance(given_), other.variance(given_), rtol=1e-3, atol=0.0)
    assert one.tails.floor == other.tails.floor


@pytest.mark.parametrize("what", ["no error", "one large row", "one readout"])
def test_strange_errors_keep_variances_positive_and_finite(what: str) -> None:
    given_ = circumstances(20)
    errors = torch.zeros(20, READOUTS).double()
    if what == "one large row":
        errors[3] = 1e6
    if what == "one readout":
        given_ = Circumstances(
            given_.mean[:, :1], given_.squares[:, :1], given_.products[:, :1], given_.own[:, :1], given_.traits,
            given_.entries, given_.same,
        )  # fmt: skip
        errors = normal(20, 1, seed=1)
    for scale in ErrorScale.learn(errors, given_).values():
        variance = scale.variance(given_)
        for values in (variance, *scale.tails.reach(variance.sqrt())):
            assert bool((values > 0).all() and values.isfinite().all())
