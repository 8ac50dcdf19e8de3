"""What public screens say of combinations, for a screen in which none could be held out.

In every public screen with doubles of two measured singles ``y`` is compared with the sum ``s = a + b``: its scale
``c = <s, y> / <s, s>``, and what is left, ``r = y - c s``, in units of the variance ``V_g`` of single effects over
targets (half that of the readout, half the mean of all readouts):

    R = mean_g r_g² / (2 V_g),    E[R] = ratio * h,    h = 1 - share + share * (q_a + q_b) / 2

where ``q_a``, of mean one over targets, is the mean over readouts of ``(a_g - mean_g)² / V_g``: strong singles are
missed by more. A screen that borrows takes the mean scale. Public screens differ in their ratio, so its errors are
Student's, of the degrees of freedom with which the logarithm of a squared error varies as much as it does between
and within public screens.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
import scipy
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from surrogates.data.novelty import SEEN_DOUBLE, novelty_code
from surrogates.data.screen import Screen
from surrogates.data.vocabulary import PerturbationBatch
from surrogates.errors import DataError
from surrogates.models.base import single_effects, sum_over_interventions
from surrogates.models.baselines import CombinationLaw, FittedScaledAdditive

BORROWED = "borrowed from public screens"
_NORMAN = "Norman et al., Science 365:786 (2019)"
_HORLBECK = "Horlbeck et al., Cell 174:953 (2018)"
_LAUFER = "Laufer et al., Nature Methods 10:427 (2013)"
_KORKUT = "Korkut et al., eLife 4:e04640 (2015)"
_SHRINKAGE = 0.5
_SHARES = torch.linspace(0, 1, 21, dtype=torch.float64)
_HALF_DEGREES = (0.25, 100.0)
_DRAWN_SINGLES = 2000
_ROWS = 64  # single effects that are looked at together


def _mean_square(
    singles: Float[Tensor, "v g"], kept: Int[Tensor, "n"], centre: Float[Tensor, "g"]
) -> Float[Tensor, "g"]:
    squares = [(singles[rows] - centre).square().sum(0) for rows in kept.split(_ROWS)]
    return torch.stack(squares).sum(0) / len(kept)


@dataclass(frozen=True)
class SingleSpread:
    """How single effects spread over targets: the unit in which errors of combinations are stated."""

    singles: Float[Tensor, "v g"]  # those of the screen, no copy
    alone: Int[Tensor, "n"]  # which entries were measured alone
    centre: Float[Tensor, "g"]  # their mean; zero where they do not depart from it
    raw: Float[Tensor, "g"]  # mean squared departure of each readout
    variance: Float[Tensor, "g"]  # of each readout, shrunk half to the mean of all readouts; positive
    sizes: Float[Tensor, "v"]  # mean squared departure of each entry in units of the variance, of mean one

    @classmethod
    def of(cls, singles: Float[Tensor, "v g"], alone: Bool[Tensor, "v"]) -> "SingleSpread":
        """Describe the single effects of a screen."""
        kept = torch.nonzero(alone).flatten()
        centre = torch.stack([singles[rows].sum(0) for rows in kept.split(_ROWS)]).sum(0) / len(kept)
        raw = _mean_square(singles, kept, centre)
        if not float(raw.max()) > 0:
            centre = torch.zeros_like(centre)
            raw = _mean_square(singles, kept, centre)
        variance = (1 - _SHRINKAGE) * raw + _SHRINKAGE * raw.mean()
        variance = variance.clamp(min=torch.finfo(variance.dtype).eps)
        own = torch.cat([((singles[rows] - centre).square() / variance).mean(1) for rows in kept.split(_ROWS)])
        sizes = torch.ones(len(alone), dtype=singles.dtype)
        if float(own.sum()) > 0:
            sizes[kept] = own / own.mean()
        return cls(singles, kept, centre, raw, variance, sizes)

    @property
    def departures(self) -> Float[Tensor, "n g"]:
        """Single effects minus their mean, as large as the screen."""
        return self.singles[self.alone] - self.centre

    @property
    def independent_readouts(self) -> float:
        """As many independent readouts would leave the squared length of a departure as unsure."""
        standard = self.departures / self.variance.sqrt()
        gram = standard.T @ standard if standard.shape[1] < len(standard) else standard @ standard.T
        return float(gram.trace().square() / gram.square().sum()) if float(gram.trace()) > 0 else 1.0

    def size_of(self, batch: PerturbationBatch) -> Float[Tensor, "b"]:
        """Average the sizes of the parts of perturbations."""
        return sum_over_interventions(self.sizes[:, None], batch)[:, 0] / batch.order.clamp(min=1)

    def draws(self, count: int, *, seed: int) -> Float[Tensor, "s g"]:
        """Draw errors of the unit's variance that are correlated over readouts as single effects are."""
        generator = torch.Generator().manual_seed(seed)
        kept = torch.randperm(len(self.alone), generator=generator)[:_DRAWN_SINGLES]
        rows = self.singles[self.alone[kept]] - self.centre
        mixed = torch.randn(count, len(rows), generator=generator, dtype=rows.dtype) @ rows / len(rows) ** 0.5
        even = torch.randn(count, rows.shape[1], generator=generator, dtype=rows.dtype)
        common = float(self.raw.mean()) ** 0.5
        drawn: Tensor = mixed.mul_((1 - _SHRINKAGE) ** 0.5).add_(even, alpha=_SHRINKAGE**0.5 * common)
        return drawn


