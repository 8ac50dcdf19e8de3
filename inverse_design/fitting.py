"""Fitting a forward model to a screen, and what it predicts of named perturbations."""

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, TypeAlias

import pandas as pd
import torch
from jaxtyping import Float
from torch import Tensor

from inverse_design.candidates import borrows
from inverse_design.screens import ScreenLike, as_screen
from surrogates.cached_fit import ALONE, BesideFit, fit_beside
from surrogates.data.novelty import novelty_code, novelty_name
from surrogates.data.perturbation import Perturbation
from surrogates.data.screen import Screen
from surrogates.data.vocabulary import PerturbationBatch
from surrogates.errors import CalibrationError, DataError, UnknownChoiceError, amount
from surrogates.executors import Workers
from surrogates.fit_cache import USER_CACHE, FitCache
from surrogates.models.base import Surrogate
from surrogates.models.registry import SURROGATES
from surrogates.models.regressor import FromRegressor, Regressor
from surrogates.models.wrappers.automatic import Automatic
from surrogates.models.wrappers.calibrated import Calibrated, FittedCalibrated
from surrogates.models.wrappers.conformal import FittedConformal, conformal
from surrogates.models.wrappers.public_law import BORROWED
from surrogates.summary import as_html, lines_of
from surrogates.team import fits_over
from surrogates.uncertainty.conformal.quantiles import require_level
from surrogates.uncertainty.posterior import Interval

if TYPE_CHECKING:
    from anndata import AnnData

__all__ = [
    "AUTOMATIC", "FitCache", "Prediction", "ScreenFit", "SurrogateLike", "beside_fit", "calibrated_fit", "fit",
    "surrogate_of",
]  # fmt: skip

AUTOMATIC = "automatic"
SurrogateLike: TypeAlias = str | Surrogate | Regressor | None


def surrogate_of(stated: SurrogateLike) -> Surrogate | None:
    """Take what a user names as the forward model; ``None`` for the one that the data choose."""
    if stated is None or stated == AUTOMATIC:
        return None
    if isinstance(stated, str):
        if stated not in SURROGATES.names():
            raise UnknownChoiceError.from_known("model", stated, (AUTOMATIC, *SURROGATES.names()))
        return SURROGATES.load(stated)()
    if isinstance(stated, type):
        raise DataError(f"{stated.__name__} is a class; give an instance of it, {stated.__name__}()")
    if isinstance(stated, Regressor):
        return FromRegressor(stated)
    if not isinstance(stated, Surrogate):
        raise DataError(
            f"a {type(stated).__name__} is no forward model; give a name such as 'additive', a configuration such"
            " as Interaction(), or a regressor of scikit-learn"
        )
    return stated


def calibrated_fit(
    screen: Screen, stated: SurrogateLike, *, unseen: bool, seed: int, beside: BesideFit = ALONE
) -> FittedCalibrated:
    """Fit a model with its error models: that which is stated and no other, or the one that the data choose.

    ``unseen`` is whether perturbations of parts that were never measured alone will be asked for: they take
    further fits, of the same model or of those that know descriptors: most of the time of a large screen.
    ``beside`` is what :func:`beside_fit` says of the same, by which the fit is kept and found.
    """
    return fit_beside(beside, _configuration(stated, unseen=unseen), screen, seed=seed)


def beside_fit(
    screen: Screen, stated: SurrogateLike, *, unseen: bool, seed: int, cache: FitCache | None
) -> BesideFit:
    """Say where what is worked out of :func:`calibrated_fit` of the same is kept."""
    return BesideFit.of_fit(_configuration(stated, unseen=unseen), screen, seed=seed, cache=cache)


def _configuration(stated: SurrogateLike, *, unseen: bool) -> Automatic | Calibrated:
    surrogate = surrogate_of(stated) or Automatic()
    if isinstance(surrogate, Calibrated):
        return surrogate
    whole = surrogate if isinstance(surrogate, Automatic) else Automatic((surrogate,), unseen=())
    return whole if unseen else replace(whole, unseen=None)


