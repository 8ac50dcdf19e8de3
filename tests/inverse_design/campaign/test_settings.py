"""Settings, states, costs and the stop rule."""

import json
from dataclasses import replace

import pytest

from inverse_design.acquisition.acquisition import ACQUISITIONS
from inverse_design.campaign.ask import affordable, experiment_cost, round_cost
from inverse_design.campaign.settings import CampaignSettings, settings_as_json, settings_of, settings_schema
from inverse_design.campaign.status import Prospect, advise
from inverse_design.campaign.store.events import MOVES, STATES, require_move
from inverse_design.errors import IllegalMoveError, SettingsError

_PLAIN = CampaignSettings(name="a", target="t")
_PROSPECT = Prospect(expected_gain=0.5, gain=1.0, noise=None, cost=100.0, spent=0.0, measured=3)


def test_settings_come_back_from_json() -> None:
    settings = replace(
        _PLAIN, costs={"G": 2.5}, exclude=("A", "B"), incompatible=(("A", "C"),), budget=10.0, plate_size=384
    )
    assert settings_of(json.loads(json.dumps(settings_as_json(settings)))) == settings


def test_gains_have_one_spelling_and_old_logs_are_read() -> None:
    assert _PLAIN.gain in ACQUISITIONS.names()
    assert settings_of({"name": "a", "target": "t", "gain": "expected-improvement"}) == _PLAIN
    assert settings_of({"name": "a", "target": "t"}).recommender == "automatic"


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"batch_sise": 3}, "unknown key 'batch_sise' in the settings: did you mean 'batch_size'"),
        ({"batch_size": 0}, "batch_size = 0: give at least 1"),
        ({"batch_size": "many"}, "batch_size: .*found 'many'"),
        ({"plate_size": 95}, "plate_size: .*24, 96 or 384, found 95"),
        ({"controls": 96}, "controls = 96 leave no well of 96"),
        ({"random_share": 1.5}, "random_share = 1.5"),
        ({"level": 1}, "level = 1"),
        ({"budget": -1}, "budget = -1"),
        ({"costs": {"G": float("nan")}}, "costs.G = nan"),
        ({"name": "a\tb"}, r"name 'a\\tb' of the campaign: .*U\+0009"),
        ({"target": ""}, "target ''"),
    ],
)
def test_bad_settings_are_named(change: dict[str, object], words: str) -> None:
    with pytest.raises(SettingsError, match=words):
        settings_of({"name": "a", "target": "t", **change})


def test_a_missing_key_is_named_and_the_schema_knows_all() -> None:
    with pytest.raises(SettingsError, match="need the key 'target'"):
        settings_of({"name": "a"})
    schema = json.loads(settings_schema())
    assert set(schema["properties"]) == set(settings_as_json(_PLAIN))
    assert schema["additionalProperties"] is False


def test_every_move_is_legal_or_refused_with_what_is_allowed() -> None:
    for start in STATES:
        for end in STATES:
            if end in MOVES[start]:
                require_move("x", start, end)
                continue
            with pytest.raises(
                IllegalMoveError, match=f"'x' cannot go from {start} to {end}: from {start} it can go"
            ):
                require_move("x", start, end)


def test_costs_add_up() -> None:
    settings = replace(
        _PLAIN,
        replicates=2,
        controls=4,
        plate_size=24,
        cost_per_well=1.0,
        cost_per_round=7.0,
        costs={"G": 3.0, "H@2": 5.0},
    )
    assert experiment_cost(settings, "G+H@2") == 10.0
    assert experiment_cost(settings, "H") == 2.0
    assert round_cost(settings, []) == 0.0
    assert round_cost(settings, ["H"] * 10) == 7 + 4 + 20  # 20 wells and 4 controls fill a plate
    assert round_cost(settings, ["H"] * 11) == 7 + 8 + 22
    assert affordable(settings, ["G", "H", "H@2", "K"], left=16.0) == [0]
    assert affordable(settings, ["H@2", "H", "K"], left=16.0) == [1, 2]
    assert affordable(settings, ["H"], left=12.9) == []


@pytest.mark.parametrize(
    ("prospect", "settings", "stop", "words"),
    [
        (_PROSPECT, _PLAIN, False, "50% of the gain so far"),
        (replace(_PROSPECT, expected_gain=0.04), _PLAIN, True, "4% of the gain so far"),
        (replace(_PROSPECT, noise=0.6), _PLAIN, True, "smaller than the replicate noise 0.6"),
        (replace(_PROSPECT, expected_gain=2e-48, noise=0.6), _PLAIN, True, "gain below 1e-09 is smaller"),
        (replace(_PROSPECT, gain=-0.1), _PLAIN, False, "no round has gained anything yet"),
        (replace(_PROSPECT, measured=0, expected_gain=0.01), _PLAIN, False, "nothing has been measured yet"),
        (replace(_PROSPECT, expected_gain=None), _PLAIN, False, "cannot say"),
        (_PROSPECT, replace(_PLAIN, value_per_gain=199.0), True, "is worth 99.5, and the round costs 100"),
        (_PROSPECT, replace(_PLAIN, value_per_gain=201.0), False, "is worth 100.5"),
        (replace(_PROSPECT, spent=950.0), replace(_PLAIN, budget=1000.0), True, "costs 100, and 50 of the budget"),
    ],
)
def test_the_stop_rule_says_why(prospect: Prospect, settings: CampaignSettings, words: str, *, stop: bool) -> None:
    advice = advise(prospect, settings)
    assert advice.stop == stop
    assert words in advice.reason
