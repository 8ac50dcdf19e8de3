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
RUNNING = Group("Who works on it (the answer does not depend on it)", sort_key=4)
RESTRICTIONS = Group("What may be proposed", sort_key=2)
READING = Group("Reading a file (what is not stated is detected, and reported)", sort_key=3)

# What many verbs take; groups of options describe their own.
Data: TypeAlias = Annotated[
    str,
    Parameter(
        help="A dataset of the catalogue, a file (.h5ad of cells or effects, .csv, .tsv, .parquet), or a folder of"
        " .h5ad files of cells."
    ),
]
CONTEXT_HELP = "Which context (cell type, line), if the data hold several."
Context: TypeAlias = Annotated[str | None, Parameter(group=ASKING, help=CONTEXT_HELP)]
Target: TypeAlias = Annotated[
    str,
    Parameter(
        group=ASKING,
        help="A condition of the data (A+B), a table of readout values (.csv, .tsv, .parquet), or a .toml file of"
        " kind profile, signature, shift or scalar.",
    ),
]
TableOutput: TypeAlias = Annotated[
    str | None,
    Parameter(
        name=["--output", "-o"],
        group=ASKING,
        help="Where to write the table: .csv, .parquet, .json or .xlsx; the manifest is put beside it as .json.",
    ),
]


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
    """Who sums cells, fits and searches; the answer does not depend on it.

    Attributes:
        workers: Processes of this machine, which take about 2 s to start; this one makes fits to screens of fewer
            than 2^20 effects. Each has one thread, and a part of a fit, of which the longest takes a third of it.
        scheduler: Address of a dask.distributed scheduler, such as tls://10.0.0.1:8786, whose workers fit and
            search. Whoever runs or reaches it can run programs as you, here and there: name one that you trust.
            For tls:// the certificates of Dask's configuration are used (DASK_DISTRIBUTED__COMM__TLS__CA_FILE,
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
    """Who sums cells and works on fits and their folds; the results do not depend on it.

    Attributes:
        workers: Processes of this machine, which take about 2 s to start, and threads that read cells; a single
            fit has no processes if the screen has fewer than 2^20 effects.
        scheduler: Address of a dask.distributed scheduler, such as tls://10.0.0.1:8786, whose workers reach the
            files by the same paths. Whoever runs or reaches it can run programs as you, here and there.
    """

    workers: AtLeastOne = 1
    scheduler: str | None = None

    @property
    def place(self) -> int | str:
        """Where folds are fitted: so many processes, or an address."""
        return self.workers if self.scheduler is None else self.scheduler


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
