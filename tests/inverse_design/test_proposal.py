import math
from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import anndata
import numpy as np
import pytest
import torch
from strategies.screens import gene, label, normal, pairs_of, planted_screen
from strategies.streamed import Streamed
from torch import Tensor

from inverse_design.candidates import Inquiry
from inverse_design.errors import NothingToProposeError, TargetError
from inverse_design.problem.constraints import Constraints
from inverse_design.problem.likelihood import Replicates, TargetLikelihood, replicates
from inverse_design.problem.objective import Correlation, Distance, SignedProjection, SquaredDistance
from inverse_design.problem.problem import ask
from inverse_design.problem.target import ProfileTarget, ScalarTarget, SignatureTarget
from inverse_design.proposal import Proposal, propose
from inverse_design.search.exhaustive import evidence
from inverse_design.search.first_rows import RowLaw, first_rows
from inverse_design.search.identification import identify
from inverse_design.search.inverse_set import CandidatePosterior
from surrogates.data.perturbation import Perturbation
from surrogates.data.screen import Screen
from surrogates.data.simulate import Network, SaturatingWorld, singles_and_doubles
from surrogates.errors import CalibrationError, DataError, UnknownNameError
from surrogates.models.baselines import Additive, ScaledAdditive
from surrogates.models.interaction import Interaction
from surrogates.models.wrappers.automatic import Automatic
from surrogates.models.wrappers.calibrated import FittedCalibrated
from surrogates.models.wrappers.conformal import conformal
from surrogates.models.wrappers.stated_errors import StatedErrors

COLUMNS = [
    "rank", "perturbation", "order", "utility", "distance", "lower", "upper", "beats_nothing", "probability",
    "in_set", "novelty", "nearest_measured", "reason",
]  # fmt: skip
GENES, DOUBLES = 8, 11
TOGETHER = pairs_of(GENES, DOUBLES)
TARGET = label(TOGETHER[0])
SMALL = Interaction(components=4, leading=2)


@cache
def screen(noise: float = 0.6) -> Screen:
    return planted_screen(
        alone=range(GENES), together=TOGETHER, readouts=10, noise=noise, bend=0.3, standard_error=0.2
    )


@cache
def asked(target: str = TARGET, **more: Any) -> Proposal:
    return propose(screen(), target, **{"surrogate": ScaledAdditive(), **more})


def profile(values: Tensor, **more: Any) -> ProfileTarget:
    return ProfileTarget("wanted", screen().readouts, values, **more)


def assert_same_model(one: FittedCalibrated, other: FittedCalibrated) -> None:
    """Bit for bit."""
    batch = one.vocabulary.dosed(torch.combinations(torch.arange(len(one.vocabulary)), 2))
    assert torch.equal(one.predict(batch).mean, other.predict(batch).mean)
    assert torch.equal(one.predict(batch).variance, other.predict(batch).variance)
    assert one.selection == other.selection
    assert one.held_out == other.held_out
    assert {code: law.temperature for code, law in one.laws.items()} == {
        code: law.temperature for code, law in other.laws.items()
    }


def test_equal_input_gives_equal_output() -> None:
    for surrogate in (ScaledAdditive(), SMALL):
        one, other = (propose(screen(), TARGET, surrogate=surrogate, order="both", seed=3) for _ in range(2))
        assert one.table.equals(other.table)
        assert one.explanations == other.explanations
        assert one.notes == other.notes


def test_the_table_has_its_columns_in_order() -> None:
    table = asked(order="both", top=7).table
    assert list(table.columns) == COLUMNS
    assert table["rank"].tolist() == list(range(1, 8))
    assert (table["lower"] < table["distance"]).all()
    assert (table["distance"] < table["upper"]).all()
    assert table["utility"].is_monotonic_decreasing
    assert table["probability"].is_monotonic_decreasing
    assert len(asked(order="both", top=7).explanations) == 7
    assert table["reason"].tolist() == [each.reason for each in asked(order="both", top=7).explanations]


