"""Answers do not depend on whether their fit was made before, and the second question fits nothing."""

from dataclasses import replace
from itertools import count
from pathlib import Path
from types import SimpleNamespace

import pandas as pd
import pytest
from strategies.screens import label, pairs_of, planted_screen
from strategies.worlds import command

from inverse_design.campaign.campaign import Campaign
from inverse_design.fitting import fit
from inverse_design.planning.question import plan
from inverse_design.problem.constraints import Constraints
from inverse_design.proposal import propose
from inverse_design.ranking import rank
from surrogates import cached_fit
from surrogates.data.screen import Screen
from surrogates.fit_cache import VARIABLE, FitCache
from surrogates.models.wrappers.automatic import Automatic

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
    previews = [each.preview() for each in (without, with_cache, with_cache)]
    assert len(fits) == 2
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
    assert "fits      1\n" in said
    assert command("cache", "clear") == 0
    assert command("cache", "clear") == 0
    assert capsys.readouterr().out.splitlines() == [
        f"deleted {number} fits in {tmp_path / 'fits'}" for number in (1, 0)
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
