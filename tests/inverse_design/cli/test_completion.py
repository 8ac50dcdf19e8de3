"""Shells complete verbs and options, by scripts that are made without torch."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from cyclopts.completion.detect import ShellDetectionError
from strategies.worlds import command

MAKE = (
    "import sys; from inverse_design.cli.app import main; code = main(sys.argv[1:]);"
    "sys.exit(code or ' '.join({'torch', 'pandas', 'numpy'} & set(sys.modules)) or 0)"
)
COMPLETE = (
    'source "$1"; shift; COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); _inverse_design;'
    ' printf "%s\n" "${COMPREPLY[@]}"'
)


@pytest.fixture(scope="module")
def scripts(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The scripts for two shells, made as a user makes them."""
    folder = tmp_path_factory.mktemp("completion")
    made = {shell: folder / f"{shell}-completion" for shell in ("bash", "zsh")}
    for shell, path in made.items():
        words = [sys.executable, "-c", MAKE, "--install-completion", "--shell", shell, "-o", str(path)]
        home = {**os.environ, "HOME": str(folder)}  # where the shell's own file gets a line
        done = subprocess.run(words, capture_output=True, text=True, check=False, env=home)  # noqa: S603
        assert (done.returncode, done.stderr) == (0, "")
    return made


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["camp"], {"campaign"}),
        (["campaign", "re"], {"retract", "report", "restore"}),
        (["propose", "x.csv", "--tar"], {"--target", "--target-col"}),
        (["propose", "x.csv", "--measured", "l"], {"leave-out"}),
    ],
)
def test_bash_completes(words: list[str], expected: set[str], scripts: dict[str, Path]) -> None:
    line = ["/bin/bash", "-c", COMPLETE, "bash", str(scripts["bash"]), "inverse-design", *words]
    done = subprocess.run(line, capture_output=True, text=True, check=True)  # noqa: S603
    assert set(done.stdout.split()) == expected


def test_zsh_is_offered_the_same(scripts: dict[str, Path]) -> None:
    script = scripts["zsh"].read_text()
    assert script.startswith("#compdef inverse-design\n")
    assert all(word in script for word in ("retract", "--target-col", "leave-out"))
    zsh = shutil.which("zsh")
    if zsh is not None:
        subprocess.run([zsh, "-n", str(scripts["zsh"])], check=True)  # noqa: S603


def test_a_shell_that_is_not_known_is_asked_for(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def unknown() -> str:
        raise ShellDetectionError

    monkeypatch.setattr("cyclopts.completion.detect.detect_shell", unknown)
    assert command("--install-completion") == 2
    assert "specify --shell" in capsys.readouterr().err