@dataclass(frozen=True)
class Prediction:
    """What experiments with some perturbations will show.

    Attributes:
        mean: Expected effects, one row per perturbation as it was named, one column per readout, in the unit of
            the screen.
        lower: Lower bounds of what a new measurement shows of each readout; NaN where nothing calibrates them.
        upper: Upper bounds.
        in_sample: Whether the fit has seen each perturbation: its prediction is then no forecast, and its bounds
            are those of perturbations that were not seen.
        novelty: Of how many parts each is, and how many of them were measured alone.
        level: Probability of the bounds, for each readout on its own.
        notes: What stands behind the bounds.
    """

    mean: pd.DataFrame
    lower: pd.DataFrame
    upper: pd.DataFrame
    in_sample: pd.Series
    novelty: pd.Series
    level: float
    notes: tuple[str, ...]

    def to_frame(self) -> pd.DataFrame:
        """Lay everything out in one long table.

        Returns:
            One row per perturbation and readout: perturbation, readout, mean, lower, upper, in_sample, novelty.
        """
        size, count = self.mean.shape
        table = pd.DataFrame({
            "perturbation": self.mean.index.repeat(count),
            "readout": list(self.mean.columns) * size,
            **{name: getattr(self, name).to_numpy().ravel() for name in ("mean", "lower", "upper")},
        })  # fmt: skip
        return table.assign(
            in_sample=self.in_sample.repeat(count).to_numpy(), novelty=self.novelty.repeat(count).to_numpy()
        )

    def to_anndata(self) -> "AnnData":
        """Lay everything out as scverse's tools take it.

        Returns:
            One observation per perturbation with ``in_sample`` and ``novelty``, the readouts as variables, the
            means as ``X``, the layers ``lower`` and ``upper``, and ``uns["inverse_design"]`` with level and notes.
        """
        from anndata import AnnData  # noqa: PLC0415 - takes seconds, and few want it

        found = AnnData(
            self.mean.to_numpy(float),
            obs=pd.DataFrame({"in_sample": self.in_sample, "novelty": self.novelty}),
            var=pd.DataFrame(index=self.mean.columns.astype(str)),
            layers={"lower": self.lower.to_numpy(float), "upper": self.upper.to_numpy(float)},
        )
        found.uns["inverse_design"] = {"level": self.level, "notes": list(self.notes)}
        return found

    def __repr__(self) -> str:
        (size, count), seen = self.mean.shape, int(self.in_sample.sum())
        said = f"Prediction: {size} perturbations on {count:,} readouts, with {100 * self.level:.3g} % bounds"
        return lines_of(said + (f"; {seen} in-sample" if seen else ""), *self.notes)

    def _repr_html_(self) -> str:
        return as_html(repr(self).splitlines(), self.to_frame())


@dataclass(frozen=True)
class ScreenFit:
    """A forward model that was fitted to a screen, with the error models of its held-out predictions.

    Attributes:
        screen: What it was fitted to.
        model: The fitted model, for code that speaks in tensors.
    """

    screen: Screen
    model: FittedCalibrated

    @property
    def readouts(self) -> tuple[str, ...]:
        """Names of the readouts that it predicts."""
        return self.model.readouts

    def predict(self, perturbations: str | Sequence[str | Perturbation], *, level: float = 0.9) -> Prediction:
        """Predict perturbations by their labels; the order of parts does not matter.

        Args:
            perturbations: Labels such as ``"KLF1+CEBPE"``, of genes or compounds that the screen holds.
            level: Probability of the bounds.

        Returns:
            Mean and bounds of each readout.

        Raises:
            UnknownNameError: If a gene or compound is unknown; the message names the nearest ones.
            DataError: If nothing is named, or something twice.
            CalibrationError: If the level is no probability.
        """
        require_level(level)
        named = [perturbations] if isinstance(perturbations, str) else list(perturbations)
        labels = [each if isinstance(each, str) else each.label for each in named]
        parsed = [self.screen.vocabulary.parse(label) for label in labels]
        _refuse_repeats(labels, parsed)
        batch = self.screen.vocabulary.batch(parsed)
        bounds = self._bounds(batch, level)
        index = pd.Index(labels, name="perturbation", dtype=object)
        known = set(self.screen.labels)
        codes = novelty_code(batch, self.model.measured_alone).tolist()

        def table(values: Float[Tensor, "b g"]) -> pd.DataFrame:
            return pd.DataFrame(values.numpy(), index=index, columns=list(self.readouts))

        return Prediction(
            mean=table(bounds.mean),
            lower=table(bounds.lower),
            upper=table(bounds.upper),
            in_sample=pd.Series([each.label in known for each in parsed], index=index, name="in_sample"),
            novelty=pd.Series([novelty_name(code) for code in codes], index=index, name="novelty"),
            level=level,
            notes=bounds.notes,
        )

    @cached_property
    def _calibrated(self) -> FittedConformal:
        return conformal(self.model)

    def _bounds(self, batch: PerturbationBatch, level: float) -> "_Bounds":
        mean = self.model.predict(batch).mean
        lower, upper = torch.full((2, *mean.shape), math.nan, dtype=torch.float64)
        codes = novelty_code(batch, self.model.measured_alone)
        notes = []
        for code in codes.unique().tolist():
            rows = torch.nonzero(codes == code).flatten()
            try:
                interval, note = self._interval(batch.rows(rows), code, level)
            except CalibrationError as error:
                notes.append(f"warning: bounds of {novelty_name(code)!r} cannot be calibrated: {error}")
                continue
            lower[rows], upper[rows] = interval.lower, interval.upper
            notes.append(note)
        return _Bounds(mean, lower, upper, tuple(notes))

    def _interval(self, batch: PerturbationBatch, code: int, level: float) -> tuple[Interval, str]:
        """Bound perturbations of one novelty class, and say by what."""
        name = novelty_name(code)
        if borrows(self.model, code):
            return self.model.predict(batch).interval(level), f"warning: bounds of {name!r} are {BORROWED}"
        behind = self._calibrated.calibration(code, level).line
        return self._calibrated.interval(batch, level), f"bounds of {name!r} by {behind}"

    def __repr__(self) -> str:
        held_out = self.model.held_out
        error = f"squared error {held_out.ratio:.3f} of additive's on {held_out.conditions} held-out doubles"
        return lines_of(
            f"ScreenFit: {self.model.name}, fitted to {amount(len(self.screen), 'condition')} on"
            f" {amount(len(self.readouts), 'readout')}",
            error if held_out.conditions else "no held-out combination could test it",
            "predict(['A+B', ...]) gives mean, lower and upper of each readout",
        )

    def _repr_html_(self) -> str:
        return as_html(repr(self).splitlines(), pd.DataFrame({"perturbation": self.screen.labels}), rows=5)


