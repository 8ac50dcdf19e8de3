"""One of each thing that another package can add, by one file and one entry point each."""

import itertools
import json
from pathlib import Path

import pandas as pd
import pytest
import torch
from strategies.contracts import check_space
from strategies.plugged import Plugged, install
from strategies.screens import pairs_of, planted_screen

from inverse_design import Campaign, propose, rank
from inverse_design.cli.app import main
from inverse_design.cli.outputs import WRITERS
from inverse_design.errors import SpaceError
from inverse_design.problem.constraints import CONSTRAINTS, Constraints, Group, read_constraint
from inverse_design.problem.objective import OBJECTIVES, Objective, make_objective
from inverse_design.problem.problem import candidate_space, log_prior
from inverse_design.problem.space import CombinationSpace
from inverse_design.problem.target import ProfileTarget
from inverse_design.recommend.protocol import RECOMMENDERS
from inverse_design.search.api import Engine
from inverse_design.search.exhaustive import evidence, search
from inverse_design.testing import check_constraint, check_objective, check_recommender, check_writer
from surrogates.data.io.formats.registry import READERS
from surrogates.data.io.readers import read_screen
from surrogates.errors import UnknownNameError
from surrogates.models.baselines import Additive
from surrogates.models.registry import SURROGATES
from surrogates.models.wrappers.calibrated import Calibrated, FittedCalibrated
from surrogates.testing import check_reader, check_surrogate

SCREEN = planted_screen(alone=range(9), together=pairs_of(9, 18), readouts=6)
TARGET = SCREEN.labels[-1]
APART = 4  # the least difference of numbers that the constraint of these tests asks for


@pytest.fixture(scope="module")
def fitted() -> FittedCalibrated:
    return Calibrated(Additive(), folds=2).fit(SCREEN, seed=0)


@pytest.fixture
def plugged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Plugged:
    return install(tmp_path, monkeypatch)


@pytest.fixture
def file(plugged: Plugged) -> Path:
    return plugged.screen(list(SCREEN.labels), list(SCREEN.readouts), SCREEN.effects.tolist())


def far_apart(label: str) -> bool:
    numbers = [int(part[1:]) for part in label.split("+")]
    return all(abs(one - other) >= APART for one, other in itertools.combinations(numbers, 2))


def objective_of(name: str) -> Objective:
    profile = ProfileTarget("t", SCREEN.readouts, SCREEN.effects[-1])
    return make_objective(profile, profile.on(SCREEN.readouts), name, log_prior(SCREEN, None))


