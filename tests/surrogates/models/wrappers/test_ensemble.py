import math
from collections.abc import Iterator
from concurrent.futures import Executor, ProcessPoolExecutor, ThreadPoolExecutor
from dataclasses import dataclass, replace
from multiprocessing import get_context

import pytest
import torch
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from strategies.screens import normal, pairs_of, plans, planted_screen

from surrogates.data.screen import Screen
from surrogates.errors import DataError
from surrogates.models.base import Surrogate, pair_factored
from surrogates.models.baselines import Additive, FittedScaledAdditive, ScaledAdditive
from surrogates.models.interaction import Interaction
from surrogates.models.wrappers.calibrated import Calibrated
from surrogates.models.wrappers.ensemble import Ensemble, FittedEnsemble, Resampling
from surrogates.testing import check_surrogate, probe_batch
from surrogates.uncertainty.error_model import FactorCovariance
from surrogates.uncertainty.posterior import GaussianPosterior, Mixture, isotropic

SCREEN = planted_screen(alone=range(8), together=pairs_of(8, 20), bend=0.5)


@dataclass(frozen=True)
class Shaken:
    """A scaled additive model whose seed moves its prediction."""

    def fit(self, screen: Screen, *, seed: int) -> FittedScaledAdditive:
        fitted = ScaledAdditive().fit(screen, seed=seed)
        return replace(fitted, singles=fitted.singles + 0.1 * normal(*fitted.singles.shape, seed=seed % 2**31))


@dataclass(frozen=True)
class Noted:
    """A model that remembers what it was fitted to, as its singles: one for each row that it saw."""

    def fit(self, screen: Screen, *, seed: int) -> FittedScaledAdditive:
        return replace(Additive().fit(screen, seed=seed), readouts=screen.labels)


def _labels(ensemble: Ensemble, screen: Screen = SCREEN, seed: int = 0) -> list[tuple[str, ...]]:
    return [member.readouts for member in ensemble.fit(screen, seed=seed).members]


# --- the contract ---------------------------------------------------------------------------------------------


@settings(max_examples=5, phases=[Phase.explicit, Phase.generate])
@given(
    plan=plans(fewest_doubles=1),
    resample=st.sampled_from(["combinations", "perturbations", "none"]),
    base=st.sampled_from([ScaledAdditive(), Interaction(), Shaken()]),
)
def test_it_keeps_the_contract(plan: dict[str, object], resample: Resampling, base: Surrogate) -> None:
    check_surrogate(Ensemble(base, members=3, resample=resample), planted_screen(**plan))  # type: ignore[arg-type]


def test_it_can_be_calibrated() -> None:
    fitted = Calibrated(Ensemble(Interaction(), members=3), folds=3).fit(SCREEN, seed=0)
    assert fitted.factorises
    assert fitted.held_out.ratio < 1


# --- members --------------------------------------------------------------------------------------------------


def test_members_see_all_singles_and_other_parts_of_the_combinations() -> None:
    parts = _labels(Ensemble(Noted(), members=6, fraction=0.8))
    singles = {label for label in SCREEN.labels if "+" not in label}
    for labels in parts:
        assert singles <= set(labels)
        assert len(labels) == len(set(labels)) == 8 + 16
    assert len(set(parts)) == 6


def test_members_see_other_parts_of_all_perturbations() -> None:
    parts = _labels(Ensemble(Noted(), members=6, resample="perturbations", fraction=0.5))
    assert all(len(labels) == 14 for labels in parts)
    assert len(set(parts)) == 6
    assert any(sum("+" not in label for label in labels) < 8 for labels in parts)


def test_members_see_everything_when_nothing_is_resampled() -> None:
    whole = Ensemble(Shaken(), members=3, resample="none").fit(SCREEN, seed=0)
    assert set(_labels(Ensemble(Noted(), members=3, resample="none"))) == {SCREEN.in_canonical_order().labels}
    assert float(whole.predict(probe_batch(SCREEN)).epistemic.max()) > 0


def test_every_perturbation_is_left_out_as_often_as_any_other() -> None:
    members = 150
    parts = _labels(Ensemble(Noted(), members=members, fraction=0.75))
    counts = [sum(label in labels for labels in parts) for label in SCREEN.labels if "+" in label]
    spread = math.sqrt(members * 0.75 * 0.25)
    assert all(abs(count - 0.75 * members) < 5 * spread for count in counts)


