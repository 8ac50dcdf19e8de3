"""The options of the verbs that measure: benchmarks and replays."""

from dataclasses import dataclass
from typing import Annotated, Literal

from cyclopts import Group, Parameter, validators

from inverse_design.cli.options import ASKING, AUTOMATIC, AtLeastOne, Crew, Output, Words

_CREW = Crew()


@Parameter(name="*", group=ASKING)
@dataclass(frozen=True)
class Judging:
    """What the benchmark of calibration judges, and where it writes.

    Attributes:
        model: Forward model; automatic takes the one that identifies held-out doubles best.
        levels: Nominal probabilities A,B between 0 and 1; by default 0.5,0.8,0.9,0.95.
        classes: Novelty classes A,B of double-2, double-1, double-0 and single-0 (the number says how many parts
            were measured alone); by default all.
        seed: Fixes everything that is random.
        crew: Who fits the folds.
        output: Where to write all numbers, as .json.
        picture: Where to draw coverage, transforms and reliability, as .svg, .png or .pdf.
    """

    model: str = AUTOMATIC
    levels: Words = ()
    classes: Words = ()
    seed: int = 0
    crew: Crew = _CREW
    output: Output = None
    picture: str | None = None


@Parameter(name="*", group=ASKING)
@dataclass(frozen=True)
class Scoring:
    """What the benchmark of forward models compares, and where it writes.

    Attributes:
        models: Forward models A,B, or all; interaction and automatic by default. The baselines are always there.
        drug_targets: Table of what drugs act on (columns drug, target, weight), for the model causal.
        embedding: Table of a vector for each gene or compound (.csv, .tsv, .parquet, .npz, .h5ad:obsm/NAME), in
            place of the shipped tables, for the models that take descriptors.
        classes: Novelty classes A,B of double-2, double-1, double-0 and single-0 (the number says how many parts
            were measured alone); by default all.
        seed: Fixes everything that is random.
        crew: Who fits the folds.
        output: Where to write all numbers, as .json.
        picture: Where to draw the errors, as .svg, .png or .pdf.
    """

    models: Words = ()
    drug_targets: str | None = None
    embedding: str | None = None
    classes: Words = ()
    seed: int = 0
    crew: Crew = _CREW
    output: Output = None
    picture: str | None = None


@Parameter(name="*", group=ASKING)
@dataclass(frozen=True)
class JudgingCells:
    """What the benchmark of models of cells compares, and where it writes.

    Attributes:
        models: Models of cells A,B, or all; latent_shift_remainder and transport_shift by default. The baselines
            and the two-factor model are always there.
        hold_out: All treated cells of each context in turn, or combinations of which each part was measured.
        pseudocount: Of fold changes, in units without the logarithm; precision depends on it.
        level: Probability of the bounds for what is new.
        samples: Bootstrap samples of contexts, or of the genes of combinations.
        seed: Fixes everything that is random.
        crew: Who fits the folds.
        output: Where to write all numbers, as .json.
    """

    models: Words = ()
    hold_out: Literal["context", "combination"] = "context"
    pseudocount: Annotated[float, Parameter(validator=validators.Number(gt=0))] = 1.0
    level: Annotated[float, Parameter(validator=validators.Number(gt=0, lt=1))] = 0.8
    samples: Annotated[int, Parameter(validator=validators.Number(gte=2))] = 2000
    seed: int = 0
    crew: Crew = _CREW
    output: Output = None


@Parameter(name="*", group=ASKING)
@dataclass(frozen=True)
class Retrieving:
    """How perturbations behind held-out states are sought, and where the benchmark writes.

    Attributes:
        standardise: Count each readout in units of its usual single effect, as propose --standardise does. The
            other benchmarks have no such option: they hold singles out, by which those units would be chosen.
        seed: Fixes everything that is random.
        crew: Who fits the folds.
        output: Where to write the numbers, as .json.
    """

    standardise: bool = False
    seed: int = 0
    crew: Crew = _CREW
    output: Output = None


@Parameter(name="*", group=ASKING)
@dataclass(frozen=True)
class Reaching:
    """By which model states are reached, and where the benchmark writes.

    Attributes:
        model: Forward model; automatic takes the one that identifies held-out doubles best.
        seed: Fixes everything that is random.
        crew: Who fits the folds.
        output: Where to write all numbers, as .json.
    """

    model: str = AUTOMATIC
    seed: int = 0
    crew: Crew = _CREW
    output: Output = None


Goal = Literal["minimise", "maximise"]


GAME = Group("What is played", sort_key=1)


PLAYERS = Group("Who plays, and how often", sort_key=2)


@Parameter(name="*", group=GAME)
@dataclass(frozen=True)
class GameOptions:
    """The rules of a replayed campaign on pairs.

    Attributes:
        readout: Which readout is to be made small or large; the only one if there is one.
        goal: Whether small or large values are wanted.
        start: How many random pairs are known at the start, beside everything that was measured alone.
        rounds: How many rounds are played.
        batch: How many pairs are measured in a round.
        top: How many of the truly best pairs are sought.
    """

    readout: str | None = None
    goal: Goal = "minimise"
    start: Annotated[int, Parameter(validator=validators.Number(gte=0))] = 100
    rounds: AtLeastOne = 4
    batch: AtLeastOne = 100
    top: AtLeastOne = 100


@Parameter(name="*", group=PLAYERS)
@dataclass(frozen=True)
class PlayerOptions:
    """Who plays.

    Attributes:
        policy: Policies to play: A,B or repeated; by default random, additive, greedy_ridge, optuna_tpe,
            botorch_gp and pair_hits, and the last with permuted:, which is misled about what was measured.
        seeds: How many replicates, each with other random pairs at the start.
        workers: Number of processes; the results do not depend on it.
        seed: The first of the seeds.
    """

    policy: Words = ()
    seeds: AtLeastOne = 20
    workers: AtLeastOne = 1
    seed: int = 0
