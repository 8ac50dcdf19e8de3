import json
import math
from dataclasses import replace
from functools import cache
from pathlib import Path

import pandas as pd
import pytest
import torch
from strategies.screens import pairs_of, planted_screen
from strategies.streamed import Streamed
from strategies.worlds import command

from inverse_design.cli.verbs.replay import kinds_grid, reach_losses
from inverse_design.problem.likelihood import TargetLikelihood
from inverse_design.problem.mismatch import KnownEffects, asked_states, choose_mismatch, regret, regrets
from inverse_design.problem.objective import Correlation, Distance, SquaredDistance
from inverse_design.problem.target import AlignedProfile
from inverse_design.validate import reach
from inverse_design.validate.reach import (
    DEFAULT,
    FIRSTS,
    MEAN,
    METHODS,
    PLAIN,
    REFERENCES,
    ReachReport,
    measure_reach,
)
from surrogates.data.novelty import double_splits
from surrogates.data.screen import Screen
from surrogates.errors import DataError
from surrogates.evaluation.intervals import Row, node_bootstrap_interval
from surrogates.models.baselines import Additive, ScaledAdditive
from surrogates.models.wrappers.calibrated import Calibrated, Expert

GENES, DOUBLES, READOUTS = 8, 20, 9
MODEL = Calibrated(ScaledAdditive())


@cache
def screen() -> Screen:
    planted = planted_screen(
        alone=range(GENES), together=pairs_of(GENES, DOUBLES), readouts=READOUTS, noise=0.6, bend=0.4
    )
    folds = [-1] * GENES + [0] * 9 + [1] * 7 + [2] * 4
    return replace(planted, annotations=pd.DataFrame({"double_fold": folds}))


@cache
def report() -> ReachReport:
    return measure_reach(screen(), dataset="planted", seed=1, model=MODEL)


def table() -> dict[tuple[str, str, str], Row]:
    return {(row.variant, row.model, row.metric): row for row in report().rows}


@cache
def spelled_out() -> dict[str, list[tuple[int, str, tuple[float, ...]]]]:
    """Every regret, candidate by candidate: by method, the double, the kind of state, and the numbers."""
    found: dict[str, list[tuple[int, str, tuple[float, ...]]]] = {}
    every = AlignedProfile.exact(range(READOUTS), torch.zeros(READOUTS).double())
    for split in double_splits(screen(), seed=1):
        if len(split.test) < 6:
            continue
        training = screen().rows(split.train)
        fitted = MODEL.fit(training, seed=1)
        missed = choose_mismatch(fitted, every, seed=1)
        batch, effects = screen().batch.rows(split.test), screen().effects[split.test]
        parts = [training.batch.order == order for order in (1, 2)]
        known = [KnownEffects(training.effects[each], training.batch.genes[each]) for each in parts]
        for state in asked_states(KnownEffects(effects, batch.genes), *known, seed=1):
            asked, flat = state.asked, torch.zeros(GENES).double()
            worth = {
                "likelihood": TargetLikelihood(asked, flat).utility(fitted, batch).mean,
                "likelihood, mismatch": TargetLikelihood(missed.on(asked, fitted), flat)
                .utility(fitted, batch)
                .mean,
                "expected distance": SquaredDistance(asked).utility(fitted, batch).mean,
                "distance of the mean": -(asked.values - fitted.predict(batch).mean[:, asked.columns]).norm(dim=1),
                "pearson": Correlation(asked, "pearson").utility(fitted.without_offsets(), batch).mean,
                "cosine": Correlation(asked, "cosine").utility(fitted.without_offsets(), batch).mean,
            }
            listed = {
                name: [each for each in scores.argsort(descending=True).tolist() if each != state.left_out]
                for name, scores in worth.items()
            }
            turns: list[int] = []
            while len(turns) < len(listed["likelihood"]):
                name = ("likelihood, mismatch", "expected distance")[len(turns) % 2]
                turns.append(next(each for each in listed[name] if each not in turns))
            gaps = (state.wanted.values - effects[:, state.wanted.columns]).square().mean(1).sqrt()
            possible = gaps.clone()
            if state.left_out >= 0:
                possible[state.left_out] = torch.inf
            row = int(split.test[state.base])
            for name, order in (listed | {"by turns": turns}).items():
                numbers = regrets(torch.tensor(order), possible, FIRSTS)
                found.setdefault(name, []).append((row, state.kind, numbers))
            nothing = regret(float(state.wanted.values.square().mean().sqrt()), possible)
            found.setdefault("doing nothing", []).append((row, state.kind, (nothing,) * 3))
            nearest = training.effects[Distance(asked).measured(training.effects).argmin()]
            near = float((state.wanted.values - nearest[state.wanted.columns]).square().mean().sqrt())
            found.setdefault("nearest measured", []).append((row, state.kind, (regret(near, possible),) * 3))
    return found


