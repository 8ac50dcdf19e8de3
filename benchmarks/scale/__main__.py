"""How do time and memory of a proposal grow with the screen, from 250 singles to the 9,800 of a genome-wide one?

Every case has a process of its own, which is stopped when it takes more processor time than ``--limit``.

Run: python -m benchmarks scale --singles 250 500 1000 2000 9800 --doubles 0 130
"""

import argparse
import math

from benchmarks.scale.path import PathCost, growth, path_cost
from benchmarks.scale.screens import LargeScreen
from inverse_design.cli.console import output, say


def main() -> None:
    """Measure case after case, and print each."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--singles", type=int, nargs="+", default=[250, 500, 1000, 2000])
    parser.add_argument("--doubles", type=int, nargs="+", default=[0, 130])
    parser.add_argument("--readouts", type=int, default=8000)
    parser.add_argument("--limit", type=int, default=600, help="seconds of processor time that a case may take")
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args()
    console = output()
    say(console, "CPU s: processor time of all threads; copies: peak memory, in copies of the effects")
    for doubles in asked.doubles:
        costs: list[PathCost] = []
        say(console)
        say(console, f"{doubles} doubles, {asked.readouts:,} readouts", "bold")
        say(console, f"{'singles':>8}{'fit CPU s':>11}{'copies':>8}{'search CPU s':>14}{'copies':>8}{'growth':>8}")
        for singles in asked.singles:
            screen = LargeScreen(singles, asked.readouts, doubles, asked.seed)
            costs.append(path_cost(screen, limit=asked.limit))
            say(console, _line(costs[-2:]))


def _line(costs: list[PathCost]) -> str:
    cost, exponents = costs[-1], growth(costs)
    if math.isnan(cost.fit.seconds):
        return f"{cost.asked.singles:>8,}  stopped"
    fit, search = cost.fit, cost.search
    grown = f"{exponents[0]:>8.2f}" if exponents and not math.isnan(exponents[0]) else ""
    return (
        f"{cost.asked.singles:>8,}{fit.seconds:>11.1f}{fit.copies:>8.1f}{search.seconds:>14.1f}"
        f"{search.copies:>8.1f}{grown}"
    )


if __name__ == "__main__":
    main()
