"""The values that an artefact can hold, as named tensors and a JSON document.

Plain JSON stands for ``None``, truth values, whole numbers, finite numbers and text. Everything else is an object
with one key that says what it is: ``float`` (the numbers that are not finite), ``tensor``, ``tuple``, ``mapping``,
or ``type``, which is a frozen dataclass with its ``fields``. A file can only name dataclasses of the registry
below: nothing else is ever imported, and values are held against the annotations of the fields before anything is
built.
"""

import json
import math
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from functools import cache
from importlib.metadata import entry_points
from types import UnionType
from typing import Any, Literal, TypeAlias, TypeVar, Union, get_args, get_origin, get_type_hints

import torch
from jaxtyping import jaxtyped
from torch import Tensor

from surrogates.errors import DataError, UnknownNameError
from surrogates.registry import Registry

Json: TypeAlias = bool | int | float | str | list[Any] | dict[str, Any] | None

_BY_MODULE = {  # of this package
    "artefact": "Origin",
    "contrib.causal.design": "Sources",
    "contrib.causal.model": "FittedCausal",
    "contrib.causal.steady_states": "FittedSteadyStates",
    "contrib.cells.additive_autoencoder": "FittedAdditiveAutoencoder",
    "contrib.cells.additive_networks": "DoseCurves",
    "contrib.cells.axes": "PrincipalAxes",
    "contrib.cells.convex_transport": "ConvexNetwork FittedConvexTransport",
    "contrib.cells.effects": "FittedEffectsOfCells",
    "contrib.cells.flow": "EmbeddedTargets FittedFlow",
    "contrib.cells.flow_networks": "MaskedAttention SetEncoder Velocity",
    "contrib.cells.latent_shift": "FittedLatentShift",
    "contrib.cells.shift": "FittedTwoFactorCells Shifts",
    "contrib.cells.transport": "FittedTransportShift Pairs",
    "contrib.contexts.large_perturbation": "FittedLargePerturbation LargePerturbationInContext Member",
    "contrib.contexts.transfer": "Elsewhere FittedTransfer PairLaw TransferInContext",
    "contrib.contexts.two_way": "ActionEffects FittedContextMean FittedSyntheticInContext"
    " FittedSyntheticInterventions FittedTwoFactor FittedTwoWay",
    "contrib.dynamics": "FittedSaturatingDynamics SaturatingNetworks",
    "data.across": "ActionTable Actions",
    "data.perturbation": "Intervention",
    "data.vocabulary": "PerturbationBatch Vocabulary",
    "models.base": "LatentNetwork",
    "models.baselines": "CombinationLaw FittedMean FittedScaledAdditive",
    "models.directions": "CommonEffects ShrunkEffects",
    "models.entries": "FittedDescribed",
    "models.interaction": "Features FittedInteraction",
    "models.latent_sum": "FittedLatentSum",
    "models.linear": "FittedRidge",
    "models.training": "Layers Training",
    "models.wrappers.calibrated": "Expert FittedCalibrated HeldOutError",
    "models.wrappers.conformal": "FittedConformal",
    "models.wrappers.cross_fitting": "HeldOutFit HeldOutPredictions",
    "models.wrappers.ensemble": "FittedEnsemble FittedResidual",
    "models.wrappers.stacked": "ClassWeights FittedStacked",
    "models.wrappers.stated_errors": "FittedStatedErrors StatedScales",
    "uncertainty.error_model": "ErrorLaw FactorCovariance LawChoice",
    "uncertainty.heteroscedastic": "CombinationFactor ErrorScale Tails",
    "uncertainty.readout_variance": "ReadoutVariance",
    "uncertainty.selection": "Promise Selection",
}
# A dataclass goes by its own name: that is how its entry is found when a value is stored.
ARTEFACT_TYPES: Registry[type[Any]] = Registry(
    kind="artefact type",
    group="inverse_design.artefact_types",
    shipped={
        name: f"surrogates.{module}:{name}" for module, names in _BY_MODULE.items() for name in names.split()
    },
)

# Classes that one of these groups names are stored under their own name, without an entry of their own above.
_PLUGGED = ("inverse_design.objectives", "inverse_design.constraints")

T = TypeVar("T")
_DECLARED: dict[str, type[Any]] = {}


def storable(kind: type[T]) -> type[T]:
    """Let files hold a frozen dataclass, and be read where its module was imported already."""
    _DECLARED[kind.__name__] = kind
    return kind


