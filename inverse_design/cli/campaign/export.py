"""The verb ``campaign export``: a round on plates, with its reagents, for the bench."""

from collections.abc import Mapping
from dataclasses import asdict

import pandas as pd
from rich.console import Console

from inverse_design.campaign.campaign import Campaign
from inverse_design.campaign.export import (
    EXPORT_ENDINGS,
    REAGENT_SHEET,
    arranged_last,
    export_places,
    layout_of,
    planned_wells,
    plate_of,
    sheets_of,
    write_export,
)
from inverse_design.campaign.library import ReagentLibrary
from inverse_design.campaign.pick_lists import echo_list, opentrons_list, transfers_of
from inverse_design.campaign.plate import PlateMap, lay_out
from inverse_design.campaign.rounds import Batch
from inverse_design.cli.campaign.options import CampaignPlace, Picking, PlateOptions
from inverse_design.cli.campaign.place import open_campaign
from inverse_design.cli.campaign.results import read_library
from inverse_design.cli.campaign.rounds import round_facts
from inverse_design.cli.console import Run, complaints, reply, say, say_written, show_facts
from inverse_design.cli.outputs import check_writable, write_facts
from inverse_design.errors import PlateError

PICK_SHEET = "pick list"


def run_export(
    run: Run,
    *,
    place: CampaignPlace,
    round_number: int | None,
    plates: PlateOptions,
    picking: Picking,
    library: str | None,
    destination: str,
) -> None:
    """Write a round for the bench; what the library lacks is said before anything is written."""
    endings = EXPORT_ENDINGS if picking.format == "plate" else (".csv",)
    path = check_writable(
        destination, endings=endings, inputs=[] if library is None else [library], force=run.force
    )
    campaign = open_campaign(place)
    batch = campaign.batch(round_number)
    reagents = None if library is None else read_library(library)
    by_hand = arranged_last(campaign, batch).layout is not None
    if plates == PlateOptions():
        found = plate_of(campaign, batch)
    else:
        if by_hand:
            anew = "as the options ask for others, wells are drawn anew and not as they were arranged by hand"
            say(complaints(), f"warning: {anew}", "bold yellow")
            by_hand = False
        stated = {"size": plates.plate, "controls": plates.controls, "replicates": plates.replicates}
        found = lay_out(planned_wells(batch), layout_of(campaign, batch, **stated, edges=plates.edges))
    sheets = {**picks_of(campaign, batch, found, reagents, picking), **sheets_of(campaign, batch, found, reagents)}
    for each in export_places(path, sheets)[1:]:
        check_writable(each, endings=EXPORT_ENDINGS, force=run.force or path.exists())  # which says whose they are
    facts = round_facts(run, campaign, batch)
    export = {"layout": asdict(found.layout), "library": library, "picking": asdict(picking)}
    written = (*write_export(path, sheets), write_facts(path, {**facts, "export": export}))
    how = "as they were arranged by hand" if by_hand else f"drawn by seed {found.layout.seed}"
    said = _facts(campaign, batch, found, sheets, reagents, how=how)

    def show(console: Console) -> None:
        show_facts(console, said)
        say_written(console, *written)

    reply(run.manner, {**facts, "export": export, "written": written}, show)


def picks_of(
    campaign: Campaign, batch: Batch, found: PlateMap, library: ReagentLibrary | None, picking: Picking
) -> Mapping[str, pd.DataFrame]:
    """List for a machine what fills the plates, if that is asked for."""
    if picking.format == "plate":
        if picking != Picking():
            raise PlateError("--volume, --labware and --slots go with --format echo or opentrons; state it")
        return {}
    if library is None:
        raise PlateError(f"--format {picking.format} needs --library, which says where the reagents are")
    parsed = [campaign.vocabulary.parse(label) for label in planned_wells(batch)]
    transfers = transfers_of(found, parsed, library)
    if picking.format == "echo":
        name = f"{campaign.name}-r{batch.round}"
        return {PICK_SHEET: echo_list(transfers, name=name, volume=picking.volume)}
    slots = [slot.strip() for words in picking.slots for slot in words.split(",")]
    return {PICK_SHEET: opentrons_list(transfers, labware=picking.labware, slots=slots, volume=picking.volume)}


def _facts(
    campaign: Campaign,
    batch: Batch,
    found: PlateMap,
    sheets: Mapping[str, pd.DataFrame],
    library: ReagentLibrary | None,
    *,
    how: str,
) -> dict[str, str]:
    layout, samples = found.layout, sum(each.role == "sample" for each in found.wells)
    many = "" if found.plates == 1 else "s"
    facts = {
        "campaign": f"{campaign.name}, round {batch.round}",
        "plates": f"{found.plates} plate{many} of {layout.size}: {samples} wells of samples,"
        f" {len(found.wells) - samples} of controls, outer wells {layout.edges}; {how}",
    }
    if library is not None and PICK_SHEET in sheets:
        controls = (
            "controls among them" if library.controls else "none to control wells: the library has no control"
        )
        facts["transfers"] = f"{len(sheets[PICK_SHEET]):,}, {controls}"
    if REAGENT_SHEET in sheets:
        genes = sheets[REAGENT_SHEET]["gene"].nunique()
        facts["reagents"] = f"{len(sheets[REAGENT_SHEET])} for {genes} genes or compounds; none is missing"
    return facts
