from dataclasses import replace

import pytest
import torch
from strategies.contexts import effect_of, factor_screen
from strategies.screens import normal

from surrogates.contrib.contexts import large_perturbation
from surrogates.contrib.contexts.large_perturbation import LargePerturbation, Member
from surrogates.contrib.contexts.two_way import TwoFactor
from surrogates.data.perturbation import Perturbation
from surrogates.data.vocabulary import PerturbationBatch, Vocabulary
from surrogates.errors import DataError, UnknownNameError
from surrogates.models.training import Schedule
from surrogates.testing import check_context_surrogate

QUICK = LargePerturbation(
    width=6, hidden=(16,), dropout=0.1, members=2, schedule=Schedule(epochs=4, batch=64, rate=1e-2)
)
LONG = LargePerturbation(
    width=8, hidden=(64,), dropout=0.0, members=2, schedule=Schedule(epochs=60, batch=64, rate=1e-2, patience=60)
)


def _batch(vocabulary: Vocabulary, *labels: str) -> PerturbationBatch:
    return vocabulary.batch([Perturbation.parse(label) for label in labels])


def test_the_contract_is_kept() -> None:
    check_context_surrogate(QUICK, factor_screen(noise=0.3, without={(0, "A"), (2, "A+B")}))
    check_context_surrogate(QUICK, factor_screen(contexts=1))
    check_context_surrogate(QUICK, factor_screen().rows([5]))  # one condition
    screen = factor_screen()
    check_context_surrogate(QUICK, replace(screen, effects=0 * screen.effects))


def test_rows_equal_cells(monkeypatch: pytest.MonkeyPatch) -> None:
    # The fast path computes the first layer by parts, in blocks; the slow one stacks the three embeddings.
    vocabulary = factor_screen().vocabulary
    batch = _batch(vocabulary, "A", "B+C", "D+E+F", "", "F")
    member = Member.random((6, 5, 3), 4, (7, 3), seed=0).doubled()
    monkeypatch.setattr(large_perturbation, "_UNITS_AT_ONCE", 2 * 5 * 7)
    rows = member.of_rows(batch, 2)
    for readout in range(5):
        at = torch.full((5,), readout)
        torch.testing.assert_close(member.of_cells(batch, torch.full((5,), 2), at), rows[:, readout])


def test_a_perturbation_is_the_mean_of_its_parts() -> None:
    member = Member.random((6, 2, 1), 4, (7,), seed=0).doubled()
    by_hand = torch.cat([member.entries[[1, 2]].mean(0), member.readouts[1], member.contexts[0]])
    batch = _batch(factor_screen().vocabulary, "B+C")
    expected = member.layers(by_hand[None])[0]
    torch.testing.assert_close(member.of_cells(batch, torch.tensor([0]), torch.tensor([1])), expected)


def test_cells_never_measured_are_predicted_better_than_by_the_mean_over_contexts() -> None:
    # Effects c_c * a_a on each readout: a context scales every action, which the two-factor model cannot say.
    labels = [*"ABCDEFGHIJ"]
    missing = {(number % 4, label) for number, label in enumerate(labels)}
    full = factor_screen(labels=labels, rank=1, readouts=8)
    train = factor_screen(labels=labels, rank=1, readouts=8, without=missing)

    def error(surrogate: LargePerturbation | TwoFactor, seed: int) -> float:
        fitted = surrogate.fit(train, seed=seed)
        cells = [(fitted.in_context(f"c{number}"), f"c{number}", label) for number, label in missing]
        return sum(
            float(
                (model.predict(_batch(train.vocabulary, label)).mean[0] - effect_of(full, context, label))
                .square()
                .sum()
            )
            for model, context, label in cells
        )

    assert sum(error(LONG, seed) for seed in range(3)) < 0.8 * 3 * error(TwoFactor(), 0)  # it hangs on the seed


def test_an_entry_without_training_falls_back_visibly() -> None:
    screen = factor_screen(labels=("A", "B", "C", "D", "C+D"))
    train = screen.rows([row for row, label in enumerate(screen.labels) if "D" not in label])
    view = QUICK.fit(train, seed=0).in_context("c1")
    batch = _batch(screen.vocabulary, "D", "A+D", "A+B", "")
    posterior = view.predict(batch)
    assert view.falls_back(batch).tolist() == [True, True, False, False]
    assert posterior.group.tolist() == [1, 1, 0, 0]
    expected = TwoFactor().fit(train, seed=0).in_context("c1").predict(batch)
    assert torch.equal(posterior.mean[:2], expected.mean[:2])
    assert torch.equal(posterior.variance[0], expected.variance[0])


def test_contexts_differ_and_seeds_differ() -> None:
    screen = factor_screen()
    fitted = QUICK.fit(screen, seed=0)
    one, other = (fitted.in_context(context).predict(screen.batch).mean for context in ("c0", "c1"))
    assert not torch.allclose(one, other)
    again = QUICK.fit(screen, seed=1).in_context("c0").predict(screen.batch).mean
    assert not torch.allclose(one, again)


def test_the_unit_of_the_effects_does_not_matter() -> None:
    screen = factor_screen()
    views = []
    for factor in (1.0, 1024.0):
        scaled = replace(screen, effects=screen.effects * factor)
        views.append(QUICK.fit(scaled, seed=0).in_context("c0").predict(screen.batch))
    torch.testing.assert_close(views[1].mean, 1024 * views[0].mean)


def test_members_draw_apart_and_leave_the_global_generator_alone() -> None:
    before = torch.random.get_rng_state()
    one, other = QUICK.fit(factor_screen(), seed=0).view.members
    assert not torch.equal(one.entries, other.entries)
    assert torch.equal(torch.random.get_rng_state(), before)
    assert one.entries.dtype == torch.float64
    assert not one.layers.weights[0].requires_grad


def test_bad_input_is_refused() -> None:
    with pytest.raises(UnknownNameError, match="unknown context 'c9': did you mean"):
        QUICK.fit(factor_screen(), seed=0).in_context("c9")
    with pytest.raises(DataError, match="nothing to train"):
        LargePerturbation(members=0)
    with pytest.raises(DataError, match="no conditions"):
        QUICK.fit(factor_screen().rows([]), seed=0)


def test_the_variance_is_that_of_conditions_that_stopped_the_training() -> None:
    screen = factor_screen(noise=1.0)
    noisy = replace(screen, effects=normal(*screen.effects.shape, seed=3))
    view = LONG.fit(noisy, seed=0).in_context("c0")
    # Of pure noise nothing can be predicted, however well the training data are learnt.
    assert float(view.variance.mean()) > 0.4
