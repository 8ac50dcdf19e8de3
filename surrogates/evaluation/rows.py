"""One measured number of a benchmark, with its interval, and files of them."""

import json
import math
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path


@dataclass(frozen=True)
class Row:
    """A number that a benchmark measured.

    Attributes:
        benchmark: Which protocol, for example ``"forward"``.
        dataset: On which data.
        model: Of which model.
        novelty: On which novelty class.
        variant: Of the protocol, for example which readouts.
        metric: What was measured.
        value: How much; ``nan`` where it is undefined.
        low: Lower bound of its interval.
        high: Upper bound of its interval.
        n: Number of held-out perturbations behind it.
        unit: Of value and bounds.
    """

    benchmark: str
    dataset: str
    model: str
    novelty: str
    variant: str
    metric: str
    value: float
    low: float
    high: float
    n: int
    unit: str

    def to_dict(self) -> dict[str, str | int | float | None]:
        """Spell the row out for strict JSON.

        Returns:
            Its fields in order; numbers that are not finite become ``None``.
        """
        return {
            key: None if isinstance(value, float) and not math.isfinite(value) else value
            for key, value in asdict(self).items()
        }


def write_json(rows: Sequence[Row], path: Path) -> None:
    """Write rows as a JSON list; a reader sees the old file or the new one, never a part.

    Args:
        rows: What to write.
        path: Where; its folder must exist.
    """
    text = json.dumps([row.to_dict() for row in rows], indent=1, allow_nan=False)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        temporary.write_text(text + "\n", encoding="utf-8")
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
