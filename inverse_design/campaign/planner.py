"""Who plans a round: what a planner is given, and what it answers."""

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import pandas as pd

from inverse_design.errors import PlanError
from surrogates.data.perturbation import Perturbation
from surrogates.data.screen import Screen

PERTURBATION = "perturbation"
PLAN_COLUMNS = (
    PERTURBATION, "predicted", "lower", "upper", "expected_gain", "probability", "chosen", "log_probability",
    "novelty", "reason",
)  # fmt: skip


@dataclass(frozen=True)
class Plan:
    """The experiments of one round, as a planner proposes them.

    Attributes:
        table: One row per experiment, best first, with the columns ``perturbation`` (label), ``predicted``,
            ``lower``, ``upper``, ``expected_gain``, ``probability``, ``chosen`` (``"designed"`` or
            ``"random"``), ``log_probability`` (of a random pick, else NaN), ``novelty`` and ``reason``. Only
            ``perturbation`` is required; further columns are kept.
        expected_gain: Of the whole batch, in units of the utility: what the stop rule reads.
        notes: Remarks for the user, such as what could not be modelled.
        model: The fitted model behind the plan as the content of a safetensors file, or ``None``.
    """

    table: pd.DataFrame
    expected_gain: float
    notes: tuple[str, ...] = ()
    model: bytes | None = None

    def __post_init__(self) -> None:
        """Refuse a table that names no experiments, or one of them twice."""
        if PERTURBATION not in self.table:
            raise PlanError(f"the plan has no column {PERTURBATION!r}, only {', '.join(map(str, self.table))}")
        labels = self.table[PERTURBATION]
        if labels.duplicated().any():
            raise PlanError(
                f"the plan proposes {labels[labels.duplicated()].iloc[0]!r} twice; one row per experiment"
            )


@runtime_checkable
class Planner(Protocol):
    """Chooses experiments. The same arguments must give the same plan: a replay of the log relies on it."""

    def plan(self, screen: Screen, count: int, *, pending: tuple[Perturbation, ...], seed: int) -> Plan:
        """Choose the experiments of a round.

        Args:
            screen: Everything that is known: the starting screen and the told results, averaged over replicates.
            count: How many experiments are wanted; fewer may be proposed.
            pending: Experiments that were proposed or ordered and whose results are not known yet.
            seed: Fixes everything that is random.

        Returns:
            The plan.

        Raises:
            NothingToProposeError: If no candidate is left.
        """
        ...
