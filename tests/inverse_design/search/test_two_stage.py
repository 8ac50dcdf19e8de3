import pytest
import torch
from strategies.screens import normal
from strategies.spaces import plain_space

from inverse_design.errors import SpaceError
from inverse_design.problem.space import CombinationSpace
from inverse_design.search.decoded import DecodedMember, DecodedScore, search_decoded
from inverse_design.search.two_stage import Plan, TwoStageResult, nystrom_proxy, search_two_stage
from surrogates.errors import DataError
from surrogates.models.training import Layers

TARGET = normal(6, seed=77)


def ensemble(size: int, *, members: int = 3, latent: int = 3, noise: float = 0.1) -> list[DecodedMember]:
    """A common network of a few latent directions, to whose numbers each member adds noise."""
    shapes = [(size, latent), (20, latent), (20,), (6, 20)]
    common = [normal(*shape, seed=seed) for seed, shape in enumerate(shapes)]
    made = []
    for member in range(members):
        rows, first, bias, last = (
            each + noise * normal(*each.shape, seed=10 * member + 100 + at) for at, each in enumerate(common)
        )
        made.append(
            DecodedMember(rows @ first.T, bias, Layers((last / 20**0.5,), (torch.zeros(6, dtype=torch.float64),)))
        )
    return made


def asked(size: int, k: int, plan: Plan, *, incumbent: float | None = None) -> TwoStageResult:
    return search_two_stage(ensemble(size), TARGET, k, space=plain_space(size), incumbent=incumbent, plan=plan)


@pytest.mark.parametrize("incumbent", [None, -12.0])
def test_few_pairs_suffice_to_find_the_best(incumbent: float | None) -> None:
    size, k = 300, 20
    wanted = search_decoded(ensemble(size), TARGET, k, space=plain_space(size), incumbent=incumbent).top
    found = asked(size, k, Plan(keep=900, landmarks=40, probe=10_000), incumbent=incumbent)
    assert float(torch.isin(wanted.index, found.result.top.index).double().mean()) >= 0.95
    same = {int(index): float(score) for index, score in zip(wanted.index, wanted.score, strict=True)}
    for index, score in zip(found.result.top.index.tolist(), found.result.top.score.tolist(), strict=True):
        assert same.get(index, score) == score
    certificate = found.result.certificate
    assert (certificate.scanned, certificate.exact, certificate.gap) == (44850, False, torch.inf)
    assert certificate.rank_error == 44850 - 900
    assert k <= certificate.rescored < 900


def test_the_proxy_is_the_matrix_itself_when_its_rank_is_small() -> None:
    linear = DecodedMember(
        normal(30, 4, seed=1).abs(), torch.zeros(4).double(), Layers((normal(6, 4, seed=2),), (normal(6, seed=3),))
    )  # nothing is rectified, so that utilities are a quadratic form of sums: of rank 4 + 2
    score = DecodedScore.of([linear], TARGET, space=plain_space(30))
    first, second = torch.triu_indices(30, 30, offset=1)
    proxy = nystrom_proxy(score, torch.arange(14))
    error = (proxy.exact(first, second) - score.exact(first, second)).abs().max()
    assert proxy.left.shape[1] <= 7
    assert error < 1e-3 * score.exact(first, second).abs().max()


def test_recall_is_measured_on_pairs_that_the_proxy_does_not_know() -> None:
    size, plan = 300, Plan(keep=2000, landmarks=40, probe=20_000)
    recall = asked(size, 5, plan).recall
    inside = (260 / 300) ** 2  # the share of pairs without a landmark
    assert 0.7 * inside * 20_000 < recall.probed < inside * 20_000  # some pairs are drawn twice
    assert recall.judged == round(recall.probed * 2000 / 44850 / 10)
    assert 0.9 <= recall.value <= 1
    assert 0.8 < recall.low < recall.value


def test_recall_tells_that_a_proxy_is_poor() -> None:
    recall = asked(300, 5, Plan(keep=100, landmarks=1, probe=40_000)).recall
    assert recall.value < 0.7
    assert recall.low <= recall.value


def test_nothing_is_said_of_recall_without_a_probe() -> None:
    recall = asked(40, 5, Plan(keep=100, landmarks=10, probe=0)).recall
    assert recall.value != recall.value
    assert (recall.low, recall.judged, recall.probed) == (0.0, 0, 0)


def test_a_selection_of_everything_is_exact_and_repeatable() -> None:
    wanted = search_decoded(ensemble(40), TARGET, 30, space=plain_space(40)).top
    one, two = (asked(40, 30, Plan(seed=seed)) for seed in (0, 1))
    for found in (one, two):
        assert torch.equal(found.result.top.index, wanted.index)
        assert torch.equal(found.result.top.score, wanted.score)
        assert found.result.certificate.exact
        assert (found.result.certificate.rank_error, found.result.certificate.gap) == (0, 0.0)
    assert asked(40, 30, Plan()).recall == one.recall


def test_more_is_asked_for_than_a_space_of_two_entries_has() -> None:
    found = asked(2, 10, Plan())
    assert found.result.top.index.tolist() == [0]
    assert found.result.certificate.exact


def test_measured_pairs_are_not_proposed() -> None:
    free = plain_space(60)
    best = search_decoded(ensemble(60), TARGET, 3, space=free).top
    space = CombinationSpace.of(free.vocabulary, orders=(2,), measured=free.take(best.index))
    found = search_two_stage(ensemble(60), TARGET, 10, space=space, plan=Plan(keep=500, probe=500))
    assert not torch.isin(best.index, found.result.top.index).any()
    assert found.result.certificate.masked == 3


def test_progress_ends_with_all_pairs() -> None:
    seen: list[tuple[int, int]] = []
    search_two_stage(
        ensemble(30), TARGET, 3, space=plain_space(30), progress=lambda done, total: seen.append((done, total))
    )
    assert seen == sorted(seen)
    assert seen[-1] == (435, 435)


def test_plans_and_questions_that_make_no_sense_are_refused() -> None:
    for plan in ({"keep": 0}, {"landmarks": 0}, {"probe": -1}):
        with pytest.raises(DataError, match="selects nothing"):
            Plan(**plan)
    for k in (0, 11):
        with pytest.raises(DataError, match="cannot be told among 10"):
            asked(20, k, Plan(keep=10))
    with pytest.raises(SpaceError, match="member 0 has 20 entries, the space 21"):
        search_two_stage(ensemble(20), TARGET, 3, space=plain_space(21))
    bad = ensemble(20)
    bad[2].first[4, 1] = torch.nan
    with pytest.raises(DataError, match=r"weights of member 2 are not finite.* G00004"):
        search_two_stage(bad, TARGET, 3, space=plain_space(20))


def test_pairs_without_improvement_are_not_judged() -> None:
    plan = Plan(keep=900, landmarks=40, probe=10_000)
    judged = [asked(300, 5, plan, incumbent=incumbent).recall.judged for incumbent in (-12.0, -6.0, 0.0)]
    assert judged[0] > judged[1] > judged[2] == 0