def test_the_interval_widens_with_its_level() -> None:
    narrow, wide = (propose(screen(), TARGET, surrogate=SMALL, level=level).table for level in (0.5, 0.9))
    assert (narrow["upper"] - narrow["lower"] > 0).all()
    assert (wide["upper"] - wide["lower"] > narrow["upper"] - narrow["lower"]).all()
    for level in (0.0, 1.0, math.nan):
        with pytest.raises(CalibrationError, match=rf"level {level} is not between 0 and 1"):
            propose(screen(), TARGET, level=level)


def test_bounds_are_those_of_the_law_of_first_rows() -> None:
    found = asked(order="both", top=9)
    aligned = ask(screen(), TARGET).target.on(screen().readouts)
    likelihood = TargetLikelihood(aligned, torch.zeros(GENES).double())
    batch = found.space.take(found.search.top.index)
    held_out = identify(likelihood, found.fitted, found.space, seed=0)
    stated = StatedErrors.of(found.fitted)
    rows = first_rows(likelihood, likelihood.log_prior, stated, found.space, held_out, seed=0)
    training = ask(screen(), TARGET).training
    noise = replicates(aligned, training, None, variance=torch.full((10,), 0.04).double(), seed=0)
    law = RowLaw.learn(rows, noise, 0.9)
    made = torch.tensor(found.table["probability"].to_numpy())
    wanted = law.state(made, Distance(aligned).predicted(stated.whole.predict(batch)).mean)
    for name in ("lower", "upper"):
        assert found.table[name].tolist() == pytest.approx(getattr(wanted, name).tolist())
    assert found.table["distance"].tolist() == pytest.approx(wanted.expected.tolist())
    assert found.table["lower"][0] == 0.0
    assert any("from the standard errors of two measurements" in note for note in found.notes)


def test_bounds_of_a_value_to_reach_are_conformal_ones_from_zero_on() -> None:
    target = ScalarTarget("r1", "reach", float(screen().effects[:, 1].max()))
    found = propose(screen(), target, surrogate=ScaledAdditive(), top=9)
    aligned = target.on(screen().readouts)
    batch = found.space.take(found.search.top.index)
    wanted = conformal(found.fitted).scalar(Distance(aligned), batch, 0.9)
    assert found.table["lower"].tolist() == wanted.lower.clamp(min=0).tolist()
    assert found.table["upper"].tolist() == wanted.upper.tolist()
    assert found.table["probability"].isna().all()


def test_doing_nothing_and_the_best_measured_condition_stand_beside_the_rows() -> None:
    found = asked()
    training, target = ask(screen(), TARGET).training, screen().effects[screen().labels.index(TARGET)]
    distances = (training.effects - target).square().mean(1).sqrt()
    assert found.baselines.nothing == pytest.approx(float(target.square().mean().sqrt()))
    assert found.baselines.best_label == training.labels[int(distances.argmin())]
    assert found.table["beats_nothing"].tolist() == (found.table["distance"] < found.baselines.nothing).tolist()
    assert found.table["beats_nothing"].any()
    assert not any("beats doing nothing" in note for note in found.notes)


def test_the_first_line_says_so_if_nothing_beats_doing_nothing() -> None:
    target = profile(-0.5 * screen().effects[:GENES].mean(0))
    found = propose(screen(), target, surrogate=Additive(), constraints=Constraints(required=("G02",)))
    assert not found.table["beats_nothing"].any()
    nothing = found.baselines.nothing
    assert found.notes[0].startswith("warning: no candidate beats doing nothing: ")
    assert found.notes[0].endswith(f"doing nothing is at {nothing:.3g} (distance)")
    assert found.notes[1].startswith("warning: ")


