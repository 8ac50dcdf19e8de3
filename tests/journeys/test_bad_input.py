"""What a user gets for input that cannot be used: one sentence, an exit code, and no half-written file."""

import re
from collections.abc import Callable
from pathlib import Path

import anndata
import numpy as np
import pandas as pd
import pytest
from strategies.worlds import command, save_state, save_table, tiny_table

TABLE = tiny_table()
DOUBLE = str(TABLE["condition"].iloc[-1])


@pytest.fixture
def refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> Callable[..., str]:
    """Run a command that must fail before any model is fitted, and give its message."""

    def no_fit(*_: object, **__: object) -> None:
        pytest.fail("a model was fitted")

    monkeypatch.setattr("surrogates.models.wrappers.automatic.Automatic.fit", no_fit)

    def run(*words: object, code: int = 3) -> str:
        before = sorted(tmp_path.rglob("*"))
        assert command(*words) == code
        said = capsys.readouterr()
        assert said.out == ""
        assert said.err.startswith("error: ")
        assert said.err.count("\n") == 1
        assert sorted(tmp_path.rglob("*")) == before
        return said.err

    return run


def changed(change: Callable[[pd.DataFrame], pd.DataFrame]) -> pd.DataFrame:
    return change(TABLE.copy())


def with_value(table: pd.DataFrame, value: object) -> pd.DataFrame:
    table["G003"] = table["G003"].astype(object)
    table.loc[4, "G003"] = value
    return table


def repeated(table: pd.DataFrame, label: str, shift: float) -> pd.DataFrame:
    extra = table.iloc[[-1]].copy()
    extra["condition"] = label
    extra["G000"] += shift
    return pd.concat([table, extra])


SWAPPED = "+".join(reversed(DOUBLE.split("+")))
BAD_SCREENS = {
    "nan": (changed(lambda t: with_value(t, "nan")), "not finite.*'G003'"),
    "infinite": (changed(lambda t: with_value(t, "inf")), "not finite.*inf.*'G003'"),
    "text": (changed(lambda t: with_value(t, "high")), "'G003' holds 'high' in row 4"),
    "several times": (
        pd.concat([TABLE.assign(timepoint="24h"), TABLE.assign(timepoint="48h")]),
        "several values of 'timepoint'.*--group-col timepoint",
    ),
    "few": (TABLE.iloc[:2], "2 condition.*too few"),
    "empty": (TABLE.iloc[:0], "."),
    "readout twice": (TABLE.rename(columns={"G004": "G003"}), "'G003' occurs 2 times"),
}


@pytest.mark.parametrize("case", BAD_SCREENS)
@pytest.mark.parametrize("verb", ["check", "propose", "benchmark"])
def test_bad_screens(tmp_path: Path, refused: Callable[..., str], case: str, verb: str) -> None:
    table, message = BAD_SCREENS[case]
    path = save_table(tmp_path, table)
    words = {
        "check": ("check", path),
        "propose": ("propose", path, "--target", DOUBLE, "-o", tmp_path / "out.csv"),
        "benchmark": ("benchmark", "retrieval", path, "-o", tmp_path / "out.json"),
    }[verb]
    assert re.search(message, refused(*words))


@pytest.mark.parametrize("label", [DOUBLE, SWAPPED])
def test_rows_of_one_condition_are_averaged_and_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], label: str
) -> None:
    path = save_table(tmp_path, repeated(TABLE.assign(G003=1.0), label, 0.5))
    assert command("check", path) == 0
    said = capsys.readouterr().out
    assert f"{len(TABLE)} conditions in {len(TABLE) + 1} rows" in said
    assert "1 that never change" in said


def save_cells(path: Path, control: str, *, bare: bool = False) -> Path:
    values = np.random.default_rng(0).normal(size=(48, 4)) ** 2
    obs = pd.DataFrame({"condition": [control, "A", "B", "A+B"] * 12, "cell_type": ["x"] * 24 + ["y"] * 24})
    if bare:
        obs.loc[(obs["cell_type"] == "y") & (obs["condition"] == control), "condition"] = "C"
    obs.index = obs.index.map(str)
    var = pd.DataFrame(index=[f"g{column}" for column in range(4)])
    anndata.AnnData(values, obs=obs, var=var).write_h5ad(path)
    return path


def test_cells_without_control(tmp_path: Path, refused: Callable[..., str]) -> None:
    said = refused("check", save_cells(tmp_path / "cells.h5ad", "AAVS1"))
    assert "no control among the cells" in said
    assert "--reference-key" in said


def test_a_context_without_control(tmp_path: Path, refused: Callable[..., str]) -> None:
    said = refused("check", save_cells(tmp_path / "cells.h5ad", "ctrl", bare=True))
    assert "no control cells in context(s) 'y'" in said


def test_several_contexts_are_listed(tmp_path: Path, refused: Callable[..., str]) -> None:
    cells = save_cells(tmp_path / "cells.h5ad", "ctrl")
    assert "hold 2 contexts; name one with --context: 'x', 'y'" in refused("propose", cells, "--target", "A+B")
    assert "unknown context 'z'" in refused("propose", cells, "--target", "A+B", "--context", "z")


