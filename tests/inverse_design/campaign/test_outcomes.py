"""What was stated beside what was measured."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from strategies.campaigns import SETTINGS, TARGET, FirstPairs, measured, starting_screen

from inverse_design.campaign.campaign import Campaign
from inverse_design.campaign.rounds import MEASURED, OUTCOME_COLUMNS, missed_shares
from inverse_design.campaign.store.protocol import open_store
from inverse_design.problem.target import ProfileTarget, Target
from inverse_design.recommend.protocol import DecisionState, Recommendation
from surrogates.data.perturbation import Perturbation


class Bounding(FirstPairs):
    """States bounds, too."""

    def recommend(
        self, state: DecisionState, count: int, *, pending: tuple[Perturbation, ...], seed: int
    ) -> Recommendation:
        plan = super().recommend(state, count, pending=pending, seed=seed)
        return replace(plan, table=plan.table.assign(lower=-1.0, upper=1.0))


def _profile() -> ProfileTarget:
    screen = starting_screen()
    return ProfileTarget("wanted", screen.readouts[:2], torch.tensor([1.0, -2.0], dtype=torch.float64))


def _campaign(folder: Path, target: Target = TARGET) -> Campaign:
    store = open_store(folder / "store.db", create=True)
    return Campaign.create(starting_screen(), target=target, settings=SETTINGS, store=store, actor="ann")


@pytest.mark.parametrize("target", [TARGET, _profile()], ids=["direction", "state"])
def test_only_what_was_measured_is_listed_with_the_mean_of_its_wells(tmp_path: Path, target: Target) -> None:
    campaign = _campaign(tmp_path, target)
    first = campaign.ask(3, Bounding())
    names = list(first.table["perturbation"])
    wells = [measured(names[:2], campaign.readouts, replicate=each) for each in ("1", "2")]
    campaign.tell(pd.concat(wells))
    campaign.tell(measured(names[2:], campaign.readouts).assign(status="failed"))
    second = campaign.ask(2, Bounding())
    campaign.tell(measured(list(second.table["perturbation"])[:1], campaign.readouts))
    found = campaign.outcomes()
    assert tuple(found) == OUTCOME_COLUMNS
    assert found["round"].tolist() == [1, 1, 2]
    assert found["perturbation"].tolist() == [*names[:2], second.table["perturbation"][0]]
    assert found["predicted"].tolist()[:2] == first.table["predicted"].tolist()[:2]
    mean = (wells[0].loc[0, list(campaign.readouts)] + wells[1].loc[0, list(campaign.readouts)]) / 2
    state = ((mean["r0"] - 1) ** 2 / 2 + (mean["r1"] + 2) ** 2 / 2) ** 0.5
    assert found[MEASURED][0] == pytest.approx(-mean["r0"] if target is TARGET else state)


def test_without_results_or_without_bounds_the_columns_are_there(tmp_path: Path) -> None:
    campaign = _campaign(tmp_path)
    assert tuple(campaign.outcomes()) == OUTCOME_COLUMNS
    names = list(campaign.ask(2, FirstPairs()).table["perturbation"])
    assert campaign.outcomes().empty
    campaign.tell(measured(names, campaign.readouts))
    found = campaign.outcomes()
    assert len(found) == 2
    assert found[["lower", "upper"]].isna().all(axis=None)


def test_missed_shares_are_those_of_designed_picks_with_bounds() -> None:
    found = pd.DataFrame(
        {
            "round": [1, 1, 1, 2, 2, 3],
            "chosen": ["designed", "designed", "random", "designed", "designed", "designed"],
            "lower": [0.0, 0.0, 0.0, 0.0, None, None],
            "upper": [1.0, 1.0, 1.0, 1.0, None, None],
            MEASURED: [0.5, 2.0, 9.0, 1.0, 5.0, 0.0],
        }
    )
    assert missed_shares(found) == (0.5, 0.0)
    assert missed_shares(found.iloc[:0]) == ()


def test_a_condition_that_lacks_readouts_counts_for_those_it_has(tmp_path: Path) -> None:
    campaign = _campaign(tmp_path)
    first, second = campaign.ask(2, FirstPairs()).labels
    table = measured([first, second], campaign.readouts).assign(r0=[-50.0, np.nan], r1=[np.nan, 0.5])
    assert campaign.tell(table).partial == 2
    status = campaign.status()
    assert set(status.partial) == {f"{first} lacks r1", f"{second} lacks r0"}
    assert (status.best, status.utility) == (first, 50.0)  # of the readout that is to be lowered
    assert status.counts["measured"] == 2
    assert len(campaign.screen()) == len(starting_screen())  # no fit has a number that nobody measured
    assert campaign.outcomes()[MEASURED].tolist()[0] == 50.0
    assert np.isnan(campaign.outcomes()[MEASURED].tolist()[1])
    later = campaign.ask(28, FirstPairs())
    assert first not in later.labels  # its utility is known
    assert second in later.labels  # its utility is not: it may be proposed again
    assert any("2 conditions lack readouts and are no part of the fit" in note for note in later.notes)
    rest = measured([first], campaign.readouts, replicate="2").assign(r0=-40.0, r1=2.0)
    campaign.tell(rest)
    row = campaign.screen().row_of(first)
    assert campaign.screen().effects[row, :2].tolist() == [-45.0, 2.0]
