"""Rows under the protocols of others, labelled "same protocol, our matrix": the split is theirs, the data ours.

Two protocols on Norman et al. 2019, each fitted anew for every seed.

*PerturBench* (Wu et al., arXiv 2408.10609): all singles and 30 % of the doubles train, half of the rest is
predicted; the other half is theirs for tuning and unused here. ``cosine`` of predicted and measured log fold
changes, and ``rank``: for each measured effect the share of predictions that are more like it than its own, by
cosine; 0 is best, 0.5 is chance (equally like ones count half, where theirs are shuffled). On the same split the
weighted metrics of Mejia et al. 2025 (Diversity by Design): ``weighted_mse``, and ``weighted_r_squared`` of the
difference to the mean perturbation. A readout's weight is the square of its normalised absolute difference to
the mean of all other perturbations; theirs starts from t scores of cells, which this matrix has not, and the
difference is the other score that their code offers. ``largest_error`` is the squared error of the 20 readouts
with the largest measured effects.

*The game of scGPT* (Cui et al. 2024, Fig. 3f-g): 20 genes, 210 candidates of one or two of them, 39 known
perturbations, 7 queries. Their 20 genes are shown in a figure only, and subsets are far too many to play all:
each game here grows a set of 20 genes at random along measured doubles, takes the 20 singles and 19 doubles as
known, and asks for 7 other doubles. ``correct_at_k`` says that the pair is among the first k, ``relevant_at_1``
that the first shares a gene with it. It is played with all readouts and with those of the 20 genes masked (asked
about in issue 87 of bowang-lab/scGPT).

Intervals hold 95 %: of each double the mean over its seeds, and genes drawn with replacement.

Run: python -m benchmarks public_tables --seed 0 --json public_tables.json (other models by ``--models A,B``)
"""

import argparse
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import torch
from jaxtyping import Float, Int
from torch import Tensor

from benchmarks.forward.effect_metrics import (
    cosine_rows,
    difference_weights,
    rank_rows,
    weighted_r_squared_rows,
)
from inverse_design.cli.console import output, say
from inverse_design.cli.verbs.retrieval import show_rows
from inverse_design.problem.constraints import Constraints
from inverse_design.problem.likelihood import TargetLikelihood
from inverse_design.problem.problem import candidate_space
from inverse_design.problem.space import CombinationSpace
from inverse_design.problem.target import AlignedProfile
from inverse_design.search.survey import normalised
from inverse_design.validate.retrieval import reads_own
from surrogates.contrib.embedded.gears import Gears
from surrogates.contrib.embedded.sclambda import ScLambda
from surrogates.data.catalogue import open_dataset
from surrogates.data.novelty import SEEN_DOUBLE, Split, novelty_name
from surrogates.data.screen import Screen
from surrogates.data.vocabulary import EMPTY, PerturbationBatch
from surrogates.errors import DataError
from surrogates.evaluation.intervals import NodeBootstrap, Row, target_nodes, write_json
from surrogates.evaluation.metrics import pearson_rows
from surrogates.models.base import Surrogate
from surrogates.models.baselines import Additive, MatchingMean, NoChange, PerturbationMean, ScaledAdditive
from surrogates.models.interaction import Interaction
from surrogates.models.latent import LatentAdditive, decoder_only
from surrogates.models.linear import Ridge
from surrogates.models.registry import SURROGATES
from surrogates.models.wrappers.automatic import Automatic
from surrogates.models.wrappers.calibrated import Calibrated, FittedCalibrated
from surrogates.uncertainty.dyadic import dyadic_standard_error

ALL = Constraints(measured="keep")
LABEL = "same protocol, our matrix"
TRAINED = 0.3  # of the doubles
LARGEST = 20  # readouts with the largest measured effects, whose squared error is ``largest_error``
SQUARED = ("weighted_mse", "largest_error")
GENES, KNOWN, QUERIES = 20, 39, 7
FIRST = (1, 5, 8)
# The default; what it adds for genes that were never measured is not asked for here, and cut short.
DEFAULT = Automatic(unseen=(NoChange(),))
MODELS: Mapping[str, Surrogate] = {
    "no_change": NoChange(),
    "perturbation_mean": PerturbationMean(),
    "matching_mean": MatchingMean(),
    "additive": Additive(),
    "scaled_additive": ScaledAdditive(),
    "interaction": Interaction(),
    "automatic": DEFAULT,
    "latent_additive": LatentAdditive(),
    "decoder_only": decoder_only(),
    "linear": Ridge(0.0),  # PerturBench's: what each intervention adds, by least squares
    **{name: SURROGATES.load(name)() for name in ("cpa_without_adversary", "cpa", "sams_vae")},
    "gears": Gears(),
    "sclambda": ScLambda(),
}
# What others print for the same metric of the same protocol, on their matrices.
PUBLISHED = (
    "PerturBench v4, Norman (arXiv 2408.10609): rank of LatentAdditive .0050, CPA without adversary .0057, decoder"
    " only .017, SAMS-VAE (S) .019, Biolord .027, linear .035, GEARS .051; their cosine is of other"
    " genes, normalisation and pseudocount, and is not set beside ours",
    "scGPT (Cui et al., Nature Methods 2024), one set of 20 genes: relevant_at_1 .914, correct_at_8 .657",
)
Metrics = dict[str, Float[Tensor, "n"]]


