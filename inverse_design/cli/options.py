"""The options of the verbs, as the command line and its help know them."""

from dataclasses import dataclass
from typing import Annotated, Literal, TypeAlias

from cyclopts import Group, Parameter, validators

from inverse_design.cli.console import Run
from surrogates.data.perturbation import Mode

# The words of inverse_design.proposal, which cannot be imported here without torch; a test compares them.
OrderName = Literal["1", "2", "3", "4", "5", "6", "both"]
MeasuredWord = Literal["keep", "leave-out"]
RUN = Run()
Output: TypeAlias = Annotated[str | None, Parameter(name=["--output", "-o"])]
Words: TypeAlias = Annotated[tuple[str, ...], Parameter(show_default=False)]
AtLeastOne: TypeAlias = Annotated[int, Parameter(validator=validators.Number(gte=1))]
NoCache: TypeAlias = Annotated[bool, Parameter(name="--no-cache", negative="")]

AUTOMATIC = "automatic"

ASKING = Group("What is asked", sort_key=1)
RUNNING = Group("How it is searched (the answer does not depend on it)", sort_key=4)
RESTRICTIONS = Group("What may be proposed", sort_key=2)
READING = Group("Reading a file (what is not stated is detected, and reported)", sort_key=3)

Context: TypeAlias = Annotated[str | None, Parameter(group=ASKING)]


@Parameter(name="*", group=READING)
@dataclass(frozen=True)
class Reading:
    """How to read a file; whatever is not stated is detected.

    Attributes:
        target_col: Column of labels; give it again for one column per part of a combination.
        reference_key: Label of the control: A,B or repeated for several, which are pooled; empty when no
            label is one.
        dose_col: Column of doses.
        group_col: Column of contexts (cell type, line).
        batch_col: Column of batches (plate, donor, lane), within which rows are compared with controls.
        layer_key: Layer of an .h5ad file to read instead of X.
        normalise: Values are counts: scale each cell to the median total and take log(1 + x); --no-normalise
            takes whole
            numbers as they are.
        collapse_guides: Labels name guides, such as KLF1_1 and sgKLF1-2: read them as their gene.
        sep: What stands between the parts of a combination; empty when no label is one.
        mode: How targets are acted upon; where the file names several modes, only this one is read and proposed.
        modality: Modality of MuData (.h5mu) to read, such as rna.
        baseline_cols: Columns A,B of counts of guides before the treatment or without it (plasmid, day 0).
        endpoint_cols: Columns A,B of counts of guides after it; read as the log2 fold change between the two.
        readouts: Readouts to read: A,B, repeated, or a file with one name per line.
        sums: Folder that keeps sums over cells, from which a reading that was killed or is repeated goes on.
    """

    target_col: Words = ()
    reference_key: Words = ()
    dose_col: str | None = None
    group_col: str | None = None
    batch_col: str | None = None
    layer_key: str | None = None
    normalise: Annotated[bool | None, Parameter(negative="--no-normalise")] = None
    collapse_guides: bool = False
    sep: str | None = None
    mode: Mode | None = None
    modality: str | None = None
    baseline_cols: Words = ()
    endpoint_cols: Words = ()
    readouts: Words = ()
    sums: str | None = None


@Parameter(name="*", group=ASKING)
@dataclass(frozen=True)
class Asking:
    """What is asked of the data, beside the target.

    Attributes:
        order: How many are given together; both for singles and pairs.
        top: How many candidates to list.
        objective: How candidates are judged: likelihood (the default for profiles), distance, pearson, cosine,
            projection (the default for signatures), or one that another package adds.
        prior: Table of prior weights of genes (columns gene, weight), one where a gene is not named.
        model: Forward model; automatic takes the one that identifies held-out doubles best.
        drug_targets: Table of what drugs act on (columns drug, target, weight), for --model causal: the weight is
            what the largest dose puts into that readout, in its unit.
        embedding: Table of a vector for each gene or compound (.csv, .tsv, .parquet, .npz, .h5ad:obsm/NAME), in
            place of the shipped tables, for models that take descriptors.
        level: Probability of the bounds of each candidate, and of the set of candidates.
        standardise: Count each readout in units of its usual single effect: for readouts in units of their own.
            A campaign has no such option, as its results are told in the unit of its screen.
        seed: Fixes everything that is random.
    """

    order: OrderName = "2"
    top: Annotated[int, Parameter(validator=validators.Number(gte=1))] = 20
    objective: str | None = None
    prior: str | None = None
    model: str = AUTOMATIC
    drug_targets: str | None = None
    embedding: str | None = None
    level: Annotated[float, Parameter(validator=validators.Number(gt=0, lt=1))] = 0.9
    standardise: bool = False
    seed: int = 0


