"""The causal linear model: effects travel along sparse edges between readouts, which form a graph.

Penalties, the weight of the residual and the trust in edges are chosen by data that were held out.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from surrogates.contrib.causal.design import ParentTable, Regression, Sources, TargetTable, targets_from
from surrogates.contrib.causal.estimate import Estimate, Penalty, largest_penalty, total_effects
from surrogates.data.novelty import fold_numbers, novelty_code
from surrogates.data.screen import Screen
from surrogates.data.vocabulary import PerturbationBatch, Vocabulary
from surrogates.errors import DataError, UnknownNameError, shown
from surrogates.models.base import PairFactors, PairScale, require_one_context, sum_over_interventions
from surrogates.models.baselines import residual_variance
from surrogates.uncertainty.posterior import GaussianPosterior, isotropic

_FOLDS = 3
_FEWEST_COMBINATIONS = 10
_PATH = (1.0, *(0.2 / 2**step for step in range(8)))  # of the largest penalty, at which there is no edge
_JUDGED = 500  # readouts
_ROUNDING = 1e-12
_IDLE = 0.2  # noise over signal variance where there are no standard errors
_IDLE_BOUNDS = (0.01, 1.0)
_CAUTION = 0.25  # of that ratio; trust corrects what is too bold


@dataclass(frozen=True)
class HeldOut:
    """Conditions to learn from and conditions to predict."""

    train: Regression  # for the fit
    test: Regression  # for the judgement


@dataclass(frozen=True)
class Selected:
    """What was learnt from held-out data."""

    penalty: Penalty  # for the final fit
    residual_weight: float  # share of the least-squares residual that is kept for seen nodes
    trust: float  # share of a prediction that is kept for nodes never acted on


def penalty_splits(screen: Screen, problem: Regression, *, seed: int) -> tuple[HeldOut, ...]:
    """Split a screen for the choice of penalties.

    With standard errors, adding and subtracting the same normal noise gives two independent halves of every
    condition [Gaussian data thinning: Neufeld 2024]. Otherwise combinations of parts seen alone are held out in
    three folds, or, where there are not ten of them, targets.
    """
    if screen.standard_errors is not None and bool((screen.standard_errors > 0).any()):
        generator = torch.Generator().manual_seed(seed)
        noise = screen.standard_errors * torch.randn(
            problem.effects.shape, generator=generator, dtype=problem.effects.dtype
        )
        one, other = (replace(problem, effects=problem.effects + sign * noise) for sign in (1, -1))
        return (HeldOut(one, other),)
    order = screen.batch.order
    all_seen = novelty_code(screen.batch, screen.single_rows >= 0) == 16 * order + order
    seen = all_seen & (order > 1)
    if int(seen.sum()) < _FEWEST_COMBINATIONS:
        return held_out_targets(problem, seed=seed)
    rows = torch.nonzero(seen).flatten()
    folds = torch.full_like(order, -1)
    folds[rows] = fold_numbers(screen.places[rows], folds=_FOLDS, seed=seed)
    return tuple(HeldOut(problem.rows(folds != fold), problem.rows(folds == fold)) for fold in range(_FOLDS))


def held_out_targets(problem: Regression, *, seed: int) -> tuple[HeldOut, ...]:
    """Hold nodes out: whatever acts on one of them is not for training."""
    acted = problem.inputs != 0
    nodes = torch.nonzero(problem.perturbed).flatten()
    fold = fold_numbers(nodes, folds=_FOLDS, seed=seed)
    splits = []
    for number in range(_FOLDS):
        hidden = nodes[fold == number]
        touched = acted[:, hidden].any(1)
        test = touched & (acted.sum(1) == 1)
        if bool(test.any()) and int((~touched).sum()) > 1:
            splits.append(HeldOut(problem.rows(~touched), problem.rows(test)))
    return tuple(splits)


def select(screen: Screen, problem: Regression, *, steps: int, seed: int) -> Selected:
    """Choose the penalty, the weight of the residual, and the trust in edges.

    The penalty is the one with the least held-out error of what the edges predict, on a path that ends where the
    error rises. With many readouts this is judged on the nodes and a random part of the other readouts.
    """
    keep = _judged_readouts(problem, seed=seed)
    idle = _idle_weight(screen, problem)
    some = problem.with_readouts(keep)
    splits = penalty_splits(screen.with_readouts(keep.tolist()), some, seed=seed)
    top = largest_penalty(some)
    if top == 0 or not splits:
        return Selected(Penalty(max(top, 1.0), idle, steps), 1.0, 0.0)
    scores = []
    for share in _PATH:
        penalty = Penalty(share * top, idle, steps // 2)
        estimates = [penalty.estimate(split.train) for split in splits]
        error = sum(_error(split, each) for split, each in zip(splits, estimates, strict=True))
        scores.append((error, _residual_weight(splits, estimates), penalty))
        least = min(range(len(scores)), key=lambda at: scores[at][0])
        if 0 < least < len(scores) - 1:
            break  # from here on the edges fit the noise
    _, weight, penalty = scores[least]
    penalty = replace(penalty, size=penalty.size / 2 ** _vertex([score[0] for score in scores], least))
    trust = trust_in_edges(some, penalty, seed=seed)
    return Selected(replace(penalty, steps=steps), weight, trust)


def trust_in_edges(problem: Regression, penalty: Penalty, *, seed: int) -> float:
    """Learn how much of a prediction for nodes never acted on is true: ``clip(<P, X> / <P, P>, 0, 1)``."""
    predicted, measured = [], []
    for split in held_out_targets(problem, seed=seed):
        estimate = penalty.estimate(split.train)
        predicted.append(split.test.weights * (split.test.inputs @ estimate.responses))
        measured.append(split.test.weights * split.test.effects)
    return _slope(predicted, measured, otherwise=0.0)


def _vertex(errors: Sequence[float], least: int) -> float:
    """Place the least error between the steps of the path, by the parabola through it and its neighbours."""
    if not 1 < least < len(errors) - 1:
        return 0.0
    before, here, after = errors[least - 1 : least + 2]
    bend = before - 2 * here + after
    return 0.5 * (before - after) / bend if bend > 0 else 0.0


def _judged_readouts(problem: Regression, *, seed: int) -> Int[Tensor, "m"]:
    """Take all nodes and, up to a number of readouts in all, others at random."""
    size = problem.effects.shape[1]
    order = torch.randperm(size, generator=torch.Generator().manual_seed(seed)).to(torch.float64)
    order[problem.columns[problem.real]] = -1.0
    return torch.argsort(order, stable=True)[: max(_JUDGED, int(problem.real.sum()))].sort().values


def _error(split: HeldOut, estimate: Estimate) -> float:
    missed = split.test.effects - split.test.inputs @ estimate.responses
    return float((split.test.weights * missed.square()).sum())


def _residual_weight(splits: Sequence[HeldOut], estimates: Sequence[Estimate]) -> float:
    fitted, left = [], []
    for split, estimate in zip(splits, estimates, strict=True):
        inputs, keep = split.test.inputs, split.test.weights
        fitted.append(keep * (inputs @ estimate.residual_responses(split.train)))
        left.append(keep * (split.test.effects - inputs @ estimate.responses))
    return _slope(fitted, left, otherwise=1.0)


def _slope(predicted: Sequence[Tensor], measured: Sequence[Tensor], *, otherwise: float) -> float:
    """Regress through the origin, within 0 and 1, unless the predictions are zero but for rounding."""
    inner = sum(float((one * other).sum()) for one, other in zip(predicted, measured, strict=True))
    power, total = (sum(float(each.square().sum()) for each in rows) for rows in (predicted, measured))
    return min(max(inner / power, 0.0), 1.0) if power > _ROUNDING * total else otherwise


def _idle_weight(screen: Screen, problem: Regression) -> float:
    if screen.standard_errors is None:
        return _IDLE
    keep = problem.weights
    noise = float((keep * screen.standard_errors.square()).sum() / keep.sum().clamp(min=1))
    total = float((keep * problem.effects.square()).sum() / keep.sum().clamp(min=1))
    low, high = _IDLE_BOUNDS
    return min(max(_CAUTION * noise / max(total - noise, torch.finfo(torch.float64).tiny), low), high)


_BEAM = 500  # partial paths that are carried on at each length


@dataclass(frozen=True)
class FittedCausal:
    """A causal linear model with its edges."""

    vocabulary: Vocabulary  # what the ids of a batch mean
    readouts: tuple[str, ...]  # names of the readouts
    measured_alone: Bool[Tensor, "v"]  # whether each entry's single effect was in the training data
    rows: Float[Tensor, "v g"]  # effect of each entry
    sources: Sources  # the nodes that may act on readouts
    edges: Float[Tensor, "q g"]  # effect of a change of one in each node on each readout, on the direct way
    inputs: Float[Tensor, "v k"]  # what each entry puts into its nodes: signed dose times strength
    penalty: float  # penalty of the lasso that found the edges
    # Share of the prediction that is kept for nodes never acted on: 0 says that the edges predicted nothing about
    # held-out targets.
    trust: float
    # Share of the least-squares residual that is kept for seen nodes: 1 says that edges do not help there, 0 that
    # they say it all.
    residual_weight: float
    variance: Float[Tensor, "g"]  # in-sample error variance of each readout

    def predict(self, batch: PerturbationBatch) -> GaussianPosterior:
        """Predict the effects of some perturbations: sums over their interventions."""
        return isotropic(sum_over_interventions(self.rows, batch), self.variance)

    @property
    def factorises(self) -> bool:
        """Pairs are scored by products."""
        return True

    @property
    def remark(self) -> str:
        """How many edges there are, and how far they are trusted."""
        return (
            f"causal graph of {int((self.edges != 0).sum()):,} edges: trust {self.trust:.2f} where a target was"
            f" never acted on, weight {self.residual_weight:.2f} of what edges leave where it was"
        )

    def strongest_path(self, entry: str, readout: str) -> tuple[str, float] | None:
        """Name the path that contributes most, and what it contributes."""
        best = paths(self, entry, readout, count=1)
        return None if best.empty else (str(best["path"][0]), float(best["contribution"][0]))

    def pair_factors(self) -> PairFactors:
        """Factors of the mean effect of all pairs."""
        return PairFactors.without_interactions(self.rows)

    def pair_scale(self) -> PairScale:
        """Factors of the posterior scale of all pairs."""
        return PairScale.constant(len(self.rows))


@dataclass(frozen=True)
class Causal:
    """Sparse edges ``A`` between readouts, ``x = x A + u``, hence ``x = u (I - A)^-1`` [after Long 2025, CSR].

    Edges start at the targets that are readouts and at regulators; a target that is no readout is a virtual node.
    A lasso of each readout on the nodes finds them, and the full objective on its support refines them. The
    strength of an intervention is read from the target's own readout, which is left out of the loss. Nodes that
    were never acted on get ``trust`` times what the edges predict; the others get ``residual_weight`` times the
    least-squares residual on top. Both are learnt from held-out data; without conditions to hold out, trust is
    zero and the weight is one, so that the model is least squares. A virtual node that was never acted on has no
    readout from which edges could be learnt: it gets the mean of the virtual nodes that were.

    With a table of ``targets`` the direct effects ``B`` of drugs are known [CSR with B known: Long 2025, BMC
    Bioinformatics 26:4]: at its largest dose a drug puts the stated weights into the readouts that it acts on, so
    that a drug never given is predicted from others that share its targets.

    Attributes:
        regulators: Readouts that may act besides the targets.
        variable: How many of the most variable readouts to take instead when no regulators are given.
        steps: Most iterations of the full objective.
        targets: Direct effect of each drug at its largest dose on the readouts that it acts on, in units of the
            readouts, as pairs; ``targets_from`` makes them of a table.
        parents: The only readouts that may act on some readouts, as pairs, such as ``Invariance().graph(cells)``;
            readouts that are not named keep all edges that the data give them.
    """

    regulators: tuple[str, ...] = ()
    variable: int = 50
    steps: int = 100
    targets: TargetTable = ()
    parents: ParentTable = ()

    def __post_init__(self) -> None:
        """Refuse negative numbers, weights that are none, and a drug that is stated twice."""
        if self.variable < 0 or self.steps < 0:
            raise DataError(f"variable {self.variable} and steps {self.steps} must not be negative")
        if len(dict(self.targets)) < len(self.targets):
            raise DataError("a drug stands twice among the targets; state all its readouts together")
        for drug, weights in self.targets:
            if not np.isfinite([weight for _, weight in weights]).all():
                raise DataError(f"targets of {shown(drug)} have a weight that is no finite number; state one")

    def knowing_targets(self, table: pd.DataFrame) -> "Causal":
        """Take the direct effects of drugs from a table, see :func:`targets_from`."""
        return replace(self, targets=targets_from(table))

    def fit(self, screen: Screen, *, seed: int) -> FittedCausal:
        """Learn edges, strengths, trust and the weight of the residual."""
        require_one_context(screen)
        ordered = screen.in_canonical_order()
        sources = Sources.of(
            ordered, regulators=self.regulators, variable=self.variable, targets=self.targets, parents=self.parents
        )
        problem = Regression(
            ordered.effects,
            sources.inputs(ordered.batch),
            sources.columns,
            sources.known,
            sources.allowed(self.parents, screen.readouts),
        )
        chosen = select(ordered, problem, steps=self.steps, seed=seed)
        estimate = chosen.penalty.estimate(problem)
        nodes = _node_rows(problem, estimate, trust=chosen.trust, residual_weight=chosen.residual_weight)
        rows = (sources.dose[:, :, None] * nodes[sources.of_entry]).sum(1)
        return FittedCausal(
            vocabulary=screen.vocabulary,
            readouts=screen.readouts,
            measured_alone=screen.single_rows >= 0,
            rows=rows,
            sources=sources,
            edges=estimate.edges,
            inputs=sources.dose * estimate.strength[sources.of_entry],
            penalty=chosen.penalty.size,
            trust=chosen.trust,
            residual_weight=chosen.residual_weight,
            variance=residual_variance(ordered.effects - sum_over_interventions(rows, ordered.batch)),
        )


def _node_rows(
    problem: Regression, estimate: Estimate, *, trust: float, residual_weight: float
) -> Float[Tensor, "q g"]:
    """Effect of a dose of one on each node.

    Trust and weight are about readouts off the target: a node's own readout is predicted by the shared strength
    where the node was never acted on, and by least squares elsewhere. Of known strength, it is like any other.
    """
    seen = problem.perturbed[:, None]
    left = estimate.residual_responses(problem)
    rows = torch.where(seen, estimate.responses + residual_weight * left, trust * estimate.responses)
    nodes = torch.nonzero(problem.real).flatten()
    nodes = nodes[~problem.known[nodes]]
    own = (nodes, problem.columns[nodes])
    rows[own] = (estimate.responses + left)[own]
    acted_on = problem.perturbed & ~problem.real
    if bool(acted_on.any()):
        rows[~problem.perturbed & ~problem.real] = rows[acted_on].mean(0)
    return rows


def edge_table(fitted: FittedCausal) -> pd.DataFrame:
    """List the edges, the strongest first."""
    start, end = fitted.edges.nonzero(as_tuple=True)
    table = pd.DataFrame(
        {
            "source": [fitted.sources.names[at] for at in start.tolist()],
            "target": [fitted.readouts[at] for at in end.tolist()],
            "weight": fitted.edges[start, end].numpy(),
        }
    )
    strongest = table.assign(size=-table["weight"].abs()).sort_values(["size", "source", "target"])
    return table.loc[strongest.index].reset_index(drop=True)


def paths(fitted: FittedCausal, entry: str, readout: str, *, count: int = 5, longest: int = 5) -> pd.DataFrame:
    """Explain the effect of an intervention on a readout by the strongest paths between them.

    The effect that follows from the edges is the sum over all walks, of the input times the product of the edges.
    Paths visit no node twice; walks round a feedback loop are in the total only.
    """
    number = fitted.vocabulary.id(entry)
    if readout not in fitted.readouts:
        raise UnknownNameError.from_known("readout", readout, fitted.readouts)
    column = fitted.readouts.index(readout)
    nodes = [
        (node, value)
        for node, value in zip(
            fitted.sources.of_entry[number].tolist(), fitted.inputs[number].tolist(), strict=True
        )
        if value
    ]
    effects = total_effects(fitted.edges, fitted.sources.columns)[:, column]
    total = sum(value * float(effects[node]) for node, value in nodes)
    every = [
        (path, value * product)
        for node, value in nodes
        for path, product in _walk(fitted, node, column, longest=longest)
    ]
    found = sorted(every, key=lambda path: (-abs(path[1]), path[0]))[:count]
    table = pd.DataFrame({"path": [path for path, _ in found], "contribution": [each for _, each in found]})
    table["share"] = table["contribution"] / total if total else float("nan")
    table.attrs["total"] = total
    return table


def _walk(fitted: FittedCausal, node: int, column: int, *, longest: int) -> Iterator[tuple[str, float]]:
    """Carry the strongest partial paths on, edge by edge, and yield those that arrive."""
    names, columns = fitted.sources.names, fitted.sources.columns.tolist()
    node_of = {at: number for number, at in enumerate(columns) if at >= 0}
    if columns[node] == column:
        yield names[node], 1.0
        return
    partial: list[tuple[tuple[int, ...], float]] = [((node,), 1.0)]
    for _ in range(longest):
        longer: list[tuple[tuple[int, ...], float]] = []
        for path, product in partial:
            row = fitted.edges[path[-1]]
            if row[column] != 0:
                yield (
                    " → ".join([*(names[at] for at in path), fitted.readouts[column]]),
                    product * float(row[column]),
                )
            for at in row.nonzero().flatten().tolist():
                following = node_of.get(at)
                if following is not None and at != column and following not in path:
                    longer.append(((*path, following), product * float(row[at])))
        partial = sorted(longer, key=lambda each: (-abs(each[1]), each[0]))[:_BEAM]