def perturbench_split(screen: Screen, *, seed: int) -> Split:
    """Train on all singles and 30 % of the doubles, and predict half of the other doubles.

    Args:
        screen: Singles and doubles.
        seed: Fixes the draw.

    Returns:
        The split, of doubles of two measured singles.
    """
    alone = torch.nonzero(screen.batch.order == 1).flatten()
    doubles = _seen_doubles(screen)
    order = doubles[torch.randperm(len(doubles), generator=torch.Generator().manual_seed(seed))]
    trained = round(TRAINED * len(doubles))
    tested = (len(doubles) - trained) // 2
    return Split(torch.cat([alone, order[:trained]]), order[trained : trained + tested])


def score_split(screen: Screen, surrogates: Mapping[str, Surrogate], *, seed: int) -> dict[str, Metrics]:
    """Fit every model to a split and score what it holds out.

    Args:
        screen: Singles and doubles.
        surrogates: By name.
        seed: Fixes split and fits.

    Returns:
        By model: by metric one number for each held-out double, in the order of :func:`perturbench_split`.
    """
    split = perturbench_split(screen, seed=seed)
    training, batch, truth = screen.rows(split.train), screen.batch.rows(split.test), screen.effects[split.test]
    weights, mean = difference_weights(screen.effects, split.test), screen.effects.mean(0)
    largest = truth.abs().topk(min(LARGEST, truth.shape[1])).indices
    found = {}
    for name, model in surrogates.items():
        prediction = model.fit(training, seed=seed).predict(batch).mean
        found[name] = {
            "cosine": cosine_rows(prediction, truth),
            "rank": rank_rows(prediction, truth),
            "weighted_mse": (weights * (prediction - truth).square()).sum(1),
            "weighted_r_squared": weighted_r_squared_rows(prediction, truth, weights, mean),
            "largest_error": (prediction - truth).square().gather(1, largest).mean(1),
        }
    return found


@dataclass(frozen=True)
class ReverseGame:
    """Which perturbation of a few genes made a state?

    Attributes:
        genes: Vocabulary ids of the genes.
        known: Rows of the screen that are known: all singles of the genes, and some doubles.
        queries: Rows of the doubles that are asked for.
    """

    genes: Int[Tensor, "v"]
    known: Int[Tensor, "k"]
    queries: Int[Tensor, "q"]

    @property
    def candidates(self) -> Int[Tensor, "c 2"]:
        """All genes alone and in pairs, as rows of ids."""
        alone = torch.stack([self.genes, torch.full_like(self.genes, EMPTY)], 1)
        return torch.cat([alone, torch.combinations(self.genes)])


def draw_game(
    screen: Screen, *, seed: int, genes: int = GENES, known: int = KNOWN, queries: int = QUERIES
) -> ReverseGame:
    """Grow a set of genes at random along measured doubles, until it holds enough of them.

    Args:
        screen: Singles and doubles.
        seed: Fixes genes, known and asked doubles.
        genes: How many genes.
        known: How many known perturbations, singles included.
        queries: How many doubles are asked for.

    Returns:
        The game.

    Raises:
        DataError: If no such set holds enough measured doubles.
    """
    generator = torch.Generator().manual_seed(seed)
    doubles = _seen_doubles(screen)
    pairs, needed = screen.batch.genes[doubles][:, :2], known - genes + queries
    linked = torch.zeros(len(screen.vocabulary), len(screen.vocabulary), dtype=torch.float64)
    linked[pairs[:, 0], pairs[:, 1]] = linked[pairs[:, 1], pairs[:, 0]] = 1
    for _ in range(1000):
        chosen = torch.zeros(len(linked), dtype=torch.bool)
        chosen[pairs[torch.randint(len(pairs), (1,), generator=generator)]] = True
        while int(chosen.sum()) < genes and bool((links := linked[:, chosen].sum(1) * ~chosen).any()):
            chosen[torch.multinomial(links.square(), 1, generator=generator)] = True
        inside = doubles[chosen[pairs].all(1)]
        if int(chosen.sum()) == genes and len(inside) >= needed:
            order = inside[torch.randperm(len(inside), generator=generator)]
            ids = torch.nonzero(chosen).flatten()
            alone = screen.single_rows[ids]
            return ReverseGame(ids, torch.cat([alone, order[queries:needed]]), order[:queries])
    raise DataError(f"no {genes} genes hold {needed} measured doubles")


