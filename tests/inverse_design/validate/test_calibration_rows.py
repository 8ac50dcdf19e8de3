import json
import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from strategies.judged import LEVELS, QUICK, cards, three_folds

from inverse_design.validate import calibration
from inverse_design.validate.calibration import Behind, ClassCard, measure_calibration
from inverse_design.validate.calibration_rows import (
    TERCILES,
    calibration_rows,
    coverage_remarks,
    main_level,
)
from inverse_design.validate.judged import Judged, compare, promised
from surrogates.data.novelty import SEEN_DOUBLE, double_splits
from surrogates.data.vocabulary import PerturbationBatch
from surrogates.evaluation.intervals import Row, node_bootstrap_interval, write_json
from surrogates.models.wrappers.calibrated import FittedCalibrated
from surrogates.models.wrappers.conformal import FittedConformal, conformal
from surrogates.models.wrappers.stated_errors import StatedErrors
from surrogates.uncertainty.conformal.quantiles import coverage_band
from surrogates.uncertainty.dyadic import dyadic_standard_error
from surrogates.uncertainty.posterior import Interval


def rows_of(some: tuple[ClassCard, ...]) -> list[Row]:
    return calibration_rows(some, dataset="d", model="m", seed=0)


def test_numbers_are_means_and_medians_of_the_cards() -> None:
    card = cards()[0]
    rows = {row.metric: row for row in rows_of((card,))}
    for metric in (
        "coverage_90_all",
        "coverage_80_own",
        "band_coverage_90",
        "distance_coverage_80",
        "first_coverage_80",
        "first_width_80",
        "set_coverage_90",
    ):
        assert rows[metric].value == pytest.approx(float(card.judged.column(metric).mean()))
    sizes = card.judged.column("set_size_90")
    assert rows["set_size_median_90"].value == float(sizes.quantile(0.5))
    ratio = float(card.judged.column("band_width_90").sum() / card.judged.column("width_90_all").sum())
    assert rows["band_to_readouts_90"].value == pytest.approx(ratio)
    assert rows["band_to_readouts_90"].value > 1 > rows["distance_to_band_90"].value
    assert sum(rows[f"pit_decile_{number}"].value for number in range(1, 11)) == pytest.approx(1)
    band = coverage_band(card.behind[0.9].count, 0.9)
    assert (rows["calibration_90"].low, rows["calibration_90"].high) == band
    assert rows["calibration_90"].n == card.behind[0.9].count
    assert {"ece", "ece_by_chance", "sharpness", "spread_error", "pit_deviation"} <= set(rows)
    likely = int((card.judged.column("first_probability") >= 0.5).sum())
    parts = {name: rows.get(f"first_{name}_coverage_80") for name in ("likely", "unlikely")}
    assert {name: 0 if row is None else row.n for name, row in parts.items()} == {
        "likely": likely, "unlikely": 16 - likely
    }  # fmt: skip
    few = ("calibration", "first_likely", "first_unlikely")
    apart = {metric for metric in rows if metric.startswith(few) or metric.endswith(TERCILES)}
    assert {rows[metric].n for metric in rows.keys() - apart} == {16}


def test_thirds_by_stated_error_are_taken_apart() -> None:
    card = cards()[0]
    rows = {row.metric: row for row in rows_of((card,))}
    order = card.judged.column("spread").argsort(stable=True).tolist()
    for metric in ("coverage_90", "width_80"):
        values = card.judged.column(f"{metric}_all")
        parts = [order[:6], order[6:11], order[11:]]
        for third, part in zip(TERCILES, parts, strict=True):
            found = rows[f"{metric}_{third}"]
            assert (found.value, found.n) == (pytest.approx(float(values[part].mean())), len(part))


def test_means_are_bounded_by_their_genes() -> None:
    card = cards()[0]
    rows = {row.metric: row for row in rows_of((card,))}
    for metric in ("coverage_90_all", "set_coverage_90", "log_probability"):
        values = card.judged.column(metric)
        assert rows[metric].standard_error == pytest.approx(dyadic_standard_error(values, card.nodes))
        assert (rows[metric].low, rows[metric].high) == node_bootstrap_interval(values, card.nodes, seed=0)
    assert math.isnan(rows["band_to_readouts_90"].standard_error)
    assert card.nodes.tolist() == three_folds().batch.genes[card.judged.conditions].tolist()


