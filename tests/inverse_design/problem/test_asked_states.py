import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from strategies.screens import normal

from inverse_design.problem.mismatch import (
    ITSELF,
    MAKER_LEFT_OUT,
    AskedState,
    KnownEffects,
    asked_states,
    regrets,
)
from surrogates.errors import DataError

DOUBLES = KnownEffects(normal(7, 9, seed=0), torch.tensor([[n, n + 1, -1] for n in range(7)]))
SINGLES = KnownEffects(normal(3, 9, seed=1), torch.tensor([[20], [21], [22]]))
TRAINED = KnownEffects(normal(4, 9, seed=2), torch.tensor([[30, 31], [32, 33], [34, 35], [36, 37]]))


def states(seed: int = 0) -> dict[str, list[AskedState]]:
    found: dict[str, list[AskedState]] = {}
    for each in asked_states(DOUBLES, SINGLES, TRAINED, seed=seed):
        found.setdefault(each.kind, []).append(each)
    return found


def test_every_double_gets_one_state_of_every_kind() -> None:
    found = states()
    assert list(found) == [
        ITSELF, MAKER_LEFT_OUT, "mean of two", "noise as large", "scaled by 0.7", "scaled by 1.5",
        "random readouts", "strongest readouts", "double plus single", "single", "measured double",
    ]  # fmt: skip
    assert all([each.base for each in some] == list(range(7)) for some in found.values())
    without = asked_states(DOUBLES, SINGLES, KnownEffects(TRAINED.effects[:0], TRAINED.genes[:0]), seed=0)
    assert {each.kind for each in without} == set(found) - {"measured double"}


def test_the_states_are_what_they_are_called() -> None:
    found = states()
    for row, double in enumerate(DOUBLES.effects):
        own = found[ITSELF][row]
        assert torch.equal(own.asked.values, double)
        assert own.genes == (row, row + 1)
        assert float(own.distances(DOUBLES.effects)[row]) == 0
        left_out = found[MAKER_LEFT_OUT][row]
        assert torch.isinf(left_out.distances(DOUBLES.effects)).tolist() == [each == row for each in range(7)]
        assert left_out.allowed(7).tolist() == [each != row for each in range(7)]
        assert torch.equal(found["scaled by 1.5"][row].wanted.values, 1.5 * double)
        noisy = found["noise as large"][row]
        assert torch.equal(noisy.wanted.values, double)
        assert not torch.equal(noisy.asked.values, double)
        strongest = found["strongest readouts"][row]
        assert set(strongest.asked.columns.tolist()) == set(double.abs().argsort()[-5:].tolist())
        assert torch.equal(strongest.asked.values, double[strongest.asked.columns])
        assert len(found["random readouts"][row].asked.columns) == 5
        partner = 2 * found["mean of two"][row].asked.values - double
        assert sum(torch.allclose(partner, other) for other in DOUBLES.effects) == 1
        assert not torch.allclose(partner, double)
        added = found["double plus single"][row].asked.values - double
        assert sum(torch.allclose(added, single) for single in SINGLES.effects) == 1
    for kind, known in (("single", SINGLES), ("measured double", TRAINED)):
        drawn = [each.asked.values for each in found[kind]]
        counts = [sum(torch.equal(one, each) for each in drawn) for one in known.effects]
        assert sum(counts) == 7
        assert max(counts) - min(counts) <= 1


def test_noise_has_the_power_of_the_signal() -> None:
    wide = KnownEffects(normal(3, 20_000, seed=3), DOUBLES.genes[:3])
    alone = KnownEffects(normal(1, 20_000, seed=4), SINGLES.genes[:1])
    for each in asked_states(wide, alone, KnownEffects(alone.effects[:0], alone.genes[:0]), seed=1):
        if each.kind == "noise as large":
            ratio = (each.asked.values - each.wanted.values).square().mean() / each.wanted.values.square().mean()
            assert float(ratio) == pytest.approx(1, abs=0.05)


def test_the_seed_fixes_the_draws_and_nothing_else_does() -> None:
    one, same, other = (
        torch.cat([each.asked.values for each in asked_states(DOUBLES, SINGLES, TRAINED, seed=seed)])
        for seed in (5, 5, 6)
    )
    assert torch.equal(one, same)
    assert not torch.equal(one, other)


def test_too_few_doubles_or_no_single_are_refused() -> None:
    with pytest.raises(DataError, match="2 held-out doubles and 3 singles"):
        asked_states(KnownEffects(DOUBLES.effects[:2], DOUBLES.genes[:2]), SINGLES, TRAINED, seed=0)
    with pytest.raises(DataError, match="7 held-out doubles and 0 singles"):
        asked_states(DOUBLES, KnownEffects(SINGLES.effects[:0], SINGLES.genes[:0]), TRAINED, seed=0)


@given(st.lists(st.integers(0, 9), min_size=2, max_size=8), st.randoms(use_true_random=False))
def test_regret_is_that_of_every_candidate_spelled_out(whole: list[int], random: object) -> None:
    listed = list(range(len(whole)))
    random.shuffle(listed)  # type: ignore[attr-defined]
    distance = torch.tensor([*whole, math.inf]).double()
    found = regrets(torch.tensor(listed), distance, (1, 2, len(whole)))
    least, mean = min(whole), sum(whole) / len(whole)
    for first, value in zip((1, 2, len(whole)), found, strict=True):
        best = min(whole[each] for each in listed[:first])
        if mean == least:
            assert math.isnan(value)
        else:
            assert value == pytest.approx((best - least) / (mean - least))
            assert value >= 0
    assert found[-1] == 0 or math.isnan(found[-1])
