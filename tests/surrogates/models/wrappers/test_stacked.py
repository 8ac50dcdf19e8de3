from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize
from strategies.screens import normal, pairs_of, plans, planted_screen

from surrogates.data.novelty import SEEN_DOUBLE, SEEN_SINGLE, novelty_code, splits_over_doubles
from surrogates.errors import DataError
from surrogates.models.base import Surrogate
from surrogates.models.baselines import Additive, MatchingMean, NoChange, PerturbationMean, ScaledAdditive
from surrogates.models.interaction import Interaction
from surrogates.models.wrappers.stacked import (
    ClassWeights,
    FittedStacked,
    Stacked,
    convex_weights,
    readout_weights,
    simplex_weights,
)
from surrogates.testing import check_surrogate

SMALL: tuple[Surrogate, ...] = (ScaledAdditive(), MatchingMean(), Interaction(components=3, leading=2))


@settings(max_examples=5)
@given(plan=plans(fewest_doubles=8), unseen=st.booleans(), per_readout=st.booleans())
def test_contract(plan: dict[str, object], *, unseen: bool, per_readout: bool) -> None:
    stack = Stacked(SMALL[:2], unseen=unseen, folds=2, per_readout=per_readout)
    check_surrogate(stack, planted_screen(**plan))  # type: ignore[arg-type]


@given(seed=st.integers(0, 999), members=st.integers(1, 5), columns=st.integers(1, 8))
def test_weights_are_convex_and_no_other_are_better(seed: int, members: int, columns: int) -> None:
    errors = normal(members, columns, seed=seed) + 0.5 * normal(1, columns, seed=seed + 1)
    weights = convex_weights(errors)
    assert float(weights.sum()) == pytest.approx(1)
    assert float(weights.min()) >= 0
    gram = (errors @ errors.T).numpy()
    slow = minimize(
        lambda w: w @ gram @ w,
        np.full(members, 1 / members),
        jac=lambda w: 2 * gram @ w,
        bounds=[(0, 1)] * members,
        constraints={"type": "eq", "fun": lambda w: w.sum() - 1, "jac": np.ones_like},
        method="SLSQP",
    )
    assert float(weights @ torch.from_numpy(gram) @ weights) <= slow.fun + 1e-5 * np.trace(gram)


@settings(max_examples=20)
@given(seed=st.integers(0, 999), members=st.integers(1, 4), rank=st.integers(0, 5), common=st.floats(0, 1))
def test_weights_of_readouts_are_those_of_a_slow_solver(seed: int, members: int, rank: int, common: float) -> None:
    errors = normal(members, rank, 3, seed=seed) + 0.5 * normal(1, rank, 3, seed=seed + 1)
    weights = readout_weights(errors, common=common)
    assert float(weights.min()) >= 0
    torch.testing.assert_close(weights.sum(0), torch.ones(3, dtype=torch.float64))
    own = [errors[:, :, g] @ errors[:, :, g].T for g in range(3)]
    size = [max(float(each.trace()), 1e-300) for each in own]
    for g in range(3):
        mixed = ((1 - common) * own[g] / size[g] + common * sum(own) / sum(size)).numpy()
        slow = minimize(
            lambda w, p=mixed: w @ p @ w,
            np.full(members, 1 / members),
            jac=lambda w, p=mixed: 2 * p @ w,
            bounds=[(0, 1)] * members,
            constraints={"type": "eq", "fun": lambda w: w.sum() - 1, "jac": np.ones_like},
            method="SLSQP",
        )
        found = weights[:, g].numpy()
        assert found @ mixed @ found <= slow.fun + 1e-6


def test_sets_of_members_that_err_alike_have_weights() -> None:
    errors = normal(1, 6, seed=0).expand(3, -1) * torch.tensor([[1.0], [1.0], [0.5]], dtype=torch.float64)
    products = torch.stack([errors @ errors.T, torch.zeros(3, 3, dtype=torch.float64)])
    assert simplex_weights(products).tolist() == [[0, 0, 1], [1, 0, 0]]


def test_a_common_share_of_one_gives_every_readout_the_same_weights() -> None:
    errors = normal(3, 10, 4, seed=0)
    expected = convex_weights(errors.flatten(1))
    torch.testing.assert_close(readout_weights(errors, common=1.0), expected[:, None].expand(-1, 4))


def test_readouts_of_different_members_take_theirs() -> None:
    screen = planted_screen(alone=range(9), together=pairs_of(9, 30))
    half = screen.effects.shape[1] // 2
    effects = torch.cat([screen.effects[:9], 0.05 * normal(30, screen.effects.shape[1], seed=1)])
    # Pairs add up in the first half of the readouts, and have no effect in the other.
    effects[9:, :half] += effects[screen.batch.genes[9:, 0], :half] + effects[screen.batch.genes[9:, 1], :half]
    screen = replace(screen, effects=effects)
    together = Stacked((Additive(), NoChange()), unseen=False).fit(screen, seed=0)
    fitted = Stacked((Additive(), NoChange()), unseen=False, per_readout=True).fit(screen, seed=0)
    assert float(fitted.combined.weights[0, :half].min()) > 0.95
    assert float(fitted.combined.weights[1, half:].min()) > 0.95
    doubles = screen.batch.rows(torch.arange(9, 39))
    lost = [float((each.predict(doubles).mean - effects[9:]).square().mean()) for each in (together, fitted)]
    assert lost[1] < 0.1 * lost[0]


