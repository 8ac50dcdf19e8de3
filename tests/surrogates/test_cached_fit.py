"""A fit that is read equals one that is made, and what is not that fit is never taken for it."""

import multiprocessing
import os
import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache, partial
from pathlib import Path

import pandas as pd
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from strategies.artefacts import tensors_of
from strategies.screens import label, pairs_of, planted_screen

from surrogates import cached_fit as module
from surrogates import threads
from surrogates.artefact import Origin, save_fitted
from surrogates.cached_fit import cached_fit, fit_key
from surrogates.data.screen import Screen
from surrogates.fit_cache import FitCache, say_once
from surrogates.models.baselines import Additive, NoChange, ScaledAdditive
from surrogates.models.wrappers.automatic import Automatic
from surrogates.models.wrappers.calibrated import FittedCalibrated

QUICK = Automatic((ScaledAdditive(),), unseen=None)


@cache
def screen(*, doubles: int = 12, alone: int = 6) -> Screen:
    """A screen of six genes, all its doubles or none measured."""
    return planted_screen(alone=range(alone), together=pairs_of(6, doubles), readouts=5)


@cache
def fitted() -> FittedCalibrated:
    return QUICK.fit(screen(), seed=0)


@pytest.fixture
def kept(tmp_path: Path) -> FitCache:
    """A cache that keeps even quick fits."""
    say_once.cache_clear()
    return FitCache(tmp_path / "fits", quickest=0.0)


@pytest.fixture
def never(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """Give what makes any further fit a failure."""

    def fail(*_: object, **__: object) -> None:
        pytest.fail("fitted again")

    return lambda: monkeypatch.setattr(Automatic, "fit", fail)


def assert_same_fit(one: FittedCalibrated, other: FittedCalibrated) -> None:
    first, second = tensors_of(one), tensors_of(other)
    assert len(first) == len(second)
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))
    assert (one.name, one.held_out, one.laws.keys()) == (other.name, other.held_out, other.laws.keys())


@pytest.mark.parametrize(
    ("surrogate", "made"),
    [
        pytest.param(Automatic(), partial(screen, doubles=0), id="borrowed"),
        pytest.param(Automatic((Additive(),), unseen=(NoChange(),)), partial(screen, alone=5), id="unseen parts"),
        pytest.param(Automatic((Additive(), ScaledAdditive()), unseen=None), screen, id="doubles"),
    ],
)
def test_what_is_read_is_what_was_fitted(
    surrogate: Automatic, made: Callable[[], Screen], kept: FitCache, never: Callable[[], None]
) -> None:
    data = made()
    anew = cached_fit(surrogate, data, seed=0, cache=None)
    first = cached_fit(surrogate, data, seed=0, cache=kept)
    never()
    assert_same_fit(cached_fit(surrogate, data, seed=0, cache=kept), anew)
    assert_same_fit(first, anew)
    # A sum of numbers that lie otherwise in memory may differ in its last bit.
    assert all(each.is_contiguous() for each in tensors_of(anew))


def _changed(data: Screen) -> dict[str, Screen]:
    """Change all that a fit can depend on, one by one."""
    effects = data.effects.clone()
    effects[3, 2] = torch.nextafter(effects[3, 2], torch.tensor(9.0, dtype=torch.float64))
    rows = torch.arange(len(data))
    return {
        "the last bit of a value": replace(data, effects=effects),
        "precision": replace(data, effects=data.effects.float()),
        "standard errors": replace(data, standard_errors=torch.ones_like(effects)),
        "order of rows": data.rows(rows.flip(0)),
        "rows": data.rows(rows[:-1]),
        "names of readouts": replace(data, readouts=("other", *data.readouts[1:])),
        "context": replace(data, contexts=("other",) * len(data)),
        "what was detected": replace(data, provenance={"unit": "log2"}),
        "annotations": replace(data, annotations=pd.DataFrame({"plate": range(len(data))})),
        "design": Screen.from_labels(data.effects, [*data.labels[:-1], label((0, 1, 2))], data.readouts),
    }


def test_columns_that_look_alike_have_keys_of_their_own() -> None:
    data, rest = screen(), ["x"] * (len(screen()) - 1)
    columns = {
        **{
            repr(each): pd.Series([each, *rest], dtype=object)
            for each in (1, "1", 1.0, True, "True", None, "None")
        },
        **{
            f"missing as {each!r}": pd.Series([each, *rest], dtype=object) for each in (float("nan"), "nan", pd.NA)
        },
        "text": pd.Series(["1", *rest], dtype="string"),
        "categories": pd.Series(pd.Categorical(["1", *rest], categories=["1", "x"])),
        "other order": pd.Series(pd.Categorical(["1", *rest], categories=["x", "1"])),
    }
    keys = [
        fit_key(QUICK, replace(data, annotations=pd.DataFrame({"c": each})), seed=0) for each in columns.values()
    ]
    keys += [fit_key(QUICK, replace(data, annotations=pd.DataFrame({1: columns["1"]})), seed=0)]
    keys += [fit_key(QUICK, replace(data, annotations=pd.DataFrame({"1": columns["1"]})), seed=0)]
    assert None not in keys
    assert len(set(keys)) == len(keys)


