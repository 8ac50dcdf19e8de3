"""One measured number of a benchmark, with its interval, and files of them."""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from surrogates.data.io.whole_file import write_whole


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
        standard_error: Of the value, where perturbations that share genes were allowed for; ``nan`` if not known.
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
