"""The contract of every recommender, the rule of the default, and the rules of the bench around any of them."""

import math
from dataclasses import dataclass, replace

import pytest
import torch
from strategies.screens import pairs_of, planted_screen

from inverse_design.acquisition.batch import BatchRules
from inverse_design.errors import NothingToProposeError, PlanError
from inverse_design.problem.problem import candidate_space
from inverse_design.problem.target import ProfileTarget, ScalarTarget, Target
from inverse_design.recommend.pair_hits import default_recommender, recommend_within
from inverse_design.recommend.protocol import (
    RECOMMENDERS,
    AdditiveRanking,
    DecisionState,
    RandomChoice,
    Recommendation,
    _numbered,
)
from inverse_design.testing import check_recommender
from surrogates.data.perturbation import Perturbation
from surrogates.errors import DataError

# BoTorch imports what torch has deprecated.
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
LOWER = ScalarTarget("r0", "minimise")


def state(target: Target = LOWER, genes: int = 8, pairs: int = 12, order: str = "2") -> DecisionState:
    screen = planted_screen(alone=range(genes), together=pairs_of(genes, pairs), readouts=3)
    return DecisionState(screen, target, candidate_space(screen, order, None), genes)


@pytest.mark.parametrize("name", RECOMMENDERS.names())
def test_every_recommender_keeps_the_contract(name: str) -> None:
    check_recommender(RECOMMENDERS.load(name)())


@dataclass(frozen=True)
class Careless:
    """Breaks the contract in a way that is asked for."""

    how: str

    def recommend(
        self, state: DecisionState, count: int, *, pending: tuple[Perturbation, ...], seed: int
    ) -> Recommendation:
        del seed
        if self.how == "list only" and not hasattr(state.candidates, "genes"):
            raise DataError("a space")
        if self.how == "nothing":
            raise DataError("not for me")
        left = state.open(() if self.how == "pending" else pending)
        rows = torch.arange(min(count + (self.how == "count"), len(left)))
        if self.how == "measured":
            return Recommendation.of(state, state.measured.batch.rows(rows))
        if self.how == "twice":
            rows = torch.zeros(count, dtype=torch.int64)
        if self.how == "random":
            rows = torch.randperm(len(left))[:count]
        return Recommendation.of(state, left.rows(rows))


@pytest.mark.parametrize(
    ("how", "said"),
    [
        ("list only", "from a PerturbationBatch only"),
        ("nothing", "neither"),
        ("pending", "pending or no candidate"),
        ("count", "the number of experiments"),
        ("measured", "what is measured"),
        ("twice", "twice"),
        ("random", "the same question"),
    ],
)
def test_the_contract_finds_what_is_broken(how: str, said: str) -> None:
    with pytest.raises(AssertionError, match=said):
        check_recommender(Careless(how))
    check_recommender(Careless("nowhere"))


def test_a_recommendation_names_experiments_and_each_of_them_once() -> None:
    known = state()
    pair = known.open().rows(torch.tensor([0, 0]))
    with pytest.raises(PlanError, match="twice"):
        Recommendation.of(known, pair)
    with pytest.raises(PlanError, match="no column 'perturbation'"):
        Recommendation(Recommendation.of(known, pair.rows(slice(1))).table.drop(columns="perturbation"))


def test_open_candidates_are_those_of_the_space_that_are_neither_measured_nor_pending() -> None:
    known = state()
    labels = [known.label(genes) for genes in known.open().genes]
    assert not {*labels} & {*known.measured.labels}
    assert len(labels) == known.candidates.count_valid == 28 - 12
    waiting = tuple(Perturbation.parse(label) for label in labels[3:5])
    assert [known.label(genes) for genes in known.open(waiting).genes] == labels[:3] + labels[5:]
    with pytest.raises(NothingToProposeError):
        known.open(tuple(map(Perturbation.parse, labels)))


