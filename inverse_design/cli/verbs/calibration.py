"""The verb ``benchmark calibration``: whether stated bounds, sets and probabilities hold, and its tables."""

import math
from collections import Counter
from collections.abc import Mapping, Sequence

from rich.console import Console

from inverse_design.cli.console import Run, say, working
from inverse_design.cli.grid import Column, Grid
from inverse_design.cli.options import Planning, Reading
from inverse_design.cli.outputs import PICTURE_ENDINGS, manifest, place_for
from inverse_design.cli.plans import settled
from inverse_design.cli.screens import read_names
from inverse_design.cli.verbs.measuring import Judging
from inverse_design.cli.verbs.retrieval import give_rows, opened_screen, reliability_grid
from inverse_design.fitting import surrogate_of
from inverse_design.numbers import measured
from inverse_design.validate.calibration import LEVELS, ClassCard, measure_calibration
from inverse_design.validate.calibration_rows import calibration_rows, coverage_remarks, main_level
from inverse_design.validate.coverage import percent
from inverse_design.validate.judged import AGREE, Bin, reliability
from inverse_design.validate.outlines import measurement_outline
from surrogates.data.novelty import CLASSES
from surrogates.errors import CalibrationError, UnknownChoiceError
from surrogates.evaluation.intervals import Row
from surrogates.models.wrappers.automatic import Automatic
from surrogates.uncertainty.conformal.quantiles import require_level

# What is covered, by the metric of its coverage.
_LINES: Mapping[str, str] = {
    "coverage_{}_all": "single readouts",
    "posterior_coverage_{}_all": "  posterior alone",
    "coverage_{}_responding": "responding readouts",
    "posterior_coverage_{}_responding": "  posterior alone",
    "coverage_{}_own": "targets' readouts",
    "posterior_coverage_{}_own": "  posterior alone",
    "coverage_{}_easiest": "easiest third, as stated",
    "coverage_{}_middle": "middle third",
    "coverage_{}_hardest": "hardest third",
    "band_coverage_{}": "all readouts at once",
    "distance_coverage_{}": "distance to a target",
    "first_coverage_{}": "distance of first rows",
    "first_likely_coverage_{}": "  if likely the maker",
    "first_unlikely_coverage_{}": "  if not",
}

RowsByMetric = Mapping[str, Row]


def show_legend(console: Console, levels: Sequence[float]) -> None:
    """Say once how the tables are read."""
    said = ", ".join(f"{percent(level)} %" for level in levels)
    say(console, f"coverage of conformal bounds at nominal {said}; below it that of the posterior's own intervals")
    say(console, "[95 % interval by a bootstrap of the genes of held-out perturbations, which nothing has seen]")
    say(
        console,
        "responding: the 5 % of readouts with the largest predicted effects; targets': of the genes acted upon",
    )
    say(
        console,
        "first rows: of held-out doubles as targets, makers among the rows; likely: probability of 0.5 and more",
    )
    say(
        console,
        "such a calibration: central 90 % of the coverage that so few calibrating perturbations may truly give",
    )


def show_class(console: Console, card: ClassCard, rows: RowsByMetric, level: float) -> None:
    """Print what was found of one novelty class."""
    variant = card.variant.replace("_", " ")
    say(console)
    say(console, f"{card.novelty}, {variant} (n = {len(card.judged)})", "bold")
    for behind in dict.fromkeys(each.line for each in card.behind.values()):
        at = [percent(each) for each, found in card.behind.items() if found.line == behind]
        say(console, f"calibrated at {', '.join(at)} % by {behind}", "yellow" if "borrows" in behind else "")
    for what, why in card.refused.items():
        say(console, f"{what}: {why}", "yellow")
    coverage_grid(rows, level).show(console)
    for line in (*_of_posterior(rows), *_of_sets(card, rows)):
        say(console, line)
    if (kept := card.promise) is not None:
        say(console, kept.line, "bold yellow" if kept.difference < -AGREE else "")


def coverage_grid(rows: RowsByMetric, level: float) -> Grid:
    """Lay coverage out, one line for each kind of bound and one column for each level."""
    prefix, suffix = "posterior_coverage_", "_all"
    said = [
        name.removeprefix(prefix).removesuffix(suffix)
        for name in rows
        if name.startswith(prefix) and name.endswith(suffix)
    ]
    shown = [metric for metric in _LINES if any(metric.format(each) in rows for each in said)]
    columns = [Column("coverage of", (*(_LINES[metric] for metric in shown), "such a calibration"))]
    for each in said:
        cells = (
            *(cell(rows.get(metric.format(each))) for metric in shown),
            _band(rows.get(f"calibration_{each}")),
        )
        columns.append(Column(f"{each} %", cells, "right"))
    widths = (*(_width(rows, metric, percent(level)) for metric in shown), "")
    return Grid((*columns, Column(f"width at {percent(level)} %", widths, "right")))


