"""The tables, cards and sentences that verbs print."""

import math
from collections.abc import Mapping, Sequence
from textwrap import wrap

import pandas as pd
from jaxtyping import Int
from rich.console import Console
from torch import Tensor

from inverse_design.cli.console import say
from inverse_design.cli.grid import Column, Grid, decimals_for, fixed, in_column, measured, probability
from inverse_design.problem.explanation import Contribution
from inverse_design.problem.objective import DISTANCE
from inverse_design.proposal import Proposal
from inverse_design.search.inverse_set import InverseSet
from inverse_design.search.topk import Certificate
from inverse_design.validate.forward import RATIO, Verdict, verdict
from inverse_design.validate.judged import AGREE, Bin, calibration_noise, reliability
from inverse_design.validate.retrieval import Retrieval, RetrievalReport, kept_promise
from inverse_design.validate.retrieval_methods import DEFAULT, OWN_READOUTS, SIMPLE, YARDSTICK
from surrogates.evaluation.rows import Row

_LABEL = 10
# Of the benchmark of forward models, beside the ratios of errors.
_MAIN = ("pearson_median", "pearson_across", "r_squared_across", "fit_seconds", "peak_mb")
_ANSWERS = ("beats_nothing", "in_set")
_MARKS: Mapping[Verdict, str] = {"better": "+", "worse": "-", "unclear": "?", "same": "="}


def candidates_grid(table: pd.DataFrame) -> Grid:
    """Lay the ranked candidates out."""
    numbers = _numbers_of(table)
    columns = []
    for name in table.columns.map(str):
        values = table[name].tolist()
        if name in numbers:
            columns.append(Column(name, numbers[name], "right"))
        elif name in _ANSWERS:
            columns.append(Column(name, _yes_or_no(table[name])))
        elif name == "probability":
            columns.append(Column(name, tuple(map(probability, values)), "right"))
        elif name == "novelty":
            columns.append(Column(name, tuple(str(value).partition(", ")[2] for value in values)))
        else:
            right = pd.api.types.is_numeric_dtype(table[name])
            columns.append(
                Column(name, tuple(map(str, values)), "right" if right else "left", name == "reason", 20)
            )
    return Grid(tuple(columns))


def _yes_or_no(values: pd.Series) -> tuple[str, ...]:
    known = zip(values.tolist(), values.isna().tolist(), strict=True)
    return tuple("-" if missing else "yes" if value else "no" for value, missing in known)


def _numbers_of(table: pd.DataFrame) -> dict[str, tuple[str, ...]]:
    """Write utilities, and what is bounded with its bounds, each with decimals of their own."""
    groups = (
        [["utility"], ["distance", "lower", "upper"]] if "distance" in table else [["utility", "lower", "upper"]]
    )
    texts: dict[str, tuple[str, ...]] = {}
    for names in groups:
        decimals = decimals_for([float(value) for name in names for value in table[name]])
        texts |= {name: tuple(fixed(float(value), decimals) for value in table[name]) for name in names}
    return texts


def show_set(console: Console, found: InverseSet | None) -> None:
    """Print the inverse conformal set, and say if nothing explains the target."""
    if found is None:
        return
    say(console, found.line)
    if found.complaint:
        say(console, found.complaint, "bold yellow")


def certificate_line(certificate: Certificate, orders: Sequence[int]) -> str:
    """Say what a search looked at."""
    what = (
        "candidates" if len(orders) > 1 else {1: "singles", 2: "pairs", 3: "triples"}.get(orders[0], "candidates")
    )
    left_out = f", {certificate.masked:,} left out as measured or ruled out" if certificate.masked else ""
    if certificate.ruled_out.keys() - {"measured"}:
        reasons = ", ".join(f"{number:,} {reason}" for reason, number in certificate.ruled_out.items())
        left_out = f", left out: {reasons}"
    pruned = f", {certificate.pruned:,} shown to be worse unscored" if certificate.pruned else ""
    scored = f"{certificate.scanned:,} {what} scored{pruned}{left_out}, in {certificate.seconds:.2f} s"
    return f"{_guarantee(certificate)}: {scored}"


def _guarantee(certificate: Certificate) -> str:
    if certificate.exact:
        return "exact"
    if certificate.rank_error:
        return f"not exact: ranks may be off by up to {certificate.rank_error:,}"
    if math.isinf(certificate.gap):
        return "not proven: no bound is known, better candidates may have been missed"
    return f"stopped early: a candidate not looked at may be better by up to {certificate.gap:.3g}"