def test_rows_of_one_perturbation_stay_together() -> None:
    twice = SCREEN.rows([*range(len(SCREEN)), *range(len(SCREEN))])
    for labels in _labels(Ensemble(Noted(), members=4, resample="perturbations", fraction=0.5), twice):
        assert all(labels.count(label) == 2 for label in labels)


def test_one_member_that_sees_everything_is_the_surrogate() -> None:
    fitted = Ensemble(Interaction(), members=1, fraction=1.0).fit(SCREEN, seed=0)
    alone = Interaction().fit(SCREEN, seed=0)
    batch = probe_batch(SCREEN)
    torch.testing.assert_close(fitted.predict(batch).mean, alone.predict(batch).mean, rtol=1e-9, atol=1e-9)
    assert float(fitted.predict(batch).epistemic.max()) == 0


def test_seeds_give_other_ensembles() -> None:
    assert _labels(Ensemble(Noted())) != _labels(Ensemble(Noted()), seed=1)


@pytest.fixture(scope="module")
def executors() -> Iterator[list[Executor]]:
    with (
        ThreadPoolExecutor(1) as one,
        ThreadPoolExecutor(3) as three,
        ProcessPoolExecutor(1, mp_context=get_context("spawn")) as processes,
    ):
        yield [one, three, processes]


def test_the_result_is_the_same_for_any_executor(executors: list[Executor]) -> None:
    ensemble = Ensemble(Interaction(components=10, leading=3), members=5)
    batch = probe_batch(SCREEN)
    expected = ensemble.fit(SCREEN, seed=0).predict(batch)
    for executor in executors:
        posterior = ensemble.fit(SCREEN, seed=0, executor=executor).predict(batch)
        torch.testing.assert_close(posterior.mean, expected.mean, rtol=1e-9, atol=1e-9)
        torch.testing.assert_close(posterior.variance, expected.variance, rtol=1e-9, atol=1e-9)


# --- pairs ----------------------------------------------------------------------------------------------------


def test_pair_factors_are_means_of_the_members() -> None:
    fitted = Ensemble(Interaction(), members=4).fit(SCREEN, seed=0)
    factored = pair_factored(fitted)
    assert factored is not None
    factors, scale = factored.pair_factors(), factored.pair_scale()
    i, j = torch.combinations(torch.arange(8)).T
    batch = fitted.vocabulary.dosed(torch.stack([i, j], 1))
    posterior = fitted.predict(batch)
    mean = factors.main[i] + factors.main[j] + (factors.scores[i] * factors.scores[j]) @ factors.basis
    torch.testing.assert_close(mean, posterior.mean)
    spread = scale.side[i] + scale.side[j] + (scale.left[i] * scale.right[j]).sum(1)
    torch.testing.assert_close(spread, posterior.scale)
    torch.testing.assert_close(
        posterior.scale, torch.stack([each.predict(batch).scale for each in fitted.members]).mean(0)
    )


def test_members_that_left_singles_out_do_not_factorise() -> None:
    fitted = Ensemble(ScaledAdditive(), members=3, resample="perturbations", fraction=0.5).fit(SCREEN, seed=0)
    assert bool(fitted.measured_alone.all())
    assert not all(bool(member.measured_alone.all()) for member in fitted.members)
    assert pair_factored(fitted) is None


@dataclass(frozen=True)
class Opaque:
    """A fitted model without factors."""

    honest: FittedScaledAdditive

    def __getattr__(self, name: str) -> object:
        if "fact" in name or "pair" in name or name.startswith("__"):
            raise AttributeError(name)
        return getattr(self.honest, name)


def test_an_ensemble_with_a_member_without_factors_has_none() -> None:
    honest = ScaledAdditive().fit(SCREEN, seed=0)
    fitted = FittedEnsemble((honest, Opaque(honest)), honest.measured_alone)  # type: ignore[arg-type]
    assert pair_factored(fitted) is None
    with pytest.raises(TypeError, match="stream the ensemble instead"):
        fitted.pair_factors()


# --- bad settings ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("values", "match"),
    [
        ({"members": 0}, "members is 0"),
        ({"fraction": 0.0}, r"fraction is 0\.0"),
        ({"fraction": 1.5}, r"fraction is 1\.5"),
        ({"fraction": math.nan}, "fraction is nan"),
    ],
)
def test_bad_settings_are_refused(values: dict[str, float], match: str) -> None:
    with pytest.raises(DataError, match=match):
        Ensemble(Additive(), **values)  # type: ignore[arg-type]


