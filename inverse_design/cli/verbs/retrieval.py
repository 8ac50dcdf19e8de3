"""The verb ``benchmark``: the project's own measurements, on any screen."""

from dataclasses import asdict
from pathlib import Path

from rich.console import Console

from inverse_design.cli.console import Run, output, say, working
from inverse_design.cli.measured_tables import show_retrieval, show_scorecard
from inverse_design.cli.options import Reading, Scoring
from inverse_design.cli.outputs import PICTURE_ENDINGS, check_writable, manifest
from inverse_design.cli.screens import one_context, open_screen, read_names
from inverse_design.validate.forward import DEFAULT_MODELS, forward_report, losses, named_surrogates
from inverse_design.validate.retrieval import measure_retrieval, retrieval_rows
from inverse_design.value_tables import names_a_file
from surrogates.data.screen import Screen
from surrogates.evaluation.forward_splits import CLASSES
from surrogates.evaluation.node_intervals import target_nodes
from surrogates.evaluation.rows import write_json
from surrogates.models.registry import SURROGATES


def run_retrieval(
    run: Run, data: str, *, context: str | None, seed: int, json: str | None, reading: Reading
) -> None:
    """Measure how often the perturbation behind a held-out state is found."""
    place = _place(json, data)
    screen = _opened(data, context, reading)
    with working("retrieval: fits") as tick:
        report = measure_retrieval(screen, seed=seed, progress=tick)
    rows = retrieval_rows(report, screen, dataset=screen.provenance["dataset"], seed=seed)
    # Written first: whoever reads the screen may leave early.
    if place is not None:
        write_json(rows, place, manifest=manifest(run, screen, seed=seed))
    nodes = target_nodes(screen.batch.rows(report.conditions), screen.vocabulary)
    show_retrieval(output(), report, rows, nodes, seed=seed)
    _say_written(output(), place)


def run_forward(run: Run, data: str, *, context: str | None, asked: Scoring, reading: Reading) -> None:
    """Measure how well held-out effects are predicted, beside the baselines."""
    place, picture = _place(asked.json, data), _place(asked.picture, data, *PICTURE_ENDINGS)
    models = read_names(asked.models, known=SURROGATES.names()) or DEFAULT_MODELS
    classes = read_names(asked.classes, known=CLASSES)
    named_surrogates(models)  # a wrong name is refused before anything is read
    screen = _opened(data, context, reading)
    with working("forward: fits") as tick:
        report = forward_report(screen, models, seed=asked.seed, classes=classes, progress=tick)
    settings = {
        "models": list(models),
        "classes": list(classes),
        "refusals": [asdict(refusal) for refusal in report.refusals],
    }
    # Written first: whoever reads the screen may leave early.
    if place is not None:
        write_json(report.rows, place, manifest=manifest(run, screen, seed=asked.seed, settings=settings))
    if picture is not None:
        from inverse_design.plot.figures import scorecard_figure  # noqa: PLC0415 - matplotlib, where something is drawn
        from inverse_design.plot.theme import write_figure  # noqa: PLC0415

        title = f"Held-out perturbations of {screen.provenance['dataset']}"
        write_figure(scorecard_figure(report.rows, title=title), picture)
    console = output()
    for line in losses(report.rows, models):
        say(console, line, "bold yellow")
    for refusal in report.refusals:
        say(console, f"refused: {refusal.model!r} ({refusal.novelty}): {refusal.reason}", "yellow")
    show_scorecard(console, report.rows)
    _say_written(console, place, picture)


def _opened(data: str, context: str | None, reading: Reading) -> Screen:
    with working("reading"):
        return one_context(open_screen(data, reading), context)


def _place(path: str | None, data: str, *endings: str) -> Path | None:
    inputs = [data] if names_a_file(data) else []
    return None if path is None else check_writable(path, endings=endings or (".json",), inputs=inputs)


def _say_written(console: Console, *places: Path | None) -> None:
    written = [str(place) for place in places if place is not None]
    if written:
        say(console)
        say(console, "wrote " + " and ".join(written))
