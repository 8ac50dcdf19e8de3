import pytest
import torch

from surrogates.data.perturbation import Perturbation
from surrogates.data.screen import Screen
from surrogates.errors import DataError
from surrogates.models.base import require_one_context


def _screen(*contexts: str) -> Screen:
    perturbations = [Perturbation.parse(label) for label in "ABC"]
    return Screen.from_labels(torch.eye(3).double(), perturbations, ["x", "y", "z"], contexts=contexts)


def test_one_context_is_taken() -> None:
    assert require_one_context(_screen("K562", "K562", "K562")) is None


def test_several_contexts_are_refused_with_the_remedy() -> None:
    with pytest.raises(DataError, match=r"2 contexts.*screen\.in_context\('K562'\)"):
        require_one_context(_screen("RPE1", "K562", "RPE1"))


def test_a_screen_without_conditions_is_refused() -> None:
    with pytest.raises(DataError, match="the screen has no conditions; give one that has"):
        require_one_context(_screen("K562", "K562", "K562").rows([]))