_DTYPES = frozenset({
    torch.bool, torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64,
    torch.float16, torch.bfloat16, torch.float32, torch.float64,
})  # fmt: skip
_NOT_FINITE = {"nan": math.nan, "inf": math.inf, "-inf": -math.inf}
_PLAIN = (type(None), bool, int, str)


def encode(value: object, tensors: dict[str, Tensor], *, where: str) -> Json:
    """Spell a value out."""
    return _Encoder(tensors).encode(value, where)


def decode(node: Json, tensors: Mapping[str, Tensor], *, where: str) -> Any:  # noqa: ANN401 - whatever was stored
    """Build a value from its document."""
    kind = type(node)
    if kind in _PLAIN or kind is float:
        return node
    if not isinstance(node, dict):
        raise _malformed(where, node)
    match node:
        case {"float": str(name)} if name in _NOT_FINITE and len(node) == 1:
            return _NOT_FINITE[name]
        case {"tensor": str(name)} if len(node) == 1:
            if name not in tensors:
                raise DataError(f"{where}: tensor {name!r} is missing from the file")
            return tensors[name]
        case {"tuple": list(items)} if len(node) == 1:
            return tuple(decode(each, tensors, where=f"{where}[{n}]") for n, each in enumerate(items))
        case {"mapping": list(pairs)} if len(node) == 1:
            return dict(_pair(each, tensors, where) for each in pairs)
        case {"type": str(name), "fields": dict(given)} if len(node) == 2:
            return _build(name, given, tensors, where)
    raise _malformed(where, node)


class _Encoder:
    """Collects the tensors of one value; it holds them, so that no two share an identity."""

    def __init__(self, tensors: dict[str, Tensor]) -> None:
        self._tensors = tensors
        self._names: dict[int, tuple[str, Tensor]] = {}

    def encode(self, value: object, where: str) -> Json:
        kind = type(value)
        if isinstance(value, _PLAIN) and kind in _PLAIN:
            return value
        if isinstance(value, float) and kind is float:
            return value if math.isfinite(value) else {"float": repr(value)}
        if isinstance(value, Tensor):
            return {"tensor": self._name(value, where)}
        if isinstance(value, tuple) and kind is tuple:
            return {"tuple": [self.encode(each, f"{where}[{n}]") for n, each in enumerate(value)]}
        if isinstance(value, Mapping):
            return {"mapping": [self._pair(key, each, where) for key, each in value.items()]}
        if is_dataclass(value) and not isinstance(value, type):
            return self._dataclass(value, where)
        raise DataError(
            f"{where} is a {kind.__name__}, which an artefact cannot hold; fitted models are made of tensors,"
            " numbers, text, None, tuples, mappings and frozen dataclasses"
        )

    def _pair(self, key: object, value: object, where: str) -> list[Json]:
        if not (isinstance(key, (str, int)) and type(key) in (str, int)):
            raise DataError(f"{where} has the key {key!r}; keys of an artefact are text or whole numbers")
        return [key, self.encode(value, f"{where}[{key!r}]")]

    def _dataclass(self, value: Any, where: str) -> dict[str, Json]:  # noqa: ANN401 - any dataclass
        kind = type(value)
        if not _is_registered(kind):
            raise DataError(
                f"{where} is a {kind.__module__}.{kind.__qualname__}, which is not a registered artefact type;"
                f" register it as {kind.__name__!r} in the entry-point group {ARTEFACT_TYPES.group}"
            )
        if not kind.__dataclass_params__.frozen or not all(each.init for each in fields(kind)):
            raise DataError(
                f"{where}: {kind.__name__} is not frozen, or has a field that its constructor does not take"
            )
        values = {name: getattr(value, name) for name in _kept_fields(kind)}
        _require_annotated(kind, values, where)
        return {
            "type": kind.__name__,
            "fields": {name: self.encode(each, f"{where}.{name}") for name, each in values.items()},
        }

    def _name(self, tensor: Tensor, where: str) -> str:
        if id(tensor) not in self._names:
            if tensor.layout is not torch.strided or tensor.dtype not in _DTYPES:
                raise DataError(
                    f"{where} is a {tensor.dtype} tensor of layout {tensor.layout}; take a dense, real one"
                )
            plain = tensor.detach().cpu().contiguous()  # a copy only of what is expanded or strided
            self._names[id(tensor)] = str(len(self._tensors)), tensor
            self._tensors[str(len(self._tensors))] = plain
        return self._names[id(tensor)][0]


def _pair(node: Json, tensors: Mapping[str, Tensor], where: str) -> tuple[str | int, Any]:
    match node:
        case [str(key) | int(key), value] if not isinstance(key, bool):
            return key, decode(value, tensors, where=f"{where}[{key!r}]")
    raise _malformed(where, node)


