from dataclasses import replace

import pytest
import torch
from strategies.cells import AB, A, B, planted
from strategies.screens import normal

from surrogates.contrib.cells.axes import PrincipalAxes
from surrogates.contrib.cells.latent_shift import FittedLatentShift, LatentShift, screpa
from surrogates.data.io.cells import CONTROL
from surrogates.data.perturbation import Perturbation
from surrogates.errors import DataError, UnknownNameError
from surrogates.models.base import FittedCells
from surrogates.models.training import Schedule

SMALL = LatentShift(components=8, hidden=(32,), latent=8, dropout=0.0, schedule=Schedule(60, 64, 0.005))
BRIEF = replace(SMALL, schedule=Schedule(epochs=3, batch=32))


@pytest.fixture(scope="module")
def fitted() -> FittedLatentShift:
    """Fitted without the treated cells of one context."""
    return SMALL.fit(planted()[0].without(A, "N").without(B, "N"), seed=0)


@pytest.mark.parametrize("keep_remainder", [False, True])
def test_planted_effects_are_found_in_a_new_context(fitted: FittedLatentShift, *, keep_remainder: bool) -> None:
    cells, effects = planted()
    control = cells.of(CONTROL, "N")
    model = replace(fitted, keep_remainder=keep_remainder)
    for what, effect in zip((A, B), effects, strict=True):
        error = model.predict(control, what).mean(0) - control.mean(0) - effect
        assert float(error.square().sum() / effect.square().sum()) < 0.5
    together = model.predict(control, AB).mean(0) - control.mean(0) - effects.sum(0)
    assert float(together.square().sum() / effects.sum(0).square().sum()) < 0.5


def test_the_shift_is_the_balanced_difference_of_latent_means(fitted: FittedLatentShift) -> None:
    cells, _ = planted()
    latent = [
        fitted.encode(cells.of(A, context)).mean(0) - fitted.encode(cells.of(CONTROL, context)).mean(0)
        for context in ("K", "L", "M")
    ]
    torch.testing.assert_close(fitted.shifts.of(A), torch.stack(latent).mean(0))
    control = cells.of(CONTROL, "N")
    shifted = fitted.decode(fitted.encode(control) + fitted.shifts.of(A) + fitted.shifts.of(B))
    torch.testing.assert_close(fitted.predict(control, AB), shifted)
    kept = control + shifted - fitted.decode(fitted.encode(control))
    torch.testing.assert_close(replace(fitted, keep_remainder=True).predict(control, AB), kept)


def test_cells_are_predicted_one_by_one_and_controls_stay(fitted: FittedLatentShift) -> None:
    control = planted()[0].of(CONTROL, "N")
    alone = torch.cat([fitted.predict(cell[None], A) for cell in control])
    torch.testing.assert_close(fitted.predict(control, A), alone, atol=1e-9, rtol=0)
    assert torch.equal(fitted.predict(control, CONTROL), control)


def test_the_seed_fixes_everything_and_the_order_nothing() -> None:
    cells, _ = planted(each=8)
    torch.manual_seed(11)
    state = torch.get_rng_state()
    shuffled = cells.rows(torch.randperm(len(cells), generator=torch.Generator().manual_seed(1)))
    one, other, third = (BRIEF.fit(each, seed=seed) for each, seed in ((cells, 4), (shuffled, 4), (cells, 5)))
    assert torch.equal(torch.get_rng_state(), state)
    control = cells.of(CONTROL, "K")
    assert torch.equal(one.predict(control, A), other.predict(control, A))
    assert not torch.allclose(one.predict(control, A), third.predict(control, A))
    assert one.training == other.training


