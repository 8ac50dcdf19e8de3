"""How sure a fitted model is of many effects at once: the joint law behind every gain of a batch.

The error of a prediction has three parts, and only the last is the candidate's own:

* the **doubt of the model**: what other data would have taught it. The cross-fits, each without one part of the
  combinations, give it by the delete-a-group jackknife: the covariance ``(K - 1) / K sum_k d_k d_k^T`` of their
  deviations ``d_k`` [Quenouille 1956; Kott 2001], which all candidates share;
* the **error of a gene**: held-out errors of combinations that share a gene are alike; the correlation is
  estimated from them, and candidates that share a gene miss together;
* the rest of the error law, independent.

The noise of a measurement is taken off: the law is that of the state of the cells, not of a lucky reading.
Together the parts have the variance of the error law, less that noise; the scatter of coefficients is left out.
"""

import math
from dataclasses import dataclass, replace
from functools import partial

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from inverse_design.acquisition.belief import Belief
from inverse_design.acquisition.worth import EffectLaw, Worth
from surrogates.data.novelty import SEEN_DOUBLE, novelty_code
from surrogates.data.screen import Screen
from surrogates.data.vocabulary import PerturbationBatch
from surrogates.models.calibrated import FittedCalibrated
from surrogates.models.decomposition import measurement_variance
from surrogates.uncertainty.covariance import FactorCovariance

_NUMBERS_AT_ONCE = 2**22  # of the noise that is drawn at a time
_COMPARED = 1500  # held-out combinations that are compared with each other, at most


