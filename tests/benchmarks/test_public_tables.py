import json
import runpy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.metrics import r2_score
from strategies.screens import normal, pairs_of, planted_screen

from surrogates.data.screen import Screen
from surrogates.errors import DataError
from surrogates.evaluation.intervals import target_nodes
from surrogates.models.baselines import Additive, NoChange
from surrogates.uncertainty.dyadic import dyadic_standard_error


@pytest.fixture(scope="module")
def tables() -> dict[str, Any]:
    """The names of the benchmark's module."""
    return runpy.run_path(str(Path(__file__).parents[2] / "benchmarks" / "forward" / "public_tables.py"))


def small(readouts: int = 8) -> Screen:
    return planted_screen(alone=range(12), together=pairs_of(12, 50), readouts=readouts, noise=0.1)


def test_all_singles_and_three_tenths_of_the_doubles_train(tables: dict[str, Any]) -> None:
    screen = small()
    split = tables["perturbench_split"](screen, seed=0)
    assert (screen.batch.order[split.train] == 1).sum() == 12
    assert (len(split.train), len(split.test)) == (12 + 15, 17)
    assert not set(split.train.tolist()) & set(split.test.tolist())
    assert split.test.tolist() != tables["perturbench_split"](screen, seed=1).test.tolist()


def test_cosine_and_rank_are_those_of_a_slow_loop(tables: dict[str, Any]) -> None:
    prediction, truth = normal(6, 5, seed=0), normal(6, 5, seed=1)

    def cosine(one: int, other: int) -> float:
        x, y = prediction[one].numpy(), truth[other].numpy()
        return float(np.dot(x, y) / (np.linalg.norm(x) * np.linalg.norm(y)))

    found = tables["cosine_rows"](prediction, truth).tolist()
    assert found == pytest.approx([cosine(row, row) for row in range(6)])
    wanted = [
        sorted(range(6), key=lambda one, row=row: -cosine(one, row)).index(row) / 6  # type: ignore[misc]
        for row in range(6)
    ]
    assert tables["rank_rows"](prediction, truth).tolist() == pytest.approx(wanted)
    assert tables["rank_rows"](truth, truth).tolist() == [0] * 6
    assert tables["rank_rows"](torch.zeros(6, 5), truth.float()).tolist() == pytest.approx([2.5 / 6] * 6)


def test_weights_and_weighted_r_squared_are_those_written_out(tables: dict[str, Any]) -> None:
    effects, prediction = normal(7, 9, seed=0), normal(2, 9, seed=1)
    rows = torch.tensor([4, 1])
    weights = tables["difference_weights"](effects, rows)
    for number, row in enumerate(rows.tolist()):
        others = [each for each in range(7) if each != row]
        apart = (effects[row] - effects[others].mean(0)).abs().numpy()
        squared = ((apart - apart.min()) / (apart.max() - apart.min())) ** 2
        assert weights[number].tolist() == pytest.approx(squared / squared.sum())
    mean = effects.mean(0)
    found = tables["weighted_r_squared_rows"](prediction, effects[rows], weights, mean)
    wanted = [
        r2_score((effects[row] - mean).numpy(), (prediction[n] - mean).numpy(), sample_weight=weights[n].numpy())
        for n, row in enumerate(rows.tolist())
    ]
    assert found.tolist() == pytest.approx(wanted)
    collapsed = tables["weighted_r_squared_rows"](mean.expand(2, -1), effects[rows], weights, mean)
    assert bool((collapsed <= 0).all())  # a mean prediction earns nothing


def test_a_good_model_leads_the_split(tables: dict[str, Any]) -> None:
    found = tables["score_split"](small(), {"additive": Additive(), "no_change": NoChange()}, seed=0)
    assert float(found["additive"]["cosine"].mean()) > 0.8
    assert bool(found["no_change"]["cosine"].isnan().all())
    assert float(found["additive"]["rank"].mean()) < 0.1 < float(found["no_change"]["rank"].mean())
    for metric, sign in (("weighted_mse", 1), ("weighted_r_squared", -1)):
        means = [sign * float(found[name][metric].mean()) for name in ("additive", "no_change")]
        assert means[0] < means[1]


def test_a_game_is_of_few_genes_with_unknown_queries(tables: dict[str, Any]) -> None:
    screen = small()
    game = tables["draw_game"](screen, seed=3, genes=6, known=10, queries=4)
    assert (len(game.genes), len(game.known), len(game.queries), len(game.candidates)) == (6, 10, 4, 21)
    assert not set(game.known.tolist()) & set(game.queries.tolist())
    assert set(screen.batch.genes[game.known].flatten().tolist()) == {-1, *game.genes.tolist()}
    assert (screen.batch.order[game.known] == 1).sum() == 6
    assert bool((screen.batch.order[game.queries] == 2).all())
    candidates = {tuple(row) for row in game.candidates.tolist()}
    space = tables["candidate_space"](screen.rows(game.known), "both", tables["ALL"])
    assert {tuple(row) for row in space.batch(0, space.size).genes.tolist()} == candidates
    assert {tuple(row[:2]) for row in screen.batch.genes[game.queries].tolist()} <= candidates
    with pytest.raises(DataError, match="no 6 genes hold 50 measured doubles"):
        tables["draw_game"](screen, seed=3, genes=6, known=50, queries=6)