def test_readouts_governed_alike_share_their_weights() -> None:
    screen = planted_screen(alone=range(9), together=pairs_of(9, 30))
    half = replace(
        screen,
        effects=torch.cat(
            [screen.effects[:9], 0.6 * screen.effects[9:] + normal(30, screen.effects.shape[1], seed=2)]
        ),
    )
    weights = Stacked((Additive(), NoChange()), unseen=False, per_readout=True).fit(half, seed=0).combined.weights
    torch.testing.assert_close(weights, weights[:, :1].expand_as(weights))


def test_products_over_pairs_have_the_weights_of_readouts() -> None:
    screen = planted_screen(alone=range(6), together=pairs_of(6, 15), bend=0.5)
    members = tuple(each.fit(screen, seed=0) for each in SMALL)
    g = len(screen.readouts)
    share = torch.rand(3, g, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    weights = ClassWeights(SEEN_DOUBLE, share / share.sum(0), torch.ones(g, dtype=torch.float64), 15)
    fitted = FittedStacked(members, replace(weights, code=SEEN_SINGLE, weights=weights.weights[:, 0]), weights, ())
    pairs = torch.combinations(torch.arange(6), 2)
    factors, scale, (one, two) = fitted.pair_factors(), fitted.pair_scale(), pairs.T
    posterior = fitted.predict(fitted.vocabulary.dosed(pairs))
    products = factors.scores[one] * factors.scores[two]
    torch.testing.assert_close(posterior.mean, factors.main[one] + factors.main[two] + products @ factors.basis)
    scales = scale.side[one] + scale.side[two] + (scale.left[one] * scale.right[two]).sum(1)
    torch.testing.assert_close(posterior.scale, scales)
    assert fitted.predict(screen.batch).mean.shape == screen.effects.shape  # singles and pairs in one batch


def test_a_member_without_error_takes_all() -> None:
    errors = torch.stack([normal(20, seed=0), torch.zeros(20, dtype=torch.float64), normal(20, seed=1)])
    torch.testing.assert_close(convex_weights(errors), torch.tensor([0.0, 1.0, 0.0], dtype=torch.float64))
    assert convex_weights(torch.zeros(3, 4, dtype=torch.float64)).tolist() == [1, 0, 0]


def test_weights_come_from_held_out_doubles() -> None:
    screen = planted_screen(alone=range(9), together=pairs_of(9, 30), noise=0.1)
    fitted = Stacked((NoChange(), ScaledAdditive()), unseen=False).fit(screen, seed=0)
    errors: list[list[torch.Tensor]] = [[], []]
    for split in splits_over_doubles(screen, folds=5, seed=0):
        for member, kept in zip((NoChange(), ScaledAdditive()), errors, strict=True):
            mean = member.fit(screen.rows(split.train), seed=0).predict(screen.batch.rows(split.test)).mean
            kept.append((screen.effects[split.test] - mean).flatten())
    expected = convex_weights(torch.stack([torch.cat(each) for each in errors]))
    torch.testing.assert_close(fitted.combined.weights, expected)
    assert fitted.combined.support == 30
    assert float(fitted.combined.weights[1]) > 0.95
    assert fitted.unseen == ()


def test_unseen_parts_have_weights_of_their_own() -> None:
    screen = planted_screen(alone=range(20), together=pairs_of(20, 40), noise=0.1)
    fitted = Stacked((Additive(), NoChange())).fit(screen, seed=0)
    codes = {each.code for each in fitted.unseen}
    assert {16, 33} <= codes
    assert SEEN_SINGLE not in codes
    # Independent effects: an unseen single is best predicted as next to nothing, a seen pair as its sum.
    assert float(fitted.weights(16).weights[1]) > 0.5
    assert float(fitted.weights(SEEN_DOUBLE).weights[0]) > 0.7


def test_measured_singles_are_left_to_the_first_member() -> None:
    screen = planted_screen(alone=range(9), together=pairs_of(9, 30))
    stack = Stacked((Additive(), PerturbationMean(), NoChange())).fit(screen, seed=0)
    torch.testing.assert_close(stack.predict(screen.batch).mean[:9], screen.effects[:9])


def test_predictions_are_the_weighted_members() -> None:
    screen = planted_screen(alone=range(9), together=[*pairs_of(9, 30), (0, 10), (1, 2, 3)], bend=0.5)
    fitted = Stacked(SMALL).fit(screen, seed=0)
    posterior = fitted.predict(screen.batch)
    for row, code in enumerate(novelty_code(screen.batch, fitted.measured_alone).tolist()):
        parts = [member.predict(screen.batch.rows(torch.tensor([row]))) for member in fitted.members]
        weights = fitted.weights(code).weights
        torch.testing.assert_close(
            posterior.mean[row], sum(w * p.mean[0] for w, p in zip(weights, parts, strict=True))
        )
        torch.testing.assert_close(
            posterior.scale[row], sum(w * p.scale[0] for w, p in zip(weights, parts, strict=True))
        )


def test_without_doubles_the_first_member_stands_alone() -> None:
    screen = planted_screen(alone=range(5), together=[])
    fitted = Stacked((Additive(), NoChange()), unseen=False).fit(screen, seed=0)
    assert fitted.combined.weights.tolist() == [1, 0]
    assert fitted.combined.support == 0


def test_an_empty_stack_is_refused() -> None:
    with pytest.raises(DataError, match="a stack needs members"):
        Stacked(())
    with pytest.raises(DataError, match="2 or more folds"):
        Stacked((Additive(),), folds=1)
    with pytest.raises(
        DataError, match="takes 8 members or fewer; got 9: leave some out, or take per_readout=False"
    ):
        Stacked((Additive(),) * 9, per_readout=True)
