"""Events and targets survive the way through JSON."""

import math

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from inverse_design.acquisition.utility import measured_utility
from inverse_design.campaign.create import goal_of, target_of_goal
from inverse_design.campaign.scale import Remark, Scale
from inverse_design.campaign.store.events import (
    Asked,
    Created,
    Event,
    Ordered,
    Told,
    Withdrawn,
    columns_of,
    from_json,
    table_of,
    to_json,
)
from inverse_design.errors import PlanError
from inverse_design.problem.target import ProfileTarget, ScalarTarget, SignatureTarget
from surrogates.data.perturbation import Intervention, Mode, Perturbation
from surrogates.data.screen import Screen


@pytest.mark.parametrize(
    "event",
    [
        Created({"name": "ä", "target": "t"}, {"kind": "scalar", "value": None}, 3),
        Asked(1, 1, ("A+B",), [{"name": "x", "kind": "float", "values": [0.1, None]}], None, ("n",), 2, 3, 4),
        Ordered((1, 2)),
        Told(1, 2, 3, 4, ("odd",)),
        Withdrawn((), "why"),
    ],
    ids=lambda event: event.kind,
)
def test_events_come_back(event: Event) -> None:
    assert from_json(event.kind, to_json(event)) == event
    assert event.words


@given(
    st.lists(st.tuples(st.floats(allow_infinity=False), st.integers(-9, 9), st.booleans(), st.text()), min_size=1)
)
def test_tables_come_back_number_by_number(rows: list[tuple[float, int, bool, str]]) -> None:
    table = pd.DataFrame(rows, columns=["f", "i", "b", "t"]).astype({"t": object})
    pd.testing.assert_frame_equal(table_of(columns_of(table)), table, check_exact=True)


def test_a_table_with_an_infinite_number_is_refused() -> None:
    with pytest.raises(PlanError, match="column 'gain' of the plan holds an infinite number"):
        columns_of(pd.DataFrame({"gain": [0.0, math.inf]}))


def _screen() -> Screen:
    effects = torch.tensor([[0.0, 1.0], [3.0, 5.0], [1.0, 1.0]]).double()
    labels = [Perturbation.parse(label) for label in ("A", "B", "C")]
    return Screen.from_labels(effects, labels, ["x", "y"], standard_errors=torch.full_like(effects, 0.5))


def test_targets_come_back_and_value_what_was_measured() -> None:
    screen = _screen()
    profile = ProfileTarget("p", ("x", "y"), torch.tensor([0.0, 1.0]).double(), weights=torch.tensor([1.0, 3.0]))
    cases = [
        (ScalarTarget("x", "maximise"), [0.0, 3.0, 1.0]),
        (ScalarTarget("x", "minimise"), [0.0, -3.0, -1.0]),
        (ScalarTarget("y", "reach", 1.0), [0.0, -4.0, 0.0]),
        (SignatureTarget("s", {"x": 3.0}, {"y": 4.0}), [-0.8, 1.8 - 4.0, 0.6 - 0.8]),
        (profile, [0.0, -math.sqrt((9 + 3 * 16) / 4), -0.5]),
    ]
    for target, worth in cases:
        assert measured_utility(target_of_goal(goal_of(target)), screen).tolist() == pytest.approx(worth)


def test_only_what_is_beyond_everything_known_is_out_of_scale() -> None:
    generator = torch.Generator().manual_seed(0)
    effects = torch.randn(40, 1, generator=generator, dtype=torch.float64)
    effects[0] = 20.0
    screen = Screen.from_labels(effects, [Perturbation.parse(f"G{number}") for number in range(40)], ["x"])
    scale = Scale.of(screen)
    values = np.array([[19.0], [21.0], [-30.0], [np.nan]])
    failed = np.array([False, False, False, True])
    said = scale.odd(values, failed, ["A", "B", "C", "D"])
    assert [each.words.split(",")[0] for each in said] == ["'B'", "'C'"]
    many = scale.odd(np.full((25, 1), 99.0), np.zeros(25, dtype=bool), ["A"] * 25)
    assert (len(many), many[-1]) == (21, Remark(-1, "and 5 more"))


@pytest.mark.parametrize(("mode", "direction"), [("activation", 1.0), ("knockdown", -1.0), ("compound", None)])
def test_an_own_readout_in_the_direction_of_the_mode_is_not_out_of_scale(
    mode: Mode, direction: float | None
) -> None:
    """Of 20 targets, ten are readouts too, and their own effects are 30 deviations out."""
    effects = 0.1 * torch.randn(20, 10, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    effects[range(10), range(10)] = 3.0 * (direction or 1.0)
    labels = [Perturbation((Intervention(f"G{number}", mode),)) for number in range(20)]
    scale = Scale.of(Screen.from_labels(effects, labels, [f"G{number}" for number in range(10)]))
    values = np.zeros((4, 10))
    values[0, 1] = values[1, 1] = 4.0 * (direction or 1.0)
    values[2, 1] = -4.0 * (direction or 1.0)
    values[3, 1] = 400.0 * (direction or 1.0)
    said = scale.odd(values, np.zeros(4, dtype=bool), ["G1+G3", "G2+G3", "G1+G4", "G1+G5"])
    flagged = [each.words.split("'")[1] for each in said]
    assert flagged == ([] if direction else ["G1+G3"]) + ["G2+G3", "G1+G4", "G1+G5"]
