"""How far a wanted state may be from all that candidates can make, learnt from held-out doubles.

The likelihood asks which candidate *made* a state. A wanted state need not have been made by any: then it is a
candidate's effect plus a mismatch, independent noise of one variance on all readouts, a multiple of the mean
squared standardised held-out residual. It adds to the target's own uncertainty, so that the search over all pairs
stays one of products. The multiple is judged on states built from measured effects, some of which no candidate
makes: the true distance of every candidate is known, and with it what a ranking costs against the best choice.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from inverse_design.problem.likelihood import law_on
from inverse_design.problem.objective import Distance
from inverse_design.problem.target import AlignedProfile
from surrogates.artefact_types import storable
from surrogates.cached_fit import ALONE, BesideFit
from surrogates.data.canonical import content_order
from surrogates.data.novelty import SEEN_DOUBLE
from surrogates.data.vocabulary import PerturbationBatch
from surrogates.errors import DataError
from surrogates.models.wrappers.calibrated import Expert, FittedCalibrated
from surrogates.uncertainty.dyadic import dyadic_standard_error
from surrogates.uncertainty.posterior import pooled

ITSELF = "a double"
MAKER_LEFT_OUT = "maker left out"
FEWEST = 3  # candidates, below which nothing can be chosen among those that did not make the state
MOST_READOUTS = 100
MOST_DOUBLES = 400  # of a cross-fit: each is a candidate for the states of all
SCALES = (0.7, 1.5)
_UNIT_WEIGHT = 1.0


@dataclass(frozen=True)
class KnownEffects:
    """Measured effects of some perturbations."""

    effects: Float[Tensor, "n g"]  # one row per perturbation
    genes: Int[Tensor, "n k"]  # vocabulary ids of its parts; -1 fills unused columns

    def __len__(self) -> int:
        return len(self.effects)


@dataclass(frozen=True)
class AskedState:
    """One state that is asked for."""

    kind: str  # what kind of state it is
    asked: AlignedProfile  # what the ranking is given
    wanted: AlignedProfile  # what is meant: the same without the noise that was added. True distances are to this
    left_out: int  # number of the candidate that may not be proposed, -1 for none
    genes: tuple[int, ...]  # vocabulary ids of all that went into it
    base: int  # number of the held-out double that it goes with

    def distances(self, effects: Float[Tensor, "n g"]) -> Float[Tensor, "n"]:
        """Find how far each candidate truly is."""
        found = Distance(self.wanted).measured(effects)
        return found.index_fill(0, torch.tensor([self.left_out]), torch.inf) if self.left_out >= 0 else found

    def allowed(self, count: int) -> Bool[Tensor, "n"]:
        """Tell which candidates may be proposed."""
        return torch.arange(count) != self.left_out


def asked_states(
    held_out: KnownEffects,
    singles: KnownEffects,
    trained: KnownEffects,
    *,
    seed: int,
    weights: Float[Tensor, "g"] | None = None,
) -> list[AskedState]:
    """Build one state of every kind for every held-out double, which are also the candidates.

    A candidate made the state if the state is a held-out double, with or without noise; a scaled one, and one on
    part of the readouts, is made as far as that goes. The mean of two doubles, a double plus a single, a single,
    and a double that was measured before are made by none of the candidates, and a double is not once it is left
    out itself.
    """
    n, g = held_out.effects.shape
    if n < FEWEST or not len(singles):
        raise DataError(f"{n} held-out doubles and {len(singles)} singles; {FEWEST} and one are the fewest")
    generator = torch.Generator().manual_seed(seed)
    weights = torch.full((g,), _UNIT_WEIGHT, dtype=torch.float64) if weights is None else weights
    others = (torch.arange(n) + torch.randint(1, n, (n,), generator=generator)) % n
    ordered, column = content_order(singles.effects), content_order(singles.effects.T).argsort()
    added, alone = (ordered[_drawn(len(singles), n, generator)] for _ in range(2))
    before = _drawn(len(trained), n, generator) if len(trained) else torch.empty(0, dtype=torch.int64)
    readouts = min(MOST_READOUTS, -(-g // 2))
    states = []
    for row in range(n):
        double, genes = held_out.effects[row], _ids(held_out.genes[row])
        state = partial(_state, weights, base=row)
        noise = torch.randn(g, generator=generator, dtype=torch.float64)[column] * double.square().mean().sqrt()
        partner, single = int(others[row]), int(added[row])
        with_partner = (*genes, *_ids(held_out.genes[partner]))
        with_single = (*genes, *_ids(singles.genes[single]))
        random = column.argsort()[torch.randperm(g, generator=generator)[:readouts]].sort().values
        strongest = double.abs().topk(readouts).indices.sort().values
        states += [
            state(ITSELF, double, genes),
            state(MAKER_LEFT_OUT, double, genes, left_out=row),
            state("mean of two", (double + held_out.effects[partner]) / 2, with_partner),
            state("noise as large", double, genes, noise=noise),
            *(state(f"scaled by {scale:g}", scale * double, genes) for scale in SCALES),
            state("random readouts", double, genes, columns=random),
            state("strongest readouts", double, genes, columns=strongest),
            state("double plus single", double + singles.effects[single], with_single),
            state("single", singles.effects[alone[row]], _ids(singles.genes[alone[row]])),
        ]
        if len(before):
            seen = int(before[row])
            states.append(state("measured double", trained.effects[seen], _ids(trained.genes[seen])))
    return states


def regret(chosen: float, distance: Float[Tensor, "n"]) -> float:
    """Find how much farther from a state a choice is than the best candidate."""
    possible = distance[distance < torch.inf]
    least, mean = float(possible.min()), float(possible.mean())
    return (chosen - least) / (mean - least) if mean > least else float("nan")


def regrets(listed: Int[Tensor, "m"], distance: Float[Tensor, "n"], firsts: Sequence[int]) -> tuple[float, ...]:
    """Find the regret of the best of the first candidates of a list."""
    return tuple(regret(float(distance[listed[:first]].min()), distance) for first in firsts)


def _state(
    weights: Float[Tensor, "g"],
    kind: str,
    values: Float[Tensor, "g"],
    genes: tuple[int, ...],
    *,
    base: int,
    left_out: int = -1,
    noise: Float[Tensor, "g"] | None = None,
    columns: Int[Tensor, "m"] | None = None,
) -> AskedState:
    columns = torch.arange(len(values)) if columns is None else columns
    wanted = AlignedProfile(columns, values[columns], torch.zeros(len(columns)).double(), weights[columns])
    asked = wanted if noise is None else AlignedProfile(columns, values + noise, wanted.variance, wanted.weights)
    return AskedState(kind, asked, wanted, left_out, genes, base)


def _drawn(count: int, wanted: int, generator: torch.Generator) -> Int[Tensor, "w"]:
    """Draw numbers, each as seldom as possible more than once."""
    rounds = -(-wanted // count)
    return torch.cat([torch.randperm(count, generator=generator) for _ in range(rounds)])[:wanted]


def _ids(genes: Int[Tensor, "k"]) -> tuple[int, ...]:
    return tuple(genes[genes >= 0].tolist())


MULTIPLES = (0.0, 0.3, 1.0, 3.0, 10.0)
ASSUMED = 1.0  # what is taken unless held-out doubles clearly ask for another
FEWEST_TO_CHOOSE = 12
_CLEAR = 2  # standard errors


@storable
@dataclass(frozen=True)
class Mismatch:
    """How much a wanted state may differ from what a candidate does."""

    # Its variance on each readout, in units of the mean squared standardised held-out residual on the target's
    # readouts.
    multiple: float
    support: int  # how many held-out doubles stand behind the choice; 0 if there were too few
    # Mean regret of the first candidate on their states, of each of ``MULTIPLES``; empty if there were too few.
    regret: tuple[float, ...]

    def on(self, target: AlignedProfile, fitted: FittedCalibrated) -> AlignedProfile:
        """Let a target be missed by this much."""
        return missed(target, fitted, self.multiple)


def missed(target: AlignedProfile, fitted: FittedCalibrated, multiple: float) -> AlignedProfile:
    """Add a mismatch to a target's own uncertainty."""
    unit = fitted.law(SEEN_DOUBLE).covariance.variance[target.columns].mean()
    return replace(target, variance=target.variance + multiple * unit)


