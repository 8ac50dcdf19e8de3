import math
from dataclasses import replace

import pytest
import torch
from scipy.stats import binomtest

from inverse_design.validate.judged import Rounds, health_of, rounds_rows, uncovered
from surrogates.uncertainty.dyadic import dyadic_standard_error

NUMBER = torch.tensor([1, 1, 1, 2, 2, 2])
INSIDE = torch.tensor([True, True, False, False, True, False])


def rounds(*, random: bool = False, stated: bool = False) -> Rounds:
    return Rounds(
        number=NUMBER,
        lower=torch.zeros(6).double(),
        upper=torch.ones(6).double(),
        measured=torch.where(INSIDE, 0.5, 2.0).double(),
        random=torch.tensor([True, False, False, False, True, False]) if random else None,
        probability=torch.tensor([0.9, 0.8, 0.1, 0.2, 0.9, 0.0]).double() if stated else None,
        hit=INSIDE if stated else None,
    )


def test_coverage_is_counted_in_every_round_and_over_all() -> None:
    rows = {(row.variant, row.metric): row for row in rounds_rows(rounds(random=True), dataset="d", seed=0)}
    counts = {"round 1": (2, 3), "round 2": (1, 3), "all rounds": (3, 6)}
    for variant, (hits, n) in counts.items():
        row = rows[variant, "coverage"]
        reference = binomtest(hits, n).proportion_ci(0.95, method="exact")
        assert (row.value, row.n) == (pytest.approx(hits / n), n)
        assert (row.low, row.high) == pytest.approx((reference.low, reference.high))
        assert rows[variant, "width"].value == 1.0
    assert rows["round 1", "coverage_random"].value == 1.0
    assert rows["round 1", "coverage_designed"].value == 0.5
    assert rows["all rounds", "coverage_designed"].n == 4
    assert not any(metric == "ece" for _, metric in rows)


def test_measurements_that_share_a_gene_are_not_independent() -> None:
    nodes = torch.tensor([[0, 1], [0, 2], [3, -1], [0, 4], [5, 6], [0, 7]])
    known = replace(rounds(stated=True), nodes=nodes)
    rows = {(row.variant, row.metric): row for row in rounds_rows(known, dataset="d", seed=0)}
    plain = {(row.variant, row.metric): row for row in rounds_rows(rounds(stated=True), dataset="d", seed=0)}
    whole = rows["all rounds", "coverage"]
    assert whole.standard_error == dyadic_standard_error(INSIDE.double(), nodes)
    assert math.isnan(plain["all rounds", "coverage"].standard_error)
    assert (whole.low, whole.high) == (plain["all rounds", "coverage"].low, plain["all rounds", "coverage"].high)
    apart = [each["all rounds", "ece"] for each in (rows, plain)]
    assert apart[0].value == apart[1].value
    assert (apart[0].low, apart[0].high) != (apart[1].low, apart[1].high)


def test_what_is_uncovered_in_a_single_round_is_said_once() -> None:
    one = replace(rounds(), number=torch.ones(6).long(), measured=torch.full((6,), 2.0).double())
    assert [line.split(":")[1] for line in uncovered(rounds_rows(one, dataset="d", seed=0), 0.9)] == [" round 1"]
    two = replace(one, number=NUMBER)
    said = uncovered(rounds_rows(two, dataset="d", seed=0), 0.9)
    assert [line.split(":")[1] for line in said] == [" round 1", " round 2", " all rounds"]


def test_bounds_belong_to_the_interval_and_may_be_infinite() -> None:
    edge = Rounds(
        number=torch.zeros(2).long(),
        lower=torch.tensor([0.0, -torch.inf]).double(),
        upper=torch.tensor([1.0, torch.inf]).double(),
        measured=torch.tensor([1.0, 7.0]).double(),
    )
    rows = {row.metric: row for row in rounds_rows(edge, dataset="d", seed=0)}
    assert rows["coverage"].value == 1.0
    assert math.isinf(rows["width"].value)
    assert rows["width"].to_dict()["value"] is None


def test_probabilities_are_judged_where_there_are_any() -> None:
    rows = {row.metric: row for row in rounds_rows(rounds(stated=True), dataset="d", seed=0)}
    assert rows["ece"].value == pytest.approx(0.7 / 6)
    assert rows["ece"].low <= rows["ece"].value
    assert rows["ece_by_chance"].value > 0


def test_rounds_that_cover_too_little_are_named() -> None:
    many = Rounds(
        number=torch.tensor([1] * 20 + [2] * 20),
        lower=torch.zeros(40).double(),
        upper=torch.ones(40).double(),
        measured=torch.tensor([0.5] * 18 + [2.0] * 2 + [0.5] * 8 + [2.0] * 12).double(),
    )
    lines = uncovered(rounds_rows(many, dataset="d", seed=0), 0.9)
    assert [line.split(":")[1] for line in lines] == [" round 2", " all rounds"]
    assert "0.40 of 20 measurements" in lines[0]
    assert uncovered(rounds_rows(many, dataset="d", seed=0), 0.3) == []


def test_scores_are_in_units_of_the_bounds() -> None:
    some = Rounds(
        number=torch.zeros(5).long(),
        lower=torch.tensor([0.0, 0.0, 1.0, 1.0, -torch.inf]).double(),
        upper=torch.tensor([2.0, 2.0, 1.0, 1.0, 1.0]).double(),
        measured=torch.tensor([2.0, 4.0, 1.0, 1.5, 7.0]).double(),
    )
    assert some.scores.tolist() == [1.0, 3.0, 0.0, math.inf, math.inf]
    assert bool(((some.scores <= 1) == some.covered).all())


def test_health_counts_random_and_designed_measurements() -> None:
    assert health_of(rounds(), 0.9, adaptive=False, seed=0) is None
    found = health_of(rounds(random=True), 0.9, adaptive=True, seed=0)
    assert found is not None
    assert (found.random, found.picked, found.missed, found.rounds) == (2, 4, 3, 2)
    assert (found.level, found.adaptive) == (0.9, True)
    drawn = replace(rounds(), random=torch.ones(6, dtype=torch.bool))
    only = health_of(drawn, 0.9, adaptive=False, seed=0)
    assert only is not None
    assert (only.random, only.picked) == (6, 0)
