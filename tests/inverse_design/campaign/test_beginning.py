"""What is checked before a campaign begins."""

from dataclasses import replace

import pytest
import torch
from strategies.campaigns import SETTINGS, TARGET, starting_screen

from inverse_design.campaign.create import require_beginning
from inverse_design.errors import TargetError
from inverse_design.problem.target import ScalarTarget
from surrogates.errors import DataError, UnknownNameError


def test_settings_screen_and_target_must_fit_each_other() -> None:
    screen = starting_screen()
    require_beginning(replace(SETTINGS, exclude=("G00",), costs={"G01": 2.0}), screen, TARGET)
    with pytest.raises(UnknownNameError, match="'G99'"):
        require_beginning(replace(SETTINGS, exclude=("G99",)), screen, TARGET)
    with pytest.raises(UnknownNameError, match="'G97'"):
        require_beginning(replace(SETTINGS, incompatible=(("G00", "G97"),)), screen, TARGET)
    with pytest.raises(UnknownNameError, match="'G98'"):
        require_beginning(replace(SETTINGS, costs={"G98": 1.0}), screen, TARGET)
    with pytest.raises((TargetError, UnknownNameError)):
        require_beginning(SETTINGS, screen, ScalarTarget("growth", "maximise"))
    twice = replace(
        screen,
        effects=torch.cat([screen.effects] * 2),
        batch=screen.vocabulary.dosed(torch.cat([screen.batch.genes] * 2)),
        contexts=("a",) * len(screen) + ("b",) * len(screen),
        annotations=type(screen.annotations)(index=range(2 * len(screen))),
    )
    with pytest.raises(DataError, match="one context, and the screen holds 'a', 'b'"):
        require_beginning(SETTINGS, twice, TARGET)