def test_the_promise_of_a_card_is_that_of_its_fits() -> None:
    card, singles = cards()
    kept = card.promise
    assert kept is not None
    fits = [QUICK.fit(three_folds().rows(split.train), seed=0) for split in double_splits(three_folds(), seed=0)]
    promise = promised([fit.promise for fit in fits if fit.promise is not None], card.nodes)
    assert kept == compare(promise, card.judged.column("log_probability"), card.nodes)
    rows = {row.metric: row for row in rows_of((card,))}
    assert rows["log_probability"].value == pytest.approx(kept.kept)
    assert rows["promise_gap"].standard_error == pytest.approx(kept.error)
    assert rows["log_probability"].value < 0
    assert singles.promise is None


def test_intervals_hold_the_values_and_labels_are_those_of_the_card() -> None:
    for row in rows_of(cards()):
        if row.metric not in {"pit_deviation", "ece"}:  # chance makes absolute deviations of drawn rows larger
            assert math.isnan(row.low) or row.low - 1e-12 <= row.value <= row.high + 1e-12
        assert (row.benchmark, row.dataset, row.model, row.variant) == ("calibration", "d", "m", "all_readouts")
    assert {row.novelty for row in rows_of(cards())} == {"double, 2 of 2 seen", "single, unseen"}


def test_the_rows_are_strict_json(tmp_path: Path) -> None:
    write_json(rows_of(cards()), tmp_path / "rows.json")

    def refuse(word: str) -> None:
        raise AssertionError(word)

    content = json.loads((tmp_path / "rows.json").read_text(), parse_constant=refuse)
    assert len(content["rows"]) == len(rows_of(cards()))


def test_an_interval_that_is_too_narrow_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    class Narrow(FittedConformal):
        def interval(self, batch: PerturbationBatch, level: float) -> Interval:
            honest = super().interval(batch, level)
            middle = (honest.lower + honest.upper) / 2
            return Interval(middle - 0.02, middle + 0.02, level)

    def narrow(fitted: FittedCalibrated, stated: StatedErrors) -> FittedConformal:
        honest = conformal(fitted, stated)
        return Narrow(honest.fitted, honest.folds, honest.score)

    monkeypatch.setattr(calibration, "conformal", narrow)
    found = measure_calibration(three_folds(), QUICK, seed=0, levels=LEVELS, classes=("double-2",))
    rows = rows_of(found)
    coverage = next(row for row in rows if row.metric == "coverage_90_all")
    assert coverage.value < 0.6
    warnings, remarks = coverage_remarks(found, rows, 0.9)
    assert warnings[0].startswith("warning: 90 % intervals of single readouts hold 0.")
    assert f"{found[0].behind[0.9].count} calibrating and 16 held-out perturbations explain" in warnings[0]
    assert not any("bands" in line or "single" in line for line in remarks)


def _card(coverage: float, *, count: int = 100) -> ClassCard:
    covered = torch.full((126,), coverage, dtype=torch.float64)
    columns = {
        "coverage_90_all": covered,
        "posterior_coverage_90_all": covered,
        "set_coverage_90": covered,
        "pit": torch.full((126, 100), 0.01).double(),
        "sharpness": covered,
        "spread": covered,
        "error": covered,
    }
    behind = {0.9: Behind(count, "held out")}
    nodes = torch.combinations(torch.arange(20))[:126]
    return ClassCard("all_readouts", SEEN_DOUBLE, Judged(torch.arange(126), columns), behind, {}, {}, 0, nodes)


@pytest.mark.parametrize(("coverage", "counts"), [(0.7, (2, 0)), (0.9, (0, 0)), (0.85, (0, 2)), (1.0, (0, 1))])
def test_only_what_chance_does_not_explain_is_remarked(coverage: float, counts: tuple[int, int]) -> None:
    # A set cannot be smaller than one candidate, so that it may hold the truth more often than was promised.
    card = _card(coverage)
    warnings, remarks = coverage_remarks((card,), rows_of((card,)), 0.9)
    assert (len(warnings), len(remarks)) == counts
    start = "below the level: " if coverage < 0.9 else "wider than need be: "
    assert all(line.startswith(start) for line in remarks)


def test_nothing_is_expected_of_a_calibration_that_is_too_small() -> None:
    card = _card(0.2, count=8)
    rows = rows_of((card,))
    assert coverage_remarks((card,), rows, 0.9) == ([], [])
    assert math.isnan(next(row for row in rows if row.metric == "calibration_90").low)
    assert coverage_remarks((replace(card, behind={}),), rows, 0.9) == ([], [])


def test_the_level_that_is_spoken_of() -> None:
    assert main_level((0.5, 0.9, 0.95)) == 0.9
    assert main_level((0.5, 0.8)) == 0.8
