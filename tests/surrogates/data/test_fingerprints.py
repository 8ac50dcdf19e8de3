import sys
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
from rdkit import Chem, DataStructs
from rdkit.Chem.rdFingerprintGenerator import GetMorganGenerator

from surrogates.data.descriptors import fingerprints
from surrogates.data.perturbation import Intervention
from surrogates.data.vocabulary import Vocabulary
from surrogates.errors import DataError


def test_similar_structures_have_similar_fingerprints() -> None:
    made = fingerprints({"ethanol": "CCO", "spirit": "OCC", "propanol": "CCCO", "benzene": "c1ccccc1"})
    words = Vocabulary(tuple(Intervention(name, "compound") for name in made.symbols))
    coordinates, _ = made.coordinates(words, rank=9)
    at = {name: coordinates[words.id(name)] for name in made.symbols}
    assert float(at["ethanol"] @ at["spirit"]) == pytest.approx(1)
    assert 0.2 < float(at["ethanol"] @ at["propanol"]) < 1
    assert float(at["ethanol"] @ at["benzene"]) == pytest.approx(0, abs=1e-9)


def test_similarity_is_that_of_rdkit() -> None:
    smiles = {"a": "CC(=O)Oc1ccccc1C(=O)O", "b": "OC(=O)c1ccccc1O"}
    bits = [
        GetMorganGenerator(radius=2, fpSize=2048).GetFingerprint(Chem.MolFromSmiles(s)) for s in smiles.values()
    ]
    words = Vocabulary(tuple(Intervention(name, "compound") for name in smiles))
    one, other = fingerprints(smiles).coordinates(words, rank=9)[0]
    assert float(one @ other) == pytest.approx(DataStructs.TanimotoSimilarity(*bits))


def test_structures_that_cannot_be_read_are_all_named(capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(DataError, match=r"2 SMILES cannot be read: 'x' \('C1CC'\), 'y' \(''\)"):
        fingerprints({"x": "C1CC", "fine": "CC", "y": ""})
    assert capfd.readouterr().err == ""


def test_without_rdkit_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "rdkit", None)
    with pytest.raises(DataError, match=r"inverse-design\[drugs\]"):
        fingerprints({"x": "CC"})


@pytest.mark.real_data
def test_all_drugs_of_oneil2016_have_fingerprints(real_data: Callable[[str], Path]) -> None:
    drugs = pd.read_csv(real_data("oneil2016_synergy") / "drugs.csv", dtype=str, keep_default_na=False)
    made = fingerprints(dict(drugs[["drug", "smiles"]].to_numpy()))
    assert len(made.symbols) == 36
    assert (made.vectors.sum(1) > 5).all()
