"""Steady states of linear systems: moments against scipy and likelihoods by hand, planted edges, refusals."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from scipy.linalg import solve_continuous_lyapunov
from strategies.screens import normal

from benchmarks.forward.steady_states import CyclicCells, score
from surrogates.artefact import Origin, load_cells, save_fitted
from surrogates.contrib.causal.steady_states import Conditions, SteadyStates, lyapunov, stable, system_of
from surrogates.data.io.cells import Cells
from surrogates.data.perturbation import Perturbation
from surrogates.errors import DataError, UnknownNameError
from surrogates.models.base import FittedCells
from surrogates.models.training import Schedule

DRAWN = CyclicCells.draw(8, cells=40, mechanism="cut", seed=0)
BRIEF = SteadyStates(schedule=Schedule(epochs=5, batch=16, rate=2e-2))


def test_covariances_solve_their_equation_as_scipys() -> None:
    hit = torch.eye(6, dtype=torch.bool)[:3]
    system = system_of(stable(0.4 * normal(6, 6, seed=0), hit), hit)
    noise = torch.diag_embed(normal(3, 6, seed=1).abs() + 0.1)
    for each, solved, right in zip(system, lyapunov(system, noise), noise, strict=True):
        expected = torch.from_numpy(solve_continuous_lyapunov(each.numpy(), right.numpy()))
        torch.testing.assert_close(solved, expected)


def test_every_condition_has_a_steady_state_after_shrinking() -> None:
    hit = torch.cat([torch.zeros(1, 6, dtype=torch.bool), torch.eye(6, dtype=torch.bool)])
    kept = stable(3 * normal(6, 6, seed=0), hit)
    assert float(torch.linalg.eigvals(system_of(kept, hit)).real.min()) > 0


def test_the_likelihood_is_that_of_normal_cells() -> None:
    conditions = Conditions.of(DRAWN.cells, most=100)
    edges, level, noise = 0.3 * DRAWN.edges, 0.1 * normal(1, 8, seed=0)[0], torch.full((8,), 1.3).double()
    found = conditions.surprise(edges, level, noise)
    for row in (0, 3):
        values = DRAWN.cells.values[DRAWN.cells.codes == row]
        scaled = (values - conditions.origin) / conditions.scale
        system = system_of(edges, conditions.hit)[row]
        hit, variance = conditions.hit[row], noise.square()
        variance = torch.where(hit, 2 * scaled.var(0, correction=0), variance)
        mean = level + torch.linalg.solve(system, torch.where(hit, scaled.mean(0) - level, 0.0))
        law = torch.distributions.MultivariateNormal(mean, lyapunov(system[None], variance.diag()[None])[0])
        constant = 4 * torch.log(torch.tensor(2 * torch.pi)).double()
        torch.testing.assert_close(found[row], -law.log_prob(scaled).mean() - constant)


def test_planted_edges_are_found_better_than_from_means_and_genes_never_acted_on_predicted() -> None:
    mine, other = (score(DRAWN, *learn(seed=0)) for learn in (DRAWN.by_steady_states, DRAWN.by_causal))
    assert mine["edge_average_precision"] > max(0.7, other["edge_average_precision"])
    assert mine["unseen_to_no_change"] < 0.6


def test_control_cells_take_the_moments_of_the_condition_and_the_fit_is_stored(tmp_path: Path) -> None:
    fitted = BRIEF.fit(DRAWN.cells, seed=0)
    assert isinstance(fitted, FittedCells)
    given = Perturbation.parse("G000+G001")
    start, before = fitted.moments(Perturbation())
    control = start + normal(4000, 8, seed=0) @ torch.linalg.cholesky(before).T
    moved = fitted.predict(control, given)
    mean, covariance = fitted.moments(given)
    torch.testing.assert_close(moved.mean(0), mean, atol=0.1, rtol=0)
    torch.testing.assert_close(torch.cov(moved.T), covariance, atol=0.2, rtol=0)
    save_fitted(fitted, tmp_path / "model", origin=Origin("hash", {}, "SteadyStates()", 0))
    assert torch.equal(load_cells(tmp_path / "model").predict(control, given), moved)
    assert torch.equal(BRIEF.fit(DRAWN.cells, seed=0).edges, fitted.edges)
    with pytest.raises(UnknownNameError, match="readout 'X'"):
        fitted.moments(Perturbation.parse("X"))
    with pytest.raises(DataError, match="7"):
        fitted.predict(control[:, :7], given)


def test_a_target_has_the_spread_of_its_own_cells() -> None:
    cells = DRAWN.cells
    code = next(at for at, each in enumerate(cells.perturbations) if each.order)
    column = cells.readouts.index(cells.perturbations[code].targets[0])
    values = cells.values.clone()
    values[cells.codes == code, column] *= 0.05
    _, covariance = BRIEF.fit(replace(cells, values=values), seed=0).moments(cells.perturbations[code])
    own = values[cells.codes == code, column].var(correction=0)
    torch.testing.assert_close(covariance[column, column], own)


def _without_control(cells: Cells) -> Cells:
    return cells.rows(torch.nonzero(cells.codes > 0).flatten())


@pytest.mark.parametrize(
    ("change", "model", "message"),
    [
        (_without_control, BRIEF, "no control cells"),
        (lambda cells: cells.rows(torch.arange(41)), BRIEF, r"1 cell\(s\) of 'G\d+' have no covariance"),
        (lambda cells: cells, replace(BRIEF, most=5), "8 readouts are more than 5"),
        (lambda cells: replace(cells, readouts=tuple("abcdefgh")), BRIEF, r"target 'G\d+' is no readout"),
        (
            lambda cells: replace(cells, contexts=("a", *("b",) * (len(cells.contexts) - 1))),
            BRIEF,
            "the cells have 2 contexts",
        ),
        (
            lambda cells: cells,
            replace(BRIEF, schedule=Schedule(epochs=5, batch=16, rate=1e9)),
            "lower the step size",
        ),
    ],
)
def test_cells_that_give_no_system_are_refused(change: object, model: SteadyStates, message: str) -> None:
    with pytest.raises(DataError, match=message):
        model.fit(change(DRAWN.cells), seed=0)  # type: ignore[operator]


def test_a_negative_penalty_is_refused() -> None:
    with pytest.raises(DataError, match=r"penalty -1\.0 is negative"):
        SteadyStates(penalty=-1.0)
