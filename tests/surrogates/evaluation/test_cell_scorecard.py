from dataclasses import dataclass, replace

import pytest
import torch
from strategies.cells import CONTEXTS, A, B, planted
from strategies.screens import normal
from torch import Tensor

from surrogates.contrib.cells.shift import TwoFactorCells
from surrogates.data.io.cells import CONTROL, Cells
from surrogates.data.perturbation import Perturbation
from surrogates.errors import CalibrationError, DataError
from surrogates.evaluation.cell_scorecard import OTHER_HALF, combination_folds, context_folds, judge_cells

MODELS = {"two_factor_cells": TwoFactorCells()}


@dataclass(frozen=True)
class Refusing:
    """Takes nothing."""

    def fit(self, cells: Cells, *, seed: int) -> "Refusing":
        raise DataError(f"{len(cells)} cells, seed {seed}")


def combinations() -> Cells:
    """One context, three singles and their pairs, whose effects add up."""
    labels = ("", "A", "B", "C", "A+B", "A+C", "B+C")
    effects = dict(zip("ABC", 2 * normal(3, 12, seed=5), strict=True))
    parts = [sum((effects[name] for name in label if name in effects), torch.zeros(12)) for label in labels]
    values = [6 + part + 0.1 * normal(15, 12, seed=number) for number, part in enumerate(parts)]
    done = tuple(Perturbation.parse(label) if label else CONTROL for label in labels)
    codes = torch.repeat_interleave(torch.arange(7), 15)
    return Cells(torch.cat(values), codes, done, ("",) * 7, tuple(f"r{number}" for number in range(12)))


def test_each_context_is_held_out_with_all_its_treated_cells() -> None:
    cells, _ = planted(each=8)
    folds = context_folds(cells)
    assert [fold.judged for fold in folds] == [((A, where), (B, where)) for where in CONTEXTS]
    assert all(fold.left_out == fold.judged for fold in folds)
    only_here = cells.rows(
        torch.nonzero(torch.tensor([code not in {5, 8, 11} for code in cells.codes.tolist()])).flatten()
    )
    here = context_folds(only_here)[0]  # B was given in K alone: nothing is known of it without K
    assert (here.left_out, here.judged) == (((A, "K"), (B, "K")), ((A, "K"),))
    said = judge_cells(only_here, MODELS, seed=0).left_out
    assert said == ("B in K: no other context has it beside controls",)
    lonely = cells.rows(torch.nonzero((cells.codes != 1) | (torch.arange(len(cells)) == 8)).flatten())
    assert judge_cells(lonely, MODELS, seed=0).left_out == ("A in K: 1 treated cell of 2",)


def test_two_factors_are_judged_beside_baselines_and_the_other_half() -> None:
    cells, _ = planted()
    report = judge_cells(cells, MODELS, seed=0)
    assert report.models == ("no_change", "perturbation_mean", "two_factor_cells", OTHER_HALF)
    assert len(report.conditions) == 8
    errors = {name: float(report.column(name, "relative_squared_error").mean()) for name in report.models}
    assert errors["no_change"] == pytest.approx(1)
    assert errors["two_factor_cells"] < 0.05 < errors["perturbation_mean"]
    shuffled = cells.rows(torch.randperm(len(cells), generator=torch.Generator().manual_seed(1)))
    again = judge_cells(shuffled, MODELS, seed=0)
    for one, other in zip(report.conditions, again.conditions, strict=True):
        torch.testing.assert_close(one.scores["two_factor_cells"], other.scores["two_factor_cells"])


def test_the_prediction_of_a_held_out_context_does_not_depend_on_its_treated_cells() -> None:
    cells, _ = planted(each=10)
    report = judge_cells(cells, MODELS, seed=0)
    there = torch.tensor(
        [cells.contexts[code] == "K" and cells.perturbations[code].order > 0 for code in cells.codes.tolist()]
    )
    moved = replace(cells, values=cells.values + 5.0 * there[:, None])
    again = judge_cells(moved, MODELS, seed=0)
    for one, other in zip(report.conditions[:2], again.conditions[:2], strict=True):
        difference = one.errors["two_factor_cells"] - other.errors["two_factor_cells"]
        torch.testing.assert_close(difference, torch.full_like(difference, 5.0))


def test_combinations_are_held_out_and_their_parts_stay() -> None:
    cells = combinations()
    folds = combination_folds(cells, seed=0)
    assert sorted(what.label for fold in folds for what, _ in fold.judged) == ["A+B", "A+C", "B+C"]
    report = judge_cells(cells, MODELS, hold_out="combination", seed=0)
    assert float(report.column("two_factor_cells", "relative_squared_error").max()) < 0.02
    assert {tuple(sorted(row)) for row in report.nodes.tolist()} == {(0, 1), (0, 2), (1, 2)}
    with pytest.raises(DataError, match="0 combinations have cells beside controls"):
        combination_folds(planted(each=3)[0], seed=0)


def slow_bound(scores: Tensor, level_times_ten: int) -> float:
    """The smallest score that enough of the scores and one more do not exceed."""
    needed = -(-(len(scores) + 1) * level_times_ten // 10)
    return sorted(scores.tolist())[needed - 1]


def test_bounds_count_contexts_and_refuse_what_so_few_cannot_support() -> None:
    cells, _ = planted(each=10)
    report = judge_cells(cells, MODELS, seed=0)
    bounds = report.bounds("two_factor_cells", 0.8)
    worst = report.column("two_factor_cells", "e_distance").reshape(4, 2).amax(1)  # two conditions of each context
    assert bounds.units == 4
    assert bounds.e_distance == pytest.approx(slow_bound(worst, 8))
    errors = torch.stack([each.errors["two_factor_cells"].abs() for each in report.conditions])
    assert float(bounds.effects[3]) == pytest.approx(slow_bound(errors[:, 3].reshape(4, 2).amax(1), 8))
    with pytest.raises(
        CalibrationError, match=r"4 held-out contexts support levels up to 0\.8; level 0\.9 needs 9"
    ):
        report.bounds("two_factor_cells", 0.9)


def test_a_model_that_refuses_is_named_and_leaves_the_table() -> None:
    cells, _ = planted(each=6)
    report = judge_cells(cells, {**MODELS, "refusing": Refusing()}, seed=3)
    assert "refusing" not in report.models
    (refusal,) = report.refusals
    assert (refusal.model, refusal.novelty) == ("refusing", "context 'K'")
    assert refusal.reason.endswith("seed 3")
    with pytest.raises(DataError, match="'no_change' is the name of a baseline"):
        judge_cells(cells, {"no_change": TwoFactorCells()}, seed=0)
    one = replace(cells, contexts=("",) * len(cells.contexts))
    with pytest.raises(DataError, match="no two contexts have treated beside control cells"):
        judge_cells(one, MODELS, seed=0)
