import json
import math
from dataclasses import replace
from pathlib import Path

import pytest

from surrogates.evaluation.intervals import Row, write_json

ROW = Row("forward", "norman", "additive", "double, 2 of 2 seen", "all", "ratio", 1.0, 0.9, 1.1, 126, "ratio")


def test_numbers_that_are_not_finite_become_null(tmp_path: Path) -> None:
    path = tmp_path / "rows.json"
    write_json([ROW, replace(ROW, value=math.nan, low=-math.inf, high=math.inf)], path)
    one, other = json.loads(path.read_text(encoding="utf-8"))["rows"]
    assert one == ROW.to_dict()
    assert (other["value"], other["low"], other["high"], other["n"]) == (None, None, None, 126)


def test_the_manifest_stands_beside_the_rows(tmp_path: Path) -> None:
    path = tmp_path / "rows.json"
    write_json([ROW], path, manifest={"seed": 3, "data": {"sha256": "abc"}})
    content = json.loads(path.read_text(encoding="utf-8"))
    assert content == {"manifest": {"seed": 3, "data": {"sha256": "abc"}}, "rows": [ROW.to_dict()]}


def test_fields_keep_their_order() -> None:
    assert (
        " ".join(ROW.to_dict())
        == "benchmark dataset model novelty variant metric value low high n unit standard_error"
    )


def test_writing_replaces_and_leaves_nothing_behind(tmp_path: Path) -> None:
    path = tmp_path / "rows.json"
    path.write_text("old", encoding="utf-8")
    write_json([], path)
    assert json.loads(path.read_text(encoding="utf-8")) == {"manifest": {}, "rows": []}
    assert [each.name for each in tmp_path.iterdir()] == ["rows.json"]


def test_a_failed_write_keeps_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "rows.json"
    write_json([ROW], path)

    def refuse(self: Path, target: Path) -> None:
        raise OSError(f"no room to move {self.name} to {target.name}")

    monkeypatch.setattr(Path, "replace", refuse)
    with pytest.raises(OSError, match="no room"):
        write_json([], path)
    assert len(json.loads(path.read_text(encoding="utf-8"))["rows"]) == 1
    assert [each.name for each in tmp_path.iterdir()] == ["rows.json"]