def show_facts(console: Console, facts: Mapping[str, str]) -> None:
    """Print facts with their names in front, one in each line, or folded to the width of a terminal."""
    width = max(_LABEL, *(len(name) + 2 for name in facts)) if facts else _LABEL
    for name, text in facts.items():
        lines = wrap(text, console.width - width, break_on_hyphens=False) if console.is_terminal else [text]
        for number, line in enumerate(lines or [""]):
            say(console, f"{'' if number else name:<{width}}{line}")


def show_warnings(console: Console, notes: Sequence[str]) -> None:
    """Print the warnings among some notes, which come before everything else."""
    for note in notes:
        if note.startswith("warning"):
            say(console, note, "bold yellow")


def show_search(console: Console, proposal: Proposal) -> None:
    """Print the certificate of each search and the notes that are no warnings."""
    searches = {"": proposal.search} if proposal.turns is None else proposal.turns.searches
    for name, found in searches.items():
        by = f"by {name}, " if name else ""
        say(console, by + certificate_line(found.certificate, proposal.space.orders))
    for note in proposal.notes:
        if not note.startswith("warning"):
            say(console, note, "dim")


def show_rows(console: Console, rows: Sequence[Row]) -> None:
    """Print benchmark rows as tables of models by metrics, one for each task."""
    for task in dict.fromkeys((row.dataset, row.novelty, row.variant) for row in rows):
        some = [row for row in rows if (row.dataset, row.novelty, row.variant) == task]
        said = ", ".join(part.replace("_", " ") for part in task[1:] if part)
        say(console)
        say(console, f"{task[0]} - {said} (n = {some[0].n})", "bold")
        _models_by_metrics(some).show(console)


def show_scorecard(console: Console, rows: Sequence[Row]) -> None:
    """Print what the benchmark of forward models measured, a table for each novelty class: the main numbers."""
    say(
        console,
        "mse_ratio_to_X: squared error over that of X on the same held-out perturbations; below 1 is better",
    )
    say(console, "[95 % paired interval by a bootstrap of genes]  + better  - worse  ? cannot tell  = equal")
    say(
        console,
        "fit_seconds: sum over folds; peak_mb: largest growth of resident memory in one fit (- if not told)",
    )
    show_rows(console, [row for row in rows if row.metric.startswith(RATIO) or row.metric in _MAIN])


def _cell(row: Row | None) -> str:
    if row is None:
        return "-"
    if math.isnan(row.low):
        return fixed(row.value, 2 if row.unit == "s" else 1)
    text = measured(row.value, row.low, row.high, row.unit)
    if not math.isnan(row.standard_error):
        text += f" ±{row.standard_error:.3f}"
    return f"{text} {_MARKS[verdict(row)]}" if row.metric.startswith(RATIO) else text


def _models_by_metrics(rows: Sequence[Row]) -> Grid:
    models = tuple(dict.fromkeys(row.model for row in rows))
    by_place = {(row.model, row.metric): row for row in rows}
    columns = [Column("model", models)]
    for metric in dict.fromkeys(row.metric for row in rows):
        found = [by_place.get((model, metric)) for model in models]
        columns.append(Column(metric, tuple(map(_cell, found)), "right"))
    return Grid(tuple(columns))


def reliability_grid(bins: Sequence[Bin]) -> Grid:
    """Lay stated probabilities out beside what came true."""
    return Grid((
        Column("probability of the first", tuple(f"{each.low:.1f} to {each.high:.1f}" for each in bins)),
        Column("stated", in_column([each.stated for each in bins]), "right"),
        Column("came true", in_column([each.found for each in bins]), "right"),
        Column("targets", tuple(str(each.n) for each in bins), "right"),
    ))  # fmt: skip


def show_card(console: Console, proposal: Proposal, *, row: int = 0) -> None:
    """Print the card of one candidate."""
    line, why = proposal.table.iloc[row], proposal.explanations[row]
    stated = float(line["probability"])
    known = "" if stated != stated else f", probability {probability(stated)}"  # noqa: PLR0124 - NaN
    say(console, f"{line['perturbation']}: number {line['rank']} of {proposal.space.count_valid:,}{known}", "bold")
    show_facts(
        console,
        {
            "  outcome": _outcome(proposal, row),
            "  fixes": _listed(why.fixes) or "nothing",
            "  breaks": _listed(why.breaks) or "nothing",
            **({"  along": "; ".join(why.paths)} if why.paths else {}),
            "  effect": f"sum of the parts {why.additive:.1f}, interaction beyond it {why.interaction:.1f}",
            "  nearest": f"{why.nearest} was measured, cosine {why.similarity:.2f} with the predicted effect",
            "  unsure": _unsure(proposal, row),
            "  unit": "of effects: standard deviations of the prediction error, with the sign of the effect",
        },
    )