def test_damaged_and_missing_files(tmp_path: Path, refused: Callable[..., str]) -> None:
    cells = save_cells(tmp_path / "cells.h5ad", "ctrl")
    cells.write_bytes(cells.read_bytes()[:4000])
    assert "cut short" in refused("check", cells)
    (tmp_path / "empty").mkdir()
    assert "is a folder without .h5ad files" in refused("check", tmp_path / "empty")
    assert "there is no file" in refused("check", tmp_path / "absent.csv")
    assert "did you mean 'norman2019_expr'" in refused("check", "norman2019_exp")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--target", "G001+G00"), "'G00'.*did you mean"),
        (("--target", DOUBLE, "--exclude", "G01"), "'G01'.*did you mean"),
        (("--target", DOUBLE, "--require", "G001,G0022"), "'G0022'.*did you mean 'G002'"),
        (("--target", DOUBLE, "--allow", "absent.txt"), "no file 'absent.txt'"),
        (("--target", DOUBLE, "--allow", "G001"), "order 2 needs as many targets"),
        (("--target", DOUBLE, "--require", "G001,G002,G003"), "3 targets are required, more than"),
        (("--target", DOUBLE, "--require", "G001", "--exclude", "G001"), "is required, but cannot be used"),
        (("--target", DOUBLE, "--dose", "2", "1"), "not a range"),
        (("--target", DOUBLE, "--layer-key", "counts"), "has no layers"),
        (("--target", DOUBLE, "--readouts", "G1"), "unknown readout 'G1'"),
    ],
)
def test_bad_questions(tmp_path: Path, refused: Callable[..., str], words: tuple[str, ...], message: str) -> None:
    said = refused("propose", save_table(tmp_path), *words, "-o", tmp_path / "out.csv")
    assert re.search(message, said)


@pytest.mark.parametrize(
    "words", [("--dose", "5", "9"), ("--order", "1"), ("--mode", "knockdown", "--order", "1")]
)
def test_constraints_that_leave_nothing(
    tmp_path: Path, refused: Callable[..., str], words: tuple[str, ...]
) -> None:
    save_state(tmp_path)
    said = refused("propose", save_table(tmp_path), "--target", tmp_path / "state.csv", *words, code=4)
    assert re.search("relax", said)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--model", "interactions"), "unknown model 'interactions': did you mean 'interaction'"),
        (("--objective", "pearsn"), "unknown objective 'pearsn': did you mean 'pearson'"),
        (("--constraint", "grup"), "unknown constraint 'grup': did you mean 'group'"),
    ],
)
def test_names_of_what_does_not_exist(
    tmp_path: Path, refused: Callable[..., str], words: tuple[str, ...], message: str
) -> None:
    said = refused("propose", save_table(tmp_path), "--target", DOUBLE, *words, code=2)
    assert message in said


def test_bad_target_tables(tmp_path: Path, refused: Callable[..., str]) -> None:
    path, state = save_table(tmp_path), tmp_path / "state.csv"
    state.write_text("gene,value\nTP53,1\nMYC,2\n")
    assert "no readout in common" in refused("propose", path, "--target", state)
    state.write_text("gene,value\nG001,1\nG002,high\n")
    assert "holds 'high' in row 2 ('G002')" in refused("propose", path, "--target", state)


def test_bad_priors(tmp_path: Path, refused: Callable[..., str]) -> None:
    path, prior = save_table(tmp_path), tmp_path / "prior.csv"
    for text, message in (("gene,weight\nG01,1\n", "did you mean"), ("gene,weight\nG001,0\n", "not positive")):
        prior.write_text(text)
        assert message in refused("propose", path, "--target", DOUBLE, "--prior", prior)


@pytest.mark.parametrize("name", ["absent/out.csv", "out.docx", "screen.csv", "folder.csv", "o\nut.csv"])
def test_outputs_that_cannot_be_written(tmp_path: Path, refused: Callable[..., str], name: str) -> None:
    path = save_table(tmp_path)
    (tmp_path / "folder.csv").mkdir()
    kept = path.read_bytes()
    assert "output " in refused("propose", path, "--target", DOUBLE, "-o", tmp_path / name)
    assert path.read_bytes() == kept


@pytest.mark.parametrize("verb", ["retrieval", "forward", "reach"])
def test_benchmark_outputs_that_cannot_be_written(tmp_path: Path, refused: Callable[..., str], verb: str) -> None:
    said = refused("benchmark", verb, save_table(tmp_path), "-o", tmp_path / "absent" / "rows.json")
    assert "there is no folder" in said


def test_a_disk_that_fails_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def full(self: Path, target: Path) -> None:
        raise OSError(28, f"No space left for {self.name[:3]}", str(target))

    path = save_table(tmp_path)
    monkeypatch.setattr(Path, "replace", full)
    words = ("propose", path, "--target", DOUBLE, "--model", "additive", "-o", tmp_path / "out.csv")
    assert command(*words) == 3
    assert "No space left" in capsys.readouterr().err
    assert sorted(tmp_path.iterdir()) == [path]


def test_equal_input_gives_equal_bytes(tmp_path: Path) -> None:
    path = save_table(tmp_path)
    for name in ("one.csv", "two.csv"):
        words = ("--model", "scaled_additive", "--order", "both", "--measured", "keep")
        assert command("propose", path, "--target", DOUBLE, *words, "-o", tmp_path / name) == 0
    assert (tmp_path / "one.csv").read_bytes() == (tmp_path / "two.csv").read_bytes()
