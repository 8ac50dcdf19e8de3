"""A campaign without a store lives in memory, and is the same campaign as one in a file."""

from pathlib import Path

import pandas as pd
import pytest
import torch
from strategies.campaigns import SETTINGS, TARGET, FirstPairs, measured, starting_screen
from strategies.contracts import check_store
from strategies.screens import label, pairs_of, planted_screen

from inverse_design.campaign.campaign import Campaign
from inverse_design.campaign.store.protocol import memory_store
from inverse_design.errors import SettingsError
from surrogates.errors import UnknownNameError

TOGETHER = pairs_of(6, 10)
SCREEN = planted_screen(alone=range(6), together=TOGETHER, readouts=3)


def test_memory_keeps_the_contract_of_stores() -> None:
    check_store(memory_store())


def test_rounds_leave_no_file_and_agree_with_those_of_a_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    inside = Campaign.create(starting_screen(), target=TARGET, settings=SETTINGS)
    other = Campaign.create(starting_screen(), target=TARGET, settings=SETTINGS)
    assert list(tmp_path.iterdir()) == []
    kept = Campaign.create(starting_screen(), target=TARGET, settings=SETTINGS, store=tmp_path / "store.db")
    for campaign in (inside, kept):
        batch = campaign.ask(3, FirstPairs())
        results = measured(batch.labels, campaign.readouts)
        campaign.tell(results.drop(columns="replicate").set_index("perturbation"))
    tables = [each.batch().table.drop(columns="campaign") for each in (inside, kept)]
    pd.testing.assert_frame_equal(*tables)
    assert torch.equal(inside.screen().effects, kept.screen().effects)
    assert inside.history()["kind"].tolist() == kept.history()["kind"].tolist()
    assert other.status().rounds == 0
    assert Campaign.open(tmp_path / "store.db", "test").key == kept.key


def test_a_round_needs_no_planner() -> None:
    known = label(TOGETHER[0])
    campaign = Campaign.create(SCREEN, target="+".join(known.split("+")[::-1]), surrogate="additive", batch_size=3)
    assert campaign.settings.target == campaign.target.name == known
    assert known not in campaign.screen().labels
    assert campaign.preview().table["perturbation"].tolist() == campaign.ask().labels
    batch = campaign.ask(7)  # the open round again, whatever is asked for
    assert len(batch.labels) == 3
    campaign.tell(measured(batch.labels, campaign.readouts))
    assert len(campaign.ask(2).labels) == 2
    assert len(campaign.ask_more(1).labels) == 1


def test_values_by_readout_are_a_target() -> None:
    campaign = Campaign.create(SCREEN, target={"r0": 1.0, "r2": -1.0}, name="mine")
    assert campaign.target.readouts == ("r0", "r2")  # type: ignore[union-attr]
    assert repr(campaign).startswith("Campaign 'mine' for 'profile': nothing asked for yet")


def test_what_is_stated_wrongly_is_refused() -> None:
    with pytest.raises(SettingsError, match=r"unknown key 'batchsize' in the settings: did you mean 'batch_size'"):
        Campaign.create(SCREEN, target=TARGET, batchsize=3)
    with pytest.raises(UnknownNameError, match="is neither a file nor a condition of the data"):
        Campaign.create(SCREEN, target="G01+G09")
    said = r"write Campaign.create\(screen, target=..., settings=..., store=..., actor=...\)"
    with pytest.raises(TypeError, match=said):
        Campaign.create(SCREEN, SETTINGS, target=TARGET)
    plain = Campaign.create.__func__.__wrapped__  # type: ignore[attr-defined] - without the checks of the tests
    with pytest.raises(TypeError, match=said):
        plain(Campaign, memory_store(), SETTINGS, SCREEN, target=TARGET, actor="ann")
