"""What becomes of a process that reads a damaged or crafted file?

Small sound files of every kind that is read are changed: bytes at random, and by what their format means. Each is
read in a process that may die of it. Counted are: read, refused with a reason, and what must not be:
traceback, crash by a signal, hang over 5 s, more than 2 GB of memory.

Run: python -m benchmarks hostile_files --mutants 20000 --seed 0
"""

import argparse
import time
from collections import Counter

from benchmarks.hostile_files.workers import Outcome, outcomes

FINE = ("read", "refused")
BAD = ("traceback", "crash", "hang", "memory")


def main() -> int:
    """Make, read and count."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mutants", type=int, default=20_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--minutes", type=float, default=float("inf"), help="stop after this long, wherever it is")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--only", default="", help="samples whose name and ending hold this, such as .h5ad")
    parser.add_argument("--number", type=int, help="only this mutant, with what is said of it")
    parser.add_argument("--show", type=int, default=40, help="how many kinds of failures to print")
    asked = parser.parse_args()
    numbers = range(asked.mutants) if asked.number is None else [asked.number]
    counts: Counter[str] = Counter()
    by_what: Counter[tuple[str, str]] = Counter()
    failures: dict[tuple[str, str], list[Outcome]] = {}
    started = time.monotonic()
    for found in outcomes(numbers, seed=asked.seed, workers=asked.workers, only=asked.only):
        counts[found.verdict] += 1
        by_what[found.what.partition(" ")[0], found.verdict] += 1
        if found.verdict in BAD:
            failures.setdefault((found.verdict, _kind(found)), []).append(found)
        if time.monotonic() - started > 60 * asked.minutes:
            break
        if asked.number is not None or found.verdict in BAD:
            print(found, flush=True)
    for (verdict, kind), some in sorted(failures.items(), key=lambda each: -len(each[1]))[: asked.show]:
        first = some[0]
        print(f"{verdict} x {len(some)}: {kind}\n    mutant {first.number}, {first.what}, {first.change}")
        print(f"    {first.said[:400]}")
    for what in sorted({name for name, _ in by_what}):
        print(f"{what:18}" + "  ".join(f"{verdict} {by_what[what, verdict]}" for verdict in (*FINE, *BAD)))
    print("  ".join(f"{verdict} {counts[verdict]:,}" for verdict in (*FINE, *BAD)))
    return 1 if any(counts[verdict] for verdict in BAD) else 0


def _kind(found: Outcome) -> str:
    """Outcomes of one kind failed in the same place with the same error."""
    kind, _, place = found.said.partition(" at ")
    return f"{kind.partition(':')[0]} {' '.join(place.split()[-2:])}" if place else found.said[:30]


if __name__ == "__main__":
    raise SystemExit(main())
