"""What values the fields of a configuration may take when it is tuned."""

from collections.abc import Mapping
from dataclasses import dataclass, fields, is_dataclass, replace
from typing import Any, TypeAlias, TypeVar

from optuna.trial import BaseTrial

from surrogates.errors import DataError, UnknownNameError

Configuration = TypeVar("Configuration")


@dataclass(frozen=True)
class IntRange:
    """Whole numbers between two bounds, both included.

    Attributes:
        low: The smallest.
        high: The largest.
    """

    low: int
    high: int

    def __post_init__(self) -> None:
        """Refuse an empty range."""
        _require_order(float(self.low), float(self.high))

    def suggest(self, trial: BaseTrial, name: str) -> int:
        """Take what a trial proposes.

        Args:
            trial: The trial.
            name: Of the field.

        Returns:
            A value of the field.
        """
        return trial.suggest_int(name, self.low, self.high)

    def spelled(self, value: object) -> int | None:
        """Spell a value the way a trial knows it.

        Args:
            value: A value of the field.

        Returns:
            The spelling, ``None`` if the value is outside.
        """
        return value if isinstance(value, int) and self.low <= value <= self.high else None


@dataclass(frozen=True)
class RealRange:
    """Numbers between two bounds, both included, tried evenly.

    Attributes:
        low: The smallest.
        high: The largest.
    """

    low: float
    high: float

    def __post_init__(self) -> None:
        """Refuse an empty range."""
        _require_order(self.low, self.high)

    def suggest(self, trial: BaseTrial, name: str) -> float:
        """Take what a trial proposes, as :meth:`IntRange.suggest`."""
        return trial.suggest_float(name, self.low, self.high)

    def spelled(self, value: object) -> float | None:
        """Spell a value the way a trial knows it, as :meth:`IntRange.spelled`."""
        return float(value) if isinstance(value, (int, float)) and self.low <= value <= self.high else None


@dataclass(frozen=True)
class LogRange:
    """Positive numbers between two bounds, both included, whose orders of magnitude are tried evenly.

    Attributes:
        low: The smallest; positive.
        high: The largest.
    """

    low: float
    high: float

    def __post_init__(self) -> None:
        """Refuse an empty range, and one that reaches zero."""
        _require_order(self.low, self.high)
        if self.low <= 0:
            raise DataError(f"the range from {self.low!r} has no logarithm; begin above zero")

    def suggest(self, trial: BaseTrial, name: str) -> float:
        """Take what a trial proposes, as :meth:`IntRange.suggest`."""
        return trial.suggest_float(name, self.low, self.high, log=True)

    def spelled(self, value: object) -> float | None:
        """Spell a value the way a trial knows it, as :meth:`IntRange.spelled`."""
        return float(value) if isinstance(value, (int, float)) and self.low <= value <= self.high else None


@dataclass(frozen=True)
class Choice:
    """Some values of any kind; trials know them by their ``repr``.

    Attributes:
        options: The values.
    """

    options: tuple[Any, ...]

    def __post_init__(self) -> None:
        """Refuse no options, and options that look alike."""
        if not self.options or len(self._by_name) < len(self.options):
            raise DataError(f"there are no options in {self.options!r}, or two of them look alike")

    def suggest(self, trial: BaseTrial, name: str) -> Any:  # noqa: ANN401 - a field can be anything
        """Take what a trial proposes, as :meth:`IntRange.suggest`."""
        return self._by_name[trial.suggest_categorical(name, tuple(self._by_name))]

    def spelled(self, value: object) -> str | None:
        """Spell a value the way a trial knows it, as :meth:`IntRange.spelled`."""
        return repr(value) if repr(value) in self._by_name else None

    @property
    def _by_name(self) -> dict[str, Any]:
        return {repr(each): each for each in self.options}


# By the name of a field; "schedule.rate" is the field of a field.
SearchSpace: TypeAlias = Mapping[str, IntRange | RealRange | LogRange | Choice]


def field_of(configuration: object, path: str) -> Any:  # noqa: ANN401 - a field can be anything
    """Look a field up.

    Args:
        configuration: A dataclass.
        path: Names of fields, joined by dots.

    Returns:
        The value.

    Raises:
        UnknownNameError: If there is no such field.
    """
    value = configuration
    for name in path.split("."):
        known = [each.name for each in fields(value) if each.init] if is_dataclass(value) else []
        if name not in known:
            raise UnknownNameError.from_known(f"field of {type(value).__name__}", name, known)
        value = getattr(value, name)
    return value


def with_fields(configuration: Configuration, values: Mapping[str, object]) -> Configuration:
    """Change some fields.

    Args:
        configuration: A frozen dataclass.
        values: By the path of the field.

    Returns:
        The changed configuration.

    Raises:
        DataError: If the configuration refuses the values.
    """
    changed: Any = configuration
    for path, value in values.items():
        head, _, rest = path.partition(".")
        changed = replace(changed, **{head: with_fields(getattr(changed, head), {rest: value}) if rest else value})
    result: Configuration = changed
    return result


def _require_order(low: float, high: float) -> None:
    if not low <= high:
        raise DataError(f"the range from {low!r} to {high!r} is empty")
