"""The verb ``campaign export``: a round on plates, with its reagents, for the bench."""

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

import pandas as pd
from rich.console import Console

from inverse_design.campaign.ask import seed_of
from inverse_design.campaign.campaign import Campaign
from inverse_design.campaign.library import ReagentLibrary
from inverse_design.campaign.plate import PlateLayout, PlateMap, lay_out
from inverse_design.campaign.results import CAMPAIGN, REPLICATE, ROUND, STATUS
from inverse_design.campaign.rounds import Batch
from inverse_design.cli.campaign.options import CampaignPlace, PlateOptions
from inverse_design.cli.campaign.place import open_campaign
from inverse_design.cli.campaign.results import read_library
from inverse_design.cli.campaign.rounds import round_facts
from inverse_design.cli.console import Run, reply, say_written, show_facts
from inverse_design.cli.outputs import check_writable, write_facts
from inverse_design.errors import PlateError
from inverse_design.recommend.protocol import PERTURBATION
from inverse_design.spreadsheets import save_csv, save_workbook
from surrogates.whole_file import staged, write_whole

MAP_SHEET, REAGENT_SHEET, BATCH_SHEET, RESULT_SHEET = "plate map", "reagents", "batch", "results"
_MOST_READOUTS = 200  # wider forms are filled by programs, not by hand


def run_export(
    run: Run,
    *,
    place: CampaignPlace,
    round_number: int | None,
    plates: PlateOptions,
    library: str | None,
    destination: str,
) -> None:
    """Write a round for the bench; what the library lacks is said before anything is written."""
    path = check_writable(
        destination, endings=EXPORT_ENDINGS, inputs=[] if library is None else [library], force=run.force
    )
    campaign = open_campaign(place)
    batch = campaign.batch(round_number)
    reagents = None if library is None else read_library(library)
    found = lay_out(planned_wells(batch), layout_of(campaign, batch, plates))
    sheets = sheets_of(campaign, batch, found, reagents)
    for each in export_places(path, sheets)[1:]:
        check_writable(each, endings=EXPORT_ENDINGS, force=run.force or path.exists())  # which says whose they are
    facts = round_facts(run, campaign, batch)
    stated = {"layout": asdict(found.layout), "library": library}
    written = (*write_export(path, sheets), write_facts(path, {**facts, "export": stated}))
    said = _facts(campaign, batch, found, sheets)

    def show(console: Console) -> None:
        show_facts(console, said)
        say_written(console, *written)

    reply(run.manner, {**facts, "export": stated, "written": written}, show)


def planned_wells(batch: Batch) -> list[str]:
    """List the experiments of a round that go on plates."""
    pairs = zip(batch.table[PERTURBATION], batch.states, strict=True)
    kept = [str(label) for label, state in pairs if state != "withdrawn"]
    if not kept:
        raise PlateError(f"all experiments of round {batch.round} were withdrawn; ask for another round")
    return kept


def layout_of(campaign: Campaign, batch: Batch, plates: PlateOptions) -> PlateLayout:
    """Complete what was typed by the settings of the campaign."""
    settings = campaign.settings
    return PlateLayout(
        size=settings.plate_size if plates.plate is None else plates.plate,
        controls=settings.controls if plates.controls is None else plates.controls,
        replicates=settings.replicates if plates.replicates is None else plates.replicates,
        edges=plates.edges,
        seed=seed_of(settings.seed, batch.round),
    )


def sheets_of(
    campaign: Campaign, batch: Batch, found: PlateMap, library: ReagentLibrary | None
) -> Mapping[str, pd.DataFrame]:
    """Collect the tables of an export."""
    wells = found.table.copy()
    wells[CAMPAIGN], wells[ROUND] = campaign.key, batch.round
    sheets = {MAP_SHEET: wells}
    if library is not None:
        parsed = [campaign.vocabulary.parse(label) for label in planned_wells(batch)]
        sheets[REAGENT_SHEET] = library.list_for(parsed, replicates=found.layout.replicates)
    states = batch.table.assign(state=list(batch.states))
    form = wells[wells["role"] == "sample"][["plate", "well", PERTURBATION, REPLICATE, CAMPAIGN, ROUND]]
    readouts = campaign.readouts if len(campaign.readouts) <= _MOST_READOUTS else ()
    empty = pd.DataFrame("", index=form.index, columns=[STATUS, *readouts])
    return {**sheets, BATCH_SHEET: states, RESULT_SHEET: pd.concat([form, empty], axis=1)}


def _facts(
    campaign: Campaign, batch: Batch, found: PlateMap, sheets: Mapping[str, pd.DataFrame]
) -> dict[str, str]:
    layout, samples = found.layout, sum(each.role == "sample" for each in found.wells)
    many = "" if found.plates == 1 else "s"
    facts = {
        "campaign": f"{campaign.name}, round {batch.round}",
        "plates": f"{found.plates} plate{many} of {layout.size}: {samples} wells of samples,"
        f" {len(found.wells) - samples} of controls, outer wells {layout.edges}; drawn by seed {layout.seed}",
    }
    if REAGENT_SHEET in sheets:
        genes = sheets[REAGENT_SHEET]["gene"].nunique()
        facts["reagents"] = f"{len(sheets[REAGENT_SHEET])} for {genes} genes or compounds; none is missing"
    return facts


EXPORT_ENDINGS = (".xlsx", ".csv")


def write_export(path: Path, sheets: Mapping[str, pd.DataFrame]) -> tuple[Path, ...]:
    """Write some tables for the bench, each file whole or not at all."""
    places = export_places(path, sheets)
    if path.suffix == ".xlsx":
        write_whole(path, lambda part: save_workbook(sheets, part))
        return places
    with staged(places) as parts:
        for place, table in zip(places, sheets.values(), strict=True):
            save_csv(table, parts[place])
    return places


def export_places(path: Path, sheets: Mapping[str, pd.DataFrame]) -> tuple[Path, ...]:
    """Name the files of an export before they are written."""
    if path.suffix == ".xlsx":
        return (path,)
    others = [name.replace(" ", "-") for name in list(sheets)[1:]]
    return (path, *(path.with_name(f"{path.stem}-{name}{path.suffix}") for name in others))
