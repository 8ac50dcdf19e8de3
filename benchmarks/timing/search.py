"""How long does the exact search over all pairs take, beside a bare matrix product?

Run: python -m benchmarks search --genes 10000 --json search.json
"""

import argparse
import math
from dataclasses import replace
from pathlib import Path

import torch

from benchmarks.scale.search import search_rows
from benchmarks.scale.search_cases import EffectShape
from inverse_design.cli.console import output, say
from inverse_design.cli.verbs.retrieval import show_rows
from surrogates.data.catalogue import is_available, open_dataset
from surrogates.evaluation.intervals import write_json

_SHAPED = "norman2019_expr"  # what effects of realistic problems are like


def main() -> None:
    """Measure, print the table, and write the rows."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--genes", type=int, default=10_000)
    parser.add_argument("--repeats", type=int, default=5, help="how often both are timed")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path)
    asked = parser.parse_args()
    shape = EffectShape.of(open_dataset(_SHAPED), name=_SHAPED) if is_available(_SHAPED) else None
    rows = search_rows(genes=asked.genes, repeats=asked.repeats, shape=shape, seed=asked.seed)
    if shape is None:
        say(output(), f"effects like those of {_SHAPED} are left out: its data are not here (docs/guides/data.md)")
    pairs = math.comb(asked.genes, 2)
    say(output(), f"all {pairs:,} pairs, exact top 1,000, {torch.get_num_threads()} threads")
    say(output(), "median [fastest, slowest] of the repeats; seconds, peak memory in MB")
    show_rows(output(), [replace(row, variant=f"{row.variant} dimensions") for row in rows])
    if asked.json:
        write_json(rows, asked.json)


if __name__ == "__main__":
    main()
