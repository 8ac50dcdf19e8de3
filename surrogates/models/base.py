"""The protocols of forward models, and the optional ones that make a search over pairs exact.

Beside them, what additive models are made of: the effects of interventions given alone, and sums of them.
"""

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Protocol, runtime_checkable

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from surrogates.data.perturbation import Perturbation
from surrogates.data.screen import Screen
from surrogates.data.vocabulary import PerturbationBatch, Vocabulary
from surrogates.errors import DataError
from surrogates.uncertainty.posterior import Posterior

if TYPE_CHECKING:
    import pandas as pd

    from surrogates.data.io.cells import Cells


@runtime_checkable
class Fitted(Protocol):
    """A forward model that has seen data."""

    @property
    def vocabulary(self) -> Vocabulary:
        """What the ids of a batch mean."""
        ...

    @property
    def readouts(self) -> tuple[str, ...]:
        """Names of the readouts that it predicts."""
        ...

    @property
    def measured_alone(self) -> Bool[Tensor, "v"]:
        """For each vocabulary entry, whether its single effect was in the training data."""
        ...

    def predict(self, batch: PerturbationBatch) -> Posterior:
        """Predict the effects of some perturbations.

        Args:
            batch: Ids of this model's vocabulary.

        Returns:
            A distribution over effects, one row per perturbation.
        """
        ...


@runtime_checkable
class Surrogate(Protocol):
    """A frozen configuration of a forward model."""

    def fit(self, screen: Screen, *, seed: int) -> Fitted:
        """Learn from a screen.

        Args:
            screen: Measured effects in one context.
            seed: Fixes everything that is random.

        Returns:
            Another value: the fitted model. The configuration itself never changes.
        """
        ...


@dataclass(frozen=True)
class PairFactors:
    """The mean effect of all pairs: ``main_i + main_j + basis^T (scores_i * scores_j)``."""

    main: Float[Tensor, "v g"]  # contribution of each entry
    scores: Float[Tensor, "v r"]  # coordinates of each entry in the space of interactions
    basis: Float[Tensor, "r g"]  # effect of each product of coordinates; no rows when the model is additive

    @classmethod
    def without_interactions(cls, main: Float[Tensor, "v g"]) -> "PairFactors":
        """Make the factors of plain sums."""
        return cls(main, main.new_zeros(len(main), 0), main.new_zeros(0, main.shape[1]))


@dataclass(frozen=True)
class PairScale:
    """The posterior scale of all pairs: ``side_i + side_j + left_i · right_j``, symmetric in the two."""

    side: Float[Tensor, "v"]  # contribution of each entry
    left: Float[Tensor, "v r"]  # left factor
    right: Float[Tensor, "v r"]  # right factor

    @classmethod
    def constant(cls, entries: int) -> "PairScale":
        """Make the factors of a scale of one for every pair."""
        none = torch.zeros(entries, 0, dtype=torch.float64)
        return cls(torch.full((entries,), 0.5, dtype=torch.float64), none, none)


@runtime_checkable
class PairFactored(Protocol):
    """A fitted model whose mean (and scale) over pairs factorises, so that all pairs are scored by products.

    Ask :func:`pair_factored` for it: a model made of models factorises only if they all do.
    """

    @property
    def factorises(self) -> bool:
        """Whether the two methods have an answer."""
        ...

    def pair_factors(self) -> PairFactors:
        """Factors of the mean effect of all pairs."""
        ...

    def pair_scale(self) -> PairScale:
        """Factors of the posterior scale of all pairs."""
        ...


@runtime_checkable
class SetAdditive(Protocol):
    """A fitted model that may predict sets of several entries as sums of rows, all with the same certainty."""

    def set_rows(self, order: int) -> Float[Tensor, "v g"] | None:
        """Find what each entry adds to the mean effect of a set of entries measured alone.

        Args:
            order: How many entries the sets have.

        Returns:
            Rows whose sums are the means of all such sets, which have the posterior scale one; ``None`` if the
            model is not of this form.
        """
        ...