@dataclass(frozen=True)
class JointEffects:
    """The joint law of the true effects of some candidates on the readouts of a target.

    Attributes:
        mean: Expected effects.
        doubt: Directions in which the model may be wrong, one per cross-fit; zero for classes without any.
        used: Which cross-fits tell of each candidate: those that held out its class.
        covariances: Distinct covariances of errors.
        group: Which of them each candidate has.
        spread: Factor on the covariance of what is left for genes and for the candidate itself.
        genes: Entries that each candidate holds, ``-1`` for none.
        alike: Correlation of the errors of combinations that share one gene.
    """

    mean: Float[Tensor, "b m"]
    doubt: Float[Tensor, "j b m"]
    used: Bool[Tensor, "j b"]
    covariances: tuple[FactorCovariance, ...]
    group: Int[Tensor, "b"]
    spread: Float[Tensor, "b"]
    genes: Int[Tensor, "b k"]
    alike: float

    def __len__(self) -> int:
        return len(self.mean)

    @property
    def folds(self) -> Int[Tensor, "b"]:
        """Number of cross-fits that tell of each candidate."""
        return self.used.sum(0)

    def marginal(self) -> EffectLaw:
        """Give the law of each candidate on its own."""
        return EffectLaw(self.mean, self.doubt.permute(1, 2, 0), self.covariances, self.group, self.spread)

    def leave_one_out(self) -> Float[Tensor, "j b m"]:
        """Give the expected effects by each cross-fit, around those of the whole fit."""
        root = (self.folds / (self.folds - 1).clamp(min=1)).sqrt()
        return self.mean + self.doubt * root[:, None]

    def without_doubt(self) -> "JointEffects":
        """Take the model at its word: only genes and candidates err."""
        return replace(self, doubt=torch.zeros_like(self.doubt))

    def rows(self, index: Int[Tensor, "c"]) -> "JointEffects":
        """Take some of the candidates.

        Args:
            index: Which.

        Returns:
            Their joint law.
        """
        return JointEffects(
            self.mean[index], self.doubt[:, index], self.used[:, index], self.covariances, self.group[index],
            self.spread[index], self.genes[index], self.alike,
        )  # fmt: skip

    def believe(self, worth: Worth, count: int, *, seed: int) -> Belief:
        """Draw effects and value them.

        Args:
            worth: What they are worth.
            count: Number of joint draws.
            seed: Fixes the draws.

        Returns:
            What is believed of the utilities, with the draws.
        """
        generator = torch.Generator().manual_seed(seed)
        present, which = torch.unique(self.genes, return_inverse=True)
        width = self.mean.shape[1] + max(each.loadings.shape[1] for each in self.covariances)
        block = max(1, _NUMBERS_AT_ONCE // (width * (len(self) + len(present))))
        sizes = [min(block, count - start) for start in range(0, count, block)]
        draw = partial(self._single_precision().draw, which=which, width=width, generator=generator)
        return Belief.of_members(torch.cat([worth.utility(draw(size)).double() for size in sizes]))

    def _single_precision(self) -> "JointEffects":
        """A draw is far less sure than its seventh digit, and memory is the limit."""
        covariances = tuple(
            FactorCovariance(each.diagonal.float(), each.loadings.float()) for each in self.covariances
        )
        return replace(
            self,
            mean=self.mean.float(),
            doubt=self.doubt.float(),
            covariances=covariances,
            spread=self.spread.float(),
        )

    def draw(
        self, count: int, *, which: Int[Tensor, "b k"], width: int, generator: torch.Generator
    ) -> Float[Tensor, "s b m"]:
        """Draw effects of all candidates together.

        Args:
            count: Number of joint draws.
            which: Number of each gene among those that any candidate holds, counted from zero.
            width: Readouts, and the largest rank of a covariance.
            generator: Source of randomness.

        Returns:
            The draws, in the precision of the law.
        """
        kind = self.mean.dtype
        shared = torch.randn(count, len(self.doubt), generator=generator, dtype=kind)
        of_gene = torch.randn(count, int(which.max()) + 1, width, generator=generator, dtype=kind)
        noise = torch.randn(count, len(self), width, generator=generator, dtype=kind)
        held = (self.genes >= 0).to(kind)
        # The genes of three and more cannot explain more than all.
        alike = (1 / held.sum(1).clamp(min=1)).clamp(max=self.alike)
        noise *= (1 - alike * held.sum(1)).clamp(min=0).sqrt()[:, None]
        for slot in range(which.shape[1]):
            noise.addcmul_((alike.sqrt() * held[:, slot])[:, None], of_gene[:, which[:, slot]])
        effects = torch.einsum("sj,jbm->sbm", shared, self.doubt).add_(self.mean)
        m, root = self.mean.shape[1], self.spread.sqrt()[:, None]
        for number, covariance in enumerate(self.covariances):
            rows = torch.nonzero(self.group == number).flatten()
            some = noise if len(rows) == len(self) else noise[:, rows]
            rank = covariance.loadings.shape[1]
            own = some[..., m : m + rank] @ covariance.loadings.T
            own.addcmul_(some[..., :m], covariance.diagonal.sqrt()).mul_(root[rows])
            effects[:, rows] += own
        return effects


def joint_effects(
    fitted: FittedCalibrated, batch: PerturbationBatch, columns: Int[Tensor, "m"], screen: Screen
) -> JointEffects:
    """Build the joint law of some candidates from a fitted model and its cross-fits.

    Args:
        fitted: A surrogate with its error laws.
        batch: The candidates.
        columns: Readouts of the target.
        screen: What it was fitted to, for the noise of its measurements.

    Returns:
        The law.
    """
    posterior = fitted.predict(batch)
    covariances = tuple(
        FactorCovariance(each.diagonal[columns], each.loadings[columns]) for each in posterior.covariances
    )
    doubt, used = _doubt(fitted, batch, columns)
    total = torch.stack([each.variance.sum() for each in covariances])[posterior.group]
    known = doubt.square().sum((0, 2)) + measurement_variance(screen)[columns].sum()
    return JointEffects(
        mean=posterior.mean[:, columns],
        doubt=doubt,
        used=used,
        covariances=covariances,
        group=posterior.group,
        spread=(posterior.scale - known / total).clamp(min=0),
        genes=batch.genes,
        alike=gene_correlation(fitted),
    )


def gene_correlation(fitted: FittedCalibrated) -> float:
    """Estimate how alike the held-out errors of combinations are that share one gene.

    Args:
        fitted: A surrogate with its cross-fits.

    Returns:
        Mean inner product of whitened errors of such combinations over their mean square; between 0 and 1/2, at
        which the genes explain all. Zero where nothing can be compared.
    """
    errors, held = [], []
    for fold in fitted.cross:
        rows = torch.nonzero(fold.codes == SEEN_DOUBLE).flatten()
        if len(rows):
            batch = fold.batch.rows(rows)
            errors.append(fold.effects[rows] - fold.fitted.predict(batch).mean)
            held.append(batch.multi_hot(len(fitted.vocabulary)))
    if not errors:
        return 0.0
    rows, marks = torch.cat(errors)[:_COMPARED], torch.cat(held)[:_COMPARED]
    white = fitted.law(SEEN_DOUBLE).covariance.whiten(rows)
    one = marks @ marks.T == 1
    if not bool(one.any()):
        return 0.0
    inner = white @ white.T
    return min(max(float(inner[one].mean() / inner.diagonal().mean()), 0.0), 0.5)


def _doubt(
    fitted: FittedCalibrated, batch: PerturbationBatch, columns: Int[Tensor, "m"]
) -> tuple[Float[Tensor, "j b m"], Bool[Tensor, "j b"]]:
    """Deviations of the cross-fits that held out each candidate's class, scaled to the jackknife's covariance."""
    doubt = torch.zeros(len(fitted.cross), len(batch), len(columns), dtype=torch.float64)
    known = torch.zeros(len(fitted.cross), len(batch), dtype=torch.bool)
    codes = novelty_code(batch, fitted.measured_alone)
    for code in codes.unique().tolist():
        used = [number for number, fold in enumerate(fitted.cross) if bool((fold.codes == code).any())]
        if len(used) < 2:
            continue
        rows = torch.nonzero(codes == code).flatten()
        some = batch.rows(rows)
        means = torch.stack([fitted.cross[number].fitted.predict(some).mean[:, columns] for number in used])
        scaled = (means - means.mean(0)) * math.sqrt((len(used) - 1) / len(used))
        doubt[torch.tensor(used)[:, None], rows] = scaled
        known[torch.tensor(used)[:, None], rows] = True
    return doubt, known
