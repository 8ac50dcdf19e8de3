"""A round on plates, with its reagents and a form for the results: the tables that go to the bench."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, TypeAlias

import pandas as pd

from inverse_design.campaign.ask import seed_of
from inverse_design.campaign.campaign import Campaign
from inverse_design.campaign.library import ReagentLibrary
from inverse_design.campaign.plate import CONTROL_LABEL, Edges, PlateLayout, PlateMap, Well, lay_out
from inverse_design.campaign.results import CAMPAIGN, REPLICATE, ROUND, STATUS
from inverse_design.campaign.rounds import Batch, arrangement_of
from inverse_design.campaign.store.events import Arranged, columns_of, table_of
from inverse_design.errors import PlateError
from inverse_design.recommend.protocol import PERTURBATION
from inverse_design.spreadsheets import save_csv, save_workbook
from surrogates.errors import DataError, shown
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


def arranged_last(campaign: Campaign, batch: Batch) -> Arranged:
    """Find how a round was arranged by hand; there is no layout if its wells are where they were drawn."""
    with campaign.store.reading(campaign.name) as log:
        return arrangement_of(log, batch.round)


def plate_of(campaign: Campaign, batch: Batch) -> PlateMap:
    """Put a round on plates as it was arranged last, else at random; what was withdrawn since is left out."""
    arranged = arranged_last(campaign, batch)
    if arranged.layout is None:
        return lay_out(planned_wells(batch), layout_of(campaign, batch))
    kept = {*planned_wells(batch), CONTROL_LABEL}
    rows = table_of(arranged.wells).itertuples(index=False, name=None)  # as they were written, column by column
    wells = tuple(well for well in (Well(*row) for row in rows) if well.perturbation in kept)
    return PlateMap(PlateLayout(**arranged.layout), wells)


Place: TypeAlias = tuple[int, str]  # number of a plate, and name of a well


def move_wells(campaign: Campaign, batch: Batch, moves: Sequence[tuple[Place, Place]]) -> None:
    """Exchange what pairs of wells hold, one pair after the other, and keep the plates so."""
    found = plate_of(campaign, batch)
    names = {(chr(ord("A") + row), column + 1) for row, column in found.layout.places}
    held = {(each.plate, each.well): each for each in found.wells}
    for pair in moves:
        for plate, well in pair:
            if not 1 <= plate <= found.plates or (well[:1], int(well[1:])) not in names:
                raise PlateError(f"plate {plate} has no well {well!r:.80} that may be used")
        first, second = (held.pop(place, None) for place in pair)
        for place, content in ((pair[0], second), (pair[1], first)):
            if content is not None:
                plate, well = place
                held[place] = replace(content, plate=plate, well=well, row=well[0], column=int(well[1:]))
    table = PlateMap(found.layout, tuple(held[place] for place in sorted(held))).table
    _arrange(campaign, batch.round, layout=asdict(found.layout), wells=columns_of(table))


def pin(campaign: Campaign, batch: Batch, label: str, *, first: bool) -> None:
    """Put an experiment of a round before all others, or back among them."""
    if label not in batch.labels:
        raise DataError(f"{shown(label)} is not in round {batch.round}")
    others = tuple(each for each in batch.pinned if each != label)
    _arrange(campaign, batch.round, pinned=(label, *others) if first else others)


def _arrange(campaign: Campaign, round_number: int, **changes: Any) -> None:  # noqa: ANN401 - fields of the event
    with campaign.store.writing(campaign.name) as log:
        log.append(replace(arrangement_of(log, round_number), **changes), actor=campaign.actor)


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
