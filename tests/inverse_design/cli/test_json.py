"""With ``--json`` every verb prints one JSON document, and nothing else, on standard output."""

import io
import json
from collections.abc import Iterator
from contextlib import redirect_stderr, redirect_stdout
from functools import partial
from pathlib import Path

import anndata
import numpy as np
import pandas as pd
import pytest
from cyclopts import App
from strategies.worlds import command, save_state, save_table, tiny_table

from inverse_design.cli.app import app
from inverse_design.cli.options import Asking
from inverse_design.cli.verbs import demo

WITHOUT = {("app",): "serves a page until it is stopped"}
BEGUN = ("--name", "first", "--target", "state.csv", "--surrogate", "additive", "--batch-size", "3")
FAST = ("--model", "scaled_additive")
PLAYED = ("--start", "4", "--rounds", "1", "--batch", "2", "--top", "3", "--seeds", "1", "--policy", "random")
# In this order; nothing is needed that an earlier line does not make.
LINES: tuple[tuple[str, ...], ...] = (
    ("check", "screen.csv"),
    ("propose", "screen.csv", "--target", "state.csv", *FAST, "--dry-run"),
    PROPOSE := ("propose", "screen.csv", "--target", "state.csv", *FAST, "-o", "out.csv", "--top", "3"),
    RANK := ("rank", "screen.csv", "--target", "state.csv", *FAST, "--experiments", "list.csv"),
    ("replay", "screen.csv", "--readout", "G000", *PLAYED),
    ("demo", "-o", "demo"),
    ("benchmark", "retrieval", "screen.csv", "--dry-run"),  # what takes long is planned
    ("benchmark", "reach", "screen.csv", "--dry-run"),
    ("benchmark", "calibration", "screen.csv", "--dry-run"),
    ("benchmark", "forward", "screen.csv", "--models", "additive", "--classes", "double-2", "-o", "rows.json"),
    ("benchmark", "cells", "cells.h5ad", "--dry-run"),
    ("benchmark", "rounds", "rounds.csv"),
    ("campaign", "create", "screen.csv", *BEGUN),
    ("campaign", "ask", "-o", "batch.csv"),
    ("campaign", "order"),
    ("campaign", "export", "-o", "plate.csv"),
    ("campaign", "withdraw", "LAST", "--reason", "no clone"),
    ("campaign", "tell", "results.csv"),
    ("campaign", "correct", "corrected.csv", "--reason", "a decimal comma was lost"),
    ("campaign", "retract", "--round", "1", "--reason", "the plate was contaminated", "--yes"),
    ("campaign", "status", "--quick"),
    ("campaign", "history"),
    ("campaign", "report", "page.html"),
    ("campaign", "verify"),
    ("campaign", "backup", "copy.db"),
    ("campaign", "restore", "copy.db", "--store", "other.db"),
    ("campaign", "grants", "--reader", "ann"),
    ("campaign", "schema"),
    ("words",),
    ("cache", "info"),
    ("cache", "clear"),
)


def verbs(of: App, before: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """Take all verbs from the command line's own list."""
    for name in (each for each in of if not each.startswith("-")):
        found = of[name]
        if found.default_command is None:
            yield from verbs(found, (*before, name))
        else:
            yield (*before, name)


def test_every_verb_takes_json_and_is_tried_below() -> None:
    asked = {name for name in verbs(app) if name not in WITHOUT}
    tried = {line[:2] if line[0] in {"benchmark", "campaign", "cache"} else line[:1] for line in LINES}
    assert asked == tried


@pytest.fixture(scope="module")
def printed(tmp_path_factory: pytest.TempPathFactory) -> dict[tuple[str, ...], tuple[int, str, str]]:
    """What each line printed: exit code, standard output, standard error."""
    found: dict[tuple[str, ...], tuple[int, str, str]] = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("json"))
        for variable in ("INVERSE_DESIGN_CACHE", "INVERSE_DESIGN_DATA", "XDG_STATE_HOME"):
            patch.setenv(variable, str(Path(variable).absolute()))
        patch.setattr(demo, "_GENES", 8)
        patch.setattr(demo, "_DOUBLES", 12)
        patch.setattr(demo, "Asking", partial(Asking, model="scaled_additive"))
        save_table(Path())
        save_state(Path())
        given = pd.DataFrame({"perturbation": ["control", "A"] * 2}, index=list("abcd"))
        anndata.AnnData(np.ones((4, 2), dtype=np.float32), obs=given).write_h5ad("cells.h5ad")
        Path("list.csv").write_text(f"pair\n{tiny_table()['condition'].iloc[-1]}\nG000+G001\n")
        table = {"round": [0] * 6 + [1] * 6, "lower": -0.8, "upper": 0.8, "measured": np.linspace(-1, 1, 12)}
        pd.DataFrame(table).to_csv("rounds.csv", index=False)
        for line in LINES:
            last = write_results() if "LAST" in line else ""
            found[line] = printed_by(*(last if word == "LAST" else word for word in line), "--json")
    return found


def write_results() -> str:
    """Write results of the round but for its last experiment, which is named, and the same corrected."""
    *asked, last = pd.read_csv("batch.csv")["perturbation"]
    results = pd.DataFrame(0.1, index=range(len(asked)), columns=list(tiny_table().columns[1:]))
    results.insert(0, "perturbation", asked)
    results.to_csv("results.csv", index=False)
    results.assign(G000=0.2).to_csv("corrected.csv", index=False)
    return str(last)


def printed_by(*words: str) -> tuple[int, str, str]:
    """Run one command line."""
    with redirect_stdout(io.StringIO()) as out, redirect_stderr(io.StringIO()) as err:
        code = command(*words)
    return code, out.getvalue(), err.getvalue()


@pytest.mark.parametrize("line", LINES, ids=" ".join)
def test_standard_output_is_one_document(
    line: tuple[str, ...], printed: dict[tuple[str, ...], tuple[int, str, str]]
) -> None:
    code, out, err = printed[line]
    assert (code, "error" in err) == (0, False)
    found = json.loads(out)
    assert isinstance(found, dict)
    for place in found.get("written", []):
        assert Path(place).suffix


def test_a_document_holds_what_the_words_say(printed: dict[tuple[str, ...], tuple[int, str, str]]) -> None:
    proposed, ranked = (json.loads(printed[line][1]) for line in (PROPOSE, RANK))
    assert proposed["verdict"].startswith("Best of 29: ")
    assert [row["rank"] for row in proposed["table"]] == [1, 2, 3]
    assert proposed["written"] == ["out.csv", "out.csv.json"]
    assert len(ranked["table"]) == 2
