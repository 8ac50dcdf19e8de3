"""How strongly single effects are shrunk, and how that is chosen.

With ``P`` the projection on the leading directions of all effects and ``r = a - P a`` the estimate is

    ``P a + r * r² / (r² + noise * s²)``,   ``s²_ig = (mean_g r²_i) (mean_i r²_g) / mean r²``

so that a remainder which stands out of its row and column stays and a common one shrinks: the Wiener filter with
``r²`` in place of the unknown power of the effect. The directions ``v_k`` are eigenvectors of the inner products
of readouts, of eigenvalues ``l_k``, so that ``sum_i r²_ig = sum_i a²_ig - sum_k l_k v²_kg``: means over all
conditions take no pass over them, and choices are judged by the single effects that doubles are made of.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from surrogates.data.novelty import SEEN_DOUBLE, novelty_code
from surrogates.data.screen import Screen
from surrogates.errors import DataError
from surrogates.models.baselines import ScaledAdditive
from surrogates.models.directions import CommonEffects, EffectProducts, excess_squares

_ROWS = 64  # singles that are shrunk at a time
_BLOCK, _NARROWEST = 2**16, 64  # effects that are looked at together: they stay in a processor's cache


@dataclass(frozen=True)
class Shrinkage:
    """How strongly single effects are shrunk towards what conditions have in common."""

    components: int = 30  # number of leading directions that are kept as they are
    noise: float = 0.0  # how much of the remainder passes for noise; 0 changes nothing

    def __post_init__(self) -> None:
        """Refuse what is no strength."""
        if self.components < 0 or not self.noise >= 0:
            raise DataError(f"{self!r} does not shrink; neither number may be negative")

    def common(self, screen: Screen, products: EffectProducts | None = None) -> CommonEffects | None:
        """Find what conditions have in common; nothing where nothing is shrunk.

        Who has multiplied the effects of the screen gives the products.
        """
        if self.noise == 0:
            return None
        known = products or EffectProducts.of(screen.effects, most=self.components)
        return CommonEffects.of(known, self.components)

    def apply(self, screen: Screen, products: EffectProducts | None = None) -> Screen:
        """Shrink the single effects of a screen; combinations stay as measured."""
        return self.towards(self.common(screen, products), screen)

    def towards(self, common: CommonEffects | None, screen: Screen) -> Screen:
        """Do the same where it is known what conditions have in common."""
        if common is None:
            return screen
        effects = screen.effects.clone()
        for rows in torch.nonzero(screen.batch.order == 1).flatten().split(_ROWS):
            effects[rows] = common.shrunk(screen.effects[rows], noise=self.noise)
        return replace(screen, effects=effects)


@dataclass(frozen=True)
class JudgingDoubles:
    """The doubles of two entries measured alone, by which a strength is chosen."""

    singles: Float[Tensor, "s g"]  # effects of the entries that they are made of
    parts: Int[Tensor, "d 2"]  # numbers of the two parts of each among those
    effects: Float[Tensor, "d g"]  # what was measured of each
    rows: Int[Tensor, "d"]  # their rows in the screen

    @classmethod
    def of(cls, screen: Screen) -> "JudgingDoubles":
        """Look them up in a screen."""
        rows = torch.nonzero(novelty_code(screen.batch, screen.single_rows >= 0) == SEEN_DOUBLE).flatten()
        entries, parts = screen.batch.genes[rows, :2].unique(return_inverse=True)
        return cls(screen.effects[screen.single_rows[entries]], parts, screen.effects[rows], rows)

    def errors(
        self, products: EffectProducts, test: Int[Tensor, "t"], choices: Sequence[Shrinkage]
    ) -> Float[Tensor, "c"]:
        """Sum the squared errors that scaled sums of the estimates of each choice make on held-out doubles.

        A sum ``s`` is scaled by ``c = <s, y> / <s, s>`` over the other doubles and moved by the share ``w`` of
        their mean remainder, see :class:`~surrogates.models.baselines.ScaledAdditive`. The error of a held-out
        double is ``|(y - w mean y) - c (s - w mean s)|²``: its three terms, like the two of the scale, are sums
        over readouts, and estimates are needed of few readouts at a time only.
        """
        held = torch.isin(self.rows, test)
        sums = torch.zeros(len(choices), 5, dtype=torch.float64)
        width = max(_NARROWEST, _BLOCK // max(self.parts.shape[0], len(self.singles)))
        estimates = _Estimates.of(self.singles, products, choices)
        for start in range(0, self.effects.shape[1], width):
            block = slice(start, start + width)
            judge = _SumErrors.of(self.effects[:, block], self.parts, held)
            for number, estimate in estimates.on(block):
                sums[number] += judge.terms(estimate)
        over, under, own, across, square = sums.unbind(1)
        scale = over / under.clamp(min=torch.finfo(under.dtype).tiny)
        return own - 2 * scale * across + scale.square() * square


@dataclass(frozen=True)
class _Estimates:
    """Single effects under several choices, worked out for some readouts at a time."""

    singles: Float[Tensor, "s g"]
    onto: Float[Tensor, "s c"]  # their scores on all directions
    # Numbers of choices with their strengths, by what they take as common; and mean squared remainders.
    groups: tuple[tuple[CommonEffects, Float[Tensor, "s"], tuple[tuple[int, float], ...]], ...]
    unchanged: tuple[int, ...]  # numbers of the choices that change nothing

    @classmethod
    def of(
        cls, singles: Float[Tensor, "s g"], products: EffectProducts, choices: Sequence[Shrinkage]
    ) -> "_Estimates":
        sizes = sorted({choice.components for choice in choices if choice.noise > 0})
        commons = CommonEffects.of_several(products, sizes)
        widest = commons[-1].directions if commons else singles[:0]
        onto, total = singles @ widest.T, singles.square().sum(1)
        groups = []
        for size, common in zip(sizes, commons, strict=True):
            left = (total - onto[:, :size].square().sum(1)).clamp(min=0) / singles.shape[1]
            own = tuple(
                (number, choice.noise)
                for number, choice in enumerate(choices)
                if choice.components == size and choice.noise > 0
            )
            groups.append((common, left, own))
        unchanged = tuple(number for number, choice in enumerate(choices) if choice.noise == 0)
        return cls(singles, onto, tuple(groups), unchanged)

    def on(self, block: slice) -> Iterator[tuple[int, Float[Tensor, "s w"]]]:
        """Work out the estimates of some readouts under each choice, with the number of the choice."""
        measured = self.singles[:, block]
        yield from ((number, measured) for number in self.unchanged)
        for each, lengths, strengths in self.groups:
            common = self.onto[:, : len(each.directions)] @ each.directions[:, block]
            rest = measured - common
            excess = excess_squares(rest, lengths, each.uncommon[block])
            for number, noise in strengths:
                yield number, torch.addcdiv(common, rest, 1 + noise * excess)


@dataclass(frozen=True)
class _SumErrors:
    """Some readouts of doubles: those that scaled sums are learnt from first, then those that are predicted."""

    parts: Int[Tensor, "d 2"]
    known: Float[Tensor, "n w"]  # measured effects of the former
    wanted: Float[Tensor, "t w"]  # of the latter, less the mean of the former as far as it counts
    share: float  # how much a mean of so many counts

    @classmethod
    def of(cls, effects: Float[Tensor, "d w"], parts: Int[Tensor, "d 2"], held: Bool[Tensor, "d"]) -> "_SumErrors":
        known = effects[~held]
        share = len(known) / (len(known) + ScaledAdditive().shrinkage)
        wanted = effects[held] - share * known.mean(0)
        return cls(torch.cat([parts[~held], parts[held]]), known, wanted, share)

    def terms(self, estimate: Float[Tensor, "s w"]) -> Float[Tensor, "5"]:
        """The two terms of the scale, and the three of the error."""
        sums = estimate[self.parts[:, 0]] + estimate[self.parts[:, 1]]
        learnt = sums[: len(self.known)]
        predicted = sums[len(self.known) :] - self.share * learnt.mean(0)
        pairs = (
            (learnt, self.known),
            (learnt, learnt),
            (self.wanted, self.wanted),
            (self.wanted, predicted),
            (predicted, predicted),
        )
        return torch.stack([torch.dot(one.flatten(), other.flatten()) for one, other in pairs])
