"""The last door: one line and a documented exit code, whatever is raised, signalled or full behind it."""

import os
import signal
import stat
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest

from inverse_design.cli.door import EXIT_CODES, behind_the_door
from inverse_design.errors import NothingToProposeError, StoreError
from surrogates.errors import DataError

SECRET = "hunter2"  # noqa: S105 - to be masked
WORDS = ("campaign", "status", "--store", f"postgresql://ann:{SECRET}@server/screens")


def leave(error: BaseException, words: tuple[str, ...] = WORDS) -> int:
    """Raise an error behind the door."""

    def work(_: object) -> None:
        raise error

    return behind_the_door(words, work)


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (DataError("bad"), 3),
        (StoreError("bad"), 3),
        (OSError(28, "No space left on device", "a.csv"), 3),
        (MemoryError(), 3),
        (NothingToProposeError("none"), 4),
        (KeyboardInterrupt(), 130),
        (ZeroDivisionError(), 70),
        (RecursionError("deep"), 70),
        (UnicodeDecodeError("utf-8", b"\xff", 0, 1, "bad"), 70),
    ],
    ids=repr,
)
def test_every_error_is_one_line_and_a_documented_code(
    error: BaseException,
    code: int,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    assert leave(error) == code
    assert code in EXIT_CODES
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.count("\n") == 1
    assert len(list(tmp_path.iterdir())) == (code == 70)


def test_the_report_of_a_fault_holds_versions_and_the_command_but_no_data(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    error = KeyError("patient 7")
    error.__cause__ = ValueError(f"patient 8 of {WORDS[-1]}")
    assert leave(error) == 70
    (report,) = tmp_path.iterdir()
    text, said = report.read_text(), capsys.readouterr().err
    assert str(report) in said
    assert stat.S_IMODE(report.stat().st_mode) == 0o600
    assert "command: inverse-design campaign status --store 'postgresql://ann:***@server/screens'" in text
    assert f"python {sys.version.split()[0]}" in text
    for package in ("numpy", "torch", "SQLAlchemy"):
        assert package.casefold() in text.casefold()
    assert "in work" in text  # where it was raised
    assert text.rstrip().endswith("KeyError")
    assert "ValueError" in text
    assert "patient" not in text
    assert SECRET not in text + said


def test_a_report_that_cannot_be_written_does_not_hide_the_fault(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "missing"))
    assert leave(ZeroDivisionError("by nought")) == 70
    assert "(ZeroDivisionError: by nought); no report of it could be written" in capsys.readouterr().err


# Says "ready" when a worker runs and a file is half-written, then waits.
STOPPED = """
import sys, time
from multiprocessing import get_context
from pathlib import Path
from inverse_design.cli.door import behind_the_door
from surrogates.whole_file import write_whole

def fill(part):
    part.write_text("half")
    print("ready", flush=True)
    time.sleep(60)

def work(_):
    get_context("spawn").Process(target=time.sleep, args=(60,), name="worker").start()
    write_whole(Path(sys.argv[1]), fill)

if __name__ == "__main__":
    sys.exit(behind_the_door((), work))
"""


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="processes are listed in /proc")
def test_a_signal_in_the_middle_of_a_write_leaves_the_old_file_and_no_worker(
    number: signal.Signals, code: int, tmp_path: Path
) -> None:
    (tmp_path / "stopped.py").write_text(STOPPED)
    out = tmp_path / "out"
    out.mkdir()
    (out / "a.csv").write_text("old")
    words = [sys.executable, str(tmp_path / "stopped.py"), str(out / "a.csv")]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, sys.path))}
    with subprocess.Popen(  # noqa: S603
        words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment, start_new_session=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        process.send_signal(number)
        _, said = process.communicate(timeout=30)
    assert process.returncode == code
    assert said == f"error: {EXIT_CODES[code].split(' ')[0]}; nothing was left half-written\n"
    assert [each.name for each in out.iterdir()] == ["a.csv"]
    assert (out / "a.csv").read_text() == "old"
    latest = time.monotonic() + 10
    while left := alive_in(process.pid):  # what was killed takes a moment to end
        assert time.monotonic() < latest, left
        time.sleep(0.02)


def alive_in(session: int) -> list[str]:
    """List the processes of a session that have not ended."""
    found = []
    for status in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = status.read_text().rpartition(")")[2].split()
        except OSError:  # ended meanwhile
            continue
        if int(fields[3]) == session and fields[0] not in "ZX":
            found.append(status.parent.name)
    return found
