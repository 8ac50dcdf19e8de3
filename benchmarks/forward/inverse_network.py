"""Does an inverse network name held-out doubles as well as the models that are searched?

The protocol of ``inverse-design benchmark retrieval``: each double of two genes measured alone is held out in one
of five folds, and is the target once; all pairs of measured genes are ranked, ties against the truth. The network
is trained without the fold, and scores a pair by the sum of its genes' scores. Beside it, on the same targets: the
sum on the genes' own readouts, the additive model, and with --default the default of the software.

Run: python -m benchmarks inverse_network --default
"""

import argparse
import math
import time
from pathlib import Path

import torch
from jaxtyping import Int
from torch import Tensor

from inverse_design.validate.judged import variants_of
from inverse_design.validate.retrieval import (
    DEFAULT,
    METHODS,
    OWN_READOUTS,
    YARDSTICK,
    Retrieval,
    RetrievalReport,
    measure_retrieval,
    retrieval_rows,
)
from surrogates.contrib.regulation.inverse_network import InverseNetwork
from surrogates.data.catalogue import open_dataset
from surrogates.data.novelty import double_splits
from surrogates.data.screen import Screen
from surrogates.evaluation.intervals import write_json

NAME = "inverse network"
METRICS = ("top1", "top1_gain", "top10", "mrr", "median_rank")


def ranks(screen: Screen, model: InverseNetwork, *, seed: int) -> Int[Tensor, "n"]:
    """Rank the truth of every held-out double among all pairs of genes measured alone.

    Args:
        screen: Singles and doubles.
        model: The network, trained without each fold.
        seed: Fixes folds and trainings.

    Returns:
        One rank for each target, in the order of the folds; one is best.
    """
    found = []
    for split in double_splits(screen, seed=seed):
        training = screen.rows(split.train)
        begin = time.process_time()
        fitted = model.fit(training, seed=seed)
        print(f"  {time.process_time() - begin:.0f} s, {fitted.training.epochs} epochs", flush=True)
        entries = torch.nonzero(training.single_rows >= 0).flatten()
        i, j = torch.combinations(torch.arange(len(entries))).T
        scores = fitted.scores(screen.effects[split.test])
        pairs = scores[:, entries[i]] + scores[:, entries[j]]
        truth = scores.gather(1, screen.batch.genes[split.test][:, :2]).sum(1, keepdim=True)
        found.append((pairs >= truth).sum(1))
    return torch.cat(found)


def main() -> None:
    """Measure and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--default", action="store_true", help="the default of the software, too")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    screen = open_dataset("norman2019_expr")
    names = (YARDSTICK, OWN_READOUTS, *([DEFAULT] if arguments.default else []))
    report = measure_retrieval(screen, methods={name: METHODS[name] for name in names}, seed=arguments.seed)
    every = {}
    for variant, view in variants_of(screen).items():
        rank = ranks(view, InverseNetwork(), seed=arguments.seed)
        unknown = torch.full((len(rank),), math.nan, dtype=torch.float64)
        every[variant] = {**report.found[variant], NAME: Retrieval(rank, unknown, unknown, unknown)}
    whole = RetrievalReport(report.conditions, every)
    rows = retrieval_rows(whole, screen, dataset="norman2019_expr", seed=arguments.seed)
    for row in rows:
        if row.metric in METRICS:
            bounds = f"{row.value:8.3f} [{row.low:.3f}, {row.high:.3f}]"
            print(f"{row.variant:26}{row.model:24}{row.metric:12}{bounds}  n={row.n}")
    if arguments.json:
        write_json(rows, arguments.json)


if __name__ == "__main__":
    main()
