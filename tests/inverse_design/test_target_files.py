import json
import re
import tomllib
from dataclasses import fields
from pathlib import Path
from tempfile import TemporaryDirectory

import anndata
import jsonschema_rs
import numpy as np
import pandas as pd
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from scipy import sparse
from strategies.worlds import command, save_state, tiny_screen

from inverse_design.errors import TargetError
from inverse_design.problem.target import ProfileTarget, ScalarTarget, SignatureTarget
from inverse_design.target_files import (
    ProfileFile,
    ScalarFile,
    ShiftFile,
    SignatureFile,
    read_target_file,
    target_schema,
)
from inverse_design.targets import read_target
from inverse_design.value_tables import text_table
from surrogates.errors import DataError, UnknownNameError

SCREEN = tiny_screen()
SCHEMA = jsonschema_rs.validator_for(json.loads(target_schema()))


def write(path: Path, text: str) -> str:
    path.write_text(text, encoding="utf-8")
    return str(path)


def profile(path: Path, text: str) -> ProfileTarget:
    target = read_target(write(path, text), SCREEN)
    assert isinstance(target, ProfileTarget)
    return target


def test_a_condition_in_any_order() -> None:
    double = SCREEN.labels[-1]
    assert read_target("+".join(reversed(double.split("+"))), SCREEN) == double


@pytest.mark.parametrize("text", ["G0001", "G001+G01", "nothing-like-it", "state.docx"])
def test_a_miss_names_the_nearest(text: str) -> None:
    with pytest.raises(UnknownNameError, match=f"target '{text[:3]}.*(did you mean|known are)"):
        read_target(text, SCREEN)


@pytest.mark.parametrize("text", ["", "  ", "G001+G001", "G001++G002"])
def test_no_condition_at_all(text: str) -> None:
    with pytest.raises(DataError):
        read_target(text, SCREEN)


def test_a_table_by_its_column_names(tmp_path: Path) -> None:
    target = profile(tmp_path / "s.csv", "gene,logFC,lfcSE,weight\nG001,1.5,0.1,2\nG002,-1,0.2,1\n")
    assert target.readouts == ("G001", "G002")
    assert target.values.tolist() == [1.5, -1.0]
    assert target.standard_errors is not None
    assert target.standard_errors.tolist() == [0.1, 0.2]
    assert target.weights is not None
    assert target.weights.tolist() == [2.0, 1.0]
    assert target.name == "s.csv, 'logFC' of each 'gene'"


@pytest.mark.parametrize(
    ("header", "found"),
    [
        ("readout,value", True),
        ("Gene Symbol,avg_log2FC", True),
        ("which,amount", True),
        ("id,log2FoldChange", True),
    ],
)
def test_columns_in_use(tmp_path: Path, header: str, found: bool) -> None:  # noqa: FBT001
    assert (profile(tmp_path / "s.csv", f"{header}\nG001,1.5\n").values.tolist() == [1.5]) is found