def _width(rows: RowsByMetric, metric: str, said: str) -> str:
    """Write the width behind a coverage; of a band in that of readouts, of a distance in what the band implies."""
    if metric.startswith("band"):
        row = rows.get(f"band_to_readouts_{said}")
        return "-" if row is None else f"{row.value:.2f} x readout's"
    if metric.startswith("distance"):
        row = rows.get(f"distance_to_band_{said}")
        return "-" if row is None else f"{row.value:.2f} x band's"
    row = rows.get(metric.format(said).replace("coverage", "width"))
    return "-" if row is None else f"{row.value:.3g}"


def cell(row: Row | None) -> str:
    """Write a number with its interval."""
    return "-" if row is None else measured(row.value, row.low, row.high, row.unit)


def _band(row: Row | None) -> str:
    return "-" if row is None or math.isnan(row.low) else f"[{row.low:.2f}, {row.high:.2f}]"


def _of_posterior(rows: RowsByMetric) -> list[str]:
    if "pit_deviation" not in rows:
        return []
    return [
        f"stated errors: mean standard deviation {rows['sharpness'].value:.3g}; transform off uniform by"
        f" {cell(rows['pit_deviation'])} (0 is honest); rank correlation of stated and actual error"
        f" {cell(rows['spread_error'])}"
    ]


def _of_sets(card: ClassCard, rows: RowsByMetric) -> list[str]:
    lines = []
    for level, rules in card.rules.items():
        said = percent(level)
        median, mean = rows[f"set_size_median_{said}"], rows[f"set_size_mean_{said}"]
        used = ", ".join(f"{rule} in {count}" for rule, count in Counter(rules).items())
        lines.append(
            f"{said} % set: coverage {cell(rows[f'set_coverage_{said}'])}, median {median.value:g}"
            f" [{median.low:g}, {median.high:g}] and mean {mean.value:.1f} [{mean.low:.1f}, {mean.high:.1f}] of"
            f" {card.candidates:,} candidates (by {used} of {len(rules)} folds)"
        )
    if "unreachable" in rows:
        lines.append(
            f"said to be explained by no candidate (p <= 0.05): {cell(rows['unreachable'])} of held-out doubles"
            f" (promised: at most 0.05), {cell(rows['unreachable_permuted'])} of permuted ones,"
            f" {cell(rows['unreachable_negated'])} of negated ones"
        )
    if "ece" in rows:
        lines.append(
            f"probability of the first candidate: expected calibration error {cell(rows['ece'])}, by chance"
            f" {rows['ece_by_chance'].value:.3f}"
        )
    return lines


def run_calibration(
    run: Run, data: str, *, context: str | None, asked: Judging, planning: Planning, reading: Reading
) -> None:
    """Measure whether bounds, sets and probabilities hold of held-out perturbations."""
    place, picture = (
        place_for(asked.output, run, ".json", inputs=[data]),
        place_for(asked.picture, run, *PICTURE_ENDINGS, inputs=[data]),
    )
    levels, model = read_levels(asked.levels), named_model(asked.model)
    classes = read_names(asked.classes, known=CLASSES) or tuple(CLASSES)
    for word in classes:
        if word not in CLASSES:
            raise UnknownChoiceError.from_known("novelty class", word, CLASSES)
    screen = opened_screen(data, context, reading, asked.crew)
    foreseen = measurement_outline("calibration", screen, classes=classes, workers=asked.crew.workers).price()
    if not settled(foreseen, planning, run.manner):
        return
    with working("calibration") as view, foreseen.begin(view).stage() as tick:
        cards = measure_calibration(
            screen, model, seed=asked.seed, levels=levels, classes=classes, workers=asked.crew.place, progress=tick
        )
    dataset = screen.provenance["dataset"]
    rows = calibration_rows(cards, dataset=dataset, model=asked.model, seed=asked.seed)
    bins = {card.variant: found for card in cards if (found := reliability_of(card))}
    settings = {
        "model": asked.model,
        "levels": list(levels),
        "classes": list(classes),
        "cards": [_facts(card) for card in cards],
    }
    if picture is not None:
        from inverse_design.plot import calibration_figure, write_figure  # noqa: PLC0415 - matplotlib, for a picture

        write_figure(
            calibration_figure(rows, bins, title=f"Calibration on held-out perturbations of {dataset}"), picture
        )
    known = manifest(run, screen, seed=asked.seed, settings=settings)

    def show(console: Console) -> None:
        show_calibration(console, cards, rows, levels)

    give_rows(run, rows, known, place, show, picture=picture)


def show_calibration(
    console: Console, cards: Sequence[ClassCard], rows: Sequence[Row], levels: Sequence[float]
) -> None:
    """Print warnings, then a table for each class, then reliability."""
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
    """Read nominal probabilities."""
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
    """Wrap a forward model as a proposal does."""
    model = surrogate_of(name)
    return Automatic() if model is None else Automatic((model,))


def reliability_of(card: ClassCard) -> tuple[Bin, ...]:
    """Bin the probabilities of first candidates."""
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
