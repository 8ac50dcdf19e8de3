"""Settings from a file, from flags, and from both: flags first, unknown keys with the nearest one."""

from pathlib import Path

import pytest

from inverse_design.campaign.settings import read_settings
from inverse_design.errors import SettingsError

TEXT = """
name = "screen 7"
target = "CEBPE+KLF1"
batch_size = 16
exclude = ["AHR"]
incompatible = [["KLF1", "SPI1"]]

[costs]
KLF1 = 12.5
"""


def written(folder: Path, text: str) -> Path:
    path = folder / "campaign.toml"
    path.write_text(text, encoding="utf-8")
    return path


def test_a_file_says_everything(tmp_path: Path) -> None:
    settings = read_settings(written(tmp_path, TEXT), {})
    assert (settings.name, settings.target, settings.batch_size) == ("screen 7", "CEBPE+KLF1", 16)
    assert settings.exclude == ("AHR",)
    assert settings.incompatible == (("KLF1", "SPI1"),)
    assert settings.costs == {"KLF1": 12.5}


def test_flags_have_precedence(tmp_path: Path) -> None:
    settings = read_settings(written(tmp_path, TEXT), {"batch_size": 8, "target": "KLF1"})
    assert (settings.batch_size, settings.target, settings.name) == (8, "KLF1", "screen 7")


def test_flags_do_without_a_file() -> None:
    assert read_settings(None, {"name": "a", "target": "KLF1"}).name == "a"


def test_a_target_file_is_looked_for_beside_the_settings(tmp_path: Path) -> None:
    (tmp_path / "goal.toml").write_text("", encoding="utf-8")
    path = written(tmp_path, TEXT.replace("CEBPE+KLF1", "goal.toml"))
    assert read_settings(path, {}).target == str(tmp_path / "goal.toml")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (TEXT.replace("batch_size", "batchsize"), "campaign.toml.*unknown key 'batchsize'.*'batch_size'"),
        (TEXT.replace("16", '"many"'), "batch_size.*'many'"),
        (TEXT.replace('name = "screen 7"', ""), "need the key 'name'"),
        (TEXT.replace('target = "CEBPE+KLF1"', ""), "need the key 'target'"),
        (TEXT.replace("16", "sixteen"), "cannot be read as TOML"),
        (TEXT.replace("12.5", "-1"), "costs.KLF1 = -1"),
    ],
)
def test_unusable_files_are_refused(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        read_settings(written(tmp_path, text), {})


def test_other_files_are_refused(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"must be a file that ends with \.toml"):
        read_settings(tmp_path / "campaign.yaml", {})
    with pytest.raises(SettingsError, match="a folder or no file"):
        read_settings(tmp_path / "absent.toml", {})