def set_rows(fitted: Fitted, order: int) -> Float[Tensor, "v g"] | None:
    """Ask a model for rows that sum up to the means of all sets of an order; see :class:`SetAdditive`."""
    return fitted.set_rows(order) if isinstance(fitted, SetAdditive) else None


def surrogate_name(surrogate: Surrogate) -> str:
    """Spell out what a surrogate is made of."""
    held: list[Surrogate] = []
    for name in getattr(surrogate, "__dataclass_fields__", ()):
        value = getattr(surrogate, name)
        held += [each for each in (value if isinstance(value, tuple) else (value,)) if isinstance(each, Surrogate)]
    inside = ", ".join(surrogate_name(each) for each in held)
    return type(surrogate).__name__ + (f"({inside})" if inside else "")


def pair_factored(fitted: Fitted) -> PairFactored | None:
    """Take a fitted model as one whose pairs are scored by products."""
    return fitted if isinstance(fitted, PairFactored) and fitted.factorises else None


@dataclass(frozen=True)
class LatentNetwork:
    """What a network of rectifiers adds to the mean of all pairs: ``output @ hidden(rows_i + rows_j)``.

    Layer by layer ``hidden`` is ``relu(threshold + W h) - relu(threshold)``, so that zeros give zeros.
    """

    rows: Float[Tensor, "v h"]  # what each entry adds to the first hidden layer, before its rectifiers
    thresholds: tuple[Float[Tensor, "_"], ...]  # what each hidden layer receives in the control
    weights: tuple[Float[Tensor, "_ _"], ...]  # from each hidden layer to the next, outputs by inputs
    output: Float[Tensor, "g w"]  # from the last hidden layer to effects

    def decode(self, sums: Float[Tensor, "b h"]) -> Float[Tensor, "b g"]:
        """Turn sums of rows into effects."""
        state = sums
        for threshold, weight in zip(self.thresholds, (*self.weights, self.output), strict=True):
            state = ((state + threshold).relu() - threshold.relu()) @ weight.T
        return state


@dataclass(frozen=True)
class LatentFactors:
    """The mean effect of all pairs: sums and products as in :class:`PairFactors`, and what networks add."""

    factors: PairFactors  # sums and products
    scale: PairScale  # posterior scale of all pairs
    networks: tuple[LatentNetwork, ...] = ()  # none where products say it all

    def weighted(self, weight: float) -> "LatentFactors":
        """Multiply the mean effect."""
        factors = replace(self.factors, main=weight * self.factors.main, basis=weight * self.factors.basis)
        networks = tuple(replace(each, output=weight * each.output) for each in self.networks)
        return replace(self, factors=factors, networks=networks)

    def plus(self, other: "LatentFactors") -> "LatentFactors":
        """Add the mean effect of another model, and keep the scale of this one."""
        one, two = self.factors, other.factors
        factors = PairFactors(
            one.main + two.main, torch.cat([one.scores, two.scores], dim=1), torch.cat([one.basis, two.basis])
        )
        return replace(self, factors=factors, networks=(*self.networks, *other.networks))


@runtime_checkable
class LatentSum(Protocol):
    """A fitted model that may decode sums of one latent row per intervention.

    The first layer is then a sum of two rows that are computed once for each entry, and what a target asks of the
    effects is taken into the last one: a search over all pairs never makes their effects.
    """

    def latent_factors(self) -> LatentFactors | None:
        """Find what each entry adds, and the networks that decode the sums.

        Returns:
            Sums, products and networks that give the mean effect and the scale of all pairs of entries measured
            alone; ``None`` if the model is not of this form.
        """
        ...


@runtime_checkable
class FollowsPaths(Protocol):
    """A fitted model that knows by which paths an intervention acts, such as those of a causal graph."""

    @property
    def remark(self) -> str:
        """What the reader should know of its graph."""
        ...

    def strongest_path(self, entry: str, readout: str) -> tuple[str, float] | None:
        """Name the path from an intervention to a readout that contributes most, and what it contributes."""
        ...


