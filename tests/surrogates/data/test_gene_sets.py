import math
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest

from surrogates.data import descriptors
from surrogates.data.descriptors import by_rarity, gene_descriptors
from surrogates.data.perturbation import Intervention
from surrogates.data.vocabulary import Vocabulary

MEMBERS = pd.DataFrame(
    [("A", "s1", 1.0), ("B", "s1", -1.0), ("B", "s2", 1.0), ("C", "s2", 1.0), ("C", "s3", 1.0), ("A", "s4", 1.0),
     ("B", "s4", 1.0), ("C", "s4", 1.0), ("C", "s3", 1.0)],
    columns=["gene", "feature", "weight"],
)  # fmt: skip


def test_rare_sets_weigh_more_and_common_ones_nothing() -> None:
    made = by_rarity(MEMBERS)
    found = {(gene, name): weight for gene, name, weight in made.itertuples(index=False)}
    # s1 and s2 hold two genes of three, s3 one (listed twice), s4 all.
    two, one = math.sqrt(math.log(3 / 2)), math.sqrt(math.log(3))
    assert found == pytest.approx(
        {("A", "s1"): two, ("B", "s1"): -two, ("B", "s2"): two, ("C", "s2"): two, ("C", "s3"): one}
    )
    assert len(made) == 5


def test_without_the_tables_there_are_no_descriptors(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(descriptors, "is_available", lambda _: False)
    assert gene_descriptors(["KLF1"]) == ()


@pytest.mark.real_data
def test_shipped_descriptors_of_real_genes(real_data: Callable[[str], Path]) -> None:
    real_data("gene_features")
    targets = ["KLF1", "CEBPA", "CEBPB", "DUSP9", "C19orf26", "NO_SUCH_GENE"]
    made = {each.name: each for each in gene_descriptors(targets)}
    assert set(made) == {"go", "regulated", "regulators", "gene_names"}
    words = Vocabulary(tuple(map(Intervention, targets)))
    assert made["gene_names"].unresolved(words) == ("NO_SUCH_GENE",)  # C19orf26 is CBARP today
    assert set(made["regulated"].unresolved(words)) == {"C19orf26", "DUSP9", "NO_SUCH_GENE"}
    coordinates, _ = made["gene_names"].coordinates(words, rank=9)
    a, b, klf = (coordinates[words.id(name)] for name in ("CEBPA", "CEBPB", "KLF1"))
    assert a @ b > 0.5 > 2 * (a @ klf)
    assert gene_descriptors(["NO_SUCH_GENE"]) == ()
