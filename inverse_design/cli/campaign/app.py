"""The verb ``campaign`` of the command line; the work is imported when a verb needs it."""

# ruff: noqa: PLC0415 - importing torch takes seconds, and help must not

from typing import Annotated, Literal

from cyclopts import App, Parameter, validators

from inverse_design.cli.campaign.options import PLACE, SETTINGS, CampaignPlace, Picking, PlateOptions, Stated
from inverse_design.cli.console import MANNER, Manner, Run, examples
from inverse_design.cli.options import CONTEXT_HELP, RUN, Crew, Data, NoCache, Output, Planning, Reading
from surrogates.fit_cache import USER_CACHE

_Context = Annotated[str | None, Parameter(group=SETTINGS, help=CONTEXT_HELP)]
_Count = Annotated[int | None, Parameter(name=["--count", "-n"], validator=validators.Number(gte=1))]
_PLACE, _STATED, _PLATES, _READING, _PLANNING = CampaignPlace(), Stated(), PlateOptions(), Reading(), Planning()
_PICKING, _CREW = Picking(), Crew()

campaign = App(
    name="campaign",
    help="Rounds of experiments on a store that never loses a result: create, ask, export, tell, ask again.",
    help_epilogue="Guide: docs/guides/campaigns.md.",
)


@campaign.command(
    help_epilogue=examples(
        "campaign create screen.csv --name first --target goal.toml --batch-size 24",
        "campaign create norman2019_expr --settings campaign.toml --library guides.csv --store lab.db",
    )
)
def create(
    data: Data,
    /,
    *,
    place: CampaignPlace = _PLACE,
    settings: Annotated[str | None, Parameter(group=SETTINGS)] = None,
    context: _Context = None,
    library: Annotated[str | None, Parameter(group=SETTINGS)] = None,
    stated: Stated = _STATED,
    reading: Reading = _READING,
    manner: Manner = MANNER,
) -> None:
    """Begin a campaign from what is known already, and a target.

    Args:
        settings: A .toml file with the settings.
        library: Table of your reagents (columns gene, reagent); genes that it lacks are never proposed.
    """
    from inverse_design.cli.campaign.create import run_create

    run_create(
        data,
        place=place,
        context=context,
        config=settings,
        library=library,
        stated=stated,
        reading=reading,
        manner=manner,
    )


@campaign.command(
    help_epilogue=examples("campaign ask -n 24 -o batch.csv", "campaign ask --recommender log_improvement")
)
def ask(  # noqa: PLR0913 - groups of options, each one word of the verb
    *,
    count: _Count = None,
    recommender: str | None = None,
    output: Output = None,
    more: bool = False,
    planning: Planning = _PLANNING,
    crew: Crew = _CREW,
    no_cache: NoCache = False,
    place: CampaignPlace = _PLACE,
    run: Run = RUN,
) -> None:
    """Propose the next round; as long as it has results to come, asking again gives the same round.

    Args:
        count: How many experiments; the batch size of the settings by default.
        recommender: What chooses them: any name that replay --policy takes; by default that of the settings.
        output: Where to write the table: .csv or .parquet; a .json with the manifest is put beside it.
        more: Propose a further round beside the open one.
        no_cache: Fit anew, and keep no fit.
    """
    from inverse_design.cli.campaign.rounds import run_ask

    run_ask(
        run,
        place=place,
        count=count,
        recommender=recommender,
        more=more,
        destination=output,
        planning=planning,
        crew=crew,
        cache=None if no_cache else USER_CACHE,
    )


@campaign.command(
    help_epilogue=examples("campaign order", "campaign order CEBPE+KLF1 KLF1+MAP2K6 --library guides.csv")
)
def order(*names: str, library: str | None = None, place: CampaignPlace = _PLACE, manner: Manner = MANNER) -> None:
    """Note that proposed experiments go to the bench.

    Args:
        names: Which experiments (A+B); all that are proposed by default.
        library: Table of your reagents; nothing is ordered if it lacks one.
    """
    from inverse_design.cli.campaign.rounds import run_order

    run_order(place=place, names=names, library=library, manner=manner)


