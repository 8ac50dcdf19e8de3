import copy

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from strategies.screens import normal

from surrogates.data.descriptors import Descriptors, Kernel, known_to_any
from surrogates.data.perturbation import Intervention
from surrogates.data.symbols import Symbols
from surrogates.data.vocabulary import Vocabulary
from surrogates.errors import DataError

HGNC = Symbols.from_table(
    pd.DataFrame(
        {"symbol": ["A", "B", "C"], "previous_symbols": ["OLDA", "", ""], "alias_symbols": ["", "X", "X,NICK"]}
    )
)


def vocabulary(*names: str) -> Vocabulary:
    return Vocabulary(tuple(Intervention.parse(name) for name in names))


def table(rows: dict[str, list[float]]) -> pd.DataFrame:
    return pd.DataFrame.from_dict(rows, orient="index")


def test_entries_are_looked_up_by_target_at_any_dose() -> None:
    made = Descriptors.from_table(table({"B": [1, 2], "A": [3, 4]}), name="mine")
    vectors, known = made.of(vocabulary("A", "A@0.5", "B", "Z"))
    assert vectors.tolist() == [[3, 4], [3, 4], [1, 2], [0, 0]]
    assert known.tolist() == [True, True, True, False]
    assert made.unresolved(vocabulary("A", "Z", "Z@2")) == ("Z",)


def test_other_names_are_resolved_on_both_sides() -> None:
    made = Descriptors.from_table(table({"OLDA": [1.0], "NICK": [2.0], "X": [9.0]}), name="mine", resolver=HGNC)
    words = vocabulary("A", "C", "X", "B")
    vectors, known = made.of(words)
    assert dict(zip(words.targets, vectors[:, 0].tolist(), strict=True)) == {"A": 1, "C": 2, "X": 9, "B": 0}
    assert made.unresolved(words) == ("B",)  # X may be B or C: its own name counts only
    assert known_to_any([made], words).tolist() == known.tolist()


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (pd.DataFrame({"x": [1.0, 1.0]}, index=["A", "A"]), "'A' occurs twice"),
        (pd.DataFrame({"x": [1.0, 2.0]}, index=["A", "A"]), "'A' occurs twice"),
        (pd.DataFrame({"x": [1.0, np.nan]}, index=["A", "B"]), "not finite, the first is nan for 'B', column 0"),
        (pd.DataFrame({"x": [np.inf, 1.0]}, index=["A", "B"]), "first is inf for 'A'"),
        (pd.DataFrame({"x": [], "y": []}), "describes nothing"),
        (pd.DataFrame(index=["A"]), "describes nothing"),
        (pd.DataFrame({"x": ["one"], "y": [1.0]}, index=["A"]), "column 'x' .* not numbers"),
        (pd.DataFrame({"x": [1.0, 2.0]}, index=["OLDA", "A"]), "'OLDA' and 'A' .* are one gene, 'A'"),
    ],
)
def test_bad_tables_are_refused(bad: pd.DataFrame, message: str) -> None:
    with pytest.raises(DataError, match=message):
        Descriptors.from_table(bad, name="mine", resolver=HGNC)


def test_shapes_are_checked() -> None:
    with pytest.raises(DataError, match="1 vectors for 2 symbols"):
        Descriptors("mine", "rbf", ("A", "B"), torch.ones(1, 1))


def test_descriptors_are_equal_when_their_contents_are() -> None:
    made = Descriptors("mine", "rbf", ("A", "B"), normal(2, 3, seed=0))
    assert made == copy.deepcopy(made)
    assert hash(made) == hash(copy.deepcopy(made))
    assert made != Descriptors("mine", "rbf", ("A", "B"), normal(2, 3, seed=1))
    assert made != Descriptors("mine", "cosine", ("A", "B"), normal(2, 3, seed=0))


def similarity(one: np.ndarray, other: np.ndarray, kernel: str, length: float) -> float:
    """Compare two vectors the obvious way."""
    if kernel == "jaccard":
        both, either = ((one != 0) & (other != 0)).sum(), ((one != 0) | (other != 0)).sum()
        return float(both / either) if either else 0.0
    if kernel == "rbf":
        return float(np.exp(-((one - other) ** 2).sum() / length**2 / 2))
    product = float(one @ other)
    return product if kernel == "linear" else product / float(np.linalg.norm(one) * np.linalg.norm(other))


@given(st.sampled_from(["linear", "cosine", "jaccard", "rbf"]), st.integers(0, 99))
def test_inner_products_of_coordinates_are_the_kernel(kernel: Kernel, seed: int) -> None:
    vectors = normal(6, 4, seed=seed) * (normal(6, 4, seed=seed + 100) > -0.5)
    vectors[:, 0] += 3.0
    names = tuple("ABCDEF")
    made = Descriptors("mine", kernel, names, vectors)
    words = vocabulary(*names, "A@0.5", "Z")
    coordinates, known = made.coordinates(words, rank=99)
    apart = [float((vectors[i] - vectors[j]).norm()) for i in range(6) for j in range(6) if i != j]
    length = float(torch.tensor(apart).median())
    given_vectors, _ = made.of(words)
    for i in range(len(words)):
        for j in range(len(words)):
            both = bool(known[i] & known[j])
            one, other = given_vectors[i].numpy(), given_vectors[j].numpy()
            expected = similarity(one, other, kernel, length) if both else 0.0
            assert float(coordinates[i] @ coordinates[j]) == pytest.approx(expected, abs=1e-6, rel=1e-6)


def test_leading_coordinates_are_kept_and_strangers_are_nowhere() -> None:
    made = Descriptors("mine", "linear", ("A", "B", "C"), torch.diag(torch.tensor([3.0, 2.0, 1.0])).double())
    coordinates, _ = made.coordinates(vocabulary("A", "B", "C"), rank=2)
    torch.testing.assert_close(coordinates, torch.tensor([[3.0, 0], [0, 2], [0, 0]]).double())
    nowhere, known = made.coordinates(vocabulary("Y", "Z"), rank=2)
    assert nowhere.shape == (2, 0)
    assert not known.any()


def test_many_targets_are_placed_by_landmarks() -> None:
    names = tuple(f"G{number:04d}" for number in range(700))
    vectors = normal(700, 3, seed=0)
    coordinates, _ = Descriptors("mine", "linear", names, vectors).coordinates(vocabulary(*names), rank=8)
    assert coordinates.shape == (700, 3)
    torch.testing.assert_close(coordinates @ coordinates.T, vectors @ vectors.T)