def test_a_score_is_compared_with_that_of_no_effect() -> None:
    only = Constraints(measured="keep", allowed=tuple(asked().table["perturbation"][0].split("+")))
    predicted = asked().fitted.predict(asked().space.take(asked().search.top.index[:1])).mean[0]
    readout = f"r{int(predicted.argmax())}"
    rising, falling = (
        propose(screen(), target, surrogate=ScaledAdditive(), constraints=only, top=1)
        for target in (ScalarTarget(readout, "maximise"), ScalarTarget(readout, "minimise"))
    )
    assert rising.baselines.nothing == falling.baselines.nothing == 0.0
    assert rising.table["beats_nothing"].tolist() == [True]
    assert falling.table["beats_nothing"].tolist() == [False]
    assert falling.notes[0].startswith("warning: no row beats doing nothing: -")
    assert falling.notes[0].endswith("doing nothing is at 0 (projection)")
    for found in (rising, falling):  # what was measured already, if it is better, belongs to the verdict
        at = found.baselines
        better = at.best > found.table["utility"][0]
        assert (f"; {at.best_label}, which was measured, has {at.best:.3g}" in found.verdict) == better
    assert better


def test_a_candidate_outside_the_list_that_beats_doing_nothing_is_named() -> None:
    """A prior puts a pair first that leads elsewhere; without probabilities it is not taken as the maker."""
    strong = profile(
        screen().effects[GENES] * screen().effects.norm(dim=1).max() / screen().effects[GENES].norm() * 2.1
    )
    keep = Constraints(measured="keep")
    every = propose(
        screen(), strong, surrogate=ScaledAdditive(), objective="distance", constraints=keep, top=100
    ).table
    far = every["perturbation"].iloc[-1]
    assert every["beats_nothing"].tolist()[:: len(every) - 1] == [True, False]
    found = propose(
        screen(),
        strong,
        surrogate=ScaledAdditive(),
        constraints=keep,
        prior=dict.fromkeys(far.split("+"), 1e150),
        top=1,
    )
    assert found.table["perturbation"].tolist() == [far]
    assert found.notes[0].startswith("warning: no row beats doing nothing")
    assert f"; {every['perturbation'][0]}, not in the list, is expected at" in found.notes[0]


def test_a_target_in_another_unit_gets_no_probability_and_says_so_before_the_table() -> None:
    wrong = profile(screen().effects[GENES].exp())
    found = propose(screen(), wrong, surrogate=ScaledAdditive(), constraints=Constraints(measured="keep"))
    assert found.table["probability"].isna().all()
    assert found.table["in_set"].isna().all()
    assert found.inverse_set is None
    warnings = [note for note in found.notes if note.startswith("warning")]
    assert any("does not seem to be a change against the control in the unit of the screen" in n for n in warnings)
    assert any("probability and in_set are not given" in note for note in warnings)
    assert found.table["upper"].notna().all()
    right = propose(
        screen(),
        profile(screen().effects[GENES]),
        surrogate=ScaledAdditive(),
        constraints=Constraints(measured="keep"),
    )
    assert right.table["probability"].notna().all()


def test_a_state_that_may_not_have_been_made_is_taken_so_by_half() -> None:
    inquiry = Inquiry(
        question=ask(screen(), TARGET),
        aligned=ask(screen(), TARGET).target.on(screen().readouts),
        objective=TargetLikelihood(
            ask(screen(), TARGET).target.on(screen().readouts), torch.zeros(GENES).double()
        ),
        likelihood=None,
        fitted=asked().fitted,
        space=asked().space,
        level=0.8,
        seed=0,
    )
    batch, sure = asked().space.take(asked().search.top.index[:1]), torch.ones(1).double()
    noise = Replicates(torch.tensor([0.01]).double(), "made up")
    law = RowLaw(torch.ones(20).double(), noise, 0.1, 0.8)
    unlikely = replace(asked().inverse_set, reachable=0.01)
    wished = replace(inquiry, question=ask(screen(), inquiry.question.target))
    found = (asked().inverse_set, unlikely, asked().inverse_set)
    made, unexplained, free = (
        each.bounds(batch, CandidatePosterior(sure, sure, one, ()), law)
        for each, one in zip((inquiry, inquiry, wished), found, strict=True)
    )
    assert float(made.upper) == pytest.approx(0.01)
    for each, why in ((unexplained, "no candidate explains"), (free, "need not have been made by any candidate")):
        assert float(each.lower) == 0.0
        assert float(each.upper) > 0.1
        assert float(each.expected) > 10 * float(made.expected)
        assert why in each.notes[-1]
    assert not any("so that one is taken to have made it" in note for note in made.notes)


