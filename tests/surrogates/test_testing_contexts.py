from collections.abc import Callable
from dataclasses import dataclass, replace

import pytest
import torch
from jaxtyping import Bool
from strategies.contexts import factor_screen
from torch import Tensor

from surrogates.contrib.contexts.two_way import ActionEffects, FittedTwoFactor, TwoFactor
from surrogates.data.screen import Screen
from surrogates.data.vocabulary import PerturbationBatch, Vocabulary
from surrogates.models.base import Fitted
from surrogates.testing import check_context_surrogate
from surrogates.uncertainty.posterior import GaussianPosterior

SCREEN = factor_screen(noise=0.1, without={(0, "A")})


@dataclass
class Thawed:
    def fit(self, screen: Screen, *, seed: int) -> FittedTwoFactor:
        return TwoFactor().fit(screen, seed=seed)


@dataclass(frozen=True)
class Broken:
    """The two-factor model after some damage to its fit."""

    damage: Callable[[FittedTwoFactor, Screen], object]

    def fit(self, screen: Screen, *, seed: int) -> FittedTwoFactor:
        return self.damage(TwoFactor().fit(screen, seed=seed), screen)  # type: ignore[return-value]


@dataclass(frozen=True)
class Short:
    """A view that knows of one entry too few whether it was measured alone."""

    honest: ActionEffects

    @property
    def vocabulary(self) -> Vocabulary:
        return self.honest.vocabulary

    @property
    def readouts(self) -> tuple[str, ...]:
        return self.honest.readouts

    @property
    def measured_alone(self) -> Bool[Tensor, "v"]:
        return self.honest.measured_alone[1:]

    def predict(self, batch: PerturbationBatch) -> GaussianPosterior:
        return self.honest.predict(batch)


@dataclass(frozen=True)
class Refusing:
    contexts: tuple[str, ...]
    view: Fitted
    error: type[Exception]

    def in_context(self, context: str) -> Fitted:
        if context in self.contexts:
            return self.view
        raise self.error(context)


@dataclass(frozen=True)
class NoView:
    contexts: tuple[str, ...]

    def in_context(self, context: str) -> str:
        return context


def _of_first_row(fitted: FittedTwoFactor, screen: Screen) -> FittedTwoFactor:
    return replace(fitted, view=replace(fitted.view, effects=fitted.view.effects + screen.effects[0]))


def _changed(fitted: FittedTwoFactor, screen: Screen) -> FittedTwoFactor:
    screen.effects[0] += 1
    return fitted


def _another(fitted: FittedTwoFactor, _: Screen) -> FittedTwoFactor:
    return replace(fitted, view=replace(fitted.view, shift=torch.rand(1, dtype=torch.float64).expand(6)))


BROKEN: dict[str, Callable[[FittedTwoFactor, Screen], object]] = {
    "the order of the screen's rows matters": _of_first_row,
    "fit changed the effects": _changed,
    "the same seed gave another prediction": _another,
    "satisfies FittedAcrossContexts": lambda fitted, _: fitted.view,
    "satisfies Fitted": lambda fitted, _: NoView(fitted.contexts),
    "are not those of the screen": lambda fitted, _: replace(fitted, contexts=("c0",)),
    "another vocabulary": lambda fitted, _: replace(fitted, view=replace(fitted.view, readouts=("x",) * 6)),
    "whether it was measured alone": lambda fitted, _: Refusing(fitted.contexts, Short(fitted.view), KeyError),
    "not finite": lambda fitted, _: replace(fitted, view=replace(fitted.view, effects=fitted.view.effects / 0)),
}


@pytest.mark.parametrize("message", BROKEN)
def test_each_clause_is_checked(message: str) -> None:
    screen = replace(SCREEN, effects=SCREEN.effects.clone())
    with pytest.raises(AssertionError, match=message):
        check_context_surrogate(Broken(BROKEN[message]), screen)


def test_a_configuration_that_can_change_is_found() -> None:
    with pytest.raises(AssertionError, match="Thawed is not a frozen dataclass"):
        check_context_surrogate(Thawed(), SCREEN)


def test_an_unseen_context_is_predicted_or_refused_by_name() -> None:
    with pytest.raises(KeyError):
        check_context_surrogate(Broken(lambda f, _: Refusing(f.contexts, f.view, KeyError)), SCREEN)
