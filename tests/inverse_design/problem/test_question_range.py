import re
from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from strategies.screens import normal, pairs_of, planted_screen
from torch import Tensor

from inverse_design.errors import TargetError
from inverse_design.problem.problem import range_remark
from inverse_design.problem.target import ProfileTarget, ScalarTarget, SignatureTarget, Target

SCREEN = planted_screen(alone=range(5), together=pairs_of(5, 4), readouts=6)
LARGEST = SCREEN.effects.abs().amax(0)


def remark(target: Target) -> tuple[str, ...]:
    return range_remark(target, target.on(SCREEN.readouts), SCREEN)


def profile(values: Tensor, readouts: tuple[str, ...] = SCREEN.readouts, **more: Tensor) -> ProfileTarget:
    return ProfileTarget("wanted", readouts, values, **more)


def test_what_was_measured_or_twice_that_is_in_range() -> None:
    for row in SCREEN.effects:
        assert remark(profile(row)) == ()
    assert remark(profile(2 * LARGEST)) == ()
    assert remark(profile(-2 * LARGEST)) == ()


@given(st.lists(st.floats(-5, 5), min_size=6, max_size=6))
def test_readouts_beyond_twice_the_largest_effect_are_counted(times: list[float]) -> None:
    values = torch.tensor(times, dtype=torch.float64) * LARGEST
    beyond = [place for place, each in enumerate(times) if abs(float(values[place])) > 2 * float(LARGEST[place])]
    if len(beyond) == 6:
        with pytest.raises(TargetError, match="out of range on all its 6 readouts"):
            remark(profile(values))
        return
    said = remark(profile(values))
    assert len(said) == bool(beyond)
    for note in said:
        assert note.startswith(f"warning: {len(beyond)} of 6 readouts are out of range, such as ")
        worst = max(beyond, key=lambda place: abs(float(values[place])) / float(LARGEST[place]))
        assert any(
            f"'r{place}'" in note
            for place in beyond
            if abs(times[place]) == pytest.approx(abs(times[worst]), rel=1e-9)
        )


def test_the_worst_readout_is_named_with_both_values() -> None:
    values = SCREEN.effects[0].clone()
    values[[1, 4]] = torch.tensor([-3.0, 70.0]).double() * LARGEST[[1, 4]]
    (note,) = remark(profile(values))
    assert note == (
        f"warning: 2 of 6 readouts are out of range, such as {float(values[4]):.4g} of 'r4', where no effect is"
        f" larger than {float(LARGEST[4]):.4g}"
    )


def test_all_out_of_range_is_refused_with_the_unit() -> None:
    values = 100 * LARGEST
    with pytest.raises(TargetError, match=r"target 'wanted' is out of range on all its 6 readouts, such as"):
        remark(profile(values))
    with pytest.raises(TargetError, match=re.escape("is it in the unit of the screen (its unit), as a change")):
        remark(profile(values))
    with_unit = replace(SCREEN, provenance={"unit": "log2 fold change"})
    with pytest.raises(TargetError, match=re.escape("the unit of the screen (log2 fold change)")):
        range_remark(profile(values), profile(values).on(SCREEN.readouts), with_unit)


def test_only_readouts_of_the_target_count() -> None:
    part = profile(torch.tensor([99.0, 0.1]).double(), ("r3", "r0"))
    assert remark(part)[0].startswith("warning: 1 of 2 readouts are out of range, such as 99 of 'r3'")
    ignored = profile(100 * LARGEST, weights=torch.tensor([1.0, 0, 0, 0, 0, 0]).double())
    with pytest.raises(TargetError, match=r"all its 1 readout, such as .* of 'r0'"):
        remark(ignored)


def test_a_readout_that_nothing_moves_is_out_of_range_wherever_it_should_go() -> None:
    effects = SCREEN.effects.clone()
    effects[:, 2] = 0
    still = replace(SCREEN, effects=effects)
    wanted = profile(SCREEN.effects[0])
    (note,) = range_remark(wanted, wanted.on(SCREEN.readouts), still)
    assert "of 'r2', where no effect is larger than 0" in note
    staying = profile(effects[0])
    assert range_remark(staying, staying.on(SCREEN.readouts), still) == ()


def test_a_value_to_reach_is_compared_and_a_direction_is_not() -> None:
    far = float(1000 * LARGEST[0])
    with pytest.raises(TargetError, match=r"target 'reach r0 = .*' is out of range on all its 1 readout"):
        remark(ScalarTarget("r0", "reach", far))
    assert remark(ScalarTarget("r0", "reach", float(LARGEST[0]))) == ()
    tiny = replace(SCREEN, effects=1e-6 * normal(*SCREEN.effects.shape, seed=0))
    directions: list[Target] = [
        ScalarTarget("r0", "maximise"),
        ScalarTarget("r0", "minimise"),
        SignatureTarget("up", {"r0": 1e6, "r1": 1.0}, {"r2": 3.0}),
    ]
    for target in directions:
        assert range_remark(target, target.on(SCREEN.readouts), tiny) == ()