def test_propose_takes_them_all_from_the_command_line(
    plugged: Plugged, file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["propose", str(file), "--target", TARGET, "--model", "plain_sums", "--objective", "worst_readout"]
    words += ["--constraint", f"numbers_apart:least={APART}", "--top", "5"]
    assert main([*words, "-o", str(plugged.folder / "a.names")]) == 0
    listed = (plugged.folder / "a.names").read_text().splitlines()
    assert len(listed) == 5
    assert all(map(far_apart, listed))
    facts = json.loads((plugged.folder / "a.names.json").read_text())
    assert facts["certificate"]["ruled_out"]["ruled out by NumbersApart"] > 0
    assert "plain_sums" in capsys.readouterr().out
    assert main([*words, "-o", str(plugged.folder / "b.names"), "--workers", "2"]) == 0  # and in other processes
    assert (plugged.folder / "b.names").read_text().splitlines() == listed
    found = propose(
        read_screen(file),
        TARGET,
        surrogate=SURROGATES.load("plain_sums")(),
        objective="worst_readout",
        constraints=[read_constraint(f"numbers_apart:least={APART}")],
        top=5,
    )
    assert found.table["perturbation"].tolist() == listed


@pytest.mark.usefixtures("plugged")
def test_a_constraint_holds_in_ranked_lists_and_campaigns(
    plugged: Plugged, file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    listed = ["G00+G01", "G00+G07", "G01+G08", "G02+G03"]
    (plugged.folder / "list.csv").write_text("\n".join(["perturbation", *listed]))
    words = ["rank", str(file), "--target", TARGET, "--experiments", str(plugged.folder / "list.csv")]
    words += ["--model", "plain_sums", "--constraint", f"numbers_apart:least={APART}"]
    assert main([*words, "-o", str(plugged.folder / "r.csv")]) == 0
    kept = pd.read_csv(plugged.folder / "r.csv")["perturbation"].tolist()
    assert sorted(kept) == ["G00+G07", "G01+G08"]
    assert "2 of 4 experiments are ruled out by the constraints" in capsys.readouterr().out
    constraint = read_constraint(f"numbers_apart:least={APART}")
    ranking = rank(SCREEN, TARGET, listed, constraints=[constraint], surrogate=Additive())
    assert sorted(ranking.table["perturbation"]) == sorted(kept)
    (plugged.folder / "c.toml").write_text(
        f'name = "c"\ntarget = "{TARGET}"\nbatch_size = 4\nsurrogate = "plain_sums"\nrandom_share = 0.5\n'
        f'constraints = ["numbers_apart:least={APART}"]\n'
    )
    store = ["--store", f"sqlite:///{plugged.folder}/c.db"]
    assert main(["campaign", "create", str(file), "--settings", str(plugged.folder / "c.toml"), *store]) == 0
    assert main(["campaign", "ask", "-o", str(plugged.folder / "ask.csv"), *store]) == 0
    asked = pd.read_csv(plugged.folder / "ask.csv")["perturbation"].tolist()
    assert len(asked) == 4
    assert all(map(far_apart, asked))


@pytest.mark.usefixtures("plugged")
def test_an_acquisition_and_a_recommender_choose_in_campaigns_and_replays(
    plugged: Plugged, file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    check_recommender(RECOMMENDERS.load("last_first")())
    campaign = Campaign.create(SCREEN, target=TARGET, gain="worst_first", surrogate="plain_sums", random_share=0.0)
    distance = campaign.preview(5).table["predicted"]
    assert distance.is_monotonic_decreasing
    assert distance.iloc[0] > distance.iloc[-1]
    last = campaign.preview(2, "last_first").table["perturbation"].tolist()
    assert last == ["G06+G08", "G05+G06"]
    store = ["--store", f"sqlite:///{plugged.folder}/r.db"]
    assert (
        main(["campaign", "create", str(file), "--name", "r", "--target", TARGET, "--random-share", "0", *store])
        == 0
    )
    words = ["campaign", "ask", "-n", "2", "--recommender", "last_first"]
    assert main([*words, "-o", str(plugged.folder / "ask.csv"), *store]) == 0
    assert pd.read_csv(plugged.folder / "ask.csv")["perturbation"].tolist() == last
    words = ["replay", str(file), "--policy", "last_first,random", "--readout", SCREEN.readouts[0], "--seeds", "2"]
    capsys.readouterr()
    assert main([*words, "--start", "3", "--rounds", "1", "--batch", "4", "--top", "3"]) == 0
    assert "last_first" in capsys.readouterr().out


@pytest.mark.usefixtures("plugged")
def test_a_constraint_holds_in_every_search(fitted: FittedCalibrated) -> None:
    constraint = read_constraint('numbers_apart:{"least": 2}')
    objective = objective_of("likelihood")
    for order, least in (("2", 2), ("3", 2), ("both", 3)):
        constraint = read_constraint(f"numbers_apart:least={least}")
        space = candidate_space(SCREEN, order, [constraint])
        check_space(space)
        every = space.batch(0, space.size)
        free = candidate_space(SCREEN, order, None)
        allowed = constraint.allows(every, SCREEN.vocabulary)
        assert torch.equal(space.valid(every), free.valid(free.batch(0, free.size)) & allowed)
        assert space.counted
        assert 0 < space.count_valid < free.count_valid
        utility = objective.utility(fitted, every).mean.masked_fill(~space.valid(every), -torch.inf)
        best = utility.argsort(descending=True, stable=True)[:7]
        found = search(objective, fitted, space, 7)
        assert found.top.index.tolist() == best.tolist()
        assert found.certificate.exact
        whole = evidence(objective, fitted, space, peak=float(utility.max()))
        assert whole.log_sum == pytest.approx(float(utility.logsumexp(0)), abs=1e-4)
    spread = Engine(workers=2).search(objective, fitted, space, 7)
    assert spread.top.index.tolist() == best.tolist()


@pytest.mark.usefixtures("plugged")
def test_what_is_too_large_is_not_counted_and_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("inverse_design.problem.counting._LOOKED_AT", 10)
    space = candidate_space(SCREEN, "2", [read_constraint("numbers_apart:least=8")])
    assert not space.counted
    assert "at most 36 pairs" in space.summary
    assert "ruled out by NumbersApart" not in space.ruled_out


@pytest.mark.usefixtures("plugged")
def test_they_keep_the_contracts_and_so_do_those_that_are_shipped(
    fitted: FittedCalibrated, file: Path, tmp_path: Path
) -> None:
    check_surrogate(SURROGATES.load("plain_sums")(), SCREEN)
    space = candidate_space(SCREEN, "both", Constraints(measured="keep"))
    for name in OBJECTIVES.names():
        check_objective(objective_of(name), fitted, space)
    assert set(CONSTRAINTS.names()) == {"batch_wide", "group", "numbers_apart"}
    check_constraint(read_constraint("numbers_apart:least=3"), SCREEN.vocabulary)
    check_constraint(read_constraint("group:name=few,members=G00,G01,G02,at_most=2"), SCREEN.vocabulary)
    check_constraint(Constraints(excluded=("G01",), required=("G02",)), SCREEN.vocabulary)
    check_reader(READERS.load("plug"), file)
    for name in WRITERS.names():
        folder = tmp_path / "written" / name
        folder.mkdir(parents=True)
        check_writer(WRITERS.load(name), folder / f"t.{name}")


@pytest.mark.parametrize("name", ["csv", "csv.gz", "tsv", "parquet"])
def test_shipped_readers_keep_the_contract(tmp_path: Path, name: str) -> None:
    table = pd.DataFrame(SCREEN.effects.numpy(), columns=list(SCREEN.readouts))
    table.insert(0, "perturbation", list(SCREEN.labels))
    path = tmp_path / f"screen.{name}"
    if name == "parquet":
        table.to_parquet(path)
    else:
        table.to_csv(path, index=False, sep="\t" if name == "tsv" else ",")
    check_reader(READERS.load(name), path)


@pytest.mark.usefixtures("plugged")
@pytest.mark.parametrize(
    ("text", "error", "message"),
    [
        ("numbers_appart", UnknownNameError, "numbers_apart"),
        ("numbers_apart:leest=3", UnknownNameError, "least"),
        ("numbers_apart:least=few", SpaceError, "least: Input should be a valid integer"),
        ("numbers_apart:3", SpaceError, "key=value"),
        ("numbers_apart:{3", SpaceError, "no JSON"),
        ("group:name=few", SpaceError, "members"),
    ],
)
def test_what_is_misspelt_is_refused_by_name(text: str, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        read_constraint(text)


def test_what_is_no_constraint_is_refused() -> None:
    with pytest.raises(SpaceError, match="no method allows"):
        Constraints.of(["G00"])


def test_built_in_constraints_say_one_by_one_what_they_leave_of_a_space() -> None:
    rules = Constraints(
        excluded=("G03",),
        required=("G00",),
        measured="keep",
        groups=(Group("few", ("G00", "G01", "G02")),),
        incompatible=(("G00", "G05"),),
        costs=tuple((f"G{one:02d}", float(one)) for one in range(9)),
        budget=7.0,
    )
    free = CombinationSpace.of(SCREEN.vocabulary, orders=(1, 2))
    every = free.batch(0, free.size)
    limited = CombinationSpace.of(SCREEN.vocabulary, orders=(1, 2), constraints=rules)
    assert torch.equal(rules.allows(every, SCREEN.vocabulary), limited.holds(every))


def test_a_group_is_one_limit_however_it_is_stated() -> None:
    group = Group("few", ("G00", "G01", "G02"))
    stated = candidate_space(SCREEN, "2", Constraints(groups=(group,)))
    for constraints in ([group], [read_constraint("group:name=few,members=G00,G01,G02")]):
        space = candidate_space(SCREEN, "2", constraints)
        assert (space.limits, space.further) == (stated.limits, ())
        assert space.count_valid == stated.count_valid


def test_an_unknown_objective_is_refused_before_anything_is_read(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    unreadable = tmp_path / "screen.csv"
    unreadable.write_text("")
    assert main(["propose", str(unreadable), "--target", "A", "--objective", "likelyhood"]) == 2
    assert "likelihood" in capsys.readouterr().err