def test_the_set_holds_the_best_and_is_marked_in_the_table() -> None:
    found = asked(top=100)
    held = found.inverse_set
    assert held.size == found.table["in_set"].sum()
    assert found.table["in_set"][0]
    assert found.table["in_set"].is_monotonic_decreasing
    assert held.line.startswith(f"90 % set: {held.size} of {found.space.count_valid} candidates")
    assert f"calibrated on {DOUBLES - 1} held-out doubles" in held.line
    assert len(propose(screen(), TARGET, surrogate=ScaledAdditive(), level=0.5).inverse_set.line) > 0


def test_a_target_that_nothing_explains_is_called_so() -> None:
    noisy = screen(0.1)
    first = propose(noisy, TARGET, surrogate=ScaledAdditive())
    predicted = first.fitted.predict(first.space.take(first.search.top.index[:1])).mean[0]
    likely, unlikely = (
        propose(
            noisy, profile(wanted), surrogate=ScaledAdditive(), constraints=Constraints(measured="keep")
        ).inverse_set
        for wanted in (predicted, -1.5 * predicted)
    )
    assert unlikely.reachable == pytest.approx(1 / (DOUBLES + 1))
    assert likely.reachable > 0.5
    assert likely.complaint == ""
    assert replace(unlikely, reachable=0.01).complaint == "no candidate explains this target (p = 0.01)"


def test_a_level_beyond_the_held_out_doubles_is_named_and_nothing_is_made_up() -> None:
    found = propose(screen(), TARGET, surrogate=ScaledAdditive(), level=0.99)
    assert found.inverse_set is None
    assert found.table["in_set"].isna().all()
    assert found.table["lower"].isna().all()
    assert found.table["upper"].isna().all()
    warnings = [note for note in found.notes if note.startswith("warning")]
    assert any(
        "'double, 2 of 2 seen' cannot be calibrated: level 0.99 needs 99 held-out" in each for each in warnings
    )
    assert any("10 held-out doubles support levels up to 0.909; level 0.99 needs 99" in each for each in warnings)


def test_a_target_in_another_unit_is_refused() -> None:
    with pytest.raises(TargetError, match="out of range on all its 10 readouts"):
        propose(screen(), profile(torch.full((10,), 1e4).double()), surrogate=ScaledAdditive())
    values = screen().effects[GENES].clone()
    values[3] = 1e3
    found = propose(screen(), profile(values), surrogate=ScaledAdditive())
    assert any("warning: 1 of 10 readouts are out of range, such as 1000 of 'r3'" in each for each in found.notes)


def test_a_condition_is_a_target_that_the_training_data_lack() -> None:
    question = ask(screen(), "+".join(reversed(TARGET.split("+"))))
    row = screen().labels.index(TARGET)
    assert TARGET not in question.training.labels
    assert len(question.training) == len(screen()) - 1
    assert question.target.name == TARGET
    assert isinstance(question.target, ProfileTarget)
    assert torch.equal(question.target.values, screen().effects[row])


