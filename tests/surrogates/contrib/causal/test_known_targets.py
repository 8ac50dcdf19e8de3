"""Direct effects of drugs that are known: a drug never given is predicted from others that share its targets."""

from typing import Any

import pandas as pd
import pytest
import torch
from strategies.screens import normal

from benchmarks.forward.leave_one_drug import TARGETS_OF_LONG, long_world, split
from surrogates.contrib.causal.design import VIRTUAL, Sources, targets_from
from surrogates.contrib.causal.model import Causal, paths
from surrogates.data.perturbation import Perturbation
from surrogates.data.screen import Screen
from surrogates.errors import DataError, UnknownNameError
from surrogates.testing import check_surrogate

TABLE = pd.DataFrame({"drug": ["d1", "d2", "d2"], "readout": ["a", "a", "b"], "weight": [-1.0, -0.5, 2.0]})
SINGLES = ["d1:compound@4", "d1:compound@2", "d2:compound@1", "other:compound@1"]


def screen() -> Screen:
    return Screen.from_labels(
        torch.arange(12.0, dtype=torch.float64).reshape(4, 3),
        [Perturbation.parse(each) for each in SINGLES],
        ["a", "b", "c"],
    )


def test_inputs_are_the_stated_weights_in_proportion_to_the_dose() -> None:
    sources = Sources.of(screen(), regulators=(), variable=0, targets=targets_from(TABLE))
    assert sources.names == ("a", "b", "other")
    assert sources.columns.tolist() == [0, 1, VIRTUAL]
    assert sources.known.tolist() == [True, True, False]
    assert sources.inputs(screen().batch).tolist() == [[-1, 0, 0], [-0.5, 0, 0], [-0.5, 2, 0], [0, 0, 1]]


def test_a_drug_never_given_is_predicted_from_its_targets() -> None:
    """Drugs of the published simulation: the estimator reduces to ``(M' M)^-1 M' X`` [Long 2025]."""
    world = long_world(seed=0)
    held = split(world, "D07", "without_drug")
    train, test = world.rows(held.train), world.rows(held.test)
    fitted = Causal(targets=TARGETS_OF_LONG).fit(train, seed=0)
    sources = Sources.of(train, regulators=(), variable=0, targets=TARGETS_OF_LONG)
    expected = sources.inputs(test.batch) @ torch.linalg.lstsq(sources.inputs(train.batch), train.effects).solution
    predicted = fitted.predict(test.batch).mean
    torch.testing.assert_close(predicted, expected)
    assert float(torch.corrcoef(torch.stack([predicted.flatten(), test.effects.flatten()]))[0, 1]) > 0.95
    found = paths(fitted, "D07", "X1")
    assert found["contribution"].sum() == pytest.approx(found.attrs["total"])


def test_the_contract_holds_with_targets() -> None:
    labels = [*SINGLES, "d1:compound@4+d2:compound@1", "d1:compound@4+other:compound@1"]
    given = Screen.from_labels(
        normal(6, 3, seed=0), [Perturbation.parse(each) for each in labels], ["a", "b", "c"]
    )
    check_surrogate(Causal(targets=targets_from(TABLE)), given, seed=0)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        pytest.param({"weight": [1.0, 2.0, "x"]}, "weight 'x'", id="no number"),
        pytest.param({"weight": [1.0, 2.0, 0.0]}, "target 'b' of 'd2' has the weight", id="zero"),
        pytest.param({"readout": ["a", "a", "a"]}, "'a' of 'd2' is stated twice", id="twice"),
        pytest.param({"readout": ["a", None, "a"]}, "state a number", id="gap"),
    ],
)
def test_wrong_tables_are_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(DataError, match=message):
        targets_from(TABLE.assign(**change))


def test_missing_columns_and_unknown_readouts_are_refused() -> None:
    with pytest.raises(DataError, match="'weight' is missing"):
        targets_from(TABLE.drop(columns="weight"))
    with pytest.raises(UnknownNameError, match="readout among the targets 'B'"):
        Causal(targets=(("d1", (("B", 1.0),)),)).fit(screen(), seed=0)


def test_a_gene_that_is_perturbed_itself_must_be_stated_too() -> None:
    labels = [Perturbation.parse(each) for each in ("d1:compound@4", "a:knockdown", "b:knockdown")]
    both = Screen.from_labels(torch.arange(9.0, dtype=torch.float64).reshape(3, 3), labels, ["a", "b", "c"])
    with pytest.raises(DataError, match="'a' is perturbed itself"):
        Causal(targets=(("d1", (("a", 1.0),)),)).fit(both, seed=0)


def test_targets_that_were_not_read_from_a_table_are_checked_too() -> None:
    with pytest.raises(DataError, match="a drug stands twice"):
        Causal(targets=(("d", (("a", 1.0),)), ("d", (("b", 1.0),))))
    with pytest.raises(DataError, match="targets of 'd' have a weight that is no finite number"):
        Causal(targets=(("d", (("a", float("nan")),)),))