def score_game(screen: Screen, game: ReverseGame, *, seed: int) -> dict[str, Metrics]:
    """Look for what made each query among all genes alone and in pairs.

    Args:
        screen: The readouts that are seen.
        game: Known perturbations and queries.
        seed: Fixes the fits.

    Returns:
        By method: by metric one number for each query. ``own readouts`` is there if some gene is a readout.
    """
    training = screen.rows(game.known)
    batch, space = screen.vocabulary.dosed(game.candidates), candidate_space(training, "both", ALL)
    additive, automatic = Calibrated(Additive()).fit(training, seed=seed), DEFAULT.fit(training, seed=seed)
    methods: dict[str, Callable[[Float[Tensor, g]], Float[Tensor, c]]] = {
        "additive, likelihood": partial(_likelihood, additive, space, batch),
        "additive, pearson": partial(_pearson, additive.base.predict(batch).mean),
        "automatic, likelihood": partial(_likelihood, automatic, space, batch),
    }
    signs = reads_own(screen)
    if bool(signs[game.genes].any()):
        methods["own readouts"] = partial(_own, screen, signs, game.candidates)
    truths = screen.batch.genes[game.queries][:, :2]
    found = {}
    for name, score in methods.items():
        scores = torch.stack([score(screen.effects[row]) for row in game.queries.tolist()])
        found[name] = query_metrics(scores, game.candidates, truths)
    return found


def query_metrics(
    scores: Float[Tensor, "q c"], candidates: Int[Tensor, "c 2"], truths: Int[Tensor, "q 2"]
) -> Metrics:
    """Say how the truth of each query stands; ties count against it.

    Args:
        scores: Of each candidate for each query, larger is better.
        candidates: As rows of ids.
        truths: The pair behind each query.

    Returns:
        ``correct_at_k`` for each k, and ``relevant_at_1``, the share of first candidates that hold a gene of it.
    """
    own = scores[(candidates[None] == truths[:, None]).all(2)][:, None]
    rank = (scores >= own).sum(1)
    shares = (candidates[None, :, :, None] == truths[:, None, None]).flatten(2).any(2)
    first = scores == scores.amax(1, keepdim=True)  # equally good ones share the place
    found = {f"correct_at_{k}": (rank <= k).double() for k in FIRST}
    return {**found, "relevant_at_1": (first & shares).sum(1) / first.sum(1).double()}


def rows_of(
    screen: Screen, played: Sequence[tuple[Int[Tensor, "_"], Mapping[str, Metrics]]], *, variant: str, seed: int
) -> list[Row]:
    """Average each double over the seeds that held it out, and then over doubles.

    Args:
        screen: What was measured.
        played: Of each seed the rows that were held out, and what was found of them by model and metric.
        variant: Which protocol.
        seed: Fixes the bootstrap.

    Returns:
        One row per model and metric, with a 95 % interval by a bootstrap of genes and the dyadic standard error.
    """
    doubles, place = torch.cat([rows for rows, _ in played]).unique(return_inverse=True)
    counts = place.bincount().double()
    nodes = target_nodes(screen.batch.rows(doubles), screen.vocabulary)
    draws = NodeBootstrap.of(nodes, seed=seed)
    rows = []
    row = partial(Row, "public_tables", f"{screen.provenance['dataset']}, {LABEL}")
    for model, metrics in played[0][1].items():
        for metric in metrics:
            every = torch.cat([found[model][metric] for _, found in played])
            values = torch.zeros_like(counts).index_add(0, place, every) / counts
            value, bounds, error = (
                float(values.mean()),
                draws.interval(values),
                dyadic_standard_error(values, nodes),
            )
            numbers = (value, *bounds, len(doubles), "share" if metric not in SQUARED else "squared effect")
            rows.append(row(model, novelty_name(SEEN_DOUBLE), variant, metric, *numbers, standard_error=error))
    return rows


