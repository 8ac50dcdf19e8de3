"""How long do single cells take to become effects, beside their decompression alone and scanpy's aggregation?

Cells are values of a log-normalised matrix, CSR with gzip as anndata writes it. Of two workers: half of the
processor time, how many times less that is than one takes alone, and how many times less time passes (which says
something on a quiet machine).

Run: python -m benchmarks cells --cells 10000 100000 --conditions 150 5000
"""

import argparse
import math
import tempfile
from pathlib import Path

from benchmarks.timing.cell_costs import CellFile, aggregated, cost_of, decompressed, in_two, labelled, summed
from inverse_design.cli.console import output, say


def main() -> None:
    """Measure file after file, and print each."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cells", type=int, nargs="+", default=[10_000, 100_000])
    parser.add_argument("--conditions", type=int, nargs=2, default=[150, 5000])
    parser.add_argument("--readouts", type=int, default=10_000)
    asked = parser.parse_args()
    few, many = asked.conditions
    console = output()
    say(console, f"CPU s, and in brackets in units of decompression; {asked.readouts:,} readouts")
    head = (
        "cells",
        "decompressed",
        f"{few:,} conditions",
        f"{many:,} (to {few:,})",
        "two workers",
        "scanpy",
        "peak GB",
    )
    say(console, "".join(f"{each:>24}" for each in head))
    before: tuple[int, float] | None = None
    with tempfile.TemporaryDirectory() as folder:
        for cells in asked.cells:
            path = Path(folder) / "cells.h5ad"
            CellFile(cells, asked.readouts).write(path)
            labelled(path, few)
            alone, first, two, theirs = (cost_of(way, path) for way in (decompressed, summed, in_two, aggregated))
            labelled(path, many)
            second = cost_of(summed, path)
            path.unlink()
            shared = two.seconds / 2
            row = (
                f"{cells:,}",
                f"{alone.seconds:.2f}",
                f"{first.seconds:.2f} ({first.seconds / alone.seconds:.2f})",
                f"{second.seconds:.2f} ({second.seconds / first.seconds:.2f})",
                f"{shared:.2f} ({first.seconds / shared:.2f}, {first.wall / two.wall:.2f} x)",
                f"{theirs.seconds:.2f} ({theirs.seconds / alone.seconds:.2f})",
                f"{first.peak:.2f}, {second.peak:.2f}; {theirs.peak:.2f}",
            )
            say(console, "".join(f"{each:>24}" for each in row))
            if before is not None:
                grown = math.log(first.seconds / before[1]) / math.log(cells / before[0])
                say(console, f"{'growth':>24}{grown:>24.2f}")
            before = cells, first.seconds


if __name__ == "__main__":
    main()
