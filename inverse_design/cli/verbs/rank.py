"""The verb ``rank``: what the experiments of a list gain, and which of them a budget should buy."""

import math
from dataclasses import asdict
from pathlib import Path

import pandas as pd
from rich.console import Console

from inverse_design.acquisition.batch import Affordable
from inverse_design.cli.console import Run, reply, say, say_written, show_facts, show_notes, show_warnings, working
from inverse_design.cli.grid import Grid, grid_of
from inverse_design.cli.limit_tables import read_experiments
from inverse_design.cli.options import Crew, Listing, Planning, Reading, Valuing
from inverse_design.cli.outputs import manifest, place_for, table_endings, write_table
from inverse_design.cli.plans import rows_of, settled
from inverse_design.cli.screens import open_screen, warn_of_scheduler
from inverse_design.cli.side_tables import SideTables
from inverse_design.planning.costs import Sizes
from inverse_design.planning.experiments import ListedExperiments
from inverse_design.problem.constraints import read_constraint
from inverse_design.ranking import Ranking, ranking_of
from inverse_design.screens import one_context
from inverse_design.targets import read_target
from surrogates.data.screen import Screen
from surrogates.fit_cache import USER_CACHE

_OUTCOMES = ("distance", "projection")
_ALL_BUT_NOTHING = 0.999  # of the gain of the best set


def run_rank(  # noqa: PLR0913 - groups of options, each one word of the verb
    run: Run,
    data: str,
    *,
    target: str,
    context: str | None,
    destination: str | None,
    listing: Listing,
    valuing: Valuing,
    planning: Planning,
    reading: Reading,
    crew: Crew,
) -> None:
    """Rank the experiments of a list, print them, and write them if asked."""
    inputs = (data, target, listing.experiments, *filter(None, [valuing.drug_targets, valuing.embedding]))
    place = place_for(destination, run, *table_endings(), inputs=inputs)
    tables = SideTables.read(
        valuing.drug_targets, valuing.embedding, [valuing.model], standardise=valuing.standardise
    )
    constraints = tuple(map(read_constraint, listing.constraint))
    warn_of_scheduler(crew.scheduler)
    with working("reading"):
        screen = one_context(open_screen(data, reading, workers=crew.workers, scheduler=crew.scheduler), context)
        wanted = read_target(target, screen)
        listed = read_experiments(
            Path(listing.experiments),
            label_col=listing.experiment_column,
            cost_col=listing.cost_column,
            sep=reading.sep,
        )
        surrogate = tables.known_on(screen).get(valuing.model, valuing.model)
        screen = tables.widened(screen, listed.labels)
    asked = ListedExperiments.of(
        screen,
        wanted,
        listed.labels,
        costs=listed.costs,
        budget=listing.budget,
        constraints=constraints,
        surrogate=surrogate,
        standardise=valuing.standardise,
        seed=valuing.seed,
        cache=None if valuing.no_cache else USER_CACHE,
        workers=crew.place,
    )
    foreseen = asked.plan
    if not settled(foreseen, planning, run.manner):
        return
    with working("fitting and valuing") as view:
        ranking = ranking_of(asked, level=valuing.level, course=foreseen.begin(view))
    settings = {"listing": asdict(listing), "valuing": asdict(valuing), "target": target}
    facts = {
        "verdict": ranking.verdict,
        "manifest": manifest(run, screen, seed=valuing.seed, settings=settings),
        "target": ranking.target.name,
        "incumbent": {"perturbation": ranking.incumbent, _outcome(ranking.table): ranking.best},
        "notes": ranking.notes,
        "affordable": None if ranking.affordable is None else _bought(ranking),
    }
    # Written first: whoever reads the screen may leave early.
    written = () if place is None else write_table(ranking.table, place, facts)

    def show(console: Console) -> None:
        show_ranking(console, ranking, screen, valuing)
        say_written(console, *written)

    reply(run.manner, {**facts, "table": rows_of(ranking.table), "written": written}, show)


def show_ranking(console: Console, ranking: Ranking, screen: Screen, valuing: Valuing) -> None:
    """Print a ranking: warnings, what was used, the table, what the budget buys, the notes."""
    outcome = _outcome(ranking.table)
    say(console, ranking.verdict, "bold")
    show_warnings(console, ranking.notes)
    facts = {
        "data": Sizes.of(screen).line,
        "target": ranking.target.name,
        "model": f"{ranking.fitted.name}, seed {valuing.seed}",
        "best": f"{ranking.incumbent}, measured: {outcome} {ranking.best:.4g} corrected for measurement noise",
        "gain": f"expected improvement of the {outcome} on that, of the true state",
    }
    show_facts(console, facts)
    say(console)
    _grid(ranking.table).show(console)
    say(console)
    if ranking.affordable is not None:
        say(console, _purchase(ranking.affordable, len(ranking.table)))
    show_notes(console, ranking.notes)


def _purchase(bought: Affordable, listed: int) -> str:
    """What the budget buys, and how near that is to the best it could buy."""
    if not len(bought.numbers):
        return "the budget buys nothing: no experiment of the list is expected to gain anything"
    most = (
        "no affordable set gains 0.1 % more"
        if bought.share > _ALL_BUT_NOTHING
        else f"at least {math.floor(1000 * bought.share) / 10:g} % of what the best affordable set gains"
    )
    return (
        f"the budget buys {len(bought.numbers)} of {listed} for {bought.cost:,.6g}: expected gain"
        f" {bought.expected:.4g} together ({most})"
    )


def _bought(ranking: Ranking) -> dict[str, object]:
    bought = ranking.affordable
    if bought is None:
        return {}
    labels = [ranking.table["perturbation"].iloc[row] for row in bought.numbers.tolist()]
    return {
        "perturbations": labels,
        "expected_gain": bought.expected,
        "cost": bought.cost,
        "share_of_best": bought.share,
    }


def _outcome(table: pd.DataFrame) -> str:
    return next(name for name in _OUTCOMES if name in table)


def _grid(table: pd.DataFrame) -> Grid:
    shown = table.assign(chosen=table["chosen"].map({True: "yes", False: "-"})) if "chosen" in table else table
    bounds, gains = [_outcome(table), "lower", "upper"], ["expected_gain", "gain_lower", "gain_upper"]
    return grid_of(shown, bounds, gains, ["cost"], ["gain_per_cost"])
