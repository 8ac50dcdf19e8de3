from collections.abc import Callable
from dataclasses import dataclass, replace

import pytest
import torch
from jaxtyping import Bool
from torch import Tensor

from surrogates.data.perturbation import Perturbation
from surrogates.data.screen import Screen
from surrogates.data.simulate import Network, SaturatingWorld, singles_and_doubles
from surrogates.data.vocabulary import PerturbationBatch, Vocabulary
from surrogates.models.base import PairFactors, PairScale, Surrogate
from surrogates.models.baselines import (
    Additive,
    FittedMean,
    FittedScaledAdditive,
    MatchingMean,
    NoChange,
    PerturbationMean,
    ScaledAdditive,
)
from surrogates.testing import (
    check_configuration,
    check_fit,
    check_pair_factors,
    check_predictions,
    check_row_order,
    check_surrogate,
)
from surrogates.uncertainty.posterior import GaussianPosterior, isotropic

NETWORK = Network(genes=10)
Change = Callable[[GaussianPosterior], GaussianPosterior]


@pytest.fixture(scope="module")
def screen() -> Screen:
    design = [*singles_and_doubles(NETWORK, doubles=20, seed=0), Perturbation.parse("G001+G002+G003")]
    return SaturatingWorld(NETWORK).screen(design, seed=0)


@pytest.mark.parametrize(
    "surrogate", [NoChange(), PerturbationMean(), MatchingMean(), Additive(), ScaledAdditive()], ids=repr
)
def test_shipped_surrogates_keep_the_contract(surrogate: Surrogate, screen: Screen) -> None:
    check_surrogate(surrogate, screen)
    check_surrogate(surrogate, screen.rows(range(10)))  # singles only


@dataclass
class Thawed:
    def fit(self, screen: Screen, *, seed: int) -> FittedMean:
        return NoChange().fit(screen, seed=seed)


@dataclass(frozen=True)
class Vandal:
    def fit(self, screen: Screen, *, seed: int) -> FittedMean:
        fitted = NoChange().fit(screen, seed=seed)
        screen.effects[0, 0] += 1
        return fitted


@dataclass(frozen=True)
class Careless:
    """Ignores the seed."""

    def fit(self, screen: Screen, *, seed: int) -> FittedMean:
        fitted = MatchingMean().fit(screen, seed=seed)
        return replace(fitted, rows=fitted.rows + torch.rand(fitted.rows.shape))


@dataclass(frozen=True)
class FirstRow:
    def fit(self, screen: Screen, *, seed: int) -> FittedMean:
        fitted = NoChange().fit(screen, seed=seed)
        return replace(fitted, rows=screen.effects[0].expand(len(fitted.rows), -1))


def test_a_configuration_that_can_change_is_caught() -> None:
    with pytest.raises(AssertionError, match="not a frozen dataclass"):
        check_configuration(Thawed())


@pytest.mark.parametrize(
    ("surrogate", "broken"), [(Vandal(), "fit changed the effects"), (Careless(), "same seed gave another")]
)
def test_an_unclean_fit_is_caught(surrogate: Surrogate, broken: str, screen: Screen) -> None:
    mine = replace(screen, effects=screen.effects.clone())
    with pytest.raises(AssertionError, match=broken):
        check_fit(surrogate, mine)


def test_dependence_on_row_order_is_caught(screen: Screen) -> None:
    with pytest.raises(AssertionError, match="order of the screen's rows matters"):
        check_row_order(FirstRow(), screen)


@dataclass(frozen=True)
class Tampered:
    """A fitted model of which every posterior passes through a function."""

    honest: FittedScaledAdditive
    change: Callable[[GaussianPosterior], GaussianPosterior]

    @property
    def vocabulary(self) -> Vocabulary:
        return self.honest.vocabulary

    @property
    def readouts(self) -> tuple[str, ...]:
        return self.honest.readouts

    @property
    def measured_alone(self) -> Bool[Tensor, "v"]:
        return self.honest.measured_alone

    def predict(self, batch: PerturbationBatch) -> GaussianPosterior:
        return self.change(self.honest.predict(batch))

    @property
    def factorises(self) -> bool:
        return True

    def pair_factors(self) -> PairFactors:
        return self.honest.pair_factors()

    def pair_scale(self) -> PairScale:
        return self.honest.pair_scale()


def _numbered(posterior: GaussianPosterior) -> Tensor:
    return torch.arange(1, len(posterior.mean) + 1, dtype=torch.float64)


@pytest.mark.parametrize(
    ("change", "broken"),
    [
        (lambda p: replace(p, mean=p.mean * torch.nan), "the mean is not finite"),
        (lambda p: replace(p, mean=p.mean[:, :1]), "the mean is not finite, or its shape"),
        (lambda p: replace(p, scale=-p.scale), "a variance is negative"),
        (lambda p: replace(p, mean=p.mean + _numbered(p)[:, None]), "the mean depends on the order"),
        (lambda p: replace(p, scale=p.scale * _numbered(p)), "the variance depends on the order"),
        (lambda p: p if len(p.mean) else isotropic(torch.zeros(1, 10).double(), torch.ones(10).double()), "empty"),
    ],
)
def test_malformed_predictions_are_caught(change: Change, broken: str, screen: Screen) -> None:
    with pytest.raises(AssertionError, match=broken):
        check_predictions(Tampered(Additive().fit(screen, seed=0), change), screen)


@pytest.mark.parametrize(
    ("change", "broken"),
    [
        (lambda p: replace(p, mean=p.mean + 1), "pair factors differ"),
        (lambda p: replace(p, scale=2 * p.scale), "pair scale differs"),
    ],
)
def test_pair_factors_that_disagree_are_caught(change: Change, broken: str, screen: Screen) -> None:
    with pytest.raises(AssertionError, match=broken):
        check_pair_factors(Tampered(Additive().fit(screen, seed=0), change))


def test_a_screen_without_two_singles_says_so(screen: Screen) -> None:
    fitted = Additive().fit(screen.rows([0, *range(10, 20)]), seed=0)
    with pytest.raises(AssertionError, match="no two targets measured alone"):
        check_pair_factors(fitted)
