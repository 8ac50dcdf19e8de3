from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cache

import pandas as pd
import pytest
import torch
from strategies.screens import normal, pairs_of, planted_screen
from strategies.streamed import Streamed
from torch import Tensor

from inverse_design.problem.constraints import Constraints
from inverse_design.problem.likelihood import TargetLikelihood
from inverse_design.problem.problem import candidate_space
from inverse_design.problem.score import ProductScore
from inverse_design.problem.target import AlignedProfile
from inverse_design.proposal import propose
from inverse_design.validate.judged import compare, promised
from inverse_design.validate.retrieval import (
    DEFAULT,
    METHODS,
    OWN_READOUTS,
    YARDSTICK,
    Method,
    Retrieval,
    RetrievalReport,
    Scoring,
    Variant,
    kept_promise,
    likelihood_scores,
    measure_retrieval,
    own_readouts_scores,
    pearson_scores,
    reads_own,
    retrieval_rows,
)
from surrogates.data.novelty import Split, double_splits
from surrogates.data.perturbation import Perturbation
from surrogates.data.screen import Screen
from surrogates.data.simulate import LinearCausalWorld, Network, singles_and_doubles
from surrogates.errors import DataError
from surrogates.evaluation.intervals import Row, node_bootstrap_interval
from surrogates.models.baselines import Additive, ScaledAdditive
from surrogates.models.wrappers.automatic import Automatic
from surrogates.models.wrappers.calibrated import Calibrated
from surrogates.uncertainty.dyadic import dyadic_standard_error

PEARSON, SCALED = "additive, pearson", "scaled additive, likelihood"
METRICS = {"top1", "top10", "median_rank", "mrr"}
STATED = {"log_probability", "ece", "log_probability_promised", "promise_gap"}
GAINS = {"top1_gain", "mrr_gain"}
FAST = {name: METHODS[name] for name in (YARDSTICK, OWN_READOUTS, PEARSON, SCALED)}


def retrieve(
    screen: Screen, splits: Sequence[Split], methods: Mapping[str, Method], *, seed: int
) -> dict[str, Retrieval]:
    """Rank the truth of every held-out double among all pairs, by every method."""
    variant = Variant(screen, tuple(splits), methods)
    return variant.retrievals([variant.ask(number, seed=seed) for number in range(len(splits))])


@cache
def screen(noise: float = 0.5) -> Screen:
    """Held out in two folds."""
    planted = planted_screen(
        alone=range(7), together=pairs_of(7, 15), readouts=8, noise=noise, bend=0.2, standard_error=0.2
    )
    folds = [-1] * 7 + [number % 2 for number in range(15)]
    return replace(planted, annotations=pd.DataFrame({"double_fold": folds}))


@cache
def small_world() -> Screen:
    """Twenty readouts; eight of them are genes that are perturbed as well."""
    network = Network(genes=20, parents=3, seed=2)
    design = [
        one
        for one in singles_and_doubles(network, doubles=190, seed=0)
        if all(target < "G008" for target in one.targets)
    ]
    return LinearCausalWorld(network, noise=0.03).screen(design[:20], seed=0)


def fixed(side: Tensor) -> dict[str, Method]:
    """Score every pair by the sum of two numbers, whatever the target."""
    score = ProductScore(side, torch.zeros(len(side), 0), torch.zeros(len(side), 0))
    return {"fixed": Method(Calibrated(Additive()), lambda *asked: [score] * len(asked[2]), probabilistic=True)}


def one_split(of: Screen) -> Split:
    return next(double_splits(of, seed=0))


def rows_of(report: RetrievalReport, of: Screen) -> list[Row]:
    return retrieval_rows(report, of, dataset="d", seed=0)


def test_the_shipped_methods_start_with_the_yardstick_and_end_with_what_propose_fits() -> None:
    assert next(iter(METHODS)) == YARDSTICK == "additive, likelihood"
    assert METHODS[DEFAULT].model == Automatic(unseen=None)
    assert METHODS[DEFAULT].probabilistic
    assert not METHODS[PEARSON].probabilistic


def test_a_quiet_world_is_retrieved_with_and_without_the_targets_own_readouts() -> None:
    rows = rows_of(measure_retrieval(small_world(), seed=0, methods=FAST), small_world())
    table = {(row.variant, row.model, row.metric): row for row in rows}
    assert list(dict.fromkeys(variant for variant, _, _ in table)) == ["targets_removed", "all_readouts"]
    for variant in ("all_readouts", "targets_removed"):
        both = {"top1_both_own"} if variant == "all_readouts" else set()
        found = {name: {metric for v, m, metric in table if (v, m) == (variant, name)} for name in FAST}
        assert found[YARDSTICK] == METRICS | STATED | both
        assert found[PEARSON] == METRICS | GAINS | both
        assert found[SCALED] == METRICS | STATED | GAINS | {"log_probability_gain"} | both
        assert found[OWN_READOUTS] == (METRICS | GAINS | both if both else set())
        assert table[variant, SCALED, "top1"].value >= 0.9
    bounded = [row for row in rows if row.metric not in {"ece", "log_probability_promised"}]
    assert all(row.low <= row.value <= row.high for row in bounded)
    assert {row.n for row in rows} == {12}
    assert {(row.benchmark, row.dataset, row.novelty) for row in rows} == {
        ("retrieval", "d", "double, 2 of 2 seen")
    }