@pytest.mark.parametrize("surrogate", [ScaledAdditive(), None], ids=["scaled", "automatic"])
def test_the_effect_of_the_target_is_seen_by_nothing_that_learns(surrogate: ScaledAdditive | None) -> None:
    row = screen().labels.index(TARGET)
    effects = screen().effects.clone()
    effects[row] += 3 * normal(effects.shape[1], seed=7)
    one = propose(screen(), TARGET, surrogate=surrogate)
    other = propose(replace(screen(), effects=effects), TARGET, surrogate=surrogate)
    assert_same_model(one.fitted, other.fitted)
    without = screen().rows([each for each in range(len(screen())) if each != row])
    models = Automatic() if surrogate is None else Automatic((surrogate,))
    assert_same_model(one.fitted, models.fit(without, seed=0))
    assert one.table["utility"].tolist() != other.table["utility"].tolist()
    # and a row that is not the target is learnt from
    effects = screen().effects.clone()
    effects[row + 1] += 1
    changed = propose(replace(screen(), effects=effects), TARGET, surrogate=surrogate)
    assert changed.fitted.held_out != one.fitted.held_out


def test_the_noise_of_a_measured_target_is_counted_once() -> None:
    """The error law is learnt from measured effects, so that it holds their noise already."""
    doubtful = replace(screen(), standard_errors=5 * screen().standard_errors)
    one, other = (propose(each, TARGET, surrogate=ScaledAdditive()).table for each in (screen(), doubtful))
    assert one["probability"].tolist() == other["probability"].tolist()
    given = profile(screen().effects[8], standard_errors=torch.full((10,), 0.7).double())
    unsure, sure = (
        propose(screen(), each, surrogate=ScaledAdditive(), constraints=Constraints(measured="keep")).table
        for each in (given, profile(screen().effects[8]))
    )
    assert unsure["probability"][0] < sure["probability"][0]


@pytest.mark.parametrize(
    ("order", "counts"),
    [("1", {1: GENES}), ("2", {2: 28 - DOUBLES + 1}), ("both", {1: GENES, 2: 28 - DOUBLES + 1})],
)
def test_orders_choose_the_space(order: Any, counts: dict[int, int]) -> None:
    rules = Constraints(measured="keep") if order == "1" else None
    found = propose(screen(), TARGET, order=order, top=100, constraints=rules, surrogate=ScaledAdditive())
    wanted = counts if order != "both" else {2: counts[2]}  # all singles are measured
    assert found.table["order"].value_counts().to_dict() == wanted
    novelty = {"1": {"single, seen"}}.get(order, {"double, 2 of 2 seen"})
    assert set(found.table["novelty"]) == novelty


def test_both_orders_are_one_ranking() -> None:
    keep = Constraints(measured="keep")
    target = profile(screen().effects[2])
    both = propose(
        screen(),
        target,
        order="both",
        top=15,
        objective="likelihood",
        constraints=keep,
        surrogate=ScaledAdditive(),
    )
    batch = both.space.batch(0, both.space.size)
    likelihood = TargetLikelihood(target.on(screen().readouts), torch.zeros(GENES).double())
    utility = likelihood.utility(both.fitted, batch).mean
    best = utility.argsort(descending=True)[:15]
    assert both.search.top.index.tolist() == best.tolist()
    assert set(both.table["order"]) == {1, 2}
    assert both.table["perturbation"][0] == "G02"


@pytest.mark.parametrize("order", ["1", "2", "both"])
def test_probabilities_sum_to_one_over_what_may_be_proposed(order: Any) -> None:
    rules = Constraints(measured="keep", excluded=("G07",))
    found = propose(screen(), TARGET, order=order, top=100, constraints=rules, surrogate=SMALL)
    assert len(found.table) == found.space.count_valid
    assert found.table["probability"].sum() == pytest.approx(1, rel=1e-6)


@pytest.mark.parametrize("surrogate", [ScaledAdditive(), Interaction(components=4, leading=2), Streamed()])
def test_a_sure_answer_is_not_surer_than_certain(surrogate: Any) -> None:
    """Densities of large size leave few digits to their differences."""
    quiet = screen(0.02)
    found = propose(quiet, TARGET, surrogate=surrogate)
    assert found.table["probability"].max() <= 1 + 1e-9
    aligned = ask(quiet, TARGET).target.on(quiet.readouts)
    likelihood = TargetLikelihood(aligned, torch.full((GENES,), -2.0e6).double())
    batch = found.space.batch(0, found.space.size)
    batch = batch.rows(torch.nonzero(found.space.valid(batch)).flatten())
    density = likelihood.utility(found.fitted, batch).mean
    whole = evidence(likelihood, found.fitted, found.space, peak=float(density.max()))
    assert float((density - whole.log_sum).exp().sum()) == pytest.approx(1, rel=1e-6)


