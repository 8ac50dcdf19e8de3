"""How long is it from an installed package to candidates of one's own in a report?

A new user's commands, one after the other in an empty folder and with an empty cache: the demonstration, a look at
the data, a target of one's own and a report. The data are those of ``examples/``, or any that are named.

Run: python -m benchmarks first_minutes --screen examples/screen.csv --target examples/target.csv
"""

import argparse
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from inverse_design.cli.console import output, say
from inverse_design.cli.grid import Column, Grid

BAR = 300.0  # seconds
_EXAMPLES = Path(__file__).parents[2] / "examples"


def commands(screen: str, target: str) -> tuple[tuple[str, ...], ...]:
    """List what a new user types."""
    return (
        ("--help",),
        ("demo",),
        ("check", screen),
        ("propose", screen, "--target", target, "--report", "report.html", "-o", "candidates.csv", "--yes"),
    )


def measure(lines: tuple[tuple[str, ...], ...], folder: Path) -> list[tuple[float, float]]:
    """Time each command in a process of its own, in a folder that has nothing: by the clock, and of processors."""
    empty = {**os.environ, "INVERSE_DESIGN_CACHE": str(folder / "cache")}
    seconds = []
    for words in lines:
        begun, worked = time.perf_counter(), _worked()
        line = [sys.executable, "-m", "inverse_design", *words]
        subprocess.run(line, cwd=folder, env=empty, check=True, capture_output=True)  # noqa: S603
        seconds.append((time.perf_counter() - begun, _worked() - worked))
    return seconds


def _worked() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def main() -> int:
    """Measure, print the table, and tell whether the bar is met."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--screen", default=str(_EXAMPLES / "screen.csv"), help="a file, or a name of the catalogue"
    )
    parser.add_argument("--target", default=str(_EXAMPLES / "target.csv"))
    asked = parser.parse_args()
    lines = commands(
        *(str(Path(word).absolute()) if Path(word).exists() else word for word in (asked.screen, asked.target))
    )
    with tempfile.TemporaryDirectory() as folder:
        seconds = measure(lines, Path(folder))
        report = Path(folder) / "report.html"
        size = report.stat().st_size
    shown = (*(" ".join(("inverse-design", *(Path(word).name for word in words))) for words in lines), "in all")
    clock, worked = ([*each, sum(each)] for each in zip(*seconds, strict=True))
    columns = [
        Column(name, tuple(f"{each:.1f}" for each in times), "right")
        for name, times in (("seconds", clock), ("of processors", worked))
    ]
    Grid((Column("command", shown), *columns)).show(output())
    say(output(), f"report of {size / 1e6:.2f} MB; the bar is {BAR:g} s by the clock")
    return 0 if clock[-1] <= BAR else 1


if __name__ == "__main__":
    sys.exit(main())
