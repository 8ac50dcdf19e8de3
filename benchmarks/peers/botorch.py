"""The search by BoTorch: its discrete optimiser on an ensemble of models, and on a Gaussian process."""

from typing import cast

import torch
from botorch.acquisition.acquisition import AcquisitionFunction
from botorch.acquisition.analytic import LogExpectedImprovement
from botorch.acquisition.logei import qLogExpectedImprovement
from botorch.acquisition.objective import GenericMCObjective
from botorch.fit import fit_gpytorch_mll
from botorch.models import SingleTaskGP
from botorch.models.ensemble import EnsembleModel
from botorch.models.transforms import Normalize
from botorch.optim.optimize import optimize_acqf_discrete
from botorch.posteriors.ensemble import EnsemblePosterior
from botorch.posteriors.posterior import Posterior
from botorch.sampling.base import MCSampler
from gpytorch.mlls import ExactMarginalLogLikelihood
from jaxtyping import Float, Int64
from torch import Tensor

from benchmarks.peers.problem import PairProblem

_CHOICES = 1 << 18  # pairs that are spelled out at a time, since all choices of a call are held
_ENSEMBLE_BATCH, _PROCESS_BATCH = 4096, 256  # what was fastest: the default of 2048 takes longer for both


class _Members(EnsembleModel):
    """Looks the effects of both genes up, so that a choice is two numbers instead of an effect."""

    rows: Tensor

    def __init__(self, rows: Float[Tensor, "s v d"]) -> None:
        super().__init__()
        self.register_buffer("rows", rows)
        self._num_outputs = rows.shape[-1]

    @property
    def batch_shape(self) -> torch.Size:
        return torch.Size([])

    def forward(self, X: Tensor) -> Tensor:
        first, second = X.long().unbind(-1)
        effects: Tensor = (self.rows[:, first] + self.rows[:, second]).movedim(0, -3)
        return effects


class _AllMembers(MCSampler):
    """Takes each member once; BoTorch's own sampler draws members anew for each choice, 16 times as slowly."""

    def __init__(self, members: int) -> None:
        super().__init__(sample_shape=torch.Size([members]))

    def forward(self, posterior: Posterior) -> Tensor:
        members = cast("EnsemblePosterior", posterior)
        each = torch.arange(members.ensemble_size)
        base = each.view(-1, *[1] * len(members.batch_shape)).expand(len(each), *members.batch_shape)
        return members.rsample_from_base_samples(self.sample_shape, base)


class _Remembered(AcquisitionFunction):
    """Keeps the best choices that an acquisition function was asked about; the optimiser gives only the first."""

    def __init__(self, acquisition: qLogExpectedImprovement, k: int) -> None:
        super().__init__(acquisition.model)
        self.acquisition, self.k = acquisition, k
        self.values, self.choices = torch.empty(0), torch.empty(0, 2)

    def forward(self, X: Tensor) -> Tensor:
        values: Tensor = self.acquisition(X)
        best = values.topk(min(self.k, len(values))).indices
        kept = torch.cat([self.values, values[best]])
        choices = torch.cat([self.choices, X[best, 0]])
        order = kept.argsort(descending=True)[: self.k]
        self.values, self.choices = kept[order], choices[order]
        return values


def botorch_ensemble(problem: PairProblem, k: int) -> Int64[Tensor, "m 2"]:
    """Optimise the logarithm of the expected improvement over the members, the fastest way that was found.

    Pairs are numbers of genes, made some at a time; members are enumerated; single precision.

    Args:
        problem: What to search.
        k: How many pairs.

    Returns:
        The best pairs, the best first.
    """
    goal = problem.target.float()

    def utility(samples: Tensor, X: Tensor | None = None) -> Tensor:  # noqa: ARG001 - as BoTorch calls it
        return -(samples - goal).square().sum(-1)

    acquisition = _Remembered(
        qLogExpectedImprovement(
            _Members(problem.rows.float()),
            best_f=problem.incumbent,
            sampler=_AllMembers(len(problem.rows)),
            objective=GenericMCObjective(utility),
        ),
        k,
    )
    for pairs in problem.blocks(_CHOICES):
        optimize_acqf_discrete(acquisition, q=1, choices=pairs.float(), max_batch_size=_ENSEMBLE_BATCH)
    return acquisition.choices.long()


def botorch_process(problem: PairProblem, k: int) -> Int64[Tensor, "1 2"]:  # noqa: ARG001 - as all methods
    """Fit a Gaussian process to the measured pairs, and optimise the logarithm of its expected improvement.

    A pair is described by the sum of its mean effects.

    Args:
        problem: What to search.
        k: Not used: the optimiser gives the best pair only.

    Returns:
        The best pair to this model.
    """
    means = problem.rows.mean(0)
    process = SingleTaskGP(
        means[problem.measured].sum(1), problem.utilities[:, None], input_transform=Normalize(means.shape[1])
    )
    fit_gpytorch_mll(ExactMarginalLogLikelihood(process.likelihood, process))
    acquisition = LogExpectedImprovement(process, best_f=problem.incumbent)
    best, place = -torch.inf, problem.planted.new_zeros(1, 2)
    for pairs in problem.blocks(_CHOICES):
        choices = means[pairs].sum(1)
        choice, value = optimize_acqf_discrete(acquisition, q=1, choices=choices, max_batch_size=_PROCESS_BATCH)
        if float(value) > best:
            at = int((choices == choice).all(1).int().argmax())
            best, place = float(value), pairs[at : at + 1]
    return place
