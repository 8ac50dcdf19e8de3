from functools import cache

import pytest
import torch
from strategies.screens import normal, pairs_of, planted_screen

from benchmarks.forward.worlds import ComplexFamily
from surrogates.data.novelty import novelty_code, splits_over_targets
from surrogates.data.screen import Screen
from surrogates.models.base import Fitted
from surrogates.models.baselines import Additive, FittedMean, MatchingMean, NoChange, ScaledAdditive
from surrogates.models.interaction import Interaction
from surrogates.models.wrappers.automatic import with_unseen
from surrogates.models.wrappers.calibrated import Calibrated, FittedCalibrated
from surrogates.models.wrappers.stacked import FittedStacked, convex_weights

GENES, PAIRS = 9, pairs_of(9, 24)
MEMBERS = (NoChange(), ScaledAdditive(), MatchingMean())
HALF_SEEN = 33


@cache
def screen() -> Screen:
    return planted_screen(alone=range(GENES), together=PAIRS, readouts=6, bend=0.3)


@cache
def whole() -> FittedCalibrated:
    return with_unseen(Calibrated(Additive()).fit(screen(), seed=0), MEMBERS, screen(), seed=0)


def stack_of(fitted: FittedCalibrated) -> FittedStacked:
    assert isinstance(fitted.base, FittedStacked)
    return fitted.base


def held_out_errors(of: Screen, *, without: int | None = None) -> tuple[torch.Tensor, torch.Tensor]:
    """By a loop over targets: errors of the members on half-seen doubles, and the held-out gene of each."""
    errors, genes = [], []
    for split in splits_over_targets(of, folds=10, seed=0):
        training, batch = of.rows(split.train), of.batch.rows(split.test)
        (hidden,) = torch.nonzero((training.single_rows < 0) & (of.single_rows >= 0)).flatten().tolist()
        if hidden == without:
            continue
        for row, parts in zip(split.test.tolist(), batch.genes.tolist(), strict=True):
            if -1 in parts or without in parts:
                continue
            one = of.batch.rows(torch.tensor([row]))
            fits = [each.fit(training, seed=0) for each in MEMBERS]
            errors.append(torch.stack([of.effects[row] - fit.predict(one).mean[0] for fit in fits]))
            genes.append(hidden)
    return torch.stack(errors, 1), torch.tensor(genes)


@pytest.mark.parametrize("without", [None, 2])
def test_weights_minimise_the_error_of_targets_that_all_count_the_same(without: int | None) -> None:
    errors, genes = held_out_errors(screen(), without=without)
    counts = torch.bincount(genes)[genes]
    expected = convex_weights((errors / counts[:, None].sqrt()).flatten(1))
    if without is None:
        found = stack_of(whole()).weights(HALF_SEEN).weights[1:]
    else:  # a cross-fit learns from nothing that contains the target which it holds out
        (view,) = (fold.fitted for fold in whole().cross[5:] if not bool(fold.fitted.measured_alone[without]))
        assert isinstance(view, FittedCalibrated)
        found = stack_of(view).weights(HALF_SEEN).weights
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6)


def test_laws_and_evidence_are_of_what_their_fits_and_weights_had_not_seen() -> None:
    evidence = whole().evidence[HALF_SEEN]
    errors, _ = held_out_errors(screen())
    assert len(evidence) == errors.shape[1] == 2 * len(PAIRS) == whole().laws[HALF_SEEN].support
    torch.testing.assert_close(evidence.measured, errors[0])
    weights = stack_of(whole()).weights(HALF_SEEN).weights[1:]
    in_sample = torch.tensordot(weights, errors, 1)
    assert float(evidence.residuals.square().sum()) > float(in_sample.square().sum())
    for fold in whole().cross[5:]:
        view = fold.fitted
        assert isinstance(view, FittedCalibrated)
        hidden = torch.nonzero(~view.measured_alone).flatten().tolist()
        for code, seen in view.evidence.items():
            assert view.laws[code].support == len(seen)
            assert not bool(torch.isin(seen.batch.genes, torch.tensor(hidden)).any())


