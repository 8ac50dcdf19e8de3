import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors import safe_open
from safetensors.torch import save as to_bytes
from strategies.screens import normal, pairs_of, planted_screen
from torch import Tensor

from surrogates import artefact_types
from surrogates.artefact import (
    Origin,
    fingerprint,
    load_across_contexts,
    load_cells,
    load_fitted,
    read_origin,
    save_fitted,
)
from surrogates.artefact_types import ARTEFACT_TYPES
from surrogates.contrib.cells.shift import FittedTwoFactorCells, Shifts
from surrogates.data.perturbation import Perturbation
from surrogates.data.screen import Screen
from surrogates.data.vocabulary import PerturbationBatch, Vocabulary
from surrogates.errors import DataError
from surrogates.models.base import Fitted, Surrogate
from surrogates.models.baselines import Additive, PerturbationMean, ScaledAdditive
from surrogates.models.interaction import Interaction
from surrogates.models.registry import CONTEXT_SURROGATES, SURROGATES
from surrogates.models.training import Schedule
from surrogates.models.wrappers.calibrated import Calibrated, FittedCalibrated
from surrogates.models.wrappers.ensemble import Ensemble
from surrogates.registry import Registry
from surrogates.testing import probe_batch
from surrogates.uncertainty.posterior import GaussianPosterior, isotropic

SCREEN = planted_screen(alone=range(8), together=pairs_of(8, 20), bend=0.5)
COMPOSED: dict[str, Surrogate] = {
    "ensemble": Ensemble(Interaction(), members=3),
    "calibrated": Calibrated(ScaledAdditive(), folds=3),
    "calibrated_ensemble": Calibrated(Ensemble(ScaledAdditive(), members=2), folds=2),
}


@dataclass(frozen=True)
class FittedElsewhere:
    """A forward model whose one field can be anything."""

    vocabulary: Vocabulary
    readouts: tuple[str, ...]
    measured_alone: Tensor
    extra: Any

    def predict(self, batch: PerturbationBatch) -> GaussianPosterior:
        return isotropic(
            torch.zeros(len(batch), len(self.readouts)).double(), torch.ones(len(self.readouts)).double()
        )


@dataclass(frozen=True)
class FittedLines:
    """A forward model of several contexts."""

    lines: Mapping[str, FittedElsewhere]

    @property
    def contexts(self) -> tuple[str, ...]:
        return tuple(self.lines)

    def in_context(self, context: str) -> FittedElsewhere:
        return self.lines[context]


@pytest.fixture(scope="module", autouse=True)
def _types_of_this_file() -> Iterator[None]:
    own = {kind.__name__: f"{__name__}:{kind.__name__}" for kind in (FittedElsewhere, FittedLines)}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            artefact_types,
            "ARTEFACT_TYPES",
            Registry[type[Any]]("artefact type", ARTEFACT_TYPES.group, {**ARTEFACT_TYPES.shipped, **own}),
        )
        yield
    artefact_types._registered.cache_clear()


def _elsewhere(extra: object) -> FittedElsewhere:
    return FittedElsewhere(SCREEN.vocabulary, SCREEN.readouts, torch.ones(8, dtype=torch.bool), extra)


def _origin(surrogate: Surrogate | None = None) -> Origin:
    return Origin.of(SCREEN, surrogate or Additive(), seed=3)


@pytest.fixture
def written(tmp_path: Path) -> Path:
    path = tmp_path / "model.safetensors"
    save_fitted(ScaledAdditive().fit(SCREEN, seed=0), path, origin=_origin())
    return path


