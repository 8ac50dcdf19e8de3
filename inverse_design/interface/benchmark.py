"""The verb ``benchmark``: the project's own measurements, on any screen."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path

import torch
from rich.console import Console

from inverse_design.benchmark.decoded import decoded_rows
from inverse_design.benchmark.forward import DEFAULT_MODELS, forward_report, losses, named_surrogates
from inverse_design.benchmark.retrieval import measure_retrieval
from inverse_design.benchmark.retrieval_rows import retrieval_rows
from inverse_design.benchmark.search import search_rows
from inverse_design.benchmark.search_cases import EffectShape
from inverse_design.interface.console import output, say, working
from inverse_design.interface.figures import scorecard_svg, write_svg
from inverse_design.interface.names import names_a_file, read_names
from inverse_design.interface.options import Reading
from inverse_design.interface.outputs import check_writable
from inverse_design.interface.provenance import manifest
from inverse_design.interface.retrieval_tables import show_retrieval
from inverse_design.interface.run import Run
from inverse_design.interface.scoring import Scoring
from inverse_design.interface.screens import one_context, open_screen
from inverse_design.interface.tables import show_rows, show_scorecard
from surrogates.data.catalogue import is_available, open_dataset
from surrogates.data.screen import Screen
from surrogates.evaluation.forward_splits import CLASSES
from surrogates.evaluation.node_intervals import target_nodes
from surrogates.evaluation.rows import Row, write_json
from surrogates.models.registered import SURROGATES

_SHAPED = "norman2019_expr"  # what effects of realistic problems are like


def run_retrieval(
    run: Run, data: str, *, context: str | None, seed: int, json: str | None, reading: Reading
) -> None:
    """Measure how often the perturbation behind a held-out state is found.

    Args:
        run: The command line.
        data: A dataset or file.
        context: Which context, if there are several.
        seed: Fixes everything random.
        json: Where to write the rows.
        reading: How to read a file.
    """
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
    """Measure how well held-out effects are predicted, beside the baselines.

    Args:
        run: The command line.
        data: A dataset or file.
        context: Which context, if there are several.
        asked: What to compare, and where to write it.
        reading: How to read a file.
    """
    place, picture = _place(asked.json, data), _place(asked.picture, data, ".svg")
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
        title = f"Held-out perturbations of {screen.provenance['dataset']}"
        write_svg(scorecard_svg(report.rows, title=title), picture)
    console = output()
    for line in losses(report.rows, models):
        say(console, line, "bold yellow")
    for refusal in report.refusals:
        say(console, f"refused: {refusal.model!r} ({refusal.novelty}): {refusal.reason}", "yellow")
    show_scorecard(console, report.rows)
    _say_written(console, place, picture)


def run_search(run: Run, *, genes: int, repeats: int, seed: int, json: str | None) -> None:
    """Measure how long the exact search over all pairs takes.

    Args:
        run: The command line.
        genes: Number of entries.
        repeats: How often each is timed.
        seed: Fixes the factors.
        json: Where to write the rows.
    """
    place = _place(json, "")
    shape = EffectShape.of(open_dataset(_SHAPED), name=_SHAPED) if is_available(_SHAPED) else None
    with working("search: timing"):
        rows = search_rows(genes=genes, repeats=repeats, shape=shape, seed=seed)
    console = output()
    if shape is None:
        say(
            console,
            f"effects like those of {_SHAPED} are left out: its data are not here (README, Data)",
            "yellow",
        )
    say(console, f"all {math.comb(genes, 2):,} pairs, exact top 1,000, {torch.get_num_threads()} threads")
    say(console, "median [fastest, slowest] of the repeats; seconds, peak memory in MB")
    said = [replace(row, variant=f"{row.variant} dimensions") for row in rows]
    show_rows(console, said)
    _write(console, rows, place, manifest(run, None, seed=seed))


def run_neural(run: Run, *, genes: int, repeats: int, seed: int, json: str | None) -> None:
    """Measure the scan of all pairs by an ensemble of networks, and the search in two stages.

    Args:
        run: The command line.
        genes: Number of entries.
        repeats: How often each is timed.
        seed: Fixes the networks, the target and the landmarks.
        json: Where to write the rows.
    """
    place = _place(json, "")
    with working("neural: timing"):
        rows = decoded_rows(genes=genes, repeats=repeats, seed=seed)
    console = output()
    say(console, f"all {math.comb(genes, 2):,} pairs, top 100, {torch.get_num_threads()} threads")
    say(
        console,
        "median [fastest, slowest] of the repeats; seconds, peak memory in MB; recall of the scan's answer",
    )
    show_rows(console, rows)
    _write(console, rows, place, manifest(run, None, seed=seed))


def _opened(data: str, context: str | None, reading: Reading) -> Screen:
    with working("reading"):
        return one_context(open_screen(data, reading), context)


def _place(path: str | None, data: str, ending: str = ".json") -> Path | None:
    inputs = [data] if names_a_file(data) else []
    return None if path is None else check_writable(path, endings=(ending,), inputs=inputs)


def _write(console: Console, rows: Sequence[Row], place: Path | None, known: Mapping[str, object]) -> None:
    if place is not None:
        write_json(rows, place, manifest=known)
        _say_written(console, place)


def _say_written(console: Console, *places: Path | None) -> None:
    written = [str(place) for place in places if place is not None]
    if written:
        say(console)
        say(console, "wrote " + " and ".join(written))
