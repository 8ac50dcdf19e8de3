"""The options of the verb ``campaign``, as the command line and its help know them."""

from dataclasses import dataclass
from typing import Annotated, Literal

from cyclopts import Group, Parameter

from inverse_design.cli.options import OrderName, Words

STORE, STORE_VARIABLE = "campaigns.db", "INVERSE_DESIGN_STORE"
PLACE = Group("Which campaign", sort_key=1)
SETTINGS = Group("What is fixed when it begins (flags go before the file)", sort_key=2)
PICKING = Group("The pick list of a machine, from the wells that the library names", sort_key=3)
PLATES = Group("The plates (as in the settings, if not stated)", sort_key=2)

# The words of inverse_design.campaign, which is not imported here; a test compares them.
SizeName = Literal[24, 96, 384]
EdgeName = Literal["used", "empty"]
ExportFormat = Literal["plate", "echo", "opentrons"]


@Parameter(name="*", group=PLACE)
@dataclass(frozen=True)
class CampaignPlace:
    """Which campaign, and who acts.

    Attributes:
        store: An SQLite file, or the URL of a PostgreSQL database.
        store_file: File that holds the path or URL of the store, so that no password is typed.
        name: Name of the campaign; needed if the store holds several.
        actor: Who acts, for the history; the user of the machine by default.
    """

    store: Annotated[str, Parameter(env_var=STORE_VARIABLE)] = STORE
    store_file: str | None = None
    name: str | None = None
    actor: str | None = None


@Parameter(name="*", group=SETTINGS)
@dataclass(frozen=True)
class Stated:
    """Settings that are stated as flags; whatever is not stated comes from the file, or is the default.

    Attributes:
        target: Where the cells should go: a condition of the data (A+B), a table of readout values, or a .toml.
        order: How many are given together; both for singles and pairs (2).
        batch_size: Experiments of a round (24).
        random_share: Part of each batch that is drawn at random, to recalibrate bounds on (0.1).
        max_per_gene: Most experiments of a batch with the same gene; no limit if not stated.
        exclude: Names that are never proposed: A,B, repeated, or a file with one name per line.
        incompatible: Table of two columns: pairs that are never proposed together.
        batch_wide: What all experiments of a batch share: dose, or a table of two columns, gene and the condition
            (a temperature, a medium); genes that it does not name go with any.
        replicates: Wells of each experiment (2).
        controls: Control wells of a plate (8).
        plate_size: Wells of a plate (96).
        budget: Largest sum of costs over all rounds; no limit if not stated.
        cost_per_well: Of each replicate and control (0).
        cost_per_round: Of a round, however small (0).
        costs: Table of costs of genes or compounds (columns gene, cost), on top of wells.
        level: Nominal probability of the bounds (0.9).
        value_per_gain: What one unit of gained utility is worth, in the unit of the costs.
        least_gain: Smallest expected gain that is worth a round, as a part of the gain so far (0.05).
        surrogate: Forward model (automatic).
        recommender: What chooses the experiments (automatic: what wins the replays for this kind of target).
        gain: By which gain the recommender gains ranks experiments (expected_improvement).
        seed: Fixes everything that is random (0).
    """

    target: str | None = None
    order: OrderName | None = None
    batch_size: int | None = None
    random_share: float | None = None
    max_per_gene: int | None = None
    exclude: Words = ()
    incompatible: str | None = None
    batch_wide: Words = ()
    replicates: int | None = None
    controls: int | None = None
    plate_size: SizeName | None = None
    budget: float | None = None
    cost_per_well: float | None = None
    cost_per_round: float | None = None
    costs: str | None = None
    level: float | None = None
    value_per_gain: float | None = None
    least_gain: float | None = None
    surrogate: str | None = None
    recommender: str | None = None
    gain: str | None = None
    seed: int | None = None


@Parameter(name="*", group=PLATES)
@dataclass(frozen=True)
class PlateOptions:
    """How a batch is put on plates.

    Attributes:
        plate: Wells of a plate.
        controls: Control wells of each plate.
        replicates: Wells of each experiment.
        edges: Whether the outer wells are used.
    """

    plate: SizeName | None = None
    controls: int | None = None
    replicates: int | None = None
    edges: EdgeName = "used"


@Parameter(name="*", group=PICKING)
@dataclass(frozen=True)
class Picking:
    """The pick list of a machine that fills the plates.

    Attributes:
        format: A plate map alone (plate), or also what an Echo (echo) or a robot of Opentrons (opentrons) reads.
            The library then has the columns source_plate and source_well; for opentrons labware and slot, too.
        volume: How much of each reagent goes into a well, in nL; multiples of 2.5 for an Echo, 1000 or more for
            Opentrons.
        labware: Name of the plates to be filled in the Labware Library of Opentrons.
        slots: Where they stand on its deck: A,B or repeated, one for each.
    """

    format: ExportFormat = "plate"
    volume: float | None = None
    labware: str | None = None
    slots: Words = ()