def test_the_metrics_are_those_of_the_ranks() -> None:
    report = measure_retrieval(screen(), seed=3, methods=FAST)
    table = {(row.model, row.metric): row for row in rows_of(report, screen())}
    found = report.found["all_readouts"]
    nodes = screen().batch.genes[report.conditions]
    assert OWN_READOUTS not in found  # no gene is a readout
    reference = found[YARDSTICK].rank.double()
    for name, each in found.items():
        rank = each.rank.double()
        values = {"top1": (rank == 1).double(), "top10": (rank <= 10).double(), "mrr": 1 / rank}
        if name != YARDSTICK:
            values["top1_gain"] = (rank == 1).double() - (reference == 1).double()
            values["mrr_gain"] = 1 / rank - 1 / reference
        for metric, numbers in values.items():
            row = table[name, metric]
            assert row.value == pytest.approx(float(numbers.mean()))
            assert row.standard_error == pytest.approx(dyadic_standard_error(numbers, nodes))
            assert (row.low, row.high) == node_bootstrap_interval(numbers, nodes, seed=0)
        assert table[name, "median_rank"].value == float(rank.quantile(0.5))
    assert bool(found[PEARSON].log_probability.isnan().all())
    assert len(reference) == 15


def test_promises_are_those_of_the_fits_and_stand_beside_what_was_kept() -> None:
    report = measure_retrieval(screen(), seed=0, methods=FAST)
    found, nodes = report.found["all_readouts"], screen().batch.genes[report.conditions]
    promises = [
        Calibrated(ScaledAdditive()).fit(screen().rows(split.train), seed=0).promise
        for split in double_splits(screen(), seed=0)
    ]
    expected = promised([each for each in promises if each is not None], nodes)
    assert not bool(expected.isnan().any())
    torch.testing.assert_close(found[SCALED].promised, expected)
    kept = kept_promise(found[SCALED], nodes)
    assert kept is not None
    assert kept == compare(expected, found[SCALED].log_probability, nodes)
    assert kept_promise(found[PEARSON], nodes) is None
    rows = {row.metric: row for row in rows_of(report, screen()) if row.model == SCALED}
    assert rows["log_probability_promised"].value == kept.promised
    assert rows["promise_gap"].value == pytest.approx(kept.kept - kept.promised)
    assert rows["promise_gap"].standard_error == kept.error


def test_the_look_up_sums_the_own_readouts_in_the_direction_of_the_mode() -> None:
    labels = ["A", "B:knockdown", "C:compound", "D", "A+B:knockdown"]
    readouts = ("B", "C", "A", "other")
    effects = normal(5, 4, seed=0)
    looked = Screen.from_labels(effects, [Perturbation.parse(each) for each in labels], readouts)
    assert reads_own(looked).tolist() == [1, -1, 0, 0]
    fitted = Calibrated(Additive()).fit(looked, seed=0)
    space = candidate_space(looked, "2", Constraints(measured="keep"))
    score = own_readouts_scores(fitted, space, effects[4:5])[0]
    first, second = torch.triu_indices(4, 4, 1)
    own = torch.tensor([effects[4, 2], -effects[4, 0], 0, 0], dtype=torch.float64)
    torch.testing.assert_close(score.exact(first, second), own[first] + own[second])
    assert METHODS[OWN_READOUTS].applies(looked)
    assert not METHODS[OWN_READOUTS].applies(looked.with_readouts([1, 3]))


def test_ranks_and_probabilities_are_those_of_all_pairs_spelled_out() -> None:
    split = one_split(screen())
    found = retrieve(screen(), [split], FAST, seed=0)
    training = screen().rows(split.train)
    pairs = torch.combinations(torch.arange(7), 2)
    batch = screen().vocabulary.dosed(pairs)
    for number, row in enumerate(split.test.tolist()):
        target = AlignedProfile.exact(range(8), screen().effects[row])
        truth = pairs.tolist().index(screen().batch.genes[row].tolist())
        scaled, plain = Calibrated(ScaledAdditive()).fit(training, seed=0), Additive().fit(training, seed=0)
        utility = TargetLikelihood(target, torch.zeros(7).double()).utility(scaled, batch).mean
        likely = found[SCALED]
        assert int(likely.rank[number]) == 1 + int((utility > utility[truth]).sum())
        assert float(likely.top_probability[number]) == pytest.approx(float(utility.softmax(0).max()), rel=1e-4)
        log_probability = float(utility.log_softmax(0)[truth])
        assert float(likely.log_probability[number]) == pytest.approx(log_probability, rel=1e-4, abs=1e-4)
        matrix = torch.cat([screen().effects[row][None], plain.predict(batch).mean])
        pearson = torch.corrcoef(matrix)[0, 1:]
        assert int(found[PEARSON].rank[number]) == 1 + int((pearson > pearson[truth]).sum())


