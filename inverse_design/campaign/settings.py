"""The settings of a campaign: a frozen dataclass that is also the schema of its TOML file."""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from pydantic import BeforeValidator, ConfigDict, TypeAdapter, ValidationError
from pydantic_core import ErrorDetails

from inverse_design.errors import SettingsError
from inverse_design.problem.problem import Order
from inverse_design.toml_files import read_toml
from surrogates.data.names import name_of
from surrogates.errors import DataError, nearest_hint, shown

PlateSize = Literal[24, 96, 384]
AUTOMATIC, JOINT_GAIN = "automatic", "expected_improvement"


def _as_registered(gain: object) -> object:
    """Read the spelling of campaigns that began before names of gains had underscores: their logs never change."""
    return gain.replace("-", "_") if isinstance(gain, str) else gain


@dataclass(frozen=True)
class CampaignSettings:
    """What is fixed when a campaign begins.

    Attributes:
        name: Of the campaign; unique in its store.
        target: Where the cells should go, in the user's words: a condition of the data, a file, or a goal.
        order: How many are given together, from 1 to 6; both for singles and pairs.
        batch_size: Experiments of a round.
        random_share: Part of each batch that is drawn at random with logged probabilities, from 0 to 1: bounds
            are recalibrated on these.
        max_per_gene: Most experiments of a batch that share one gene or compound; no limit by default.
        exclude: Genes or compounds that are never proposed.
        incompatible: Pairs of them that are never proposed together.
        constraints: Constraints of other packages, each as NAME, NAME:key=value,key=value or NAME:{JSON}.
        replicates: Wells of each experiment.
        controls: Control wells of a plate.
        plate_size: Wells of a plate.
        budget: Largest sum of costs over all rounds, in the unit of the costs; no limit by default.
        cost_per_well: Of each replicate and each control.
        cost_per_round: Of a round, however small.
        costs: Cost of an experiment with a gene or compound, on top of its wells; zero where not named.
        level: Nominal probability of the bounds.
        value_per_gain: What one unit of gained utility is worth, in the unit of the costs. Without it, rounds are
            judged by ``least_gain``.
        least_gain: Smallest expected gain that is worth a round, as a part of the gain so far.
        surrogate: Name of the forward model.
        recommender: Name of what chooses the experiments; ``"automatic"`` takes the one that wins the replays for
            this kind of target.
        gain: Name of the acquisition by which the recommender ``"gains"`` ranks experiments, such as
            ``"expected_improvement"`` or ``"upper_bound"``.
        seed: Fixes everything that is random.
    """

    name: str
    target: str
    order: Order = "2"
    batch_size: int = 24
    random_share: float = 0.1
    max_per_gene: int | None = None
    exclude: tuple[str, ...] = ()
    incompatible: tuple[tuple[str, str], ...] = ()
    constraints: tuple[str, ...] = ()
    replicates: int = 2
    controls: int = 8
    plate_size: PlateSize = 96
    budget: float | None = None
    cost_per_well: float = 0.0
    cost_per_round: float = 0.0
    costs: Mapping[str, float] = field(default_factory=dict)
    level: float = 0.9
    value_per_gain: float | None = None
    least_gain: float = 0.05
    surrogate: str = AUTOMATIC
    recommender: str = AUTOMATIC
    gain: Annotated[str, BeforeValidator(_as_registered)] = JOINT_GAIN
    seed: int = 0
    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid")

    def __post_init__(self) -> None:
        """Refuse an unprintable name, and numbers out of range."""
        for what, text in (("name", self.name), ("target", self.target)):
            try:  # of any length: a target may be a path, and a campaign that has begun must open
                object.__setattr__(self, what, name_of(text, "text", longest=len(text) + 1))
            except DataError as error:
                raise SettingsError(f"{what} {text[:80]!r} of the campaign: {error}") from error
        for what, number, least in (
            ("batch_size", self.batch_size, 1),
            ("max_per_gene", self.max_per_gene, 1),
            ("replicates", self.replicates, 1),
            ("controls", self.controls, 0),
            ("seed", self.seed, 0),
        ):
            if number is not None and number < least:
                raise SettingsError(f"{what} = {number}: give at least {least}")
        self._refuse_shares()
        self._refuse_amounts()

    def _refuse_shares(self) -> None:
        if not 0 <= self.random_share <= 1:
            raise SettingsError(f"random_share = {self.random_share}: give a part of the batch, from 0 to 1")
        if not 0 < self.level < 1:
            raise SettingsError(f"level = {self.level}: give a probability between 0 and 1, such as 0.9")
        if self.controls >= self.plate_size:
            raise SettingsError(f"controls = {self.controls} leave no well of {self.plate_size} for an experiment")

    def _refuse_amounts(self) -> None:
        amounts = {
            "budget": self.budget,
            "cost_per_well": self.cost_per_well,
            "cost_per_round": self.cost_per_round,
            "value_per_gain": self.value_per_gain,
            "least_gain": self.least_gain,
            **{f"costs.{name}": cost for name, cost in self.costs.items()},
        }
        for what, amount in amounts.items():
            if amount is not None and not (math.isfinite(amount) and amount >= 0):
                raise SettingsError(f"{what} = {amount}: give a finite number that is not negative")


