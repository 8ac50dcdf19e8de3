"""Answers do not depend on whether their fit was made before, and the second question fits nothing."""

import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import count
from pathlib import Path
from types import SimpleNamespace

import pandas as pd
import pytest
import torch
from strategies.artefacts import tensors_of
from strategies.screens import label, pairs_of, planted_screen
from strategies.worlds import command

from inverse_design import candidates
from inverse_design.campaign.campaign import Campaign
from inverse_design.fitting import fit
from inverse_design.planning.question import plan
from inverse_design.problem import mismatch
from inverse_design.problem.constraints import Constraints
from inverse_design.problem.mismatch import Mismatch
from inverse_design.proposal import Proposal, propose
from inverse_design.ranking import rank
from inverse_design.search import identification
from inverse_design.search.first_rows import FirstRows
from inverse_design.search.identification import Identification
from surrogates import cached_fit
from surrogates.artefact import load_value, save_value
from surrogates.cached_fit import BesideFit
from surrogates.data.screen import Screen
from surrogates.data.vocabulary import PerturbationBatch, Vocabulary
from surrogates.fit_cache import VARIABLE, FitCache, say_once
from surrogates.models.wrappers.automatic import Automatic
from surrogates.models.wrappers.stated_errors import StatedScales

TOGETHER = pairs_of(5, 6)
NEW = [label(each) for each in pairs_of(5, 10) if each not in TOGETHER]
STATE = {"r0": 1.0, "r1": -0.5}


def screen() -> Screen:
    return planted_screen(alone=range(5), together=TOGETHER, readouts=3, bend=0.3)


@pytest.fixture
def kept(tmp_path: Path) -> FitCache:
    return FitCache(tmp_path / "fits", quickest=0.0)