def _taken_apart(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    with safe_open(path, "pt") as file:
        return {name: file.get_tensor(name) for name in file.keys()}, dict(file.metadata())  # noqa: SIM118 - no mapping


def _rewrite(path: Path, change: Callable[[dict[str, Any], dict[str, Tensor]], object], **metadata: str) -> None:
    """Let something change the document and the tensors of a file."""
    tensors, head = _taken_apart(path)
    document = json.loads(head["document"])
    change(document, tensors)
    path.write_bytes(to_bytes(tensors, {**head, "document": json.dumps(document), **metadata}))


# --- every model that is shipped ------------------------------------------------------------------------------


def _surrogate(name: str) -> Surrogate:
    made = COMPOSED[name] if name in COMPOSED else SURROGATES.load(name)()
    return replace(made, schedule=Schedule(epochs=3)) if hasattr(made, "schedule") else made  # type: ignore[type-var]


@pytest.mark.parametrize("name", [*SURROGATES.shipped, *COMPOSED])
def test_predictions_are_equal_after_the_round_trip(name: str, tmp_path: Path) -> None:
    fitted = _surrogate(name).fit(SCREEN, seed=0)
    save_fitted(fitted, tmp_path / "model", origin=_origin())
    again = load_fitted(tmp_path / "model")
    assert type(again) is type(fitted)
    assert (again.vocabulary, again.readouts) == (fitted.vocabulary, fitted.readouts)
    assert torch.equal(again.measured_alone, fitted.measured_alone)
    probe = probe_batch(SCREEN)
    one, other = fitted.predict(probe), again.predict(probe)
    assert torch.equal(one.mean, other.mean)
    assert torch.equal(one.variance, other.variance)
    assert torch.equal(one.scale, other.scale)


def _four_contexts() -> Screen:
    """The screen in four contexts, in each a little different."""
    contexts = range(4)
    return replace(
        SCREEN,
        effects=torch.cat(
            [SCREEN.effects * (1 - 0.1 * n) + 0.1 * normal(len(SCREEN), 12, seed=n) for n in contexts]
        ),
        batch=PerturbationBatch(SCREEN.batch.genes.repeat(4, 1), SCREEN.batch.dose.repeat(4, 1)),
        contexts=tuple("ABCD"[n] for n in contexts for _ in range(len(SCREEN))),
        annotations=pd.DataFrame(index=range(4 * len(SCREEN))),
    )


@pytest.mark.parametrize("name", CONTEXT_SURROGATES.shipped)
def test_predictions_in_every_context_are_equal_after_the_round_trip(name: str, tmp_path: Path) -> None:
    screen, surrogate = _four_contexts(), CONTEXT_SURROGATES.load(name)()
    fitted = surrogate.fit(screen, seed=0)
    save_fitted(fitted, tmp_path / "model", origin=Origin.of(screen, surrogate, seed=0))
    again = load_across_contexts(tmp_path / "model")
    assert again.contexts == fitted.contexts
    probe = probe_batch(SCREEN)
    for context in fitted.contexts:
        one, other = (each.in_context(context).predict(probe) for each in (fitted, again))
        assert torch.equal(one.mean, other.mean)
        assert torch.equal(one.variance, other.variance)


def test_nothing_is_written_of_what_cannot_be_stored(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"FittedElsewhere\.extra is a list, which an artefact cannot hold"):
        save_fitted(_elsewhere([1]), tmp_path / "model", origin=_origin())
    assert not list(tmp_path.iterdir())


# --- the file -------------------------------------------------------------------------------------------------


def test_the_origin_is_kept(tmp_path: Path) -> None:
    surrogate = ScaledAdditive(shrinkage=2.0)
    origin = Origin.of(replace(SCREEN, provenance={"source": "a.csv"}), surrogate, seed=3)
    save_fitted(surrogate.fit(SCREEN, seed=3), tmp_path / "model", origin=origin)
    again = read_origin(tmp_path / "model")
    assert again == origin
    assert (again.data, again.seed) == (fingerprint(SCREEN), 3)
    assert again.provenance == {"source": "a.csv"}
    assert again.configuration == "ScaledAdditive(shrinkage=2.0)"


def test_models_of_several_contexts_have_a_door_of_their_own(tmp_path: Path, written: Path) -> None:
    save_fitted(FittedLines({"K562": _elsewhere(None)}), tmp_path / "lines", origin=_origin())
    assert load_across_contexts(tmp_path / "lines").contexts == ("K562",)
    cells = FittedTwoFactorCells(("a", "b"), Shifts(("A",), torch.tensor([[1.0, 2.0]]).double()))
    save_fitted(cells, tmp_path / "cells", origin=Origin("hash", {}, "TwoFactorCells()", 0))
    again = load_cells(tmp_path / "cells")
    controls = normal(3, 2, seed=0)
    assert torch.equal(
        again.predict(controls, Perturbation.parse("A")), controls + torch.tensor([1.0, 2.0]).double()
    )
    doors: dict[Path, Callable[[Path], object]] = {
        written: load_fitted,
        tmp_path / "lines": load_across_contexts,
        tmp_path / "cells": load_cells,
    }
    for path, kind in zip(doors, ("one context", "several contexts", "cells"), strict=True):
        for door in doors.values():
            if door is not doors[path]:
                with pytest.raises(
                    DataError, match=f"holds a model of {kind}; open it with the function for that"
                ):
                    door(path)


def test_a_loaded_model_does_not_change_with_the_file(written: Path) -> None:
    fitted = load_fitted(written)
    before = fitted.predict(probe_batch(SCREEN)).mean
    written.write_bytes(b"\0" * written.stat().st_size)
    assert torch.equal(fitted.predict(probe_batch(SCREEN)).mean, before)


def test_a_failed_write_keeps_the_old_file(written: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    old = written.read_bytes()

    def refuse(self: Path, target: Path) -> None:
        raise OSError(f"no room to move {self.name} to {target.name}")

    monkeypatch.setattr(Path, "replace", refuse)
    with pytest.raises(OSError, match="no room"):
        save_fitted(Additive().fit(SCREEN, seed=0), written, origin=_origin())
    assert written.read_bytes() == old
    assert [each.name for each in written.parent.iterdir()] == [written.name]


def test_a_document_too_large_for_a_header_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("surrogates.artefact._LARGEST_DOCUMENT", 100)
    with pytest.raises(DataError, match="more than 100"):
        save_fitted(Additive().fit(SCREEN, seed=0), tmp_path / "model", origin=_origin())


def _refused(path: Path, match: str) -> None:
    with pytest.raises(DataError, match=match):
        load_fitted(path)


def test_files_that_are_no_artefacts_are_refused(tmp_path: Path) -> None:
    _refused(tmp_path / "nothing", "there is no file")
    _refused(tmp_path, "there is no file")
    path = tmp_path / "model"
    for content in (
        b"",
        b"GIF89a",
        b"\xff" * 8,
        b"\x02" + b"\0" * 7 + b"{}x",
        (2**62).to_bytes(8, "little") + b"{}",
    ):
        path.write_bytes(content)
        _refused(path, "is not an intact safetensors file")
    path.write_bytes(to_bytes({"a": torch.ones(2)}))
    _refused(path, "is a safetensors file, but not an inverse-design artefact")


@given(keep=st.floats(0, 1, exclude_max=True))
def test_truncated_files_are_refused(keep: float, tmp_path_factory: pytest.TempPathFactory) -> None:
    path = tmp_path_factory.mktemp("truncated") / "model"
    save_fitted(Additive().fit(SCREEN, seed=0), path, origin=_origin())
    content = path.read_bytes()
    path.write_bytes(content[: int(keep * len(content))])
    _refused(path, "is not an intact safetensors file")


@pytest.mark.parametrize(
    ("stated", "match"),
    [
        ("2", "has format 2, this package reads 1; upgrade the package"),
        ("0", "has format 0, which is no longer read; fit the model again"),
        ("", "states the format '', which is not a number"),
        ("²", "states the format '²'"),
        ("9" * 5000, "which is not a number"),
    ],
)
def test_other_formats_are_refused(stated: str, match: str, written: Path) -> None:
    _rewrite(written, lambda _document, _tensors: None, format=stated)
    _refused(written, match)
    with pytest.raises(DataError, match=match):
        read_origin(written)


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "{}", '{"origin": 1}', '{"model": NaN, "origin": 1}', "[" * 10**5]
)
def test_documents_that_are_none_are_refused(text: str, written: Path) -> None:
    tensors, head = _taken_apart(written)
    written.write_bytes(to_bytes(tensors, {**head, "document": text}))
    _refused(written, "the document in 'model.safetensors' is not")