def test_many_parts_are_told_apart_as_few_are() -> None:
    known = state(genes=9, order="6")
    assert len(known.open()) == math.comb(9, 6)
    genes = torch.arange(6)[None].repeat(2, 1)
    genes[1, 5] = 8
    wide = replace(known, candidates=known.measured.vocabulary.dosed(genes))
    waiting = (Perturbation.parse("G00+G01+G02+G03+G04+G05"),)
    assert [wide.label(each) for each in wide.open(waiting).genes] == ["G00+G01+G02+G03+G04+G08"]
    numbers = _numbered(torch.tensor([[3, 9_999], [3, -1], [3, 9_999]]).repeat(1, 4), 10_000)  # beyond 63 bits
    assert numbers[0] == numbers[2] != numbers[1]


def test_a_space_that_is_too_large_is_not_listed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("inverse_design.recommend.protocol.MOST_LISTED", 20)
    with pytest.raises(DataError, match=r"28 candidates are too many.*take the recommender 'gains'"):
        RandomChoice().recommend(state(), 2, pending=(), seed=0)


def test_the_default_is_what_wins_the_replays_for_the_kind_of_target() -> None:
    large = state(genes=46, pairs=30)
    reached = ProfileTarget("state", large.measured.readouts, large.measured.effects[0])
    assert default_recommender(large)[0] == "pair_hits"
    for known, why in (
        (replace(large, target=reached), "a state is to be reached"),
        (replace(large, target=ScalarTarget("r0", "reach", 1.0)), "a state is to be reached"),
        (state(genes=46, pairs=30, order="both"), "not only pairs"),
        (state(genes=46, pairs=9), "9 are measured"),
        (state(genes=10, pairs=30), "over 45 pairs"),
    ):
        name, said = default_recommender(known)
        assert name == "gains"
        assert why in said


@pytest.mark.parametrize("name", ["additive", "pair_hits", "optuna_tpe", "gains"])
def test_the_rules_of_the_bench_are_kept_whoever_recommends(name: str) -> None:
    rules = BatchRules(most_per_gene=2, random_share=0.4)
    known, pending = replace(state(), rules=rules), (Perturbation.parse("G00+G01"),)
    recommender = RECOMMENDERS.load(name)()
    table = recommend_within(recommender, known, 5, pending=pending, seed=3).table
    genes = [gene for label in table["perturbation"] for gene in label.split("+")]
    assert len(table) == 5
    assert max(map(genes.count, genes)) <= 2
    assert not {*table["perturbation"]} & {*known.measured.labels, "G00+G01"}
    assert (table["chosen"] == "random").tolist() == [False] * 3 + [True] * 2
    assert (table["log_probability"].isna() == (table["chosen"] == "designed")).all()
    assert table["log_probability"].dropna().max() <= -math.log(8)
    again = recommend_within(recommender, known, 5, pending=pending, seed=3).table
    assert again["perturbation"].tolist() == table["perturbation"].tolist()
    if name == "pair_hits":
        assert table["predicted"].notna().all()
        assert (table["reason"].str.startswith("among the best") == (table["chosen"] == "designed")).all()


def test_picks_that_keep_the_rules_come_in_the_order_of_the_recommender() -> None:
    known = replace(state(), rules=BatchRules(most_per_gene=1))
    ranked = AdditiveRanking().recommend(known, 16, pending=(), seed=0).table["perturbation"]
    kept: list[str] = []
    for label in ranked:
        if not {*label.split("+")} & {gene for each in kept for gene in each.split("+")}:
            kept.append(label)
    found = recommend_within(AdditiveRanking(), known, 4, pending=(), seed=0).table["perturbation"]
    assert found.tolist() == kept[: len(found)]
    assert len(found) == min(4, len(kept))


def test_without_rules_a_recommender_is_asked_as_it_is() -> None:
    plain = recommend_within(AdditiveRanking(), state(), 4, pending=(), seed=0)
    assert plain.table.equals(AdditiveRanking().recommend(state(), 4, pending=(), seed=0).table)
