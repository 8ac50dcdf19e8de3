"""The options that several verbs share, as the command line and its help know them."""

from dataclasses import dataclass
from typing import Annotated, Literal, TypeAlias

from cyclopts import Group, Parameter, validators

from inverse_design.interface.run import Run
from surrogates.data.perturbation import Mode

# The words of inverse_design.proposal, which cannot be imported here without torch; a test compares them.
OrderName = Literal["1", "2", "3", "4", "5", "6", "both"]
ObjectiveWord = Literal["likelihood", "distance", "pearson", "cosine", "projection"]
MeasuredWord = Literal["keep", "leave-out"]
RunWords: TypeAlias = Annotated[Run, Parameter(parse=False)]
Output: TypeAlias = Annotated[str | None, Parameter(name=["--output", "-o"])]
Words: TypeAlias = Annotated[tuple[str, ...], Parameter(show_default=False)]

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
        reference_key: Label of the control; empty when no label is one.
        dose_col: Column of doses.
        group_col: Column of contexts (cell type, line, batch).
        layer_key: Layer of an .h5ad file to read instead of X.
        sep: What stands between the parts of a combination.
        mode: How targets are acted upon; where the file names several modes, only this one is read and proposed.
        readouts: Readouts to read: A,B, repeated, or a file with one name per line.
    """

    target_col: Words = ()
    reference_key: str | None = None
    dose_col: str | None = None
    group_col: str | None = None
    layer_key: str | None = None
    sep: str | None = None
    mode: Mode | None = None
    readouts: Words = ()


@Parameter(name="*", group=ASKING)
@dataclass(frozen=True)
class Asking:
    """What is asked of the data, beside the target.

    Attributes:
        order: How many are given together; both for singles and pairs.
        top: How many candidates to list.
        objective: How candidates are judged; likelihood by default for profiles, projection for signatures.
        prior: Table of prior weights of genes (columns gene, weight), one where a gene is not named.
        model: Forward model; automatic takes the one that identifies held-out doubles best.
        level: Probability of the bounds of each candidate, and of the set of candidates.
        seed: Fixes everything that is random.
    """

    order: OrderName = "2"
    top: Annotated[int, Parameter(validator=validators.Number(gte=1))] = 20
    objective: ObjectiveWord | None = None
    prior: str | None = None
    model: str = AUTOMATIC
    level: Annotated[float, Parameter(validator=validators.Number(gt=0, lt=1))] = 0.9
    seed: int = 0


@Parameter(name="*", group=RESTRICTIONS)
@dataclass(frozen=True)
class Restrictions:
    """What may be proposed. Names are A,B, repeated, or a file with one name per line.

    Attributes:
        exclude: Names that no candidate may hold.
        require: Names that every candidate must hold.
        allow: The only names that candidates may hold.
        measured: Whether perturbations that were measured already may be proposed again.
        dose: Lowest and highest dose, both included.
        doses: Table of the only doses of the genes or compounds it names (columns gene, dose).
        groups: Table of groups (columns gene, group, maybe at_most) of which a candidate holds one, or at_most.
        incompatible: Table of two columns: pairs that may not stand together.
        costs: Table of what each gene costs (columns gene, cost); goes with the budget.
        budget: The most that the parts of one candidate may cost together.
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


@Parameter(name="*", group=RUNNING)
@dataclass(frozen=True)
class Running:
    """How the space is searched; the answer does not depend on it.

    Attributes:
        workers: Processes of this machine.
        scheduler: Address of a dask.distributed scheduler, such as tcp://10.0.0.1:8786, to search on its workers.
        ledger: File of finished parts, by which a killed search resumes where it stopped.
        yes: Proceed with a search of more than a minute.
        device: Where pairs are multiplied in this process, such as cuda.
    """

    workers: Annotated[int, Parameter(validator=validators.Number(gte=1))] = 1
    scheduler: str | None = None
    ledger: str | None = None
    yes: Annotated[bool, Parameter(negative="")] = False
    device: str = "cpu"