@dataclass(frozen=True)
class PublicScreen:
    """What one public screen says of sums of two single effects."""

    name: str  # of the dataset in the catalogue
    source: str  # the publication
    readouts: int  # how many
    doubles: int  # how many combinations of two measured singles
    scale: float  # factor on sums
    ratio: float  # of squared errors to the spread of singles, see the module's equation
    share: float  # what strong singles are missed by more, see there
    sums: float  # mean square of sums in the same unit: what an error of the scale costs
    # Variance of the logarithm of a double's squared error, beyond that of as many independent readouts.
    within: float

    @classmethod
    def measured(cls, screen: Screen, *, name: str, source: str) -> "PublicScreen":
        """Compare the doubles of a screen with the sums of their parts."""
        singles, alone = single_effects(screen)
        rows = torch.nonzero(novelty_code(screen.batch, alone) == SEEN_DOUBLE).flatten()
        if len(rows) < 2:
            raise DataError(f"{name} has {len(rows)} doubles of two measured singles; 2 or more tell something")
        batch, effects = screen.batch.rows(rows), screen.effects[rows]
        sums, spread = sum_over_interventions(singles, batch), SingleSpread.of(singles, alone)
        tiny = torch.finfo(sums.dtype).tiny
        scale = float((sums * effects).sum() / sums.square().sum().clamp(min=tiny))
        errors = ((effects - scale * sums).square() / (2 * spread.variance)).mean(1)
        sizes = spread.size_of(batch)
        share = _likeliest_share(errors, sizes)
        expected = 1 - share + share * sizes
        observed = float((errors / expected).clamp(min=tiny).log().var())
        return cls(
            name=name,
            source=source,
            readouts=len(screen.readouts),
            doubles=len(rows),
            scale=scale,
            ratio=float((errors / expected).mean()),
            share=share,
            sums=float((sums.square() / (2 * spread.variance)).mean()),
            within=max(0.0, observed - float(scipy.special.polygamma(1, spread.independent_readouts / 2))),
        )

    def ratio_at(self, scale: float) -> float:
        """Find the ratio of errors if sums had been given another scale."""
        return self.ratio + (scale - self.scale) ** 2 * self.sums


