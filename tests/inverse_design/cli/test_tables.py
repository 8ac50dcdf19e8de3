import io
import math
from dataclasses import replace

import pytest
from rich.console import Console
from strategies.worlds import tiny_screen

from inverse_design.cli.grid import Column, Grid
from inverse_design.cli.options import Asking
from inverse_design.cli.tables import candidates_grid, show_card, show_search
from inverse_design.cli.verbs.propose import Answer, show_answer
from inverse_design.cli.verbs.retrieval import reliability_grid, show_rows, show_scorecard
from inverse_design.numbers import in_column, measured, probability
from inverse_design.proposal import Proposal, propose
from inverse_design.search.topk import Certificate, certificate_line
from inverse_design.validate.judged import Bin
from surrogates.evaluation.intervals import Row
from surrogates.models.baselines import ScaledAdditive

ORDER = [
    "rank", "perturbation", "order", "utility", "distance", "lower", "upper", "beats_nothing", "probability",
    "in_set", "novelty", "nearest_measured", "reason",
]  # fmt: skip


@pytest.fixture(scope="module")
def proposal() -> Proposal:
    screen = tiny_screen()
    return propose(screen, screen.labels[-1], top=5, surrogate=ScaledAdditive())


def _score(model: str, metric: str, value: float, low: float, high: float, unit: str) -> Row:
    return Row("forward", "mine", model, "single, unseen", "all_readouts", metric, value, low, high, 20, unit)


SCORES = [
    _score(model, "mse_ratio_to_no_change", *ratio, "ratio")
    for model, ratio in {
        "no_change": (1.0, 1.0, 1.0),
        "good": (0.5, 0.25, 0.75),
        "bad": (1.5, 1.1, 2.0),
        "open": (0.9, 0.8, 1.1),
        "<far>": (800.0, 700.0, 900.0),
    }.items()
] + [
    _score("no_change", "pearson_median", math.nan, math.nan, math.nan, "correlation"),
    _score("no_change", "fit_seconds", 1.5, math.nan, math.nan, "s"),
    _score("no_change", "mae", 0.1, 0.0, 0.2, "effect"),
]


def piped() -> Console:
    return Console(file=io.StringIO(), highlight=False, markup=False, soft_wrap=True)


def terminal(width: int) -> Console:
    return Console(file=io.StringIO(), force_terminal=True, color_system=None, width=width, markup=False)


def text_of(console: Console) -> str:
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_piped_candidates_are_aligned_plain_text(proposal: Proposal) -> None:
    console = piped()
    candidates_grid(proposal.table).show(console)
    lines = text_of(console).splitlines()
    assert lines[0].split() == ORDER
    assert len(lines) == 6
    assert "\x1b" not in text_of(console)
    start = lines[0].index("reason")
    assert all(line[start:].startswith("fixes") for line in lines[1:])


def test_candidates_fit_a_terminal_of_100_columns(proposal: Proposal) -> None:
    console = terminal(100)
    long = proposal.table.assign(
        perturbation="CHRNA1+MAPK1@0.25+ANOTHER", nearest_measured="C19orf26+CEBPE", utility=-1234.5
    )
    candidates_grid(long).show(console)
    lines = text_of(console).splitlines()
    assert max(map(len, lines)) <= 100
    assert lines[0].split() == ORDER[:-3]
    assert lines[2].strip().startswith("fixes")
    assert text_of(console).count("fixes") == 5


def test_a_hostile_name_stays_one_plain_cell() -> None:
    name = "[red]x[/red]\x1b[31m\nevil"
    console = piped()
    Grid((Column("name", (name, "ok")), Column("n", ("1", "10"), "right"))).show(console)
    lines = text_of(console).splitlines()
    assert len(lines) == 3
    assert lines[1].startswith("[red]x[/red]\N{REPLACEMENT CHARACTER}[31m")
    assert lines[1].endswith("  1")


def test_blocks_repeat_the_first_column() -> None:
    grid = Grid((Column("model", ("a",)), *(Column(f"metric{n}", ("0.873 [0.81, 0.93]",)) for n in range(6))))
    console = terminal(60)
    grid.show(console)
    lines = text_of(console).splitlines()
    assert max(map(len, lines)) <= 60
    assert [line.split()[0] for line in lines] == ["model", "a"] * 3


@pytest.mark.parametrize(
    ("values", "texts"),
    [
        ([1234.5678, -0.01], ("1,234.6", "0.0")),
        ([0.8731, math.nan], ("0.8731", "-")),
        ([0.0], ("0.0",)),
        ([3e-9], ("3e-09",)),
    ],
)
def test_columns_of_numbers(values: list[float], texts: tuple[str, ...]) -> None:
    assert in_column(values) == texts


def test_single_numbers() -> None:
    assert [probability(each) for each in (math.nan, 0.0, 0.12345, 1.0)] == ["-", "<0.001", "0.123", ">0.999"]
    assert measured(0.8731, 0.81, 0.934, "share") == "0.873 [0.81, 0.93]"
    assert measured(2.0, 1.0, 3.5, "rank") == "2 [1, 3.5]"
    assert measured(math.nan, 0.0, 0.0, "share") == "-"


