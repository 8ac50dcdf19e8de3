"""How long does it take to find and prove the best of all triples of a genome? Norms as in a real screen.

Genes have random directions in 64 dimensions, and norms drawn from the single effects of `norman2019_expr`; see
:func:`benchmarks.scale.triples.triple_rows`.

Run: python -m benchmarks triples --seed 0 --json triples.json
"""

import argparse
from pathlib import Path

import torch

from benchmarks.scale.triples import effect_norms, triple_rows
from surrogates.data.catalogue import open_dataset
from surrogates.evaluation.intervals import write_json


def main() -> None:
    """Measure, print the table, and write the rows."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--genes", type=int, default=10_000)
    parser.add_argument("--seconds", type=float, default=120.0)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--json", type=Path)
    asked = parser.parse_args()
    torch.set_num_threads(asked.threads)
    norms = effect_norms(open_dataset("norman2019_expr"))
    rows = triple_rows(norms=norms, genes=asked.genes, seconds=asked.seconds, seed=asked.seed)
    for row in rows:
        print(f"{row.variant:48}{row.metric:16}{row.value:12.4g}  {row.unit}")
    if asked.json:
        write_json(rows, asked.json)


if __name__ == "__main__":
    main()
