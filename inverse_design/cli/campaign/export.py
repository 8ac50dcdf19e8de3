"""The verb ``campaign export``: a round on plates, with its reagents, for the bench."""

from collections.abc import Mapping
from dataclasses import asdict

import pandas as pd
from rich.console import Console

from inverse_design.campaign.campaign import Campaign
from inverse_design.campaign.export import (
    EXPORT_ENDINGS,
    REAGENT_SHEET,
    export_places,
    layout_of,
    planned_wells,
    plate_of,
    sheets_of,
    write_export,
)
from inverse_design.campaign.plate import PlateMap, lay_out
from inverse_design.campaign.rounds import Batch
from inverse_design.cli.campaign.options import CampaignPlace, PlateOptions
from inverse_design.cli.campaign.place import open_campaign
from inverse_design.cli.campaign.results import read_library
from inverse_design.cli.campaign.rounds import round_facts
from inverse_design.cli.console import Run, reply, say_written, show_facts
from inverse_design.cli.outputs import check_writable, write_facts


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
    if plates == PlateOptions():
        found = plate_of(campaign, batch)
    else:
        stated = {"size": plates.plate, "controls": plates.controls, "replicates": plates.replicates}
        found = lay_out(planned_wells(batch), layout_of(campaign, batch, **stated, edges=plates.edges))
    sheets = sheets_of(campaign, batch, found, reagents)
    for each in export_places(path, sheets)[1:]:
        check_writable(each, endings=EXPORT_ENDINGS, force=run.force or path.exists())  # which says whose they are
    facts = round_facts(run, campaign, batch)
    export = {"layout": asdict(found.layout), "library": library}
    written = (*write_export(path, sheets), write_facts(path, {**facts, "export": export}))
    said = _facts(campaign, batch, found, sheets)

    def show(console: Console) -> None:
        show_facts(console, said)
        say_written(console, *written)

    reply(run.manner, {**facts, "export": export, "written": written}, show)


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
