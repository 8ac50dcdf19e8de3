from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from strategies.screens import gene, label, normal, pairs_of, plans, planted_screen

from surrogates.data.catalogue import open_dataset
from surrogates.data.novelty import splits_over_doubles
from surrogates.data.perturbation import Perturbation
from surrogates.data.screen import Screen
from surrogates.errors import DataError
from surrogates.models.base import pair_factored
from surrogates.models.baselines import FittedScaledAdditive, ScaledAdditive
from surrogates.models.directions import EffectProducts, ShrunkEffects, effect_components
from surrogates.models.interaction import FittedInteraction, Interaction
from surrogates.models.wrappers.denoised import Denoised, fit_parts
from surrogates.models.wrappers.shrinkage import JudgingDoubles, Shrinkage
from surrogates.testing import check_surrogate


def noisy_singles(noise: float, *, genes: int = 24, readouts: int = 60, own: float = 0.0) -> Screen:
    """Singles in three directions with noise, one large own effect each, and noiseless doubles: their sums."""
    alone = normal(genes, 3, seed=0) @ normal(3, readouts, seed=1)
    alone[range(genes), range(genes)] += own
    pairs = pairs_of(genes, 60)
    doubles = torch.stack([alone[[i, j]].sum(0) for i, j in pairs])
    effects = torch.cat([alone + noise * normal(genes, readouts, seed=2), doubles])
    labels = [*(gene(each) for each in range(genes)), *(label(pair) for pair in pairs)]
    return Screen.from_labels(
        effects, [Perturbation.parse(each) for each in labels], [f"r{each}" for each in range(readouts)]
    )


@settings(max_examples=5)
@given(plan=plans(fewest_doubles=8))
def test_contract(plan: dict[str, object]) -> None:
    check_surrogate(Denoised(ScaledAdditive(), components=(2, 3)), planted_screen(**plan))  # type: ignore[arg-type]


def test_noise_is_found_and_taken_off() -> None:
    screen, truth = noisy_singles(2.0), noisy_singles(0.0)
    shrinkage = Denoised(ScaledAdditive(), components=(3, 10)).shrinkage(screen, seed=0)
    assert shrinkage.components == 3
    assert shrinkage.noise > 0
    before = (screen.effects - truth.effects)[:24].square().mean()
    after = (shrinkage.apply(screen).effects - truth.effects)[:24].square().mean()
    assert after < 0.4 * before


def test_noiseless_effects_of_their_own_are_left_alone() -> None:
    screen = noisy_singles(0.0, own=6.0)
    assert Denoised(ScaledAdditive(), components=(3,)).shrinkage(screen, seed=0) == Shrinkage()


def test_what_stands_out_is_kept() -> None:
    screen, truth = noisy_singles(0.5, own=10.0), noisy_singles(0.0, own=10.0)
    shrunk = Shrinkage(3, 3.0).apply(screen).effects
    on_own = shrunk[range(24), range(24)] / truth.effects[range(24), range(24)]
    assert 0.8 < float(on_own.median()) < 1.1


def test_the_estimate_is_the_one_of_the_equation() -> None:
    screen = noisy_singles(1.0)
    shrunk = Shrinkage(4, 2.5).apply(screen).effects
    directions = effect_components(screen.effects, 4)
    common = screen.effects @ directions.T @ directions
    rest = (screen.effects - common).square()
    for row, column in ((0, 0), (7, 31), (23, 59)):
        expected = rest[row].mean() * rest[:, column].mean() / rest.mean()
        factor = rest[row, column] / (rest[row, column] + 2.5 * expected)
        wanted = common[row, column] + factor * (screen.effects - common)[row, column]
        assert float(shrunk[row, column]) == pytest.approx(float(wanted))
    assert torch.equal(shrunk[24:], screen.effects[24:])


def shrunk_by_hand(screen: Screen, choice: Shrinkage) -> Screen:
    """The equation, over all singles and readouts at once."""
    if choice.noise == 0:
        return screen
    directions = effect_components(screen.effects, choice.components)
    rest = screen.effects - screen.effects @ directions.T @ directions
    power, single = rest.square(), screen.batch.order == 1
    expected = power.mean(1, keepdim=True) * power.mean(0) / power.mean()
    left = rest * power / (power + choice.noise * expected)
    return replace(screen, effects=torch.where(single[:, None], screen.effects - rest + left, screen.effects))


