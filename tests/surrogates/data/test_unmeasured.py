import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from strategies.screens import planted_screen

from surrogates.data.novelty import with_targets
from surrogates.errors import DataError


@given(st.lists(st.sampled_from(["A", "G00", "G02x", "Z"]), unique=True))
def test_measurements_keep_their_labels(targets: list[str]) -> None:
    screen = planted_screen(alone=range(4), together=[(0, 1), (1, 3), (0, 2, 3)])
    larger = with_targets(screen, targets, mode="activation")
    assert larger.labels == screen.labels
    assert torch.equal(larger.effects, screen.effects)
    assert torch.equal(larger.batch.dose, screen.batch.dose)
    assert set(larger.vocabulary.targets) == {*screen.vocabulary.targets, *targets}
    assert int((larger.single_rows < 0).sum()) == len({*targets} - {"G00"})


def test_another_mode_of_a_known_target_is_refused() -> None:
    with pytest.raises(DataError, match="'G00' would name two entries"):
        with_targets(planted_screen(alone=range(4), together=[]), ["G00"], mode="knockdown")