def test_all_axes_lose_nothing_and_few_take_the_widest() -> None:
    for cells in (normal(20, 7, seed=0), normal(7, 20, seed=0)):
        every = PrincipalAxes.of(cells, 100)
        assert len(every.axes) == (7 if len(cells) > 7 else 6)
        torch.testing.assert_close(every.cells(every.coordinates(cells)), cells)
        few = PrincipalAxes.of(cells, 3)
        torch.testing.assert_close(few.axes @ few.axes.T, torch.eye(3).double())
        widths = torch.linalg.svdvals(cells - cells.mean(0))
        left = (few.cells(few.coordinates(cells)) - cells).square().sum()
        torch.testing.assert_close(left, widths[3:].square().sum())
        torch.testing.assert_close(few.coordinates(cells).square().mean(), torch.tensor(1.0).double())


def test_states_are_drawn_to_the_embeddings_that_are_given_and_cycles_keep_the_effects() -> None:
    cells, effects = planted()
    given = replace(cells, embeddings=normal(len(cells), 5, seed=9))
    train_on = [each.without(A, "N").without(B, "N") for each in (cells, given)]
    model = replace(SMALL, alignment=screpa().alignment, cycle=screpa().cycle, schedule=Schedule(15, 64, 0.005))
    control = cells.of(CONTROL, "N")
    found, other = (replace(model.fit(each, seed=0), keep_remainder=True).predict(control, A) for each in train_on)
    error = found.mean(0) - control.mean(0) - effects[0]
    assert float(error.square().sum() / effects[0].square().sum()) < 0.5
    assert not torch.allclose(found, other)


def test_embeddings_follow_their_cells_and_bad_ones_are_refused() -> None:
    cells, _ = planted(each=2)
    given = replace(cells, embeddings=cells.values[:, :3])
    ordered = given.in_canonical_order()
    assert ordered.embeddings is not None
    assert torch.equal(ordered.embeddings, ordered.values[:, :3])
    for bad in (cells.values[:, :0], cells.values * torch.nan):
        with pytest.raises(DataError, match=r"embeddings of shape .* are not a finite row for each of 24 cells"):
            replace(cells, embeddings=bad)


def test_one_context_and_constant_readouts_are_enough() -> None:
    cells, _ = planted(each=8)
    one = cells.rows(torch.nonzero(cells.codes < 3).flatten())
    constant = replace(one, values=one.values * (torch.arange(30) % 2))
    found = BRIEF.fit(constant, seed=0).predict(constant.of(CONTROL, "K"), A)
    assert bool(torch.isfinite(found).all())
    # A readout that never changes is predicted never to change.
    torch.testing.assert_close(found[:, ::2], torch.zeros(8, 15).double(), atol=1e-9, rtol=0)


def test_useless_cells_are_refused() -> None:
    cells, _ = planted(each=2)
    with pytest.raises(DataError, match="no context has both control and treated cells"):
        BRIEF.fit(cells.rows(torch.tensor([0, 1, 6, 7])), seed=0)
    with pytest.raises(DataError, match="2 cells are too few"):
        BRIEF.fit(cells.rows(torch.tensor([0, 2])), seed=0)
    with pytest.raises(DataError, match="all 24 cells are equal"):
        BRIEF.fit(replace(cells, values=torch.ones_like(cells.values)), seed=0)


def test_what_a_model_does_not_know_is_refused(fitted: FittedLatentShift) -> None:
    control = planted()[0].of(CONTROL, "N")
    with pytest.raises(UnknownNameError, match="unknown perturbation 'C'"):
        fitted.predict(control, Perturbation.parse("C"))
    with pytest.raises(DataError, match="29 readouts for a model of 30"):
        fitted.predict(control[:, 1:], A)
    with pytest.raises(DataError, match="NaN"):
        fitted.predict(control * torch.nan, A)


@pytest.mark.parametrize(
    "change", [{"latent": 0}, {"hidden": (0,)}, {"held_out": 1.0}, {"dropout": 1.0}, {"cycle": -1.0}]
)
def test_bad_configurations_are_refused(change: dict[str, object]) -> None:
    with pytest.raises(DataError, match=next(iter(change))):
        replace(SMALL, **change)


def test_the_protocols_hold(fitted: FittedLatentShift) -> None:
    assert isinstance(fitted, FittedCells)
