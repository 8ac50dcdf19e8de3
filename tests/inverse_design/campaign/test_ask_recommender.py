"""Which recommender a campaign asks: the one that is named, that of its settings, or the default."""

import json
import math
from dataclasses import replace
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path

import pytest
from strategies.campaigns import SETTINGS, TARGET, measured, starting_screen
from strategies.outside import LastFirst
from strategies.screens import pairs_of, planted_screen
from strategies.worlds import command

from inverse_design.campaign.ask import require_settings
from inverse_design.campaign.campaign import Campaign
from inverse_design.campaign.settings import settings_as_json, settings_of
from inverse_design.campaign.store.protocol import open_store
from inverse_design.errors import NothingToProposeError, SpaceError
from inverse_design.problem.target import ProfileTarget, Target
from inverse_design.recommend.protocol import RECOMMENDERS
from inverse_design.testing import check_recommender
from surrogates.errors import UnknownNameError

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")  # of BoTorch's
QUICK = replace(SETTINGS, surrogate="scaled_additive")


SCREEN = planted_screen(alone=range(8), together=pairs_of(8, 12), readouts=3)
STATE = ProfileTarget("state", SCREEN.readouts, 1.1 * SCREEN.effects[-1])


def campaign(folder: Path, target: Target = TARGET, **changes: object) -> Campaign:
    store = open_store(folder / "store.db", create=True)
    return Campaign.create(SCREEN, target=target, settings=replace(QUICK, **changes), store=store, actor="ann")


@pytest.mark.parametrize("name", RECOMMENDERS.names())
def test_every_recommender_of_a_replay_serves_a_campaign(tmp_path: Path, name: str) -> None:
    target = STATE if name == "likeliest" else TARGET  # which is a direction, and has no likeliest candidate
    asked = campaign(tmp_path, target, random_share=0.25)
    batch = asked.ask(4, name)
    assert len(batch.table) == 4
    assert sorted(batch.table["chosen"]) == ["designed"] * 3 + ["random"]
    assert batch.notes[0] == f"recommender: {name} (as asked for)"
    asked.tell(measured(list(batch.table["perturbation"]), asked.readouts))
    assert not {*batch.table["perturbation"]} & {*asked.ask(4, name).table["perturbation"]}


def test_a_recommender_of_the_settings_is_kept_and_one_for_a_round_goes_before_it(tmp_path: Path) -> None:
    asked = campaign(tmp_path, recommender="additive")
    assert asked.preview(2).notes[0] == "recommender: additive (named by the settings of the campaign)"
    assert asked.preview(2, "random").notes[0] == "recommender: random (as asked for)"
    opened = Campaign.open(asked.store, "test", actor="bob")
    assert opened.ask(2).notes[0] == "recommender: additive (named by the settings of the campaign)"


def test_a_log_without_the_setting_opens_and_goes_by_the_rule(tmp_path: Path) -> None:
    asked = campaign(tmp_path)
    stated = {key: value for key, value in settings_as_json(asked.settings).items() if key != "recommender"}
    assert settings_of(json.loads(json.dumps(stated))) == asked.settings
    assert "recommender: gains (a direction over 28 pairs" in asked.preview(2).notes[0]


def test_a_gain_of_the_settings_is_that_of_the_recommender(tmp_path: Path) -> None:
    asked = campaign(tmp_path, gain="upper_bound")
    ruled, named = asked.preview(4), asked.preview(4, "gains")
    assert ruled.notes[0] == "recommender: gains (the settings of the campaign name the gain upper_bound)"
    assert ruled.table["perturbation"].tolist() == named.table["perturbation"].tolist()


def test_a_recommender_without_gains_leaves_the_advice_open(tmp_path: Path) -> None:
    asked = campaign(tmp_path)
    plan = asked.preview(2, "random")
    assert math.isnan(plan.expected_gain)
    advice = asked.advice(plan)
    assert not advice.stop
    assert "cannot say" in advice.reason
    assert asked.ask(2, "random").expected_gain is None
    assert "cannot say" in asked.advice(asked.batch()).reason


def test_settings_by_which_nothing_could_be_recommended_are_refused() -> None:
    for change, nearest in (
        ({"surrogate": "scaled_aditive"}, "scaled_additive"),
        ({"gain": "expected_improvment"}, "expected_improvement"),
        ({"recommender": "pair_hit"}, "pair_hits"),
    ):
        with pytest.raises(UnknownNameError, match=nearest):
            require_settings(replace(QUICK, **change), starting_screen())
    require_settings(replace(QUICK, order="6"), starting_screen())
    with pytest.raises(SpaceError):
        require_settings(replace(QUICK, order="6"), starting_screen(4))
    with pytest.raises(NothingToProposeError):
        require_settings(replace(QUICK, order="1"), starting_screen())


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if a distribution with one entry point were installed."""
    entry = EntryPoint("last_first", "strategies.outside:LastFirst", RECOMMENDERS.group)

    def with_ours(*, group: str) -> list[EntryPoint]:
        return [*entry_points(group=group), *([entry] if group == entry.group else [])]

    monkeypatch.setattr("surrogates.registry.entry_points", with_ours)


@pytest.mark.usefixtures("installed")
def test_a_recommender_from_outside_serves_campaigns_and_replays(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    check_recommender(LastFirst())
    monkeypatch.chdir(tmp_path)
    screen = planted_screen(alone=range(8), together=pairs_of(8, 12), readouts=1)
    rows = ["perturbation,r0", *(f"{a},{b[0]:.6f}" for a, b in zip(screen.labels, screen.effects, strict=True))]
    Path("screen.csv").write_text("\n".join(rows))
    Path("goal.toml").write_text('kind = "scalar"\nreadout = "r0"\ngoal = "minimise"\n')
    begun = ("campaign", "create", "screen.csv", "--target", "goal.toml", "--name", "a", "--random-share", "0")
    assert command(*begun, "--recommender", "last_first", "--surrogate", "scaled_additive") == 0
    assert "last_first" in capsys.readouterr().out
    assert command("campaign", "ask", "-n", "2") == 0
    said = capsys.readouterr().out
    assert "recommender: last_first (named by the settings of the campaign)" in said
    assert "it is last" in said
    assert command("campaign", "ask", "--recommender", "random") == 0
    said = capsys.readouterr().out
    assert "round 1 is open, so --recommender was not asked" in said
    assert "recommender: last_first" in said
    small = ("--start", "3", "--batch", "2", "--rounds", "2", "--top", "3", "--seeds", "2")
    assert command("replay", "screen.csv", *small, "--policy", "last_first,random,permuted:last_first") == 0
    assert "permuted:last_first" in capsys.readouterr().out


def test_an_unknown_recommender_is_named(tmp_path: Path) -> None:
    with pytest.raises(UnknownNameError, match="pair_hits"):
        campaign(tmp_path).ask(2, "pair_hit")