def _kept_fields(kind: type[Any]) -> list[str]:
    """The fields that make a value what it is; one with the metadata ``cache`` begins anew where it is read."""
    return [each.name for each in fields(kind) if not each.metadata.get("cache")]


def _build(name: str, given: dict[str, Json], tensors: Mapping[str, Tensor], where: str) -> object:
    kind = _registered(name)[0]
    expected = _kept_fields(kind)
    if set(given) != set(expected):
        raise DataError(
            f"{where}: {name} has the fields {', '.join(expected)}, not {', '.join(map(str, given))}; the file was"
            " written by another version of the package: fit the model again"
        )
    values = {each: decode(given[each], tensors, where=f"{where}.{each}") for each in expected}
    _require_annotated(kind, values, where)
    try:
        return kind(**values)
    except (TypeError, ValueError, RuntimeError, LookupError, AttributeError) as error:
        raise DataError(f"{where}: no {name} can be made of what the file holds: {error}") from error


def _require_annotated(kind: type[Any], values: Mapping[str, object], where: str) -> None:
    """Hold fields against their annotations; axes of one letter have one size within a dataclass."""
    hints = _registered(kind.__name__)[1]
    with jaxtyped("context"):
        for name, value in values.items():
            # Axes are bound here and not within a function, which could be a context of its own.
            fits = (
                isinstance(value, _classes(hints[name]))
                if isinstance(value, Tensor)
                else _fits(value, hints[name])
            )
            if not fits:
                raise DataError(f"{where}.{name} is {_described(value)}, which does not fit {hints[name]}")


def _classes(hint: Any) -> tuple[type[Any], ...]:  # noqa: ANN401 - annotations are of many types
    """The classes of which a value may be; parametrised containers are left out."""
    kinds = get_args(hint) if get_origin(hint) in (Union, UnionType) else (hint,)
    return tuple(object if each is Any else each for each in kinds if get_origin(each) is None)


@cache
def _registered(name: str) -> tuple[type[Any], dict[str, Any]]:
    """Look a type and the annotations of its fields up: once, as a vocabulary holds thousands of a type."""
    kind = None
    if name not in ARTEFACT_TYPES.shipped and name not in ARTEFACT_TYPES.names():
        plugged = (entry.load() for group in _PLUGGED for entry in entry_points(group=group))
        found = (each for each in plugged if getattr(each, "__name__", "") == name)
        kind = _DECLARED.get(name) or next(found, None)
        if kind is None:  # the name is a file's: no choice of the user
            raise UnknownNameError.from_known(ARTEFACT_TYPES.kind, name, ARTEFACT_TYPES.names())
    kind = kind or ARTEFACT_TYPES.load(name)
    return kind, get_type_hints(kind)


def _is_registered(kind: type[Any]) -> bool:
    try:
        return _registered(kind.__name__)[0] is kind
    except UnknownNameError:
        return False


def _fits(value: object, hint: Any) -> bool:  # noqa: ANN401 - annotations are of many types
    """Tell whether a value is what an annotation says."""
    origin, arguments = get_origin(hint), get_args(hint)
    if origin in (Union, UnionType):
        return any(_fits(value, each) for each in arguments)
    if origin is Literal:
        return any(type(value) is type(each) and value == each for each in arguments)
    if origin is not None:
        return isinstance(value, origin) and _items_fit(value, arguments)
    if hint in (bool, int, float, str):
        return type(value) is hint or (hint is float and type(value) is int)
    return hint is Any or isinstance(value, hint)


def _items_fit(values: object, hints: tuple[Any, ...]) -> bool:
    """Tell whether a container holds what it should; its items have axes of their own."""
    if isinstance(values, Mapping):
        return all(_item_fits(key, hints[0]) and _item_fits(each, hints[1]) for key, each in values.items())
    if not isinstance(values, tuple):
        return True
    if len(hints) == 2 and hints[1] is Ellipsis:
        return all(_item_fits(each, hints[0]) for each in values)
    return len(values) == len(hints) and all(map(_item_fits, values, hints))


def _item_fits(value: object, hint: Any) -> bool:  # noqa: ANN401 - annotations are of many types
    with jaxtyped("context"):
        return _fits(value, hint)


def _described(value: object) -> str:
    if isinstance(value, Tensor):
        return f"a {value.dtype} tensor of shape {tuple(value.shape)}"
    return f"a {type(value).__name__}"


def _malformed(where: str, node: Json) -> DataError:
    return DataError(f"{where} is malformed: {json.dumps(node)[:60]}")
