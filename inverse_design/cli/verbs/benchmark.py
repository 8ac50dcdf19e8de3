"""The verb ``benchmark`` of the command line; the work is imported when a verb needs it."""

# ruff: noqa: PLC0415 - importing torch takes seconds, and help must not

from typing import Annotated

from cyclopts import App, Parameter, validators

from inverse_design.cli.console import Run, examples
from inverse_design.cli.options import RUN, Context, Data, Output, Planning, Reading
from inverse_design.cli.verbs.measuring import Judging, JudgingCells, Reaching, Retrieving, Scoring

_Level = Annotated[float, Parameter(validator=validators.Number(gt=0, lt=1))]
_READING, _PLANNING = Reading(), Planning()
_RETRIEVING, _SCORING, _JUDGING, _REACHING = Retrieving(), Scoring(), Judging(), Reaching()
_CELLS = JudgingCells()

benchmark = App(name="benchmark", help="Measure the software itself, on any screen, beside the baselines.")


@benchmark.command(help_epilogue=examples("benchmark retrieval norman2019_expr -o retrieval.json"))
def retrieval(
    data: Data,
    /,
    *,
    context: Context = None,
    asked: Retrieving = _RETRIEVING,
    planning: Planning = _PLANNING,
    reading: Reading = _READING,
    run: Run = RUN,
) -> None:
    """Measure how often the perturbation behind a held-out state is found among all pairs."""
    from inverse_design.cli.verbs.retrieval import run_retrieval

    run_retrieval(run, data, context=context, asked=asked, planning=planning, reading=reading)


@benchmark.command(help_epilogue=examples("benchmark reach norman2019_expr -o reach.json"))
def reach(
    data: Data,
    /,
    *,
    context: Context = None,
    asked: Reaching = _REACHING,
    planning: Planning = _PLANNING,
    reading: Reading = _READING,
    run: Run = RUN,
) -> None:
    """Measure how near the first candidates come to states that no candidate need have made."""
    from inverse_design.cli.verbs.replay import run_reach

    run_reach(run, data, context=context, asked=asked, planning=planning, reading=reading)


@benchmark.command(
    help_epilogue=examples(
        "benchmark forward norman2019_expr -o forward.json --picture forward.svg",
        "benchmark forward screen.csv --models all --classes single-0",
    )
)
def forward(
    data: Data,
    /,
    *,
    context: Context = None,
    asked: Scoring = _SCORING,
    planning: Planning = _PLANNING,
    reading: Reading = _READING,
    run: Run = RUN,
) -> None:
    """Measure how well held-out effects are predicted, beside every baseline."""
    from inverse_design.cli.verbs.retrieval import run_forward

    run_forward(run, data, context=context, asked=asked, planning=planning, reading=reading)


@benchmark.command(
    help_epilogue=examples(
        "benchmark calibration norman2019_expr -o calibration.json --picture calibration.svg",
        "benchmark calibration screen.csv --model interaction --classes double-2 --levels 0.8,0.9",
    )
)
def calibration(
    data: Data,
    /,
    *,
    context: Context = None,
    asked: Judging = _JUDGING,
    planning: Planning = _PLANNING,
    reading: Reading = _READING,
    run: Run = RUN,
) -> None:
    """Measure whether stated bounds, sets and probabilities hold of what was held out, and how wide they are."""
    from inverse_design.cli.verbs.calibration import run_calibration

    run_calibration(run, data, context=context, asked=asked, planning=planning, reading=reading)


@benchmark.command(
    help_epilogue=examples(
        "benchmark cells kang2018_pbmc -o cells.json",
        "benchmark cells cells.h5ad --group-col cell_type --models all",
        "benchmark cells perturbseq_cells_crispra --hold-out combination",
    )
)
def cells(
    data: str,
    /,
    *,
    asked: JudgingCells = _CELLS,
    planning: Planning = _PLANNING,
    reading: Reading = _READING,
    run: Run = RUN,
) -> None:
    """Measure how near predicted cells of a new context, or of a new combination, come to measured ones.

    Args:
        data: A dataset of single cells of the catalogue, or an .h5ad file.
    """
    from inverse_design.cli.verbs.cells import run_cells

    run_cells(run, data, asked=asked, planning=planning, reading=reading)


@benchmark.command(help_epilogue=examples("benchmark rounds results.csv --level 0.9"))
def rounds(
    results: str,
    /,
    *,
    level: _Level = 0.9,
    adaptive: bool = False,
    seed: int = 0,
    output: Output = None,
    run: Run = RUN,
) -> None:
    """Measure whether the bounds that a campaign stated before each round held in it.

    Args:
        results: A table (.csv, .tsv, .parquet) with one row per perturbation and columns round, lower, upper,
            measured; if there are any, chosen (random or designed), probability and hit, perturbation.
        level: Nominal probability of the bounds.
        adaptive: The level followed the misses of the rounds before (adaptive conformal inference).
        seed: Fixes everything that is random.
        output: Where to write the numbers, as .json.
    """
    from inverse_design.cli.verbs.rounds import run_rounds

    run_rounds(run, results, level=level, adaptive=adaptive, seed=seed, destination=output)
