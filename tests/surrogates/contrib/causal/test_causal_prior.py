import warnings

import pandas as pd
import pytest
import torch

from surrogates.contrib.causal.model import PriorGraph
from surrogates.errors import DataError

TABLE = pd.DataFrame({"source": ["A", "A", "B"], "target": ["B", "C", "C"], "weight": [1.0, -2.0, 0.0]})


def test_known_edges_are_penalised_less_whatever_their_sign() -> None:
    factors = PriorGraph.from_table(TABLE, discount=0.5).factors(["A", "B"], ["A", "B", "C"])
    assert factors.tolist() == [[1.0, 0.5, 0.25], [1.0, 1.0, 1.0]]


def test_an_edge_that_occurs_twice_keeps_its_largest_weight() -> None:
    twice = pd.concat([TABLE, TABLE.assign(weight=0.1)])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        factors = PriorGraph.from_table(twice).factors(["A", "B"], ["B", "C"])
    assert factors[0].tolist() == [0.5, 0.25]


def test_a_table_without_weights_has_weights_of_one() -> None:
    assert PriorGraph.from_table(TABLE[["source", "target"]]).edges[0] == ("A", "B", 1.0)


def test_unknown_names_are_counted_and_the_known_edges_used() -> None:
    with pytest.warns(
        UserWarning, match=r"1 names of the prior graph are not in the screen, such as C; 1 of 3 edges"
    ):
        factors = PriorGraph.from_table(TABLE).factors(["A", "B"], ["A", "B"])
    torch.testing.assert_close(factors, torch.tensor([[1.0, 0.5], [1.0, 1.0]], dtype=torch.float64))


def test_a_graph_of_which_nothing_is_known_is_refused() -> None:
    with pytest.raises(DataError, match=r"none of the 3 edges .* 3 of its names are unknown here \(A, B, C\)"):
        PriorGraph.from_table(TABLE).factors(["X"], ["Y"])


@pytest.mark.parametrize(
    ("table", "message"),
    [
        (TABLE.drop(columns="target"), "missing: target"),
        (TABLE.assign(source=["A", None, "B"]), r"1 edge\(s\) of the prior graph have no name"),
        (TABLE.assign(weight=[1.0, float("nan"), 1.0]), r"1 edge\(s\) of the prior graph have no finite weight"),
    ],
)
def test_malformed_tables_are_refused(table: pd.DataFrame, message: str) -> None:
    with pytest.raises(DataError, match=message):
        PriorGraph.from_table(table)


@pytest.mark.parametrize("discount", [0.0, 1.5, -1.0])
def test_a_discount_out_of_range_is_refused(discount: float) -> None:
    with pytest.raises(DataError, match="discount"):
        PriorGraph((), discount=discount)
