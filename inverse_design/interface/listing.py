"""The options of the verb ``rank``, as the command line and its help know them."""

from dataclasses import dataclass
from typing import Annotated

from cyclopts import Group, Parameter, validators

from inverse_design.interface.options import ASKING, AUTOMATIC

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
    """

    experiments: str
    experiment_column: str | None = None
    cost_column: str | None = None
    budget: Annotated[float | None, Parameter(validator=validators.Number(gte=0))] = None


@Parameter(name="*", group=ASKING)
@dataclass(frozen=True)
class Valuing:
    """How experiments are valued.

    Attributes:
        model: Forward model; automatic takes the one that identifies held-out doubles best.
        level: Probability of the bounds.
        seed: Fixes everything that is random.
    """

    model: str = AUTOMATIC
    level: Annotated[float, Parameter(validator=validators.Number(gt=0, lt=1))] = 0.9
    seed: int = 0