@pytest.fixture
def fits(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Count fits."""
    made: list[int] = []
    fit_of = Automatic.fit

    def counted(self: Automatic, data: Screen, *, seed: int) -> object:
        made.append(seed)
        return fit_of(self, data, seed=seed)

    monkeypatch.setattr(Automatic, "fit", counted)
    return made


def test_a_screen_is_hashed_once_for_plan_fit_and_answer(kept: FitCache, monkeypatch: pytest.MonkeyPatch) -> None:
    hashed, key_of = [], cached_fit.fit_key

    def counted(surrogate: object, data: Screen, *, seed: int) -> str | None:
        hashed.append(data)
        return key_of(surrogate, data, seed=seed)

    monkeypatch.setattr(cached_fit, "fit_key", counted)
    propose(screen(), STATE, surrogate="additive", cache=kept)
    assert len(hashed) == 1
    rank(screen(), STATE, NEW, surrogate="additive", cache=kept)
    assert len(hashed) == 2


def test_another_question_on_the_same_data_fits_nothing(kept: FitCache, fits: list[int]) -> None:
    ask = {"surrogate": "additive", "top": 5}
    plain = propose(screen(), STATE, **ask, cache=None)  # type: ignore[arg-type] - named options
    first, second = (propose(screen(), STATE, **ask, cache=kept) for _ in range(2))  # type: ignore[arg-type]
    assert len(fits) == 2
    for each in (first, second):
        assert each.table.to_csv() == plain.table.to_csv()
        assert each.spread.to_csv() == plain.spread.to_csv()
        assert each.notes == plain.notes
    propose(screen(), {"r1": 2.0}, **ask, constraints=Constraints(excluded=("G00",)), cache=kept)  # type: ignore[arg-type]
    foreseen = [plan(screen(), STATE, surrogate="additive", cache=each).stages[0] for each in (None, kept)]
    assert [each.name for each in foreseen] == ["fit", "fit"]
    assert foreseen[0].seconds > foreseen[1].seconds == 0
    ranked, again = (rank(screen(), STATE, NEW, surrogate="additive", cache=each) for each in (kept, None))
    assert len(fits) == 3
    assert ranked.table.to_csv() == again.table.to_csv()
    # A condition of the screen that is the target leaves the training data.
    propose(screen(), label(TOGETHER[0]), **ask, cache=kept)  # type: ignore[arg-type]
    assert len(fits) == 4


@pytest.fixture
def worked_out(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Note what is worked out of fits."""
    done: list[str] = []

    def noted(place: object, name: str, kind: str) -> None:
        make = getattr(place, name)
        monkeypatch.setattr(place, name, lambda *args, **named: (done.append(kind), make(*args, **named))[1])

    noted(identification, "_identify", "held out")
    noted(mismatch, "_choose", "mismatch")
    noted(candidates, "first_rows", "first rows")
    noted(StatedScales, "of", "scales")
    return done


def asked(cache: FitCache | None, target: object = STATE, **stated: object) -> Proposal:
    named = {"surrogate": "additive", "top": 5, "level": 0.5, "order": "both", **stated}
    return propose(screen(), target, cache=cache, **named)  # type: ignore[arg-type] - named options


def assert_same_answer(one: Proposal, other: Proposal) -> None:
    assert one.table.to_csv() == other.table.to_csv()
    assert one.spread.to_csv() == other.spread.to_csv()
    assert (one.notes, one.verdict, one.inverse_set) == (other.notes, other.verdict, other.inverse_set)


SPACE = ["first rows", "held out"]
ALL = [*SPACE, "mismatch", "scales"]


def test_another_target_on_the_same_readouts_works_nothing_out_again(
    kept: FitCache, worked_out: list[str]
) -> None:
    for target in (STATE, STATE, {"r0": -0.3, "r1": 2.0}):
        found = asked(kept, target)
        assert found.inverse_set is not None
        assert sorted(worked_out) == ALL
        held_out = worked_out.copy()
        assert_same_answer(found, asked(None, target))
        worked_out[:] = held_out
    foreseen = [plan(screen(), STATE, order="both", surrogate="additive", cache=each) for each in (None, kept)]
    before, after = (next(each.seconds for each in one.stages if each.name == "calibration") for one in foreseen)
    assert before > after == 0


@dataclass(frozen=True)
class Odd:
    """A constraint of another package, of which nobody knows what it allows tomorrow."""

    def allows(self, listed: PerturbationBatch, vocabulary: Vocabulary) -> torch.Tensor:
        return listed.genes[:, 0] % 2 < len(vocabulary)


@pytest.mark.parametrize(
    ("stated", "again"),
    [
        pytest.param({"target": {"r1": 1.0}}, [*SPACE, "mismatch"], id="readouts"),
        pytest.param({"seed": 1}, ALL, id="seed"),
        pytest.param({"prior": {"G00": 3.0}}, SPACE, id="prior"),
        pytest.param({"constraints": Constraints(excluded=("G00",))}, SPACE, id="constraints"),
        pytest.param({"order": "2"}, SPACE, id="space"),
        pytest.param({"objective": "distance"}, ["first rows"], id="objective"),
        pytest.param({"surrogate": "scaled_additive"}, ALL, id="model"),
        pytest.param({"constraints": [Odd()]}, SPACE, id="constraint of another package"),
    ],
)
def test_what_is_asked_otherwise_is_worked_out(
    kept: FitCache, worked_out: list[str], stated: dict[str, object], again: list[str]
) -> None:
    asked(kept)
    worked_out.clear()
    found = asked(kept, **stated)
    assert sorted(worked_out) == again
    worked_out.clear()
    assert_same_answer(found, asked(None, **stated))
    if stated.get("constraints") == [Odd()]:  # nobody knows whether it still allows the same
        worked_out.clear()
        asked(kept, **stated)
        assert sorted(worked_out) == again


def beside(kept: FitCache) -> dict[type[object], Path]:
    """Find the files beside a fit by what they hold."""
    return {type(load_value(each)): each for each in kept.place.iterdir()}


@pytest.mark.parametrize("change", ["fewer totals", "a fold too many", "fewer cross-fits", "another type"])
def test_what_somebody_laid_beside_a_fit_is_not_taken(
    kept: FitCache, worked_out: list[str], caplog: pytest.LogCaptureFixture, change: str
) -> None:
    say_once.cache_clear()
    plain = asked(kept)
    files = beside(kept)
    found, scales = (load_value(files[each]) for each in (Identification, StatedScales))
    assert isinstance(found, Identification)
    assert isinstance(scales, StatedScales)
    laid: dict[str, tuple[type[object], object]] = {
        "fewer totals": (Identification, replace(found, totals=found.totals[1:])),
        "a fold too many": (Identification, replace(found, fold=found.fold + 9)),
        "fewer cross-fits": (StatedScales, replace(scales, folds=scales.folds[1:])),
        "another type": (FirstRows, found),
    }
    place, value = laid[change]
    kept.keep(files[place].name[:64], lambda path: save_value(value, path, origin=""))
    worked_out.clear()
    assert_same_answer(asked(kept), plain)
    assert len(worked_out) == 1
    assert "warning: what was kept beside a fit is not used: " in caplog.text


def test_what_is_kept_lies_in_memory_as_what_is_read(kept: FitCache, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[object] = []
    of = BesideFit.of

    def noted(
        self: BesideFit, kind: type[object], make: Callable[[], object], *rest: object, **named: object
    ) -> object:
        made.append(of(self, kind, make, *rest, **named))  # type: ignore[arg-type] - as they are
        return made[-1]

    monkeypatch.setattr(BesideFit, "of", noted)
    asked(kept)
    assert {type(each) for each in made} == {Identification, FirstRows, Mismatch, StatedScales}
    assert all(each.is_contiguous() for each in tensors_of(made))


def test_a_fit_is_read_and_predicts_the_same(kept: FitCache, fits: list[int]) -> None:
    frames = [
        fit(screen(), surrogate="additive", cache=each).predict(NEW).to_frame() for each in (None, kept, kept)
    ]
    assert len(fits) == 2
    assert len({each.to_csv() for each in frames}) == 1


def test_a_campaign_fits_once_for_its_status_and_the_round(kept: FitCache, fits: list[int]) -> None:
    campaign = Campaign.create(
        screen(), target=STATE, name="one", batch_size=3, surrogate="additive", recommender="gains"
    )
    with_cache, without = (replace(campaign, cache=each) for each in (kept, None))
    before = with_cache.plan().seconds
    previews = [each.preview() for each in (without, with_cache, with_cache)]
    assert len(fits) == 2
    assert with_cache.plan().seconds < before == without.plan().seconds
    batch = with_cache.ask()
    assert len(fits) == 2
    assert len({each.table.to_csv(index=False) for each in previews}) == 1
    assert {each.model for each in previews} == {previews[0].model}
    assert list(batch.table["perturbation"]) == list(previews[0].table["perturbation"])


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Write the data and the question, give the words that ask it, and let every fit seem to take a minute."""
    monkeypatch.setenv(VARIABLE, str(tmp_path / "fits"))
    monkeypatch.setattr(cached_fit, "time", SimpleNamespace(monotonic=count(step=60).__next__))
    data = screen().to_frame().rename_axis("condition").reset_index()
    data.to_csv(tmp_path / "screen.csv", index=False)
    (tmp_path / "goal.toml").write_text('kind = "scalar"\nreadout = "r1"\ngoal = "maximise"\n')
    pd.DataFrame({"pair": NEW}).to_csv(tmp_path / "list.csv", index=False)
    words = [tmp_path / "screen.csv", "--target", tmp_path / "goal.toml", "--model", "additive"]
    return [str(each) for each in words]


def test_the_command_line_keeps_fits_unless_it_is_asked_not_to(
    files: list[str], fits: list[int], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    listed = ["--experiments", str(tmp_path / "list.csv")]
    assert command("propose", *files, "--no-cache", "-o", tmp_path / "a.csv") == 0
    assert command("rank", *files, *listed, "--no-cache") == 0
    assert len(fits) == 2
    assert not (tmp_path / "fits").exists()
    assert command("propose", *files, "-o", tmp_path / "b.csv") == 0
    assert command("propose", *files, "-o", tmp_path / "c.csv") == 0
    assert command("rank", *files, *listed) == 0
    assert len(fits) == 3
    assert len({(tmp_path / f"{name}.csv").read_bytes() for name in "abc"}) == 1
    capsys.readouterr()
    assert command("cache", "info") == 0
    said = capsys.readouterr().out
    assert f"folder    {tmp_path / 'fits'} (INVERSE_DESIGN_CACHE names another one)" in said
    assert command("cache", "info", "--json") == 0
    assert json.loads(capsys.readouterr().out)["files"] == 2
    assert "files     2, of fits and of what was worked out of them\n" in said
    assert command("cache", "clear") == 0
    assert command("cache", "clear") == 0
    assert capsys.readouterr().out.splitlines() == [
        f"deleted {number} files of fits in {tmp_path / 'fits'}" for number in (2, 0)
    ]


def test_status_and_ask_share_a_fit(
    files: list[str], fits: list[int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    data, _, goal, _, model = files
    stated = ["--name", "one", "--surrogate", model, "--recommender", "gains", "--batch-size", "3"]
    assert command("campaign", "create", data, "--target", goal, *stated) == 0
    assert command("campaign", "status", "--no-cache") == 0
    assert not (tmp_path / "fits").exists()
    assert command("campaign", "status") == 0
    assert command("campaign", "ask") == 0
    assert len(fits) == 2
    assert command("campaign", "ask", "--more", "--no-cache") == 0
    assert len(fits) == 3
