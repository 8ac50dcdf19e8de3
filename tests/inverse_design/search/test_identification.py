import math
from dataclasses import replace
from functools import cache
from typing import Any

import pytest
import torch
from strategies.screens import normal, pairs_of, planted_screen
from strategies.streamed import Streamed
from torch import Tensor

from inverse_design.problem.constraints import Constraints
from inverse_design.problem.likelihood import TargetLikelihood
from inverse_design.problem.space import CombinationSpace
from inverse_design.problem.target import AlignedProfile
from inverse_design.search import identification
from inverse_design.search.identification import NEAR, Identification, asked_again, identify
from surrogates.data.novelty import SEEN_DOUBLE
from surrogates.data.screen import Screen
from surrogates.models.base import Surrogate
from surrogates.models.baselines import Additive, NoChange, ScaledAdditive
from surrogates.models.interaction import Interaction
from surrogates.models.wrappers.automatic import with_unseen
from surrogates.models.wrappers.calibrated import Calibrated, FittedCalibrated

GENES, DOUBLES, READOUTS = 7, 12, 5
WHOLE = AlignedProfile.exact(range(READOUTS), normal(READOUTS, seed=8))
PART = AlignedProfile(
    columns=torch.tensor([4, 0, 3]),
    values=torch.tensor([1.5, -0.7, 0.4]).double(),
    variance=torch.tensor([0.0, 0.1, 0.3]).double(),
    weights=torch.tensor([1.0, 2.0, 0.5]).double(),
)
NONE = torch.zeros(GENES).double()
BASES: dict[str, Surrogate] = {
    "scaled": ScaledAdditive(),
    "interaction": Interaction(components=3, leading=2),
    "streamed": Streamed(ScaledAdditive()),
}
SPACES: dict[str, dict[str, Any]] = {
    "new pairs": {"orders": (2,)},
    "all pairs": {"orders": (2,), "constraints": Constraints(measured="keep")},
    "both orders": {"orders": (1, 2), "constraints": Constraints(measured="keep")},
    "without a gene": {"orders": (2,), "constraints": Constraints(excluded=("G02",))},
    "with a gene": {"orders": (2,), "constraints": Constraints(required=("G01",), measured="keep")},
}


@cache
def screen() -> Screen:
    """A triple makes every batch one slot wider than a pair needs."""
    together = [*pairs_of(GENES, DOUBLES), (0, 1, 2)]
    return planted_screen(
        alone=range(GENES), together=together, readouts=READOUTS, bend=0.5, noise=0.8, standard_error=0.3
    )


@cache
def fitted(base: str = "scaled") -> FittedCalibrated:
    return Calibrated(BASES[base], folds=3).fit(screen(), seed=0)


def space_of(name: str) -> CombinationSpace:
    return CombinationSpace.of(screen().vocabulary, measured=screen().batch, **SPACES[name])


def by_hand(
    likelihood: TargetLikelihood, judge: FittedCalibrated, truth: Tensor, space: CombinationSpace
) -> tuple[list[float], Tensor]:
    """Gap, rank, surprise, misfit and excess, and all gaps ascending, from the density of each candidate."""
    batch = space.batch(0, space.size)
    batch = batch.rows(torch.nonzero(space.valid(batch)).flatten())
    names = [judge.vocabulary.perturbation(row).label for row in batch.genes]
    density = likelihood.utility(judge, batch).mean
    its = judge.vocabulary.batch([judge.vocabulary.perturbation(truth)])
    own = float(likelihood.utility(judge, its).mean)
    if judge.vocabulary.perturbation(truth).label not in names:
        density = torch.cat([density, torch.tensor([own], dtype=torch.float64)])
    best, total = float(density.max()), float(density.logsumexp(0))
    rank = int((density >= own - 1e-9).sum())
    return [best - own, rank, total - own, -best, total - best], (best - density).sort().values


