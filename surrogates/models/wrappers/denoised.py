"""Single effects with less noise, before a model of combinations adds them up.

A measured single effect is noise as well as effect, and a sum of two carries the noise of both. What effects have
in common with the other conditions of the screen lies in few directions; the remainder is partly noise, partly an
effect of its own (a gene that is activated raises itself). With ``P`` the projection on the leading directions of
all effects and ``r = a - P a`` the estimate is

    ``P a + r * r² / (r² + noise * s²)``,   ``s²_ig = (mean_g r²_i) (mean_i r²_g) / mean r²``

so that a remainder which stands out of its row and column stays and a common one shrinks: the Wiener filter with
``r²`` in place of the unknown power of the effect. Directions and strength are chosen by the error with which
scaled sums of the estimates predict held-out doubles. See docs/decisions/0007-denoised-singles.md.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import product

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from surrogates.data.novelty import Split, splits_over_doubles
from surrogates.data.screen import Screen
from surrogates.errors import DataError
from surrogates.models.base import Fitted, Surrogate, require_one_context
from surrogates.models.baselines import ScaledAdditive
from surrogates.models.interaction import FEWEST_COMBINATIONS, effect_components

FOLDS = 5


@dataclass(frozen=True)
class Shrinkage:
    """How strongly single effects are shrunk towards what conditions have in common."""

    components: int = 30  # number of leading directions that are kept as they are
    noise: float = 0.0  # how much of the remainder passes for noise; 0 changes nothing

    def __post_init__(self) -> None:
        """Refuse what is no strength."""
        if self.components < 0 or not self.noise >= 0:
            raise DataError(f"{self!r} does not shrink; neither number may be negative")

    def apply(self, screen: Screen) -> Screen:
        """Shrink the single effects of a screen; combinations stay as measured."""
        if self.noise == 0:
            return screen
        return shrink_singles(screen, effect_components(screen.effects, self.components), noise=self.noise)


@dataclass(frozen=True)
class Denoised:
    """Fits a surrogate to a screen whose single effects have been shrunk.

    Attributes:
        base: The surrogate.
        components: Numbers of leading directions to choose from.
        noise: Strengths to choose from, beside none at all.
    """

    base: Surrogate
    components: tuple[int, ...] = (5, 15, 30)
    noise: tuple[float, ...] = (1.0, 3.0, 6.0)

    def fit(self, screen: Screen, *, seed: int) -> Fitted:
        """Choose the shrinkage, and fit the surrogate to what it leaves.

        Args:
            screen: Measured effects in one context.
            seed: Fixes folds and fit.

        Returns:
            What the surrogate returns: its single effects are the estimates, not the measured values.

        Raises:
            DataError: If the screen has several contexts, or the surrogate refuses it.
        """
        return self.base.fit(self.prepared(screen, seed=seed), seed=seed)

    def prepared(self, screen: Screen, *, seed: int) -> Screen:
        """Choose the shrinkage, and apply it: what the surrogate is fitted to.

        Args:
            screen: Measured effects in one context.
            seed: Fixes the folds.

        Returns:
            The screen with other effects in the rows of singles. It depends on the strengths to choose from, and
            not on the surrogate.

        Raises:
            DataError: If the screen has several contexts.
        """
        return self.shrinkage(screen, seed=seed).apply(screen)

    def shrinkage(self, screen: Screen, *, seed: int) -> Shrinkage:
        """Choose by cross-validation over the doubles whose parts were both measured alone.

        Args:
            screen: Measured effects in one context.
            seed: Fixes five folds.

        Returns:
            The choice with the smallest squared error of scaled sums; none at all with fewer than 8 such doubles,
            or fewer readouts or conditions than directions.

        Raises:
            DataError: If the screen has several contexts.
        """
        require_one_context(screen)
        sizes = [size for size in self.components if size < min(screen.effects.shape)]
        splits = splits_over_doubles(screen, folds=FOLDS, seed=seed)
        if sum(len(split.test) for split in splits) < FEWEST_COMBINATIONS or not sizes:
            return Shrinkage()
        choices = [Shrinkage(), *(Shrinkage(size, noise) for size, noise in product(sizes, self.noise))]
        errors = torch.stack([_errors(screen, split, choices) for split in splits]).sum(0)
        return choices[int(errors.argmin())]


def fit_together(surrogates: Sequence[Surrogate], screen: Screen, *, seed: int) -> tuple[Fitted, ...]:
    """Fit some surrogates to a screen; denoised ones with the same strengths to choose from choose once.

    To choose is most of what their fits cost.

    Raises:
        DataError: If a surrogate refuses the screen.
    """
    prepared: dict[tuple[tuple[int, ...], tuple[float, ...]], Screen] = {}
    fits = []
    for each in surrogates:
        if not isinstance(each, Denoised):
            fits.append(each.fit(screen, seed=seed))
            continue
        strengths = (each.components, each.noise)
        if strengths not in prepared:
            prepared[strengths] = each.prepared(screen, seed=seed)
        fits.append(each.base.fit(prepared[strengths], seed=seed))
    return tuple(fits)


def shrink_singles(screen: Screen, directions: Float[Tensor, "c g"], *, noise: float) -> Screen:
    """Shrink what single effects do not have in common with other conditions, by the equation of this module."""
    return _Remainder.of(screen, directions).shrunk(screen, noise=noise)


@dataclass(frozen=True)
class _Remainder:
    """What single effects do not have in common with other conditions, before any of it is taken for noise."""

    single: Bool[Tensor, "n"]  # which rows of the screen are singles
    common: Float[Tensor, "s g"]  # their projections on the leading directions
    rest: Float[Tensor, "s g"]  # what is left of them
    power: Float[Tensor, "s g"]  # its square
    expected: Float[Tensor, "s g"]  # the square that its row and its column, combinations included, let expect

    @classmethod
    def of(cls, screen: Screen, directions: Float[Tensor, "c g"]) -> "_Remainder":
        common = screen.effects @ directions.T @ directions
        rest = screen.effects - common
        power = rest.square()
        tiny = torch.finfo(power.dtype).tiny
        single = screen.batch.order == 1
        rows, columns = power.mean(1, keepdim=True)[single], power.mean(0, keepdim=True)
        expected = rows * columns / power.mean().clamp(min=tiny)
        return cls(single, common[single], rest[single], power[single], expected)

    def shrunk(self, screen: Screen, *, noise: float) -> Screen:
        tiny = torch.finfo(self.power.dtype).tiny
        effects = screen.effects.clone()
        effects[self.single] = self.common + self.rest * self.power / (self.power + noise * self.expected).clamp(
            min=tiny
        )
        return replace(screen, effects=effects)


def _errors(screen: Screen, split: Split, choices: Sequence[Shrinkage]) -> Float[Tensor, "c"]:
    """Squared error of scaled sums of the estimates on the held-out doubles, for each choice."""
    training, batch, truth = screen.rows(split.train), screen.batch.rows(split.test), screen.effects[split.test]
    # One decomposition serves all choices, and one projection all that keep as many directions.
    directions = effect_components(training.effects, max(choice.components for choice in choices))
    sizes = {choice.components for choice in choices}
    remainders = {size: _Remainder.of(training, directions[:size]) for size in sizes}
    errors = []
    for choice in choices:
        shrunk = remainders[choice.components].shrunk(training, noise=choice.noise)
        prediction = ScaledAdditive().fit(shrunk, seed=0).predict(batch).mean
        errors.append((prediction - truth).square().sum())
    return torch.stack(errors)
