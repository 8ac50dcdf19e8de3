"""A campaign on real data, as a user types it: from a screen to the advice to go on or to stop."""

import re
import sqlite3
from collections.abc import Callable
from functools import partial
from pathlib import Path

import openpyxl
import pandas as pd
import pytest
from strategies.worlds import command

from inverse_design.campaign.store.protocol import open_store
from surrogates.data.catalogue import open_dataset

pytestmark = pytest.mark.real_data
GENES, KNOWN = 14, 40
GOAL = 'kind = "scalar"\nreadout = "fitness"\ngoal = "minimise"\n'
MODEL = ("--surrogate", "scaled_additive", "--batch-size", "6", "--target", "goal.toml")


@pytest.fixture
def truth(real_data: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, float]:
    """Write what is known at the start, the goal and a library; give the growth of all pairs of some genes."""
    real_data("norman2019_fitness")
    monkeypatch.chdir(tmp_path)
    screen = open_dataset("norman2019_fitness")
    genes = set(screen.vocabulary.targets[:GENES])
    every = {label: float(effect) for label, effect in zip(screen.labels, screen.effects[:, 0], strict=True)}
    found = {label: effect for label, effect in every.items() if set(label.split("+")) <= genes}
    table = pd.DataFrame({"perturbation": list(found), "fitness": list(found.values())})
    single = ~table["perturbation"].str.contains("+", regex=False)
    start = pd.concat([table[single], table[~single].sample(KNOWN, random_state=0)])
    start.to_csv("screen.csv", index=False)
    guides = [f"{gene}_1" for gene in sorted(genes)]
    pd.DataFrame({"gene": sorted(genes), "guide": guides}).to_csv("guides.csv", index=False)
    Path("goal.toml").write_text(GOAL, encoding="utf-8")
    return found


def campaign(*words: object) -> int:
    return command("campaign", *words)


def begun() -> None:
    assert campaign("create", "screen.csv", "--name", "first", *MODEL) == 0
    assert campaign("ask", "-o", "batch.csv") == 0


def results(truth: dict[str, float]) -> pd.DataFrame:
    """Measure the batch, one well each."""
    batch = pd.read_csv("batch.csv")[["campaign", "round", "perturbation"]]
    return batch.assign(fitness=batch["perturbation"].map(truth), status="")


def told(table: pd.DataFrame, *words: str) -> int:
    table.to_csv("results.csv", index=False)
    return campaign("tell", "results.csv", *words)


def test_the_whole_journey(truth: dict[str, float], capsys: pytest.CaptureFixture[str]) -> None:
    begun()
    first = Path("batch.csv").read_bytes()
    assert campaign("ask", "-o", "batch.csv") == 0
    assert Path("batch.csv").read_bytes() == first
    assert campaign("export", "--plate", 96, "--controls", 8, "--library", "guides.csv", "-o", "plate.xlsx") == 0
    book = openpyxl.load_workbook("plate.xlsx")
    assert book.sheetnames == ["plate map", "reagents", "batch", "results"]
    assert book["plate map"].max_row == 1 + 6 * 2 + 8
    assert campaign("order", "--library", "guides.csv") == 0
    partial = results(truth)
    partial["status"] = ["failed", "", "", "", "pending", "pending"]
    partial.loc[partial["status"] != "", "fitness"] = float("nan")
    capsys.readouterr()
    unknown = partial.replace(partial["perturbation"][1], "CEBPAA+" + partial["perturbation"][1].split("+")[0])
    assert told(unknown) == 3
    assert "line 3" in (said := capsys.readouterr().err)
    assert "'CEBPAA'" in said
    assert told(pd.concat([partial, partial.iloc[[1]]])) == 3
    assert "are the same well" in capsys.readouterr().err
    assert told(partial) == 0
    assert "3 experiments measured, 1 failed" in capsys.readouterr().out
    assert campaign("status") == 0
    assert "2 ordered, 3 measured, 1 failed" in capsys.readouterr().out
    waiting = partial.loc[partial["status"] == "pending", "perturbation"]
    assert campaign("withdraw", *waiting, "--reason", "plate was dropped") == 0
    assert campaign("ask", "-o", "batch.csv") == 0
    assert set(pd.read_csv("batch.csv")["round"]) == {2}
    assert told(results(truth)) == 0
    capsys.readouterr()
    assert campaign("status") == 0
    said = capsys.readouterr().out
    assert "share of measurements within the bounds stated before" in said
    assert "another round of" in said
    assert "advice: " in said
    assert campaign("history") == 0
    assert "plate was dropped" in capsys.readouterr().out