@dataclass(frozen=True)
class PublicLaw:
    """What a screen borrows."""

    scale: float  # factor on sums
    share: float  # what strong singles are missed by more
    ratio: float  # expected squared error in the unit of the module
    level: float  # squared scale of the Student distribution of errors in the same unit
    degrees: float  # its degrees of freedom

    @classmethod
    def of(cls, screens: Sequence[PublicScreen]) -> "PublicLaw":
        """Pool public screens, each counting the same."""
        n = len(screens)
        if n < 2:
            raise DataError(f"{n} screens do not tell how much screens differ; take 2 or more")
        scale = sum(each.scale for each in screens) / n
        ratios = torch.tensor([each.ratio_at(scale) for each in screens], dtype=torch.float64)
        within = sum(each.within for each in screens) / n
        # Another screen departs from the mean of n as one of them would, and the mean is unsure as well.
        # The predictive distribution of one more of n normal numbers is Student's, of n - 1 degrees of freedom.
        between = float(ratios.log().var()) * (1 + 1 / n) * (n - 1) / max(1, n - 3)
        half = _half_degrees(between + within)
        typical = float(ratios.log().mean()) - within / 2
        return cls(
            scale=scale,
            share=sum(each.share for each in screens) / n,
            ratio=float(ratios.mean()),
            # The mean logarithm of nu / chi² is log(nu / 2) - scipy.special.digamma(nu / 2).
            level=math.exp(typical - math.log(half) + float(scipy.special.digamma(half))),
            degrees=2 * half,
        )

    def errors(self, spread: SingleSpread, count: int, *, seed: int) -> Float[Tensor, "s g"]:
        """Draw errors of a double of usual parts."""
        squares = torch.from_numpy(np.random.default_rng(seed).chisquare(self.degrees, count)) / self.degrees
        return spread.draws(count, seed=seed).mul_((2 * self.level / squares).sqrt()[:, None])

    def relative(self, spread: SingleSpread, batch: PerturbationBatch) -> Float[Tensor, "b"]:
        """Find how large squared errors of perturbations are, relative to those of usual parts."""
        return 1 - self.share + self.share * spread.size_of(batch)


@dataclass(frozen=True)
class BorrowedSum:
    """Predicts combinations by the sum of single effects, scaled as in public screens.

    It stands where no combination could be held out, so that nothing in the screen shows how sums shrink.
    """

    def fit(self, screen: Screen, *, seed: int) -> FittedScaledAdditive:  # noqa: ARG002 - nothing is random
        """Look the single effects up."""
        singles, alone = single_effects(screen)
        law, spread = public_law(), SingleSpread.of(singles, alone)
        borrowed = CombinationLaw(SEEN_DOUBLE, law.scale, torch.zeros(singles.shape[1], dtype=singles.dtype))
        variance = 2 * law.ratio * spread.variance
        return FittedScaledAdditive(screen.vocabulary, screen.readouts, alone, singles, (borrowed,), variance)


def _half_degrees(variance: float) -> float:
    """Find ``nu / 2`` of ``log chi²_nu`` of some variance, by the trigamma function."""
    most, least = (float(scipy.special.polygamma(1, half)) for half in _HALF_DEGREES)
    return float(
        scipy.optimize.brentq(
            lambda half: scipy.special.polygamma(1, half) - min(max(variance, least), most), *_HALF_DEGREES
        )
    )


def _likeliest_share(errors: Float[Tensor, "b"], sizes: Float[Tensor, "b"]) -> float:
    """Choose the share by the normal likelihood, the ratio profiled out."""
    expected = 1 - _SHARES[:, None] + _SHARES[:, None] * sizes
    expected = expected.clamp(min=torch.finfo(expected.dtype).tiny)
    criterion = expected.log().mean(1) + (errors / expected).mean(1).log()
    return float(_SHARES[int(criterion.argmin())])


# What ``python -m benchmarks public_law`` prints.
PUBLIC_SCREENS: tuple[PublicScreen, ...] = (
    PublicScreen("norman2019_expr", _NORMAN, 2000, 126, 0.646, 0.582, 0.30, 1.29, 0.19),
    PublicScreen("norman2019_fitness", _NORMAN, 1, 6216, 0.825, 0.082, 0.35, 3.88, 0.42),
    PublicScreen("horlbeck2018_k562", _HORLBECK, 1, 100128, 0.708, 0.132, 0.40, 12.63, 0.00),
    PublicScreen("horlbeck2018_jurkat", _HORLBECK, 1, 63525, 0.798, 0.052, 0.65, 3.60, 0.28),
    PublicScreen("laufer2013", _LAUFER, 11, 5535, 0.979, 0.116, 0.55, 1.66, 0.14),
    PublicScreen("cellbox_skmel133", _KORKUT, 87, 66, 0.846, 0.191, 0.55, 1.02, 0.00),
)


@cache
def public_law() -> PublicLaw:
    """Pool the shipped table: what a screen borrows in which no combination could be held out."""
    return PublicLaw.of(PUBLIC_SCREENS)