def test_a_prior_is_the_weight_of_a_gene() -> None:
    rules = Constraints(measured="keep")
    flat = propose(screen(), TARGET, top=100, constraints=rules, surrogate=ScaledAdditive()).table
    prior = {"G01": 3.0, "G04": 0.5}
    table = propose(screen(), TARGET, top=100, constraints=rules, surrogate=ScaledAdditive(), prior=prior).table
    before = flat.set_index("perturbation")["probability"]
    weights = [(3.0 if "G01" in each else 1.0) * (0.5 if "G04" in each else 1.0) for each in before.index]
    bayes = before * weights / (before * weights).sum()
    after = table.set_index("perturbation")["probability"]
    assert after[before.index].to_numpy() == pytest.approx(bayes.to_numpy(), rel=1e-5, abs=1e-12)


@pytest.mark.parametrize("weight", [0.0, -1.0, float("nan"), float("inf")])
def test_prior_weights_that_cannot_be_meant_are_refused(weight: float) -> None:
    with pytest.raises(DataError, match="of 'G01' is not positive; exclude the gene instead"):
        propose(screen(), TARGET, prior={"G01": weight})
    with pytest.raises(UnknownNameError, match="'G0l': did you mean"):
        propose(screen(), TARGET, prior={"G0l": 1.0})


def test_constraints_are_kept() -> None:
    table = propose(
        screen(), TARGET, top=100, surrogate=ScaledAdditive(), constraints=Constraints(required=("G02",))
    ).table
    assert len(table) > 0
    assert all("G02" in each for each in table["perturbation"])
    assert not set(table["perturbation"]) & (set(screen().labels) - {TARGET})
    both = tuple(label([part]) for part in TOGETHER[1])
    with pytest.raises(NothingToProposeError):
        propose(screen(), TARGET, constraints=Constraints(allowed=both))


def brute_force(found: Proposal, objective: Any, top: int) -> Sequence[str]:
    batch = found.space.batch(0, found.space.size)
    batch = batch.rows(torch.nonzero(found.space.valid(batch)).flatten())
    best = objective.utility(found.fitted, batch).mean.argsort(descending=True)[:top]
    return [found.fitted.vocabulary.perturbation(batch.genes[int(each)]).label for each in best]


def test_signatures_are_ranked_by_projection() -> None:
    target = SignatureTarget("up and down", {"r1": 1.0, "elsewhere": 1.0}, {"r4": 2.0})
    found = propose(screen(), target, top=5, surrogate=SMALL)
    objective = SignedProjection(target.on(screen().readouts))
    assert found.table["perturbation"].tolist() == brute_force(found, objective, 5)
    assert found.table["probability"].isna().all()
    assert list(found.table.columns) == [name for name in COLUMNS if name != "distance"]
    assert (found.table["lower"] < found.table["utility"]).all()
    assert (found.table["utility"] < found.table["upper"]).all()
    assert found.inverse_set is None
    assert found.table["in_set"].isna().all()
    assert len(found.search.top) == 5
    # the more the better: what rises is fixed by as much as it rises
    for each in (*found.explanations[0].fixes, *found.explanations[0].breaks):
        sign = {"r1": 1, "r4": -1}[each.readout]
        assert each.gain == pytest.approx(sign * each.predicted, abs=1e-6)