def choose_mismatch(
    fitted: FittedCalibrated, target: AlignedProfile, *, seed: int, beside: BesideFit = ALONE
) -> Mismatch:
    """Choose the multiple by the mean regret of the first candidate, on the readouts of a target.

    Every cross-fit ranks the doubles that it has not seen for states built from their measured effects; the kinds
    of :func:`~inverse_design.problem.mismatch.asked_states` on part of the readouts are left out, as the
    target's own readouts are the question. Regrets of so few doubles are noisy: the multiple with the least one is
    taken if it is better than :data:`ASSUMED` by more than two standard errors, which know that doubles share
    genes. What the target wants of its readouts does not matter: the choice is kept beside the fit.
    """
    asked = target.columns, target.variance, target.weights, seed
    return beside.of(Mismatch, lambda: _choose(fitted, target, seed=seed), *asked)


def _choose(fitted: FittedCalibrated, target: AlignedProfile, *, seed: int) -> Mismatch:
    judged = [(view, known) for view, known in _held_out(fitted, seed=seed) if len(known) >= FEWEST]
    support = sum(len(known) for _, known in judged)
    if support < FEWEST_TO_CHOOSE:
        return Mismatch(ASSUMED, 0, ())
    found: dict[float, list[Tensor]] = {multiple: [] for multiple in MULTIPLES}
    for view, known in judged:
        trained = [other for _, other in judged if other is not known]
        for multiple, each in _judged(view, known, trained, target, seed=seed).items():
            found[multiple].append(each)
    regret = {multiple: torch.cat(each) for multiple, each in found.items()}
    best = _clearly_best(regret, torch.cat([known.genes[:, :2] for _, known in judged]))
    return Mismatch(best, support, tuple(float(values.nanmean()) for values in regret.values()))


