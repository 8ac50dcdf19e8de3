"""Does another forward model change the list? First candidates for held-out doubles, model by model.

One fold of doubles is held out. Each model is fitted to the rest with its error model, as by ``propose --model``,
and ranks all pairs of genes for the measured state of each held-out double. Lists of the first ten are compared:
the share that two models have in common, and whether they begin with the same pair. Beside them stands where each
model puts the pair that made the state. Targets' own readouts stay in.

Intervals are 95 % by a bootstrap of the genes of the targets. The models that are compared by default are cheap;
causal and latent_additive take minutes each, and have to be named.

Run: python -m benchmarks agreement --targets 26 --json agreement.json
"""

import argparse
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from jaxtyping import Float, Int
from torch import Tensor

from inverse_design.fitting import calibrated_fit
from inverse_design.problem.constraints import Constraints
from inverse_design.problem.likelihood import TargetLikelihood
from inverse_design.problem.problem import candidate_space
from inverse_design.problem.target import AlignedProfile
from surrogates.data.catalogue import open_dataset
from surrogates.data.novelty import double_splits
from surrogates.data.screen import Screen
from surrogates.errors import DataError
from surrogates.evaluation.intervals import NodeBootstrap, Row, target_nodes, write_json
from surrogates.models.registry import SURROGATES

DATASET = "norman2019_expr"
FIRST = 10
CHEAP = (
    "additive",
    "scaled_additive",
    "ridge",
    "interaction",
    "denoised_additive",
    "denoised_interaction",
)


@dataclass(frozen=True)
class Lists:
    """What one model puts first for every target."""

    first: Int[Tensor, "t k"]  # numbers of the first candidates
    rank: Int[Tensor, "t"]  # of the pair that made the state; ties count against it
    seconds: float  # of fit and search


def lists(
    screen: Screen,
    train: Int[Tensor, "n"],
    targets: Int[Tensor, "t"],
    model: str,
    *,
    seed: int,
    first: int = FIRST,
) -> Lists:
    """Rank all pairs for each target by one model."""
    start = time.perf_counter()
    training = screen.rows(train)
    space = candidate_space(training, "2", Constraints(measured="keep"))
    fitted = calibrated_fit(training, model, unseen=False, seed=seed)
    batch = space.batch(0, space.size)
    i, j = (torch.searchsorted(space.entries, batch.genes[:, slot].contiguous()) for slot in (0, 1))
    places = {pair: number for number, pair in enumerate(zip(i.tolist(), j.tolist(), strict=True))}
    none = torch.zeros(len(fitted.vocabulary), dtype=torch.float64)
    found, ranks = [], []
    for row in targets.tolist():
        effect = screen.effects[row]
        asked = TargetLikelihood(AlignedProfile.exact(range(len(effect)), effect), none)
        score = asked.pair_score(fitted, space)
        values = asked.utility(fitted, batch).mean if score is None else score.exact(i, j)
        if float(values.amax()) == float(values.amin()):
            raise DataError(f"{model!r} expects the same of all pairs, and ranks none")
        made = torch.searchsorted(space.entries, screen.batch.genes[row, :2].contiguous())
        truth = places[int(made.amin()), int(made.amax())]
        found.append(values.topk(first).indices)
        ranks.append(int((values >= values[truth]).sum()))
    return Lists(torch.stack(found), torch.tensor(ranks), time.perf_counter() - start)


def shared(one: Int[Tensor, "t k"], other: Int[Tensor, "t k"]) -> Float[Tensor, "t"]:
    """Say which share of two lists of candidates is in both."""
    return (one[:, :, None] == other[:, None]).any(2).double().mean(1)


def run(models: Sequence[str], *, count: int, seed: int) -> list[Row]:
    """Compare the lists of every two models."""
    screen = open_dataset(DATASET)
    split = next(iter(double_splits(screen, seed=seed)))
    targets = split.test[:count]
    draws = NodeBootstrap.of(target_nodes(screen.batch.rows(targets), screen.vocabulary), seed=seed)
    found: dict[str, Lists] = {}
    for name in models:
        try:
            found[name] = lists(screen, split.train, targets, name, seed=seed)
        except DataError as error:
            print(f"refused: {name!r}: {error}", flush=True)
            continue
        print(f"{name}: {found[name].seconds:.0f} s", flush=True)

    def row(model: str, metric: str, values: Float[Tensor, "t"], unit: str = "share") -> Row:
        value, bounds = float(values.mean()), draws.interval(values)
        return Row(
            "agreement", DATASET, model, "double, 2 of 2 seen", "", metric, value, *bounds, len(targets), unit
        )

    rows = []
    for name, own in found.items():
        rank = own.rank.double()
        rows += [row(name, f"top{most}", (rank <= most).double()) for most in (1, FIRST)]
        rows.append(row(name, "mrr", 1 / rank))
        for other, theirs in found.items():
            rows.append(row(name, f"overlap_{other}", shared(own.first, theirs.first)))
            rows.append(row(name, f"same_first_{other}", (own.first[:, 0] == theirs.first[:, 0]).double()))
    return rows


def show(rows: Sequence[Row]) -> None:
    """Print where each model puts the truth, then what lists have in common."""
    by_place = {(row.model, row.metric): row for row in rows}
    models = list(dict.fromkeys(row.model for row in rows))
    width = max(map(len, models)) + 2
    print(f"\n{'':{width}}{'truth first':>20}{'in first ten':>20}{'mean 1/rank':>20}")
    for model in models:
        cells = [by_place[model, metric] for metric in ("top1", f"top{FIRST}", "mrr")]
        texts = (f"{each.value:.2f} [{each.low:.2f}, {each.high:.2f}]" for each in cells)
        print(f"{model:{width}}" + "".join(f"{text:>20}" for text in texts))
    print("\nupper right: share of the first ten in common; lower left: how often the first is the same")
    print(" " * width + "".join(f"{name[:12]:>14}" for name in models))
    for number, model in enumerate(models):
        line = [
            ""
            if at == number
            else f"{by_place[model, ('overlap_' if at > number else 'same_first_') + other].value:.2f}"
            for at, other in enumerate(models)
        ]
        print(f"{model:{width}}" + "".join(f"{text:>14}" for text in line))


def main() -> None:
    """Run the benchmark from the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--models", default=",".join(CHEAP), help="names A,B for propose --model, or all")
    parser.add_argument("--targets", type=int, default=26, help="held-out doubles, at most those of one fold")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path, default=None, help="write the rows to this file")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    names = SURROGATES.names() if arguments.models == "all" else tuple(arguments.models.split(","))
    rows = run(names, count=arguments.targets, seed=arguments.seed)
    show(rows)
    if arguments.json is not None:
        write_json(rows, arguments.json)


if __name__ == "__main__":
    main()