def test_an_unknown_resampling_is_refused() -> None:
    ensemble = Ensemble(Additive())
    object.__setattr__(ensemble, "resample", "singles")  # past the type checks of the tests
    with pytest.raises(DataError, match="resample is 'singles'; take one of combinations, perturbations, none"):
        ensemble.__post_init__()


def test_several_contexts_are_refused() -> None:
    contexts = tuple("AB"[row % 2] for row in range(len(SCREEN)))
    with pytest.raises(DataError, match="2 contexts"):
        Ensemble(Additive()).fit(replace(SCREEN, contexts=contexts), seed=0)


# --- the mixture ----------------------------------------------------------------------------------------------


def _member(seed: int, *, rank: int = 0, b: int = 3, g: int = 4) -> GaussianPosterior:
    covariance = FactorCovariance(normal(g, seed=seed).square() + 0.1, normal(g, rank, seed=seed + 1))
    return GaussianPosterior(
        normal(b, g, seed=seed + 2),
        normal(b, seed=seed + 3).exp(),
        (covariance,),
        torch.zeros(b, dtype=torch.int64),
    )


def test_moments_are_those_of_draws() -> None:
    mixture = Mixture((_member(0, rank=1), _member(10, rank=2), _member(20)))
    draws = mixture.sample(60_000, seed=0)
    spread = mixture.variance.sqrt()
    assert float(((draws.mean(0) - mixture.mean) / spread).abs().max()) < 5 / math.sqrt(60_000)
    torch.testing.assert_close(draws.var(0), mixture.variance, rtol=0.05, atol=0)
    torch.testing.assert_close(mixture.variance, mixture.epistemic + mixture.aleatoric)


def test_the_factor_is_the_low_rank_part_of_the_covariance() -> None:
    members = (_member(0, rank=1), _member(10, rank=2), _member(20))
    mixture = Mixture(members)
    draws = mixture.sample(200_000, seed=1)
    assert mixture.factor.shape == (3, 4, 3 + 1 + 2 + 0)
    for row in range(3):
        diagonal = torch.stack([each.scale[row] * each.covariances[0].diagonal for each in members]).mean(0)
        covariance = mixture.factor[row] @ mixture.factor[row].T + torch.diag(diagonal)
        torch.testing.assert_close(covariance.diagonal(), mixture.variance[row])
        sampled = torch.cov(draws[:, row].T)
        unit = covariance.diagonal().sqrt()
        assert float(((sampled - covariance) / unit / unit[:, None]).abs().max()) < 0.03


def test_a_draw_is_from_one_member_for_all_perturbations() -> None:
    far = [
        isotropic(torch.full((2, 1), float(center)).double(), torch.full((1,), 1e-6).double()) for center in (0, 9)
    ]
    draws = Mixture(tuple(far)).sample(200, seed=0).squeeze(2)
    high = draws > 4.5
    assert torch.equal(high[:, 0], high[:, 1])
    assert 60 < int(high[:, 0].sum()) < 140


def test_bounds_are_quantiles_of_the_mixture() -> None:
    mixture = Mixture((_member(0), _member(10), _member(20)))
    bounds = mixture.interval(0.8)
    for bound, probability in ((bounds.lower, 0.1), (bounds.upper, 0.9)):
        below = [torch.special.ndtr((bound - each.mean) / each.variance.sqrt()) for each in mixture.members]
        torch.testing.assert_close(torch.stack(below).mean(0), torch.full_like(bound, probability))


@given(copies=st.integers(1, 5), level=st.floats(0.01, 0.99))
def test_copies_of_one_member_are_that_member(copies: int, level: float) -> None:
    one = _member(0, rank=2)
    mixture = Mixture((one,) * copies)
    torch.testing.assert_close(mixture.mean, one.mean)
    torch.testing.assert_close(mixture.variance, one.variance)
    torch.testing.assert_close(mixture.scale, one.scale)
    torch.testing.assert_close(mixture.interval(level).lower, one.interval(level).lower)
    torch.testing.assert_close(mixture.interval(level).upper, one.interval(level).upper)


def test_draws_follow_from_the_seed() -> None:
    mixture = Mixture((_member(0), _member(10)))
    assert torch.equal(mixture.sample(5, seed=3), mixture.sample(5, seed=3))
    assert not torch.equal(mixture.sample(5, seed=3), mixture.sample(5, seed=4))
    assert mixture.sample(0, seed=0).shape == (0, 3, 4)


def test_a_mixture_of_nothing_is_refused() -> None:
    with pytest.raises(DataError, match="at least one member"):
        Mixture(())
