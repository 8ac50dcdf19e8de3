"""Layouts of two public challenges: OP3 (Open Problems perturbation prediction) and the Virtual Cell Challenge."""

from pathlib import Path

import anndata
import numpy as np
import pandas as pd
import pytest
from scipy import sparse
from strategies.worlds import command

from surrogates.data.io.readers import read_screen
from surrogates.errors import DataError

CELL_TYPES = ("NK cells", "T cells CD4+", "Myeloid cells")
DRUGS = (
    "Belinostat",
    "R428",
    "5-(9-Isopropyl-8-methyl-2-morpholino-9H-purin-6-yl)pyrimidin-2-amine",
    "LDN 193189",
)
GENES = ("A1BG", "A1BG-AS1", "NKX2-1", "HLA-A")
RNG = np.random.default_rng(0)


def signed_p_values() -> tuple[pd.DataFrame, pd.DataFrame]:
    """What was done in each row, and its values; ``control`` marks drugs with a known effect, not the vehicle."""
    rows = [
        (cell, drug, f"LSM-{number}", "CC(=O)N[C@@H]1CC", drug == "Belinostat")
        for cell in CELL_TYPES
        for number, drug in enumerate(DRUGS)
        if (cell, drug) != ("Myeloid cells", "R428")
    ]
    design = pd.DataFrame(rows, columns=["cell_type", "sm_name", "sm_lincs_id", "SMILES", "control"])
    return design, pd.DataFrame(RNG.normal(size=(len(rows), len(GENES))), columns=list(GENES))


@pytest.mark.parametrize("ending", ["parquet", "csv"])
def test_the_effects_of_op3_are_read_by_cell_type(tmp_path: Path, ending: str) -> None:
    design, values = signed_p_values()
    path, table = tmp_path / f"de_train.{ending}", pd.concat([design, values], axis=1)
    table.to_parquet(path) if ending == "parquet" else table.to_csv(path)
    screen = read_screen(path)
    assert screen.readouts == GENES
    assert screen.contexts == tuple(design["cell_type"])
    assert [label.strip('"') for label in screen.labels] == list(design["sm_name"])
    np.testing.assert_allclose(screen.effects, values)
    assert screen.provenance["detected control"] == "none"
    assert {entry.mode for entry in screen.vocabulary.entries} == {"compound"}


def test_the_layers_of_op3_are_named_where_there_is_no_x(tmp_path: Path) -> None:
    design, values = signed_p_values()
    layers = {"logFC": values.to_numpy(), "clipped_sign_log10_pval": values.to_numpy() * 2}
    obs = design.assign(dose_uM=1.0, timepoint_hr=24).set_axis(design.index.map(str))
    anndata.AnnData(obs=obs, var=pd.DataFrame(index=list(GENES)), layers=layers).write_h5ad(tmp_path / "de.h5ad")
    with pytest.raises(DataError, match="name one of its layers, clipped_sign_log10_pval, logFC, with layer_key="):
        read_screen(tmp_path / "de.h5ad")
    screen = read_screen(tmp_path / "de.h5ad", layer_key="clipped_sign_log10_pval")
    np.testing.assert_allclose(screen.effects, values * 2)


def test_the_cells_of_op3_have_a_vehicle_and_wells(tmp_path: Path) -> None:
    drugs = np.tile(["Dimethyl Sulfoxide", "R428", "Belinostat", "LDN 193189"], 30)
    obs = pd.DataFrame(
        {
            "sm_name": pd.Categorical(drugs),
            "cell_type": np.repeat(["NK cells", "B cells"], 60),
            "dose_uM": np.where(drugs == "Belinostat", 0.1, 1.0),
            "row": np.tile(list("ABC"), 40),
            "col": np.arange(120) % 12 + 1,
            "control": drugs != "R428",
        },
        index=[f"c{row}" for row in range(120)],
    )
    counts = sparse.csr_matrix(RNG.poisson(3, (120, 4)).astype(np.float32))
    anndata.AnnData(counts, obs=obs, var=pd.DataFrame(index=list(GENES))).write_h5ad(tmp_path / "sc.h5ad")
    screen = read_screen(tmp_path / "sc.h5ad", normalise=True)
    assert sorted(set(screen.labels)) == ["Belinostat@0.1", "LDN 193189", "R428"]
    assert sorted(set(screen.contexts)) == ["B cells", "NK cells"]
    assert screen.provenance["detected control"] == "'Dimethyl Sulfoxide' (a known control label)"


@pytest.mark.parametrize("kind", ["counts", "logarithms"])
def test_a_virtual_cell_challenge_leads_to_a_proposal(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], kind: str
) -> None:
    counts = kind == "counts"
    targets = np.tile(["non-targeting", "KLF1", "NKX2-1", "HLA-A", "SPI1", "MYC"], 40)
    effects = dict(zip(np.unique(targets), RNG.normal(size=(6, 12)), strict=True)) | {
        "non-targeting": np.zeros(12)
    }
    means = np.stack([effects[target] for target in targets])
    cells = RNG.poisson(np.exp(2 + 0.5 * means)).astype(np.float32)
    values = cells if counts else np.log1p(cells / cells.sum(axis=1, keepdims=True) * 100)
    obs = pd.DataFrame(
        {
            "target_gene": pd.Categorical(targets),
            "guide_id": [f"{target}_P1P2_A|{target}_P1P2_B" for target in targets],
            "batch": pd.Categorical(np.repeat(["Flex_1_01", "Flex_2_02"], 120)),
        },
        index=[f"AAAC-Flex_{row}" for row in range(240)],
    )
    var = pd.DataFrame(
        {"gene_id": [f"ENSG{row:011d}" for row in range(12)]}, index=[f"R{row}" for row in range(12)]
    )
    path = tmp_path / "vcc.h5ad"
    anndata.AnnData(sparse.csr_matrix(values), obs=obs, var=var).write_h5ad(path)
    screen = read_screen(path, normalise=True if counts else None)
    assert set(screen.labels) == {"KLF1", "NKX2-1", "HLA-A", "SPI1", "MYC"}
    assert ("note of counts" in read_screen(path).provenance) is counts
    wanted = (effects["KLF1"] + effects["MYC"]) / 2
    pd.DataFrame({"readout": screen.readouts, "value": wanted}).to_csv(tmp_path / "target.csv", index=False)
    words = f"propose {path} --target {tmp_path / 'target.csv'} --mode knockdown --batch-col batch".split()
    if counts:
        assert command(*words) == 3
        assert "--normalise" in capsys.readouterr().err
        words.append("--normalise")
    assert command(*words) == 0
    assert "KLF1+MYC" in capsys.readouterr().out
