"""A table of embeddings, stated on the command line."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from inverse_design.cli.app import main
from inverse_design.cli.door import DONE, REFUSED


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Twelve genes whose effects follow from two numbers, some pairs of them, and a gene that was never given."""
    draw = np.random.default_rng(0)
    known, loads = draw.normal(size=(13, 2)), draw.normal(size=(2, 4))
    genes = [f"G{number:02d}" for number in range(13)]
    pairs = [(0, 1), (2, 3), (4, 5), (6, 7), (8, 9), (10, 11)]
    effects = [*known[:12], *(known[i] + known[j] for i, j in pairs)] @ loads
    table = pd.DataFrame(effects + 0.01 * draw.normal(size=effects.shape), columns=[*"abcd"])
    table.insert(0, "condition", [*genes[:12], *(f"{genes[i]}+{genes[j]}" for i, j in pairs)])
    table.to_csv(tmp_path / "screen.csv", index=False)
    pd.DataFrame(known, index=genes).to_csv(tmp_path / "vectors.csv", index_label="symbol")
    (tmp_path / "list.csv").write_text("combination\nG12\nG00\nG01+G12\n")
    wanted = known[12] @ loads
    pd.DataFrame({"readout": [*"abcd"], "value": wanted}).to_csv(tmp_path / "wanted.csv", index=False)
    return tmp_path


def _rank(folder: Path, model: str) -> int:
    stated = {"--target": "wanted.csv", "--experiments": "list.csv", "--embedding": "vectors.csv"}
    options = [word for name, file in stated.items() for word in (name, str(folder / file))]
    words = ["rank", str(folder / "screen.csv"), *options, "--model", model, "--no-cache"]
    return main([*words, "-o", str(folder / "out.csv")])


def test_a_gene_that_was_never_given_is_ranked_by_its_vector(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert _rank(folder, "bilinear") == DONE
    assert "12 of 12 targets have a vector in 'vectors'" in capsys.readouterr().err
    table = pd.read_csv(folder / "out.csv").set_index("perturbation")
    assert table["distance"].idxmin() == "G12"


def test_models_that_take_no_table_are_refused(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert _rank(folder, "additive") == REFUSED
    said = " ".join(capsys.readouterr().err.split())
    assert "--embedding is of no use to 'additive' here; ask for a model that takes descriptors" in said


def test_the_measured_effects_are_no_embedding(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    effects = pd.read_csv(folder / "screen.csv").rename(columns={"condition": "symbol"}).head(12)
    effects.to_csv(folder / "vectors.csv", index=False)
    assert _rank(folder, "bilinear") == REFUSED
    said = " ".join(capsys.readouterr().err.split())
    assert "the vector of 'G00' in 'vectors' is its measured effect in the data" in said
    effects.head(0).to_csv(folder / "vectors.csv", index=False)
    assert _rank(folder, "bilinear") == REFUSED
    assert "'vectors.csv' holds no vectors" in " ".join(capsys.readouterr().err.split())


def test_a_gene_without_measurement_and_vector_is_named(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "list.csv").write_text("combination\nG12\nG01+G99\n")
    assert _rank(folder, "bilinear") == REFUSED
    said = " ".join(capsys.readouterr().err.split())
    assert "experiment 2, 'G01+G99': unknown gene or compound 'G99'" in said
    assert "it has no vector in 'vectors' either" in said
