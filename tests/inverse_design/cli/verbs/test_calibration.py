import json
from functools import partial
from pathlib import Path

import pytest
from strategies.judged import LEVELS, cards
from strategies.worlds import command, save_table

from inverse_design.cli.verbs import calibration
from inverse_design.validate.calibration import measure_calibration
from surrogates.errors import CalibrationError


def strict(path: Path) -> dict[str, object]:
    def refuse(word: str) -> None:
        raise AssertionError(word)

    content = json.loads(path.read_text(), parse_constant=refuse)
    assert isinstance(content, dict)
    return content


def test_the_benchmark_of_calibration(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(calibration, "measure_calibration", partial(measure_calibration, most_held_out=4))
    table, rows, picture = save_table(tmp_path), tmp_path / "rows.json", tmp_path / "card.svg"
    words = ("--model", "scaled_additive", "--classes", "double-2", "--levels", "0.9,0.8", "--seed", 3)
    assert command("benchmark", "calibration", table, *words, "-o", rows, "--picture", picture) == 0
    said = capsys.readouterr().out.splitlines()
    assert said[0] == "no coverage at 90 % is lower than so few perturbations explain"
    assert "double, 2 of 2 seen, all readouts (n = 4)" in said
    assert any(line.startswith("single readouts") for line in said)
    assert any(line.startswith("90 % set: coverage ") and "of 45 candidates (by gap in" in line for line in said)
    assert said[-1] == f"wrote {rows} and {picture}"
    content = strict(rows)
    manifest = content["manifest"]
    assert isinstance(manifest, dict)
    assert (manifest["seed"], manifest["settings"]["model"]) == (3, "scaled_additive")
    assert manifest["settings"]["levels"] == [0.8, 0.9]
    assert "calibrated_by" in manifest["settings"]["cards"][0]
    found = content["rows"]
    assert isinstance(found, list)
    assert {"coverage_90_all", "band_coverage_80", "set_size_median_90", "ece"} <= {row["metric"] for row in found}
    assert {(row["dataset"], row["model"]) for row in found} == {("screen.csv", "scaled_additive")}
    assert "double, 2 of 2 seen" in picture.read_text()


def test_tables_fit_120_columns_and_say_what_could_not_be_calibrated(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(calibration, "measure_calibration", lambda *_, **__: cards())
    words = ("--model", "scaled_additive", "--levels", ",".join(map(str, LEVELS)))
    assert command("benchmark", "calibration", save_table(tmp_path), *words) == 0
    said = capsys.readouterr().out.splitlines()
    starts = [number for number, line in enumerate(said) if line.startswith("coverage of  ")]
    assert len(starts) == len(cards())
    # The doubles have lines for first rows, of which none is likely to be the maker or all are.
    for start, lines in zip(starts, (14, 12), strict=True):
        end = next(n for n in range(start, len(said)) if said[n].startswith("such a calibration"))
        assert max(map(len, said[start : end + 1])) <= 120
        assert end - start == lines
    assert not any("borrows from" in line for line in said)  # classes of another order lend nothing
    assert any("needs 9 held-out perturbations" in line for line in said)


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["--levels", "0.9,1.5"], 3, "level 1.5 is not between 0 and 1"),
        (["--levels", "0.9,high"], 3, "level 'high' is no number"),
        (["--model", "scaled_aditive"], 2, "unknown model 'scaled_aditive': did you mean 'scaled_additive'"),
        (["--classes", "double-3"], 2, "unknown novelty class 'double-3': did you mean 'double-2'"),
        (["--picture", "card.jpg"], 3, "ends with .svg or .png or .pdf"),
        (["-o", "card.txt"], 3, "ends with .json"),
    ],
)
def test_bad_words(
    tmp_path: Path,
    words: list[str],
    code: int,
    message: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(calibration, "opened_screen", lambda *_: pytest.fail("the screen was read"))
    assert command("benchmark", "calibration", save_table(tmp_path), *words) == code
    assert message in capsys.readouterr().err


def test_levels_as_typed() -> None:
    assert calibration.read_levels(()) == (0.5, 0.8, 0.9, 0.95)
    assert calibration.read_levels(("0.9,0.5", "0.9")) == (0.5, 0.9)
    for wrong in ("0", "1", "nan", "-0.5", "90", "0.9;0.8"):
        with pytest.raises(CalibrationError):
            calibration.read_levels((wrong,))