def test_certificates_in_words() -> None:
    exact = Certificate(scanned=5356, masked=125, rescored=40, error=0.0, seconds=0.021)
    assert (
        certificate_line(exact, (2,))
        == "exact: 5,356 pairs scored, 125 left out as measured or ruled out, in 0.02 s"
    )
    rough = Certificate(scanned=10, masked=0, rescored=0, error=0.0, seconds=1.0, rank_error=3, exact=False)
    assert certificate_line(rough, (1, 2)) == (
        "not exact: ranks may be off by up to 3: 10 candidates scored, in 1.00 s"
    )


def test_certificates_say_why_and_what_was_not_looked_at() -> None:
    reasons = {"over budget": 1200, "measured": 3}
    bounded = Certificate(
        scanned=50,
        masked=1203,
        rescored=9,
        error=0.1,
        seconds=1.0,
        pruned=4000,
        bound="largest pair",
        ruled_out=reasons,
    )
    assert certificate_line(bounded, (3,)) == (
        "exact: 50 triples scored, 4,000 shown to be worse unscored, left out: 1,200 over budget, 3 measured,"
        " in 1.00 s"
    )
    beam = Certificate(
        scanned=50, masked=0, rescored=0, error=0.0, seconds=1.0, exact=False, bound="none", gap=math.inf
    )
    assert certificate_line(beam, (4,)).startswith(
        "not proven: no bound is known, better candidates may have been"
    )
    stopped = replace(beam, gap=0.25)
    assert "may be better by up to 0.25" in certificate_line(stopped, (3,))


def test_the_card_says_what_and_why(proposal: Proposal) -> None:
    console = piped()
    show_card(console, proposal)
    show_search(console, proposal)
    said = text_of(console)
    for wanted in ("number 1 of 30", "fixes", "breaks", "interaction beyond it", "cosine", "exact: 45 pairs"):
        assert wanted in said


def test_benchmark_rows_become_models_by_metrics() -> None:
    rows = [
        Row("retrieval", "mine", model, "double", "all_readouts", metric, 0.5, 0.25, 0.75, 20, "share")
        for model, metric in (("a", "top1"), ("b", "top1"), ("b", "ece"))
    ]
    console = piped()
    show_rows(console, rows)
    lines = text_of(console).splitlines()
    assert lines[1] == "mine - double, all readouts (n = 20)"
    assert lines[2].split() == ["model", "top1", "ece"]
    assert lines[3].split() == ["a", "0.500", "[0.25,", "0.75]", "-"]


def test_the_scorecard_tells_better_from_worse_at_a_glance() -> None:
    console = piped()
    show_scorecard(console, SCORES)
    lines = text_of(console).splitlines()
    header = lines.index("mine - single, unseen, all readouts (n = 20)") + 1
    assert lines[header].split() == ["model", "mse_ratio_to_no_change", "pearson_median", "fit_seconds"]
    cells = {line.split()[0]: line.split()[1:] for line in lines[header + 1 : header + 6]}
    assert cells["good"][:4] == ["0.500", "[0.25,", "0.75]", "+"]
    assert cells["bad"][3] == "-"
    assert cells["open"][3] == "?"
    assert cells["no_change"][3:] == ["=", "-", "1.50"]
    assert "mae" not in text_of(console)


def test_reliability_stands_beside_what_came_true() -> None:
    console = piped()
    reliability_grid((Bin(0.0, 0.1, 0.05, 0.04, 7), Bin(0.9, 1.0, 0.98, 1.0, 31))).show(console)
    assert text_of(console).splitlines()[2].split() == ["0.9", "to", "1.0", "0.9800", "1.000", "31"]


def test_what_is_meant_by_the_columns_stands_above_them_and_rows_that_beat_nothing_are_marked(
    proposal: Proposal,
) -> None:
    console = piped()
    lost = replace(proposal, table=proposal.table.assign(beats_nothing=[True, False, False, True, True]))
    show_answer(console, Answer(tiny_screen(), lost.target, Asking(), lost))
    lines = text_of(console).splitlines()
    head = next(number for number, each in enumerate(lines) if each.startswith("rank"))
    assert lines[head - 2] == (
        "distance: expected of a new measurement, root mean square over 10 readouts, unit as above"
    )
    assert lines[head - 1] == (
        "lower, upper: hold the measured distance with 90 %; from 0 on where the row may be what made the target"
    )
    assert [line.split()[7] for line in lines[head + 1 : head + 6]] == ["yes", "no", "no", "yes", "yes"]
    assert lines[head + 6] == "beats_nothing no: 2 of 5 rows are no better than doing nothing"
    known = proposal.baselines
    assert f"compare   distance to the target: {known.line}" in lines
    card = next(line for line in lines if line.startswith("  outcome"))
    assert f"better than doing nothing, {known.nothing:.3g}" in card
