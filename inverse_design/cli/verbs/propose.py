"""The verb ``propose``: rank a whole space, after saying what a long search will cost."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from rich.console import Console

from inverse_design.candidates import borrows
from inverse_design.cli.console import Run, reply, say, say_written, show_facts, show_warnings, working
from inverse_design.cli.limit_tables import read_costs, read_doses, read_groups, read_pairs
from inverse_design.cli.options import AUTOMATIC, Asking, Planning, Reading, Restrictions, Running
from inverse_design.cli.outputs import PAGE_ENDING, manifest, place_for, table_endings, write_table
from inverse_design.cli.plans import rows_of, settled
from inverse_design.cli.screens import open_screen, read_allowed, read_exclusions, read_names, warn_of_scheduler
from inverse_design.cli.side_tables import SideTables
from inverse_design.cli.tables import candidates_grid, show_card, show_search, show_set
from inverse_design.planning.costs import Sizes
from inverse_design.planning.question import Prepared, Request
from inverse_design.problem.constraints import Constraints, read_constraint
from inverse_design.problem.objective import DISTANCE, OBJECTIVES
from inverse_design.problem.problem import STANDARD
from inverse_design.problem.target import ProfileTarget, SignatureTarget, Target
from inverse_design.proposal import Proposal, proposal_for
from inverse_design.screens import one_context
from inverse_design.search.api import Engine, Turns
from inverse_design.targets import read_target
from inverse_design.value_tables import WEIGHT_COLUMNS, read_value_table
from surrogates.data.screen import Screen
from surrogates.errors import amount
from surrogates.fit_cache import USER_CACHE, FitCache
from surrogates.models.wrappers.public_law import BORROWED


@dataclass(frozen=True)
class Answer:
    """A proposal with the question that it answers."""

    screen: Screen  # the data, the target condition among them
    target: str | Target  # as it was read
    asking: Asking  # what was asked
    proposal: Proposal  # what was found


def run_propose(  # noqa: PLR0913 - groups of options, each one word of the verb
    run: Run,
    data: str,
    *,
    target: str,
    context: str | None,
    destination: str | None,
    page: str | None,
    asking: Asking,
    restrictions: Restrictions,
    running: Running,
    planning: Planning,
    reading: Reading,
) -> None:
    """Rank candidates, print them, and write them if asked."""
    limits = (restrictions.doses, restrictions.groups, restrictions.incompatible, restrictions.costs)
    inputs = (data, target, *filter(None, (asking.prior, asking.drug_targets, asking.embedding, *limits)))
    if asking.objective is not None:
        OBJECTIVES.load(asking.objective)  # a misspelt name is refused before anything is read
    place = place_for(destination, run, *table_endings(), inputs=inputs)
    shown = place_for(page, run, PAGE_ENDING, inputs=inputs)
    tables = SideTables.read(
        asking.drug_targets, asking.embedding, [asking.model], standardise=asking.standardise, unseen=False
    )
    engine = engine_of(running)
    with working("reading"):
        read = open_screen(data, reading, workers=running.workers, scheduler=running.scheduler)
        screen = one_context(read, context)
        wanted = read_target(target, screen)
        constraints = constraints_of(restrictions, reading, screen)
        request = request_of(asking, constraints, engine, None if running.no_cache else USER_CACHE)
        surrogate = tables.known_on(screen).get(asking.model, asking.model)
        prepared = replace(request, surrogate=surrogate).prepared(screen, wanted)
    if not settled(prepared.plan, planning, run.manner):
        return
    answer = Answer(screen, wanted, asking, solved(prepared, asking))
    written = list[Path]()
    settings = {"asking": asdict(asking), "constraints": asdict(constraints), "target": target}
    known = manifest(run, screen, seed=asking.seed, settings=settings)
    # Written first: whoever reads the screen may leave early.
    if place is not None:
        written += write_answer(answer, place, known)
    if shown is not None:
        written.append(write_report(answer, shown, known))
    give_answer(run, answer, known, written)


def give_answer(run: Run, answer: Answer, known: Mapping[str, object], written: Sequence[Path]) -> None:
    """Print an answer, for programs or in words, and what was written."""

    def show(console: Console) -> None:
        show_answer(console, answer)
        say_written(console, *written)

    facts = answer_facts(answer, known)
    reply(run.manner, {**facts, "table": rows_of(answer.proposal.table), "written": written}, show)


def constraints_of(restrictions: Restrictions, reading: Reading, screen: Screen) -> Constraints:
    """Resolve the restrictions against what the screen knows."""
    known = {*screen.vocabulary.targets, *screen.vocabulary.ids}
    return Constraints(
        excluded=read_exclusions(restrictions.exclude, known=known),
        required=read_names(restrictions.require, known=known),
        allowed=read_allowed(restrictions.allow, known=known) if restrictions.allow else None,
        measured="keep" if restrictions.measured == "keep" else "leave_out",
        mode=reading.mode,
        dose=restrictions.dose,
        doses=read_doses(Path(restrictions.doses)) if restrictions.doses else (),
        groups=read_groups(restrictions.groups, known=known) if restrictions.groups else (),
        incompatible=read_pairs(Path(restrictions.incompatible)) if restrictions.incompatible else (),
        costs=read_costs(Path(restrictions.costs)) if restrictions.costs else (),
        budget=restrictions.budget,
        further=tuple(map(read_constraint, restrictions.constraint)),
    )


def engine_of(running: Running) -> Engine:
    """Set up where a search runs; a scheduler that others may listen to is named as such."""
    warn_of_scheduler(running.scheduler)
    return Engine(
        workers=running.workers,
        scheduler=running.scheduler,
        ledger=None if running.ledger is None else Path(running.ledger),
        device=running.device,
    )


def request_of(asking: Asking, constraints: Constraints, engine: Engine, cache: FitCache | None) -> Request:
    """Say what is asked as in Python."""
    return Request(
        order=asking.order,
        objective=asking.objective,
        constraints=constraints,
        prior=_read_prior(asking.prior),
        surrogate=asking.model,
        standardise=asking.standardise,
        seed=asking.seed,
        engine=engine,
        cache=cache,
    )


def solved(prepared: Prepared, asking: Asking) -> Proposal:
    """Fit the model and search, showing progress on a terminal."""
    with working("fitting and searching") as view:
        return proposal_for(prepared, top=asking.top, level=asking.level, progress=view)


def show_answer(console: Console, answer: Answer) -> None:
    """Print an answer: warnings, what was used, the table, the card, the certificate, the notes."""
    proposal = answer.proposal
    say(console, proposal.verdict, "bold")
    show_warnings(console, proposal.notes)
    show_facts(console, _facts(answer))
    say(console)
    for line in columns_in_words(answer).values():
        say(console, line, "dim")
    candidates_grid(proposal.table).show(console)
    if left := int((~proposal.table["beats_nothing"].astype(bool)).sum()):
        say(
            console,
            f"beats_nothing no: {left} of {len(proposal.table)} rows are no better than doing nothing",
            "yellow",
        )
    say(console)
    show_card(console, proposal)
    say(console)
    show_set(console, proposal.inverse_set)
    show_search(console, proposal)
    if isinstance(answer.target, str):
        say(console, truth_line(proposal, answer.target))


def write_answer(answer: Answer, place: Path, known: Mapping[str, object]) -> tuple[Path, Path]:
    """Write the table and, beside it, all that explains it."""
    return write_table(answer.proposal.table, place, answer_facts(answer, known))


def answer_facts(answer: Answer, known: Mapping[str, object]) -> dict[str, object]:
    """Collect all that explains the table."""
    proposal = answer.proposal
    labels = proposal.table["perturbation"]
    why = [
        {"perturbation": name, **asdict(each), "spread": spread}
        for name, each, spread in zip(
            labels,
            proposal.explanations,
            proposal.spread.drop(columns="perturbation").to_dict("records"),
            strict=True,
        )
    ]
    return {
        "verdict": proposal.verdict,
        "manifest": known,
        "target": proposal.target.name,
        "notes": proposal.notes,
        "certificate": asdict(proposal.search.certificate),
        "turns": None if proposal.turns is None else _certificates(proposal.turns),
        "baselines": asdict(proposal.baselines),
        "columns": columns_in_words(answer),
        "inverse_set": None if proposal.inverse_set is None else asdict(proposal.inverse_set),
        "explanations": why,
    }


def write_report(answer: Answer, place: Path, known: Mapping[str, object]) -> Path:
    """Write the page about an answer."""
    from inverse_design.report import write_page  # noqa: PLC0415 - figures and templates, where they are wanted
    from inverse_design.report.proposals import proposal_page  # noqa: PLC0415 - the same

    page = proposal_page(
        answer.proposal,
        facts=_facts(answer),
        provenance=known,
        truth=answer.target if isinstance(answer.target, str) else "",
    )
    return write_page(page, place)


def truth_line(proposal: Proposal, truth: str) -> str:
    """Say where the held-out condition stands that made the target."""
    said = f"truth: {truth}, measured but held out of the training data,"
    ranks = proposal.table.loc[proposal.table["perturbation"] == truth, "rank"]
    if len(ranks):
        return f"{said} is number {ranks.iloc[0]} of {proposal.space.count_valid:,} candidates"
    if _is_candidate(proposal, truth):
        return f"{said} is not among the first {len(proposal.table)} of {proposal.space.count_valid:,} candidates"
    return f"{said} was not a candidate: it is ruled out, of another order, or has a part not measured alone"


def _is_candidate(proposal: Proposal, truth: str) -> bool:
    space = proposal.space
    return bool(space.holds(space.vocabulary.batch([space.vocabulary.parse(truth)])).all())


def _facts(answer: Answer) -> dict[str, str]:
    screen, proposal = answer.screen, answer.proposal
    common, wanted = len(proposal.target.on(screen.readouts).columns), _n_readouts(proposal.target)
    part = "" if common == wanted else f", {common:,} of its {wanted:,} readouts are in the data"
    held_out = " (a condition of the data, held out of the training)" if isinstance(answer.target, str) else ""
    context = f", context {screen.contexts[0]}" if screen.contexts[0] else ""
    source = screen.provenance.get("dataset", screen.provenance.get("source", "data"))
    return {
        "data": f"{source}{context}: {Sizes.of(screen).line}",
        "unit": STANDARD if answer.asking.standardise else screen.provenance.get("unit", "as in the file"),
        "target": f"{proposal.target.name}{held_out}{part}",
        "compare": f"{_compared(proposal)}{proposal.baselines.line}",
        "model": f"{_model_name(answer)}, seed {answer.asking.seed}",
    }


def _certificates(turns: Turns) -> dict[str, dict[str, object]]:
    return {name: asdict(found.certificate) for name, found in turns.searches.items()}


def columns_in_words(answer: Answer) -> dict[str, str]:
    """Say what the numbers of the table are and in which unit, so that none is read wrongly."""
    proposal = answer.proposal
    table, common = proposal.table, len(proposal.target.on(answer.screen.readouts).columns)
    bounded = DISTANCE if DISTANCE in table else "utility"
    said = {}
    if bounded == DISTANCE:
        said[DISTANCE] = (
            "distance: expected of a new measurement, root mean square over"
            f" {amount(common, 'readout')}, unit as above"
        )
    level = f"{100 * answer.asking.level:.3g} %"
    lent = f" ({BORROWED})" if borrows(proposal.fitted) else ""
    said["lower, upper"] = f"lower, upper: hold the measured {bounded} with {level}{lent}"
    if bool(table["lower"].isna().all()):
        said["lower, upper"] = "lower, upper: could not be calibrated"
    elif bounded == DISTANCE and not bool(table["probability"].isna().all()):
        said["lower, upper"] += "; from 0 on where the row may be what made the target"
    return said


def _compared(proposal: Proposal) -> str:
    return "distance to the target: " if proposal.baselines.name == DISTANCE else f"{proposal.baselines.name}: "


def _model_name(answer: Answer) -> str:
    taken = f"{AUTOMATIC}, took {answer.proposal.fitted.name}"
    known = f", with the targets of {answer.asking.drug_targets}" if answer.asking.drug_targets else ""
    known += f", with the embedding {answer.asking.embedding}" if answer.asking.embedding else ""
    return (taken if answer.asking.model == AUTOMATIC else answer.asking.model) + known


def _n_readouts(target: Target) -> int:
    if isinstance(target, ProfileTarget):
        return len(target.readouts)
    return len(target.up) + len(target.down) if isinstance(target, SignatureTarget) else 1


def _read_prior(path: str | None) -> dict[str, float] | None:
    if path is None:
        return None
    table = read_value_table(Path(path), values=WEIGHT_COLUMNS)
    return dict(zip(table.names, table.values, strict=True))
