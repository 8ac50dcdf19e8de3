import math

import pytest
import torch

from inverse_design.validate.judged import Judged


def test_a_perturbation_of_several_folds_counts_once_with_its_mean() -> None:
    one = Judged(torch.tensor([4, 7]), {"a": torch.tensor([1.0, 2.0]).double(), "b": torch.ones(2, 3).double()})
    other = Judged(torch.tensor([7, 2]), {"a": torch.tensor([4.0, torch.nan]).double()})
    both = Judged.pooled([one, other])
    assert both.conditions.tolist() == [2, 4, 7]
    assert both.column("a").tolist() == pytest.approx([math.nan, 1.0, 3.0], nan_ok=True)
    assert both.column("b").shape == (3, 3)
    assert bool(both.column("b")[0].isnan().all())
    assert both.column("b")[1:].tolist() == [[1.0] * 3] * 2


def test_what_was_never_found_is_undefined() -> None:
    assert bool(Judged(torch.tensor([1, 2]), {}).column("nothing").isnan().all())
