"""What must not matter does not: units, names, the order of rows and columns; what moves an answer is named."""

import numpy as np
import pandas as pd
import pytest
import torch
from strategies.worlds import tiny_screen, tiny_table

from inverse_design import propose, rank
from inverse_design.problem.problem import in_own_units, in_units_of, outlying, readout_remark
from inverse_design.problem.target import ProfileTarget, ScalarTarget, SignatureTarget

TABLE = tiny_table().set_index("condition")
SCREEN, WANTED = TABLE.iloc[:-1], TABLE.iloc[-1]
UNIT = 1000.0


def renamed(name: str) -> str:
    """Give each gene a name whose place in the alphabet is another."""
    return "+".join(f"N{int(part.removeprefix('G')) * 7 % 10}x{part}" for part in name.split("+"))


def as_named(label: str) -> tuple[str, ...]:
    """Undo it."""
    return tuple(sorted(part.rpartition("x")[2] for part in label.split("+")))


def otherwise(seed: int = 0) -> tuple[pd.DataFrame, pd.Series]:
    """State the same screen and target in another unit, by other names, in another order."""
    draw = np.random.default_rng(seed)
    rows, columns = draw.permutation(len(SCREEN)), draw.permutation(len(WANTED))
    table = (UNIT * SCREEN.iloc[rows, columns]).rename(index=renamed, columns=renamed)
    return table, (UNIT * WANTED.iloc[draw.permutation(len(WANTED))]).rename(index=renamed)


@pytest.mark.slow
def test_a_proposal_knows_neither_unit_nor_names_nor_order() -> None:
    one = propose(SCREEN.reset_index(), WANTED, top=15).table
    table, wanted = otherwise()
    other = propose(table.reset_index(), wanted, top=15).table
    assert list(map(as_named, other["perturbation"])) == list(map(as_named, one["perturbation"]))
    np.testing.assert_allclose(other["probability"], one["probability"], atol=1e-9)
    for name in ("distance", "lower", "upper"):
        np.testing.assert_allclose(other[name] / UNIT, one[name], rtol=1e-3)
    for name in ("found_by", "beats_nothing", "in_set", "novelty"):
        assert list(other[name]) == list(one[name])


def test_a_ranking_knows_neither_unit_nor_names_nor_order() -> None:
    measured = {as_named(label) for label in SCREEN.index}
    genes = [label for label in SCREEN.index if "+" not in label]
    pairs = [f"{a}+{b}" for a in genes for b in genes if a < b and (a, b) not in measured][:12]
    one = rank(SCREEN.reset_index(), WANTED, pairs, surrogate="additive").table
    table, wanted = otherwise(1)
    other = rank(
        table.reset_index(), wanted, [renamed(each) for each in reversed(pairs)], surrogate="additive"
    ).table
    assert list(map(as_named, other["perturbation"])) == list(map(as_named, one["perturbation"]))
    np.testing.assert_allclose(other["expected_gain"] / UNIT, one["expected_gain"], rtol=1e-6, atol=1e-12)


def test_the_unit_of_a_single_readout_does_not_matter_once_readouts_are_standardised() -> None:
    unit = np.random.default_rng(2).lognormal(0.0, 2.0, len(WANTED))
    answers = [
        propose(table.reset_index(), wanted, top=15, surrogate="additive", standardise=True)
        for table, wanted in ((SCREEN, WANTED), (SCREEN * unit, WANTED * unit))
    ]
    one, other = (each.table for each in answers)
    assert list(other["perturbation"]) == list(one["perturbation"])
    np.testing.assert_allclose(other["distance"], one["distance"], rtol=1e-6)
    assert all(any("root mean square of its single effects" in note for note in each.notes) for each in answers)
    assert {each.unit for each in answers} == {"in usual single effects"}
    listed = list(one["perturbation"])[:6]
    ranked = [
        rank(table.reset_index(), wanted, listed, surrogate="additive", standardise=True)
        for table, wanted in ((SCREEN, WANTED), (SCREEN * unit, WANTED * unit))
    ]
    assert list(ranked[0].table["perturbation"]) == list(ranked[1].table["perturbation"])
    np.testing.assert_allclose(ranked[1].table["distance"], ranked[0].table["distance"], rtol=1e-6)
    assert any("root mean square of its single effects" in note for note in ranked[0].notes)


def test_one_outlying_condition_is_named_as_the_cause() -> None:
    plain = propose(SCREEN.reset_index(), WANTED, surrogate="additive")
    assert not any("moves the answer" in note for note in plain.notes)
    broken = SCREEN.copy()
    broken.loc[plain.table["perturbation"].iloc[0].split("+")[0]] *= 50.0
    notes = propose(broken.reset_index(), WANTED, surrogate="additive").notes
    (said,) = [note for note in notes if "moves the answer" in note]
    assert said.startswith(f"warning: condition {plain.table['perturbation'].iloc[0].split('+')[0]!r}")


def test_a_readout_that_outweighs_all_others_is_named() -> None:
    screen = tiny_screen()
    target = ProfileTarget("wanted", screen.readouts, screen.effects[0])
    assert readout_remark(screen, target) == ()
    loud = screen.effects.clone()
    loud[:, 3] *= 100
    (said,) = readout_remark(type(screen).from_labels(loud, screen.labels, screen.readouts), target)
    assert said.startswith(f"warning: readout {screen.readouts[3]!r} has 100 % of all squared effects")
    assert "--standardise" in said


def test_targets_follow_the_unit_of_a_standardised_screen() -> None:
    screen = tiny_screen()
    alone = screen.effects[screen.single_rows]
    size = alone.square().mean(0).sqrt()
    profile = ProfileTarget("p", screen.readouts[:2], torch.tensor([1.0, 2.0]).double(), torch.ones(2).double())
    found, wanted = in_own_units(screen), in_units_of(screen, profile)
    torch.testing.assert_close(found.effects[found.single_rows].square().mean(0), torch.ones(10).double())
    assert isinstance(wanted, ProfileTarget)
    torch.testing.assert_close(wanted.values, profile.values / size[:2])
    assert wanted.standard_errors is not None
    torch.testing.assert_close(wanted.standard_errors, 1 / size[:2])
    reach = ScalarTarget(screen.readouts[4], "reach", 3.0)
    assert in_units_of(screen, reach) == ScalarTarget(reach.readout, "reach", 3 / float(size[4]))
    up = SignatureTarget("s", {screen.readouts[0]: 1.0}, {})
    assert in_units_of(screen, up) is up
    assert in_units_of(screen, screen.labels[0]) == screen.labels[0]


@pytest.mark.parametrize("factor", [1.0, 50.0])
def test_an_outlying_condition_is_far_from_all_others(factor: float) -> None:
    screen = tiny_screen()
    effects = screen.effects.clone()
    effects[5] *= factor
    found = outlying(type(screen).from_labels(effects, screen.labels, screen.readouts))
    assert found is None if factor == 1 else (found is not None and found[0] == 5 and found[1] > 10)
