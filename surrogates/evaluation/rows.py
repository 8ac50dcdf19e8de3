"""One measured number of a benchmark, with its interval, and files of them."""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from surrogates.whole_file import write_whole


@dataclass(frozen=True)
class Row:
    """A number that a benchmark measured.

    Attributes:
        standard_error: Of the value, where perturbations that share genes were allowed for; ``nan`` if not known.
    """

    benchmark: str  # which protocol, for example ``"forward"``
    dataset: str  # on which data
    model: str  # of which model
    novelty: str  # on which novelty class
    variant: str  # of the protocol, for example which readouts
    metric: str  # what was measured
    value: float  # how much; ``nan`` where it is undefined
    low: float  # lower bound of its interval
    high: float  # upper bound of its interval
    n: int  # number of held-out perturbations behind it
    unit: str  # of value and bounds
    standard_error: float = math.nan

    def to_dict(self) -> dict[str, str | int | float | None]:
        """Spell the row out for strict JSON."""
        return {
            key: None if isinstance(value, float) and not math.isfinite(value) else value
            for key, value in asdict(self).items()
        }


def write_json(rows: Sequence[Row], path: Path, *, manifest: Mapping[str, object] | None = None) -> None:
    """Write rows as JSON, ``{"manifest": {...}, "rows": [{...}, ...]}``.

    A reader sees the old file or the new one, never a part.
    """
    content = {"manifest": dict(manifest or {}), "rows": [row.to_dict() for row in rows]}
    text = json.dumps(content, indent=1, allow_nan=False)
    write_whole(path, lambda temporary: temporary.write_text(text + "\n", encoding="utf-8"))