def _set(field: str, node: object) -> Callable[[dict[str, Any], dict[str, Tensor]], object]:
    return lambda document, _: document["model"]["fields"].__setitem__(field, node)


def _set_type(name: object) -> Callable[[dict[str, Any], dict[str, Tensor]], object]:
    return lambda document, _: document["model"].__setitem__("type", name)


DEEP: dict[str, Any] = {"tuple": []}
for _ in range(400):
    DEEP = {"tuple": [DEEP]}


@pytest.mark.parametrize(
    ("change", "match"),
    [
        (_set_type("os:system"), "unknown artefact type 'os:system'"),
        (_set_type("../FittedMean"), "unknown artefact type"),
        (_set_type("Popen"), "unknown artefact type"),
        (_set_type(["FittedMean"]), "is malformed"),
        (_set_type("FittedMean"), "FittedMean has the fields .*, not .*; the file was written by another version"),
        (_set_type("FittedElsewhere"), "FittedElsewhere has the fields"),
        (lambda document, _: document.__setitem__("model", 3), "holds a int; open it with"),
        (lambda document, _: document["model"]["fields"].pop("laws"), "written by another version"),
        (_set("extra", 1), "written by another version"),
        (_set("singles", {"tensor": "99"}), r"singles: tensor '99' is missing"),
        (_set("singles", {"tensor": 0}), "singles is malformed"),
        (_set("singles", {"tensor": "0", "more": 1}), "singles is malformed"),
        (_set("singles", "text"), "singles is a str, which does not fit"),
        (_set("singles", None), "singles is a NoneType"),
        (_set("readouts", "r0"), "readouts is a str"),
        (_set("readouts", ["r0"]), "readouts is malformed"),
        (_set("readouts", {"tuple": [1]}), "readouts is a tuple, which does not fit"),
        (_set("readouts", {"tuple": ["r0"]}), "do not fit|does not predict"),
        (_set("laws", {"tuple": [{"float": "nan"}]}), "laws is a tuple"),
        (_set("laws", {"float": "1"}), "laws is malformed"),
        (_set("laws", {"mapping": [[1]]}), "laws is malformed"),
        (_set("laws", {"mapping": [[True, 1]]}), "laws is malformed"),
        (_set("vocabulary", {"type": "Vocabulary", "fields": {"entries": {"tuple": []}}}), "does not predict|fit"),
        (_set("laws", DEEP), "nested too deeply|laws is a tuple"),
    ],
)
def test_hostile_documents_are_refused(
    change: Callable[[dict[str, Any], dict[str, Tensor]], object], match: str, written: Path
) -> None:
    _rewrite(written, change)
    _refused(written, match)


