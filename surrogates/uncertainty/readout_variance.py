"""How large the error of each readout is expected to be, from what is known before anything is measured.

With ``D_g`` the mean squared held-out error of readout ``g``, ``m`` the predicted effect and ``a_1 ... a_k`` the
single effects of the parts that were measured alone, the variance of the error is

    h_ig = c0 D_g + c1 mean(D) + c2 own_ig
           + c3 m_ig² + c4 sum_k a_kg² + c5 sum_{k<l} |a_kg a_lg| + c6 own_ig m_ig²

where ``own`` marks the readouts that are targets of the perturbation itself, which ``D_g`` leaves out. The shares
``c >= 0`` maximise the normal likelihood of held-out errors, each judged by a ``D_g`` of all other perturbations.
So large effects are expected to be missed by more than small ones. ``D_g`` has a floor, as a readout that was
silent in a few rows need not stay so, and readouts below it say nothing of the shares.
"""

from dataclasses import dataclass

import numpy as np
import scipy
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from surrogates.data.canonical import number_rows
from surrogates.data.vocabulary import PerturbationBatch


def sums_over_others(values: Float[Tensor, "n g"], same: Int[Tensor, "n"]) -> Float[Tensor, "n g"]:
    """Sum columns over the rows of all other perturbations."""
    own = values.new_zeros(int(same.max()) + 1, values.shape[1]).index_add(0, same, values)
    return (values.sum(0) - own[same]).clamp(min=0)


# Mean squared error of a readout is not taken below this share of the mean over readouts.
_FLOOR = 1e-3
# Least share of the mean over readouts in the error of each.
_LEAST_COMMON = 1e-4
_LOG_FLOOR = 1e-4  # of the usual squared length of a single effect: below it lengths are not distinguished
_MOST_NUMBERS = 2**20


@dataclass(frozen=True)
class Circumstances:
    """What is known of some predictions before anything is measured."""

    mean: Float[Tensor, "b g"]  # predicted effects
    squares: Float[Tensor, "b g"]  # squared single effects, summed over the parts that were measured alone
    products: Float[Tensor, "b g"]  # absolute products of two single effects, summed over pairs of such parts
    own: Bool[Tensor, "b g"]  # which readouts are targets of the perturbation itself
    # Logarithms of the squared lengths of the prediction, of the single effects and of what the prediction adds to
    # their sum, absolute log ratio of the longest and the shortest single effect, mean cosine between single
    # effects, and log posterior scale.
    traits: Float[Tensor, "b t"]
    entries: Float[Tensor, "b v"]  # how often each vocabulary entry is part of the perturbation
    same: Int[Tensor, "b"]  # number of the perturbation of each row: one that was held out twice has two rows

    @classmethod
    def of(
        cls,
        mean: Float[Tensor, "b g"],
        scale: Float[Tensor, "b"],
        batch: PerturbationBatch,
        *,
        singles: Float[Tensor, "v g"],
        alone: Bool[Tensor, "v"],
        own: Bool[Tensor, "b g"],
    ) -> "Circumstances":
        """Describe predictions."""
        genes = batch.genes.clamp(min=0)
        known = batch.present & alone[genes]
        squares, sizes, sums, directions = (torch.zeros_like(mean) for _ in range(4))
        lengths = mean.new_zeros(genes.shape)
        tiny = torch.finfo(mean.dtype).tiny
        for slot in range(genes.shape[1]):
            part = singles[genes[:, slot]] * known[:, slot, None]
            squares += part.square()
            sizes += part.abs()
            sums += part
            lengths[:, slot] = part.square().sum(1)
            directions += part / lengths[:, slot, None].sqrt().clamp(min=tiny)
        usual = singles[alone].square().sum(1).mean() if bool(alone.any()) else mean.new_zeros(())
        floor = (_LOG_FLOOR * usual).clamp(min=tiny)
        count = (lengths > 0).sum(1)
        cosine = (directions.square().sum(1) - count) / (count * (count - 1)).clamp(min=1)
        return cls(
            mean=mean,
            squares=squares,
            products=((sizes.square() - squares) / 2).clamp(min=0),
            own=own,
            traits=torch.stack([
                (mean.square().sum(1) + floor).log(),
                (lengths.sum(1) + floor).log(),
                ((mean - sums).square().sum(1) + floor).log(),
                _log_ratio(lengths + floor, known),
                torch.where(count > 1, cosine, 0.0),
                scale.clamp(min=tiny).log(),
            ], dim=1),
            entries=batch.multi_hot(len(singles)),
            same=number_rows(batch.genes),
        )  # fmt: skip

    def __len__(self) -> int:
        return len(self.mean)


