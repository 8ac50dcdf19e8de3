"""What a set of experiments gains together: exact for each alone, by scenarios for how they depend on each other.

Each scenario says how candidates fare relative to what was expected of them; given the scenario they are
independent. With ``P_j(y)`` the probability that ``j`` improves by more than ``y``, and ``p_js(y)`` that in
scenario ``s``,

    f(S) = mean over s of  integral of  1 - prod_{j in S} (1 - p_js(y))  dy,      mean over s of p_js(y) = P_j(y)

so that ``f({j})`` is the expected gain of ``j`` whatever the scenarios are. ``f`` is monotone and submodular: for
each ``s`` and ``y`` it is a coverage. ``p_js`` is a normal copula, smoothed so that the probability is never all
in one scenario,

    p_js(y) = Phi((t_j(y) + (1 - h²)^1/2 e_js) / h)

with ``e_js`` the normal score of the rank of ``j``'s utility in joint draw ``s``, and ``t_j(y)`` such that the
mean is ``P_j(y)``. Scenarios are the same for every seed. They are drawn from the joint posterior of effects, in
which the error of a prediction has three parts:

* the uncertainty of the model, which all candidates share: the delete-a-group jackknife over cross-fits, with the
  covariance ``(K - 1) / K sum_k d_k d_k^T`` of their deviations ``d_k`` [Quenouille 1956; Kott 2001];
* the error of a gene: held-out errors of combinations that share a gene are alike, with a correlation that is
  estimated from them;
* the rest of the error model, independent.

The noise of a measurement is taken off: the posterior is that of the state of the cells. The scatter of
coefficients is left out.
"""

import math
from dataclasses import dataclass, replace
from functools import cached_property, partial

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from inverse_design.acquisition.acquisition import UtilityPosterior
from inverse_design.acquisition.quadratic import NormalScores
from inverse_design.acquisition.utility import EffectLaw, Utility
from surrogates.data.novelty import SEEN_DOUBLE, novelty_code
from surrogates.data.screen import Screen
from surrogates.data.vocabulary import PerturbationBatch
from surrogates.models.wrappers.calibrated import FittedCalibrated
from surrogates.models.wrappers.stated_errors import measurement_variance
from surrogates.uncertainty.error_model import FactorCovariance

_NUMBERS_AT_ONCE = 2**22  # of the noise that is drawn at a time
_COMPARED = 1500  # held-out combinations that are compared with each other, at most


