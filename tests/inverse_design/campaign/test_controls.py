"""Control wells of a told plate map."""

import numpy as np
import pandas as pd
from strategies.campaigns import measured, starting_screen

from inverse_design.campaign.plate import ControlWells, controls_of, is_control
from inverse_design.campaign.results import results_of

_SCREEN = starting_screen()
_READOUTS = _SCREEN.readouts


def _controls(wells: int, *, shift: float = 0.0, plate: str = "1", seed: int = 0) -> pd.DataFrame:
    values = np.random.default_rng(seed).normal(scale=0.1, size=(wells, len(_READOUTS)))
    values[:, 1] += shift
    table = pd.DataFrame(values, columns=list(_READOUTS))
    return table.assign(perturbation="control", role="control", plate=plate)


def test_controls_are_left_out_and_counted_whatever_they_hold() -> None:
    samples = measured(["G00+G01", "G05"], _READOUTS).assign(role="sample", plate="1")
    empty = pd.DataFrame({"perturbation": ["", "control"], "role": ["control", "Control"], "plate": "1"})
    table = pd.concat([empty, samples, _controls(4)], ignore_index=True)
    found, alone = (
        results_of(each, vocabulary=_SCREEN.vocabulary, readouts=_READOUTS, key="k") for each in (table, samples)
    )
    assert (found.labels, found.lines) == (("G00+G01", "G05"), (4, 5))
    assert (found.pending, found.controls) == (0, ControlWells(6))
    assert found.digest == alone.digest
    assert alone.controls == ControlWells()


def test_the_name_alone_makes_a_control_unless_a_gene_bears_it() -> None:
    plain = measured(["G00+G01"], _READOUTS)
    table = pd.concat([plain, _controls(1).drop(columns="role")], ignore_index=True)
    assert is_control(table, list(table["perturbation"]), _SCREEN.vocabulary).tolist() == [False, True]


def test_any_word_for_a_control_marks_one() -> None:
    labels = ["NTC", "non-targeting_0012", "DMSO", "NTC+NTC", "G00", "G00+NTC"]
    table = pd.DataFrame({"perturbation": labels})
    assert is_control(table, labels, _SCREEN.vocabulary).tolist() == [True] * 4 + [False] * 2


def test_a_drift_is_named_with_its_plate_and_readout_and_chance_is_not() -> None:
    assert controls_of(_controls(8), _READOUTS) == ControlWells(8)
    assert controls_of(_controls(2, shift=9.0), _READOUTS) == ControlWells(2)
    drifted = controls_of(pd.concat([_controls(8), _controls(8, shift=2.0, plate="2", seed=1)]), _READOUTS)
    assert drifted.wells == 16
    (sentence,) = drifted.drift
    assert sentence.startswith("controls of plate 2, 'r1': the mean ")
    flags = [bool(controls_of(_controls(8, seed=seed), _READOUTS).drift) for seed in range(300)]
    assert sum(flags) <= 3


def test_many_drifts_are_counted() -> None:
    wells = _controls(8).assign(**dict.fromkeys(_READOUTS, np.linspace(5.0, 5.1, 8)))
    more = pd.concat([wells, wells.assign(plate="2")])
    assert controls_of(more, _READOUTS).drift[-1] == "and 3 more drifts of controls"
