"""How long does the search over all pairs with networks take, exactly?

Run: python -m benchmarks neural --genes 4000 --json neural.json
"""

import argparse
import math
from pathlib import Path

import torch

from benchmarks.scale.decoded import decoded_rows
from inverse_design.cli.console import output, say
from inverse_design.cli.verbs.retrieval import show_rows
from surrogates.evaluation.intervals import write_json


def main() -> None:
    """Measure, print the table, and write the rows."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--genes", type=int, default=2000)
    parser.add_argument("--members", type=int, default=1, help="how many networks")
    parser.add_argument("--repeats", type=int, default=1)
    parser.add_argument("--seed", type=int, default=0, help="fixes the networks and the target")
    parser.add_argument("--json", type=Path)
    asked = parser.parse_args()
    rows = decoded_rows(genes=asked.genes, members=asked.members, repeats=asked.repeats, seed=asked.seed)
    pairs = math.comb(asked.genes, 2)
    say(output(), f"all {pairs:,} pairs, top 100, {torch.get_num_threads()} threads")
    say(output(), "median [fastest, slowest] of the repeats; seconds, peak memory in MB")
    show_rows(output(), rows)
    if asked.json:
        write_json(rows, asked.json)


if __name__ == "__main__":
    main()