@campaign.command(
    help_epilogue=examples("campaign tell results.csv", "campaign tell cells.h5ad --reference-key AAVS1")
)
def tell(
    results: str,
    /,
    *,
    allow_extra: bool = False,
    accept_extreme: bool = False,
    place: CampaignPlace = _PLACE,
    reading: Reading = _READING,
    manner: Manner = MANNER,
) -> None:
    """Tell results: all of a file is taken, or nothing of it; the same file twice changes nothing.

    Args:
        results: A table with one row per well: perturbation, every readout as an effect against the control, and
            if you have them replicate, status (measured, failed, pending), campaign, round; or an .h5ad file.
        allow_extra: Take experiments that nobody asked for, too.
        accept_extreme: Take values that no assay gives: beyond 10,000 times the range of the starting screen.
    """
    from inverse_design.cli.campaign.rounds import run_tell

    run_tell(results, place=place, extra=allow_extra, extreme=accept_extreme, reading=reading, manner=manner)


@campaign.command(
    help_epilogue=examples(
        'campaign retract --round 2 --reason "plate was contaminated" --yes',
        'campaign retract CEBPE+KLF1 --replicate b --reason "pipetting error" --yes',
        'campaign retract --results monday.csv --reason "wrong file"',
    )
)
def retract(  # noqa: PLR0913 - groups of options, each one word of the verb
    *names: str,
    reason: str,
    round_number: Annotated[int | None, Parameter(name="--round")] = None,
    replicate: str | None = None,
    event: int | None = None,
    results: str | None = None,
    yes: Annotated[bool, Parameter(negative="")] = False,
    place: CampaignPlace = _PLACE,
    reading: Reading = _READING,
    manner: Manner = MANNER,
) -> None:
    """Take results back: they stay in the history, and count for nothing; what is stated together must all hold.

    Args:
        names: Results of these experiments (A+B).
        reason: Why, for the history.
        round_number: Results of this round.
        replicate: Wells or replicates of this name.
        event: What this event of the history recorded.
        results: The wells that this file of results holds, with its values.
        yes: Do it; without this, only what would be taken back is shown.
    """
    from inverse_design.cli.campaign.rounds import Chosen, run_retract

    chosen = Chosen(names, round_number, replicate, event, results)
    run_retract(chosen, place=place, reason=reason, yes=yes, reading=reading, manner=manner)


@campaign.command(help_epilogue=examples('campaign correct corrected.csv --reason "decimal comma was lost"'))
def correct(
    results: str,
    /,
    *,
    reason: str,
    accept_extreme: bool = False,
    place: CampaignPlace = _PLACE,
    reading: Reading = _READING,
    manner: Manner = MANNER,
) -> None:
    """Replace the values of recorded wells, also of such as were retracted; the history keeps the old ones.

    Args:
        results: A table as for tell, with the right values; wells are found by perturbation and replicate.
        reason: Why, for the history.
        accept_extreme: Take values that no assay gives, as for tell.
    """
    from inverse_design.cli.campaign.rounds import run_correct

    run_correct(results, place=place, reason=reason, extreme=accept_extreme, reading=reading, manner=manner)


@campaign.command(help_epilogue=examples('campaign withdraw CEBPE+KLF1 --reason "clone is lost"'))
def withdraw(
    first: str, /, *others: str, reason: str = "", place: CampaignPlace = _PLACE, manner: Manner = MANNER
) -> None:
    """Note that experiments will not be done; they may be proposed again.

    Args:
        first: An experiment (A+B).
        others: More of them.
        reason: Why, for the history.
    """
    from inverse_design.cli.campaign.rounds import run_withdraw

    run_withdraw((first, *others), place=place, reason=reason, manner=manner)


@campaign.command(help_epilogue=examples("campaign status", "campaign status --quick --json"))
def status(
    *, quick: bool = False, no_cache: NoCache = False, place: CampaignPlace = _PLACE, manner: Manner = MANNER
) -> None:
    """Say where a campaign stands, whether its bounds held, and whether another round is worth it.

    Args:
        quick: Do not plan a round for the advice.
        no_cache: Fit anew, and keep no fit.
    """
    from inverse_design.cli.campaign.report import run_status

    run_status(place=place, quick=quick, cache=None if no_cache else USER_CACHE, manner=manner)


@campaign.command(help_epilogue=examples("campaign report campaign.html"))
def report(destination: str, /, *, place: CampaignPlace = _PLACE, run: Run = RUN) -> None:
    """Write a page about a campaign, one .html file: its best, its rounds, whether its bounds held, its log.

    Args:
        destination: Where to write it.
    """
    from inverse_design.cli.campaign.report import run_report

    run_report(run, destination, place=place)