def test_all_that_a_fit_depends_on_has_a_key_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    data = screen()
    keys = {"as it is": fit_key(QUICK, data, seed=0)}
    keys |= {name: fit_key(QUICK, each, seed=0) for name, each in _changed(data).items()}
    keys["seed"] = fit_key(QUICK, data, seed=1)
    keys["model"] = fit_key(Automatic((Additive(),), unseen=None), data, seed=0)
    keys["setting"] = fit_key(replace(QUICK, unseen=()), data, seed=0)
    for name in ("installed_version", "get_cpu_capability"):
        module._software.cache_clear()
        with monkeypatch.context() as patch:
            patch.setattr(module, name, lambda *_: "another")
            keys[name] = fit_key(QUICK, data, seed=0)
    module._software.cache_clear()
    with monkeypatch.context() as patch:
        patch.setattr(torch, "get_num_threads", lambda: 77)
        assert fit_key(QUICK, data, seed=0) == keys["as it is"]  # a small screen has one thread everywhere
        patch.setattr(threads, "_LARGE", 0)
        keys["threads"] = fit_key(QUICK, data, seed=0)
    assert None not in keys.values()
    assert len(set(keys.values())) == len(keys)
    assert keys["as it is"] == fit_key(QUICK, replace(data, effects=data.effects.clone()), seed=0)


@dataclass(frozen=True)
class Elsewhere:
    """A model of another package, of which nobody knows what it does tomorrow."""

    strength: float = 1.0

    def fit(self, data: Screen, *, seed: int) -> object:
        return ScaledAdditive().fit(data, seed=seed)


def test_models_of_other_packages_are_always_fitted(kept: FitCache) -> None:
    surrogate = Automatic((Elsewhere(),), unseen=None)  # type: ignore[arg-type] - a model in all that matters here
    assert fit_key(surrogate, screen(), seed=0) is None
    assert cached_fit(surrogate, screen(), seed=0, cache=kept).held_out.conditions
    assert kept.size() == (0, 0)


def test_quick_fits_are_no_file(kept: FitCache) -> None:
    cached_fit(QUICK, screen(), seed=0, cache=replace(kept, quickest=60.0))
    assert not kept.place.exists()


