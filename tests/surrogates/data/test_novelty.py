import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from surrogates.data.novelty import SEEN_DOUBLE, SEEN_SINGLE, novelty_code, novelty_name
from surrogates.data.vocabulary import PerturbationBatch

sets = st.lists(st.sets(st.integers(0, 5), max_size=4), max_size=6)


@given(sets=sets, seen=st.lists(st.booleans(), min_size=6, max_size=6))
def test_code_counts_parts_and_parts_seen(sets: list[set[int]], seen: list[bool]) -> None:
    rows = [sorted(one) + [-1] * (4 - len(one)) for one in sets]
    genes = torch.tensor(rows, dtype=torch.int64).reshape(len(sets), 4)
    codes = novelty_code(PerturbationBatch(genes, torch.zeros(genes.shape)), torch.tensor(seen))
    assert codes.tolist() == [16 * len(one) + sum(seen[part] for part in one) for one in sets]


def test_an_empty_slot_never_counts_as_the_first_entry() -> None:
    batch = PerturbationBatch(torch.tensor([[1, -1]]), torch.tensor([[1.0, 0.0]]))
    assert novelty_code(batch, torch.tensor([True, False])).tolist() == [16]


@pytest.mark.parametrize(
    ("code", "name"),
    [
        (0, "control"),
        (SEEN_SINGLE, "single, seen"),
        (16, "single, unseen"),
        (SEEN_DOUBLE, "double, 2 of 2 seen"),
        (16 * 2, "double, 0 of 2 seen"),
        (16 * 3 + 1, "triple, 1 of 3 seen"),
        (16 * 5 + 5, "order 5, 5 of 5 seen"),
    ],
)
def test_names(code: int, name: str) -> None:
    assert novelty_name(code) == name
