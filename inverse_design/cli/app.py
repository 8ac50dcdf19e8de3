"""The command line ``inverse-design``: words in, exit codes out; the work is imported when a verb needs it."""

# ruff: noqa: PLC0415 - importing torch takes seconds, and help must not

import gc
import sys
from collections.abc import Sequence
from dataclasses import replace
from typing import Annotated

from cyclopts import App, Parameter

from inverse_design.cli.campaign.app import campaign
from inverse_design.cli.config import FILE, options_in_words, options_of_file, refuse_fractions
from inverse_design.cli.console import (
    MANNER,
    PROGRAM,
    Manner,
    PipedConsole,
    Run,
    complaints,
    examples,
    logged,
    reply,
    say,
    show_facts,
    working,
)
from inverse_design.cli.door import EXIT_CODES, behind_the_door
from inverse_design.cli.early import refuse_early
from inverse_design.cli.options import (
    ASKING,
    CONTEXT_HELP,
    RUN,
    Asking,
    Context,
    Crew,
    Data,
    Listing,
    Output,
    Planning,
    Reading,
    Restrictions,
    Running,
    TableOutput,
    Target,
    Valuing,
)
from inverse_design.cli.verbs.benchmark import benchmark
from inverse_design.cli.verbs.cache import cache
from inverse_design.cli.verbs.measuring import GAME, GameOptions, PlayerOptions
from surrogates.registry import installed_version

_READING, _ASKING, _RESTRICTIONS, _RUNNING = Reading(), Asking(), Restrictions(), Running()
_CREW = Crew()
_GAME, _PLAYERS = GameOptions(), PlayerOptions()
_VALUING, _PLANNING = Valuing(), Planning()


app = App(
    name=PROGRAM,
    version=lambda: installed_version(PROGRAM),
    help="Which perturbation brings cells to the state I want, and how sure are we?",
    help_epilogue="Try `inverse-design demo`, then `inverse-design check YOUR_DATA`; `inverse-design words`"
    " explains the words of an answer. Options may stand in the file"
    f" {FILE} of the working directory, or in the one of --config: at the top for every verb, in a table such as"
    " [propose] for that one; what is typed goes before. Exit codes: "
    + "; ".join(f"{code} {meaning}" for code, meaning in EXIT_CODES.items())
    + ".",
    console=PipedConsole(),
    default_parameter=Parameter(negative=(), negative_iterable=(), negative_none=()),
    suppress_keyboard_interrupt=False,
)
app.command(benchmark)
app.command(campaign)
app.command(cache)
app.register_install_completion_command(
    help="Let a shell complete verbs and options: bash, zsh, fish, powershell."
)


@app.command(
    help_epilogue=examples(
        "check norman2019_expr",
        "check screen.h5ad --target-col guide --reference-key AAVS1",
        "check plates/ --normalise --workers 8 --sums sums/",
    )
)
def check(data: Data, /, *, reading: Reading = _READING, crew: Crew = _CREW, manner: Manner = MANNER) -> None:
    """Say what is in the data, how it was read, and what is wrong with it."""
    from inverse_design.cli.verbs.check import run_check

    run_check(data, reading, crew, manner=manner)


@app.command(
    help_epilogue=examples(
        "propose norman2019_expr --target CEBPE+KLF1",
        "propose screen.h5ad --target state.csv --exclude essential.txt -o candidates.csv",
        "propose screen.csv --target goal.toml --order both --require KLF1",
        "propose large.h5ad --target state.csv --workers 4",
    )
)
def propose(  # noqa: PLR0913 - groups of options, each one word of the verb
    data: Data,
    /,
    *,
    target: Target,
    context: Context = None,
    output: TableOutput = None,
    report: Annotated[str | None, Parameter(group=ASKING)] = None,
    asking: Asking = _ASKING,
    restrictions: Restrictions = _RESTRICTIONS,
    running: Running = _RUNNING,
    planning: Planning = _PLANNING,
    reading: Reading = _READING,
    run: Run = RUN,
) -> None:
    """Rank every single, pair or larger set by how well it reaches a target.

    Args:
        report: Where to write a page about it, one .html file: verdict, candidates with reasons, figures.
    """
    from inverse_design.cli.verbs.propose import run_propose

    run_propose(
        run,
        data,
        target=target,
        context=context,
        destination=output,
        page=report,
        asking=asking,
        restrictions=restrictions,
        running=running,
        planning=planning,
        reading=reading,
    )


@app.command(
    help_epilogue=examples(
        "rank norman2019_expr --target CEBPE+KLF1 --experiments list.csv",
        "rank screen.h5ad --target state.csv --experiments list.csv --cost-column price --budget 2000",
    )
)
def rank(  # noqa: PLR0913 - groups of options, each one word of the verb
    data: Data,
    /,
    *,
    target: Target,
    listing: Listing,
    context: Context = None,
    output: TableOutput = None,
    valuing: Valuing = _VALUING,
    planning: Planning = _PLANNING,
    reading: Reading = _READING,
    crew: Crew = _CREW,
    run: Run = RUN,
) -> None:
    """Rank the experiments of a list by what they are expected to gain, per cost if costs are given."""
    from inverse_design.cli.verbs.rank import run_rank

    run_rank(
        run,
        data,
        target=target,
        context=context,
        destination=output,
        listing=listing,
        valuing=valuing,
        planning=planning,
        reading=reading,
        crew=crew,
    )