@given(st.data())
def test_a_damaged_file_is_fitted_anew(data: st.DataObject) -> None:
    name = "a" * 64
    content = _content()
    damaged = bytearray(content)
    kind = data.draw(st.sampled_from(["bit", "cut", "longer", "empty"]))
    if kind == "bit":
        damaged[data.draw(st.integers(0, len(content) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    elif kind == "cut":
        damaged = damaged[: data.draw(st.integers(0, len(content) - 1))]
    else:
        damaged = bytearray() if kind == "empty" else damaged + b"x"
    place = FitCache(_folder())
    place.clear()
    place.keep(name, lambda part: part.write_bytes(content))
    found = place.find(name)
    assert found is not None
    found.write_bytes(damaged)
    assert place.find(name) is None


@cache
def _folder() -> Path:
    return Path(os.environ["INVERSE_DESIGN_CACHE"]) / "damaged"


@cache
def _content() -> bytes:
    path = Path(os.environ["INVERSE_DESIGN_CACHE"]).parent / "whole"
    save_fitted(fitted(), path, origin=Origin.of(screen(), ScaledAdditive(), seed=0))
    return path.read_bytes()


def test_what_is_damaged_is_said_once_and_replaced(
    kept: FitCache, caplog: pytest.LogCaptureFixture, never: Callable[[], None]
) -> None:
    cached_fit(QUICK, screen(), seed=0, cache=kept)
    (file,) = kept.place.iterdir()
    file.write_bytes(file.read_bytes()[:-1])
    key = fit_key(QUICK, screen(), seed=0)
    assert key is not None
    assert kept.find(key) is None
    assert_same_fit(cached_fit(QUICK, screen(), seed=0, cache=kept), fitted())
    assert re.search(r"warning: a fit in '.*'(\.{3})? is damaged and not used; fitting anew", caplog.text)
    assert caplog.text.count("is damaged and not used") == 1
    never()
    assert_same_fit(cached_fit(QUICK, screen(), seed=0, cache=kept), fitted())


@pytest.mark.parametrize("kind", ["no model", "another vocabulary", "no calibrated model"])
def test_a_file_that_somebody_laid_there(kept: FitCache, caplog: pytest.LogCaptureFixture, kind: str) -> None:
    key = fit_key(QUICK, screen(), seed=0)
    assert key is not None
    other = planted_screen(alone=range(7), together=pairs_of(7, 12), readouts=5)
    model = ScaledAdditive().fit(screen(), seed=0) if kind == "no calibrated model" else QUICK.fit(other, seed=0)
    origin = Origin.of(other, QUICK, seed=0)
    kept.keep(
        key,
        lambda part: (
            part.write_text("import os") if kind == "no model" else save_fitted(model, part, origin=origin)
        ),
    )
    assert kept.find(key) is not None
    assert_same_fit(cached_fit(QUICK, screen(), seed=0, cache=kept), fitted())
    assert "warning: a kept fit is not used: " in caplog.text


def test_a_fit_under_the_name_of_another_is_not_taken(kept: FitCache) -> None:
    kept.keep("a" * 64, lambda part: part.write_bytes(b"content"))
    found = kept.find("a" * 64)
    assert found is not None
    found.rename(found.with_name(found.name.replace("a" * 64, "b" * 64)))
    assert kept.find("b" * 64) is None


def test_links_and_pipes_are_not_opened(kept: FitCache, tmp_path: Path) -> None:
    kept.keep("b" * 64, lambda part: part.write_bytes(b"content"))
    found = kept.find("b" * 64)
    assert found is not None
    found.rename(tmp_path / "elsewhere")
    found.symlink_to(tmp_path / "elsewhere")
    assert kept.find("b" * 64) is None
    found.unlink()
    os.mkfifo(found)
    assert kept.find("b" * 64) is None
    assert kept.size() == (0, 0)


def test_the_files_of_other_users_are_not_read(kept: FitCache, monkeypatch: pytest.MonkeyPatch) -> None:
    kept.keep("c" * 64, lambda part: part.write_bytes(b"content"))
    user = os.getuid()
    monkeypatch.setattr(os, "getuid", lambda: user + 1)
    assert kept.find("c" * 64) is None


def test_a_place_that_is_no_folder(kept: FitCache, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "fits").write_text("mine")
    assert_same_fit(cached_fit(QUICK, screen(), seed=0, cache=kept), fitted())
    cached_fit(QUICK, screen(), seed=1, cache=kept)
    assert caplog.text.count("fits cannot be kept in ") == 1
    assert "(File exists); this one is not" in caplog.text
    assert (kept.clear(), (tmp_path / "fits").read_text()) == (0, "mine")


def test_a_full_disk_leaves_nothing_behind(kept: FitCache, caplog: pytest.LogCaptureFixture) -> None:
    def write(part: Path) -> None:
        part.write_bytes(b"begun")
        raise OSError(28, "No space left on device", str(part))

    kept.keep("d" * 64, write)
    assert list(kept.place.iterdir()) == []
    assert "(No space left on device); this one is not" in caplog.text


def test_what_was_not_used_for_longest_makes_room(kept: FitCache) -> None:
    small = replace(kept, limit=25)
    for number, letter in enumerate("ab"):
        small.keep(letter * 64, lambda part: part.write_bytes(bytes(10)))
        found = small.find(letter * 64)
        assert found is not None
        os.utime(found, (number, number))
    assert small.find("a" * 64) is not None  # and is used now
    small.keep("c" * 64, lambda part: part.write_bytes(bytes(10)))
    assert small.size() == (2, 20)
    assert small.find("b" * 64) is None
    small.keep("d" * 64, lambda part: part.write_bytes(bytes(26)))  # larger than all that may be kept
    assert small.size() == (2, 20)
    assert small.clear() == 2
    assert small.size() == (0, 0)


def test_what_a_killed_process_began_is_cleared_a_day_later(
    kept: FitCache, caplog: pytest.LogCaptureFixture
) -> None:
    (kept.place / "unfinished-other" / "of another program").mkdir(parents=True)
    os.utime(kept.place / "unfinished-other", (1.0, 1.0))
    for name, age in (("unfinished-old", 1.0), ("unfinished-new", 4e9)):
        (kept.place / name).mkdir(parents=True)
        (kept.place / name / "fit").write_bytes(b"begun")
        os.utime(kept.place / name, (age, age))
    kept.keep("e" * 64, lambda part: part.write_bytes(b"content"))
    assert not (kept.place / "unfinished-old").exists()
    assert (kept.place / "unfinished-new" / "fit").exists()
    assert not caplog.records


def _at_once(folder: Path, number: int) -> None:
    cache = FitCache(folder, limit=45)
    for turn in range(40):
        key = "abcdefgh"[(turn + number) % 8] * 64
        found = cache.find(key)
        assert found is None or found.name.startswith(key)
        cache.keep(key, lambda part: part.write_bytes(bytes(10)))


def test_several_processes_at_once(tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    workers = [context.Process(target=_at_once, args=(tmp_path, number)) for number in range(4)]
    for each in workers:
        each.start()
    for each in workers:
        each.join(60)
    assert [each.exitcode for each in workers] == [0] * 4
    assert FitCache(tmp_path).size()[1] <= 45
    assert not list(tmp_path.glob("unfinished-*"))
