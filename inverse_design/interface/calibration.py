"""The verb ``benchmark calibration``: do the stated bounds, sets and probabilities hold?"""

from collections.abc import Sequence

from rich.console import Console

from inverse_design.benchmark.calibration import LEVELS, ClassCard, measure_calibration
from inverse_design.benchmark.calibration_rows import calibration_rows, coverage_remarks, main_level
from inverse_design.benchmark.interval_coverage import percent
from inverse_design.benchmark.reliability import Bin, reliability
from inverse_design.interface.calibration_figure import calibration_svg
from inverse_design.interface.calibration_tables import show_class, show_legend
from inverse_design.interface.console import output, say, working
from inverse_design.interface.figures import write_svg
from inverse_design.interface.judging import Judging
from inverse_design.interface.loaded_model import loaded_model
from inverse_design.interface.names import names_a_file, read_names
from inverse_design.interface.options import Reading
from inverse_design.interface.outputs import check_writable
from inverse_design.interface.provenance import manifest
from inverse_design.interface.run import Run
from inverse_design.interface.screens import one_context, open_screen
from inverse_design.interface.tables import reliability_grid
from surrogates.errors import CalibrationError, UnknownNameError
from surrogates.evaluation.forward_splits import CLASSES
from surrogates.evaluation.rows import Row, write_json
from surrogates.models.automatic import Automatic
from surrogates.uncertainty.conformal import require_level


def run_calibration(run: Run, data: str, *, context: str | None, asked: Judging, reading: Reading) -> None:
    """Measure whether bounds, sets and probabilities hold of held-out perturbations.

    Args:
        run: The command line.
        data: A dataset or file.
        context: Which context, if there are several.
        asked: What to judge, and where to write it.
        reading: How to read a file.
    """
    inputs = [data] if names_a_file(data) else []
    place = None if asked.json is None else check_writable(asked.json, endings=(".json",), inputs=inputs)
    picture = None if asked.picture is None else check_writable(asked.picture, endings=(".svg",), inputs=inputs)
    levels, model = read_levels(asked.levels), named_model(asked.model)
    classes = read_names(asked.classes, known=CLASSES) or tuple(CLASSES)
    for word in classes:
        if word not in CLASSES:
            raise UnknownNameError.from_known("novelty class", word, CLASSES)
    with working("reading"):
        screen = one_context(open_screen(data, reading), context)
    with working("calibration: fits") as tick:
        cards = measure_calibration(screen, model, seed=asked.seed, levels=levels, classes=classes, progress=tick)
    dataset = screen.provenance["dataset"]
    rows = calibration_rows(cards, dataset=dataset, model=asked.model, seed=asked.seed)
    bins = {card.variant: found for card in cards if (found := reliability_of(card))}
    settings = {
        "model": asked.model,
        "levels": list(levels),
        "classes": list(classes),
        "cards": [_facts(card) for card in cards],
    }
    # Written first: whoever reads the screen may leave early.
    if place is not None:
        write_json(rows, place, manifest=manifest(run, screen, seed=asked.seed, settings=settings))
    if picture is not None:
        write_svg(
            calibration_svg(rows, bins, title=f"Calibration on held-out perturbations of {dataset}"), picture
        )
    show_calibration(output(), cards, rows, levels)
    written = [str(each) for each in (place, picture) if each is not None]
    if written:
        console = output()
        say(console)
        say(console, "wrote " + " and ".join(written))


def show_calibration(
    console: Console, cards: Sequence[ClassCard], rows: Sequence[Row], levels: Sequence[float]
) -> None:
    """Print warnings, then a table for each class, then reliability.

    Args:
        console: Where.
        cards: What was found.
        rows: The same as numbers.
        levels: Nominal probabilities.
    """
    level = main_level(levels)
    warnings, remarks = coverage_remarks(cards, rows, level)
    for line in warnings:
        say(console, line, "bold yellow")
    for line in remarks:
        say(console, line, "yellow")
    if not warnings:
        say(console, f"no coverage at {percent(level)} % is lower than so few perturbations explain")
    show_legend(console, levels)
    for card in cards:
        own = {row.metric: row for row in rows if (row.variant, row.novelty) == (card.variant, card.novelty)}
        show_class(console, card, own, level)
        if found := reliability_of(card):
            say(console)
            reliability_grid(found).show(console)


def read_levels(stated: Sequence[str]) -> tuple[float, ...]:
    """Read nominal probabilities.

    Args:
        stated: As typed; commas divide them.

    Returns:
        Ascending, each once; the default ones if none is stated.

    Raises:
        CalibrationError: If one is no number between 0 and 1.
    """
    levels = set()
    for text in read_names(stated):
        try:
            levels.add(float(text))
        except ValueError:
            raise CalibrationError(
                f"level {text!r} is no number; give numbers between 0 and 1, as 0.8,0.9"
            ) from None
    for level in levels:
        require_level(level)
    return tuple(sorted(levels)) or LEVELS


def named_model(name: str) -> Automatic:
    """Wrap a forward model as a proposal does.

    Args:
        name: A registered name, or ``"automatic"``.

    Returns:
        What is fitted.

    Raises:
        UnknownNameError: If the name is not known.
    """
    model = loaded_model(name)
    return Automatic() if model is None else Automatic((model,))


def reliability_of(card: ClassCard) -> tuple[Bin, ...]:
    """Bin the probabilities of first candidates.

    Args:
        card: What was found of a class.

    Returns:
        The bins; none where there are no probabilities.
    """
    stated = card.judged.column("probability")
    return () if bool(stated.isnan().any()) else reliability(stated, card.judged.column("hit") > 0)


def _facts(card: ClassCard) -> dict[str, object]:
    return {
        "variant": card.variant,
        "novelty": card.novelty,
        "calibrated_by": {percent(level): behind.line for level, behind in card.behind.items()},
        "refused": dict(card.refused),
        "set_rules": {percent(level): list(rules) for level, rules in card.rules.items()},
        "candidates": card.candidates,
        "reliability": [vars(each) for each in reliability_of(card)],
    }
