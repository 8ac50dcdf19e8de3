"""The verb ``benchmark cells``: models of single cells, on what none of them has seen."""

from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path

from rich.console import Console

from inverse_design.cli.console import Run, say, working
from inverse_design.cli.grid import Column, Grid
from inverse_design.cli.options import Planning, Reading
from inverse_design.cli.outputs import manifest, place_for
from inverse_design.cli.plans import settled
from inverse_design.cli.screens import read_names, refuse_options, stated_dialect, warn_of_scheduler
from inverse_design.cli.verbs.measuring import JudgingCells
from inverse_design.cli.verbs.retrieval import give_rows
from inverse_design.numbers import fixed, measured
from inverse_design.planning.plan import Outline
from inverse_design.validate.cells import (
    DEFAULT_CELL_MODELS,
    LESS,
    REFERENCE,
    cell_losses,
    cell_rows,
    named_cell_models,
)
from surrogates.data.catalogue import file_of_cells, names
from surrogates.data.io.cells import Cells, read_cells
from surrogates.data.io.dialects import Dialect
from surrogates.errors import CalibrationError, DataError, amount
from surrogates.evaluation.cell_scorecard import CellReport, judge_cells
from surrogates.evaluation.cell_scores import CELL_METRICS
from surrogates.evaluation.intervals import Row
from surrogates.models.registry import CELL_SURROGATES

_MOST_LINES = 20  # conditions whose numbers are printed; all are in the JSON


def run_cells(run: Run, data: str, *, asked: JudgingCells, planning: Planning, reading: Reading) -> None:
    """Measure how near predicted cells come to measured ones."""
    place = place_for(asked.output, run, ".json", inputs=[data])
    models = read_names(asked.models, known=CELL_SURROGATES.names()) or DEFAULT_CELL_MODELS
    named = named_cell_models(models)  # a wrong name is refused before anything is read
    warn_of_scheduler(asked.crew.scheduler)
    with working("reading"):
        cells = open_cells(data, reading)
    sizes = f"{amount(len(cells), 'cell')} on {amount(len(cells.readouts), 'readout')}"
    said = f"cells: {sizes}, {amount(len(named), 'model')}"
    notes = ("how long models of cells train is not known before, and not counted",)
    foreseen = Outline(said, {"cells": ()}, notes, asked.crew.workers).price()
    if not settled(foreseen, planning, run.manner):
        return
    with working("cells") as view, foreseen.begin(view).stage() as tick:
        report = judge_cells(
            cells,
            named,
            hold_out=asked.hold_out,
            pseudocount=asked.pseudocount,
            seed=asked.seed,
            workers=asked.crew.place,
            progress=tick,
        )
    dataset = cells.provenance["dataset"]
    rows = cell_rows(report, dataset=dataset, seed=asked.seed, samples=asked.samples)
    bounds, lacking = _bounds(report, asked.level)
    settings = {
        "models": list(named),
        "hold_out": asked.hold_out,
        "pseudocount": asked.pseudocount,
        "data": dict(cells.provenance),
        "refusals": [asdict(refusal) for refusal in report.refusals],
        "left_out": list(report.left_out),
        "bounds": {name: {"level": asked.level, "e_distance": each[0]} for name, each in bounds.items()},
        "bounds_refused": lacking,
    }

    def show(console: Console) -> None:
        for line in cell_losses(rows):
            say(console, line, "bold yellow")
        for line in report.left_out[:_MOST_LINES]:
            say(console, f"left out: {line}", "yellow")
        if more := report.left_out[_MOST_LINES:]:
            say(console, f"left out: {len(more)} more, which are in the JSON", "yellow")
        for refusal in report.refusals:
            say(console, f"refused: {refusal.model!r} ({refusal.novelty}): {refusal.reason}", "yellow")
        show_cells(console, report, rows)
        say(console)
        if lacking:
            say(console, f"no bounds for a new {asked.hold_out}: {lacking}", "yellow")
        else:
            _show_bounds(console, report, asked.level, bounds)

    give_rows(run, rows, manifest(run, None, seed=asked.seed, settings=settings), place, show)


