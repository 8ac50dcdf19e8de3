"""The verb campaign on a tiny simulated screen: files in and out, and stores that fail."""

import json
import os
import shutil
import sqlite3
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any

import anndata
import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from strategies.worlds import command, save_state, save_table, tiny_table

from inverse_design.campaign.campaign import Campaign
from inverse_design.campaign.export import move_wells, plate_of
from inverse_design.campaign.store import database
from inverse_design.campaign.store.protocol import open_store
from inverse_design.cli.outputs import METADATA_KEY

BEGUN = ("--name", "first", "--target", "state.csv", "--surrogate", "additive", "--batch-size", "4")


@pytest.fixture(scope="module")
def begun(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a campaign that has asked its first round."""
    folder = tmp_path_factory.mktemp("begun")
    save_table(folder, tiny_table().iloc[:-1])
    save_state(folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        assert command("campaign", "create", "screen.csv", *BEGUN) == 0
        assert command("campaign", "ask", "-o", "batch.csv") == 0
    return folder


@pytest.fixture
def here(begun: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Path:
    """A copy of it, in which the test stands."""
    folder = tmp_path / "here"
    shutil.copytree(begun, folder)
    monkeypatch.chdir(folder)
    monkeypatch.setenv(
        "XDG_STATE_HOME", str(tmp_path)
    )  # what other copies of this campaign have seen is not known
    capsys.readouterr()
    return folder


def results(*, shift: float = 0.0) -> pd.DataFrame:
    """Effects of the asked pairs that depend on their names only."""
    labels = pd.read_csv("batch.csv")["perturbation"]
    readouts = tiny_table().columns[1:]
    rows = [np.random.default_rng(sum(map(ord, label))).normal(scale=0.3, size=len(readouts)) for label in labels]
    return pd.concat([labels, pd.DataFrame(np.array(rows) + shift, columns=readouts)], axis=1)


def with_every_connection(monkeypatch: pytest.MonkeyPatch, pragma: str) -> None:
    """Have each later connection to SQLite begin with a pragma."""
    prepare = database._prepare_sqlite

    def prepared(connection: Any, record: object) -> None:
        prepare(connection, record)
        connection.execute(f"PRAGMA {pragma}")

    monkeypatch.setattr(database, "_prepare_sqlite", prepared)


@pytest.mark.usefixtures("here")
def test_an_h5ad_of_effects_is_told_as_a_table_is(capsys: pytest.CaptureFixture[str]) -> None:
    table = results()
    effects = table.drop(columns="perturbation")
    shuffled = effects[effects.columns[::-1]].assign(other=1.0)
    obs = pd.DataFrame({"condition": list(table["perturbation"])}, index=[f"w{row}" for row in range(len(table))])
    var = pd.DataFrame(index=shuffled.columns)
    anndata.AnnData(shuffled.to_numpy(), obs=obs, var=var).write_h5ad("told.h5ad")
    assert command("campaign", "tell", "told.h5ad", "--target-col", "condition") == 0
    assert "4 experiments measured, 0 failed" in capsys.readouterr().out
    table.to_csv("told.csv", index=False)
    assert command("campaign", "tell", "told.csv") == 0  # the same numbers, well by well
    assert "already told: 4 wells were known" in capsys.readouterr().out
    assert command("campaign", "tell", "told.csv", "--target-col", "condition") == 3
    assert "reading options for .h5ad files only" in capsys.readouterr().err


@pytest.mark.usefixtures("here")
@pytest.mark.parametrize("kind", ["effects", "effects with a control", "cells"])
def test_an_h5ad_of_one_experiment_is_told(kind: str, capsys: pytest.CaptureFixture[str]) -> None:
    label = pd.read_csv("batch.csv")["perturbation"][0]
    readouts = tiny_table().columns[1:]
    copies = 6 if kind == "cells" else 1
    labels = [label] * copies + ["control"] * (0 if kind == "effects" else copies)
    values = np.random.default_rng(0).normal(size=(len(labels), len(readouts)))
    obs = pd.DataFrame({"condition": labels}, index=[f"w{row}" for row in range(len(labels))])
    anndata.AnnData(values, obs=obs, var=pd.DataFrame(index=readouts)).write_h5ad("told.h5ad")
    assert command("campaign", "tell", "told.h5ad") == 0
    assert "1 experiment measured, 0 failed" in capsys.readouterr().out


@pytest.mark.usefixtures("here")
def test_an_h5ad_that_lacks_a_readout_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    table = results()
    effects = table.drop(columns="perturbation").iloc[:, 1:]
    obs = pd.DataFrame({"condition": list(table["perturbation"])}, index=[f"w{row}" for row in range(len(table))])
    anndata.AnnData(effects.to_numpy(), obs=obs, var=pd.DataFrame(index=effects.columns)).write_h5ad("told.h5ad")
    assert command("campaign", "tell", "told.h5ad") == 3
    assert "need 1 more column(s), such as 'G000'" in capsys.readouterr().err


@pytest.mark.usefixtures("here")
def test_status_begins_with_the_verdict_and_is_json_for_programs(capsys: pytest.CaptureFixture[str]) -> None:
    results().to_csv("results.csv", index=False)
    assert command("campaign", "tell", "results.csv") == 0
    capsys.readouterr()
    assert command("campaign", "status", "--quick") == 0
    lines = capsys.readouterr().out.splitlines()
    assert command("campaign", "status", "--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert lines[0] == found["verdict"]
    assert found["verdict"].startswith(f"Best so far: {found['status']['best']}, ")
    assert f"1 round, {len(results())} experiments measured, 0 to come." in found["verdict"]
    assert {row["state"] for row in found["rounds"][0]["table"]} == {"measured"}
    assert {row["metric"] for row in found["coverage"]} >= {"coverage", "width"}
    assert isinstance(found["advice"]["stop"], bool)


@pytest.mark.usefixtures("here")
def test_a_further_round_stands_beside_the_open_one(capsys: pytest.CaptureFixture[str]) -> None:
    assert command("campaign", "ask", "--more", "-n", 2, "-o", "more.csv") == 0
    assert "round     2, proposed now" in capsys.readouterr().out
    first, more = pd.read_csv("batch.csv"), pd.read_csv("more.csv")
    assert (set(more["round"]), len(more)) == ({2}, 2)
    assert not set(first["perturbation"]) & set(more["perturbation"])
    assert command("campaign", "ask", "-o", "again.csv") == 0
    assert "round     2, open: 2 of 2 results to come" in capsys.readouterr().out
    assert command("campaign", "status", "--quick") == 0
    assert "2: 6 proposed" in capsys.readouterr().out


@pytest.mark.usefixtures("here")
def test_a_parquet_table_holds_numbers_and_its_manifest() -> None:
    assert command("campaign", "ask", "-o", "batch.parquet") == 0
    read, written = pd.read_parquet("batch.parquet"), pd.read_csv("batch.csv")
    pd.testing.assert_frame_equal(read, written, check_dtype=False, rtol=1e-9)
    metadata = pq.read_schema("batch.parquet").metadata
    facts = json.loads(Path("batch.parquet.json").read_text(encoding="utf-8"))
    assert json.loads(metadata[METADATA_KEY]) == facts["manifest"]
    assert facts["manifest"]["settings"]["batch_size"] == 4
    assert facts["round"]["number"] == 1
    told = results()
    told.to_parquet("told.parquet")
    assert command("campaign", "tell", "told.parquet") == 0


@pytest.mark.usefixtures("here")
def test_a_machine_gets_a_pick_list_beside_the_map(capsys: pytest.CaptureFixture[str]) -> None:
    wells = [f"G00{number},guide {number},L1,A{number + 1}" for number in range(10)]
    Path("guides.csv").write_text("\n".join(["gene,reagent,source plate,source well", *wells]) + "\n")
    words = ("campaign", "export", "-o", "picks.csv", "--format", "echo")
    assert command(*words, "--volume", "25") == 3
    assert "--format echo needs --library" in capsys.readouterr().err
    assert command(*words, "--library", "guides.csv") == 3
    assert "how much of each reagent" in capsys.readouterr().err
    assert not Path("picks.csv").exists()
    assert command(*words, "--library", "guides.csv", "--volume", "27.5", "--replicates", "1") == 0
    assert "transfers  8, none to control wells: the library has no control" in capsys.readouterr().out
    picks, plate = pd.read_csv("picks.csv"), pd.read_csv("picks-plate-map.csv")
    assert picks["Destination Plate Name"].unique().tolist() == ["first-r1-p1"]
    assert len(picks["Destination Well"].unique()) == (plate["role"] == "sample").sum() == 4
    assert command("campaign", "export", "-o", "plate.csv", "--volume", "25") == 3
    assert "go with --format echo or opentrons" in capsys.readouterr().err
    assert command(*words[:3], "picks.xlsx", *words[4:]) == 3
    assert "must be a name that ends with .csv" in capsys.readouterr().err


@pytest.mark.usefixtures("here")
@pytest.mark.parametrize("name", ["plate.csv", "plate.xlsx"])
def test_an_export_says_where_it_comes_from(name: str) -> None:
    assert command("campaign", "export", "--edges", "empty", "-o", name) == 0
    facts = json.loads(Path(f"{name}.json").read_text(encoding="utf-8"))
    assert facts["manifest"]["command"] == f"inverse-design campaign export --edges empty -o {name}"
    assert (facts["campaign"]["name"], facts["round"]["number"]) == ("first", 1)
    assert facts["export"]["layout"]["edges"] == "empty"
    assert facts["export"]["layout"]["size"] == 96


@pytest.mark.usefixtures("here")
def test_plates_that_were_arranged_by_hand_are_not_left_without_a_word(capsys: pytest.CaptureFixture[str]) -> None:
    assert command("campaign", "export", "-o", "drawn.csv") == 0
    assert "drawn by seed" in capsys.readouterr().out
    campaign = Campaign.open("campaigns.db", "first")
    first, second = [(each.plate, each.well) for each in plate_of(campaign, campaign.batch()).wells][:2]
    move_wells(campaign, campaign.batch(), [(first, second)])
    assert command("campaign", "export", "-o", "plate.csv") == 0
    assert "as they were arranged by hand" in capsys.readouterr().out
    assert command("campaign", "export", "-o", "anew.csv", "--controls", "8") == 0
    said = capsys.readouterr()
    assert "warning: as the options ask for others, wells are drawn anew" in said.err
    assert "drawn by seed" in said.out
    assert pd.read_csv("anew.csv").equals(pd.read_csv("drawn.csv"))
    assert not pd.read_csv("plate.csv").equals(pd.read_csv("drawn.csv"))


def test_the_schema_is_json_and_knows_every_setting(capsys: pytest.CaptureFixture[str]) -> None:
    assert command("campaign", "schema") == 0
    schema = json.loads(capsys.readouterr().out)
    assert schema["properties"]["order"]["enum"] == ["1", "2", "3", "4", "5", "6", "both"]
    assert schema["properties"]["gain"]["default"] == "expected_improvement"
    assert schema["required"] == ["name", "target"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--exclude", "G0000"), "'G0000'"),
        (("--gain", "expected_improvment"), "'expected_improvement'"),
        (("--surrogate", "aditive"), "'additive'"),
        (("--order", "7"), "order"),
        (("--random-share", "2"), "random_share = 2"),
    ],
)
def test_a_campaign_that_cannot_begin_leaves_nothing(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    words: tuple[str, str],
    message: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    save_table(tmp_path)
    save_state(tmp_path)
    before = sorted(tmp_path.iterdir())
    stated = dict(zip(BEGUN[::2], BEGUN[1::2], strict=True)) | {words[0]: words[1]}
    assert command("campaign", "create", "screen.csv", *(word for each in stated.items() for word in each)) in {
        2,
        3,
    }
    assert message in capsys.readouterr().err
    assert sorted(tmp_path.iterdir()) == before


@pytest.mark.usefixtures("here")
def test_a_store_that_may_not_be_written_can_still_be_read(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    results().to_csv("told.csv", index=False)
    with_every_connection(monkeypatch, "query_only = ON")
    before = Path("campaigns.db").read_bytes()
    for words in (("tell", "told.csv"), ("order",), ("withdraw", results()["perturbation"][0]), ("ask", "--more")):
        assert command("campaign", *words) == 3
        assert "may not be written (read-only file or folder)" in capsys.readouterr().err
    for words in (("status", "--quick"), ("history",), ("ask",), ("export", "-o", "plate.csv")):
        assert command("campaign", *words) == 0
    assert Path("campaigns.db").read_bytes() == before


@pytest.mark.usefixtures("here")
def test_a_store_is_verified_by_replaying_its_log(capsys: pytest.CaptureFixture[str]) -> None:
    assert command("campaign", "verify") == 0
    assert "2 events replayed: every state and measurement" in capsys.readouterr().out
    with closing(sqlite3.connect("campaigns.db")) as database, database:
        guard = "SELECT sql FROM sqlite_master WHERE name = 'events_no_update'"
        (again,) = database.execute(guard).fetchone()
        database.execute("DROP TRIGGER events_no_update")
        database.execute("UPDATE events SET actor = 'eve' WHERE sequence = 2")
        database.execute(again)
    for verb in ("verify", "status", "history", "ask"):
        assert command("campaign", verb) == 3
        said = capsys.readouterr().err
        assert "event 2 does not fit the chain" in said
        assert "inverse-design campaign restore FILE" in said


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may write everything")
@pytest.mark.usefixtures("here")
def test_permissions_of_a_store_are_heeded(capsys: pytest.CaptureFixture[str]) -> None:
    Path("campaigns.db").chmod(0o444)
    assert command("campaign", "order") == 3
    assert "may not be written" in capsys.readouterr().err
    assert command("campaign", "history") == 0


@pytest.mark.usefixtures("here")
def test_a_full_disk_is_named_and_nothing_is_half_told(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    table = results()
    wells = pd.concat([table.assign(replicate=number) for number in range(200)])
    wells.to_csv("told.csv", index=False)
    with monkeypatch.context() as patch:
        pages = Path("campaigns.db").stat().st_size // 4096
        with_every_connection(patch, f"max_page_count = {pages}")
        assert command("campaign", "tell", "told.csv") == 3
        assert "the disk, which is full; make room and repeat" in capsys.readouterr().err
    assert command("campaign", "tell", "told.csv") == 0
    assert "800 wells told, 4 experiments measured" in capsys.readouterr().out


@pytest.mark.usefixtures("here")
@pytest.mark.parametrize("words", [("tell", "told.csv"), ("order",), ("history",)])
def test_a_locked_store_is_named(
    words: tuple[str, ...], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    results().to_csv("told.csv", index=False)
    impatient = partial(open_store, timeout=0.1)
    monkeypatch.setattr("inverse_design.cli.campaign.place.open_store", impatient)
    lock = sqlite3.connect("campaigns.db", isolation_level=None)
    lock.execute("BEGIN EXCLUSIVE")
    try:
        assert command("campaign", *words) == 3
        assert "'campaigns.db' is locked by another program" in capsys.readouterr().err
    finally:
        lock.rollback()
        lock.close()
    assert command("campaign", *words) == 0


@pytest.mark.usefixtures("here")
def test_a_budget_below_the_cheapest_experiment_has_nothing_to_propose(capsys: pytest.CaptureFixture[str]) -> None:
    poor = ("--budget", "3", "--cost-per-well", "1", "--replicates", "2", "--controls", "0")
    assert command("campaign", "create", "screen.csv", *BEGUN[2:], "--name", "poor", *poor) == 0
    assert command("campaign", "ask", "--name", "poor") == 0  # one experiment of two wells
    assert "3 proposed experiments were left out: 3 of the budget are left" in capsys.readouterr().out
    poor = ("--budget", "1", "--cost-per-well", "1", "--replicates", "2", "--controls", "0")
    assert command("campaign", "create", "screen.csv", *BEGUN[2:], "--name", "poorer", *poor) == 0
    assert command("campaign", "ask", "--name", "poorer") == 4
    assert "a round with the cheapest of the proposed experiments costs 2" in capsys.readouterr().err


@pytest.mark.usefixtures("here")
def test_the_words_of_a_database_never_show_its_password(capsys: pytest.CaptureFixture[str]) -> None:
    url = "postgresql://ann:s3cret@127.0.0.1:1/screens"
    for words in (("ask",), ("create", "screen.csv", *BEGUN), ("status", "--bogus")):
        code = command("campaign", *words, "--store", url)
        said = capsys.readouterr()
        assert code in {2, 3}
        assert "s3cret" not in said.out + said.err
        assert said.err
    assert command("campaign", "ask", f"--stor={url}") == 2
    assert "s3cret" not in capsys.readouterr().err
    os.environ["INVERSE_DESIGN_STORE"] = url
    try:
        assert command("campaign", "history") == 3
        assert "ann:***@" in (said_once := capsys.readouterr().err)
        assert "s3cret" not in said_once
    finally:
        del os.environ["INVERSE_DESIGN_STORE"]


@pytest.mark.usefixtures("here")
def test_the_store_is_named_by_a_file_or_the_environment(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    url, typed = "postgresql://ann:s3cret@127.0.0.1:1/screens", "a password on the command line"
    named = Path("store.txt")
    Path("campaigns.db").rename("ours.db")
    named.write_text("ours.db\n", encoding="utf-8")
    assert command("campaign", "history", "--store-file", named) == 0
    monkeypatch.setenv("INVERSE_DESIGN_STORE", "ours.db")
    assert command("campaign", "history") == 0
    assert "warning" not in capsys.readouterr().err
    monkeypatch.setenv("INVERSE_DESIGN_STORE", url)
    assert command("campaign", "history") == 3
    assert typed not in " ".join(capsys.readouterr().err.split())
    assert command("campaign", "history", "--store", f"{url}x") == 3
    assert typed in " ".join((said := capsys.readouterr().err).split())
    assert "s3cret" not in said
    assert command("campaign", "history", "--store-file", named, "--store", "other.db") == 3
    assert "the store is named twice" in capsys.readouterr().err
    for mode, warned in ((0o600, False), (0o644, True)):
        named.write_text(url, encoding="utf-8")
        named.chmod(mode)
        assert command("campaign", "history", "--store-file", named) == 3
        assert ("may be read by others" in " ".join((said := capsys.readouterr().err).split())) is warned
        assert "s3cret" not in said
    for content, words in (
        (b"\xff", "it is no text"),
        (b"", "one line"),
        (b"a\nb", "one line"),
        (b"a" * 5000, "one"),
    ):
        named.write_bytes(content)
        assert command("campaign", "history", "--store-file", named) == 3
        assert words in capsys.readouterr().err
    assert command("campaign", "history", "--store-file", "absent.txt") == 3
    assert "cannot be read (No such file" in capsys.readouterr().err


@pytest.mark.usefixtures("here")
def test_a_damaged_store_comes_back_from_its_backup(capsys: pytest.CaptureFixture[str]) -> None:
    assert command("campaign", "backup", "kept.db") == 0
    said = capsys.readouterr().out
    assert "event 2, hash " in said
    noted = said.split("hash ")[1].split()[0]
    assert command("campaign", "verify", "--integrity", "--head", noted[:16]) == 0
    assert "event 2 has the hash that was noted" in " ".join(capsys.readouterr().out.split())
    assert command("campaign", "verify", "--head", "f" * 16) == 3
    assert "no event of" in capsys.readouterr().err
    with Path("campaigns.db").open("r+b") as file:
        file.truncate(8192)
    assert command("campaign", "status", "--quick") == 3
    assert "inverse-design campaign restore FILE" in " ".join(capsys.readouterr().err.split())
    assert command("campaign", "restore", "kept.db") == 0
    assert "campaigns.db.before-restore" in capsys.readouterr().out
    Path("campaigns.db").unlink()
    assert command("campaign", "restore", "kept.db") == 0
    assert command("campaign", "verify") == 0
    assert command("campaign", "order") == 0
    capsys.readouterr()
    assert command("campaign", "verify", "--store", "kept.db") == 0
    said = " ".join(capsys.readouterr().err.split())
    assert "that this log lacks were seen on this machine in" in said
    assert "campaigns.db (event 3; here are 2)" in said


def test_grants_are_printed(capsys: pytest.CaptureFixture[str]) -> None:
    assert command("campaign", "grants", "--reader", "ann", "--teller", "robot") == 0
    assert 'GRANT INSERT ON "public".artefacts, "public".events TO "robot";' in capsys.readouterr().out
    assert command("campaign", "grants") == 3


@pytest.mark.usefixtures("here")
def test_a_warning_on_coverage_is_said_once(capsys: pytest.CaptureFixture[str]) -> None:
    results(shift=30.0).to_csv("told.csv", index=False)
    assert command("campaign", "tell", "told.csv") == 0
    capsys.readouterr()
    assert command("campaign", "status", "--quick") == 0
    said = [line for line in capsys.readouterr().out.splitlines() if "bounds hold" in line]
    assert said
    assert all(line.startswith("warning: round 1: ") for line in said)


@pytest.mark.usefixtures("here")
def test_a_typo_does_not_end_a_campaign(capsys: pytest.CaptureFixture[str]) -> None:
    table = results()
    typed = table.copy()
    typed.iloc[0, 1] = 1e200
    typed.to_csv("typed.csv", index=False)
    assert command("campaign", "tell", "typed.csv") == 3
    assert "1e+200 is more than 10,000 times the range of the starting screen" in capsys.readouterr().err
    assert command("campaign", "tell", "typed.csv", "--accept-extreme") == 0
    for words in (("status", "--quick"), ("history",), ("export", "-o", "plate.csv"), ("ask", "-n", "1")):
        capsys.readouterr()
        assert command("campaign", *words) == 0
        said = capsys.readouterr().out
        assert words[0] in {"history", "export"} or "take it back with `campaign retract --event 4`" in said
    assert command("campaign", "retract", "--results", "typed.csv", "--reason", "exponent") == 3
    shown = capsys.readouterr()
    assert table["perturbation"][0] in shown.out
    assert "take these 4 wells back, repeat this with --yes" in shown.err
    assert command("campaign", "retract", "--event", 4, "--reason", "exponent", "--yes") == 0
    assert "5 results to come" in capsys.readouterr().out  # one of them of the round that was asked for
    assert command("campaign", "retract", "--event", 4, "--reason", "exponent", "--yes") == 0
    assert "4 wells had been taken back before, nothing has changed" in capsys.readouterr().out
    assert command("campaign", "status", "--quick") == 0
    assert "left out" not in capsys.readouterr().out
    table.to_csv("told.csv", index=False)
    assert command("campaign", "tell", "told.csv") == 0
    assert "3 wells left out that were taken back before" in capsys.readouterr().out
    assert command("campaign", "correct", "told.csv", "--reason", "three of them were right") == 0
    assert "3 wells (" in capsys.readouterr().out
    assert command("campaign", "verify") == 0
    assert command("campaign", "history") == 0
    said = capsys.readouterr().out
    assert "retracted: exponent" in said
    assert "corrected: three of them were right" in said


@pytest.mark.usefixtures("here")
@pytest.mark.parametrize(
    ("words", "message"),
    [
        ((), "say what is to be taken back"),
        (("--round", "7"), "unknown round with results '7'"),
        (("--reason", "a\x07b", "--event", "4"), "U+0007"),
        (("--results", "gone.csv"), "is no file"),
    ],
)
def test_what_cannot_be_retracted_is_said(
    words: tuple[str, ...], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    results().to_csv("told.csv", index=False)
    assert command("campaign", "tell", "told.csv") == 0
    assert command("campaign", "retract", *(() if "--reason" in words else ("--reason", "r")), *words) == 3
    assert message in capsys.readouterr().err


@pytest.mark.usefixtures("here")
def test_a_well_that_lacks_a_readout_is_told_and_said(capsys: pytest.CaptureFixture[str]) -> None:
    table = results()
    table.iloc[1, 2] = np.nan
    table.to_csv("told.csv", index=False)
    assert command("campaign", "tell", "told.csv") == 0
    assert "1 wells lack some readouts and count for those they have" in capsys.readouterr().out
    assert command("campaign", "status", "--quick") == 0
    said = capsys.readouterr().out
    assert f"{table['perturbation'][1]} lacks {table.columns[2]}; averages have them" in said
    assert command("campaign", "ask", "-n", "2") == 0
    assert "1 conditions lack readouts and are no part of the fit" in capsys.readouterr().out


@pytest.mark.usefixtures("here")
def test_names_of_wells_fill_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    table = results()
    table.insert(1, "replicate", ["a\nb", *"cde"])
    table.to_csv("told.csv", index=False)
    assert command("campaign", "tell", "told.csv") == 3
    assert "line 2, column 'replicate': give a printable name of a replicate" in capsys.readouterr().err
    for words in (
        ("order", "--actor", "a\u202eb"),
        ("withdraw", table["perturbation"][0], "--reason", "x\x1b[2J"),
    ):
        assert command("campaign", *words) == 3
        assert "give a printable" in capsys.readouterr().err


@pytest.mark.usefixtures("here")
def test_a_batch_keeps_one_temperature(capsys: pytest.CaptureFixture[str]) -> None:
    genes = sorted({gene for label in tiny_table().iloc[:, 0] for gene in label.split("+")})
    table = pd.DataFrame(
        {"gene": genes, "temperature": ["30" if place % 2 else "37" for place in range(len(genes))]}
    )
    table.to_csv("temperatures.csv", index=False)
    begun = ("--batch-wide", "temperatures.csv", "--store", "other.db", *BEGUN)
    assert command("campaign", "create", "screen.csv", *begun) == 0
    capsys.readouterr()
    assert command("campaign", "ask", "--store", "other.db", "-o", "warm.csv") == 0
    assert "all experiments of this batch share temperature 3" in capsys.readouterr().out
    at = dict(zip(table["gene"], table["temperature"], strict=True))
    assert len({at[gene] for label in pd.read_csv("warm.csv")["perturbation"] for gene in label.split("+")}) == 1
    table.assign(more="x").to_csv("wide.csv", index=False)
    begun = ("--batch-wide", "wide.csv", "--store", "third.db", *BEGUN)
    assert command("campaign", "create", "screen.csv", *begun) == 3
    assert "has 3 columns; give two" in capsys.readouterr().err


def test_a_campaign_writes_a_page(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert command("campaign", "report", "out.html") == 0
    assert "wrote out.html" in capsys.readouterr().out
    assert "<h2>Round 1</h2>" in (here / "out.html").read_text()
    assert command("campaign", "report", "out.txt") == 3