@Parameter(name="*", group=RESTRICTIONS)
@dataclass(frozen=True)
class Restrictions:
    """What may be proposed. Names are A,B, repeated, or a file with one name per line.

    Attributes:
        exclude: Names that no candidate may hold, or gene sets (sets.gmt, or sets.gmt:NAME,NAME for some of them).
        require: Names that every candidate must hold.
        allow: The only names that candidates may hold, or gene sets.
        measured: Whether perturbations that were measured already may be proposed again.
        dose: Lowest and highest dose, both included.
        doses: Table of the only doses of the genes or compounds it names (columns gene, dose).
        groups: Table of groups (columns gene, group, maybe at_most) of which a candidate holds one, or at_most; or
            gene sets, of which it holds one each.
        incompatible: Table of two columns: pairs that may not stand together.
        costs: Table of what each gene costs (columns gene, cost); goes with the budget.
        budget: The most that the parts of one candidate may cost together.
        constraint: A constraint of another package, or group, as NAME, NAME:key=value,key=value or NAME:{JSON}.
    """

    exclude: Words = ()
    require: Words = ()
    allow: Words = ()
    measured: MeasuredWord = "leave-out"
    dose: tuple[float, float] | None = None
    doses: str | None = None
    groups: str | None = None
    incompatible: str | None = None
    costs: str | None = None
    budget: float | None = None
    constraint: Words = ()


SCHEDULER_TRUST = (
    "whoever runs or reaches a scheduler of Dask can run programs as you, here and on its workers: use one that"
    " you trust, at a tls:// address with certificates (docs/guides/proposals.md)"
)


@Parameter(name="*", group=RUNNING)
@dataclass(frozen=True)
class Running:
    """How the space is searched; the answer does not depend on it.

    Attributes:
        workers: Processes of this machine.
        scheduler: Address of a dask.distributed scheduler, such as tls://10.0.0.1:8786, to search on its workers.
            Whoever runs or reaches it can run programs as you, here and there: name one that you trust. For tls://
            the certificates of Dask's configuration are used (DASK_DISTRIBUTED__COMM__TLS__CA_FILE,
            ..__CLIENT__CERT, ..__CLIENT__KEY).
        ledger: File of finished parts, by which a killed search resumes where it stopped.
        device: Where pairs and triples are scored in this process, such as cuda; without it, by processors.
        no_cache: Fit anew, and keep no fit.
    """

    workers: AtLeastOne = 1
    scheduler: str | None = None
    ledger: str | None = None
    device: str = "cpu"
    no_cache: NoCache = False


PLANNING = Group("Before it begins", sort_key=5)


@Parameter(name="*", group=PLANNING)
@dataclass(frozen=True)
class Planning:
    """What happens before the work begins.

    Attributes:
        dry_run: Say what it will take, in time and memory, and stop there; as JSON where that is asked for.
        yes: Do not ask before what takes more than five minutes, or may not fit the memory.
    """

    dry_run: bool = False
    yes: bool = False


@Parameter(name="*", group=RUNNING)
@dataclass(frozen=True)
class Crew:
    """Who sums cells and fits folds; the results do not depend on it.

    Attributes:
        workers: Processes of this machine.
        scheduler: Address of a dask.distributed scheduler, such as tls://10.0.0.1:8786, whose workers reach the
            files by the same paths. Whoever runs or reaches it can run programs as you, here and there.
    """

    workers: AtLeastOne = 1
    scheduler: str | None = None

    @property
    def place(self) -> int | str:
        """Where folds are fitted: so many processes, or an address."""
        return self.workers if self.scheduler is None else self.scheduler


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


LISTING = Group("Which experiments, and what they cost", sort_key=2)


@Parameter(name="*", group=LISTING)
@dataclass(frozen=True, kw_only=True)
class Listing:
    """A list of experiments.

    Attributes:
        experiments: Table (.csv, .tsv, .parquet) with one experiment per row, such as A+B in a column pair.
        experiment_column: Column of their labels; found by its name by default.
        cost_column: Column of what each costs; experiments are then ranked by gain per cost.
        budget: The best set within it is marked; without costs each experiment costs one.
        constraint: Leave out what a constraint rules out: NAME, NAME:key=value,key=value or NAME:{JSON}.
    """

    experiments: str
    experiment_column: str | None = None
    cost_column: str | None = None
    budget: Annotated[float | None, Parameter(validator=validators.Number(gte=0))] = None
    constraint: Words = ()


@Parameter(name="*", group=ASKING)
@dataclass(frozen=True)
class Valuing:
    """How experiments are valued.

    Attributes:
        model: Forward model; automatic takes the one that identifies held-out doubles best.
        drug_targets: Table of what drugs act on (columns drug, target, weight), for --model causal;
            experiments may then name drugs that were never given.
        embedding: Table of a vector for each gene or compound (.csv, .tsv, .parquet, .npz, .h5ad:obsm/NAME), in
            place of the shipped tables; experiments may then name what it holds and was never given.
        level: Probability of the bounds.
        standardise: Count each readout in units of its usual single effect: for readouts in units of their own.
        seed: Fixes everything that is random.
        no_cache: Fit anew, and keep no fit.
    """

    model: str = AUTOMATIC
    drug_targets: str | None = None
    embedding: str | None = None
    level: Annotated[float, Parameter(validator=validators.Number(gt=0, lt=1))] = 0.9
    standardise: bool = False
    seed: int = 0
    no_cache: NoCache = False


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