@settings(max_examples=20)
@given(
    noise=st.floats(0.01, 3.0),
    sizes=st.lists(st.integers(0, 12), min_size=1, max_size=3),
    readouts=st.sampled_from([14, 60, 200]),
    extra=st.booleans(),
)
def test_choices_are_judged_by_the_screens_that_they_make(
    *, noise: float, sizes: list[int], readouts: int, extra: bool
) -> None:
    screen = noisy_singles(noise, genes=14, readouts=readouts, own=0.5)
    if extra:  # a triple, and a double with a part that was not measured alone, have no say
        effects = torch.cat([screen.effects[1:], normal(1, readouts, seed=5)])
        done = [
            *map(screen.perturbation, range(1, len(screen))),
            Perturbation.parse("+".join(map(gene, (1, 2, 3)))),
        ]
        screen = Screen.from_labels(effects, done, screen.readouts)
    choices = [Shrinkage(), *(Shrinkage(size, strength) for size in sizes for strength in (0.5, 6.0))]
    splits = splits_over_doubles(screen, folds=5, seed=0)
    products, doubles = EffectProducts.of(screen.effects), JudgingDoubles.of(screen)
    for split in splits[:2]:
        training, batch = screen.rows(split.train), screen.batch.rows(split.test)
        found = doubles.errors(products.rows(split.train), split.test, choices)
        for choice, error in zip(choices, found.tolist(), strict=True):
            fitted = ScaledAdditive().fit(shrunk_by_hand(training, choice), seed=0)
            wrong = fitted.predict(batch).mean - screen.effects[split.test]
            assert error == pytest.approx(float(wrong.square().sum()), rel=1e-6)
            torch.testing.assert_close(
                choice.apply(training, products.rows(split.train)).effects,
                shrunk_by_hand(training, choice).effects,
            )


def test_the_parts_of_a_screen_are_fitted_as_screens_of_their_own() -> None:
    screen = noisy_singles(1.0)
    parts = [torch.arange(len(screen)), torch.arange(70), torch.cat([torch.arange(24), torch.arange(40, 84)])]
    models = [Denoised(base, components=(3, 10)) for base in (ScaledAdditive(), Interaction())]
    for rows, fits in zip(parts, fit_parts(models, screen, parts, seed=1), strict=True):
        for model, fitted in zip(models, fits, strict=True):
            additive = fitted.additive if isinstance(fitted, FittedInteraction) else fitted
            assert isinstance(additive, FittedScaledAdditive)
            assert isinstance(additive.singles, ShrunkEffects)  # none has a table of its own
            alone = model.fit(screen.rows(rows), seed=1)
            one, other = fitted.predict(screen.batch), alone.predict(screen.batch)
            torch.testing.assert_close((one.mean, one.scale), (other.mean, other.scale), rtol=1e-11, atol=1e-11)
            one, other = pair_factored(fitted), pair_factored(alone)
            assert one is not None
            assert other is not None
            torch.testing.assert_close(one.pair_factors().main, other.pair_factors().main, rtol=1e-11, atol=1e-11)


def test_a_part_with_entries_that_were_not_measured_alone_keeps_a_table() -> None:
    screen = noisy_singles(1.0)
    screen = screen.rows(range(1, len(screen)))
    model = Denoised(ScaledAdditive(), components=(3, 10))
    rows = torch.arange(70)
    (fitted,) = next(fit_parts([model], screen, [rows], seed=1))
    assert isinstance(fitted, FittedScaledAdditive)
    assert isinstance(fitted.singles, torch.Tensor)
    torch.testing.assert_close(
        fitted.predict(screen.batch).mean, model.fit(screen.rows(rows), seed=1).predict(screen.batch).mean
    )


def test_few_doubles_or_readouts_leave_everything_as_measured() -> None:
    few = planted_screen(alone=range(8), together=pairs_of(8, 7))
    narrow = planted_screen(alone=range(8), together=pairs_of(8, 20), readouts=3)
    for screen in (few, narrow):
        assert Denoised(ScaledAdditive(), components=(3,)).shrinkage(screen, seed=0) == Shrinkage()
        assert Shrinkage().apply(screen) is screen


@pytest.mark.parametrize("wrong", [{"components": -1}, {"noise": -1.0}, {"noise": float("nan")}])
def test_a_strength_below_zero_is_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(DataError, match="does not shrink"):
        Shrinkage(**wrong)  # type: ignore[arg-type]


@pytest.mark.real_data
def test_held_out_doubles_of_norman2019_gain(real_data: Callable[[str], Path]) -> None:
    real_data("norman2019_expr")
    screen = open_dataset("norman2019_expr")
    split = splits_over_doubles(screen, folds=5, seed=0)[0]
    training, batch, truth = screen.rows(split.train), screen.batch.rows(split.test), screen.effects[split.test]
    error = {
        model: float((model.fit(training, seed=0).predict(batch).mean - truth).square().sum())
        for model in (ScaledAdditive(), Denoised(ScaledAdditive()))
    }
    assert error[Denoised(ScaledAdditive())] < 0.97 * error[ScaledAdditive()]
