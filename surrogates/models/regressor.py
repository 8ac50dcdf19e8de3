"""Any scikit-learn regressor as a forward model: from what was given to the components of its effect."""

from dataclasses import dataclass, field, replace
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from surrogates.data.descriptors import Descriptors
from surrogates.data.screen import Screen
from surrogates.data.vocabulary import PerturbationBatch, Vocabulary
from surrogates.errors import DataError
from surrogates.models.base import require_one_context
from surrogates.models.baselines import residual_variance
from surrogates.models.directions import effect_components
from surrogates.uncertainty.posterior import GaussianPosterior, isotropic


@runtime_checkable
class Regressor(Protocol):
    """What is needed of a regressor of scikit-learn, or of anything that follows its conventions."""

    def fit(self, X: Any, y: Any) -> Any:  # noqa: ANN401 - arrays of any kind
        """Learn from rows of features and of outputs."""

    def predict(self, X: Any) -> Any:  # noqa: ANN401 - as above
        """Predict the outputs of rows of features."""

    def get_params(self, deep: bool = True) -> dict[str, Any]:  # noqa: FBT001, FBT002 - as scikit-learn has it
        """Give its settings by name."""


@dataclass(frozen=True)
class FittedRegressor:
    """A regressor that has seen data; it has no uncertainty of its own, which held-out errors give it."""

    vocabulary: Vocabulary  # what the ids of a batch mean
    readouts: tuple[str, ...]  # names of the readouts
    measured_alone: Bool[Tensor, "v"]  # whether each entry's single effect was in the training data
    regressor: Regressor  # from features of a perturbation to scores of its effect
    inputs: Float[Tensor, "v f"]  # features of each entry; those of a perturbation are their sum
    basis: Float[Tensor, "c g"]  # effect of each score
    variance: Float[Tensor, "g"]  # in-sample residual variance of each readout

    def predict(self, batch: PerturbationBatch) -> GaussianPosterior:
        """Predict effects; the control has none."""
        return isotropic(self._mean(batch), self.variance)

    def _mean(self, batch: PerturbationBatch) -> Float[Tensor, "b g"]:
        if not len(batch):
            return self.basis.new_zeros(0, self.basis.shape[1])
        rows = _features(batch, self.inputs)
        scores = np.asarray(self.regressor.predict(rows), dtype=np.float64).reshape(len(rows), len(self.basis))
        return torch.from_numpy(scores) @ self.basis * (batch.order > 0)[:, None]


@dataclass(frozen=True)
class FromRegressor:
    """Fits a regressor to the leading components of effects, from one-hot features or descriptors.

    Example:
        >>> from sklearn.ensemble import RandomForestRegressor
        >>> FromRegressor(RandomForestRegressor()).name
        'RandomForestRegressor'

    Attributes:
        regressor: A regressor of scikit-learn, or a pipeline that ends in one; it is cloned before it is fitted.
        descriptors: What is known of the targets, as features; by default which of them are given, one-hot.
        rank: Leading coordinates of each descriptor that are features.
        components: Leading components of all effects that are predicted; a regressor of one output is fitted once
            for each.
    """

    regressor: Regressor = field(compare=False)
    descriptors: tuple[Descriptors, ...] = ()
    rank: int = 16
    components: int = 50
    settings: str = field(init=False, repr=False)  # of the regressor, spelled out: what two are compared by

    def __post_init__(self) -> None:
        """Refuse what is no regressor."""
        if isinstance(self.regressor, type) or not hasattr(self.regressor, "get_params"):
            raise DataError(
                f"{self.regressor!r} is no regressor: give an instance with fit, predict and get_params, such as"
                " RandomForestRegressor()"
            )
        settings = sorted(self.regressor.get_params().items())
        object.__setattr__(self, "settings", f"{self.name}{settings}")

    @property
    def name(self) -> str:
        """The class of the regressor."""
        return type(self.regressor).__name__

    def fit(self, screen: Screen, *, seed: int) -> FittedRegressor:
        """Learn from all conditions of a screen."""
        require_one_context(screen)
        ordered = screen.in_canonical_order()
        inputs = self._inputs(screen.vocabulary)
        basis = effect_components(ordered.effects, self.components)
        rows, scores = _features(ordered.batch, inputs), (ordered.effects @ basis.T).numpy()
        regressor = _prepared(self.regressor, outputs=len(basis), seed=seed)
        fitted = FittedRegressor(
            vocabulary=screen.vocabulary,
            readouts=screen.readouts,
            measured_alone=screen.single_rows >= 0,
            regressor=regressor.fit(rows, scores if len(basis) > 1 else scores[:, 0]),
            inputs=inputs,
            basis=basis,
            variance=torch.ones(len(screen.readouts), dtype=torch.float64),
        )
        missed = ordered.effects - fitted.predict(ordered.batch).mean
        return replace(fitted, variance=residual_variance(missed))

    def _inputs(self, vocabulary: Vocabulary) -> Float[Tensor, "v f"]:
        if not self.descriptors:
            return torch.eye(len(vocabulary), dtype=torch.float64)
        blocks = [each.coordinates(vocabulary, rank=self.rank)[0] for each in self.descriptors]
        inputs = torch.cat(blocks, dim=1)
        if not inputs.shape[1]:
            names = ", ".join(each.name for each in self.descriptors)
            raise DataError(f"{names} describe none of the {len(vocabulary)} targets; are they named alike?")
        return inputs


def _features(batch: PerturbationBatch, inputs: Float[Tensor, "v f"]) -> Float[np.ndarray, "b f"]:
    features: np.ndarray = (batch.multi_hot(len(inputs)) @ inputs).numpy()
    return features


def _prepared(regressor: Regressor, *, outputs: int, seed: int) -> Regressor:
    """Clone, give it the seed where it has none, and fit one for each output where it knows only one."""
    from sklearn.base import clone  # noqa: PLC0415 - a second to import, and only such models need it
    from sklearn.multioutput import MultiOutputRegressor  # noqa: PLC0415
    from sklearn.utils import get_tags  # noqa: PLC0415

    unset = [name for name, value in regressor.get_params().items() if value is None]
    seeds = {name: seed for name in unset if name.endswith("random_state")}
    mine = clone(regressor).set_params(**seeds)
    single = outputs > 1 and not get_tags(mine).target_tags.multi_output
    prepared: Regressor = MultiOutputRegressor(mine) if single else mine
    return prepared
