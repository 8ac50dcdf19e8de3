"""Which penalties, which weight of the residual, and how much trust in edges, by data that were held out."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Int
from torch import Tensor

from surrogates.contrib.causal.design import Regression
from surrogates.contrib.causal.estimate import Estimate, Penalty, largest_penalty
from surrogates.data.novelty import fold_numbers, novelty_code
from surrogates.data.screen import Screen

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


def held_out(screen: Screen, problem: Regression, *, seed: int) -> tuple[HeldOut, ...]:
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
    splits = held_out(screen.with_readouts(keep.tolist()), some, seed=seed)
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
