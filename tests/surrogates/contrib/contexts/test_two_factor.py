import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from strategies.contexts import effect_of, factor_screen
from strategies.screens import normal

from surrogates.contrib.contexts.two_way import ContextMean, TwoFactor, TwoWay
from surrogates.data.perturbation import Perturbation
from surrogates.data.screen import Screen
from surrogates.errors import DataError, UnknownNameError
from surrogates.models.base import ContextSurrogate, Fitted
from surrogates.testing import check_context_surrogate

SURROGATES = [ContextMean(), TwoFactor(), TwoWay()]


def _mean(view: Fitted, label: str) -> torch.Tensor:
    return view.predict(view.vocabulary.batch([Perturbation.parse(label)])).mean[0]


def _screen(cells: dict[tuple[str, str], list[float]]) -> Screen:
    return Screen.from_labels(
        torch.tensor([*cells.values()], dtype=torch.float64),
        [Perturbation.parse(label) for _, label in cells],
        ["x", "y"],
        contexts=[context for context, _ in cells],
    )


HAND = _screen({
    ("u", "A"): [1.0, 0.0], ("u", "B"): [0.0, 2.0], ("u", "B+C"): [5.0, 7.0],
    ("w", "A"): [3.0, 2.0], ("w", "C+D"): [9.0, 1.0],
})  # fmt: skip


@pytest.mark.parametrize("surrogate", SURROGATES, ids=repr)
def test_the_contract_is_kept(surrogate: ContextSurrogate) -> None:
    check_context_surrogate(surrogate, factor_screen(noise=0.3, without={(0, "A"), (2, "A+B"), (3, "E")}))
    check_context_surrogate(surrogate, factor_screen(contexts=1))
    check_context_surrogate(surrogate, factor_screen().rows([3]))  # one condition
    check_context_surrogate(surrogate, factor_screen(labels=("A+B", "C+D", "A+D")))  # nothing alone


def test_two_factor_by_hand() -> None:
    view = TwoFactor().fit(HAND, seed=0).in_context("u")
    assert _mean(view, "A").tolist() == [2, 1]
    assert _mean(view, "C+D").tolist() == [9, 1]  # measured in the other context only
    assert _mean(view, "A+B").tolist() == [2, 3]  # never measured: the sum of two measured parts
    torch.testing.assert_close(_mean(view, "A+C"), torch.tensor([16 / 4, 11 / 4]).double())  # the mean action
    assert _mean(view, "").tolist() == [0, 0]
    assert view.variance.tolist() == pytest.approx([2 / 5, 2 / 5])
    assert view.measured_alone.tolist() == [True, True, False, False]


def test_two_factor_predicts_in_a_context_never_seen() -> None:
    fitted = TwoFactor().fit(HAND, seed=0)
    assert torch.equal(_mean(fitted.in_context("never"), "A"), _mean(fitted.in_context("w"), "A"))


def test_context_mean_by_hand() -> None:
    fitted = ContextMean().fit(HAND, seed=0)
    assert _mean(fitted.in_context("u"), "A").tolist() == [2, 3]
    assert _mean(fitted.in_context("w"), "B+D").tolist() == [6, 1.5]
    assert _mean(fitted.in_context("w"), "").tolist() == [0, 0]


@pytest.mark.parametrize("surrogate", [ContextMean(), TwoWay()], ids=repr)
def test_a_context_never_seen_is_refused_by_name(surrogate: ContextSurrogate) -> None:
    fitted = surrogate.fit(factor_screen(), seed=0)
    with pytest.raises(UnknownNameError, match=r"unknown context 'c9': did you mean 'c3'"):
        fitted.in_context("c9")


@settings(max_examples=10)
@given(seed=st.integers(0, 99), missing=st.sets(st.tuples(st.integers(1, 3), st.sampled_from("ABCDEF"))))
def test_two_way_recovers_planted_terms_with_cells_missing(seed: int, missing: set[tuple[int, str]]) -> None:
    # The first context has every action, so that the layout is connected.
    labels = list("ABCDEF")
    alpha, beta = normal(4, 2, seed=seed), normal(6, 2, seed=seed + 1)
    cells = [(c, a) for c in range(4) for a in range(6) if (c, labels[a]) not in missing]
    screen = Screen.from_labels(
        torch.stack([alpha[c] + beta[a] for c, a in cells]),
        [Perturbation.parse(labels[a]) for _, a in cells],
        ["x", "y"],
        contexts=[f"c{c}" for c, _ in cells],
    )
    fitted = TwoWay().fit(screen, seed=0)
    torch.testing.assert_close(fitted.shifts.sum(0), torch.zeros(2).double())
    for context in fitted.contexts:
        number = int(context[1:])
        for a, label in enumerate(labels):
            torch.testing.assert_close(
                _mean(fitted.in_context(context), label), alpha[number] + beta[a], atol=1e-8, rtol=0
            )


def test_two_way_equals_the_least_squares_solution() -> None:
    screen = factor_screen(noise=1.0, without={(0, "A"), (1, "B"), (1, "C"), (3, "A+B")})
    fitted = TwoWay().fit(screen, seed=0)
    actions = sorted(set(screen.labels))
    design = torch.zeros(len(screen), 4 + len(actions), dtype=torch.float64)
    for row, (context, label) in enumerate(zip(screen.contexts, screen.labels, strict=True)):
        design[row, int(context[1:])] = 1
        design[row, 4 + actions.index(label)] = 1
    expected = design @ torch.linalg.lstsq(design, screen.effects, driver="gelsd").solution
    actual = torch.stack([
        _mean(fitted.in_context(context), label)
        for context, label in zip(screen.contexts, screen.labels, strict=True)
    ])  # fmt: skip
    torch.testing.assert_close(actual, expected)


def test_contexts_without_a_common_action_have_no_shift() -> None:
    screen = _screen({("u", "A"): [1.0, 0.0], ("u", "B"): [3.0, 1.0], ("w", "C"): [5.0, 2.0]})
    fitted = TwoWay().fit(screen, seed=0)
    torch.testing.assert_close(fitted.shifts, torch.zeros(2, 2).double())
    torch.testing.assert_close(_mean(fitted.in_context("w"), "A"), effect_of(screen, "u", "A"))


def test_no_rows_are_refused() -> None:
    for surrogate in SURROGATES:
        with pytest.raises(DataError, match="no conditions"):
            surrogate.fit(HAND.rows([]), seed=0)
