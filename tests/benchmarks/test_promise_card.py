import pytest
import torch

from benchmarks.forward.promise_card import PromiseCard, measure_promise
from benchmarks.forward.worlds import NetworkFamily
from inverse_design.problem.constraints import Constraints
from inverse_design.problem.likelihood import TargetLikelihood
from inverse_design.problem.problem import candidate_space
from inverse_design.problem.target import AlignedProfile
from inverse_design.validate.judged import Judged
from surrogates.data.novelty import double_splits
from surrogates.errors import DataError
from surrogates.models.baselines import Additive
from surrogates.models.wrappers.calibrated import Calibrated

SCREEN = NetworkFamily(genes=8, doubles=20, network=20).draw(seed=0)
MODEL = Calibrated(Additive())


@pytest.fixture(scope="module")
def card() -> PromiseCard:
    """What additive effects promise and keep on a small screen."""
    return measure_promise(SCREEN, MODEL, seed=0)


def test_what_is_kept_is_the_softmax_over_all_pairs(card: PromiseCard) -> None:
    conditions = card.judged.conditions.tolist()
    assert conditions == list(range(8, 28))
    for split in double_splits(SCREEN, seed=0):
        training = SCREEN.rows(split.train)
        fitted = MODEL.fit(training, seed=0)
        space = candidate_space(training, "2", Constraints(measured="keep"))
        for row in split.test.tolist():
            target = AlignedProfile.exact(range(20), SCREEN.effects[row])
            likelihood = TargetLikelihood(target, torch.zeros(len(fitted.vocabulary), dtype=torch.float64))
            score = likelihood.utility(fitted, space.batch(0, space.size)).mean
            truth = int(space.indices(SCREEN.batch.rows(torch.tensor([row])))[0])
            found = {name: float(values[conditions.index(row)]) for name, values in card.judged.columns.items()}
            assert found["log_probability"] == pytest.approx(float(score.log_softmax(0)[truth]), abs=1e-6)
            rank = int((score > score[truth]).sum())
            assert (found["hit"], found["first_ten"]) == (rank == 0, rank < 10)


def test_every_double_is_promised_by_the_folds_that_had_it_in_training(card: PromiseCard) -> None:
    promise = card.judged.column("promised")
    assert not bool(promise.isnan().any())
    assert card.kept.promised == pytest.approx(float(promise.mean()))
    assert card.kept.n == 20
    assert len(card.names) == 5


def test_truths_that_are_lost_show_in_probabilities() -> None:
    """One lost truth in four makes the standard error of log probabilities as large as their difference."""
    nodes = torch.tensor([[2 * row, 2 * row + 1] for row in range(40)])
    promise = torch.full((40,), -0.01, dtype=torch.float64)
    kept = promise - 1e-3 * torch.arange(40).double()
    kept[::4] = -torch.logspace(0, 4, 10, dtype=torch.float64)
    judged = Judged(torch.arange(40), {"promised": promise, "log_probability": kept})
    card = PromiseCard(judged, nodes, (), 0.9)
    assert -2.5 < card.kept.difference < 0
    assert card.lost > 2.5
    fine = PromiseCard(Judged(torch.arange(40), {"promised": promise, "log_probability": promise}), nodes, (), 0.9)
    assert fine.lost == 0


def test_shares_that_could_not_be_found_are_not_numbers() -> None:
    judged = Judged(torch.arange(4), {"hit": torch.tensor([1.0, 0, 1, 1], dtype=torch.float64)})
    shares = PromiseCard(judged, torch.tensor([[0, 1], [0, 2], [1, 2], [3, 4]]), (), 0.9).shares
    assert shares["top1"][0] == 0.75
    assert shares["top1"][1] > 0
    assert all(value != value for name in ("covered", "unreachable") for value in shares[name])  # noqa: PLR0124


def test_a_screen_of_which_nothing_can_be_held_out_is_refused() -> None:
    with pytest.raises(DataError, match="nothing can be held out"):
        measure_promise(SCREEN.rows(range(8)), MODEL, seed=0)
