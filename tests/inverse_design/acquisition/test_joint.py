import torch
from strategies.gains import DrawnMaximum
from strategies.screens import normal

from inverse_design.acquisition.acquisition import UtilityPosterior
from inverse_design.acquisition.batch import BatchRules, choose_batch
from inverse_design.acquisition.joint import LogImprovement, log_improvement

BELIEF = UtilityPosterior.of_members(normal(64, 12, seed=1))


def together(numbers: list[int], incumbent: float | torch.Tensor) -> float:
    best = BELIEF.joint()[:, numbers].amax(1)
    return float((best - incumbent).clamp(min=0).mean())


def test_the_improvement_of_a_batch_is_that_of_all_members() -> None:
    acquisition = log_improvement(BELIEF, 0.3)
    one = acquisition.gains()
    expected = torch.tensor([together([number], 0.3) for number in range(12)]).double()
    torch.testing.assert_close(one, expected, rtol=0.02, atol=1e-4)
    two = acquisition.adding(3).gains()
    expected = torch.tensor([together([3, number], 0.3) for number in range(12)]).double()
    torch.testing.assert_close(two, expected, rtol=0.03, atol=1e-3)


def test_batches_are_those_of_the_expected_maximum() -> None:
    genes = torch.arange(12)[:, None]
    batches = [
        choose_batch(each, genes, BatchRules(), 4, generator=torch.Generator()).numbers.tolist()
        for each in (log_improvement(BELIEF, 0.3), DrawnMaximum.of(BELIEF.joint(), 0.3))
    ]
    assert batches[0] == batches[1]


def test_an_unsure_incumbent_is_compared_draw_by_draw() -> None:
    measured = UtilityPosterior.of_members(normal(64, 2, seed=2) / 2)
    rival = measured.joint().amax(1)
    found = LogImprovement(BELIEF.joint(), rival).gains()
    expected = torch.tensor([together([number], rival) for number in range(12)]).double()
    torch.testing.assert_close(found, expected, rtol=0.03, atol=1e-3)


def test_where_nothing_improves_the_nearest_is_still_first() -> None:
    one_better = UtilityPosterior.of_members(BELIEF.joint() + torch.eye(12)[5].double())
    hopeless = log_improvement(one_better, 6.0).gains()
    assert float(DrawnMaximum.of(one_better.joint(), 6.0).gains().max()) == 0.0
    assert bool((hopeless > 0).all())
    assert int(hopeless.argmax()) == 5
