"""The table of costs behind ``inverse_design.plan``: measure and fit it, or check whether plans hold.

Seconds are of processor time of one thread. A plan counts in units of a short trial, which is timed by the same
clock here. Memory is the growth of the resident size at its peak.

Run: python -m benchmarks costs --write; python -m benchmarks costs --check norman2019_expr --limit 300
"""

import argparse
import json
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from functools import partial
from importlib.resources import files
from pathlib import Path

from rich.console import Console

import inverse_design.planning
from benchmarks.costs.held import SYNTHETIC, line_of, measured
from benchmarks.costs.measured import CASES, Sample, alone, table_of
from benchmarks.scale.screens import LargeScreen
from inverse_design.cli.console import output, say
from inverse_design.planning.costs import TABLE, Costs, trial
from surrogates.data.catalogue import is_available, names


def main() -> None:
    """Measure and print; write the table if asked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", action="store_true", help="put the table into the package")
    parser.add_argument(
        "--only", nargs="*", default=list(CASES), choices=CASES, help="what is measured; the rest stays as it was"
    )
    parser.add_argument(
        "--check", nargs="*", metavar="SCREEN", help="check plans instead, on some public screens or all"
    )
    parser.add_argument("--limit", type=int, default=300, help="seconds of processor time that a check may take")
    parser.add_argument("--workers", type=int, default=1, help="cases that are measured at a time")
    asked = parser.parse_args()
    console = output()
    if asked.check is not None:
        check(console, asked.check, limit=asked.limit, workers=asked.workers)
        return
    one_round, samples = trial(time.process_time), list[Sample]()
    cases = [(what, LargeScreen(*sizes)) for what in asked.only for sizes in CASES[what]]
    with ThreadPoolExecutor(asked.workers) as crew:
        for case, found in zip(cases, crew.map(alone, cases), strict=True):
            samples += found
            say(console, f"{case[0]}, {case[1]}: {sum(each.seconds for each in found):.1f} s", "dim")
    costs = table_of(samples, one_round, Costs.measured())
    show(console, samples, costs)
    if asked.write:
        place = Path(str(files(inverse_design.planning).joinpath(TABLE)))
        place.write_text(json.dumps(asdict(costs), indent=1) + "\n", encoding="utf-8")
        say(console, f"wrote {place}")


def show(console: Console, samples: Sequence[Sample], costs: Costs) -> None:
    """Set what was measured beside what the table makes of it."""
    for sample in sorted(samples, key=lambda each: each.kind):
        held = ""
        if sample.bytes is not None:
            held = f"{sample.bytes / 1e6:>9,.0f}{costs.memory(sample.kind, sample.sizes) / 1e6:>9,.0f} MB"
        sizes = "".join(f"{sample.sizes[name]:>7,.0f}" for name in ("singles", "doubles", "readouts"))
        seconds = f"{sample.seconds:>9.2f}{costs.time(sample.kind, sample.sizes):>9.2f} s"
        say(console, f"{sample.kind:22}{sizes}{seconds}{held}")


def check(console: Console, screens: Sequence[str], *, limit: int, workers: int) -> None:
    """Set what plans say beside what proposals take, on the screens that are named or on all."""
    say(console, f"{'':40}{'planned s':>11}{'took s':>9}{'ratio':>7}{'planned MB':>12}{'took MB':>9}{'ratio':>7}")
    cases: list[str | tuple[int, ...]] = [name for name in names() if is_available(name)]
    with ThreadPoolExecutor(workers) as crew:
        for name, found in crew.map(partial(measured, limit=limit), screens or [*cases, *SYNTHETIC]):
            say(console, f"{name:40}{'not done':>11}" if found is None else f"{name:40}{line_of(found)}")


if __name__ == "__main__":
    main()
