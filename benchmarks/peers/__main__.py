"""The exact search over all pairs beside other searches for the same pair: time, memory, and what is found.

Each method has a process of its own. BayBE is left out unless `benchmarks/requirements-peers.txt` is installed;
see :func:`benchmarks.peers.run.measure_peers`.

Run: python -m benchmarks peers --threads 2 --seed 0 --json search.json
"""

import argparse
from pathlib import Path

from benchmarks.peers.command import show_peers
from benchmarks.peers.run import GENES, METHODS, Comparison, measure_peers
from inverse_design.cli.console import output, say
from surrogates.evaluation.intervals import write_json


def main() -> None:
    """Measure, print the tables, and write the rows."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--genes", type=int, nargs="+", default=GENES)
    parser.add_argument("--methods", nargs="+", default=METHODS)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--budget", type=float, default=600.0, help="seconds that one method may take")
    parser.add_argument("--json", type=Path)
    asked = parser.parse_args()
    comparison = Comparison(
        genes=tuple(asked.genes),
        methods=tuple(asked.methods),
        budget=asked.budget,
        threads=asked.threads,
        seed=asked.seed,
        triples=max(asked.genes),
    )
    report = measure_peers(comparison)
    for reason in report.skipped:
        say(output(), f"skipped: {reason}")
    show_peers(output(), report.rows, threads=asked.threads, k=comparison.k)
    if asked.json:
        write_json(report.rows, asked.json)


if __name__ == "__main__":
    main()
