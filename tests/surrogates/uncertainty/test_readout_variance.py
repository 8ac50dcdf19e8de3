import math
from itertools import combinations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize
from strategies.errors import described, doubles
from strategies.screens import normal
from torch import Tensor

from surrogates.data.vocabulary import PerturbationBatch
from surrogates.uncertainty.readout_variance import (
    Circumstances,
    ReadoutVariance,
    most_likely_shares,
    sums_over_others,
)

GENES, READOUTS = 9, 7


def by_hand(given: Circumstances, variance: ReadoutVariance) -> Tensor:
    """The module's equation, number by number."""
    found = torch.zeros_like(given.mean)
    c = variance.shares.tolist()
    for i in range(len(given)):
        for g in range(given.mean.shape[1]):
            squared, own = float(given.mean[i, g]) ** 2, float(given.own[i, g])
            terms = (
                float(variance.usual[g]), float(variance.usual.mean()), own, squared,
                float(given.squares[i, g]), float(given.products[i, g]), own * squared,
            )  # fmt: skip
            found[i, g] = sum(share * term for share, term in zip(c, terms, strict=True))
    return found


@given(st.integers(0, 99), st.integers(1, 4))
@settings(max_examples=20)
def test_circumstances_are_sums_over_the_parts_that_were_measured_alone(seed: int, order: int) -> None:
    singles = normal(6, 5, seed=seed)
    alone = torch.arange(6) != 5
    genes = torch.stack([torch.randperm(6, generator=torch.Generator().manual_seed(seed + n)) for n in range(8)])
    genes[::2, order // 2] = -1
    batch = PerturbationBatch(genes[:, :order].sort(dim=1, descending=True).values, torch.ones(8, order).double())
    found = described(batch, singles, seed=seed, alone=alone)
    floor = 1e-4 * float(singles[alone].square().sum(1).mean())
    for row, ids in enumerate(batch.genes.tolist()):
        parts = [singles[gene] for gene in ids if gene >= 0 and bool(alone[gene])]
        total = sum(parts, torch.zeros(5).double())
        torch.testing.assert_close(found.squares[row], sum((a.square() for a in parts), 0 * total))
        torch.testing.assert_close(
            found.products[row], sum(((a * b).abs() for a, b in combinations(parts, 2)), 0 * total)
        )
        lengths = [float(a.square().sum()) for a in parts]
        cosines = [float(torch.cosine_similarity(a, b, dim=0)) for a, b in combinations(parts, 2)]
        ratio = math.log((max(lengths) + floor) / (min(lengths) + floor)) / 2 if len(parts) > 1 else 0.0
        mean = found.mean[row]
        wanted = [
            math.log(float(mean.square().sum()) + floor),
            math.log(sum(lengths) + floor),
            math.log(float((mean - total).square().sum()) + floor),
            ratio,
            float(np.mean(cosines)) if cosines else 0.0,
        ]
        assert found.traits[row, :5].tolist() == pytest.approx(wanted, abs=1e-9)


@given(st.integers(0, 99))
@settings(max_examples=15)
def test_variances_are_those_of_the_equation(seed: int) -> None:
    own = normal(20, READOUTS, seed=seed) > 1
    given_ = described(doubles(GENES, 20, seed=seed), normal(GENES, READOUTS, seed=seed), own=own)
    variance = ReadoutVariance(normal(READOUTS, seed=seed + 1).exp(), normal(7, seed=seed + 2).abs())
    torch.testing.assert_close(variance.of(given_), by_hand(given_, variance))


def test_left_out_variances_know_nothing_of_their_own_perturbation() -> None:
    batch = doubles(GENES, 20)
    twice = PerturbationBatch(torch.cat([batch.genes, batch.genes[:5]]), torch.ones(25, 2).double())
    given_ = described(twice, normal(GENES, READOUTS, seed=3), own=normal(25, READOUTS, seed=9) > 1.2)
    errors = normal(25, READOUTS, seed=4)
    found, left_out = ReadoutVariance.learn(errors, given_)
    for row in range(25):
        others = (twice.genes != twice.genes[row]).any(1)
        squares = torch.where(given_.own, torch.nan, errors.square())[others].nanmean(0)
        usual = ReadoutVariance(squares, found.shares)
        # What all have in common is a mean over all rows' left-out means.
        here = by_hand(given_, usual)[row] - found.shares[1] * squares.mean()
        rest = left_out[row] - here
        torch.testing.assert_close(rest, rest[:1].expand(READOUTS))
    torch.testing.assert_close(found.usual, torch.where(given_.own, torch.nan, errors.square()).nanmean(0))


@pytest.mark.parametrize("seed", range(3))
def test_shares_have_the_highest_likelihood(seed: int) -> None:
    """Against a general optimiser without gradient, from another start."""
    terms = normal(4, 600, seed=seed).square()
    terms[1] = 0.7
    squares = (torch.tensor([0.5, 0.2, 0.0, 2.0]).double() @ terms) * normal(600, seed=seed + 9).square()
    found = most_likely_shares(squares, terms)

    def criterion(shares: Tensor) -> float:
        variance = shares @ terms
        return float((variance.log() + squares / variance).mean())

    slow = minimize(
        lambda at: criterion(torch.tensor(np.exp(at))), np.zeros(4), method="Nelder-Mead",
        options={"maxiter": 4000, "xatol": 1e-6, "fatol": 1e-10},
    )  # fmt: skip
    assert criterion(found) <= slow.fun + 1e-5
    assert bool((found >= 0).all())


def test_planted_shares_are_recovered() -> None:
    singles = normal(30, 60, seed=0)
    given_ = described(doubles(30, 300), singles)
    usual = normal(60, seed=5).exp()
    variance = 0.5 * usual + 0.4 * given_.mean.square()
    errors = variance.sqrt() * normal(300, 60, seed=6)
    found, _ = ReadoutVariance.learn(errors, given_)
    # The mean squared error of a readout holds what effects add to it on average.
    assert float(found.shares[3]) == pytest.approx(0.4, abs=0.08)
    plain, _ = ReadoutVariance.without_effects(errors, given_)
    off, off_plain = ((each.of(given_) / variance).log() for each in (found, plain))
    assert abs(float(off.mean())) < 0.1
    assert float(off.std()) < 0.6 * float(off_plain.std())


def test_without_effects_one_variance_is_told_for_each_readout() -> None:
    own = normal(40, READOUTS, seed=7) > 1.3
    given_ = described(doubles(12, 40), normal(12, READOUTS, seed=1), own=own)
    errors = torch.linspace(0.1, 3, READOUTS) * torch.where(own, 3.0, 1.0) * normal(40, READOUTS, seed=2)
    found, _ = ReadoutVariance.without_effects(errors, given_)
    told = found.of(given_)
    elsewhere = torch.where(own, torch.nan, told)
    assert float((elsewhere.nanmean(0) - elsewhere).abs().nan_to_num(0.0).max()) < 1e-9
    assert float(told[own].mean()) > 2 * float(told[~own].mean())


@given(st.integers(0, 99), st.floats(1e-3, 1e3))
@settings(max_examples=10)
def test_the_unit_of_the_effects_squares(seed: int, unit: float) -> None:
    batch, singles, errors = doubles(GENES, 25), normal(GENES, READOUTS, seed=seed), normal(25, READOUTS, seed=2)
    one, other = described(batch, singles), described(batch, unit * singles, unit=unit)
    found, again = ReadoutVariance.learn(errors, one)[0], ReadoutVariance.learn(unit * errors, other)[0]
    torch.testing.assert_close(again.of(other), unit**2 * found.of(one), rtol=1e-3, atol=0.0)
    torch.testing.assert_close(one.traits[:, 3:], other.traits[:, 3:])


def test_a_readout_that_was_silent_is_not_taken_for_one_that_never_moves() -> None:
    errors = normal(30, READOUTS, seed=2)
    errors[:, 0] = 0.0
    errors[:, 1] *= 1e-9
    given_ = described(doubles(GENES, 30), normal(GENES, READOUTS, seed=3))
    found, left_out = ReadoutVariance.learn(errors, given_)
    assert found.moves.tolist() == [False, False, *[True] * (READOUTS - 2)]
    for variance in (found.of(given_), left_out):
        assert bool((variance > 0).all())
        assert float(variance[:, :2].min()) > 1e-5
    # They say nothing of the others.
    rest = ReadoutVariance.learn(
        errors[:, 2:], described(doubles(GENES, 30), normal(GENES, READOUTS, seed=3)[:, 2:])
    )
    assert float(found.shares[0]) == pytest.approx(float(rest[0].shares[0]), rel=0.5)


def test_predictions_without_any_error_keep_finite_variances() -> None:
    given_ = described(doubles(GENES, 12), normal(GENES, READOUTS, seed=3))
    found, left_out = ReadoutVariance.learn(torch.zeros(12, READOUTS).double(), given_)
    for variance in (found.of(given_), left_out):
        assert bool((variance > 0).all() and variance.isfinite().all())


def test_sums_over_others_leave_out_every_row_of_a_perturbation() -> None:
    values, same = normal(7, 3, seed=1).abs(), torch.tensor([0, 1, 0, 2, 3, 3, 3])
    wanted = torch.stack([values[same != same[row]].sum(0) for row in range(7)])
    torch.testing.assert_close(sums_over_others(values, same), wanted)
