"""Do bounds of designed picks hold? Two rounds of many campaigns, in worlds and in measured screens.

A world is the bench of `examples/bench.py` with another network, design and noise: 40 genes, all singles and some
doubles known; the wanted state is that of the double which is farthest from all that is known, or the 6th or 41st
farthest. A campaign of a measured screen begins with its singles and some of its doubles, drawn at random; the
candidates are the other doubles, and the target is one of them that is no candidate, or to raise a readout.

Each campaign asks the recommender 'gains' for two rounds, of six experiments of which one is random. Printed is
the share of designed picks whose measured outcome is within its bounds, and the mean width of the bounds: those of
random candidates (before) and those that the recommender states (now). The interval is over campaigns, which are
drawn again.

Run: python -m benchmarks picked_bounds worlds --first 30 --count 10
     python -m benchmarks picked_bounds cellbox_skmel133 --count 25 --known 35
"""

import argparse
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from pathlib import Path

import pandas as pd
import torch
from jaxtyping import Float
from torch import Tensor

from inverse_design.acquisition.batch import BatchRules
from inverse_design.candidates import outcome_bounds
from inverse_design.problem.constraints import Constraints
from inverse_design.problem.problem import candidate_space
from inverse_design.problem.target import ProfileTarget, ScalarTarget, Target
from inverse_design.ranking import ScreenObjective
from inverse_design.recommend.gains import Gains
from inverse_design.recommend.protocol import DecisionState
from surrogates.artefact import load_fitted
from surrogates.data.catalogue import open_dataset
from surrogates.data.perturbation import Perturbation
from surrogates.data.screen import Screen
from surrogates.data.simulate import Network, SaturatingWorld, singles_and_doubles
from surrogates.evaluation.intervals import bootstrap_interval
from surrogates.models.wrappers.calibrated import FittedCalibrated

LEVEL, BATCH, WELLS = 0.9, 6, 2
FARTHEST = (0, 5, 40)

Measure = Callable[[Sequence[Perturbation]], Float[Tensor, "b g"]]


@dataclass(frozen=True)
class Bench:
    """A campaign: what is known, what is wanted, what may be tried, and what an experiment shows."""

    screen: Screen
    target: Target
    apart: tuple[tuple[str, str], ...]
    measure: Measure


