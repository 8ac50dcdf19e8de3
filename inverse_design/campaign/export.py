"""A round on plates, with its reagents and a form for the results: the tables that go to the bench."""

from collections.abc import Mapping
from pathlib import Path

import pandas as pd

from inverse_design.campaign.ask import seed_of
from inverse_design.campaign.campaign import Campaign
from inverse_design.campaign.library import ReagentLibrary
from inverse_design.campaign.plate import Edges, PlateLayout, PlateMap
from inverse_design.campaign.results import CAMPAIGN, REPLICATE, ROUND, STATUS
from inverse_design.campaign.rounds import Batch
from inverse_design.errors import PlateError
from inverse_design.recommend.protocol import PERTURBATION
from inverse_design.spreadsheets import save_csv, save_workbook
from surrogates.whole_file import staged, write_whole

MAP_SHEET, REAGENT_SHEET, BATCH_SHEET, RESULT_SHEET = "plate map", "reagents", "batch", "results"
EXPORT_ENDINGS = (".xlsx", ".csv")
_MOST_READOUTS = 200  # wider forms are filled by programs, not by hand


def planned_wells(batch: Batch) -> list[str]:
    """List the experiments of a round that go on plates."""
    pairs = zip(batch.table[PERTURBATION], batch.states, strict=True)
    kept = [str(label) for label, state in pairs if state != "withdrawn"]
    if not kept:
        raise PlateError(f"all experiments of round {batch.round} were withdrawn; ask for another round")
    return kept


def layout_of(
    campaign: Campaign,
    batch: Batch,
    *,
    size: int | None = None,
    controls: int | None = None,
    replicates: int | None = None,
    edges: Edges = "used",
) -> PlateLayout:
    """Complete what is stated of the plates by the settings of the campaign."""
    settings = campaign.settings
    return PlateLayout(
        size=settings.plate_size if size is None else size,
        controls=settings.controls if controls is None else controls,
        replicates=settings.replicates if replicates is None else replicates,
        edges=edges,
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