def open_cells(data: str, reading: Reading) -> Cells:
    """Open the single cells of a dataset by its name, or of a file."""
    unused = [name for name in ("sums", "baseline_cols", "endpoint_cols") if getattr(reading, name)]
    if unused:
        raise DataError(f"--{unused[0].replace('_', '-')} says nothing of single cells; leave it out")
    if data in names() or not Path(data).exists():
        refuse_options(data, reading)
        file, mode = file_of_cells(data)
        cells = read_cells(file, stated=Dialect(mode=mode))
    else:
        stated = replace(stated_dialect(reading), layer_key=None, readouts=None)
        kept = read_names(reading.readouts) or None
        cells = read_cells(data, stated=stated, layer_key=reading.layer_key, readouts=kept)
    return replace(cells, provenance={**cells.provenance, "dataset": Path(data).name})


def show_cells(console: Console, report: CellReport, rows: Sequence[Row]) -> None:
    """Print means over what was held out, then the numbers of each condition."""
    say(console, f"[95 % interval over held-out {report.hold_out}s, by bootstrap]  squared errors: 1 is no change")
    say(console, "other_half: half of the measured treated cells as the prediction of the other half")
    means = {(row.model, row.metric): row for row in rows if row.variant == "mean"}
    columns = [Column("mean", report.models)]
    for metric in (*CELL_METRICS, *(each + LESS for each in ("average_precision", "e_distance")), "fit_seconds"):
        texts = tuple(_cell(means.get((model, metric))) for model in report.models)
        columns.append(Column(metric.replace(REFERENCE, "reference"), texts, "right"))
    for some in (columns[1:7], columns[7:]):
        say(console)
        Grid((columns[0], *some)).show(console)
    if len(report.conditions) > _MOST_LINES:
        say(console, f"the numbers of {len(report.conditions)} conditions are in the JSON", "dim")
        return
    names = tuple(each.name for each in report.conditions)
    for metric in CELL_METRICS:
        say(console)
        found = [
            Column(model, tuple(fixed(value, 3) for value in report.column(model, metric).tolist()), "right")
            for model in report.models
        ]
        counted = [
            Column(header, tuple(str(each.counts[place]) for each in report.conditions), "right")
            for place, header in enumerate(("control", "treated", "changed"))
        ]
        Grid((Column(metric, names), *found, *(counted if metric == "average_precision" else ()))).show(console)


def _cell(row: Row | None) -> str:
    if row is None:
        return "-"
    return fixed(row.value, 1) if row.unit == "s" else measured(row.value, row.low, row.high, row.unit)


def _bounds(report: CellReport, level: float) -> tuple[dict[str, tuple[float, float, float]], str]:
    """Bound each model's E-distance and means (median and largest width over readouts), or say what lacks."""
    found = {}
    try:
        for model in report.seconds:
            each = report.bounds(model, level)
            found[model] = (each.e_distance, float(each.effects.median()), float(each.effects.max()))
    except CalibrationError as error:
        return {}, str(error)
    return found, ""


def _show_bounds(
    console: Console, report: CellReport, level: float, bounds: dict[str, tuple[float, float, float]]
) -> None:
    units = len(set(report.units))
    say(console, f"conformal bounds for a new {report.hold_out} at {level:.0%}, by {units} held-out ones", "bold")
    say(console, "means: each readout's is within this of the predicted one (the median and the largest readout)")
    columns = [Column("model", tuple(bounds))]
    for place, header in enumerate(("E-distance at most", "means, median", "means, largest")):
        columns.append(Column(header, tuple(fixed(each[place], 3) for each in bounds.values()), "right"))
    Grid(tuple(columns)).show(console)