def worlds(first: int, count: int, *, known: int, noise: float) -> Iterator[Bench]:
    """Draw worlds like that of `examples/bench.py`, three targets in each."""
    for seed in range(first, first + count):
        world = SaturatingWorld(Network(genes=40, seed=seed), noise=noise)
        genes = world.network.genes
        design = list(singles_and_doubles(world.network, doubles=genes * (genes - 1) // 2, seed=seed + 1))
        start, others = design[: genes + known], design[genes + known :]
        states, reached = world.truth(others), world.truth(start)
        order = (states[:, None] - reached).square().mean(-1).amin(1).argsort(descending=True)
        for number in FARTHEST:
            generator = torch.Generator().manual_seed(1000 * seed + number)
            measure = _wells(world, generator)
            effects = measure(start)
            errors = torch.full_like(effects, noise / WELLS**0.5)
            screen = Screen.from_labels(effects, start, world.network.names, standard_errors=errors)
            state = states[order[number]]
            yield Bench(screen, ProfileTarget("wanted", world.network.names, state), (), measure)


def _wells(world: SaturatingWorld, generator: torch.Generator) -> Measure:
    def measure(perturbations: Sequence[Perturbation]) -> Float[Tensor, "b g"]:
        truth = world.truth(perturbations)
        noise = torch.randn(truth.shape, generator=generator, dtype=torch.float64)
        return truth + world.noise / WELLS**0.5 * noise

    return measure


def replays(name: str, count: int, *, known: int, seed: int, raised: str | None) -> Iterator[Bench]:
    """Play a measured screen again, with other starts and targets."""
    screen = open_dataset(name)
    row = {label: number for number, label in enumerate(screen.labels)}
    single = torch.nonzero(screen.batch.order == 1).flatten()
    alone = screen.single_rows >= 0
    double = torch.nonzero((screen.batch.order == 2) & alone[screen.batch.genes.clamp(min=0)].all(1)).flatten()
    pairs = set(combinations(torch.nonzero(alone).flatten().tolist(), 2))
    labels = [each.label for each in screen.vocabulary.entries]

    def measure(perturbations: Sequence[Perturbation]) -> Float[Tensor, "b g"]:
        return screen.effects[torch.tensor([row[each.label] for each in perturbations])]

    for number in range(count):
        generator = torch.Generator().manual_seed(1000 * seed + number)
        drawn = double[torch.randperm(len(double), generator=generator)]
        start, made, rest = drawn[:known], int(drawn[known]), drawn[known + 1 :]
        candidates = {tuple(genes[:2]) for genes in screen.batch.genes[rest].tolist()}
        candidates |= {tuple(genes[:2]) for genes in screen.batch.genes[start].tolist()}
        apart = tuple((labels[i], labels[j]) for i, j in sorted(pairs - candidates))
        state = ProfileTarget(screen.labels[made], screen.readouts, screen.effects[made])
        target = state if raised is None else ScalarTarget(raised, "maximise")
        yield Bench(screen.rows(torch.cat([single, start])), target, apart, measure)


def played(bench: Bench, rounds: int) -> pd.DataFrame:
    """Play the rounds of a campaign.

    Args:
        bench: The campaign.
        rounds: How many.

    Returns:
        One row per designed pick: round, whether the bounds before and now hold it, and how wide they are.
    """
    screen, missed, rows = bench.screen, (), []
    for number in range(1, rounds + 1):
        state = DecisionState(
            measured=screen,
            target=bench.target,
            candidates=candidate_space(screen, "2", Constraints(incompatible=bench.apart)),
            rules=BatchRules(random_share=0.1),
            surrogate="scaled_additive",
            level=LEVEL,
            missed=missed,
        )
        plan = Gains().recommend(state, BATCH, pending=(), seed=number)
        parsed = [screen.vocabulary.parse(label) for label in plan.table["perturbation"]]
        effects = bench.measure(parsed)
        objective = ScreenObjective.of(bench.target, screen)
        before = outcome_bounds(objective.searched, _model(plan.model), screen.vocabulary.batch(parsed), LEVEL)
        table = plan.table.assign(
            round=number,
            measured=objective.searched.outcome.measured(effects).tolist(),
            before_lower=before.lower.tolist(),
            before_upper=before.upper.tolist(),
        )
        rows.append(table[table["chosen"] == "designed"])
        inside = rows[-1]["measured"].between(rows[-1]["lower"], rows[-1]["upper"])
        missed = (*missed, float((~inside).mean()))
        screen = _extended(screen, parsed, effects)
    return pd.concat(rows, ignore_index=True)


def _model(content: bytes | None) -> FittedCalibrated:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.safetensors"
        path.write_bytes(content or b"")
        fitted = load_fitted(path)
    if not isinstance(fitted, FittedCalibrated):
        raise TypeError(f"the recommendation holds a {type(fitted).__name__}")
    return fitted


def _extended(screen: Screen, perturbations: Sequence[Perturbation], effects: Float[Tensor, "b g"]) -> Screen:
    errors = screen.standard_errors
    more = None if errors is None else torch.cat([errors, errors[:1].expand(len(effects), -1)])
    labels = [screen.perturbation(number) for number in range(len(screen))]
    every = Screen.from_labels(
        torch.cat([screen.effects, effects]), [*labels, *perturbations], screen.readouts, standard_errors=more
    )
    return replace(every, batch=screen.vocabulary.batch([*labels, *perturbations]), vocabulary=screen.vocabulary)


def summary(campaigns: Sequence[pd.DataFrame], *, seed: int) -> pd.DataFrame:
    """Average over designed picks, with intervals over campaigns.

    Args:
        campaigns: Of :func:`played`.
        seed: Fixes the bootstrap.

    Returns:
        One row per round, and kind of bounds.
    """
    found = []
    for number in sorted(set(campaigns[0]["round"])):
        for kind, prefix in (("before", "before_"), ("now", "")):
            held, count, width = [], [], []
            for each in campaigns:
                picks = each[each["round"] == number]
                lower, upper = picks[f"{prefix}lower"], picks[f"{prefix}upper"]
                held.append(float(picks["measured"].between(lower, upper).sum()))
                count.append(float(len(picks)))
                width.append(float((upper - lower).sum()))
            h, n, w = (torch.tensor(each, dtype=torch.float64) for each in (held, count, width))
            low, high = bootstrap_interval(
                lambda rows, h=h, n=n: h[rows].sum(1) / n[rows].sum(1), len(h), seed=seed
            )
            share, mean = float(h.sum() / n.sum()), float(w.sum() / n.sum())
            found.append({"round": number, "bounds": kind, "picks": int(n.sum()), "coverage": share, "low": low,
                          "high": high, "width": mean})  # fmt: skip
    return pd.DataFrame(found)


def main(words: Sequence[str] | None = None) -> None:
    """Play the campaigns and print how often bounds held."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("where", help="'worlds', or a screen of the catalogue")
    parser.add_argument("--first", type=int, default=30, help="seed of the first world, or of the screen's starts")
    parser.add_argument("--count", type=int, default=10, help="worlds, or campaigns of the screen")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--known", type=int, default=60, help="doubles that are known at the start")
    parser.add_argument("--noise", type=float, default=0.15, help="of one well in a world")
    parser.add_argument("--raise", dest="raised", help="a readout to raise, in place of the state of a double")
    asked = parser.parse_args(words)
    torch.set_num_threads(1)
    if asked.where == "worlds":
        benches = worlds(asked.first, asked.count, known=asked.known, noise=asked.noise)
    else:
        benches = replays(asked.where, asked.count, known=asked.known, seed=asked.first, raised=asked.raised)
    campaigns = [played(bench, asked.rounds) for bench in benches]
    print(f"{asked.where}: {len(campaigns)} campaigns, nominal {LEVEL:g}, 95 % intervals over campaigns")
    print(summary(campaigns, seed=0).round(3).to_string(index=False))


if __name__ == "__main__":
    main()