def _clearly_best(regret: Mapping[float, Float[Tensor, "n"]], genes: Int[Tensor, "n 2"]) -> float:
    """Take the multiple with the least mean regret, unless it could be noise that it beats the assumed one."""
    best = min(regret, key=lambda multiple: (round(float(regret[multiple].nanmean()), 6), multiple))
    gained = regret[ASSUMED] - regret[best]
    clear = float(gained.nanmean()) > _CLEAR * dyadic_standard_error(gained, genes)
    return best if clear else ASSUMED


def _held_out(fitted: FittedCalibrated, *, seed: int) -> list[tuple[FittedCalibrated, KnownEffects]]:
    """Take the doubles of seen parts that each cross-fit has not seen, or a random part of very many."""
    found = []
    for fold in fitted.cross:
        rows = torch.nonzero(fold.codes == SEEN_DOUBLE).flatten()
        if len(rows) > MOST_DOUBLES:
            drawn = torch.randperm(len(rows), generator=torch.Generator().manual_seed(seed))
            rows = rows[drawn[:MOST_DOUBLES].sort().values]
        if isinstance(fold.fitted, FittedCalibrated) and len(rows):
            found.append((fold.fitted, KnownEffects(fold.effects[rows], fold.batch.genes[rows])))
    return found


def _judged(
    view: FittedCalibrated,
    known: KnownEffects,
    trained: Sequence[KnownEffects],
    target: AlignedProfile,
    *,
    seed: int,
) -> dict[float, Float[Tensor, "n"]]:
    """Find the mean regret of the first candidate over each double's states, by multiple, under one cross-fit."""
    columns = target.columns
    alone = torch.nonzero(view.measured_alone).flatten()
    before = KnownEffects(
        torch.cat([each.effects for each in trained])[:, columns] if trained else known.effects[:0, columns],
        torch.cat([each.genes for each in trained]) if trained else known.genes[:0],
    )
    effects = known.effects[:, columns]
    states = [
        state
        for state in asked_states(
            KnownEffects(effects, known.genes),
            KnownEffects(view.singles[alone][:, columns], alone[:, None]),
            before,
            seed=seed,
            weights=target.weights,
        )
        if len(state.asked.columns) == len(columns)
    ]
    batch = view.vocabulary.dosed(known.genes)
    distances = [state.distances(effects) for state in states]
    found = {}
    values = torch.stack([state.asked.values for state in states])
    allowed = torch.stack([state.allowed(len(known)) for state in states])
    for multiple in MULTIPLES:
        first = _scores(view, batch, missed(target, view, multiple), values, allowed).argmax(1)
        each = [regrets(at[None], distance, (1,))[0] for at, distance in zip(first, distances, strict=True)]
        found[multiple] = torch.tensor(each, dtype=torch.float64).reshape(len(known), -1).nanmean(1)
    return found


def _scores(
    view: FittedCalibrated,
    batch: PerturbationBatch,
    target: AlignedProfile,
    values: Float[Tensor, "t m"],
    allowed: Bool[Tensor, "t n"],
) -> Float[Tensor, "t n"]:
    """Score some doubles for many profiles: by log density, or by the experts' mean probability."""
    experts = view.experts or (Expert(1.0, view),)
    logs = torch.stack([
        _log_densities(expert.fitted, batch, target, values).masked_fill(~allowed, -torch.inf).log_softmax(1)
        for expert in experts
    ])  # fmt: skip
    weights = torch.tensor([expert.weight for expert in experts], dtype=torch.float64)
    return pooled(logs.flatten(1), weights).reshape(values.shape[0], -1)


def _log_densities(
    fitted: FittedCalibrated, batch: PerturbationBatch, target: AlignedProfile, values: Float[Tensor, "t m"]
) -> Float[Tensor, "t n"]:
    """Log density of many profiles on the readouts of one under some doubles of seen parts, up to a constant."""
    law = law_on(fitted.law(SEEN_DOUBLE), target)
    whiten, columns = law.covariance.whiten, target.columns
    posterior = fitted.predict(batch)
    asked, means = whiten(values), whiten(posterior.mean[:, columns])
    first, second = (whiten(fitted.singles[ids][:, columns]) for ids in batch.genes[:, :2].T)
    square = asked.square().sum(1)[:, None] - 2 * asked @ means.T + means.square().sum(1)
    projections = tuple(asked @ part.T - (part * means).sum(1) for part in (first, second))
    gram = tuple((one * other).sum(1) for one, other in ((first, first), (first, second), (second, second)))
    return law.log_density(square, projections, gram, posterior.scale)
