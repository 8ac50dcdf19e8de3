"""Telling results: checked, matched with experiments, and recorded in one transaction."""

from dataclasses import dataclass, replace

from inverse_design.campaign.block import Block
from inverse_design.campaign.events import Ordered, Told
from inverse_design.campaign.matching import Matching
from inverse_design.campaign.results import Results
from inverse_design.campaign.scale import Scale
from inverse_design.campaign.store import WritableLog


@dataclass(frozen=True)
class Telling:
    """What became of a told table.

    Attributes:
        measured: Perturbations that have values now and had none before.
        failed: Perturbations that failed.
        extra: Those of both that nobody had asked for.
        wells: How many wells were new.
        already: How many wells had been told before, and were left alone.
        pending: How many wells are still to come.
        controls: How many control wells were left out.
        flagged: Values that are out of scale, and controls that drift, in words; all were taken all the same.
        sequence: Number of the event, ``None`` if there was nothing new.
    """

    measured: tuple[str, ...] = ()
    failed: tuple[str, ...] = ()
    extra: tuple[str, ...] = ()
    wells: int = 0
    already: int = 0
    pending: int = 0
    controls: int = 0
    flagged: tuple[str, ...] = ()
    sequence: int | None = None

    @property
    def words(self) -> str:
        """What became of it, in one sentence."""
        left_out = [f"{self.pending} wells pending"] if self.pending else []
        left_out += [f"{self.controls} control wells left out"] if self.controls else []
        if self.sequence is None and not self.already:
            return ", ".join(["no well of an experiment has a result, nothing has changed", *left_out])
        if self.sequence is None:
            return ", ".join([f"already told: {self.already} wells were known, nothing has changed", *left_out])
        more = [f"{len(self.extra)} not asked for"] if self.extra else []
        more += [f"{self.already} wells already told"] if self.already else []
        counts = f"{len(self.measured)} experiments measured, {len(self.failed)} failed"
        return ", ".join([f"{self.wells} wells told", counts, *more, *left_out])


def tell(log: WritableLog, results: Results, *, scale: Scale, allow_extra: bool, actor: str) -> Telling:
    """Record results.

    Args:
        log: Of the campaign, locked.
        results: Checked wells.
        scale: What is usual.
        allow_extra: Whether experiments that nobody asked for are taken.
        actor: Who tells.

    Returns:
        What became of them.

    Raises:
        ResultsError: If an experiment was never asked for, or a well was told with other values.
        IllegalMoveError: If an experiment has failed or was withdrawn.
    """
    controls = results.controls
    left_out = Telling(pending=results.pending, controls=controls.wells, flagged=controls.drift)
    if log.told(results.digest) is not None:
        return replace(left_out, already=len(results))
    matching = Matching(results, log, allow_extra=allow_extra).run()
    if not matching.rows:
        return replace(left_out, already=matching.already)
    block = matching.block()
    _order(log, matching, block, actor)
    measured, failed = _first_results(matching, block)
    flagged = (*scale.odd(block.values, block.failed, block.label), *controls.drift)
    extra = tuple(matching.extra)
    event = Told(
        measured=len(measured),
        failed=len(failed),
        extra=len(extra),
        values=int((~block.failed).sum()),
        flagged=flagged,
    )
    sequence = log.append(event, actor=actor, artefact=block.to_bytes(), digest=results.digest)
    return replace(
        left_out,
        measured=measured,
        failed=failed,
        extra=extra,
        wells=len(matching.rows),
        already=matching.already,
        flagged=flagged,
        sequence=sequence,
    )


def _order(log: WritableLog, matching: Matching, block: Block, actor: str) -> None:
    """Note that proposed experiments with results must have gone to the bench."""
    states, told = matching.states, dict.fromkeys(block.number.tolist())
    proposed = tuple(number for number in told if states.get(number) == "proposed")
    if proposed:
        log.append(Ordered(proposed), actor=actor)


def _first_results(matching: Matching, block: Block) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Name the experiments that get their first values, and those of which every well failed."""
    states = matching.states
    labels = dict(zip(block.number.tolist(), block.label, strict=True))
    worked = dict.fromkeys(block.number[~block.failed].tolist())
    fresh = [number for number in labels if states.get(number) != "measured"]
    measured = tuple(labels[number] for number in fresh if number in worked)
    return measured, tuple(labels[number] for number in fresh if number not in worked)
