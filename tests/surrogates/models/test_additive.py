import pytest
import torch

from surrogates.data.perturbation import Perturbation
from surrogates.data.screen import Screen
from surrogates.data.simulate import LinearCausalWorld, Network, SaturatingWorld, singles_and_doubles
from surrogates.errors import DataError
from surrogates.models.base import PairFactored
from surrogates.models.baselines import Additive, FittedScaledAdditive, ScaledAdditive


def _screen(effects: dict[str, list[float]]) -> Screen:
    return Screen.from_labels(
        torch.tensor([*effects.values()], dtype=torch.float64),
        [Perturbation.parse(label) for label in effects],
        ["x", "y"],
    )


def _mean(fitted: FittedScaledAdditive, label: str) -> torch.Tensor:
    return fitted.predict(fitted.vocabulary.batch([Perturbation.parse(label)])).mean[0]


SINGLES = {"A": [1.0, 0.0], "B": [0.0, 2.0], "C": [2.0, 1.0]}


def test_additive_sums_single_effects() -> None:
    fitted = Additive().fit(_screen(SINGLES | {"A+D": [5.0, 5.0]}), seed=0)
    assert _mean(fitted, "A+B").tolist() == [1, 2]
    assert _mean(fitted, "A+B+C").tolist() == [3, 3]
    assert _mean(fitted, "D").tolist() == [1, 1]  # never alone: the mean single effect
    assert _mean(fitted, "A+D").tolist() == [2, 1]
    assert _mean(fitted, "").tolist() == [0, 0]


def test_additive_variance_is_that_of_combinations() -> None:
    fitted = Additive().fit(_screen(SINGLES | {"A+B": [2.0, 5.0], "A+C": [6.0, 1.0]}), seed=0)
    assert fitted.variance.tolist() == [(1 + 9) / 2, 9 / 2]


def test_additive_variance_without_combinations_is_that_of_effects() -> None:
    fitted = Additive().fit(_screen(SINGLES), seed=0)
    torch.testing.assert_close(fitted.variance, torch.tensor([5 / 3, 5 / 3]).double())


def test_scaled_additive_by_hand() -> None:
    # sums: A+B (1, 2), A+C (3, 1); <sum, y> = 2 + 2 + 3 + 1 = 8, <sum, sum> = 5 + 10 = 15
    screen = _screen(SINGLES | {"A+B": [2.0, 1.0], "A+C": [1.0, 1.0]})
    law = ScaledAdditive(shrinkage=2.0).fit(screen, seed=0).laws[0]
    assert law.scale == pytest.approx(8 / 15)
    remainder = torch.tensor([(3 - 4 * 8 / 15) / 2, (2 - 3 * 8 / 15) / 2], dtype=torch.float64)
    torch.testing.assert_close(law.offset, remainder / 2)  # 2 / (2 + 2)


def test_scaled_additive_recovers_scale_and_offset_without_shrinkage() -> None:
    offset = torch.tensor([1.0, -1.0], dtype=torch.float64)  # orthogonal to both sums below
    screen = _screen({"A": [1.0, 0.0], "B": [0.0, 1.0], "C": [1.0, 2.0], "D": [2.0, 1.0]} | {
        "A+B": [1.5, -0.5], "C+D": [2.5, 0.5]})  # fmt: skip
    law = ScaledAdditive(shrinkage=0.0).fit(screen, seed=0).laws[0]
    assert law.scale == pytest.approx(0.5)
    torch.testing.assert_close(law.offset, offset)


def test_singles_are_not_scaled() -> None:
    fitted = ScaledAdditive().fit(_screen(SINGLES | {"A+B": [9.0, 9.0]}), seed=0)
    assert _mean(fitted, "A").tolist() == [1, 0]


def test_without_combinations_scaled_additive_is_additive() -> None:
    fitted = ScaledAdditive().fit(_screen(SINGLES), seed=0)
    assert fitted.laws == ()
    assert _mean(fitted, "A+B").tolist() == [1, 2]


def test_a_class_borrows_from_the_nearest_one() -> None:
    screen = _screen(SINGLES | {"A+B": [2.0, 4.0], "A+D": [6.0, 3.0]})  # twice and three times the sum
    fitted = ScaledAdditive().fit(screen, seed=0)
    torch.testing.assert_close(_mean(fitted, "B+C"), torch.tensor([4.0, 6.0]).double())
    torch.testing.assert_close(_mean(fitted, "B+D"), torch.tensor([3.0, 9.0]).double())
    torch.testing.assert_close(_mean(fitted, "A+B+C"), torch.tensor([6.0, 6.0]).double())  # as 2 of 2 seen
    torch.testing.assert_close(_mean(fitted, "A+B+D"), torch.tensor([6.0, 9.0]).double())  # as 1 of 2 seen


def test_pair_factors_equal_predictions_for_pairs_of_seen_singles() -> None:
    network = Network(genes=12)
    screen = SaturatingWorld(network).screen(singles_and_doubles(network, doubles=30, seed=0), seed=0)
    for surrogate in (Additive(), ScaledAdditive()):
        fitted = surrogate.fit(screen, seed=0)
        assert isinstance(fitted, PairFactored)
        pairs = torch.combinations(torch.arange(12))
        factors, scale = fitted.pair_factors(), fitted.pair_scale()
        posterior = fitted.predict(fitted.vocabulary.dosed(pairs))
        i, j = pairs.T
        torch.testing.assert_close(factors.main[i] + factors.main[j], posterior.mean)
        torch.testing.assert_close(scale.side[i] + scale.side[j], posterior.scale)
        assert (factors.scores.shape, factors.basis.shape) == ((12, 0), (0, 12))
        assert (scale.left.shape, scale.right.shape) == ((12, 0), (12, 0))


def test_additive_is_exact_in_a_linear_world_and_scaling_helps_in_a_saturating_one() -> None:
    network = Network(genes=15)
    design = singles_and_doubles(network, doubles=60, seed=1)
    pairs = singles_and_doubles(network, doubles=105, seed=1)[15 + 60 :]
    linear = LinearCausalWorld(network, noise=0.0)
    fitted = Additive().fit(linear.screen(design, seed=0), seed=0)
    torch.testing.assert_close(fitted.predict(fitted.vocabulary.batch(pairs)).mean, linear.truth(pairs))
    saturating = SaturatingWorld(network, strength=2.0, noise=0.0)
    screen, truth = saturating.screen(design, seed=0), saturating.truth(pairs)
    plain, scaled = (
        (each.fit(screen, seed=0).predict(screen.vocabulary.batch(pairs)).mean - truth).square().mean()
        for each in (Additive(), ScaledAdditive())
    )
    assert scaled < plain


def test_a_negative_shrinkage_is_refused() -> None:
    with pytest.raises(DataError, match=r"shrinkage -1\.0 is negative"):
        ScaledAdditive(shrinkage=-1.0)