def fit(
    screen: ScreenLike,
    *,
    surrogate: SurrogateLike = None,
    seed: int = 0,
    cache: FitCache | None = USER_CACHE,
    workers: Workers = 1,
) -> ScreenFit:
    """Fit a forward model to a screen, and calibrate it on perturbations that it has not seen.

    Example:
        >>> fitted = fit(screen, surrogate="scaled_additive")
        >>> list(fitted.predict(["KLF1+CEBPE", "KLF1+SPI1"]).to_frame())
        ['perturbation', 'readout', 'mean', 'lower', 'upper', 'in_sample', 'novelty']

    Args:
        screen: Measured effects in one context: a screen, or what :func:`read_screen` reads as it is.
        surrogate: The name of a model, a configuration, or a regressor of scikit-learn; by default the model that
            predicts held-out doubles best.
        seed: Fixes everything that is random.
        cache: Where fits are kept, and looked up; ``None`` to fit in any case.
        workers: Processes that share a long fit, or the address of a scheduler of ``dask.distributed``.

    Returns:
        The fitted model; equal input gives equal output.

    Raises:
        DataError: If the screen has several contexts, or the model refuses it.
        UnknownChoiceError: If there is no model of that name.
        WorkerError: If a worker dies, or the scheduler cannot be used.
    """
    screen = as_screen(screen)
    unseen = bool((screen.single_rows < 0).any())
    beside = beside_fit(screen, surrogate, unseen=unseen, seed=seed, cache=cache)
    with fits_over(workers):
        return ScreenFit(screen, calibrated_fit(screen, surrogate, unseen=unseen, seed=seed, beside=beside))


@dataclass(frozen=True)
class _Bounds:
    """Predictions with bounds that held-out errors calibrate, class by class."""

    mean: Float[Tensor, "b g"]
    lower: Float[Tensor, "b g"]
    upper: Float[Tensor, "b g"]
    notes: tuple[str, ...]


def _refuse_repeats(labels: Sequence[str], parsed: Sequence[Perturbation]) -> None:
    if not labels:
        raise DataError("the list of perturbations is empty; name one or more, such as ['KLF1+CEBPE']")
    counts = Counter(each.label for each in parsed)
    if twice := next((each for each in parsed if counts[each.label] > 1), None):
        same = [label for label, each in zip(labels, parsed, strict=True) if each == twice]
        raise DataError(f"{' and '.join(map(repr, same))} are the same perturbation; keep one of them")
