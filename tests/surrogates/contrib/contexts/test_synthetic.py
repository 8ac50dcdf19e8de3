from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from strategies.contexts import effect_of, factor_screen
from strategies.screens import normal

from surrogates.contrib.contexts import two_way
from surrogates.contrib.contexts.two_way import (
    FittedSyntheticInContext,
    SyntheticInterventions,
    TwoFactor,
    principal_inverse,
    synthesise,
)
from surrogates.data.across import ActionTable
from surrogates.data.perturbation import Perturbation
from surrogates.errors import DataError, UnknownNameError
from surrogates.testing import check_context_surrogate

EXACT = SyntheticInterventions(energy=1.0)


def _mean(view: FittedSyntheticInContext, label: str) -> torch.Tensor:
    return view.predict(view.vocabulary.batch([Perturbation.parse(label)])).mean[0]


def test_the_contract_is_kept() -> None:
    check_context_surrogate(SyntheticInterventions(), factor_screen(noise=0.3, without={(0, "A"), (2, "A+B")}))
    check_context_surrogate(SyntheticInterventions(), factor_screen(labels=("A", "B", "C"), readouts=1))
    check_context_surrogate(SyntheticInterventions(), factor_screen(labels=("A+B", "C+D", "A+D"), contexts=2))


@settings(max_examples=10)
@given(seed=st.integers(0, 99), contexts=st.integers(2, 4))
def test_a_latent_factor_world_is_predicted_exactly(seed: int, contexts: int) -> None:
    full = factor_screen(contexts=contexts, seed=seed)
    missing = {(0, "A"), (0, "C+D"), (1, "E")}
    fitted = EXACT.fit(factor_screen(contexts=contexts, without=missing, seed=seed), seed=0)
    for context, label in missing:
        view = fitted.in_context(f"c{context}")
        torch.testing.assert_close(_mean(view, label), effect_of(full, f"c{context}", label), atol=1e-6, rtol=0)
        assert not bool(view.falls_back(view.vocabulary.batch([Perturbation.parse(label)])))


def test_a_measured_action_is_predicted_without_its_own_measurement() -> None:
    screen = factor_screen(noise=0.5)
    changed = replace(screen, effects=screen.effects.clone())
    row = list(zip(screen.contexts, screen.labels, strict=True)).index(("c1", "B"))
    changed.effects[row] += 10
    one, other = (_mean(EXACT.fit(each, seed=0).in_context("c1"), "B") for each in (screen, changed))
    torch.testing.assert_close(one, other)


def test_the_regression_is_the_published_one() -> None:
    screen = factor_screen(noise=0.5, without={(0, "A")})
    donors = [label for label in dict.fromkeys(screen.labels) if label != "A"]
    others = ["c1", "c2", "c3"]
    train = torch.cat([torch.stack([effect_of(screen, c, s) for s in donors], dim=1) for c in others])
    target = torch.cat([effect_of(screen, c, "A") for c in others])
    weights = torch.linalg.lstsq(train, target[:, None]).solution[:, 0]
    expected = sum(w * effect_of(screen, "c0", s) for w, s in zip(weights, donors, strict=True))
    torch.testing.assert_close(_mean(EXACT.fit(screen, seed=0).in_context("c0"), "A"), expected)


def test_targets_predicted_together_or_alone_are_equal(monkeypatch: pytest.MonkeyPatch) -> None:
    labels = [f"{one}+{two}" for one in "ABCDE" for two in "FGH"]
    missing = {(number % 3, label) for number, label in enumerate(labels[:7])}
    screen = factor_screen(contexts=3, labels=labels, noise=0.4, without=missing)
    table = ActionTable.of(screen)
    monkeypatch.setattr(two_way, "_PARTS", 4)
    wanted = torch.arange(len(table.actions))
    effects, made = synthesise(table, 1, wanted, energy=0.9)
    assert bool(made.all())
    for each in wanted:
        torch.testing.assert_close(synthesise(table, 1, each[None], energy=0.9)[0][0], effects[each])


def test_contexts_are_added_while_the_training_matrix_grows() -> None:
    # c3 shares one action with c0 only: with it one donor is left in 3 contexts, without it five are in 2.
    labels = ["A", "B", "C", "D", "E", "F"]
    missing = {(0, "A"), *((3, label) for label in "BCDE")}
    screen = factor_screen(labels=labels, noise=0.5, without=missing)
    without_c3 = screen.rows([row for row, context in enumerate(screen.contexts) if context != "c3"])
    one, other = (_mean(EXACT.fit(each, seed=0).in_context("c0"), "A") for each in (screen, without_c3))
    torch.testing.assert_close(one, other)


def test_what_was_measured_nowhere_else_falls_back_visibly() -> None:
    screen = factor_screen(without={(context, "F") for context in range(1, 4)} | {(0, "A+B")})
    view = SyntheticInterventions().fit(screen, seed=0).in_context("c0")
    asked = [Perturbation.parse(label) for label in ("F", "A+C", "A+B", "")]
    batch = view.vocabulary.batch(asked)
    assert view.falls_back(batch).tolist() == [True, True, False, True]
    expected = TwoFactor().fit(screen, seed=0).in_context("c0").predict(batch).mean
    torch.testing.assert_close(view.predict(batch).mean[[0, 1, 3]], expected[[0, 1, 3]])


def test_without_donors_everything_falls_back() -> None:
    screen = factor_screen(contexts=2, labels=("A", "B", "C"), without={(0, "A"), (0, "B"), (1, "C")})
    fitted = SyntheticInterventions().fit(screen, seed=0)
    view = fitted.in_context("c0")
    assert bool(view.falls_back(screen.batch).all())
    torch.testing.assert_close(_mean(view, "A"), effect_of(screen, "c1", "A"))


@given(rows=st.integers(1, 6), donors=st.integers(1, 6), seed=st.integers(0, 99))
def test_the_truncated_inverse_is_that_of_the_truncated_matrix(rows: int, donors: int, seed: int) -> None:
    train = normal(rows, donors, seed=seed)
    left, values, right = torch.linalg.svd(train, full_matrices=False)
    share = values.square().cumsum(0) / values.square().sum()
    keep = next(k for k, held in enumerate(share.tolist(), start=1) if held >= 0.8)
    truncated = left[:, :keep] @ torch.diag(values[:keep]) @ right[:keep]
    expected = torch.linalg.pinv(truncated, rtol=1e-10)
    torch.testing.assert_close(principal_inverse(train, energy=0.8), expected, atol=1e-8, rtol=1e-8)


def test_effects_of_zero_are_predicted_as_zero() -> None:
    assert torch.equal(principal_inverse(torch.zeros(3, 2), energy=0.9), torch.zeros(2, 3))


def test_bad_input_is_refused() -> None:
    with pytest.raises(DataError, match=r"only the context\(s\) \['c0'\]"):
        SyntheticInterventions().fit(factor_screen(contexts=1), seed=0)
    with pytest.raises(UnknownNameError, match="unknown context 'c7'"):
        SyntheticInterventions().fit(factor_screen(), seed=0).in_context("c7")
    with pytest.raises(DataError, match=r"energy 0\.0 is no share"):
        SyntheticInterventions(energy=0.0)
