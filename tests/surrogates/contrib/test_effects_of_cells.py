from dataclasses import replace

import pytest
import torch
from strategies.screens import pairs_of, planted_screen

from surrogates.contrib.cells.additive_autoencoder import AdditiveAutoencoder
from surrogates.contrib.cells.effects import EffectsOfCells
from surrogates.contrib.cells.shift import TwoFactorCells
from surrogates.data.vocabulary import PerturbationBatch
from surrogates.errors import DataError
from surrogates.models.base import latent_factors
from surrogates.models.baselines import Additive
from surrogates.models.training import Schedule
from surrogates.testing import check_surrogate, probe_batch

SCREEN = planted_screen(alone=range(8), together=pairs_of(8, 12), bend=0.5)
NETWORK = EffectsOfCells(
    AdditiveAutoencoder(components=8, hidden=(16, 8), latent=6, held_out=0.0, schedule=Schedule(epochs=3, batch=8))
)


@pytest.mark.parametrize("surrogate", [NETWORK, EffectsOfCells(TwoFactorCells())], ids=["network", "shifts"])
def test_the_contract_holds(surrogate: EffectsOfCells) -> None:
    check_surrogate(surrogate, SCREEN)


def test_shifts_of_singles_are_the_additive_model() -> None:
    singles = SCREEN.rows(torch.nonzero(SCREEN.batch.order == 1).flatten())
    probe = probe_batch(SCREEN)
    found, wanted = (
        each.fit(singles, seed=0).predict(probe).mean for each in (EffectsOfCells(TwoFactorCells()), Additive())
    )
    torch.testing.assert_close(found, wanted)


def test_all_pairs_by_one_network_are_those_of_the_model_one_by_one() -> None:
    fitted = NETWORK.fit(SCREEN, seed=0)
    factors = latent_factors(fitted)
    assert factors is not None
    assert len(factors.networks[0].thresholds) == 2
    pairs = torch.combinations(torch.arange(8))
    batch = PerturbationBatch(pairs, torch.ones(len(pairs), 2).double())
    control = torch.zeros(1, len(SCREEN.readouts)).double()
    slow = torch.cat([fitted.model.predict(control, SCREEN.vocabulary.perturbation(pair)) for pair in pairs])
    torch.testing.assert_close(fitted.predict(batch).mean, slow)


def test_an_entry_without_conditions_does_what_the_others_do_on_average() -> None:
    lacking = SCREEN.rows([row for row in range(len(SCREEN)) if 0 not in SCREEN.batch.genes[row].tolist()])
    for surrogate in (NETWORK, EffectsOfCells(TwoFactorCells())):
        fitted = surrogate.fit(lacking, seed=0)
        ones = PerturbationBatch(torch.arange(8)[:, None], torch.ones(8, 1).double())
        effects = fitted.predict(ones).mean
        torch.testing.assert_close(effects[0], effects[1:].mean(0))
        both = fitted.predict(PerturbationBatch(torch.tensor([[0, 3]]), torch.ones(1, 2).double())).mean[0]
        torch.testing.assert_close(both, effects[0] + effects[3])


def test_bad_settings_are_refused() -> None:
    with pytest.raises(DataError, match="controls"):
        replace(NETWORK, controls=2.0)
    with pytest.raises(DataError, match="copies"):
        replace(NETWORK, copies=0)
