"""Regressors of scikit-learn keep the contract of forward models."""

import pandas as pd
import pytest
import torch
from sklearn.ensemble import RandomForestRegressor
from sklearn.linear_model import BayesianRidge, LinearRegression
from sklearn.linear_model import Ridge as RidgeRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from strategies.screens import normal, pairs_of, planted_screen

from surrogates.artefact import Origin, save_fitted
from surrogates.data.descriptors import Descriptors
from surrogates.data.screen import Screen
from surrogates.errors import DataError
from surrogates.models.linear import Ridge
from surrogates.models.regressor import FromRegressor, Regressor
from surrogates.testing import check_surrogate, probe_batch

SCREEN = planted_screen(alone=range(8), together=pairs_of(8, 20), bend=0.5)
REGRESSORS: dict[str, Regressor] = {
    "many outputs": RandomForestRegressor(n_estimators=5),
    "one output": BayesianRidge(),
    "pipeline": make_pipeline(StandardScaler(), RidgeRegressor(alpha=0.1)),
}


@pytest.mark.parametrize("name", REGRESSORS)
def test_regressors_keep_the_contract(name: str) -> None:
    check_surrogate(FromRegressor(REGRESSORS[name], components=4), SCREEN)


def test_least_squares_is_that_of_our_own() -> None:
    batch = SCREEN.batch
    ours = Ridge(0.0).fit(SCREEN, seed=0).predict(batch).mean
    theirs = FromRegressor(LinearRegression(fit_intercept=False)).fit(SCREEN, seed=0).predict(batch).mean
    torch.testing.assert_close(theirs, ours)


def test_one_readout_is_enough() -> None:
    scalar = planted_screen(alone=range(6), together=pairs_of(6, 10), readouts=1)
    for regressor in REGRESSORS.values():
        fitted = FromRegressor(regressor).fit(scalar, seed=0)
        assert fitted.predict(probe_batch(scalar)).mean.shape == (len(probe_batch(scalar)), 1)


def test_the_seed_is_that_of_the_regressor_unless_it_has_one() -> None:
    def predicted(seed: int, own: int | None) -> torch.Tensor:
        forest = RandomForestRegressor(n_estimators=3, random_state=own)
        return FromRegressor(forest).fit(SCREEN, seed=seed).predict(SCREEN.batch).mean

    assert torch.equal(predicted(1, None), predicted(1, None))
    assert not torch.equal(predicted(1, None), predicted(2, None))
    assert torch.equal(predicted(1, 5), predicted(2, 5))


def test_descriptors_tell_of_what_was_not_measured() -> None:
    hidden = normal(8, 3, seed=3)
    table = pd.DataFrame(hidden.numpy(), index=[f"G{number:02d}" for number in range(8)])
    described = Descriptors.from_table(table, name="hidden", kernel="linear")
    effects = hidden @ normal(3, 6, seed=4)
    labels = [*table.index[:7], "G00+G07"]  # without the last gene alone
    values = torch.cat([effects[:7], effects[:1] + effects[7:]])
    screen = Screen.from_labels(values, labels, [f"r{number}" for number in range(6)])
    linear = LinearRegression(fit_intercept=False)
    fitted = FromRegressor(linear, descriptors=(described,)).fit(screen, seed=0)
    alone = screen.vocabulary.batch([screen.vocabulary.parse("G07")])
    torch.testing.assert_close(fitted.predict(alone).mean, effects[7:])
    assert not bool(fitted.measured_alone[7])
    other = Descriptors.from_table(table.set_axis([f"X{row}" for row in range(8)]), name="other")
    with pytest.raises(DataError, match="other describe none of the 8 targets; are they named alike"):
        FromRegressor(linear, descriptors=(other,)).fit(screen, seed=0)


def test_configurations_are_equal_when_their_settings_are() -> None:
    assert FromRegressor(RidgeRegressor(alpha=2)) == FromRegressor(RidgeRegressor(alpha=2))
    assert FromRegressor(RidgeRegressor(alpha=2)) != FromRegressor(RidgeRegressor(alpha=1))
    with pytest.raises(DataError, match="is no regressor: give an instance"):
        FromRegressor(RidgeRegressor)


def test_a_fitted_regressor_is_no_file(tmp_path: object) -> None:
    surrogate = FromRegressor(RidgeRegressor())
    fitted = surrogate.fit(SCREEN, seed=0)
    with pytest.raises(DataError, match="FittedRegressor, which is not a registered artefact type"):
        save_fitted(fitted, tmp_path / "m", origin=Origin.of(SCREEN, surrogate, seed=0))  # type: ignore[operator]