@app.command(
    help_epilogue=examples(
        "replay norman2019_fitness",
        "replay norman2019_fitness --policy greedy_ridge,pair_hits --seeds 5 --figure curves.svg",
        "replay screen.csv --readout viability --goal maximise --start 50 --batch 24 -o replay.json",
    )
)
def replay(  # noqa: PLR0913 - groups of options, each one word of the verb
    data: Data,
    /,
    *,
    context: Annotated[str | None, Parameter(group=GAME, help=CONTEXT_HELP)] = None,
    output: Output = None,
    figure: str | None = None,
    rules: GameOptions = _GAME,
    players: PlayerOptions = _PLAYERS,
    planning: Planning = _PLANNING,
    reading: Reading = _READING,
    run: Run = RUN,
) -> None:
    """Replay campaigns on a screen in which all pairs are measured, policy beside policy.

    Args:
        output: Where to write the numbers, as .json.
        figure: Where to draw the curves, as .svg, .png or .pdf.
    """
    from inverse_design.cli.verbs.replay import run_replay

    run_replay(
        run,
        data,
        context=context,
        rules=rules,
        players=players,
        destination=output,
        figure=figure,
        planning=planning,
        reading=reading,
    )


@app.command(help_epilogue=examples("words"))
def words(*, manner: Manner = MANNER) -> None:
    """Say what the words of verdicts and tables mean."""
    from inverse_design.report.words import GLOSSARY

    reply(manner, GLOSSARY, lambda console: show_facts(console, GLOSSARY))


@app.command(help_epilogue=examples("demo --open", "demo -o my-folder"))
def demo(
    *,
    output: Annotated[str, Parameter(name=["--output", "-o"])] = "demo-output",
    open_report: Annotated[bool, Parameter(name="--open")] = False,
    seed: int = 0,
    run: Run = RUN,
) -> None:
    """Hold a measured double out and find it again: the main job, from nothing.

    Args:
        output: Folder for the table, the picture and the report.
        open_report: Show the report in a browser.
        seed: Fixes everything that is random.
    """
    if not run.manner.quiet:
        say(complaints(), f"demo: takes about a minute; what it finds goes to {output}", "dim")
    with working("loading"):
        from inverse_design.cli.verbs.demo import run_demo

    run_demo(run, folder=output, open_report=open_report, seed=seed)


@app.command(
    name="app", help_epilogue=examples("app campaigns.db", "app postgresql://server/screens --users users.toml")
)
def page(
    place: str = "campaigns.db",
    /,
    *,
    host: str = "127.0.0.1",
    port: int = 0,
    users: str | None = None,
    name: Annotated[tuple[str, ...], Parameter(show_default=False)] = (),
    most: int = 500,
    new_user: str | None = None,
) -> None:
    """Serve a web page for the campaigns of a store; the address that is printed lets you in.

    Args:
        place: The store: an SQLite file, which is made if it is not there, or the URL of a PostgreSQL database.
        host: Where to listen; beyond this machine only with --users, and behind a proxy that speaks HTTPS.
        port: Which port; a free one by default.
        users: TOML file of those who may enter: names, hashes of their tokens, and roles.
        name: A name by which browsers call the server, beside that of the host; repeat it for more.
        most: Largest file that is taken, in MB.
        new_user: Print a token for somebody, and their lines for the file of users; nothing is served.
    """
    from inverse_design.cli.verbs.page import run_page

    run_page(place, host=host, port=port, users=users, names=name, most=most, new_user=new_user)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command line; in a process of its own, cycles are looked for rarely, as torch has many objects."""
    if arguments is None:
        gc.set_threshold(50_000, 20, 20)
    return behind_the_door(tuple(sys.argv[1:] if arguments is None else arguments), _dispatch)


def _dispatch(words: Sequence[str]) -> None:
    taken: dict[str, object] = {}
    app.config = (options_of_file(app, taken), refuse_fractions)
    command, bound, _ = app.parse_args(_joined(words), exit_on_error=False, print_error=False)
    bound.apply_defaults()
    own: dict[str, Run | Manner] = {}
    manner = MANNER
    for name, value in bound.arguments.items():
        if isinstance(value, Run):
            manner = replace(value.manner, from_file=taken)
            own[name] = replace(value, arguments=tuple(words), manner=manner)
        elif isinstance(value, Manner):
            own[name] = manner = replace(value, from_file=taken)
    if taken and not manner.quiet:
        say(complaints(), options_in_words(taken), "dim")
    refuse_early(command.__name__, bound.arguments)
    with logged(quiet=manner.quiet, verbose=manner.verbose):
        command(*bound.args, **{**bound.kwargs, **own})


def _joined(words: Sequence[str]) -> list[str]:
    """Bind a separator that looks like an option, ``--sep -``, to its option."""
    joined: list[str] = []
    for word in words:
        if joined and joined[-1] == "--sep" and word.startswith("-"):
            joined[-1] = f"--sep={word}"
        else:
            joined.append(word)
    return joined