def assert_found_by_hand(
    found: Identification, likelihood: TargetLikelihood, model: FittedCalibrated, space: CombinationSpace
) -> int:
    """Every held-out double in turn; returns how many truths are candidates of the space."""
    places = [(n, row) for n, fold in enumerate(model.cross) for row in torch.nonzero(fold.codes == SEEN_DOUBLE)]
    assert len(found) == len(places) == DOUBLES
    assert found.near.shape == (DOUBLES, NEAR)
    slow = []
    for number, row in places:
        fold = model.cross[number]
        profile = replace(likelihood.target, values=fold.effects[int(row), likelihood.target.columns])
        asked = replace(likelihood, target=profile)
        numbers, near = by_hand(asked, fold.fitted, fold.batch.genes[int(row)], space)  # type: ignore[arg-type]
        slow.append(([float(number), *numbers], near.tolist()))
    slow.sort(key=lambda each: each[0][4])  # by misfit, in which no two are alike
    order = found.misfit.argsort()
    columns = (found.fold.double(), found.gap, found.rank, found.surprise, found.misfit, found.excess)
    for one, near, (other, row) in zip(
        torch.stack(columns, 1)[order].tolist(), found.near[order].tolist(), slow, strict=True
    ):
        assert one == pytest.approx(other, rel=1e-4, abs=1e-4)
        assert near[: len(row)] == pytest.approx(row, abs=1e-6)
        assert near[len(row) :] == [math.inf] * (NEAR - len(row))
    inside = [bool(space.holds(model.cross[n].batch.rows(row)).all()) for n, row in places]
    return sum(inside)


@pytest.mark.parametrize("base", BASES)
@pytest.mark.parametrize("name", SPACES)
def test_the_truth_is_found_where_a_look_at_every_candidate_finds_it(base: str, name: str) -> None:
    space, likelihood = space_of(name), TargetLikelihood(WHOLE, NONE)
    found = identify(likelihood, fitted(base), space, seed=0)
    inside = assert_found_by_hand(found, likelihood, fitted(base), space)
    assert (inside == 0) == (name in {"new pairs", "without a gene"})
    assert (inside == DOUBLES) == (name in {"all pairs", "both orders"})


@pytest.mark.parametrize("base", ["scaled", "streamed"])
def test_readouts_weights_and_prior_are_those_of_the_question(base: str) -> None:
    space, likelihood = space_of("all pairs"), TargetLikelihood(PART, normal(GENES, seed=9))
    found = identify(likelihood, fitted(base), space, seed=0)
    assert assert_found_by_hand(found, likelihood, fitted(base), space) == DOUBLES


def test_numbers_fit_together() -> None:
    found = identify(TargetLikelihood(WHOLE, NONE), fitted(), space_of("both orders"), seed=0)
    assert bool((found.gap >= 0).all())
    assert bool((found.rank >= 1).all())
    torch.testing.assert_close(found.surprise, found.gap + found.excess, rtol=1e-5, atol=1e-5)
    assert bool((found.excess >= -1e-5).all())
    assert bool((found.near[:, 0].abs() < 1e-9).all())
    assert bool((found.near[:, 1:] >= found.near[:, :-1]).all())
    # As many candidates are nearer to the best than the truth as its rank says.
    closer = (found.near <= found.gap[:, None] + 1e-6).sum(1)
    assert torch.equal(closer.double(), found.rank)


def test_only_the_nearest_are_kept_where_there_are_more(monkeypatch: pytest.MonkeyPatch) -> None:
    likelihood, space = TargetLikelihood(WHOLE, NONE), space_of("new pairs")
    whole = identify(likelihood, fitted(), space, seed=0)
    monkeypatch.setattr(identification, "NEAR", 4)
    short = identify(likelihood, fitted(), space, seed=0)
    torch.testing.assert_close(short.near, whole.near[:, :4])
    for name in ("gap", "rank", "surprise", "misfit", "excess"):
        torch.testing.assert_close(getattr(short, name), getattr(whole, name))


@pytest.mark.parametrize("name", ["new pairs", "both orders"])
def test_the_misfit_of_the_question_is_that_under_each_fit(name: str) -> None:
    space, likelihood = space_of(name), TargetLikelihood(PART, NONE)
    found = identify(likelihood, fitted(), space, seed=0)
    batch = space.batch(0, space.size)
    batch = batch.rows(torch.nonzero(space.valid(batch)).flatten())
    best = [-float(likelihood.utility(fold.fitted, batch).mean.max()) for fold in fitted().cross]  # type: ignore[arg-type]
    assert found.asked_misfit.tolist() == pytest.approx([best[number] for number in found.fold.tolist()])
    reached = int((found.misfit >= found.asked_misfit).sum())
    assert found.reachable == (1 + reached) / (DOUBLES + 1)


