"""What a model scores on each held-out perturbation, fold by fold."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from surrogates.data.own_readouts import own_columns, own_marks
from surrogates.data.screen import Screen
from surrogates.evaluation.column_metrics import moments
from surrogates.evaluation.cost import Cost, with_cost
from surrogates.evaluation.forward_splits import Protocol
from surrogates.evaluation.row_metrics import FEWEST_READOUTS, ROW_METRICS, HeldOut
from surrogates.models.base import Surrogate


@dataclass(frozen=True)
class Scores:
    """What one model scored on the perturbations of one class, as means over the folds that hold each out.

    Attributes:
        conditions: Rows of the screen, each once.
        values: One column for each of :data:`surrogates.evaluation.row_metrics.ROW_METRICS`.
        moments: See :func:`surrogates.evaluation.column_metrics.moments`; no readouts where there are many.
    """

    conditions: Int[Tensor, "n"]
    values: Float[Tensor, "n p"]
    moments: Float[Tensor, "n 5 g"]

    def column(self, metric: str) -> Float[Tensor, "n"]:
        """Take one metric.

        Args:
            metric: Its name.

        Returns:
            One number per perturbation.
        """
        return self.values[:, [*ROW_METRICS].index(metric)]


@dataclass(frozen=True)
class Judgement:
    """One model under one protocol.

    Attributes:
        scores: By the code of the novelty class.
        costs: Of each fit.
    """

    scores: Mapping[int, Scores]
    costs: tuple[Cost, ...]


def judge(
    screen: Screen, model: Surrogate, protocol: Protocol, *, seed: int, before: Callable[[int], None]
) -> Judgement:
    """Fit a model to every fold and score what it holds out, class by class.

    Args:
        screen: Measured effects in one context.
        model: Any surrogate.
        protocol: Folds and classes.
        seed: For the fits.
        before: Called with the number of each fold, from one, before its fit.

    Returns:
        Scores of every class of the protocol, and costs of every fold.
    """
    own, few = own_readouts(screen), len(screen.readouts) < FEWEST_READOUTS
    parts: dict[int, list[Scores]] = {code: [] for code in protocol.classes}
    costs = []
    for number, (split, codes) in enumerate(zip(protocol.splits, protocol.codes, strict=True), 1):
        before(number)
        training = screen.rows(split.train)
        fitted, cost = with_cost(partial(model.fit, training, seed=seed))
        costs.append(cost)
        for code in torch.unique(codes).tolist():
            at = split.test[codes == code]
            posterior, truth = fitted.predict(screen.batch.rows(at)), screen.effects[at]
            held = HeldOut(posterior, truth, training.effects.mean(0), own[at])
            values = torch.stack([metric.of(held) for metric in ROW_METRICS.values()], 1)
            kept = moments(posterior.mean, truth) if few else truth.new_zeros(len(at), 5, 0)
            parts[code].append(Scores(at, values, kept))
    return Judgement({code: _per_perturbation(each) for code, each in parts.items()}, tuple(costs))


def own_readouts(screen: Screen) -> Bool[Tensor, "n g"]:
    """Mark the readouts that are targets of each perturbation itself.

    Args:
        screen: Measured effects.

    Returns:
        True where a readout bears the name of one of the row's targets.
    """
    columns = own_columns(screen.vocabulary, screen.readouts)
    return own_marks(screen.batch, columns, len(screen.readouts))


def _per_perturbation(parts: Sequence[Scores]) -> Scores:
    """Average over the folds that hold the same perturbation out."""
    every, place = torch.unique(torch.cat([part.conditions for part in parts]), return_inverse=True)
    counts = torch.bincount(place).double()

    def averaged(numbers: Float[Tensor, "b q"]) -> Float[Tensor, "n q"]:
        return numbers.new_zeros(len(every), numbers.shape[1]).index_add(0, place, numbers) / counts[:, None]

    products = torch.cat([part.moments for part in parts])
    return Scores(
        every,
        averaged(torch.cat([part.values for part in parts])),
        averaged(products.flatten(1)).reshape(len(every), *products.shape[1:]),
    )