def test_parquet_and_tsv_read_alike(tmp_path: Path) -> None:
    frame = pd.DataFrame({"name": ["G001", "G002"], "effect": [1.25, -2.0]})
    frame.to_parquet(tmp_path / "s.parquet")
    frame.to_csv(tmp_path / "s.tsv", sep="\t", index=False)
    for name in ("s.parquet", "s.tsv"):
        target = read_target(str(tmp_path / name), SCREEN)
        assert isinstance(target, ProfileTarget)
        assert target.values.tolist() == [1.25, -2.0]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "cannot be read as a table"),
        ("gene,value\n", "no rows"),
        ("gene,value\nG001,1\nG002,high\n", "'value'.*holds 'high' in row 2 .'G002'.*not a finite number"),
        ("gene,value\nG001,nan\n", "'value' .* holds no numbers"),
        ("gene,value\nG001,\n", "'value' .* holds no numbers"),
        ("gene,value\nG001,inf\n", "holds 'inf'"),
        ("gene,value\nG001,1\nG001,2\n", "'G001' more than once .rows 1 and 2"),
        ("gene,value\n,1\n", "empty in row 1"),
        ("gene,value,value\nG001,1,2\n", "'value'.*occurs 2 times"),
        ("gene,value,effect\nG001,1,2\n", "'value', 'effect'.*both qualify.*toml"),
        ("gene,name,value\nG001,x,2\n", "'gene', 'name'.*both qualify"),
        ("gene,one,two\nG001,1,2\n", "'one', 'two'.*hold numbers"),
        ("gene,remark\nG001,text\n", "no column of numbers"),
        ("1,2\n3,4\n", "no column of names"),
        ("gene,value,se\nG001,1,-2\n", "negative standard error"),
    ],
)
def test_bad_tables_are_refused(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(TargetError, match=message):
        read_target(write(tmp_path / "s.csv", text), SCREEN)


@pytest.mark.parametrize("text", ["gene;value\nG001;0,5\nG002;-1,25\n", 'gene,value\nG001,"0,5"\nG002,"-1,25"\n'])
def test_decimal_commas_are_read(tmp_path: Path, text: str) -> None:
    assert text_table(Path(write(tmp_path / "s.csv", text)))["value"].tolist() == ["0.5", "-1.25"]


@pytest.mark.parametrize("values", [("1,234", "2,500"), ("0,5", "1.25")])
def test_commas_that_may_stand_between_thousands_stay(tmp_path: Path, values: tuple[str, str]) -> None:
    text = f"gene;value\nG001;{values[0]}\nG002;{values[1]}\n"
    assert text_table(Path(write(tmp_path / "s.csv", text)))["value"].tolist() == list(values)


def test_binary_rubbish_is_refused(tmp_path: Path) -> None:
    for name in ("s.csv", "s.parquet", "s.toml", "s.csv.gz"):
        (tmp_path / name).write_bytes(b"\xff\xfe\x00PAR1\x80")
        with pytest.raises(TargetError, match=r"cannot be read|has no rows"):
            read_target(str(tmp_path / name), SCREEN)


def test_a_file_of_unknown_kind(tmp_path: Path) -> None:
    with pytest.raises(TargetError, match="none of the known endings"):
        read_target(write(tmp_path / "s.docx", "x"), SCREEN)


def test_a_missing_file_and_a_folder(tmp_path: Path) -> None:
    with pytest.raises(TargetError, match="no file"):
        read_target(str(tmp_path / "absent.csv"), SCREEN)
    (tmp_path / "folder.csv").mkdir()
    with pytest.raises(TargetError, match="folder"):
        read_target(str(tmp_path / "folder.csv"), SCREEN)


def test_toml_profile_beside_its_table(tmp_path: Path) -> None:
    write(tmp_path / "s.csv", "gene,value,effect\nG001,1,2\n")
    target = profile(tmp_path / "t.toml", 'kind = "profile"\ntable = "s.csv"\nvalue = "effect"\nname = "mine"\n')
    assert (target.name, target.values.tolist()) == ("mine", [2.0])
    inline = profile(tmp_path / "u.toml", 'kind = "profile"\n[values]\nG001 = 3\n')
    assert inline.values.tolist() == [3.0]


def test_toml_signature(tmp_path: Path) -> None:
    path = write(tmp_path / "t.toml", 'kind = "signature"\nup = ["G001"]\ndown = { G002 = 2.5 }\n')
    assert read_target(path, SCREEN) == SignatureTarget("signature", {"G001": 1.0}, {"G002": 2.5})


def test_toml_scalar(tmp_path: Path) -> None:
    path = write(tmp_path / "t.toml", 'kind = "scalar"\nreadout = "G001"\ngoal = "maximize"\n')
    assert read_target(path, SCREEN) == ScalarTarget("G001", "maximise")


def test_toml_shift_of_two_tables(tmp_path: Path) -> None:
    save_state(tmp_path, "G001", "from.csv")
    save_state(tmp_path, "G002", "to.csv")
    target = profile(tmp_path / "t.toml", 'kind = "shift"\nfrom = "from.csv"\nto = "to.csv"\n')
    np.testing.assert_allclose(target.values, SCREEN.effects[2] - SCREEN.effects[1])


def shift_of_cells(folder: Path, **keys: str) -> str:
    values = np.random.default_rng(0).normal(size=(30, 3)) ** 2
    obs = pd.DataFrame({"state": ["a", "b", "c"] * 9 + ["a", "b", "lone"]}, index=[str(row) for row in range(30)])
    var = pd.DataFrame(index=["G001", "G002", "G003"])
    anndata.AnnData(sparse.csr_matrix(values), obs=obs, var=var).write_h5ad(folder / "cells.h5ad")
    stated = {"kind": "shift", "cells": "cells.h5ad", "column": "state", "from": "a", "to": "b"} | keys
    return write(folder / "t.toml", "\n".join(f'{key} = "{value}"' for key, value in stated.items()))


def test_toml_shift_of_cells(tmp_path: Path) -> None:
    target = read_target(shift_of_cells(tmp_path, name="ill to well"), SCREEN)
    values = np.random.default_rng(0).normal(size=(30, 3)) ** 2
    first, second = values[np.r_[0:27:3, 27]], values[np.r_[1:27:3, 28]]
    assert isinstance(target, ProfileTarget)
    assert target.name == "ill to well"
    assert target.standard_errors is not None
    np.testing.assert_allclose(target.values, second.mean(0) - first.mean(0))
    variance = first.var(0, ddof=1) / len(first) + second.var(0, ddof=1) / len(second)
    np.testing.assert_allclose(target.standard_errors, np.sqrt(variance))


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"column": "stat"}, "unknown column of cells 'stat'.*did you mean 'state'"),
        ({"to": "d"}, "unknown group of 'state' 'd'"),
        ({"to": "lone"}, "'lone' of 'state' has 1 cell"),
        ({"cells": "absent.h5ad"}, "is a folder or no file"),
    ],
)
def test_bad_groups_of_cells(tmp_path: Path, keys: dict[str, str], message: str) -> None:
    with pytest.raises(DataError, match=message):
        read_target(shift_of_cells(tmp_path, **keys), SCREEN)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("kind = ", "cannot be read as TOML"),
        ("up = ['A']", "kind must be one of"),
        ('kind = "sign"', "kind must be one of"),
        ('kind = "signature"\nupp = ["A"]', "unknown key 'upp'"),
        ('kind = "signature"\nup = 3', "up.*found 3"),
        ('kind = "signature"\nup = ["A", "A"]', "'A' more than once"),
        ('kind = "signature"', "is empty"),
        ('kind = "profile"', "either a table or values"),
        ('kind = "profile"\nvalue = "effect"\n[values]\nG001 = 1', "name columns of a table"),
        ('kind = "shift"\nto = "x.csv"', "from: Field required"),
        ('kind = "shift"\nfrom = "a"\nto = "b"\ncells = "c.h5ad"', "needs both"),
        ('kind = "scalar"\nreadout = "G001"\ngoal = "reach"', "only 'reach' has one"),
        ('kind = "scalar"\nreadout = "G001"\ngoal = "up"', "goal: Input should be"),
    ],
)
def test_bad_toml_is_refused(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(TargetError, match=message):
        read_target(write(tmp_path / "t.toml", text), SCREEN)


KINDS: dict[str, type] = {
    "profile": ProfileFile,
    "signature": SignatureFile,
    "shift": ShiftFile,
    "scalar": ScalarFile,
}
VALUES = ("minimise", "x", "", 1.5, 3, -1, ["A", "B"], [1], {"A": 1.5}, {"A": "x"}, {}, [])


def written(stated: dict[str, object]) -> str:
    def text(value: object) -> str:
        if isinstance(value, dict):
            return "{" + ", ".join(f'"{key}" = {text(each)}' for key, each in value.items()) + "}"
        return json.dumps(value)

    return "\n".join(f"{key} = {text(value)}" for key, value in stated.items())


def keys_of(form: type) -> set[str]:
    return {"from" if each.name == "start" else each.name for each in fields(form)}


@st.composite
def target_files(draw: st.DrawFn) -> dict[str, object]:
    kind = draw(st.sampled_from([*KINDS, "sign"]))
    keys = sorted(keys_of(KINDS.get(kind, ProfileFile)) - {"kind"})
    named = draw(st.sets(st.sampled_from([*keys, "own"])))
    return {"kind": kind} | {key: draw(st.sampled_from(VALUES)) for key in sorted(named)}


@given(target_files())
@example({"kind": "scalar", "readout": "x", "goal": "minimise"})
@example({"kind": "shift", "from": "x", "to": "x"})
@example({"kind": "signature", "up": {"A": 1.5}, "down": ["A", "B"]})
def test_the_schema_knows_what_the_reader_knows(stated: dict[str, object]) -> None:
    with TemporaryDirectory() as folder:
        path = write(Path(folder) / "t.toml", written(stated))
        try:
            read_target_file(Path(path))
            refused = ""
        except DataError as error:
            refused = str(error)
    if not SCHEMA.is_valid(stated):
        assert "is not a target" in refused
    else:  # what stands together is for the reader alone
        assert "is not a target" not in refused


def test_the_schema_names_every_key_and_says_what_it_is() -> None:
    for kind, form in KINDS.items():
        known = json.loads(target_schema())["$defs"][form.__name__]
        assert set(known["properties"]) == keys_of(form), kind
        assert all(each["description"] for each in known["properties"].values())


def test_the_schema_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    assert command("campaign", "schema", "target") == 0
    assert json.loads(capsys.readouterr().out) == json.loads(target_schema())


PAGE = (Path(__file__).parents[2] / "docs" / "targets.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("kind", KINDS)
def test_the_page_names_every_key(kind: str) -> None:
    section = re.split(rf"^## `{kind}`", PAGE, flags=re.MULTILINE)[1].split("\n## ")[0]
    assert re.findall(r"^\| `(\w+)` \|", section, re.MULTILINE) == list(
        json.loads(target_schema())["$defs"][KINDS[kind].__name__]["properties"]
    )
    for stated in re.findall(r"^```toml\n(.*?)^```$", section, re.MULTILINE | re.DOTALL):
        SCHEMA.validate(tomllib.loads(stated))
