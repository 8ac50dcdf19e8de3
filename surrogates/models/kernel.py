"""Kernel ridge regression on descriptors: a Gaussian process over targets with one kernel per descriptor.

The departure of an entry's effect from the prior is a Gaussian process with covariance ``sum_k w_k K_k`` over
entries. The weights maximise the marginal likelihood of the training departures' scores on the effect components
(Rasmussen and Williams 2006, equation 2.30), the noise profiled out; each component then gets a signal-to-noise
ratio of its own by the same criterion, since some directions of the effect depend on the target's kind and others
do not. It is computed in weight space, on coordinates whose inner products are the kernels.
"""

from dataclasses import dataclass

import numpy as np
import scipy
import torch
from jaxtyping import Float, Int
from torch import Tensor

from surrogates.data.descriptors import Descriptors, gene_descriptors, known_to_any
from surrogates.data.novelty import own_columns
from surrogates.data.screen import Screen
from surrogates.data.vocabulary import Vocabulary
from surrogates.models.directions import effect_components
from surrogates.models.entries import FittedDescribed, Learnt, fit_described, own_readout_scores
from surrogates.uncertainty.marginal_likelihood import maximise_evidence

# As in the model of interactions.
_LOG_WEIGHT_BOUNDS = (-8.0, 4.0)
_START = -3.0
_LOG_RATIOS = torch.linspace(-6.0, 4.0, 41, dtype=torch.float64)


@dataclass(frozen=True)
class KernelRidge:
    """Predicts unmeasured targets from measured ones with similar descriptors.

    Measured entries keep their effects; combinations are scaled sums; an entry that no descriptor describes falls
    back to the prior, see :mod:`surrogates.models.entries`.

    Attributes:
        descriptors: What is known of the targets; by default what the shipped tables say of genes, or nothing
            when they are not on this machine.
        loadings: With this many principal components of the training effects, targets that are readouts are also
            compared by how those readouts respond; 0 for not.
        rank: Most coordinates of each kernel.
        components: Effect components that are predicted.
    """

    descriptors: tuple[Descriptors, ...] | None = None
    loadings: int = 0
    rank: int = 128
    components: int = 50

    def fit(self, screen: Screen, *, seed: int) -> FittedDescribed:
        """Learn from the measured entries of a screen."""
        chosen = chosen_descriptors(self.descriptors, screen.vocabulary)
        blocks = tuple(each.coordinates(screen.vocabulary, rank=self.rank)[0] for each in chosen)
        own = own_columns(screen.vocabulary, screen.readouts)
        described = known_to_any(chosen, screen.vocabulary) | ((own >= 0) & (self.loadings > 0))
        return fit_described(screen, _Process(own, blocks, self.loadings, self.components), described, seed=seed)


def chosen_descriptors(
    descriptors: tuple[Descriptors, ...] | None, vocabulary: Vocabulary
) -> tuple[Descriptors, ...]:
    """Take the given descriptors, or those that the shipped tables offer."""
    if descriptors is not None:
        return descriptors
    # Some compounds are called like a gene.
    return gene_descriptors([entry.target for entry in vocabulary.entries if entry.mode != "compound"])


