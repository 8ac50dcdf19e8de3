"""Fitted models as files: one safetensors file with all tensors, and in its header a JSON document.

The document holds the format version, where the model comes from, and the model itself (see
:mod:`surrogates.artefact_types`). Nothing of a file is ever executed.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import astuple, dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from surrogates.artefact_types import Json, decode, encode
from surrogates.data.screen import Screen
from surrogates.data.vocabulary import EMPTY
from surrogates.errors import DataError
from surrogates.models.base import ContextSurrogate, Fitted, FittedAcrossContexts, FittedCells, Surrogate
from surrogates.registry import installed_version
from surrogates.whole_file import write_whole

FORMAT = 1
_KIND = "inverse-design artefact"
_LARGEST_DOCUMENT = 90_000_000  # bytes; a safetensors header ends at 100 MB
_DTYPES = {
    torch.bool: "BOOL", torch.uint8: "U8", torch.int8: "I8", torch.int16: "I16", torch.int32: "I32",
    torch.int64: "I64", torch.float16: "F16", torch.bfloat16: "BF16", torch.float32: "F32", torch.float64: "F64",
}  # fmt: skip


@dataclass(frozen=True)
class Origin:
    """What a fitted model was made of, and by what.

    Attributes:
        data: Fingerprint of the screen, see :func:`fingerprint`.
        provenance: Where the screen comes from.
        configuration: The surrogate, spelled out.
        seed: Of the fit.
        package: Version of the package that fitted it.
    """

    data: str
    provenance: Mapping[str, str]
    configuration: str
    seed: int
    package: str = field(default_factory=lambda: installed_version("inverse-design"))

    @classmethod
    def of(cls, screen: Screen, surrogate: Surrogate | ContextSurrogate, *, seed: int) -> "Origin":
        """Note how a model was fitted.

        Args:
            screen: What it was fitted to.
            surrogate: The configuration.
            seed: Of the fit.

        Returns:
            The note.
        """
        return cls(fingerprint(screen), dict(screen.provenance), repr(surrogate), seed)


def fingerprint(screen: Screen) -> str:
    """Hash the content of a screen: effects, standard errors, design, vocabulary, readouts and contexts."""
    ordered = screen.sorted_by_label()
    names = {
        "rows": ordered.labels,
        "contexts": ordered.contexts,
        "readouts": ordered.readouts,
        "vocabulary": [astuple(entry) for entry in ordered.vocabulary.entries],
        "standard_errors": ordered.standard_errors is not None,
    }
    digest = hashlib.sha256(json.dumps(names).encode())
    for values in (ordered.effects, ordered.standard_errors):
        if values is not None:
            digest.update(values.to(torch.float64).numpy().astype("<f8").tobytes())
    return digest.hexdigest()


def save_fitted(fitted: Fitted | FittedAcrossContexts | FittedCells, path: Path, *, origin: Origin) -> None:
    """Write a fitted model; a reader sees the old file or the new one, never a part.

    Example:
        >>> from surrogates import Ridge
        >>> fitted = Ridge().fit(screen, seed=0)
        >>> save_fitted(fitted, Path("model.safetensors"), origin=Origin.of(screen, Ridge(), seed=0))
        >>> load_fitted(Path("model.safetensors")).readouts == fitted.readouts
        True

    Args:
        fitted: The fitted model, a frozen dataclass.
        path: Where; its folder must exist.
        origin: How it was fitted.

    Raises:
        DataError: If it holds something that an artefact cannot hold, or too many names for one file.
    """
    save_value(fitted, path, origin=origin)


def save_value(value: object, path: Path, *, origin: Origin | str) -> None:
    """Write anything that artefacts can hold, as :func:`save_fitted` does; ``origin`` is what it was made of."""
    tensors: dict[str, Tensor] = {}
    document = {
        "origin": encode(origin, tensors, where="origin"),
        "model": encode(value, tensors, where=type(value).__name__),
    }
    text = json.dumps(document, allow_nan=False)
    if len(text) > _LARGEST_DOCUMENT:
        raise DataError(
            f"the names in the model fill {len(text)} bytes, more than {_LARGEST_DOCUMENT}; fit to fewer"
        )
    metadata = {"kind": _KIND, "format": str(FORMAT), "document": text}
    write_whole(path, lambda temporary: _write(temporary, tensors, metadata))


def load_fitted(path: Path) -> Fitted:
    """Read a fitted model that :func:`save_fitted` has written; it predicts exactly what it predicted then.

    Args:
        path: The file, from whomever.

    Returns:
        The fitted model.

    Raises:
        DataError: If there is no such file, or it is not an intact artefact of this format, or its model learnt
            from several contexts.
    """
    fitted = load_value(path)
    if not isinstance(fitted, Fitted):
        raise DataError(f"{path.name!r} holds a {_kind_of(fitted)}; open it with the function for that")
    _require_predictions(fitted, path)
    return fitted


def load_across_contexts(path: Path) -> FittedAcrossContexts:
    """Read a fitted model of several contexts that :func:`save_fitted` has written.

    Args:
        path: The file, from whomever.

    Returns:
        The fitted model.

    Raises:
        DataError: If there is no such file, or it is not an intact artefact of this format, or its model is of
            one context.
    """
    fitted = load_value(path)
    if not isinstance(fitted, FittedAcrossContexts):
        raise DataError(f"{path.name!r} holds a {_kind_of(fitted)}; open it with the function for that")
    for context in fitted.contexts[:1]:
        _require_predictions(fitted.in_context(context), path)
    return fitted


def load_cells(path: Path) -> FittedCells:
    """Read a fitted model of single cells that :func:`save_fitted` has written.

    Args:
        path: The file, from whomever.

    Returns:
        The fitted model.

    Raises:
        DataError: If there is no such file, or it is not an intact artefact of this format, or its model is not
            one of cells.
    """
    fitted = load_value(path)
    if isinstance(fitted, Fitted) or not isinstance(fitted, FittedCells):
        raise DataError(f"{path.name!r} holds a {_kind_of(fitted)}; open it with the function for that")
    return fitted


def read_origin(path: Path) -> Origin:
    """Read how the model of an artefact was fitted, without the model."""
    document, _ = _read(path)
    origin = _decoded(document["origin"], {}, path)
    if not isinstance(origin, Origin):
        raise DataError(f"{path.name!r} does not say where its model comes from; write it again")
    return origin


def _write(path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> None:
    """Write a safetensors file without a copy of any tensor; equal models make equal files."""
    names = sorted(tensors, key=lambda name: (-tensors[name].itemsize, int(name)))  # so that all are aligned
    header: dict[str, object] = {"__metadata__": dict(metadata)}
    end = 0
    for name in names:
        begin, end = end, end + tensors[name].nbytes
        header[name] = {
            "dtype": _DTYPES[tensors[name].dtype],
            "shape": list(tensors[name].shape),
            "data_offsets": [begin, end],
        }
    text = json.dumps(header, sort_keys=True, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    with path.open("wb") as stream:
        stream.write(len(text).to_bytes(8, "little") + text)
        for name in names:
            stream.write(tensors[name].reshape(-1).view(torch.uint8).numpy().data)


def _kind_of(fitted: object) -> str:
    kinds = ((Fitted, "model of one context"), (FittedAcrossContexts, "model of several contexts"))
    known = (name for kind, name in (*kinds, (FittedCells, "model of cells")) if isinstance(fitted, kind))
    return next(known, type(fitted).__name__)


def load_value(path: Path) -> object:
    """Read what :func:`save_value` has written."""
    document, tensors = _read(path)
    return _decoded(document["model"], tensors, path)


def _decoded(node: Json, tensors: Mapping[str, Tensor], path: Path) -> Any:  # noqa: ANN401 - whatever was stored
    try:
        return decode(node, tensors, where=path.name)
    except RecursionError as error:
        raise DataError(f"{path.name!r} is nested too deeply to be a model") from error


def _read(path: Path) -> tuple[dict[str, Json], dict[str, Tensor]]:
    """Take a file apart, and refuse it as long as it is not one of ours, of this format."""
    if not path.is_file():
        raise DataError(f"there is no file {str(path)!r}")
    try:
        with safe_open(path, "pt") as file:
            document = _document(file.metadata() or {}, path)
            # The file is mapped into memory: a copy stays what it is when the file is overwritten.
            return document, {name: file.get_tensor(name).clone() for name in file.keys()}  # noqa: SIM118 - no mapping
    except (SafetensorError, OSError) as error:
        raise DataError(f"{path.name!r} is not an intact safetensors file: {error}") from error


def _document(metadata: Mapping[str, str], path: Path) -> dict[str, Json]:
    if metadata.get("kind") != _KIND:
        raise DataError(f"{path.name!r} is a safetensors file, but not an {_KIND}")
    _require_format(metadata.get("format", ""), path)
    try:
        document = json.loads(metadata.get("document", ""), parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        raise DataError(f"the document in {path.name!r} is not JSON: {error}") from error
    if not isinstance(document, dict) or set(document) != {"origin", "model"}:
        raise DataError(f"the document in {path.name!r} is not an origin and a model")
    return document


def _require_format(stated: str, path: Path) -> None:
    if not (stated.isascii() and stated.isdigit() and len(stated) < 6):
        raise DataError(f"{path.name!r} states the format {stated[:20]!r}, which is not a number")
    if int(stated) > FORMAT:
        raise DataError(f"{path.name!r} has format {stated}, this package reads {FORMAT}; upgrade the package")
    if int(stated) < FORMAT:
        raise DataError(f"{path.name!r} has format {stated}, which is no longer read; fit the model again")


def _refuse_constant(text: str) -> None:
    raise ValueError(f"{text} is not JSON")


def _require_predictions(fitted: Fitted, path: Path) -> None:
    """Predict the control, the outermost entries and a pair: few tables of wrong length survive that."""
    v, g = len(fitted.vocabulary), len(fitted.readouts)
    targets = fitted.vocabulary.targets
    pair = next(([gene - 1, gene] for gene in range(v - 1, 0, -1) if targets[gene - 1] != targets[gene]), None)
    rows = [[EMPTY, EMPTY], *([gene, EMPTY] for gene in sorted({0, v - 1}) if v), *([pair] if pair else [])]
    try:
        posterior = fitted.predict(fitted.vocabulary.dosed(torch.tensor(rows)))
        shapes = {tuple(posterior.mean.shape), tuple(posterior.variance.shape)}
        alone = tuple(fitted.measured_alone.shape)
    except (TypeError, ValueError, RuntimeError, LookupError, AttributeError) as error:
        raise DataError(f"the model in {path.name!r} does not predict: {error}") from error
    if shapes != {(len(rows), g)} or alone != (v,):
        raise DataError(f"the tables of the model in {path.name!r} do not fit {v} entries and {g} readouts")
