"""The verbs ``replay`` and ``benchmark reach``: what would have been found on a fully measured screen."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict

from rich.console import Console

from inverse_design.cli.console import Run, say, working
from inverse_design.cli.grid import Column, Grid
from inverse_design.cli.options import Planning, Reading
from inverse_design.cli.outputs import PICTURE_ENDINGS, manifest, place_for
from inverse_design.cli.plans import settled
from inverse_design.cli.screens import open_screen, read_names
from inverse_design.cli.verbs.calibration import cell, named_model
from inverse_design.cli.verbs.measuring import GameOptions, PlayerOptions, Reaching
from inverse_design.cli.verbs.retrieval import give_rows, opened_screen, show_rows
from inverse_design.numbers import fixed
from inverse_design.problem.target import ScalarTarget
from inverse_design.recommend.protocol import RECOMMENDERS, Recommender
from inverse_design.screens import one_context
from inverse_design.validate.outlines import measurement_outline, replay_outline
from inverse_design.validate.reach import DEFAULT as MODEL
from inverse_design.validate.reach import FIRSTS, MEAN, PLAIN, ReachReport, measure_reach
from inverse_design.validate.replay import (
    COVERAGE,
    FOUND,
    MORE,
    TIMES,
    Environment,
    PermutedFeedback,
    Trace,
    pairs_environment,
    replay,
    replay_rows,
)
from surrogates.data.descriptors import gene_descriptors
from surrogates.data.screen import Screen
from surrogates.errors import DataError
from surrogates.evaluation.intervals import Row

DEFAULT = ("random", "additive", "greedy_ridge", "optuna_tpe", "botorch_gp", "pair_hits", "permuted:pair_hits")
REFERENCE = "greedy_ridge"
PERMUTED = "permuted:"
_LEVEL = 0.9  # of the bounds that recommenders state


def run_replay(  # noqa: PLR0913 - groups of options, each one word of the verb
    run: Run,
    data: str,
    *,
    context: str | None,
    rules: GameOptions,
    players: PlayerOptions,
    destination: str | None,
    figure: str | None,
    planning: Planning,
    reading: Reading,
) -> None:
    """Replay campaigns, print who found how much, and write the numbers and the picture."""
    place, drawn = (
        place_for(destination, run, ".json", inputs=[data]),
        place_for(figure, run, *PICTURE_ENDINGS, inputs=[data]),
    )
    recommenders = recommenders_of(read_names(players.policy) or DEFAULT)
    screen = one_context(open_screen(data, reading), context)
    environment = make_environment(screen, rules)
    seeds = range(players.seed, players.seed + players.seeds)
    named = tuple(name.removeprefix(PERMUTED) for name in recommenders)
    foreseen = replay_outline(environment, named, seeds=players.seeds, workers=players.workers).price()
    if not settled(foreseen, planning, run.manner):
        return
    traces: list[Trace] = []
    with working("replay") as view, foreseen.begin(view).stage() as tick:
        for trace in replay([environment], recommenders, seeds=seeds, workers=players.workers):
            traces.append(trace)
            tick(len(traces), len(recommenders) * len(seeds))
    reference = REFERENCE if REFERENCE in recommenders else next(iter(recommenders))
    rows = replay_rows(environment, traces, reference=reference, top=rules.top, level=_LEVEL, seed=players.seed)
    settings = {**asdict(rules), **asdict(players), "descriptors": [each.name for each in environment.descriptors]}
    if drawn is not None:
        from inverse_design.plot import curves_figure, write_figure  # noqa: PLC0415 - matplotlib, where something is drawn

        write_figure(
            curves_figure(rows, title=f"{environment.name}: share of the best {rules.top} pairs measured"), drawn
        )
    known = manifest(run, screen, seed=players.seed, settings=settings)

    def show(console: Console) -> None:
        show_replay(console, environment, rows, traces, rules)

    give_rows(run, rows, known, place, show, picture=drawn)


def make_environment(screen: Screen, rules: GameOptions) -> Environment:
    """Lay out the replay on a screen."""
    if rules.readout is None and len(screen.readouts) > 1:
        shown = ", ".join(map(repr, screen.readouts[:5]))
        raise DataError(f"the data hold {len(screen.readouts)} readouts; name one with --readout, such as {shown}")
    target = ScalarTarget(rules.readout or screen.readouts[0], rules.goal)
    target.on(screen.readouts)
    environment = pairs_environment(
        screen,
        target,
        start=rules.start,
        rounds=rules.rounds,
        count=rules.batch,
        name=screen.provenance.get("dataset", "screen"),
        descriptors=gene_descriptors(screen.vocabulary.targets),
    )
    if rules.top > len(environment.candidates):
        raise DataError(
            f"the best {rules.top} of {len(environment.candidates)} pairs are more than all; lower --top"
        )
    return environment


def recommenders_of(names: Sequence[str]) -> dict[str, Recommender]:
    """Make recommenders by their names; one that is permuted is misled about what was measured."""
    made: dict[str, Recommender] = {}
    for name in names:
        recommender = RECOMMENDERS.load(name.removeprefix(PERMUTED))()
        made[name] = PermutedFeedback(recommender) if name.startswith(PERMUTED) else recommender
    return made


def show_replay(
    console: Console, environment: Environment, rows: Sequence[Row], traces: Sequence[Trace], rules: GameOptions
) -> None:
    """Print who found how much."""
    described = ", ".join(each.name for each in environment.descriptors) or "none"
    n = rows[0].n
    say(
        console,
        f"{environment.name}: {environment.target.name}; share of the best {rules.top} of"
        f" {len(environment)} pairs",
    )
    say(
        console,
        f"{rules.start} random pairs, then {rules.rounds} rounds of {rules.batch}; {n} seeds"
        " [95 % interval over seeds and genes]",
    )
    say(console, f"known from the start: {len(environment.before)} singles; gene descriptors offered: {described}")
    replay_grid(rows, traces).show(console)


def replay_grid(rows: Sequence[Row], traces: Sequence[Trace]) -> Grid:
    """Lay the results out, one line for each recommender."""
    names = tuple(dict.fromkeys(row.model for row in rows))
    found = {name: [row for row in rows if row.model == name and row.metric == FOUND] for name in names}
    columns = [Column("policy", names)]
    for number in range(1, len(found[names[0]]) - 1):
        cells = tuple(f"{found[name][number].value:.3f}" for name in names)
        columns.append(Column(f"round {number}", cells, "right"))
    columns.append(Column("found in all", tuple(cell(found[name][-1]) for name in names), "right"))
    for metric, header in ((MORE, "more"), (TIMES, "ratio")):
        by_name = {row.model: row for row in rows if row.metric == metric}
        where = next((row.variant for row in by_name.values()), "")
        columns.append(Column(f"{header} {where}", tuple(cell(by_name.get(name)) for name in names), "right"))
    covered = {name: [row.value for row in rows if row.model == name and row.metric == COVERAGE] for name in names}
    if any(covered.values()):
        cells = tuple(f"{min(values):.2f} to {max(values):.2f}" if values else "-" for values in covered.values())
        columns.append(Column(f"coverage of {_LEVEL:.0%} bounds", cells, "right"))
    seconds = {name: [trace.seconds for trace in traces if trace.recommender == name] for name in names}
    cells = tuple(f"{sum(values) / len(values):.1f}" for values in seconds.values())
    columns.append(Column("s per game", cells, "right"))
    return Grid(tuple(columns))


def run_reach(
    run: Run, data: str, *, context: str | None, asked: Reaching, planning: Planning, reading: Reading
) -> None:
    """Measure the regret of the first candidates for states of many kinds."""
    place = place_for(asked.output, run, ".json", inputs=[data])
    model = named_model(asked.model)
    screen = opened_screen(data, context, reading, asked.crew)
    dataset = screen.provenance["dataset"]
    foreseen = measurement_outline("reach", screen, workers=asked.crew.workers).price()
    if not settled(foreseen, planning, run.manner):
        return
    with working("reach") as view, foreseen.begin(view).stage() as tick:
        report = measure_reach(
            screen, dataset=dataset, seed=asked.seed, model=model, workers=asked.crew.place, progress=tick
        )
    settings = {
        "model": asked.model,
        "candidates": list(report.candidates),
        "mismatch": {name: [each.multiple for each in found] for name, found in report.mismatches.items()},
    }
    known = manifest(run, screen, seed=asked.seed, settings=settings)
    give_rows(run, report.rows, known, place, lambda console: show_reach(console, report))


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
            mine, plain = (values[variant, model, f"regret_{first}"] for model in (MODEL, PLAIN))
            if mine > plain:
                where = variant.replace("_", " ")
                lines.append(
                    f"warning: {MODEL!r} comes no nearer than {PLAIN!r} ({where}): regret_{first} {mine:.3f},"
                    f" {plain:.3f}"
                )
    return lines