def test_results_that_are_refused_change_nothing(
    truth: dict[str, float], capsys: pytest.CaptureFixture[str]
) -> None:
    begun()
    good = results(truth)
    never = next(label for label in truth if "+" in label and label not in set(good["perturbation"]))
    cases = {
        "never asked for.*--allow-extra": good.assign(perturbation=[never, *good["perturbation"][1:]], round=""),
        "not a finite number": good.assign(fitness=float("nan")),
        "those of campaign 'other-1'": good.assign(campaign="other-1"),
        "need 1 more column.*'fitness'": good.rename(columns={"fitness": "fitnes"}),
    }
    for message, table in cases.items():
        capsys.readouterr()
        assert told(table) == 3
        assert re.search(message, capsys.readouterr().err)
    assert campaign("history") == 0
    assert "told" not in capsys.readouterr().out
    assert told(cases["never asked for.*--allow-extra"], "--allow-extra") == 0
    assert f"not asked for: {never}" in capsys.readouterr().out


def test_the_same_file_twice_and_values_out_of_scale(
    truth: dict[str, float], capsys: pytest.CaptureFixture[str]
) -> None:
    begun()
    table = results(truth)
    table.loc[0, "fitness"] = 300.0
    assert told(table) == 0
    assert "warning: out of scale" in capsys.readouterr().out
    assert told(table) == 0
    assert "already told: 6 wells were known, nothing has changed" in capsys.readouterr().out


def test_settings_stores_and_budgets_that_cannot_work(
    truth: dict[str, float], capsys: pytest.CaptureFixture[str]
) -> None:
    Path("bad.toml").write_text('name = "a"\ntarget = "goal.toml"\nbatchsize = 3\n', encoding="utf-8")
    assert campaign("create", "screen.csv", "--settings", "bad.toml") == 3
    assert "did you mean 'batch_size'" in capsys.readouterr().err
    assert not Path("campaigns.db").exists()
    poor = ("--budget", "5", "--cost-per-round", "100")
    assert campaign("create", "screen.csv", "--name", "poor", *MODEL, *poor) == 0
    capsys.readouterr()
    assert campaign("ask") == 4
    assert "5 of the budget are left" in capsys.readouterr().err
    assert truth


def test_a_library_that_lacks_a_reagent_is_told_of_before_anything_is_ordered(
    truth: dict[str, float], capsys: pytest.CaptureFixture[str]
) -> None:
    begun()
    wanted = str(pd.read_csv("batch.csv")["perturbation"][0]).split("+")[0]
    guides = pd.read_csv("guides.csv")
    guides[guides["gene"] != wanted].to_csv("few.csv", index=False)
    for words in (("order",), ("export", "-o", "plate.csv")):
        capsys.readouterr()
        assert campaign(*words, "--library", "few.csv") == 3
        assert f"no reagent for 1 of the genes or compounds of the batch: {wanted!r}" in capsys.readouterr().err
    assert not Path("plate.csv").exists()
    assert campaign("create", "screen.csv", "--name", "second", "--library", "few.csv", *MODEL) == 0
    assert re.search(f"no reagent +{wanted}: never proposed", capsys.readouterr().out)
    assert campaign("status", "--quick") == 3
    assert "holds 2 campaigns; name one with --name: 'first', 'second'" in capsys.readouterr().err
    assert truth


def test_a_locked_store_is_named_and_nothing_is_lost(
    truth: dict[str, float], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    begun()
    impatient = partial(open_store, timeout=0.2)
    monkeypatch.setattr("inverse_design.cli.campaign.place.open_store", impatient)
    lock = sqlite3.connect("campaigns.db", isolation_level=None)
    lock.execute("BEGIN EXCLUSIVE")
    capsys.readouterr()
    assert told(results(truth)) == 3
    assert "lock" in capsys.readouterr().err
    lock.rollback()
    lock.close()
    assert told(results(truth)) == 0
