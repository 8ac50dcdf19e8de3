import math

import pytest
import torch

from inverse_design.problem.explanation import Contribution, Explanation, explain
from inverse_design.problem.target import AlignedProfile
from surrogates.data.novelty import SEEN_DOUBLE
from surrogates.data.perturbation import Perturbation
from surrogates.data.screen import Screen
from surrogates.models.baselines import CombinationLaw, FittedScaledAdditive
from surrogates.models.wrappers.calibrated import FittedCalibrated, HeldOutError
from surrogates.uncertainty.error_model import ErrorLaw, FactorCovariance

LABELS = ("A", "B", "C", "A+C")
EFFECTS = torch.tensor([[1.0, 0.0, 2.0], [3.0, -1.0, 0.0], [0.0, 5.0, 0.0], [0.0, 4.0, 0.1]]).double()
# The model halves the sum and adds one to the last readout.
OFFSET = torch.tensor([0.0, 0.0, 1.0]).double()
# Standard deviations 2, 0.5 and 1, the first in part from a factor.
LAW = ErrorLaw(
    torch.zeros(3).double(),
    FactorCovariance(torch.tensor([3.0, 0.25, 1.0]).double(), torch.tensor([[1.0], [0.0], [0.0]]).double()),
    0.0,
    math.inf,
    1.0,
    1,
    "planted",
)


def screen() -> Screen:
    return Screen.from_labels(EFFECTS, [Perturbation.parse(each) for each in LABELS], ("x", "y", "z"))


def fitted() -> FittedCalibrated:
    vocabulary, singles = screen().vocabulary, EFFECTS[:3]
    model = FittedScaledAdditive(
        vocabulary,
        ("x", "y", "z"),
        torch.ones(3, dtype=torch.bool),
        singles,
        (CombinationLaw(SEEN_DOUBLE, 0.5, OFFSET),),
        torch.ones(3).double(),
    )
    return FittedCalibrated(model, {SEEN_DOUBLE: LAW}, singles, None, HeldOutError(1.0, 1.0, 0))


def explained(target: AlignedProfile, *labels: str, top: int = 10) -> tuple[Explanation, ...]:
    batch = screen().vocabulary.batch([Perturbation.parse(label) for label in labels])
    return explain(fitted(), batch, target, screen(), top=top)


def assert_contributions(found: tuple[Contribution, ...], *wanted: tuple[str, float, float]) -> None:
    assert [each.readout for each in found] == [name for name, _, _ in wanted]
    for each, (_, gain, predicted) in zip(found, wanted, strict=True):
        assert each.gain == pytest.approx(gain)
        assert each.predicted == pytest.approx(predicted)


def test_gains_are_distances_saved_in_standard_deviations() -> None:
    # A+B is predicted at (2, -0.5, 2), which is (1, -1, 2) standard deviations.
    target = AlignedProfile.exact([2, 0, 1], torch.tensor([3.0, 1.0, 0.5]).double())
    (one,) = explained(target, "A+B")
    # z: wanted 3, left 1, gain 2; x: wanted 0.5, left 0.5, gain 0; y: wanted 1, left 2, gain -1
    assert_contributions(one.fixes, ("z", 2.0, 2.0))
    assert_contributions(one.breaks, ("y", -1.0, -1.0))
    assert one.reason == "fixes z +2.0; breaks y -1.0"


def test_the_best_and_the_worst_come_first() -> None:
    target = AlignedProfile.exact([0, 1, 2], torch.tensor([4.0, -1.0, 2.0]).double())
    (one,) = explained(target, "A+B")
    assert_contributions(one.fixes, ("z", 2.0, 2.0), ("x", 1.0, 1.0), ("y", 1.0, -1.0))
    assert one.breaks == ()
    (short,) = explained(target, "A+B", top=1)
    assert [each.readout for each in short.fixes] == ["z"]
    against = AlignedProfile.exact([0, 1, 2], -torch.tensor([4.0, -1.0, 2.0]).double())
    (other,) = explained(against, "A+B")
    assert_contributions(other.breaks, ("z", -2.0, 2.0), ("x", -1.0, 1.0), ("y", -1.0, -1.0))
    assert other.reason == "fixes nothing; breaks z +2.0"


def test_readouts_that_are_not_asked_for_are_not_named() -> None:
    (one,) = explained(AlignedProfile.exact([1], torch.tensor([-3.0]).double()), "A+B")
    assert [each.readout for each in (*one.fixes, *one.breaks)] == ["y"]
    assert one.reason == "fixes y -1.0"


def test_the_effect_is_an_additive_part_and_the_rest() -> None:
    target = AlignedProfile.exact([0], torch.tensor([1.0]).double())
    pair, single = explained(target, "A+B", "C")
    # the sum (4, -1, 2) in standard deviations is (2, -2, 2); the prediction (2, -0.5, 2) leaves (-2, 0.5, 0)
    assert pair.additive == pytest.approx(math.sqrt(12))
    assert pair.interaction == pytest.approx(math.sqrt(2))
    assert single.additive == pytest.approx(10)
    assert single.interaction == pytest.approx(0)


def test_the_nearest_measured_effect_has_the_largest_cosine() -> None:
    target = AlignedProfile.exact([0], torch.tensor([1.0]).double())
    pair, other = explained(target, "A+B", "B+C")
    predicted = torch.tensor([2.0, -0.5, 2.0]).double()
    cosines = torch.cosine_similarity(EFFECTS, predicted[None], dim=1)
    assert pair.nearest == LABELS[int(cosines.argmax())] == "A"
    assert pair.similarity == pytest.approx(float(cosines.max()))
    # (1.5, 2, 1) lies nearest to A+C at (0, 4, 0.1), just before C
    assert other.nearest == "A+C"