def test_another_target_changes_its_own_misfit_only() -> None:
    space, likelihood = space_of("new pairs"), TargetLikelihood(WHOLE, NONE)
    other = replace(likelihood, target=replace(WHOLE, values=50 * WHOLE.values))
    found = identify(likelihood, fitted(), space, seed=0)
    again, afresh = asked_again(found, other, fitted(), space), identify(other, fitted(), space, seed=0)
    for name in ("gap", "rank", "surprise", "misfit", "excess", "fold", "near", "asked_misfit"):
        assert torch.equal(getattr(again, name), getattr(afresh, name))
    assert again.reachable == 1 / (DOUBLES + 1)
    assert found.reachable > again.reachable


def test_some_rows_are_all_of_their_columns() -> None:
    found = identify(TargetLikelihood(WHOLE, NONE), fitted(), space_of("new pairs"), seed=0)
    chosen = torch.arange(DOUBLES) % 3 == 0
    some = found.rows(chosen)
    assert len(some) == 4
    for name in ("gap", "rank", "surprise", "misfit", "excess", "fold", "near", "asked_misfit"):
        assert torch.equal(getattr(some, name), getattr(found, name)[chosen])


def test_too_many_candidates_ask_for_a_seeded_part(monkeypatch: pytest.MonkeyPatch) -> None:
    likelihood, space = TargetLikelihood(WHOLE, NONE), space_of("new pairs")
    whole = identify(likelihood, fitted(), space, seed=0)
    monkeypatch.setattr(identification, "FEWEST", 5)
    assert len(identify(likelihood, fitted(), space, seed=0)) == DOUBLES
    monkeypatch.setattr(identification, "MOST_SCORED", 8 * space.size)
    assert len(identify(likelihood, fitted(), space, seed=0)) == 8
    monkeypatch.setattr(identification, "MOST_SCORED", 0)
    steps: list[tuple[int, int]] = []
    one, two = (
        identify(likelihood, fitted(), space, seed=0, progress=lambda *step: steps.append(step)) for _ in range(2)
    )
    assert steps == 2 * [(done, 5) for done in range(1, 6)]
    assert torch.equal(one.gap, two.gap)
    assert set(one.gap.tolist()) <= set(whole.gap.tolist())
    drawn = {tuple(identify(likelihood, fitted(), space, seed=seed).gap.tolist()) for seed in range(6)}
    assert len(drawn) > 1


@pytest.mark.parametrize("fewest", [40, 5])
def test_the_order_of_rows_does_not_matter(fewest: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither for which are drawn, nor for the halves into which they are split later."""
    monkeypatch.setattr(identification, "FEWEST", fewest)
    monkeypatch.setattr(identification, "MOST_SCORED", 0)
    order = torch.randperm(len(screen()), generator=torch.Generator().manual_seed(3))
    likelihood, space = TargetLikelihood(WHOLE, NONE), space_of("all pairs")
    one, two = (
        identify(likelihood, Calibrated(Additive(), folds=3).fit(rows, seed=0), space, seed=0)
        for rows in (screen(), screen().rows(order))
    )
    torch.testing.assert_close(one.gap, two.gap, rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(one.misfit, two.misfit, rtol=1e-6, atol=1e-6)


def test_cross_fits_of_unseen_parts_are_not_asked() -> None:
    whole = with_unseen(fitted(), (NoChange(), Additive()), screen(), seed=0)
    assert len(whole.cross) > len(fitted().cross)
    likelihood, space = TargetLikelihood(WHOLE, NONE), space_of("new pairs")
    one, two = (identify(likelihood, each, space, seed=0) for each in (fitted(), whole))
    torch.testing.assert_close(one.gap, two.gap)
    assert torch.equal(one.fold, two.fold)


def test_nothing_held_out_is_nothing_identified() -> None:
    alone = Calibrated(Additive()).fit(screen().rows(range(GENES + 1)), seed=0)
    found = identify(TargetLikelihood(WHOLE, NONE), alone, space_of("new pairs"), seed=0)
    assert (len(found), found.reachable) == (0, 1.0)
    assert found.near.shape == (0, NEAR)


def test_a_model_without_an_error_law_identifies_nothing() -> None:
    bare = [replace(fold, fitted=fold.fitted.base) for fold in fitted().cross]  # type: ignore[attr-defined]
    with pytest.raises(TypeError, match="FittedScaledAdditive has no error law"):
        identify(
            TargetLikelihood(WHOLE, NONE), replace(fitted(), cross=tuple(bare)), space_of("new pairs"), seed=0
        )
