"""What follows from the log: the state of each experiment, and where each measurement is.

Every event is projected in the transaction that appends it. Replaying the log gives the same rows.
"""

from typing import Any

import numpy as np
from sqlalchemy import Connection, delete, insert, select, update

from inverse_design.campaign.block import Block
from inverse_design.campaign.events import Asked, Event, Ordered, Told, Withdrawn, from_json
from inverse_design.campaign.state import State
from inverse_design.campaign.tables import ARTEFACTS, EVENTS, EXPERIMENTS, MEASUREMENTS
from inverse_design.errors import StoreError

Rows = dict[str, list[tuple[Any, ...]]]


def project(connection: Connection, campaign: int, sequence: int, event: Event, artefact: bytes | None) -> None:
    """Move experiments as an event says.

    Args:
        connection: In the transaction of the event.
        campaign: Number of the campaign.
        sequence: Number of the event.
        event: What happened.
        artefact: Numbers that belong to it.
    """
    if isinstance(event, Asked):
        numbers = range(event.first, event.first + len(event.perturbations))
        proposed = zip(numbers, event.perturbations, strict=True)
        _insert(connection, campaign, [(*each, event.round, "proposed") for each in proposed])
    elif isinstance(event, Ordered):
        _move(connection, campaign, event.numbers, "ordered")
    elif isinstance(event, Withdrawn):
        _move(connection, campaign, event.numbers, "withdrawn")
    elif isinstance(event, Told) and artefact is not None:
        _project_block(connection, campaign, sequence, Block.from_bytes(artefact))


def verify(connection: Connection, campaign: int) -> None:
    """Replay the log, and compare what follows from it with what is stored; the replay itself is rolled back.

    Args:
        connection: In a transaction of a writer.
        campaign: Number of the campaign.

    Raises:
        StoreError: If the two differ, or the events are not numbered without a gap.
    """
    stored = _rows(connection, campaign)
    with connection.begin_nested() as replay:
        rebuild(connection, campaign)
        replayed = _rows(connection, campaign)
        replay.rollback()
    for table, rows in replayed.items():
        if rows != stored[table]:
            odd = sorted(set(rows) ^ set(stored[table]))[:3]
            raise StoreError(f"the table {table!r} does not follow from the log, for example in {odd}")


def rebuild(connection: Connection, campaign: int) -> None:
    """Throw away what follows from the log, and replay it.

    Args:
        connection: In a transaction of a writer.
        campaign: Number of the campaign.

    Raises:
        StoreError: If the events are not numbered without a gap.
    """
    for table in (MEASUREMENTS, EXPERIMENTS):
        connection.execute(delete(table).where(table.c.campaign == campaign))
    joined = EVENTS.outerjoin(ARTEFACTS, (EVENTS.c.artefact == ARTEFACTS.c.hash) & (EVENTS.c.kind == "told"))
    columns = (EVENTS.c.sequence, EVENTS.c.kind, EVENTS.c.payload, ARTEFACTS.c.content)
    wanted = select(*columns).select_from(joined).where(EVENTS.c.campaign == campaign)
    log = connection.execute(wanted.order_by(EVENTS.c.sequence)).all()
    for place, row in enumerate(log, start=1):
        if row.sequence != place:
            raise StoreError(f"event {place} is missing from the log; restore the database from a copy")
        content = None if row.content is None else bytes(row.content)
        project(connection, campaign, row.sequence, from_json(row.kind, row.payload), content)


def _project_block(connection: Connection, campaign: int, sequence: int, block: Block) -> None:
    worked = np.unique(block.number[~block.failed])
    failed = np.setdiff1d(block.number, worked)
    first = np.unique(block.number[block.extra], return_index=True)[1]
    made = np.flatnonzero(block.extra)[first]
    labels, measured = block.label, frozenset(worked.tolist())
    states = ((int(block.number[row]), labels[row]) for row in made)
    _insert(
        connection,
        campaign,
        [(number, label, 0, "measured" if number in measured else "failed") for number, label in states],
    )
    known = block.number[block.extra]
    _move(connection, campaign, tuple(np.setdiff1d(worked, known).tolist()), "measured")
    _move(connection, campaign, tuple(np.setdiff1d(failed, known).tolist()), "failed")
    replicates = block.replicate
    rows = [
        {
            "campaign": campaign,
            "number": int(block.number[row]),
            "replicate": replicates[row],
            "sequence": sequence,
            "row": int(row),
        }
        for row in range(len(block.number))
    ]
    connection.execute(insert(MEASUREMENTS), rows)


def _insert(connection: Connection, campaign: int, experiments: list[tuple[int, str, int, str]]) -> None:
    names = ("number", "perturbation", "round", "state")
    rows = [{"campaign": campaign, **dict(zip(names, each, strict=True))} for each in experiments]
    if rows:
        connection.execute(insert(EXPERIMENTS), rows)


def _move(connection: Connection, campaign: int, numbers: tuple[int, ...], state: State) -> None:
    """Give experiments a state; one that was measured stays so, whatever happens to further wells of it."""
    for start in range(0, len(numbers), 500):
        some = numbers[start : start + 500]
        wanted = (
            EXPERIMENTS.c.campaign == campaign,
            EXPERIMENTS.c.number.in_(some),
            EXPERIMENTS.c.state != "measured",
        )
        connection.execute(update(EXPERIMENTS).where(*wanted).values(state=state))


def _rows(connection: Connection, campaign: int) -> Rows:
    found: Rows = {}
    for table in (EXPERIMENTS, MEASUREMENTS):
        mine = select(table).where(table.c.campaign == campaign).order_by(*table.primary_key.columns)
        found[table.name] = [tuple(row) for row in connection.execute(mine)]
    return found