@pytest.mark.parametrize(
    "target",
    [
        ScalarTarget("r3", "maximise"),
        ScalarTarget("r3", "minimise"),
        ScalarTarget("r3", "reach", -0.4),
    ],
    ids=lambda target: target.goal,
)
def test_one_readout_is_raised_lowered_or_brought_to_a_value(target: ScalarTarget) -> None:
    rules = Constraints(measured="keep")
    found = propose(screen(), target, order="both", top=4, surrogate=SMALL, constraints=rules)
    batch = found.space.batch(0, found.space.size)
    posterior = found.fitted.predict(batch)
    effect, variance = posterior.mean[:, 3], posterior.variance[:, 3]
    worth = {
        "maximise": effect,
        "minimise": -effect,
        "reach": -(effect + 0.4).square() - variance,
    }[target.goal]
    assert found.search.top.index.tolist() == worth.argsort(descending=True)[:4].tolist()
    torch.testing.assert_close(found.search.top.score, worth.sort(descending=True).values[:4])
    assert found.table["probability"].isna().all()


@pytest.mark.parametrize("name", ["distance", "pearson", "cosine", "projection"])
def test_profiles_may_be_judged_otherwise(name: Any) -> None:
    found = propose(screen(), TARGET, objective=name, top=5, surrogate=ScaledAdditive())
    aligned = ask(screen(), TARGET).target.on(screen().readouts)
    objective = {
        "distance": SquaredDistance(aligned),
        "pearson": Correlation(aligned, "pearson"),
        "cosine": Correlation(aligned, "cosine"),
        "projection": SignedProjection(aligned),
    }[name]
    assert found.table["perturbation"].tolist() == brute_force(found, objective, 5)
    assert found.table["probability"].between(0, 1).all()


@pytest.mark.parametrize(
    ("target", "name"),
    [
        (SignatureTarget("s", {"r1": 1.0}, {}), "likelihood"),
        (ScalarTarget("r1", "maximise"), "pearson"),
        (ScalarTarget("r1", "reach", 1.0), "projection"),
    ],
)
def test_objectives_that_cannot_judge_a_target_are_refused(target: Any, name: Any) -> None:
    with pytest.raises(TargetError, match=f"objective '{name}' cannot judge"):
        propose(screen(), target, objective=name)


def test_a_partial_profile_leaves_the_other_readouts_open() -> None:
    kept = [0, 2, 5]
    values = screen().effects[GENES]
    part = ProfileTarget("part", tuple(screen().readouts[at] for at in kept), values[kept])
    one = propose(screen(), part, surrogate=SMALL, top=5)
    weights = torch.zeros(10).double()
    weights[kept] = 1.0
    other = propose(screen(), profile(values, weights=weights), surrogate=SMALL, top=5)
    assert one.table["perturbation"].tolist() == other.table["perturbation"].tolist()
    assert one.table["utility"].tolist() == pytest.approx(other.table["utility"].tolist())
    named = {each.readout for why in one.explanations for each in (*why.fixes, *why.breaks)}
    assert named <= {"r0", "r2", "r5"}


def test_a_model_that_does_not_beat_additive_says_so_first() -> None:
    additive = propose(screen(), TARGET, surrogate=Additive())
    assert additive.notes[0].startswith("warning: the model does not beat additive: squared error 1.000")
    scaled = asked()
    assert scaled.fitted.held_out.ratio < 1
    assert not any("does not beat" in note for note in scaled.notes)
    assert any(f"{scaled.fitted.held_out.ratio:.3f} of additive's on 10" in note for note in scaled.notes)


def test_without_doubles_bounds_are_borrowed_and_no_probability_is_stated() -> None:
    singles = screen().rows(range(GENES))
    found = propose(singles, profile(screen().effects[GENES]), surrogate=ScaledAdditive(), order="both", top=100)
    assert found.notes[0].startswith("warning: no held-out combination")
    assert found.table["probability"].isna().all()
    assert found.table["in_set"].isna().all()
    assert any(note.startswith("warning: probability and in_set are not given") for note in found.notes)
    assert any("borrowed from public screens" in note for note in found.notes)
    assert "error law borrowed from public screens" in found.notes
    doubles = found.table[found.table["order"] == 2]
    assert (doubles["lower"] < doubles["distance"]).all()
    assert (doubles["distance"] < doubles["upper"]).all()
    # Public screens tell nothing of singles.
    assert found.table.loc[found.table["order"] == 1, "lower"].isna().all()


