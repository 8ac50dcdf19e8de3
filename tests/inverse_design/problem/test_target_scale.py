import pytest
from strategies.screens import normal, pairs_of, planted_screen
from torch import Tensor

from inverse_design.problem.problem import Problem, ask, scale_remark
from inverse_design.problem.target import ProfileTarget, ScalarTarget, SignatureTarget, Target, scale_misfit

READOUTS = 20
SCREEN = planted_screen(alone=range(6), together=pairs_of(6, 9), readouts=READOUTS)


def profile(values: Tensor, at: slice = slice(None)) -> ProfileTarget:
    return ProfileTarget("wanted", SCREEN.readouts[at], values[at])


def misfit(target: Target) -> tuple[str, ...]:
    return scale_misfit(target, target.on(SCREEN.readouts), SCREEN)


def test_measured_effects_and_states_made_of_them_fit() -> None:
    one, other = SCREEN.effects[7], SCREEN.effects[2]
    noise = float(one.square().mean().sqrt()) * normal(READOUTS, seed=4)
    for values in (*SCREEN.effects, 0.7 * one, 1.5 * one, one + other, (one + other) / 2, one + noise):
        assert misfit(profile(values)) == ()
    assert misfit(profile(one.abs(), slice(0, 8))) == ()  # eight markers that are all to rise
    assert misfit(profile((one > 0).double(), slice(0, 9))) == ()  # and the same as a code


@pytest.mark.parametrize(
    ("values", "said"),
    [
        (100 * SCREEN.effects[7], "that of the largest measured effect"),
        (SCREEN.effects[7] / 100, "that of the weakest measured effect"),
        (SCREEN.effects[7].exp(), "all its values are positive, as ratios"),
        ((20 * SCREEN.effects[7].exp()).round(), "all its values are whole numbers and none is negative"),
    ],
    ids=["too large", "too small", "fold changes", "counts"],
)
def test_what_is_in_another_unit_is_recognised(values: Tensor, said: str) -> None:
    assert any(said in each for each in misfit(profile(values)))


def test_many_readouts_beyond_twice_the_largest_effect_are_too_many() -> None:
    values, largest = 0.1 * SCREEN.effects[7].clone(), SCREEN.effects.abs().amax(0)
    values[:3] = 2.5 * largest[:3]
    assert not any("% of its readouts" in each for each in misfit(profile(values)))
    values[:4] = 2.5 * largest[:4]
    assert any("20 % of its readouts are wanted beyond twice" in each for each in misfit(profile(values)))


def test_directions_have_no_size_and_conditions_are_in_the_unit_of_the_screen() -> None:
    for target in (ScalarTarget("r0", "maximise"), SignatureTarget("up", {"r0": 1e6}, {})):
        assert misfit(target) == ()
    far = profile(100 * SCREEN.effects[7])
    (note,) = scale_remark(Problem(SCREEN, far), far.on(SCREEN.readouts))
    assert note.startswith("warning: target 'wanted' does not seem to be a change against the control in the unit")
    condition = ask(SCREEN, SCREEN.labels[7])
    assert condition.maker is not None
    assert scale_remark(Problem(SCREEN, far, condition.maker), far.on(SCREEN.readouts)) == ()