@runtime_checkable
class KnowsTargets(Protocol):
    """A configuration that can be given what drugs act on."""

    def knowing_targets(self, table: "pd.DataFrame") -> Surrogate:
        """Take a table with the columns ``drug``, ``readout`` and ``weight``, a row for each direct effect."""
        ...


def latent_factors(fitted: Fitted) -> LatentFactors | None:
    """Ask a model for the mean effect of all pairs, by products or by networks on sums."""
    if (factored := pair_factored(fitted)) is not None:
        return LatentFactors(factored.pair_factors(), factored.pair_scale())
    return fitted.latent_factors() if isinstance(fitted, LatentSum) else None


@runtime_checkable
class FittedAcrossContexts(Protocol):
    """A forward model that has learnt from several contexts at once."""

    @property
    def contexts(self) -> tuple[str, ...]:
        """The contexts of the training data, sorted."""
        ...

    def in_context(self, context: str) -> Fitted:
        """View the model in one context.

        Args:
            context: Its name.

        Returns:
            A forward model of that context.

        Raises:
            UnknownNameError: If the model cannot predict in a context that it has not seen.
        """
        ...


@runtime_checkable
class ContextSurrogate(Protocol):
    """A frozen configuration of a forward model of several contexts."""

    def fit(self, screen: Screen, *, seed: int) -> FittedAcrossContexts:
        """Learn from all contexts of a screen.

        Args:
            screen: Measured effects in any number of contexts.
            seed: Fixes everything that is random.

        Returns:
            Another value: the fitted model.
        """
        ...


def require_one_context(screen: Screen) -> None:
    """Refuse a screen of several contexts, and one without conditions, which has none."""
    if not len(screen):
        raise DataError("the screen has no conditions; give one that has")
    contexts = sorted(set(screen.contexts))
    if len(contexts) > 1:
        raise DataError(
            f"the screen has {len(contexts)} contexts, {contexts[0]!r} and {contexts[1]!r} among them; take"
            f" one with screen.in_context({contexts[0]!r})"
        )


def single_effects(screen: Screen) -> tuple[Float[Tensor, "v g"], Bool[Tensor, "v"]]:
    """Look up the effect of each vocabulary entry given alone.

    The same target at two doses is two entries, each with its own effect.
    """
    require_one_context(screen)
    rows = screen.single_rows
    measured_alone = rows >= 0
    if not bool(measured_alone.any()):
        raise DataError(
            f"none of the {len(rows)} interventions was measured alone; add single perturbations, or take a"
            " model that needs none, such as matching_mean"
        )
    return screen.singles, measured_alone


def sum_over_interventions(rows: Float[Tensor, "v g"], batch: PerturbationBatch) -> Float[Tensor, "b g"]:
    """Add up the rows of the interventions of each perturbation."""
    total = rows.new_zeros(len(batch), rows.shape[1])
    for slot, ids in enumerate(batch.genes.T):
        given = torch.nonzero(ids >= 0).flatten()
        if not slot and len(given) == len(batch):
            total = rows[ids]
        else:
            total.index_add_(0, given, rows[ids[given]])
    return total


@runtime_checkable
class FittedCells(Protocol):
    """A model that turns control cells into treated ones."""

    @property
    def readouts(self) -> tuple[str, ...]:
        """Names of the readouts that it takes and predicts."""
        ...

    def predict(self, control: Float[Tensor, "cells g"], perturbation: Perturbation) -> Float[Tensor, "cells g"]:
        """Predict what control cells become.

        Args:
            control: Control cells of any context, each predicted on its own.
            perturbation: What is done to them.

        Returns:
            As many treated cells, in float64.
        """
        ...


@runtime_checkable
class CellSurrogate(Protocol):
    """A frozen configuration of a model of cells."""

    def fit(self, cells: "Cells", *, seed: int) -> FittedCells:
        """Learn from cells of any contexts.

        Args:
            cells: Control and treated cells; control cells of the contexts to predict belong among them.
            seed: Fixes everything that is random.

        Returns:
            Another value: the fitted model.

        Raises:
            DataError: If no context has both control and treated cells.
        """
        ...