def by_chance(variant: str) -> list[Row]:
    """Say what an arbitrary order of the 210 candidates finds.

    Args:
        variant: Of the game.

    Returns:
        One row per metric, without bounds.
    """
    candidates = GENES * (GENES + 1) // 2
    values = {f"correct_at_{k}": k / candidates for k in FIRST} | {"relevant_at_1": (2 * GENES - 1) / candidates}
    row = partial(Row, "public_tables", "any", "chance", novelty_name(SEEN_DOUBLE), variant)
    return [row(metric, value, value, value, 0, "share") for metric, value in values.items()]


def _seen_doubles(screen: Screen) -> Int[Tensor, "n"]:
    """Rows of doubles of two measured singles."""
    pairs = screen.batch.order == 2
    seen = (screen.single_rows >= 0)[screen.batch.genes[:, :2].clamp(min=0)].all(1)
    return torch.nonzero(pairs & seen).flatten()


def _likelihood(
    fitted: FittedCalibrated, space: CombinationSpace, batch: PerturbationBatch, effect: Float[Tensor, "g"]
) -> Float[Tensor, "c"]:
    target = AlignedProfile.exact(range(len(effect)), effect)
    prior = torch.zeros(len(fitted.vocabulary), dtype=torch.float64)
    return normalised(TargetLikelihood(target, prior), fitted, space).utility(fitted, batch).mean


def _pearson(predictions: Float[Tensor, "c g"], effect: Float[Tensor, "g"]) -> Float[Tensor, "c"]:
    return pearson_rows(predictions, effect.expand_as(predictions))


def _own(
    screen: Screen, signs: Float[Tensor, "v"], candidates: Int[Tensor, "c 2"], effect: Float[Tensor, "g"]
) -> Float[Tensor, "c"]:
    column = {readout: number for number, readout in enumerate(screen.readouts)}
    columns = torch.tensor([column.get(target, 0) for target in screen.vocabulary.targets])
    own = torch.cat([effect[columns] * signs, torch.zeros(1, dtype=torch.float64)])  # the last for empty slots
    return own[candidates].sum(1)


def main() -> None:
    """Measure, print the tables beside what others print, and write the rows."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--splits", type=int, default=5)
    parser.add_argument("--models", type=lambda words: words.split(","), default=[*MODELS])
    parser.add_argument("--games", type=int, default=12)
    parser.add_argument("--json", type=Path)
    asked = parser.parse_args()
    began = time.perf_counter()
    torch.set_num_threads(1)
    screen = open_dataset("norman2019_expr")
    splits = range(asked.seed, asked.seed + asked.splits)
    models = {name: MODELS[name] if name in MODELS else SURROGATES.load(name)() for name in asked.models}
    played = [
        (perturbench_split(screen, seed=seed).test, score_split(screen, models, seed=seed)) for seed in splits
    ]
    rows = rows_of(screen, played, variant=f"PerturBench split, {asked.splits} seeds", seed=asked.seed)
    games = [draw_game(screen, seed=seed) for seed in range(asked.seed, asked.seed + asked.games)]
    for masked in ("all readouts", "20 genes masked"):
        played = []
        for number, game in enumerate(games):
            view = screen if masked == "all readouts" else without_own(screen, game)
            played.append((game.queries, score_game(view, game, seed=asked.seed + number)))
        variant = f"7 of 210 candidates, {masked}, {asked.games} games"
        rows += rows_of(screen, played, variant=variant, seed=asked.seed)
        chance = by_chance(variant)
        rows += [replace(row, dataset=rows[-1].dataset, n=rows[-1].n) for row in chance]
    show_rows(output(), rows)
    for line in PUBLISHED:
        say(output(), f"published: {line}")
    print(f"\n{time.perf_counter() - began:.0f} s")
    if asked.json:
        write_json(rows, asked.json)


def without_own(screen: Screen, game: ReverseGame) -> Screen:
    """Mask the readouts of the genes of a game.

    Args:
        screen: All readouts.
        game: Whose genes.

    Returns:
        The screen without them.
    """
    own = {screen.vocabulary.targets[gene] for gene in game.genes.tolist()}
    return screen.with_readouts([number for number, name in enumerate(screen.readouts) if name not in own])


if __name__ == "__main__":
    main()