def test_what_was_never_measured_alone_is_left_out_and_named() -> None:
    partial = planted_screen(alone=range(7), together=pairs_of(8, 20), readouts=10)
    found = propose(partial, partial.labels[7], surrogate=ScaledAdditive(), top=100)
    assert "left out, as never measured alone: G07" in found.notes
    assert not any("G07" in each for each in found.table["perturbation"])


def test_unknown_targets_are_refused_with_their_neighbours() -> None:
    with pytest.raises(UnknownNameError, match="'G0O': did you mean"):
        propose(screen(), "G0O+G01")
    first, second = next(pair for pair in ((0, 1), (0, 2), (0, 3), (1, 2), (2, 3)) if pair not in TOGETHER)
    with pytest.raises(UnknownNameError, match=f"unknown condition '{gene(first)}.{gene(second)}': did you mean"):
        propose(screen(), label([first, second]))
    with pytest.raises(TargetError, match="no readout in common"):
        propose(screen(), ProfileTarget("p", ("elsewhere",), torch.ones(1).double()))


def test_a_model_without_factors_is_streamed_to_the_same_kind_of_answer() -> None:
    found = propose(screen(), TARGET, surrogate=Streamed(), top=5)
    aligned = ask(screen(), TARGET).target.on(screen().readouts)
    objective = TargetLikelihood(aligned, torch.zeros(GENES).double())
    batch = found.space.batch(0, found.space.size)
    utility = objective.utility(found.fitted, batch).mean[found.space.valid(batch)]
    assert found.table["utility"].tolist() == pytest.approx(utility.sort(descending=True).values[:5].tolist())


def test_held_out_doubles_of_a_quiet_world_are_found_first() -> None:
    network = Network(genes=9, parents=3, seed=1)
    design = singles_and_doubles(network, doubles=20, seed=0)
    quiet = SaturatingWorld(network, noise=0.02).screen(design, seed=0)
    targets = [each.label for each in design[9::10]]
    first = [propose(quiet, target, top=3) for target in targets]
    hits = [found.table["perturbation"][0] == target for found, target in zip(first, targets, strict=True)]
    assert all(hits)


@pytest.mark.parametrize("target", [TARGET, SignatureTarget("up", {"r0": 1.0}, {"r3": 1.0})], ids=["state", "up"])
def test_candidates_are_kept_as_anndata(target: str | SignatureTarget, tmp_path: Path) -> None:
    answer = propose(screen(), target, surrogate=ScaledAdditive(), top=4)
    answer.to_anndata().write_h5ad(tmp_path / "candidates.h5ad")
    found = anndata.read_h5ad(tmp_path / "candidates.h5ad")
    assert list(found.obs_names) == list(answer.table["perturbation"])
    for name in ("probability", "lower", "upper", "utility"):
        np.testing.assert_array_equal(found.obs[name], answer.table[name])
    predicted = answer.fitted.predict(screen().vocabulary.batch([Perturbation.parse(x) for x in found.obs_names]))
    np.testing.assert_array_equal(found.X, predicted.mean)
    assert (found.layers["lower"] < found.X).all()
    assert (found.layers["upper"] > found.X).all()
    aligned = answer.target.on(screen().readouts)
    np.testing.assert_array_equal(found.var["wanted"].dropna(), aligned.values)
    assert list(found.var["wanted"].dropna().index) == [screen().readouts[each] for each in aligned.columns]
    kept = found.uns["inverse_design"]
    assert (kept["verdict"], kept["target"], kept["level"]) == (answer.verdict, answer.target.name, 0.9)
    assert set(answer.notes) < set(kept["notes"])