@pytest.mark.parametrize(
    "spoil",
    [
        lambda each: each[..., :-1],
        lambda each: each[:-1],
        lambda each: each[None],
        lambda each: each.to(torch.int8),
        lambda each: each.to(torch.bool) if each.dtype is not torch.bool else each.double(),
    ],
)
@pytest.mark.parametrize("number", range(4))
def test_tensors_of_wrong_shape_or_type_are_refused(
    spoil: Callable[[Tensor], Tensor], number: int, written: Path
) -> None:
    def change(_document: dict[str, Any], tensors: dict[str, Tensor]) -> None:
        name = sorted(tensors)[number]
        tensors[name] = spoil(tensors[name]).contiguous()

    assert len(_taken_apart(written)[0]) == 4
    _rewrite(written, change)
    _refused(written, "does not fit|do not fit|does not predict")


def test_what_a_constructor_refuses_is_refused(written: Path) -> None:
    def change(document: dict[str, Any], _tensors: dict[str, Tensor]) -> None:
        entries = document["model"]["fields"]["vocabulary"]["fields"]["entries"]["tuple"]
        entries[0]["fields"]["dose"] = -1.0

    _rewrite(written, change)
    _refused(written, "dose -1.0 of 'G00' is not a positive, finite number")


# --- the fingerprint of a screen ------------------------------------------------------------------------------