_ADAPTER: TypeAdapter[CampaignSettings] = TypeAdapter(CampaignSettings)
_KEYS = tuple(each.name for each in fields(CampaignSettings))


def settings_of(stated: Mapping[str, object]) -> CampaignSettings:
    """Check settings as a file or flags state them."""
    if unknown := [key for key in stated if key not in _KEYS]:
        raise SettingsError(f"unknown key {unknown[0]!r} in the settings: {nearest_hint(str(unknown[0]), _KEYS)}")
    try:
        return _ADAPTER.validate_python(dict(stated))
    except ValidationError as error:
        raise SettingsError("; ".join(_in_words(each) for each in error.errors())) from error


def settings_as_json(settings: CampaignSettings) -> dict[str, Any]:
    """Spell settings out in the values of JSON."""
    written: dict[str, Any] = _ADAPTER.dump_python(settings, mode="json")
    return written


def settings_schema() -> str:
    """Print the JSON schema of the settings."""
    return json.dumps(_ADAPTER.json_schema(), indent=2)


def _in_words(problem: ErrorDetails) -> str:
    where = ".".join(str(each) for each in problem["loc"])
    if problem["type"] in {"missing", "missing_argument"}:
        return f"the settings need the key {where!r} (--{where})"
    return f"{shown(where, bare=True)}: {problem['msg']}, found {shown(problem['input'])}"


SETTINGS_ENDING = ".toml"


def read_settings(path: Path | None, stated: Mapping[str, object]) -> CampaignSettings:
    """Read the settings of a campaign from a file, from flags, or from both."""
    if path is None:
        return settings_of(stated)
    read = {**_read(path), **stated}
    if "target" not in stated:
        read["target"] = _beside(path, read.get("target"))
    try:
        return settings_of({key: value for key, value in read.items() if value is not None})
    except SettingsError as error:
        raise SettingsError(f"{path.name!r}: {error}") from error


def _read(path: Path) -> dict[str, object]:
    if path.suffix != SETTINGS_ENDING:
        raise SettingsError(f"settings {str(path)!r} must be a file that ends with {SETTINGS_ENDING}")
    try:
        return read_toml(path)
    except DataError as error:
        raise SettingsError(str(error)) from error


def _beside(path: Path, target: object) -> object:
    """Make the path of a target's file independent of the folder that the command runs in."""
    if not isinstance(target, str) or not target.strip():
        return target
    file = path.parent / target
    try:
        return str(file) if file.is_file() else target
    except OSError:  # longer than any path: a condition, or a mistake that the target's reader names
        return target
