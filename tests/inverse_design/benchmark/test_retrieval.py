from dataclasses import dataclass, replace
from functools import cache

import pandas as pd
import pytest
import torch
from strategies.screens import normal, pairs_of, planted_screen
from strategies.streamed import Streamed
from torch import Tensor

from inverse_design.benchmark.retrieval import (
    DEFAULT,
    METHODS,
    YARDSTICK,
    Method,
    measure_retrieval,
    retrieve,
)
from inverse_design.problem.constraints import Constraints
from inverse_design.problem.likelihood import TargetLikelihood
from inverse_design.problem.objective import Correlation, SquaredDistance
from inverse_design.problem.score import PairScore, ProductScore
from inverse_design.problem.space import CombinationSpace
from inverse_design.problem.target import AlignedProfile
from inverse_design.proposal import propose
from surrogates.data.network import Network
from surrogates.data.perturbation import Perturbation
from surrogates.data.screen import Screen
from surrogates.data.simulate import LinearCausalWorld, singles_and_doubles
from surrogates.data.vocabulary import PerturbationBatch
from surrogates.errors import DataError
from surrogates.evaluation.scorecard import Split, double_splits
from surrogates.models.additive import Additive, ScaledAdditive
from surrogates.models.calibrated import Calibrated, FittedCalibrated
from surrogates.uncertainty.scalar import Outcome, ScalarPosterior

METRICS = {"top1", "top10", "median_rank", "mrr"}
FAST = {name: METHODS[name] for name in (YARDSTICK, "scaled additive, likelihood")}


@dataclass(frozen=True)
class Fixed:
    """An objective that scores every pair by the sum of two numbers, whatever the target."""

    side: Tensor

    def utility(self, fitted: FittedCalibrated, batch: PerturbationBatch) -> ScalarPosterior:  # noqa: ARG002
        value = self.side[batch.genes].sum(1)
        return ScalarPosterior(value, torch.zeros_like(value))

    @property
    def outcome(self) -> Outcome:
        raise NotImplementedError

    def pair_score(self, fitted: FittedCalibrated, space: CombinationSpace) -> PairScore:  # noqa: ARG002
        none = torch.zeros(len(self.side), 0)
        return ProductScore(self.side, none, none)


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
    return {"fixed": Method((Additive(),), lambda _, __: Fixed(side), probabilistic=True)}


def one_split(of: Screen) -> Split:
    return next(double_splits(of, seed=0))


def test_the_shipped_methods_start_with_the_yardstick() -> None:
    assert next(iter(METHODS)) == YARDSTICK
    assert METHODS[DEFAULT].probabilistic
    assert not METHODS[YARDSTICK].probabilistic


def test_a_quiet_world_is_retrieved_with_and_without_the_targets_own_readouts() -> None:
    rows = measure_retrieval(small_world(), dataset="world", seed=0, methods=FAST).rows
    table = {(row.variant, row.model, row.metric): row for row in rows}
    assert {variant for variant, _, _ in table} == {"all_readouts", "targets_removed"}
    for variant in ("all_readouts", "targets_removed"):
        assert {metric for v, m, metric in table if (v, m) == (variant, YARDSTICK)} == METRICS
        likelihood = {metric for v, m, metric in table if v == variant and m != YARDSTICK}
        assert likelihood == METRICS | {"ece", "top1_gain"}
        assert table[variant, "scaled additive, likelihood", "top1"].value >= 0.9
    assert all(row.low <= row.value <= row.high for row in rows)
    assert {row.n for row in rows} == {12}
    assert {(row.benchmark, row.dataset, row.novelty) for row in rows} == {
        ("retrieval", "world", "double, 2 of 2 seen")
    }


def test_the_metrics_are_those_of_the_ranks() -> None:
    report = measure_retrieval(screen(), dataset="d", seed=3, methods=FAST)
    rows = {(row.model, row.metric): row.value for row in report.rows}
    found = report.found["all_readouts"]
    reference = found[YARDSTICK].rank.double()
    for name, each in found.items():
        rank = each.rank.double()
        assert rows[name, "top1"] == pytest.approx(float((rank == 1).double().mean()))
        assert rows[name, "top10"] == pytest.approx(float((rank <= 10).double().mean()))
        assert rows[name, "mrr"] == pytest.approx(float((1 / rank).mean()))
        assert rows[name, "median_rank"] == float(rank.quantile(0.5))
    gain = float((rank == 1).double().mean() - (reference == 1).double().mean())
    assert rows[name, "top1_gain"] == pytest.approx(gain)
    assert bool(found[YARDSTICK].top_probability.isnan().all())
    assert len(reference) == 15


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
        likely = found["scaled additive, likelihood"]
        assert int(likely.rank[number]) == 1 + int((utility > utility[truth]).sum())
        assert float(likely.top_probability[number]) == pytest.approx(float(utility.softmax(0).max()), rel=1e-4)
        matrix = torch.cat([screen().effects[row][None], plain.predict(batch).mean])
        pearson = torch.corrcoef(matrix)[0, 1:]
        assert int(found[YARDSTICK].rank[number]) == 1 + int((pearson > pearson[truth]).sum())


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
    likely = "scaled additive, likelihood"
    assert not torch.equal(before[likely].top_probability, learnt[likely].top_probability)


def test_the_benchmark_measures_what_propose_does() -> None:
    row = 9
    train = torch.tensor([each for each in range(len(screen())) if each != row])
    found = retrieve(screen(), [Split(train, torch.tensor([row]))], FAST, seed=4)["scaled additive, likelihood"]
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
    rows = {
        most: measure_retrieval(
            screen(), dataset="d", seed=1, methods=fixed(torch.zeros(7).double()), most_targets=most
        ).rows
        for most in (4, 500)
    }
    assert {row.n for row in rows[4]} == {4}
    assert {row.n for row in rows[500]} == {15}


def test_progress_counts_the_fits() -> None:
    seen: list[tuple[int, int]] = []
    measure_retrieval(
        small_world(),
        dataset="d",
        seed=0,
        methods=fixed(torch.zeros(8).double()),
        progress=lambda done, total: seen.append((done, total)),
    )
    assert seen == [(number, seen[-1][1]) for number in range(1, seen[-1][1] + 1)]
    assert len(seen) == 2 * len(list(double_splits(small_world(), seed=0)))


def test_without_readouts_of_their_own_targets_there_is_one_variant() -> None:
    rows = measure_retrieval(screen(), dataset="d", seed=0, methods=fixed(torch.zeros(7).double())).rows
    assert {row.variant for row in rows} == {"all_readouts"}


def test_a_screen_without_doubles_of_measured_singles_is_refused() -> None:
    with pytest.raises(DataError, match="nothing can be held out"):
        measure_retrieval(screen().rows(range(7)), dataset="d", seed=0, methods=FAST)
    apart = planted_screen(alone=range(3), together=[(2, 3), (1, 4), (3, 4)])
    with pytest.raises(DataError, match="nothing can be held out"):
        measure_retrieval(apart, dataset="d", seed=0, methods=FAST)


@pytest.mark.parametrize("objective", [SquaredDistance, lambda target: Correlation(target, "cosine")])
def test_a_model_without_factors_is_refused(objective: type[SquaredDistance]) -> None:
    streamed = {"mean": Method((Streamed(),), lambda target, _: objective(target), probabilistic=False)}
    with pytest.raises(DataError, match="does not factorise over pairs"):
        retrieve(screen(), [one_split(screen())], streamed, seed=0)