@dataclass(frozen=True)
class ReadoutVariance:
    """Expected squared error of each readout, by what is known of the prediction."""

    # Mean squared held-out error of each readout where it is not a target itself, not below its floor.
    usual: Float[Tensor, "g"]
    shares: Float[Tensor, "7"]  # what each term of the module's equation counts

    @property
    def moves(self) -> Bool[Tensor, "g"]:
        """Which readouts were not silent: their mean squared error is clearly above the floor."""
        return self.usual > 2 * _FLOOR * self.usual.mean()

    def of(self, given: Circumstances) -> Float[Tensor, "b g"]:
        """Evaluate the module's equation."""
        total = torch.zeros_like(given.mean)
        for share, term in zip(self.shares, _terms(given, self.usual), strict=True):
            total += share * term
        return total.clamp(min=_least(self.usual))

    @classmethod
    def learn(
        cls, residuals: Float[Tensor, "n g"], given: Circumstances
    ) -> tuple["ReadoutVariance", Float[Tensor, "n g"]]:
        """Learn from held-out errors."""
        return cls._learn(residuals, given, len(_terms(given, given.mean)))

    @classmethod
    def without_effects(
        cls, residuals: Float[Tensor, "n g"], given: Circumstances
    ) -> tuple["ReadoutVariance", Float[Tensor, "n g"]]:
        """Learn variances that do not know the size of effects: by the first three terms of the equation."""
        return cls._learn(residuals, given, 3)

    @classmethod
    def _learn(
        cls, residuals: Float[Tensor, "n g"], given: Circumstances, used: int
    ) -> tuple["ReadoutVariance", Float[Tensor, "n g"]]:
        squares = residuals.square()
        usual, left_out = _mean_squares(squares, ~given.own, given.same)
        terms = _terms(given, left_out)
        told_of = given.own | (left_out > 2 * _FLOOR * usual.mean())
        rows, columns = told_of.nonzero(as_tuple=True)
        every = max(1, -(-len(rows) // _MOST_NUMBERS))
        told = rows[::every], columns[::every]
        shares = torch.zeros(len(terms), dtype=torch.float64)
        shares[:used] = most_likely_shares(
            squares[told], torch.stack([term.expand_as(squares)[told] for term in terms[:used]])
        )
        variance = torch.zeros_like(squares)
        for share, term in zip(shares, terms, strict=True):
            variance += share * term
        return cls(usual, shares), variance.clamp(min=_least(usual))


def _mean_squares(
    squares: Float[Tensor, "n g"], counted: Bool[Tensor, "n g"], same: Int[Tensor, "n"]
) -> tuple[Float[Tensor, "g"], Float[Tensor, "n g"]]:
    """Mean square of what counts of each readout, not below a floor; and the same without each perturbation."""
    kept, counts = squares * counted, counted.to(squares.dtype)
    total, count = kept.sum(0), counts.sum(0)
    floor = _positive(_FLOOR * float(total.sum() / count.sum().clamp(min=1)))
    others = sums_over_others(kept, same) / sums_over_others(counts, same).clamp(min=1)
    return (total / count.clamp(min=1)).clamp(min=floor), others.clamp(min=floor)


def most_likely_shares(squares: Float[Tensor, "n"], terms: Float[Tensor, "t n"]) -> Float[Tensor, "t"]:
    """Fit variances that are sums of given terms, by the likelihood of centred normal numbers.

    Minimises ``mean(log h + r² / h)``, ``h = sum_t c_t terms_t``, over ``c >= 0``. The second term, which is the
    same for all, keeps a share of at least 1e-4 of the mean square, so that ``h`` is positive.
    """
    size = terms.mean(1)
    unit = float(squares.mean()) if squares.numel() else 0.0
    used = torch.nonzero(size > 0).flatten()
    shares = torch.zeros(len(terms), dtype=torch.float64)
    if unit <= 0 or not len(used):
        shares[0] = 1.0
        return shares
    # In units of the mean square, every term of mean one.
    rows = (terms[used] / size[used, None]).numpy()
    ratio = squares.numpy() / unit

    def criterion(at: np.ndarray) -> tuple[float, np.ndarray]:
        variance = at @ rows
        standard = ratio / variance
        slope = rows @ ((1 - standard) / variance) / len(ratio)
        return float(np.log(variance).mean() + standard.mean()), slope

    least = np.where(used.numpy() == 1, _LEAST_COMMON, 0.0)
    start = np.full(len(used), 1 / len(used))
    bounds = [(low, None) for low in least]
    found = scipy.optimize.minimize(criterion, start, jac=True, method="L-BFGS-B", bounds=bounds)
    shares[used] = torch.from_numpy(found.x) * unit / size[used]
    return shares


def _terms(given: Circumstances, usual: Float[Tensor, "*n g"]) -> tuple[Float[Tensor, "..."], ...]:
    predicted, own = given.mean.square(), given.own.to(given.mean.dtype)
    return usual, usual.mean(), own, predicted, given.squares, given.products, own * predicted


def _least(usual: Float[Tensor, "g"]) -> float:
    return _positive(float(usual.mean()) * _LEAST_COMMON)


def _positive(number: float) -> float:
    """Where no prediction is off at all, errors are as large as rounding."""
    return max(number, torch.finfo(torch.float64).eps ** 2)


def _log_ratio(lengths: Float[Tensor, "b k"], known: Bool[Tensor, "b k"]) -> Float[Tensor, "b"]:
    """Log ratio of the longest and the shortest of the known parts; zero with fewer than two."""
    logs = lengths.log() / 2
    longest = torch.where(known, logs, -torch.inf).amax(1)
    shortest = torch.where(known, logs, torch.inf).amin(1)
    return torch.where(known.sum(1) > 1, longest - shortest, 0.0)