def test_standings_count_ties_against_the_truth(tables: dict[str, Any]) -> None:
    candidates = torch.tensor([[0, -1], [1, -1], [2, -1], [0, 1], [0, 2], [1, 2]])
    truths = torch.tensor([[0, 1], [1, 2]])
    scores = torch.tensor([[0.0, 1, 2, 5, 5, 0], [9, 1, 1, 1, 1, 8]]).double()
    found = tables["query_metrics"](scores, candidates, truths)
    assert found["correct_at_1"].tolist() == [0, 0]
    assert found["correct_at_5"].tolist() == [1, 1]
    assert found["relevant_at_1"].tolist() == [1, 0]
    half = tables["query_metrics"](torch.zeros(2, 6).double(), candidates, truths)
    assert half["relevant_at_1"].tolist() == pytest.approx([5 / 6] * 2)


def test_a_quiet_game_is_won_and_masking_takes_the_look_up_away(
    tables: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = small(30)
    names = tuple(plain.vocabulary.targets[:3]) + tuple(f"r{number}" for number in range(27))
    screen = Screen.from_labels(
        plain.effects, [plain.vocabulary.perturbation(row) for row in plain.batch.genes], names
    )
    game = tables["draw_game"](screen, seed=3, genes=8, known=14, queries=4)
    score: Callable[..., dict[str, dict[str, torch.Tensor]]] = tables["score_game"]
    monkeypatch.setitem(score.__globals__, "DEFAULT", tables["Automatic"]((Additive(),), (NoChange(),)))
    found = score(screen, game, seed=0)
    assert float(found["automatic, likelihood"]["correct_at_8"].mean()) == 1
    assert "own readouts" in found
    masked = tables["without_own"](screen, game)
    assert not set(masked.readouts) & {screen.vocabulary.targets[gene] for gene in game.genes.tolist()}
    assert "own readouts" not in score(masked, game, seed=0)


def test_the_whole_prints_its_tables_and_writes_its_rows(
    tables: dict[str, Any],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
) -> None:
    plain = planted_screen(alone=range(24), together=pairs_of(24, 200), readouts=30, noise=0.1)
    names = tuple(plain.vocabulary.targets[:3]) + tuple(f"r{number}" for number in range(27))
    labels = [plain.vocabulary.perturbation(row) for row in plain.batch.genes]
    screen = Screen.from_labels(plain.effects, labels, names, provenance={"dataset": "small"})
    names_of_main = tables["main"].__globals__
    monkeypatch.setitem(names_of_main, "open_dataset", lambda _: screen)
    monkeypatch.setitem(names_of_main, "MODELS", {"additive": Additive(), "no_change": NoChange()})
    monkeypatch.setitem(names_of_main, "DEFAULT", tables["Automatic"]((Additive(),), (NoChange(),)))
    words = ["public_tables", "--splits", "2", "--games", "2", "--json", str(tmp_path / "rows.json")]
    monkeypatch.setattr("sys.argv", words)
    tables["main"]()
    said = capsys.readouterr().out
    assert "small, same protocol, our matrix - double, 2 of 2 seen, PerturBench split, 2 seeds" in said
    assert said.count("chance") == 2
    assert said.count("own readouts") == 1
    rows = json.loads((tmp_path / "rows.json").read_text())["rows"]
    assert all(row["low"] <= row["value"] <= row["high"] for row in rows if row["value"] is not None)
    assert "published: PerturBench v4" in said


def test_doubles_of_several_seeds_count_once(tables: dict[str, Any]) -> None:
    screen = small()
    doubles = torch.nonzero(screen.batch.order == 2).flatten()
    one, two = ({"m": {"cosine": torch.tensor(each).double()}} for each in ([0.0, 1.0], [0.5, 0.4]))
    played = [(doubles[[0, 1]], one), (doubles[[1, 2]], two)]
    named = tables["replace"](screen, provenance={"dataset": "small"})
    (row,) = tables["rows_of"](named, played, variant="v", seed=0)
    values = torch.tensor([0.0, 0.75, 0.4]).double()
    nodes = target_nodes(screen.batch.rows(doubles[:3]), screen.vocabulary)
    assert (row.value, row.n) == (pytest.approx(float(values.mean())), 3)
    assert row.standard_error == pytest.approx(dyadic_standard_error(values, nodes))
    assert row.dataset == "small, same protocol, our matrix"
    chance = {each.metric: each.value for each in tables["by_chance"]("v")}
    assert chance == {
        "correct_at_1": 1 / 210,
        "correct_at_5": 5 / 210,
        "correct_at_8": 8 / 210,
        "relevant_at_1": 39 / 210,
    }