def test_factors_of_errors_are_fewer_than_targets_and_kept_if_they_tell() -> None:
    pairs = pairs_of(16, 60)
    plain = planted_screen(alone=range(16), together=pairs, readouts=40)
    along = normal(1, 40, seed=5)
    singles = normal(16, 1, seed=6) @ along + 0.1 * normal(16, 40, seed=7)
    doubles = torch.stack([singles[[i, j]].sum(0) for i, j in pairs])
    for common, rank in ((True, 4), (False, 0)):
        effects = torch.cat([singles, doubles]) if common else normal(76, 40, seed=8)
        of = Screen.from_labels(
            effects, [plain.vocabulary.perturbation(genes) for genes in plain.batch.genes], plain.readouts
        )
        fitted = with_unseen(Calibrated(Additive()).fit(of, seed=0), MEMBERS, of, seed=0)
        for code in (16, HALF_SEEN):
            assert fitted.laws[code].covariance.loadings.shape[1] == rank
            assert fitted.laws[code].coefficient_variance == 0
            assert not bool(fitted.laws[code].offset.any())


def test_a_strong_member_takes_the_place_of_weak_ones() -> None:
    """Genes of one complex, of which other doubles tell: weak members alone are far from the best."""
    weak, strong = MEMBERS, (*MEMBERS, Additive(), Interaction(components=10, leading=4))
    family = ComplexFamily(readouts=40, genes=16, doubles=50, scatter=4.0, noise=0.3)
    error = torch.zeros(3, dtype=torch.float64)  # of weak members, of all, of the best alone
    of = family.draw(seed=0)
    for split in splits_over_targets(of, folds=4, seed=0)[:3]:
        training = of.rows(split.train)
        batch, effects = of.batch.rows(split.test), of.effects[split.test]
        half = novelty_code(batch, training.single_rows >= 0) == HALF_SEEN
        alone = training.rows(torch.nonzero(training.batch.order == 1).flatten())
        plain = Calibrated(Additive()).fit(alone, seed=0)
        fits: list[Fitted] = [with_unseen(plain, each, training, seed=0) for each in (weak, strong)]
        for number, fit in enumerate([*fits, Interaction(components=10, leading=4).fit(training, seed=0)]):
            error[number] += (effects - fit.predict(batch).mean)[half].square().sum()
    assert float(error[0]) > 1.2 * float(error[2])
    assert float(error[1]) < 1.06 * float(error[2])


def test_fits_at_hand_are_members_and_are_not_fitted_again(monkeypatch: pytest.MonkeyPatch) -> None:
    plain = Calibrated(ScaledAdditive()).fit(screen(), seed=0)
    at_hand = (plain.base, MatchingMean().fit(screen(), seed=0))
    monkeypatch.setattr(MatchingMean, "fit", counting := _Counting(MatchingMean.fit))
    fitted = with_unseen(plain, MEMBERS, screen(), seed=0, at_hand=at_hand)
    assert counting.calls == GENES  # once without each target
    members = stack_of(fitted).members
    assert members[0] is plain.base
    assert members[2] is at_hand[1]
    assert len(members) == 3
    for one, other in zip(stack_of(fitted).unseen, stack_of(whole()).unseen, strict=True):
        # The model of seen parts is a member here, and stands apart there.
        found = torch.stack([one.weights[1], one.weights[0], one.weights[2]])
        torch.testing.assert_close(found, other.weights[1:])


def test_members_without_weight_are_not_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = screen().batch.rows(torch.arange(GENES, GENES + 5))
    expected = whole().predict(seen).mean
    monkeypatch.setattr(FittedMean, "predict", counting := _Counting(FittedMean.predict))
    assert torch.equal(whole().predict(seen).mean, expected)
    assert counting.calls == 0


class _Counting:
    def __init__(self, function: object) -> None:
        self.function, self.calls = function, 0

    def __get__(self, instance: object, owner: type) -> object:
        def call(*positional: object, **named: object) -> object:
            self.calls += 1
            return self.function(instance, *positional, **named)  # type: ignore[operator]

        return call