def test_ties_count_against_the_truth() -> None:
    split = one_split(screen())
    ties = retrieve(screen(), [split], fixed(torch.zeros(7).double()), seed=0)["fixed"]
    assert ties.rank.tolist() == [21] * len(split.test)
    assert not bool(ties.hit.any())
    torch.testing.assert_close(ties.top_probability, torch.full((len(split.test),), 1 / 21).double())
    # Pairs with G00 are worth one, all others nothing: six above, and 15 alike.
    one = torch.tensor([1.0, 0, 0, 0, 0, 0, 0]).double()
    partly = retrieve(screen(), [split], fixed(one), seed=0)["fixed"]
    wanted = [6 if 0 in screen().batch.genes[row].tolist() else 21 for row in split.test.tolist()]
    assert partly.rank.tolist() == wanted


def test_two_doses_of_one_gene_are_no_pair() -> None:
    labels = ["A", "A@2", "B", "C", "A+B", "B+C"]
    effects = normal(6, 4, seed=0)
    dosed = Screen.from_labels(effects, [Perturbation.parse(each) for each in labels], ("w", "x", "y", "z"))
    split = Split(torch.arange(4), torch.tensor([4, 5]))
    found = retrieve(dosed, [split], fixed(torch.zeros(4).double()), seed=0)["fixed"]
    assert found.rank.tolist() == [5, 5]
    torch.testing.assert_close(found.top_probability, torch.full((2,), 0.2).double())


def test_nothing_of_the_held_out_fold_is_learnt_from() -> None:
    split = one_split(screen())
    assert len(split.test) > 1
    alone = Split(split.train, split.test[:1])
    methods = {**FAST, "interaction": METHODS["interaction, likelihood"]}
    del methods[OWN_READOUTS]
    before = retrieve(screen(), [alone], methods, seed=0)
    effects = screen().effects.clone()
    effects[split.test[1:]] += 5 * normal(len(split.test) - 1, 8, seed=1)
    after = retrieve(replace(screen(), effects=effects), [alone], methods, seed=0)
    for name in methods:
        assert torch.equal(before[name].rank, after[name].rank)
        assert torch.equal(before[name].top_probability.nan_to_num(), after[name].top_probability.nan_to_num())
    effects = screen().effects.clone()
    effects[split.train] += 0.1 * normal(len(split.train), 8, seed=1)
    learnt = retrieve(replace(screen(), effects=effects), [alone], methods, seed=0)
    assert not torch.equal(before[SCALED].top_probability, learnt[SCALED].top_probability)


def test_the_benchmark_measures_what_propose_does() -> None:
    row = 9
    train = torch.tensor([each for each in range(len(screen())) if each != row])
    found = retrieve(screen(), [Split(train, torch.tensor([row]))], FAST, seed=4)[SCALED]
    proposal = propose(
        screen(),
        screen().labels[row],
        surrogate=ScaledAdditive(),
        constraints=Constraints(measured="keep"),
        top=21,
        seed=4,
    ).table
    assert proposal["perturbation"].tolist().index(screen().labels[row]) + 1 == int(found.rank[0])
    assert proposal["probability"][0] == pytest.approx(float(found.top_probability[0]), rel=1e-5)


def test_at_most_so_many_targets_are_drawn() -> None:
    methods = fixed(torch.zeros(7).double())
    for most, number in ((4, 4), (500, 15)):
        report = measure_retrieval(screen(), seed=1, methods=methods, most_targets=most)
        assert len(report.conditions) == number
        assert {row.n for row in rows_of(report, screen())} == {number}


def test_progress_counts_the_fits() -> None:
    seen: list[tuple[int, int]] = []
    measure_retrieval(
        small_world(),
        seed=0,
        methods=fixed(torch.zeros(8).double()),
        progress=lambda done, total: seen.append((done, total)),
    )
    assert seen == [(number, seen[-1][1]) for number in range(1, seen[-1][1] + 1)]
    assert len(seen) == 2 * len(list(double_splits(small_world(), seed=0)))


def test_without_readouts_of_their_own_targets_there_is_one_variant() -> None:
    report = measure_retrieval(screen(), seed=0, methods=fixed(torch.zeros(7).double()))
    assert list(report.found) == ["all_readouts"]


def test_a_screen_without_doubles_of_measured_singles_is_refused() -> None:
    with pytest.raises(DataError, match="nothing can be held out"):
        measure_retrieval(screen().rows(range(7)), seed=0, methods=FAST)
    apart = planted_screen(alone=range(3), together=[(2, 3), (1, 4), (3, 4)])
    with pytest.raises(DataError, match="nothing can be held out"):
        measure_retrieval(apart, seed=0, methods=FAST)


@pytest.mark.parametrize("score", [pearson_scores, likelihood_scores])
def test_a_model_without_factors_is_refused(score: Scoring) -> None:
    streamed = {"mean": Method(Calibrated(Streamed()), score, probabilistic=False)}
    with pytest.raises(DataError, match="does not factorise over pairs"):
        retrieve(screen(), [one_split(screen())], streamed, seed=0)
