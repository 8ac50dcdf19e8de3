"""Gains of a distance: a quadratic form of a normal effect, by its saddle points.

With ``y ~ N(m, S)``, gap ``a = W^1/2 (t - m)`` and ``V = W^1/2 S W^1/2``, the square ``Q = (t - y)^T W (t - y)``
has

    K(s) = log E[exp(-s Q)] = -1/2 log det(I + 2 s V) - s a^T (I + 2 s V)^-1 a

At the ``s`` where ``-K'(s) = q`` the signed root ``r = -sign(s) (-2 (K(s) + s q))^1/2`` and ``u = -s K''(s)^1/2``
give ``P(Q < q) = Phi(r + log(u / r) / r)`` [Lugannani and Rice 1980; Barndorff-Nielsen 1986]: however small, it is
within a percent of the true probability where errors have many directions, and within a tenth where they have one.
The tests hold it against a numerical inversion. ``V`` is low rank plus diagonal, and never a dense matrix.

The probability to improve by more than ``y`` is kept as ``Phi(z(y))``. The score ``z`` is a straight line for a
normal utility and bends little for others, so that straight pieces between a few nodes are close, and integrals of
``Phi`` along them have a closed form: with ``h(z) = phi(z) + z Phi(z)``, whose derivative is ``Phi``,

    integral of Phi(z(t)) over a piece  =  (h(z_left) - h(z_right)) / slope

Everything is positive and keeps its relative accuracy where probabilities are tiny.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float, Int
from torch import Tensor

from inverse_design.acquisition.acquisition import hinge
from surrogates.uncertainty.error_model import FactorCovariance

_KNOWN = 1e-9  # of what is expected: a deviation below this is none
_FLAT = 1e-6  # scores that differ by less have the same chance


@dataclass(frozen=True)
class NormalScores:
    """Laws of the improvement of some candidates."""

    at: Float[Tensor, "b n"]  # improvements at the nodes, ascending from zero; the last piece goes on without end
    score: Float[Tensor, "b n"]  # normal score of a larger improvement than each, descending

    @classmethod
    def of_normal(cls, excess: Float[Tensor, "b"], deviation: Float[Tensor, "b"]) -> "NormalScores":
        """Take utilities that are normal."""
        least = (_KNOWN * excess.abs()).clamp(min=torch.finfo(excess.dtype).tiny ** 0.25)
        spread = torch.maximum(deviation, least)
        stop = spread + excess.clamp(min=0)
        nodes = torch.stack([torch.zeros_like(stop), stop], 1)
        return cls(nodes, (excess[:, None] - nodes) / spread[:, None])

    @classmethod
    def joined(cls, parts: Sequence["NormalScores"]) -> "NormalScores":
        """Put laws below each other."""
        if not parts:
            return cls.of_normal(*torch.zeros(2, 0, dtype=torch.float64))
        return cls(torch.cat([each.at for each in parts]), torch.cat([each.score for each in parts]))

    def rows(self, index: Int[Tensor, "c"]) -> "NormalScores":
        """Take some of the candidates."""
        return NormalScores(self.at[index], self.score[index])

    def in_units(self, unit: float) -> "NormalScores":
        """Measure improvements in another unit."""
        return NormalScores(self.at / unit, self.score)

    @property
    def probability(self) -> Float[Tensor, "b"]:
        """Chance of any improvement."""
        log_probability: Tensor = torch.special.log_ndtr(self.score[:, 0])
        return log_probability.exp()

    @property
    def expected(self) -> Float[Tensor, "b"]:
        """Expected improvement."""
        return self._beyond_nodes()[:, 0]

    @property
    def reach(self) -> Float[Tensor, "b"]:
        """Improvement beyond which nothing counts: its chance is ``exp(-32)`` of that of any improvement."""
        least = -(self.score[:, :1].square() + 64).sqrt()
        first = (self.score <= least).int().argmax(1, keepdim=True)
        on_line = self.at[:, -1:] + (self.score[:, -1:] - least) / self._last_slope
        return torch.where(first > 0, self.at.gather(1, first), on_line)[:, 0]

    def beyond(self, least: Float[Tensor, "c"]) -> Float[Tensor, "b c"]:
        """Take the expected improvement beyond some values: ``E[max(improvement - y, 0)]``."""
        wanted = least.expand(len(self.at), -1).contiguous()
        after = torch.searchsorted(self.at, wanted, right=True)
        piece = (after - 1).clamp(0, self.at.shape[1] - 2)
        (left, right), (high, low) = ((x.gather(1, piece), x.gather(1, piece + 1)) for x in (self.at, self.score))
        score = high - (wanted - left) * (high - low) / (right - left)
        rest = self._beyond_nodes().gather(1, piece + 1)
        inside = (right - wanted) * _mean_chance(score, low) + rest
        return torch.where(after == self.at.shape[1], hinge(score) / self._last_slope, inside)

    @property
    def _last_slope(self) -> Float[Tensor, "b 1"]:
        return (self.score[:, -2:-1] - self.score[:, -1:]) / (self.at[:, -1:] - self.at[:, -2:-1])

    def _beyond_nodes(self) -> Float[Tensor, "b n"]:
        """Expected improvement beyond each node."""
        parts = (self.at[:, 1:] - self.at[:, :-1]) * _mean_chance(self.score[:, :-1], self.score[:, 1:])
        end = hinge(self.score[:, -1:]) / self._last_slope
        return torch.cat([parts, end], 1).flip(1).cumsum(1).flip(1)


def _mean_chance(high: Float[Tensor, "b p"], low: Float[Tensor, "b p"]) -> Float[Tensor, "b p"]:
    """Mean of ``Phi`` between two scores; the chance in their middle where they are the same but for rounding."""
    fall = high - low
    middle = torch.special.log_ndtr((high + low) / 2).exp()
    return torch.where(fall > _FLAT, (hinge(high) - hinge(low)) / fall.clamp(min=_FLAT), middle)


_NODES = 26  # of a law, evenly spread in normal scores
_ITERATIONS = 30  # of Newton's method at most; five do where the square is below its mean
_CLOSE = 1e-9  # of a square: nearer need not be
_MIDDLE = 0.02  # standard deviations: nearer to the mean than this, the formula loses its digits
_HIGHEST = 8.0  # standard deviations above the mean, beyond which no square is expected
_FALL = 60.0  # the squared score of the last node is larger than that of the first by this much
_EDGE = 1e-3  # of the distance to the pole of the largest eigenvalue
_LEAST = 1e-9  # of the mean square: less variance than this is none, and costs digits
_MOST_TURNED = 2500  # readouts; the time grows with their cube
_NOTHING = -1e3  # the normal score of what cannot be


@dataclass(frozen=True)
class NormalSquare:
    """The square ``|a - e|²`` of some gaps and normal errors ``e`` of low rank plus diagonal covariance."""

    gap: Float[Tensor, "b m"]  # expected gaps, in units in which all readouts count alike
    diagonal: Float[Tensor, "b m"]  # variance of each readout that no factor explains
    factor: Float[Tensor, "b m r"]  # low-rank part; the rank may be zero

    def moments(self) -> tuple[Float[Tensor, "b"], Float[Tensor, "b"]]:
        """Take mean and variance: ``tr V + |a|²`` and ``2 tr V² + 4 a^T V a``."""
        gap, d, f = self.gap, self.diagonal, self.factor
        gram = f.mT @ f
        squared = d.square().sum(1) + 2 * (d[..., None] * f.square()).sum((1, 2)) + gram.square().sum((1, 2))
        form = (d * gap.square()).sum(1) + (f.mT @ gap[..., None]).square().sum((1, 2))
        return d.sum(1) + f.square().sum((1, 2)) + gap.square().sum(1), 2 * squared + 4 * form

    def exponent(self, s: Float[Tensor, "b"]) -> tuple[Float[Tensor, "b"], Float[Tensor, "b"], Float[Tensor, "b"]]:
        """Take ``s K'(s) - K(s)``, ``-K'(s)`` and ``K''(s)`` of the logarithm ``K(s)`` of ``E[exp(-s Q)]``.

        With ``M = (I + 2 s V)^-1`` they are ``1/2 log det(I + 2 s V) - (m - tr M) / 2 + s a^T (M - M²) a``,
        ``(m - tr M) / (2 s) + a^T M² a`` and ``(m - 2 tr M + tr M²) / (2 s²) + 2 a^T (M² - M³) a / s``.
        """
        d, f, m = self.diagonal, self.factor, self.gap.shape[1]
        kept = 1 / (1 + 2 * s[:, None] * d)
        scaled = f * kept[..., None]
        unit = torch.eye(f.shape[2], dtype=f.dtype)
        inner = torch.linalg.cholesky(unit + 2 * s[:, None, None] * (f.mT @ scaled))
        once = self._resolved(self.gap, kept, scaled, inner, s)
        twice = self._resolved(once, kept, scaled, inner, s)
        solved = torch.cholesky_solve(scaled.mT @ scaled, inner)
        cubed = torch.cholesky_solve(scaled.mT @ (scaled * kept[..., None]), inner)
        trace = kept.sum(1) - 2 * s * _trace(solved)
        square = kept.square().sum(1) - 4 * s * _trace(cubed) + 4 * s.square() * (solved * solved.mT).sum((1, 2))
        determinant = -kept.log().sum(1) + 2 * inner.diagonal(dim1=1, dim2=2).log().sum(1)
        forms = [(x * y).sum(1) for x, y in ((self.gap, once), (once, once), (once, twice))]
        return (
            (determinant - m + trace) / 2 + s * (forms[0] - forms[1]),
            (m - trace) / (2 * s) + forms[1],
            (m - 2 * trace + square) / (2 * s.square()) + 2 * (forms[1] - forms[2]) / s,
        )

    def scores(self, distance: Float[Tensor, "1"]) -> NormalScores:
        """Say how much nearer than a distance ``√Q`` will be."""
        if not float(distance) > 0:
            nodes = torch.tensor([0.0, 1.0], dtype=torch.float64).repeat(len(self.gap), 1)
            return NormalScores(nodes, _NOTHING - nodes)
        some = self._scattered(distance)
        mean, variance = some.moments()
        wanted = torch.minimum(distance.square().expand_as(mean), mean + _HIGHEST * variance.sqrt())
        least = _MIDDLE / variance.clamp(min=torch.finfo(mean.dtype).tiny).sqrt()
        s = _saddle(some, wanted, least)
        at, score = [], []
        step = torch.zeros_like(mean)
        for number in range(_NODES):
            s = _away_from_zero(s, least)
            excess, square, curvature = some.exponent(s)
            root, unit = -s.sign() * (2 * excess).sqrt(), -s * curvature.sqrt()
            at.append(distance - square.sqrt())
            score.append(root + (unit / root).log() / root)
            if not number:
                step = (root - -(_FALL + root.clamp(max=0).square()).sqrt()) / (_NODES - 1)
            s = s - step * root / (s * curvature)
        return _from_zero(torch.stack(at, 1), torch.stack(score, 1))

    def _scattered(self, distance: Float[Tensor, "1"]) -> "NormalSquare":
        """The same with a little variance where there is none."""
        size = (self.gap.square() + self.diagonal + self.factor.square().sum(2)).mean(1)
        least = _LEAST * torch.maximum(size, _LEAST * distance.square())
        return replace(self, diagonal=torch.maximum(self.diagonal, least[:, None]))

    def _resolved(
        self,
        rows: Float[Tensor, "b m"],
        kept: Float[Tensor, "b m"],
        scaled: Float[Tensor, "b m r"],
        inner: Float[Tensor, "b r r"],
        s: Float[Tensor, "b"],
    ) -> Float[Tensor, "b m"]:
        """Multiply rows by ``(I + 2 s V)^-1`` [Woodbury 1950]."""
        along = torch.cholesky_solve(scaled.mT @ rows[..., None], inner)
        product: Tensor = kept * rows - 2 * s[:, None] * (scaled @ along)[..., 0]
        return product


@dataclass(frozen=True)
class ErrorAxes:
    """Coordinates in which errors of one covariance are independent, as far as that can be had."""

    variance: Float[Tensor, "m"]  # of each coordinate
    loadings: Float[Tensor, "m r"]  # what is left of the low rank: nothing where the covariance was diagonalised
    root: Float[Tensor, "m"]  # root of the weight of each readout
    # From weighted readouts to the coordinates; ``None`` where they are the same.
    turn: Float[Tensor, "m m"] | None = None

    @classmethod
    def of(cls, covariance: FactorCovariance, weights: Float[Tensor, "m"]) -> "ErrorAxes":
        """Diagonalise a covariance once, for all candidates that have it."""
        root = weights.sqrt()
        variance, loadings = covariance.diagonal * weights, covariance.loadings * root[:, None]
        if not loadings.shape[1] or len(root) > _MOST_TURNED:
            return cls(variance, loadings, root)
        values, vectors = torch.linalg.eigh(torch.diag(variance) + loadings @ loadings.T)
        return cls(values, loadings[:, :0], root, vectors)

    def square(
        self, gap: Float[Tensor, "b m"], shared: Float[Tensor, "b m j"], spread: Float[Tensor, "b"]
    ) -> NormalSquare:
        """Take the weighted square of the gaps between some candidates and a profile."""
        gap, shared = gap * self.root, shared * self.root[:, None]
        if self.turn is not None:
            gap, shared = (
                gap @ self.turn,
                (shared.mT @ self.turn).mT.contiguous(),
            )  # one product for all candidates
        own = spread.sqrt()[:, None, None] * self.loadings
        return NormalSquare(gap, spread[:, None] * self.variance, torch.cat([shared, own], dim=2))


def _saddle(some: NormalSquare, square: Float[Tensor, "b"], least: Float[Tensor, "b"]) -> Float[Tensor, "b"]:
    """Where ``-K'`` is a square, by Newton's method for its logarithm; as near as can be where it never is."""
    gram = some.factor.mT @ some.factor
    largest = torch.linalg.eigvalsh(gram)[:, -1] if gram.shape[1] else torch.zeros_like(square)
    pole = (1 - _EDGE) / (2 * (some.diagonal.amax(1) + largest))
    low, high = torch.full_like(square, -7.0) + pole.log(), torch.full_like(square, torch.inf)
    at = (2 * pole).log()
    for _ in range(_ITERATIONS):
        s = _away_from_zero(at.exp() - pole, least)
        _, found, curvature = some.exponent(s)
        above = (found / square).log()
        low, high = torch.where(above > 0, at, low), torch.where(above > 0, high, at)
        new = at + (above * found / ((s + pole) * curvature)).clamp(-2.0, 2.0)
        middle = torch.where(high.isinf(), at + 2.0, (low + high) / 2)
        at = torch.where((new >= low) & (new <= high), new, middle)
        if float(above.abs().max()) < _CLOSE:
            break
    return at.exp() - pole


def _away_from_zero(s: Float[Tensor, "b"], least: Float[Tensor, "b"]) -> Float[Tensor, "b"]:
    """At zero, which is the mean, the formulas divide by zero."""
    return torch.where(s.abs() < least, torch.where(s < 0, -least, least), s)


def _from_zero(at: Float[Tensor, "b n"], score: Float[Tensor, "b n"]) -> NormalScores:
    """Move the first node, which is about zero, along its piece to where it is exactly zero."""
    slope = (score[:, 0] - score[:, 1]) / (at[:, 1] - at[:, 0])
    first = score[:, 0] + slope * at[:, 0]
    return NormalScores(
        torch.cat([torch.zeros_like(first)[:, None], at[:, 1:]], 1), torch.cat([first[:, None], score[:, 1:]], 1)
    )


def _trace(square: Float[Tensor, "b r r"]) -> Float[Tensor, "b"]:
    trace: Tensor = square.diagonal(dim1=1, dim2=2).sum(1)
    return trace