@campaign.command(help_epilogue=examples("campaign history"))
def history(*, place: CampaignPlace = _PLACE, manner: Manner = MANNER) -> None:
    """List everything that happened: what, when, and by whom."""
    from inverse_design.cli.campaign.report import run_history

    run_history(place=place, manner=manner)


@campaign.command(help_epilogue=examples("campaign verify", "campaign verify --integrity --head 3f2a91c04b7d55e8"))
def verify(
    *,
    head: str | None = None,
    integrity: bool = False,
    accept: bool = False,
    place: CampaignPlace = _PLACE,
    manner: Manner = MANNER,
) -> None:
    """Look at every event and number, replay them, and say whether they are what was written; nothing is changed.

    Args:
        head: A hash that status printed and you noted: the log must hold it.
        integrity: Let SQLite look at every page of the file, too.
        accept: Take the log as it is, although events that were seen on this machine before are gone.
    """
    from inverse_design.cli.campaign.upkeep import run_verify

    run_verify(place=place, head=head, integrity=integrity, accept=accept, manner=manner)


@campaign.command(help_epilogue=examples("campaign backup campaigns-2026-03-01.db"))
def backup(destination: str, /, *, place: CampaignPlace = _PLACE, manner: Manner = MANNER) -> None:
    """Copy the store into a new file, while it is in use, and check the copy.

    Args:
        destination: A file that is not there yet. For PostgreSQL, the line for pg_dump is printed instead.
    """
    from inverse_design.cli.campaign.upkeep import run_backup

    run_backup(destination, place=place, manner=manner)


@campaign.command(help_epilogue=examples("campaign restore campaigns-2026-03-01.db"))
def restore(
    source: str, /, *, force: bool = False, place: CampaignPlace = _PLACE, manner: Manner = MANNER
) -> None:
    """Put a backup into the place of the store, after it was checked; what was there is kept beside it.

    Args:
        source: The backup.
        force: Also where the present store is sound and holds events that the backup does not.
    """
    from inverse_design.cli.campaign.upkeep import run_restore

    run_restore(source, place=place, force=force, manner=manner)


@campaign.command(help_epilogue=examples("campaign grants --reader ann --teller robot > grants.sql"))
def grants(
    *,
    reader: Annotated[tuple[str, ...], Parameter(consume_multiple=False)] = (),
    teller: Annotated[tuple[str, ...], Parameter(consume_multiple=False)] = (),
    schema: str = "public",
    manner: Manner = MANNER,
) -> None:
    """Print the statements by which the owner of a PostgreSQL store lets others in.

    Args:
        reader: A role that may read; repeat it for more.
        teller: A role that may also append: ask, order, tell, withdraw, retract.
        schema: Where the tables are.
    """
    from inverse_design.cli.campaign.upkeep import run_grants

    run_grants(schema=schema, readers=reader, tellers=teller, manner=manner)


@campaign.command(
    help_epilogue=examples(
        "campaign export --library guides.csv -o plate.xlsx",
        "campaign export --round 2 --plate 384 --edges empty -o plate.csv",
        "campaign export --library guides.csv --format echo --volume 25 -o picks.csv",
    )
)
def export(
    *,
    output: Annotated[str, Parameter(name=["--output", "-o"])],
    round_number: Annotated[int | None, Parameter(name="--round", group=PLACE)] = None,
    library: str | None = None,
    plates: PlateOptions = _PLATES,
    picking: Picking = _PICKING,
    place: CampaignPlace = _PLACE,
    run: Run = RUN,
) -> None:
    """Put a round on plates: plate map, reagents, and a form for the results.

    Args:
        output: A .xlsx workbook, or a .csv of the plate map with further .csv files beside it; a .json with the
            manifest is put there, too.
        round_number: Which round; the newest by default.
        library: Table of your reagents (columns gene, reagent, and sequence, catalogue if there are any).
    """
    from inverse_design.cli.campaign.export import run_export

    run_export(
        run,
        place=place,
        round_number=round_number,
        plates=plates,
        picking=picking,
        library=library,
        destination=output,
    )


@campaign.command(name="schema", help_epilogue=examples("campaign schema", "campaign schema target"))
def settings_schema(of: Literal["settings", "target"] = "settings", /, *, manner: Manner = MANNER) -> None:
    """Print the JSON schema of a file, by which editors complete and check it.

    Args:
        of: The settings of a campaign, or a target.
    """
    from inverse_design.cli.campaign.create import run_schema

    run_schema(of, manner)
