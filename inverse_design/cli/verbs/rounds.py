"""The verb ``benchmark rounds``: what a campaign stated before each round beside what was measured."""

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float, Int
from rich.console import Console
from torch import Tensor

from inverse_design.cli.campaign.report import show_coverage
from inverse_design.cli.console import Run, say, strict
from inverse_design.cli.outputs import manifest, place_for
from inverse_design.cli.verbs.retrieval import give_rows, reliability_grid
from inverse_design.numbers import measured
from inverse_design.validate.judged import ALL, Rounds, health_of, reliability, rounds_rows, uncovered
from inverse_design.value_tables import text_table
from surrogates.data.perturbation import Intervention, split_label
from surrogates.data.vocabulary import EMPTY
from surrogates.errors import DataError, listed, shown
from surrogates.evaluation.intervals import Row
from surrogates.uncertainty.conformal.quantiles import require_level

NEEDED = ("round", "lower", "upper", "measured")
_TRUE, _FALSE = ("1", "1.0", "true", "yes"), ("0", "0.0", "false", "no")


def read_rounds(path: Path) -> Rounds:
    """Read what was stated and measured, one row per perturbation."""
    table = text_table(path)
    header = [column.strip().casefold() for column in table.columns]
    table = table.set_axis(header, axis=1)
    if twice := [column for column in header if header.count(column) > 1]:
        raise DataError(f"{path.name!r} has {header.count(twice[0])} columns {shown(twice[0])}; rename them")
    if missing := [column for column in NEEDED if column not in table]:
        raise DataError(
            f"{path.name!r} has no column {missing[0]!r}; it has {listed(header)}, and needs {', '.join(NEEDED)}"
        )
    if table.empty:
        raise DataError(f"{path.name!r} has no rows; give one row per measured perturbation")
    lower, upper = (_numbers(table, column, path, infinite=True) for column in ("lower", "upper"))
    _refuse(path, table, lower > upper, ("lower", "upper"), "the lower bound is above the upper one")
    if ("probability" in table) != ("hit" in table):
        raise DataError(f"{path.name!r} has one of the columns 'probability' and 'hit'; give both or none")
    stated = _numbers(table, "probability", path) if "probability" in table else None
    if stated is not None:
        _refuse(path, table, (stated < 0) | (stated > 1), ("probability",), "a probability is between 0 and 1")
    number = _numbers(table, "round", path)
    _refuse(path, table, (number % 1 != 0) | (number < 0), ("round",), "a round is a whole number from 0 on")
    _refuse_repeats(path, table, number)
    return Rounds(
        number=number.long(),
        lower=lower,
        upper=upper,
        measured=_numbers(table, "measured", path),
        random=_words(table, "chosen", path, ("random",), ("designed",)) if "chosen" in table else None,
        probability=stated,
        hit=_words(table, "hit", path, _TRUE, _FALSE) if stated is not None else None,
        nodes=_nodes(table["perturbation"].tolist()) if "perturbation" in table else None,
    )


def _nodes(labels: Sequence[str]) -> Int[Tensor, "n k"]:
    """Number the targets of each perturbation; what a label says of dose and mode does not matter."""
    parts = [
        list(dict.fromkeys(Intervention.parse(part).target for part in split_label(label, "+") if part))
        for label in labels
    ]
    numbers = {target: number for number, target in enumerate(sorted({each for row in parts for each in row}))}
    most = max(1, *map(len, parts))
    return torch.tensor([
        [numbers[each] for each in row] + [EMPTY] * (most - len(row)) for row in parts
    ])  # fmt: skip


def _numbers(table: pd.DataFrame, column: str, path: Path, *, infinite: bool = False) -> Float[Tensor, "n"]:
    values = torch.tensor(pd.to_numeric(table[column].str.strip(), errors="coerce").to_numpy(np.float64))
    bad = values.isnan() if infinite else ~values.isfinite()
    _refuse(path, table, bad, (column,), "that is no number" if infinite else "that is no finite number")
    return values


def _words(table: pd.DataFrame, column: str, path: Path, yes: Sequence[str], no: Sequence[str]) -> Tensor:
    words = table[column].str.strip().str.casefold()
    known = torch.tensor(words.isin([*yes, *no]).to_numpy(bool))
    _refuse(path, table, ~known, (column,), f"it is one of {', '.join((*yes, *no))}")
    return torch.tensor(words.isin(yes).to_numpy(bool))


def _refuse(path: Path, table: pd.DataFrame, bad: Tensor, columns: Sequence[str], why: str) -> None:
    if bool(bad.any()):
        row = int(bad.int().argmax())
        seen = ", ".join(f"{column} {shown(table[column].iloc[row])}" for column in columns)
        count = f" ({int(bad.sum())} such rows)" if int(bad.sum()) > 1 else ""
        raise DataError(f"row {row + 1} of {path.name!r} has {seen}: {why}{count}; correct or remove it")


def _refuse_repeats(path: Path, table: pd.DataFrame, number: Tensor) -> None:
    """Refuse replicates: they share the error of their perturbation, so that they are not independent trials."""
    if "perturbation" not in table:
        return
    first: dict[tuple[str, float], int] = {}
    for row, key in enumerate(zip(table["perturbation"].str.strip(), number.tolist(), strict=True)):
        if key in first:
            raise DataError(
                f"{path.name!r} has perturbation {shown(key[0])} twice in round {key[1]:g} (rows {first[key] + 1}"
                f" and {row + 1}); give one row per perturbation, such as the mean of its replicates"
            )
        first[key] = row


def run_rounds(
    run: Run, results: str, *, level: float, adaptive: bool, seed: int, destination: str | None
) -> None:
    """Measure whether the bounds that were stated before each round held."""
    require_level(level)
    place = place_for(destination, run, ".json", inputs=[results])
    rounds = read_rounds(Path(results))
    rows = rounds_rows(rounds, dataset=Path(results).name, seed=seed)
    health = health_of(rounds, level, adaptive=adaptive, seed=seed)
    settings = {"level": level, "adaptive": adaptive, "health": None if health is None else strict(asdict(health))}
    said = "it is not known which were drawn at random (column chosen)" if health is None else health.line

    def show(console: Console) -> None:
        show_rounds(console, rounds, rows, level)
        say(console, f"health: {said}")

    give_rows(run, rows, manifest(run, None, seed=seed, settings=settings), place, show)


def show_rounds(console: Console, rounds: Rounds, rows: list[Row], level: float) -> None:
    """Print warnings, coverage round by round, and the reliability of probabilities."""
    for line in uncovered(rows, level):
        say(console, line, "bold yellow")
    show_coverage(console, rows, level)
    if rounds.probability is None or rounds.hit is None:
        return
    found = {row.metric: row for row in rows if row.variant == ALL}
    say(console)
    reliability_grid(reliability(rounds.probability, rounds.hit)).show(console)
    error = found["ece"]
    say(
        console,
        f"expected calibration error {measured(error.value, error.low, error.high, error.unit)}, by chance"
        f" {found['ece_by_chance'].value:.3f}",
    )
