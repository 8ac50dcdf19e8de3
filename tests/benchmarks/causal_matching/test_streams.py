"""Seeds of their own for each purpose, game and round."""

from itertools import product
from typing import get_args

import torch

from benchmarks.causal_matching.environment import Purpose, stream

PURPOSES: tuple[Purpose, ...] = get_args(Purpose)


def test_every_purpose_seed_and_number_has_its_own() -> None:
    seeds = (-1, 0, 1, 2, 3, 1_000_000, 1_000_003, 2**32)
    drawn = [stream(*key) for key in product(PURPOSES, seeds, range(13))]
    assert len(set(drawn)) == len(drawn)
    assert min(drawn) >= 0
    assert max(drawn) < 2**32  # more would be cut off by the generator of torch


def test_it_repeats() -> None:
    assert stream("noise", 7, 3) == stream("noise", 7, 3)


def test_streams_are_not_alike() -> None:
    keys = product(PURPOSES, (0, 1), (0, 1))
    draws = [torch.randn(1000, generator=torch.Generator().manual_seed(stream(*key))) for key in keys]
    alike = torch.stack(draws).corrcoef() - torch.eye(len(draws))
    assert float(alike.abs().max()) < 0.2
