"""The verb ``benchmark reach``: how near do the first candidates come to states that nobody need have made?"""

from collections import Counter
from collections.abc import Sequence

from rich.console import Console

from inverse_design.cli.console import Run, output, say, working
from inverse_design.cli.grid import Column, Grid, fixed
from inverse_design.cli.options import Reaching, Reading
from inverse_design.cli.outputs import check_writable, manifest
from inverse_design.cli.screens import one_context, open_screen
from inverse_design.cli.verbs.calibration import named_model
from inverse_design.cli.verbs.retrieval import show_rows
from inverse_design.validate.reach import DEFAULT, FIRSTS, MEAN, PLAIN, ReachReport, measure_reach
from inverse_design.value_tables import names_a_file
from surrogates.evaluation.rows import Row, write_json


def run_reach(run: Run, data: str, *, context: str | None, asked: Reaching, reading: Reading) -> None:
    """Measure the regret of the first candidates for states of many kinds."""
    inputs = [data] if names_a_file(data) else []
    place = None if asked.json is None else check_writable(asked.json, endings=(".json",), inputs=inputs)
    model = named_model(asked.model)
    with working("reading"):
        screen = one_context(open_screen(data, reading), context)
    dataset = screen.provenance["dataset"]
    with working("reach: fits") as tick:
        report = measure_reach(screen, dataset=dataset, seed=asked.seed, model=model, progress=tick)
    settings = {
        "model": asked.model,
        "candidates": list(report.candidates),
        "mismatch": {name: [each.multiple for each in found] for name, found in report.mismatches.items()},
    }
    # Written first: whoever reads the screen may leave early.
    if place is not None:
        write_json(report.rows, place, manifest=manifest(run, screen, seed=asked.seed, settings=settings))
    console = output()
    show_reach(console, report)
    if place is not None:
        say(console)
        say(console, f"wrote {place}")


def show_reach(console: Console, report: ReachReport) -> None:
    """Print warnings, then for each choice of readouts the means over kinds and the first candidate by kind."""
    for line in reach_losses(report.rows):
        say(console, line, "bold yellow")
    sizes = f"{min(report.candidates)} to {max(report.candidates)} candidates"
    say(console, f"candidates: held-out doubles, {sizes} in each of {len(report.candidates)} folds")
    if report.left_out:
        say(console, f"left out: {report.left_out} held-out doubles in folds with too few of them", "yellow")
    say(console, "regret_k: (distance of the best of the first k - least) / (mean - least), by true distances;")
    say(console, f"0 is the best choice, 1 is a random one; gain_k: how much smaller than that of {PLAIN!r}")
    say(console, "[95 % bootstrap interval over genes]")
    for variant, found in report.mismatches.items():
        whole = [row for row in report.rows if row.variant == f"{variant}, {MEAN}"]
        show_rows(console, whole)
        multiples = Counter(each.multiple for each in found)
        chosen = ", ".join(f"{multiple:g} in {count}" for multiple, count in sorted(multiples.items()))
        say(console, f"mismatch in units of the error variance, chosen inside each fold: {chosen}", "dim")
        for first in FIRSTS:
            say(console)
            say(console, f"regret_{first} by kind of state, {variant.replace('_', ' ')}", "bold")
            kinds_grid(report.rows, variant, f"regret_{first}").show(console)


def kinds_grid(rows: Sequence[Row], variant: str, metric: str) -> Grid:
    """Lay one metric out, kinds of states by methods."""
    some = {
        (row.variant.removeprefix(f"{variant}, "), row.model): row.value
        for row in rows
        if row.metric == metric and row.variant.startswith(f"{variant}, ")
    }
    kinds, models = (tuple(dict.fromkeys(key[part] for key in some)) for part in (0, 1))
    columns = [Column("state", kinds)]
    columns += [Column(model, tuple(fixed(some[kind, model], 3) for kind in kinds), "right") for model in models]
    return Grid(tuple(columns))


def reach_losses(rows: Sequence[Row]) -> list[str]:
    """Say where the default comes no nearer than the plain likelihood, on average over kinds."""
    values = {(row.variant, row.model, row.metric): row.value for row in rows if row.variant.endswith(MEAN)}
    lines = []
    for variant in dict.fromkeys(key[0] for key in values):
        for first in FIRSTS:
            mine, plain = (values[variant, model, f"regret_{first}"] for model in (DEFAULT, PLAIN))
            if mine > plain:
                where = variant.replace("_", " ")
                lines.append(
                    f"warning: {DEFAULT!r} comes no nearer than {PLAIN!r} ({where}): regret_{first} {mine:.3f},"
                    f" {plain:.3f}"
                )
    return lines
