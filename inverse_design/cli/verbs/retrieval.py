"""The verbs ``benchmark retrieval`` and ``benchmark forward``, and the tables of measurements."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

from jaxtyping import Int
from rich.console import Console
from torch import Tensor

from inverse_design.cli.console import Run, reply, say, say_written, working
from inverse_design.cli.grid import Column, Grid
from inverse_design.cli.options import Crew, Planning, Reading
from inverse_design.cli.outputs import PICTURE_ENDINGS, manifest, place_for
from inverse_design.cli.plans import settled
from inverse_design.cli.screens import open_screen, read_names, warn_of_scheduler
from inverse_design.cli.side_tables import SideTables
from inverse_design.cli.verbs.measuring import Retrieving, Scoring
from inverse_design.numbers import fixed, in_column, measured
from inverse_design.problem.problem import in_own_units
from inverse_design.screens import one_context
from inverse_design.validate.forward import (
    DEFAULT_MODELS,
    RATIO,
    Verdict,
    forward_report,
    losses,
    named_surrogates,
    verdict,
)
from inverse_design.validate.judged import AGREE, Bin, calibration_noise, reliability
from inverse_design.validate.outlines import measurement_outline
from inverse_design.validate.retrieval import (
    DEFAULT,
    OWN_READOUTS,
    SIMPLE,
    YARDSTICK,
    Retrieval,
    RetrievalReport,
    kept_promise,
    measure_retrieval,
    retrieval_rows,
)
from surrogates.data.novelty import CLASSES
from surrogates.data.screen import Screen
from surrogates.evaluation.intervals import Row, target_nodes, write_json
from surrogates.models.registry import SURROGATES

# Of the benchmark of forward models, beside the ratios of errors.
_MAIN = ("pearson_median", "pearson_across", "r_squared_across", "fit_seconds", "peak_mb")
_MARKS: Mapping[Verdict, str] = {"better": "+", "worse": "-", "unclear": "?", "same": "="}


def run_retrieval(
    run: Run, data: str, *, context: str | None, asked: Retrieving, planning: Planning, reading: Reading
) -> None:
    """Measure how often the perturbation behind a held-out state is found."""
    place, seed = place_for(asked.output, run, ".json", inputs=[data]), asked.seed
    screen = opened_screen(data, context, reading, asked.crew)
    screen = in_own_units(screen) if asked.standardise else screen
    foreseen = measurement_outline("retrieval", screen, workers=asked.crew.workers).price()
    if not settled(foreseen, planning, run.manner):
        return
    with working("retrieval") as view, foreseen.begin(view).stage() as tick:
        report = measure_retrieval(screen, seed=seed, workers=asked.crew.place, progress=tick)
    rows = retrieval_rows(report, screen, dataset=screen.provenance["dataset"], seed=seed)
    known = manifest(run, screen, seed=seed, settings={"standardise": asked.standardise})
    nodes = target_nodes(screen.batch.rows(report.conditions), screen.vocabulary)
    give_rows(run, rows, known, place, lambda console: show_retrieval(console, report, rows, nodes, seed=seed))


def give_rows(
    run: Run,
    rows: Sequence[Row],
    known: Mapping[str, object],
    place: Path | None,
    show: Callable[[Console], None],
    *,
    picture: Path | None = None,
) -> None:
    """Write the rows of a measurement if asked, and print them, for programs or in words."""
    if place is not None:  # written first: whoever reads the screen may leave early
        write_json(rows, place, manifest=known)

    def shown(console: Console) -> None:
        show(console)
        say_written(console, place, picture)

    written = [each for each in (place, picture) if each is not None]
    facts = {"manifest": known, "rows": [row.to_dict() for row in rows], "written": written}
    reply(run.manner, facts, shown)


def run_forward(
    run: Run, data: str, *, context: str | None, asked: Scoring, planning: Planning, reading: Reading
) -> None:
    """Measure how well held-out effects are predicted, beside the baselines."""
    place, picture = (
        place_for(asked.output, run, ".json", inputs=[data]),
        place_for(asked.picture, run, *PICTURE_ENDINGS, inputs=[data]),
    )
    models = read_names(asked.models, known=SURROGATES.names()) or DEFAULT_MODELS
    classes = read_names(asked.classes, known=CLASSES)
    surrogates = named_surrogates(models)  # a wrong name is refused before anything is read
    tables = SideTables.read(asked.drug_targets, asked.embedding, [*surrogates])
    screen = opened_screen(data, context, reading, asked.crew)
    surrogates |= tables.known_on(screen)
    foreseen = measurement_outline("forward", screen, classes=classes, workers=asked.crew.workers).price()
    if not settled(foreseen, planning, run.manner):
        return
    with working("forward") as view, foreseen.begin(view).stage() as tick:
        report = forward_report(
            screen, surrogates, seed=asked.seed, classes=classes, workers=asked.crew.place, progress=tick
        )
    settings = {
        "models": list(models),
        "drug_targets": asked.drug_targets,
        "embedding": asked.embedding,
        "classes": list(classes),
        "refusals": [asdict(refusal) for refusal in report.refusals],
    }
    if picture is not None:
        from inverse_design.plot import scorecard_figure, write_figure  # noqa: PLC0415 - matplotlib, where something is drawn

        title = f"Held-out perturbations of {screen.provenance['dataset']}"
        write_figure(scorecard_figure(report.rows, title=title), picture)

    def show(console: Console) -> None:
        for line in losses(report.rows, models):
            say(console, line, "bold yellow")
        for refusal in report.refusals:
            say(console, f"refused: {refusal.model!r} ({refusal.novelty}): {refusal.reason}", "yellow")
        show_scorecard(console, report.rows)

    known = manifest(run, screen, seed=asked.seed, settings=settings)
    give_rows(run, report.rows, known, place, show, picture=picture)


def opened_screen(data: str, context: str | None, reading: Reading, crew: Crew) -> Screen:
    """Read a screen of one context."""
    warn_of_scheduler(crew.scheduler)
    with working("reading"):
        return one_context(open_screen(data, reading, workers=crew.workers, scheduler=crew.scheduler), context)


def show_rows(console: Console, rows: Sequence[Row]) -> None:
    """Print benchmark rows as tables of models by metrics, one for each task."""
    for task in dict.fromkeys((row.dataset, row.novelty, row.variant) for row in rows):
        some = [row for row in rows if (row.dataset, row.novelty, row.variant) == task]
        said = ", ".join(part.replace("_", " ") for part in task[1:] if part)
        say(console)
        say(console, f"{task[0]} - {said} (n = {some[0].n})", "bold")
        _models_by_metrics(some).show(console)


def show_scorecard(console: Console, rows: Sequence[Row]) -> None:
    """Print what the benchmark of forward models measured, a table for each novelty class: the main numbers."""
    say(
        console,
        "mse_ratio_to_X: squared error over that of X on the same held-out perturbations; below 1 is better",
    )
    say(console, "[95 % paired interval by a bootstrap of genes]  + better  - worse  ? cannot tell  = equal")
    say(
        console,
        "fit_seconds: sum over folds; peak_mb: largest growth of resident memory in one fit (- if not told)",
    )
    show_rows(console, [row for row in rows if row.metric.startswith(RATIO) or row.metric in _MAIN])


def _cell(row: Row | None) -> str:
    if row is None:
        return "-"
    if math.isnan(row.low):
        return fixed(row.value, 2 if row.unit == "s" else 1)
    text = measured(row.value, row.low, row.high, row.unit)
    if not math.isnan(row.standard_error):
        text += f" ±{row.standard_error:.3f}"
    return f"{text} {_MARKS[verdict(row)]}" if row.metric.startswith(RATIO) else text


def _models_by_metrics(rows: Sequence[Row]) -> Grid:
    models = tuple(dict.fromkeys(row.model for row in rows))
    by_place = {(row.model, row.metric): row for row in rows}
    columns = [Column("model", models)]
    for metric in dict.fromkeys(row.metric for row in rows):
        found = [by_place.get((model, metric)) for model in models]
        columns.append(Column(metric, tuple(map(_cell, found)), "right"))
    return Grid(tuple(columns))


def reliability_grid(bins: Sequence[Bin]) -> Grid:
    """Lay stated probabilities out beside what came true."""
    return Grid((
        Column("probability of the first", tuple(f"{each.low:.1f} to {each.high:.1f}" for each in bins)),
        Column("stated", in_column([each.stated for each in bins]), "right"),
        Column("came true", in_column([each.found for each in bins]), "right"),
        Column("targets", tuple(str(each.n) for each in bins), "right"),
    ))  # fmt: skip


# The others are in the JSON.
_SHOWN = ("top1", "top1_gain", "top10", "mrr", "median_rank", "log_probability", "ece")


def show_retrieval(
    console: Console, report: RetrievalReport, rows: Sequence[Row], nodes: Int[Tensor, "n k"], *, seed: int
) -> None:
    """Print where the default does not beat a simpler method, then tables, look-ups, promises and reliability."""
    for reference in (*SIMPLE, OWN_READOUTS):
        for line in _beaten(rows, reference):
            say(console, line, "bold yellow")
    for line in (
        f"yardstick: {YARDSTICK}; ranks among all pairs of measured singles, ties count against the truth",
        "[95 % interval by a bootstrap of genes, which doubles share]  \N{PLUS-MINUS SIGN} dyadic standard error",
        "top1_gain: paired difference to the yardstick; log_probability: of the truth, mean in nats",
    ):
        say(console, line)
    shown = [row for row in rows if row.metric in _SHOWN]
    show_rows(console, sorted(shown, key=lambda row: _SHOWN.index(row.metric)))
    say(console)
    for row in rows:
        if row.model in {OWN_READOUTS, DEFAULT} and row.metric == "top1_both_own":
            what = "of which both genes are readouts"
            say(console, f"{row.model!r} finds {row.value:.3f} of the {row.n} pairs {what}")
    for variant, found in report.found.items():
        _show_promise(console, variant, found[DEFAULT], nodes)
    for variant, found in report.found.items():
        _show_reliability(console, variant, found[DEFAULT], seed=seed)


def _beaten(rows: Sequence[Row], reference: str) -> list[str]:
    """Say where the default does not beat a simpler method."""
    values = {(row.variant, row.model): row.value for row in rows if row.metric == "top1"}
    lines = []
    for variant in dict.fromkeys(variant for variant, _ in values):
        mine, simple = values.get((variant, DEFAULT), math.nan), values.get((variant, reference), math.nan)
        if mine <= simple:
            where = variant.replace("_", " ")
            lines.append(
                f"warning: {DEFAULT!r} does not beat {reference!r} ({where}): top1 {mine:.3f}, {simple:.3f}"
            )
    return lines


def _show_promise(console: Console, variant: str, found: Retrieval, nodes: Int[Tensor, "n k"]) -> None:
    kept = kept_promise(found, nodes)
    if kept is not None:
        style = "bold yellow" if kept.difference < -AGREE else ""
        say(console, f"{DEFAULT!r}, {variant.replace('_', ' ')}: {kept.line}", style)


def _show_reliability(console: Console, variant: str, found: Retrieval, *, seed: int) -> None:
    noise = calibration_noise(found.top_probability, seed=seed)
    say(console)
    say(console, f"reliability of {DEFAULT!r}, {variant.replace('_', ' ')}", "bold")
    reliability_grid(reliability(found.top_probability, found.hit)).show(console)
    say(console, f"perfectly calibrated probabilities would show an ece of {noise:.3f} by chance")
