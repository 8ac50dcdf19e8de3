import torch
from strategies.screens import pairs_of, planted_screen

from inverse_design.candidates import borrowed_bounds, borrowed_note, borrows, quantiles_of
from inverse_design.problem.objective import Distance
from inverse_design.problem.target import AlignedProfile, ProfileTarget
from surrogates.data.screen import Screen
from surrogates.models.baselines import Additive
from surrogates.models.wrappers.calibrated import Calibrated, FittedCalibrated
from surrogates.models.wrappers.public_law import BorrowedSum

GENES, READOUTS = 8, 5


def screen() -> Screen:
    return planted_screen(alone=range(GENES), together=pairs_of(GENES, 20), readouts=READOUTS)


def fitted() -> FittedCalibrated:
    return Calibrated(BorrowedSum()).fit(screen().rows(range(GENES)), seed=0)


def distance() -> Distance:
    return Distance(ProfileTarget("t", screen().readouts, screen().effects[GENES]).on(screen().readouts))


def test_only_doubles_of_which_none_was_held_out_borrow() -> None:
    assert borrows(fitted())
    assert not borrows(fitted(), 17)
    assert not borrows(fitted(), 51)  # though its law is that of the doubles
    assert not borrows(Calibrated(Additive()).fit(screen(), seed=0))


def test_bounds_are_quantiles_of_drawn_outcomes() -> None:
    batch = screen().batch.rows(torch.arange(GENES, GENES + 6))
    lower, median, upper = borrowed_bounds(distance(), fitted(), batch, 0.9)
    assert bool(((lower < median) & (median < upper)).all())
    wide = borrowed_bounds(distance(), fitted(), batch, 0.99)
    assert bool((wide[0] < lower).all() and (wide[2] > upper).all())
    torch.testing.assert_close(wide[1], median)
    again = borrowed_bounds(distance(), fitted(), batch.rows(torch.tensor([3])), 0.9)
    torch.testing.assert_close(again[2][0], upper[3])  # whatever else is asked


def test_distances_of_draws_by_products_are_those_measured() -> None:
    mean, errors = screen().effects[:3], screen().effects[4:]
    reach, weights = torch.tensor([[0.5, 0.0, 2.0], [2.0, 0.5, 1.0]]).double()
    part = AlignedProfile(torch.tensor([3, 0, 1]), mean[1, :3], torch.zeros(3).double(), weights)
    for asked in (distance(), Distance(part)):
        measured = torch.stack(
            [asked.measured(row + wide * errors) for row, wide in zip(mean, reach, strict=True)]
        )
        torch.testing.assert_close(asked.drawn(mean, reach, errors), measured, rtol=1e-10, atol=1e-10)


def test_a_tenth_of_the_draws_is_left_out() -> None:
    errors = torch.arange(1, 1001, dtype=torch.float64)[:, None].expand(-1, READOUTS)
    at = Distance(ProfileTarget("t", screen().readouts, torch.zeros(READOUTS).double()).on(screen().readouts))
    bounds = quantiles_of(at, torch.zeros(1, READOUTS).double(), torch.tensor([2.0]).double(), errors, 0.9)
    drawn = 2 * errors[:, 0]
    lower, median, upper = (float(each[0]) for each in bounds)
    assert float((drawn < lower).sum()) == float((drawn > upper).sum()) == 50
    assert float((drawn < median).sum()) == 500


def test_the_note_says_what_is_borrowed() -> None:
    note = borrowed_note("distance", 0.9)
    assert note.startswith(
        "warning: as no combination was held out, lower and upper are borrowed from public screens"
    )
    assert "0.80 of the sum" in note
    assert "90 %" in note