def test_the_fingerprint_does_not_see_the_order_of_rows_nor_the_source() -> None:
    shuffled = SCREEN.rows(torch.randperm(len(SCREEN), generator=torch.Generator().manual_seed(0)))
    assert fingerprint(shuffled) == fingerprint(SCREEN)
    assert fingerprint(replace(SCREEN, provenance={"source": "elsewhere"})) == fingerprint(SCREEN)


def test_the_fingerprint_sees_all_content() -> None:
    effects = SCREEN.effects.clone()
    effects[0, 0] += 1e-15
    others: list[Screen] = [
        replace(SCREEN, effects=effects),
        replace(SCREEN, standard_errors=torch.zeros_like(effects)),
        replace(SCREEN, readouts=tuple(reversed(SCREEN.readouts))),
        replace(SCREEN, contexts=("K562",) * len(SCREEN)),
        replace(
            SCREEN,
            vocabulary=Vocabulary(tuple(replace(each, mode="knockdown") for each in SCREEN.vocabulary.entries)),
        ),
        SCREEN.rows(range(len(SCREEN) - 1)),
    ]
    assert len({fingerprint(each) for each in [SCREEN, *others]}) == len(others) + 1


def test_the_value_of_a_calibrated_model_keeps_its_laws(tmp_path: Path) -> None:
    fitted = Calibrated(ScaledAdditive(), folds=3).fit(SCREEN, seed=0)
    save_fitted(fitted, tmp_path / "model", origin=_origin())
    again: Fitted = load_fitted(tmp_path / "model")
    assert isinstance(again, FittedCalibrated)
    assert again.selection == fitted.selection
    assert again.held_out == fitted.held_out
    assert {code: law.degrees for code, law in again.laws.items()} == {
        code: law.degrees for code, law in fitted.laws.items()
    }


def test_an_expanded_table_is_stored_whole(tmp_path: Path) -> None:
    fitted = PerturbationMean().fit(SCREEN, seed=0)
    assert fitted.rows.stride()[0] == 0
    save_fitted(fitted, tmp_path / "model", origin=_origin())
    assert torch.equal(load_fitted(tmp_path / "model").rows, fitted.rows)  # type: ignore[attr-defined]


def test_files_are_what_safetensors_writes(tmp_path: Path) -> None:
    base = torch.arange(12, dtype=torch.float64)
    views = (base[2:5], base.reshape(3, 4).T, base[:1].expand(2, 3), base.new_zeros(0, 3), base[0] == 0)
    kinds = ("uint8", "int8", "int16", "int32", "int64", "float16", "bfloat16", "float32")
    values = (*views, *(base.to(getattr(torch, kind)) for kind in kinds))
    save_fitted(_elsewhere(values), tmp_path / "model", origin=_origin())
    tensors, head = _taken_apart(tmp_path / "model")
    assert _taken_apart_bytes(to_bytes(tensors, head)) == _taken_apart_bytes((tmp_path / "model").read_bytes())
    again = load_fitted(tmp_path / "model").extra  # type: ignore[attr-defined]
    assert [each.dtype for each in again] == [each.dtype for each in values]
    assert all(torch.equal(*pair) for pair in zip(again, values, strict=True))


def _taken_apart_bytes(content: bytes) -> dict[str, object]:
    """Read a file by its specification: the name of each tensor, its type, shape and bytes."""
    start = 8 + int.from_bytes(content[:8], "little")
    header = json.loads(content[8:start])
    found: dict[str, object] = {"metadata": header.pop("__metadata__")}
    for name, each in header.items():
        begin, end = (start + offset for offset in each["data_offsets"])
        found[name] = each["dtype"], each["shape"], content[begin:end]
    return found
