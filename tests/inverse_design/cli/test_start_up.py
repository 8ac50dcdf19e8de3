"""What each verb imports before it answers: seconds of a user's time, asserted as sets of modules."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

HEAVY = ("torch", "pandas", "scipy", "sklearn", "anndata", "botorch", "optuna", "matplotlib", "mapie")
FITS = {"scipy.stats", "scipy.optimize", "sklearn", "anndata", "botorch", "optuna", "matplotlib", "mapie"}
SCRIPT = """
import json, sys
{lines}
modules = sorted(sys.modules)
print("\\n" + json.dumps([code, modules]), file=sys.__stdout__)
"""


def loaded(lines: str, *, folder: Path) -> tuple[int, set[str]]:
    done = subprocess.run(  # noqa: S603 - our own interpreter
        [sys.executable, "-c", SCRIPT.format(lines=lines)], cwd=folder, capture_output=True, text=True, check=True
    )
    code, modules = json.loads(done.stdout.splitlines()[-1])
    return code, set(modules)


def run(*words: str, folder: Path) -> tuple[int, set[str]]:
    return loaded(f"from inverse_design.cli.app import main\ncode = main({list(words)!r})", folder=folder)


@pytest.mark.parametrize(
    ("code", "words"),
    [
        (0, ("--version",)),
        (2, ("check", "--no-such-option")),
        (3, ("check", "missing.h5ad")),
        (3, ("propose", "missing.csv", "--target", "A+B")),
        (3, ("propose", "norman2019_expr", "--target", "missing.txt.gz")),
        (2, ("propose", "norman2019_expr", "--target", "A+B", "--model", "aditive")),
        (2, ("benchmark", "forward", "norman2019_expr", "--models", "ridge,aditive")),
        (2, ("campaign", "create", "norman2019_expr", "--target", "A+B", "--surrogate", "aditive")),
        (3, ("campaign", "status", "--store", "missing.db")),
        (3, ("campaign", "tell", "missing.csv", "--store", "missing.db")),
    ],
)
def test_what_is_wrong_is_said_before_anything_heavy_is_imported(
    tmp_path: Path, code: int, words: tuple[str, ...]
) -> None:
    found, modules = run(*words, folder=tmp_path)
    assert found == code
    assert modules.isdisjoint(HEAVY)


SCREEN = "perturbation,one,two\nA,1,0\nB,0,1\nA+B,1,1\nC,1,2\nA+C,2,2\n"


def test_a_check_loads_neither_models_nor_benchmarks(tmp_path: Path) -> None:
    (tmp_path / "screen.csv").write_text(SCREEN)
    code, modules = run("check", "screen.csv", folder=tmp_path)
    assert code == 0
    assert modules.isdisjoint(FITS)
    parts = {name for name in modules if name.startswith(("surrogates.", "inverse_design."))}
    allowed = {"surrogates.models", "surrogates.models.registry"}
    rooms = ("surrogates.models", "surrogates.contrib", "surrogates.evaluation", "inverse_design.validate")
    assert {name for name in parts if name.startswith(rooms)} <= allowed


def test_to_propose_needs_no_library_of_other_verbs(tmp_path: Path) -> None:
    _, modules = loaded("import inverse_design\ninverse_design.propose\ncode = 0", folder=tmp_path)
    assert "inverse_design.proposal" in modules
    assert modules.isdisjoint(
        {
            "scipy.stats",
            "scipy.optimize",
            "sklearn",
            "anndata",
            "botorch",
            "optuna",
            "matplotlib",
            "mapie",
            "sqlalchemy",
            "h5py",
        }
    )


def test_the_books_of_a_campaign_need_no_models(tmp_path: Path) -> None:
    (tmp_path / "screen.csv").write_text(SCREEN)
    (tmp_path / "goal.toml").write_text('kind = "scalar"\nreadout = "one"\ngoal = "maximise"\n')
    first = ("campaign", "create", "screen.csv", "--name", "c", "--target", "goal.toml", "--surrogate", "additive")
    assert run(*first, folder=tmp_path)[0] == 0
    for words in (("status", "--quick"), ("order",), ("history",)):
        code, modules = run("campaign", *words, folder=tmp_path)
        assert code == 0
        assert "inverse_design.campaign.campaign" in modules
        assert modules.isdisjoint({*FITS, "openpyxl", "inverse_design.campaign.gain_planner"})
        assert not {name for name in modules if name.startswith("surrogates.models.wrappers")}
