"""The verb ``app``: what it refuses, and what it needs to serve."""

import signal
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from strategies.worlds import command

from inverse_design.app.sessions import hashed
from inverse_design.cli.verbs import page


def test_a_user_is_printed_apart_from_the_token(capsys: pytest.CaptureFixture[str]) -> None:
    assert command("app", "--new-user", 'Ann "B"') == 0
    printed = capsys.readouterr()
    token = printed.err.split()[-1]
    assert tomllib.loads(printed.out) == {'Ann "B"': {"token_sha256": hashed(token), "role": "teller"}}
    assert token not in printed.out


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--host", "0.0.0.0"), "say who may enter with --users"),  # noqa: S104 - which is refused
        (("--users", "none.toml"), "cannot be read"),
        (("--most", "0"), "takes no file at all"),
        (("--port", "70000"), "nothing can listen at '127.0.0.1', port 70000"),
        (("--host", "a" * 70, "--users", "one.toml"), "nothing can listen at"),
        (("--new-user", "a\u202eb"), "printable"),
    ],
)
def test_what_cannot_be_served_is_refused(
    words: tuple[str, ...],
    said: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (tmp_path / "one.toml").write_text(f'[ann]\ntoken_sha256 = "{"0" * 64}"\n')
    monkeypatch.chdir(tmp_path)
    assert command("app", "store.db", *words) == 3
    assert said in capsys.readouterr().err


def test_a_page_that_its_owner_stops_has_done_its_work(tmp_path: Path) -> None:
    serving = [sys.executable, "-m", "inverse_design", "app", str(tmp_path / "store.db")]
    with subprocess.Popen(serving, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:  # noqa: S603
        assert "/enter?token=" in process.stdout.readline()
        process.send_signal(signal.SIGINT)
        said = process.communicate()[1]
    assert process.returncode == 0
    assert said == "the page has ended; campaigns are as they were recorded\n"


def test_without_the_extra_the_verb_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(page, "find_spec", lambda name: None if name == "fastapi" else object())
    assert command("app", "store.db") == 3
    assert 'pip install "inverse-design[app]"' in capsys.readouterr().err


def test_nothing_else_imports_the_web_framework() -> None:
    asked = (
        "import sys, inverse_design.cli.app; print({'fastapi', 'uvicorn', 'starlette', 'torch'} & {*sys.modules})"
    )
    done = subprocess.run([sys.executable, "-c", asked], capture_output=True, text=True, check=True)  # noqa: S603
    assert done.stdout == "set()\n"