def test_every_number_is_that_of_the_candidates_one_by_one() -> None:
    kinds = list(dict.fromkeys(kind for _, kind, _ in spelled_out()[PLAIN]))
    assert len(kinds) == 11
    for name in (*METHODS, *REFERENCES):
        for column, first in enumerate(FIRSTS):
            whole: dict[int, list[float]] = {}
            for kind in kinds:
                some = [(row, each[column]) for row, its, each in spelled_out()[name] if its == kind]
                found = table()[f"all_readouts, {kind}", name, f"regret_{first}"]
                assert found.value == pytest.approx(sum(value for _, value in some) / len(some), abs=1e-9)
                assert found.n == 16
                for row, value in some:
                    whole.setdefault(row, []).append(value)
            mean = table()[f"all_readouts, {MEAN}", name, f"regret_{first}"]
            each = [sum(values) / len(values) for values in whole.values()]
            assert mean.value == pytest.approx(sum(each) / len(each), abs=1e-9)
            genes = screen().batch.genes[list(whole)][:, :2]
            bounds = node_bootstrap_interval(torch.tensor(each).double(), genes, seed=1)
            assert (mean.low, mean.high) == pytest.approx(bounds, abs=1e-6)


def test_gains_are_paired_differences_to_the_likelihood() -> None:
    for name in METHODS[1:]:
        for first in FIRSTS:
            gain, mine, plain = (
                table()[f"all_readouts, {MEAN}", each, f"{metric}_{first}"].value
                for each, metric in ((name, "gain"), (name, "regret"), (PLAIN, "regret"))
            )
            assert gain == pytest.approx(plain - mine)
    assert {model for _, model, metric in table() if metric == "gain_1"} == set(METHODS[1:])


def test_small_folds_are_left_out_and_counted() -> None:
    assert report().candidates == (9, 7)
    assert report().left_out == 4
    assert len(report().mismatches["all_readouts"]) == 2
    few = replace(screen(), annotations=pd.DataFrame({"double_fold": [-1] * GENES + [*range(5)] * 4}))
    with pytest.raises(DataError, match="no fold holds out 6 or more doubles"):
        measure_reach(few, dataset="d", seed=0, model=MODEL)


def test_a_model_without_factors_is_scored_candidate_by_candidate(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reach, "asked_states", lambda *known, seed: asked_states(*known, seed=seed)[:22])
    streamed = measure_reach(screen(), dataset="d", seed=1, model=Calibrated(Streamed(ScaledAdditive())))
    assert all(math.isfinite(row.value) for row in streamed.rows)


