import logging
from collections.abc import Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st
from strategies.worlds import tiny_screen

from benchmarks.costs.measured import Sample, table_of
from inverse_design import plan, plan_ranking, propose, rank
from inverse_design.planning import plan as module
from inverse_design.planning.costs import Costs, Sizes, total, value
from inverse_design.planning.course import Course, Pace, Stage, in_words
from inverse_design.planning.plan import Outline, Plan, Work
from inverse_design.problem.target import ProfileTarget
from surrogates.errors import UnknownNameError

SIZES = st.fixed_dictionaries({name: st.floats(0, 100) for name in ("a", "b", "readouts")})


@given(sizes=SIZES, share=st.floats(0, 10))
def test_costs_are_sums_of_products(sizes: Mapping[str, float], share: float) -> None:
    assert value("1", sizes) == 1
    assert value("a*b*b", sizes) == sizes["a"] * sizes["b"] * sizes["b"]
    assert total({"1": share, "a*b": 2.0}, sizes) == pytest.approx(share + 2 * sizes["a"] * sizes["b"])


def test_the_table_of_the_package_is_complete() -> None:
    """Every term of it can be worked out, and no plan is without memory."""
    costs = Costs.measured()
    further = ["entries", "asked", "candidates", "held_out", "sets", "order", "listed", "known", "count", "summed"]
    sizes = Sizes.of(tiny_screen()).terms(**dict.fromkeys([*further, "variants"], 3.0))
    assert costs.command.startswith("python -m benchmarks")
    for table in (costs.seconds, costs.bytes):
        for kind, terms in table.items():
            assert total(terms, sizes) > 0, kind
            assert min(terms.values()) > 0, kind


def test_a_table_is_measured_again_in_part() -> None:
    """Stages that were not measured take as many trials as before."""
    before = Costs.measured()
    sizes = [Sizes(20 + each, 10, each, 50).terms() for each in (5, 9)]
    samples = [
        Sample("fit without doubles", each, 3.0 + each["conditions"] * 50, each["conditions"]) for each in sizes
    ]
    after = table_of(samples, 2 * before.trial, before)
    for sample in samples:
        assert after.time(sample.kind, sample.sizes) == pytest.approx(sample.seconds, rel=1e-3)
    other = "search by turns"
    twice = {term: 2 * each for term, each in before.seconds[other].items()}
    assert after.seconds[other] == pytest.approx(twice, rel=1e-3)
    assert {**after.bytes, samples[0].kind: {}} == {**before.bytes, samples[0].kind: {}}


def target() -> ProfileTarget:
    screen = tiny_screen()
    return ProfileTarget("wanted", screen.readouts, screen.effects[0] + screen.effects[1])


def test_a_proposal_goes_through_the_stages_of_its_plan(caplog: pytest.LogCaptureFixture) -> None:
    foreseen, seen = plan(tiny_screen(), target(), surrogate="additive"), list[Pace]()
    assert [stage.name for stage in foreseen.stages] == ["fit", "search", "calibration"]
    assert 0 < foreseen.seconds < 5
    assert foreseen.fits
    with caplog.at_level(logging.DEBUG, logger="inverse_design"):
        propose(tiny_screen(), target(), surrogate="additive", progress=seen.append)
    assert list(dict.fromkeys(pace.stage for pace in seen)) == [stage.name for stage in foreseen.stages]
    assert all(0 <= pace.left <= pace.seconds for pace in seen)
    said = [record.getMessage() for record in caplog.records]
    assert said[0] == foreseen.line
    assert [line.partition(":")[0] for line in said if " took " in line] == ["fit", "search", "calibration"]


def test_a_ranking_goes_through_the_stages_of_its_plan() -> None:
    screen, seen = tiny_screen(), list[Pace]()
    labels = [f"{screen.labels[0]}+{screen.labels[2]}", f"{screen.labels[1]}+{screen.labels[3]}"]
    foreseen = plan_ranking(screen, target(), labels, surrogate="additive")
    rank(screen, target(), labels, surrogate="additive", progress=seen.append)
    assert list(dict.fromkeys(pace.stage for pace in seen)) == [stage.name for stage in foreseen.stages]


def test_what_a_proposal_refuses_its_plan_refuses() -> None:
    with pytest.raises(UnknownNameError, match="aditive"):
        plan(tiny_screen(), target(), surrogate="aditive")
    with pytest.raises(UnknownNameError, match="NONE"):
        plan(tiny_screen(), "NONE")


def test_a_plan_that_does_not_fit_says_what_would(monkeypatch: pytest.MonkeyPatch) -> None:
    costs = Costs(1.0, {"fit": {"readouts": 0.001}}, {"fit": {"1": 100.0, "readouts": 10.0}}, "")
    monkeypatch.setattr(Costs, "measured", lambda: costs)
    outline = Outline("a fit", {"fit": [Work("fit", {"readouts": 50.0})]})
    assert _with_free(outline, 600, monkeypatch).remedies == ()
    crowded = _with_free(outline, 599, monkeypatch)
    assert crowded.remedies == ("49 of its 50 readouts would fit: name them with --readouts",)
    assert crowded.line == "a fit: under 1 s, 600 bytes of memory, of which 599 bytes can be had"
    assert _with_free(outline, 110, monkeypatch).remedies[0].startswith("1 of its 50")
    assert "no number of readouts" in _with_free(outline, 109, monkeypatch).remedies[0]
    assert crowded.remedies[0] in repr(crowded)
    assert crowded.remedies[0] in crowded._repr_html_()


def _with_free(outline: Outline, free: int, monkeypatch: pytest.MonkeyPatch) -> Plan:
    monkeypatch.setattr(module, "memory_at_hand", lambda: free)
    return outline.price()


def test_the_speed_of_a_machine_counts_where_the_work_is_long(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Costs, "measured", lambda: Costs(1.0, {"fit": {"readouts": 1.0}}, {}, ""))
    monkeypatch.setattr(module, "slowness", lambda: 3.0)
    short, long = (Outline("", {"fit": [Work("fit", {"readouts": size})]}).price() for size in (5.0, 6.0))
    assert (short.seconds, long.seconds) == (5, 18)


def test_what_is_left_follows_the_pace(monkeypatch: pytest.MonkeyPatch) -> None:
    """After a stage that took twice as long as planned, the others are expected to."""
    clock, seen = [0.0], list[Pace]()
    monkeypatch.setattr("inverse_design.planning.course.time.monotonic", lambda: clock[0])
    course = Course([Stage("one", 10.0), Stage("two", 20.0), Stage("three", 30.0)], seen.append)
    with course.stage():
        clock[0] = 20.0
    with course.stage() as tick:
        clock[0] = 30.0
        tick(1, 2)
        tick(1, 4)
    assert [pace.left for pace in seen] == [60.0, 100.0, 10.0 + 60.0, 30.0 + 60.0]
    assert [pace.seconds for pace in seen] == [60.0, 120.0, 100.0, 120.0]


@pytest.mark.parametrize(
    ("seconds", "said"),
    [(0.2, "under 1 s"), (1.0, "1 s"), (119.0, "119 s"), (120.0, "2 min"), (7200.0, "2 h"), (2e5, "2 days")],
)
def test_durations_are_read_at_a_glance(seconds: float, said: str) -> None:
    assert in_words(seconds) == said
