"""Pick lists: which reagent goes from which source well into which well of a plate map, for two kinds of machine.

Columns are those that the machines' own programs read: Echo Cherry Pick (nL; droplets of 2.5 nL), and the CSV of
the protocol "Cherrypicking" of the Opentrons Protocol Library (µL; pipettes move 1 µL or more).
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd

from inverse_design.campaign.library import Reagent, ReagentLibrary
from inverse_design.campaign.plate import PlateMap
from inverse_design.errors import LibraryError, PlateError
from surrogates.data.perturbation import Intervention, Perturbation
from surrogates.errors import nearest_hint, shown, some_of

DROPLET, LEAST = 2.5, 1000.0  # nL: a droplet of an Echo; the least that a pipette of Opentrons moves
ECHO = (
    "Source Plate Name", "Source Well", "Destination Plate Name", "Destination Well", "Transfer Volume",
    "Sample Name",
)  # fmt: skip
OPENTRONS = (
    "Source Labware", "Source Slot", "Source Well", "Source Aspiration Height Above Bottom (in mm)",
    "Dest Labware", "Dest Slot", "Dest Well", "Volume (in ul)",
)  # fmt: skip
_HEIGHT = 1  # mm above the bottom, as in the examples of the protocol
_WELL = re.compile(r"(A[A-F]|[A-Z])0?([1-9]|[1-3]\d|4[0-8])", re.IGNORECASE)  # of plates of up to 1,536 wells


@dataclass(frozen=True)
class Pick:
    """What goes from one well into another."""

    reagent: Reagent  # what, and where it is
    source: str  # its well, such as ``A1``
    plate: int  # number of the plate that it goes to, from one
    well: str  # the well there, such as ``B7``


def transfers_of(found: PlateMap, batch: Sequence[Perturbation], library: ReagentLibrary) -> tuple[Pick, ...]:
    """List what each well of a plate map gets, in the order of the map: each well of its reagents once.

    Control wells get what the library calls a control, and nothing where it has none.
    """
    by_label = {one.label: [_of(part, library) for part in one.interventions] for one in batch}
    controls = [library.controls]
    wanted = [each for parts in (*by_label.values(), controls) for some in parts for each in some]
    places = _places(list(dict.fromkeys(wanted)))
    done: list[Pick] = []
    for well in found.wells:
        parts = by_label[well.perturbation] if well.role == "sample" else controls
        given = {places[each]: each for some in parts for each in reversed(some)}  # a pool stands in one well
        done += [Pick(given[at], at[1], well.plate, f"{well.row}{well.column}") for at in sorted(given)]
    return tuple(done)


def _of(part: Intervention, library: ReagentLibrary) -> tuple[Reagent, ...]:
    """Find what acts as one part of an experiment: a row of its label, or of its target at the full dose."""
    by_gene = library.by_gene
    found = by_gene.get(part.label) or (by_gene.get(part.target) if part.dose == 1.0 else None)
    if found is None:
        dose = "" if part.dose == 1.0 else "; a dose other than 1 needs a row of its own, called like that"
        raise LibraryError(
            f"the library has no reagent for {shown(part.label)} ({nearest_hint(part.label, by_gene)}){dose}"
        )
    return found


def _places(reagents: Sequence[Reagent]) -> dict[Reagent, tuple[str, str]]:
    """Say in which plate and well each reagent is."""
    lost = [shown(each.reagent) for each in reagents if not (each.source_plate and each.source_well)]
    if lost:
        raise LibraryError(
            f"the library does not say in which well {some_of(lost, 5)} is; give it the columns source_plate and"
            " source_well, filled in for each reagent"
        )
    places: dict[Reagent, tuple[str, str]] = {}
    holder: dict[tuple[str, str], str] = {}
    for each in reagents:
        match = _WELL.fullmatch(each.source_well)
        if match is None:
            raise LibraryError(
                f"{shown(each.reagent)} is in {shown(each.source_well)}, which is no well, such as B7"
            )
        places[each] = at = each.source_plate, f"{match[1].upper()}{match[2]}"
        if holder.setdefault(at, each.gene) != each.gene:
            both = f"{shown(holder[at])} and {shown(each.gene)}"
            raise LibraryError(f"well {at[1]} of source plate {shown(at[0])} holds {both}; correct the library")
    return places


def echo_list(transfers: Sequence[Pick], *, name: str, volume: float | None) -> pd.DataFrame:
    """Write a pick list for Echo liquid handlers; plates are called by a name and their number."""
    dose = _volume(volume)
    if dose % DROPLET:
        near = max(DROPLET, DROPLET * round(dose / DROPLET))
        raise PlateError(
            f"an Echo moves droplets of {DROPLET} nL, which {dose:g} nL is not; give --volume {near:g}"
        )
    rows = [
        (one.reagent.source_plate, one.source, f"{name}-p{one.plate}", one.well, dose, one.reagent.reagent)
        for one in transfers
    ]
    return pd.DataFrame(rows, columns=list(ECHO))


def opentrons_list(
    transfers: Sequence[Pick], *, labware: str | None, slots: Sequence[str], volume: float | None
) -> pd.DataFrame:
    """Write the transfers of a cherry-picking protocol; labware is called as in the Labware Library."""
    dose, plates = _volume(volume), max((one.plate for one in transfers), default=1)
    if dose < LEAST:
        raise PlateError(f"pipettes of Opentrons move {LEAST:g} nL or more; --volume is {dose:g}")
    if labware is None or len(slots) != plates:
        raise PlateError(
            f"{plates} plates need --labware, their name in the Labware Library, and --slots, their {plates} slots"
            f" on the deck; given are {shown(labware or '')} and {len(slots)}"
        )
    lost = [shown(one.reagent.source_plate) for one in transfers if not (one.reagent.labware and one.reagent.slot)]
    if lost:
        raise LibraryError(
            f"the library does not say what labware source plate {lost[0]} is, or in which slot; give it the"
            " columns labware and slot"
        )
    taken: dict[str, tuple[str, str]] = {}
    for one in transfers:
        plate = one.reagent.source_plate, one.reagent.labware
        if (other := taken.setdefault(one.reagent.slot, plate)) != plate:
            both = " and ".join(f"{shown(name)} ({shown(kind, bare=True)})" for name, kind in (other, plate))
            raise LibraryError(f"the library puts {both} into slot {shown(one.reagent.slot)}; correct it")
    if twice := [slot for slot in slots if slot in taken or slots.count(slot) > 1]:
        raise PlateError(f"slot {shown(twice[0])} holds two plates; give each a slot of its own")
    rows = [
        (
            one.reagent.labware, one.reagent.slot, one.source, _HEIGHT, labware, slots[one.plate - 1], one.well,
            dose / 1000,
        )
        for one in transfers
    ]  # fmt: skip
    return pd.DataFrame(rows, columns=list(OPENTRONS))


def _volume(volume: float | None) -> float:
    if volume is None or not 0 < volume < float("inf"):
        raise PlateError(
            "say how much of each reagent goes into a well, in nL: --volume"
            + ("" if volume is None else f", not {volume:g}")
        )
    return volume