def test_experts_are_pooled_over_the_candidates() -> None:
    split = next(double_splits(screen(), seed=1))
    training, batch = screen().rows(split.train), screen().batch.rows(split.test)
    one, other = (Calibrated(base).fit(training, seed=1) for base in (ScaledAdditive(), Additive()))
    fold = reach._Fold.of(replace(one, experts=(Expert(0.7, one), Expert(0.3, other))), batch, seed=1)
    parts = [training.batch.order == order for order in (1, 2)]
    known = [KnownEffects(training.effects[each], training.batch.genes[each]) for each in parts]
    for state in asked_states(KnownEffects(screen().effects[split.test], batch.genes), *known, seed=1)[:4]:
        rows = torch.nonzero(state.allowed(len(batch))).flatten()
        target = TargetLikelihood(state.asked, torch.zeros(GENES).double())
        shares = [
            expert.weight * target.utility(expert.fitted, batch.rows(rows)).mean.softmax(0)
            for expert in fold.fitted.experts
        ]
        found = fold.likelihood(state, state.asked)
        torch.testing.assert_close(found[rows].exp(), sum(shares), rtol=1e-7, atol=1e-12)


def test_a_model_without_a_law_is_refused() -> None:
    with pytest.raises(DataError, match="has no error law"):
        measure_reach(screen(), dataset="d", seed=0, model=Additive())


def test_both_choices_of_readouts_are_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    some = screen().with_readouts([0, 1, 2])
    monkeypatch.setattr(reach, "variants_of", lambda each: {"all_readouts": each, "targets_removed": some})
    monkeypatch.setattr(reach, "asked_states", lambda *known, seed: asked_states(*known, seed=seed)[:22])
    told: list[tuple[int, int]] = []
    found = measure_reach(
        screen(), dataset="d", seed=1, model=MODEL, progress=lambda done, total: told.append((done, total))
    )
    assert {row.variant.partition(",")[0] for row in found.rows} == {"all_readouts", "targets_removed"}
    assert told == [(1, 4), (2, 4), (3, 4), (4, 4)]


def row(model: str, metric: str, value: float, variant: str = f"all_readouts, {MEAN}") -> Row:
    return Row("reach", "d", model, "double", variant, metric, value, value, value, 9, "share")


def test_a_default_that_comes_no_nearer_is_named_first() -> None:
    rows = [row(DEFAULT, f"regret_{first}", first / 10) for first in FIRSTS]
    rows += [row(PLAIN, f"regret_{first}", 0.3) for first in FIRSTS]
    where = "'by turns' comes no nearer than 'likelihood' (all readouts, mean over kinds)"
    assert reach_losses(rows) == [f"warning: {where}: regret_5 0.500, 0.300"]


def test_the_grid_has_a_row_for_every_kind() -> None:
    grid = kinds_grid(report().rows, "all_readouts", "regret_1")
    assert [column.header for column in grid.columns] == ["state", *METHODS, *REFERENCES]
    assert grid.columns[0].cells[-1] == MEAN
    assert grid.columns[1].cells[0] == f"{table()['all_readouts, a double', PLAIN, 'regret_1'].value:.3f}"


def test_the_verb_prints_tables_and_writes_rows(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[object] = []

    def measured(_: object, **words: object) -> ReachReport:
        asked.append((words["dataset"], words["seed"]))
        return report()

    monkeypatch.setattr("inverse_design.cli.verbs.replay.measure_reach", measured)
    path, rows = tmp_path / "screen.csv", tmp_path / "rows.json"
    frame = pd.DataFrame(screen().effects.numpy(), columns=list(screen().readouts))
    frame.insert(0, "condition", list(screen().labels))
    frame.to_csv(path, index=False)
    words = ("benchmark", "reach", path, "--model", "scaled_additive", "--seed", 5, "-o", rows)
    assert command(*words) == 0
    assert asked == [("screen.csv", 5)]
    said = capsys.readouterr().out.splitlines()
    assert "candidates: held-out doubles, 7 to 9 candidates in each of 2 folds" in said
    assert "left out: 4 held-out doubles in folds with too few of them" in said
    assert "regret_1 by kind of state, all readouts" in said
    assert any(line.startswith("maker left out ") for line in said)
    assert any(line.startswith("mismatch in units of the error variance") for line in said)
    assert said[-1] == f"wrote {rows}"
    content = json.loads(rows.read_text())
    assert content["manifest"]["settings"]["candidates"] == [9, 7]
    assert content["rows"] == [each.to_dict() for each in report().rows]