@dataclass(frozen=True)
class JointEffects:
    """The joint posterior of the true effects of some candidates on the readouts of a target."""

    mean: Float[Tensor, "b m"]  # expected effects
    # Directions in which the model may be wrong, one per cross-fit; zero for classes without any.
    model_error: Float[Tensor, "j b m"]
    used: Bool[Tensor, "j b"]  # which cross-fits tell of each candidate: those that held out its class
    covariances: tuple[FactorCovariance, ...]  # distinct covariances of errors
    group: Int[Tensor, "b"]  # which of them each candidate has
    spread: Float[Tensor, "b"]  # factor on the covariance of what is left for genes and for the candidate itself
    genes: Int[Tensor, "b k"]  # entries that each candidate holds, ``-1`` for none
    alike: float  # correlation of the errors of combinations that share one gene

    def __len__(self) -> int:
        return len(self.mean)

    @property
    def folds(self) -> Int[Tensor, "b"]:
        """Number of cross-fits that tell of each candidate."""
        return self.used.sum(0)

    def marginal(self) -> EffectLaw:
        """Give the law of each candidate on its own."""
        return EffectLaw(self.mean, self.model_error.permute(1, 2, 0), self.covariances, self.group, self.spread)

    def leave_one_out(self) -> Float[Tensor, "j b m"]:
        """Give the expected effects by each cross-fit, around those of the whole fit."""
        root = (self.folds / (self.folds - 1).clamp(min=1)).sqrt()
        return self.mean + self.model_error * root[:, None]

    def rows(self, index: Int[Tensor, "c"]) -> "JointEffects":
        """Take some of the candidates."""
        return JointEffects(
            self.mean[index], self.model_error[:, index], self.used[:, index], self.covariances, self.group[index],
            self.spread[index], self.genes[index], self.alike,
        )  # fmt: skip

    def believe(self, utility: Utility, count: int, *, seed: int) -> UtilityPosterior:
        """Draw effects and value them."""
        generator = torch.Generator().manual_seed(seed)
        present, which = torch.unique(self.genes, return_inverse=True)
        width = self.mean.shape[1] + max(each.loadings.shape[1] for each in self.covariances)
        block = max(1, _NUMBERS_AT_ONCE // (width * (len(self) + len(present))))
        sizes = [min(block, count - start) for start in range(0, count, block)]
        draw = partial(self._single_precision().draw, which=which, width=width, generator=generator)
        return UtilityPosterior.of_members(torch.cat([utility.utility(draw(size)).double() for size in sizes]))

    def _single_precision(self) -> "JointEffects":
        """A draw is far less sure than its seventh digit, and memory is the limit."""
        covariances = tuple(
            FactorCovariance(each.diagonal.float(), each.loadings.float()) for each in self.covariances
        )
        return replace(
            self,
            mean=self.mean.float(),
            model_error=self.model_error.float(),
            covariances=covariances,
            spread=self.spread.float(),
        )

    def draw(
        self, count: int, *, which: Int[Tensor, "b k"], width: int, generator: torch.Generator
    ) -> Float[Tensor, "s b m"]:
        """Draw effects of all candidates together."""
        kind = self.mean.dtype
        shared = torch.randn(count, len(self.model_error), generator=generator, dtype=kind)
        of_gene = torch.randn(count, int(which.max()) + 1, width, generator=generator, dtype=kind)
        noise = torch.randn(count, len(self), width, generator=generator, dtype=kind)
        held = (self.genes >= 0).to(kind)
        # The genes of three and more cannot explain more than all.
        alike = (1 / held.sum(1).clamp(min=1)).clamp(max=self.alike)
        noise *= (1 - alike * held.sum(1)).clamp(min=0).sqrt()[:, None]
        for slot in range(which.shape[1]):
            noise.addcmul_((alike.sqrt() * held[:, slot])[:, None], of_gene[:, which[:, slot]])
        effects = torch.einsum("sj,jbm->sbm", shared, self.model_error).add_(self.mean)
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
    """Build the joint posterior of some candidates from a fitted model and its cross-fits."""
    posterior = fitted.predict(batch)
    covariances = tuple(
        FactorCovariance(each.diagonal[columns], each.loadings[columns]) for each in posterior.covariances
    )
    model_error, used = _model_error(fitted, batch, columns)
    total = torch.stack([each.variance.sum() for each in covariances])[posterior.group]
    known = model_error.square().sum((0, 2)) + measurement_variance(screen)[columns].sum()
    return JointEffects(
        mean=posterior.mean[:, columns],
        model_error=model_error,
        used=used,
        covariances=covariances,
        group=posterior.group,
        spread=(posterior.scale - known / total).clamp(min=0),
        genes=batch.genes,
        alike=gene_correlation(fitted),
    )


def gene_correlation(fitted: FittedCalibrated) -> float:
    """Estimate how alike the held-out errors of combinations are that share one gene."""
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


def _model_error(
    fitted: FittedCalibrated, batch: PerturbationBatch, columns: Int[Tensor, "m"]
) -> tuple[Float[Tensor, "j b m"], Bool[Tensor, "j b"]]:
    """Deviations of the cross-fits that held out each candidate's class, scaled to the jackknife's covariance."""
    model_error = torch.zeros(len(fitted.cross), len(batch), len(columns), dtype=torch.float64)
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
        model_error[torch.tensor(used)[:, None], rows] = scaled
        known[torch.tensor(used)[:, None], rows] = True
    return model_error, known


LIKELY = 1e-3  # chance of an improvement below which none is to be expected
SCENARIOS, _SEED = 512, 0
_SMOOTHING = 0.05  # h²: the part of a utility's variance that depends on nothing else
_CELLS_PER_HALVING, _HALVINGS = 2, 20  # of the largest improvement
_LOWEST, _TABLE = -45.0, 2000  # normal scores of chances below any float, and entries of the table of them
_SMALL = 1e-4  # mean chance up to which none in a scenario is near one
_AT_ONCE = 64  # candidates


@dataclass(frozen=True)
class JointGain:
    """What each candidate adds to those that are chosen."""

    # Chance in each scenario that each candidate improves by more than each cell of improvements, on average over
    # the cell.
    chance: Float[Tensor, "b c s"]
    width: Float[Tensor, "c"]  # of each cell, in the unit of the utility
    chosen: Float[Tensor, "c s"]  # chance in each scenario and cell that any of the chosen candidates does
    left: Float[Tensor, "c s"]  # one less that; both keep their digits where they are small

    @classmethod
    def of(cls, alone: NormalScores, draws: Float[Tensor, "s b"]) -> "JointGain":
        """Begin with nothing chosen."""
        largest = float(alone.reach.amax()) if len(alone.at) else 1.0
        halvings = torch.arange(_HALVINGS * _CELLS_PER_HALVING, -1, -1, dtype=torch.float64) / _CELLS_PER_HALVING
        bounds = torch.cat([torch.zeros(1, dtype=torch.float64), largest * 2**-halvings])
        beyond = alone.beyond(bounds)
        beyond[:, -1] = 0.0  # beyond what is worth counting
        width = bounds.diff()
        mean = ((beyond[:, :-1] - beyond[:, 1:]) / width).clamp(0.0, 1.0)
        chance = _in_scenarios(mean, _places(draws))
        nothing = torch.zeros(chance.shape[1:], dtype=torch.float64)
        return cls(chance, width, nothing, 1 - nothing)

    @cached_property
    def total(self) -> float:
        """Expected gain of what is chosen."""
        return float(self.chosen.mean(1) @ self.width)

    def gains(self) -> Float[Tensor, "b"]:
        """What each candidate adds to the expected gain."""
        return self.gains_of(torch.arange(len(self.chance)))

    def gains_of(self, numbers: Int[Tensor, "c"]) -> Float[Tensor, "c"]:
        """What some candidates add, for lazy evaluation."""
        weight = self.left * self.width[:, None] / self.left.shape[1]
        added: Tensor = self.chance[numbers].flatten(1) @ weight.flatten()
        return added

    def adding(self, number: int) -> "JointGain":
        """Choose a candidate."""
        chance = self.chance[number]
        return JointGain(self.chance, self.width, self.chosen + self.left * chance, self.left * (1 - chance))

    def only(self, some: Bool[Tensor, "b"]) -> "JointGain":
        """Let the others gain nothing."""
        return replace(self, chance=self.chance * some[:, None, None])


def joint_gain(joint: JointEffects, alone: NormalScores, utility: Utility) -> JointGain:
    """Say what some candidates gain together, by scenarios of their joint posterior."""
    return JointGain.of(alone, joint.believe(utility, SCENARIOS, seed=_SEED).joint())


def _places(draws: Float[Tensor, "s b"]) -> Int[Tensor, "b s"]:
    """Rank of each candidate's utility in every draw."""
    return draws.argsort(dim=0, stable=True).argsort(dim=0).T


def _in_scenarios(mean: Float[Tensor, "b c"], places: Int[Tensor, "b s"]) -> Float[Tensor, "b c s"]:
    """Spread chances over scenarios, by a table of what every threshold makes of every rank."""
    spread, shared, count = math.sqrt(_SMOOTHING), math.sqrt(1 - _SMOOTHING), places.shape[1]
    thresholds = torch.linspace(_LOWEST, -_LOWEST, _TABLE, dtype=torch.float64)
    fared = torch.special.ndtri((torch.arange(count, dtype=torch.float64) + 0.5) / count)
    table = torch.special.log_ndtr((thresholds[:, None] + shared * fared) / spread)
    logs = table.logsumexp(1) - math.log(count)
    at = torch.from_numpy(np.interp(mean.log().numpy(), logs.numpy(), np.arange(_TABLE)))
    chance = torch.empty(*mean.shape, count, dtype=torch.float64)
    for rows in torch.arange(len(mean)).split(_AT_ONCE):
        low = at[rows].floor().long().clamp(max=_TABLE - 2)
        part = (at[rows] - low)[..., None]
        ranked = torch.lerp(table[low], table[low + 1], part).exp()
        order = places[rows, None].expand(-1, mean.shape[1], -1)
        chance[rows] = _with_mean(ranked, mean[rows]).gather(2, order)
    return chance


def _with_mean(chance: Float[Tensor, "b c s"], mean: Float[Tensor, "b c"]) -> Float[Tensor, "b c s"]:
    """Put what interpolation misses right, for small chances and for large ones."""
    wanted, got = mean[..., None], chance.mean(2, keepdim=True)
    tiny = torch.finfo(got.dtype).tiny
    # Where a factor above one would lead beyond one, the missing part is shared by what is left.
    low = chance * (wanted / got.clamp(min=tiny)).clamp(max=1.0)
    high = 1 - (1 - chance) * ((1 - wanted) / (1 - got).clamp(min=tiny)).clamp(max=1.0)
    raised = torch.where(wanted < _SMALL, chance * (wanted / got.clamp(min=tiny)), high)
    return torch.where(wanted > got, raised, low)