def _outcome(proposal: Proposal, row: int) -> str:
    line, compared = proposal.table.iloc[row], proposal.baselines
    column = DISTANCE if compared.name == DISTANCE else "utility"
    lower, at, upper = (float(line[name]) for name in ("lower", column, "upper"))
    bounds = "no bounds" if math.isnan(lower) else f"{lower:.3g} to {upper:.3g}"
    verdict = "better" if line["beats_nothing"] else "no better"
    return f"{compared.name} {at:.3g} is expected, {bounds}; {verdict} than doing nothing, {compared.nothing:.3g}"


def _unsure(proposal: Proposal, row: int) -> str:
    found = proposal.spread.iloc[row]
    model, beyond, noise = (float(found[name]) for name in ("epistemic", "aleatoric", "measurement"))
    measured = f", of which {noise:.3g} is measurement" if noise > 0 else ""
    return f"{model:.3g} by the model (more data would tell), {beyond:.3g} beyond it{measured}; unit of the screen"


def _listed(contributions: Sequence[Contribution], most: int = 8) -> str:
    return ", ".join(f"{each.readout} {each.predicted:+.1f}" for each in contributions[:most])


# The others are in the JSON.
_SHOWN = ("top1", "top1_gain", "top10", "mrr", "median_rank", "log_probability", "ece")


def show_retrieval(
    console: Console, report: RetrievalReport, rows: Sequence[Row], nodes: Int[Tensor, "n k"], *, seed: int
) -> None:
    """Print where the default does not beat a simpler method, then tables, look-ups, promises and reliability."""
    for reference in (*SIMPLE, OWN_READOUTS):
        for line in _beaten(rows, reference):
            say(console, line, "bold yellow")
    for line in (
        f"yardstick: {YARDSTICK}; ranks among all pairs of measured singles, ties count against the truth",
        "[95 % interval by a bootstrap of genes, which doubles share]  \N{PLUS-MINUS SIGN} dyadic standard error",
        "top1_gain: paired difference to the yardstick; log_probability: of the truth, mean in nats",
    ):
        say(console, line)
    shown = [row for row in rows if row.metric in _SHOWN]
    show_rows(console, sorted(shown, key=lambda row: _SHOWN.index(row.metric)))
    say(console)
    for row in rows:
        if row.model in {OWN_READOUTS, DEFAULT} and row.metric == "top1_both_own":
            what = "of which both genes are readouts"
            say(console, f"{row.model!r} finds {row.value:.3f} of the {row.n} pairs {what}")
    for variant, found in report.found.items():
        _show_promise(console, variant, found[DEFAULT], nodes)
    for variant, found in report.found.items():
        _show_reliability(console, variant, found[DEFAULT], seed=seed)


def _beaten(rows: Sequence[Row], reference: str) -> list[str]:
    """Say where the default does not beat a simpler method."""
    values = {(row.variant, row.model): row.value for row in rows if row.metric == "top1"}
    lines = []
    for variant in dict.fromkeys(variant for variant, _ in values):
        mine, simple = values.get((variant, DEFAULT), math.nan), values.get((variant, reference), math.nan)
        if mine <= simple:
            where = variant.replace("_", " ")
            lines.append(
                f"warning: {DEFAULT!r} does not beat {reference!r} ({where}): top1 {mine:.3f}, {simple:.3f}"
            )
    return lines


def _show_promise(console: Console, variant: str, found: Retrieval, nodes: Int[Tensor, "n k"]) -> None:
    kept = kept_promise(found, nodes)
    if kept is not None:
        style = "bold yellow" if kept.difference < -AGREE else ""
        say(console, f"{DEFAULT!r}, {variant.replace('_', ' ')}: {kept.line}", style)


def _show_reliability(console: Console, variant: str, found: Retrieval, *, seed: int) -> None:
    noise = calibration_noise(found.top_probability, seed=seed)
    say(console)
    say(console, f"reliability of {DEFAULT!r}, {variant.replace('_', ' ')}", "bold")
    reliability_grid(reliability(found.top_probability, found.hit)).show(console)
    say(console, f"perfectly calibrated probabilities would show an ece of {noise:.3f} by chance")