@dataclass(frozen=True)
class _Process:
    """The Gaussian process over the entries of a vocabulary."""

    own: Int[Tensor, "v"]  # number of the own readout of each entry, ``-1`` if there is none
    blocks: tuple[Float[Tensor, "v _"], ...]  # coordinates of the entries, one block per kernel
    loadings: int  # principal components on which own readouts are compared
    components: int  # effect components that are predicted

    def __call__(self, train: Int[Tensor, "m"], departures: Float[Tensor, "m g"]) -> Learnt:
        responses = own_readout_scores(departures, self.own, rank=self.loadings)[1]
        responses = torch.nn.functional.normalize(responses, dim=1)
        given = (*self.blocks, responses)
        blocks = [scaled for block in given if (scaled := _unit_rows(block, train)) is not None]
        basis = effect_components(departures, self.components)
        if not blocks or not len(basis):
            return Learnt.nothing(len(self.own), departures)
        sizes = tuple(block.shape[1] for block in blocks)
        features = torch.cat(blocks, dim=1)
        scores = departures @ basis.T
        # Few entries: work with their covariance; few coordinates: with those. The criterion is the same.
        weights = (
            evidence_of_kernels(torch.stack([block[train] @ block[train].T for block in blocks]), scores)
            if len(train) <= sum(sizes)
            else maximise_evidence(features[train], sizes, scores)
        )
        prior = torch.cat([weight.expand(size) for weight, size in zip(weights, sizes, strict=True)])
        scaled = features * prior.sqrt()
        left, values, right = torch.linalg.svd(scaled[train], full_matrices=False)
        projected = left.T @ scores
        rest = scores.square().sum(0) - projected.square().sum(0)
        ratio = _ratios(values.square(), projected, rest, count=len(train))
        gain = ratio * values[:, None] / (1 + ratio * values.square()[:, None])
        onto = scaled @ right.T
        # An entry that a kernel does not know is alone in it: its prior variance stays, and nothing explains it.
        explained = (onto.square() * (values.square() / (1 + values.square()))).sum(1)
        return Learnt((onto @ (gain * projected)) @ basis, 1 + (weights.sum() - explained).clamp(min=0.0))


def evidence_of_kernels(kernels: Float[Tensor, "k m m"], scores: Float[Tensor, "m c"]) -> Float[Tensor, "k"]:
    """Choose the weight of each kernel by the marginal likelihood, the noise variance profiled out.

    The criterion is that of :func:`surrogates.uncertainty.marginal_likelihood.maximise_evidence`, computed on the
    covariance ``I + sum_k w_k K_k`` of the ``m`` training entries.
    """
    eye = torch.eye(len(scores), dtype=torch.float64)
    tiny = torch.finfo(torch.float64).tiny

    def criterion(at: np.ndarray) -> tuple[float, np.ndarray]:
        log_weights = torch.tensor(at, requires_grad=True)
        chol = torch.linalg.cholesky(eye + (log_weights.exp()[:, None, None] * kernels).sum(0))
        error = torch.linalg.solve_triangular(chol, scores, upper=False).square().sum()
        value = 2 * chol.diagonal().log().sum() / len(scores) + error.clamp(min=tiny).log()
        (gradient,) = torch.autograd.grad(value, log_weights)
        return float(value.detach()), gradient.numpy()

    start = np.full(len(kernels), _START)
    bounds = [_LOG_WEIGHT_BOUNDS] * len(start)
    found = scipy.optimize.minimize(criterion, start, jac=True, method="L-BFGS-B", bounds=bounds)
    return torch.tensor(found.x).exp()


def _unit_rows(block: Float[Tensor, "v r"], train: Int[Tensor, "m"]) -> Float[Tensor, "v r"] | None:
    """Scale a kernel to a mean variance of one over the training entries; ``None`` if it knows none of them."""
    size = block[train].square().sum(1).mean() if block.shape[1] else block.new_zeros(())
    return block / size.sqrt() if float(size) > 0 else None


def _ratios(
    values: Float[Tensor, "r"], projected: Float[Tensor, "r c"], rest: Float[Tensor, "c"], *, count: int
) -> Float[Tensor, "c"]:
    """Choose each component's signal-to-noise ratio, relative to the shared one, by the marginal likelihood."""
    shrunk = 1 + _LOG_RATIOS.exp()[:, None] * values
    error = (projected.square() / shrunk[:, :, None]).sum(1) + rest.clamp(min=0.0)
    tiny = torch.finfo(torch.float64).tiny
    criterion = shrunk.log().sum(1)[:, None] / count + error.clamp(min=tiny).log()
    return _LOG_RATIOS.exp()[criterion.argmin(0)]
