"""How long does the search over all pairs with an ensemble of networks take: exhaustive, and in two stages?

Run: python -m benchmarks neural --genes 10000 --json neural.json
"""

import argparse
import math
from pathlib import Path

import torch

from benchmarks.scale.decoded import decoded_rows
from inverse_design.cli.console import output, say
from inverse_design.cli.tables import show_rows
from surrogates.evaluation.rows import write_json


def main() -> None:
    """Measure, print the table, and write the rows."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--genes", type=int, default=10_000)
    parser.add_argument("--repeats", type=int, default=1)
    parser.add_argument("--seed", type=int, default=0, help="fixes the networks, the target and the landmarks")
    parser.add_argument("--json", type=Path)
    asked = parser.parse_args()
    rows = decoded_rows(genes=asked.genes, repeats=asked.repeats, seed=asked.seed)
    pairs = math.comb(asked.genes, 2)
    say(output(), f"all {pairs:,} pairs, top 100, {torch.get_num_threads()} threads")
    say(output(), "median [fastest, slowest] of the repeats; seconds, peak memory in MB; recall of the scan")
    show_rows(output(), rows)
    if asked.json:
        write_json(rows, asked.json)


if __name__ == "__main__":
    main()
