"""Single effects with less noise, before a model of combinations adds them up.

A measured single effect is noise as well as effect, and a sum of two carries the noise of both. What effects have
in common with the other conditions of the screen lies in few directions; the remainder is partly noise, partly an
effect of its own (a gene that is activated raises itself), and is shrunk as
:mod:`surrogates.models.wrappers.shrinkage` says. Directions and strength are chosen by the error with which scaled
sums of the estimates predict held-out doubles. See docs/decisions/0007-denoised-singles.md.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import product

import torch
from jaxtyping import Int
from torch import Tensor

from surrogates.data.novelty import splits_over_doubles
from surrogates.data.screen import Screen
from surrogates.memory import give_back_free_pages
from surrogates.models.base import Fitted, Surrogate, require_one_context
from surrogates.models.baselines import FittedScaledAdditive
from surrogates.models.directions import EffectProducts, ShrunkEffects
from surrogates.models.interaction import FEWEST_COMBINATIONS, FittedInteraction
from surrogates.models.wrappers.shrinkage import JudgingDoubles, Shrinkage
from surrogates.team import submitted

FOLDS = 5


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

    def prepared(self, screen: Screen, *, seed: int, products: EffectProducts | None = None) -> Screen:
        """Choose the shrinkage, and apply it: what the surrogate is fitted to.

        Args:
            screen: Measured effects in one context.
            seed: Fixes the folds.
            products: Of its effects, if they are known.

        Returns:
            The screen with other effects in the rows of singles. It depends on the strengths to choose from, and
            not on the surrogate.

        Raises:
            DataError: If the screen has several contexts.
        """
        return self.shrinkage(screen, seed=seed, products=products).apply(screen, products)

    def shrinkage(self, screen: Screen, *, seed: int, products: EffectProducts | None = None) -> Shrinkage:
        """Choose by cross-validation over the doubles whose parts were both measured alone.

        Args:
            screen: Measured effects in one context.
            seed: Fixes five folds.
            products: Of its effects, if they are known.

        Returns:
            The choice with the smallest squared error of scaled sums; none at all with fewer than 8 such doubles,
            or fewer readouts or conditions than directions.

        Raises:
            DataError: If the screen has several contexts.
        """
        require_one_context(screen)
        sizes = [size for size in self.components if size < min(screen.effects.shape)]
        splits = splits_over_doubles(screen, folds=FOLDS, seed=seed) if sizes else []
        if sum(len(split.test) for split in splits) < FEWEST_COMBINATIONS:
            return Shrinkage()
        choices = [Shrinkage(), *(Shrinkage(size, noise) for size, noise in product(sizes, self.noise))]
        known = products or EffectProducts.of(screen.effects, most=max(sizes))
        doubles = JudgingDoubles.of(screen)
        errors = [doubles.errors(known.rows(split.train), split.test, choices) for split in splits]
        return choices[int(torch.stack(errors).sum(0).argmin())]


def fit_together(surrogates: Sequence[Surrogate], screen: Screen, *, seed: int) -> tuple[Fitted, ...]:
    """Fit some surrogates to a screen; see :func:`fit_parts`."""
    return next(fit_parts(surrogates, screen, [torch.arange(len(screen))], seed=seed))


def fit_parts(
    surrogates: Sequence[Surrogate], screen: Screen, parts: Iterable[Int[Tensor, "_"]], *, seed: int
) -> Iterator[tuple[Fitted, ...]]:
    """Fit some surrogates to parts of a screen, which are rows in ascending order, one part after the other.

    Denoised ones with the same strengths to choose from choose once, and effects are multiplied once for all
    parts: that is much of what their fits cost. Fits to parts with all single effects keep how these are shrunk
    instead of a table of their own.
    """
    most = max((size for each in surrogates if isinstance(each, Denoised) for size in each.components), default=0)
    whole = EffectProducts.of(screen.effects, most=most) if most else None
    some = [_Rows(tuple(surrogates), rows, whole, seed) for rows in parts]
    if len(some) == 1:
        yield _fit_part(screen, some[0])
        return
    for found in [submitted(screen, _fit_part, each) for each in some]:
        yield found()
        give_back_free_pages()


@dataclass(frozen=True)
class _Rows:
    """A part of a screen that some surrogates are fitted to."""

    surrogates: tuple[Surrogate, ...]
    rows: Int[Tensor, "_"]
    whole: EffectProducts | None  # of all rows
    seed: int


def _fit_part(screen: Screen, asked: _Rows) -> tuple[Fitted, ...]:
    """Fit some surrogates to some rows; what is as large as the screen goes as soon as it was used."""
    surrogates, rows, whole, seed = asked.surrogates, asked.rows, asked.whole, asked.seed
    # Parts with all single effects share one table of them.
    table = screen.singles if whole is not None and bool((screen.single_rows >= 0).all()) else None
    part = screen if len(rows) == len(screen) else screen.rows(rows)
    fits: dict[int, Fitted] = {}
    alike: dict[tuple[tuple[int, ...], tuple[float, ...]], list[tuple[int, Denoised]]] = {}
    for number, each in enumerate(surrogates):
        if isinstance(each, Denoised):
            alike.setdefault((each.components, each.noise), []).append((number, each))
        else:
            fits[number] = each.fit(part, seed=seed)
    products = None if whole is None else whole.rows(rows)
    shared = table is not None and part.singles is table
    while alike:
        _, some = alike.popitem()
        shrinkage = some[0][1].shrinkage(part, seed=seed, products=products)
        common = shrinkage.common(part, products)
        kept = ShrunkEffects(part.singles, common, shrinkage.noise) if common and shared else None
        own = shrinkage.towards(common, part)
        if not alike:
            del part
        for number, each in some:
            fits[number] = _with_kept(each.base.fit(own, seed=seed), own, kept)
    return tuple(fits[number] for number in range(len(surrogates)))


def _with_kept(fitted: Fitted, screen: Screen, kept: ShrunkEffects | None) -> Fitted:
    """Keep how single effects are shrunk, where a fit keeps them as a screen has them."""
    if isinstance(fitted, FittedInteraction):
        return replace(fitted, additive=_additive_with(fitted.additive, screen, kept))
    return _additive_with(fitted, screen, kept) if isinstance(fitted, FittedScaledAdditive) else fitted


def _additive_with(
    fitted: FittedScaledAdditive, screen: Screen, kept: ShrunkEffects | None
) -> FittedScaledAdditive:
    return fitted if kept is None or fitted.singles is not screen.singles else replace(fitted, singles=kept)
