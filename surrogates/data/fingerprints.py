"""Descriptors of compounds: Morgan fingerprints of their structures."""

from collections.abc import Mapping
from pathlib import Path

import pandas as pd
import torch

from surrogates.data.descriptors import Descriptors
from surrogates.errors import DataError


def fingerprints(smiles: Mapping[str, str], *, radius: int = 2, size: int = 2048) -> Descriptors:
    """Describe compounds by hashed circular substructures [Rogers and Hahn 2010], compared by Jaccard (Tanimoto).

    Args:
        smiles: From the name of each compound to its structure.
        radius: Bonds around each atom.
        size: Number of bits.

    Returns:
        The descriptor ``morgan``.

    Raises:
        DataError: If RDKit is not installed, or a structure cannot be read; the message names all of them.
    """
    try:
        from rdkit import Chem, rdBase  # noqa: PLC0415 - an optional extra
        from rdkit.Chem.rdFingerprintGenerator import GetMorganGenerator  # noqa: PLC0415
    except ImportError as error:
        raise DataError(
            "fingerprints need RDKit, which is not installed; install the extra 'inverse-design[drugs]'"
        ) from error
    with rdBase.BlockLogs():  # its complaints are collected into one error
        molecules = {name: Chem.MolFromSmiles(text) if text else None for name, text in smiles.items()}
    if bad := [f"{name!r} ({smiles[name]!r})" for name, molecule in molecules.items() if molecule is None]:
        raise DataError(f"{len(bad)} SMILES cannot be read: {', '.join(bad)}; correct or remove them")
    generator = GetMorganGenerator(radius=radius, fpSize=size)
    bits = [generator.GetFingerprintAsNumPy(molecule) for molecule in molecules.values()]
    vectors = torch.tensor([row.tolist() for row in bits], dtype=torch.float64).reshape(len(bits), -1)
    return Descriptors("morgan", "jaccard", tuple(molecules), vectors)


def read_smiles(path: Path) -> dict[str, str]:
    """Read a table of compounds.

    Args:
        path: A CSV file with columns ``drug`` and ``smiles``.

    Returns:
        From each name to its structure.

    Raises:
        DataError: If a column is missing or a compound occurs twice.
    """
    table = pd.read_csv(path, dtype=str, keep_default_na=False)
    if missing := [column for column in ("drug", "smiles") if column not in table]:
        raise DataError(f"{path} has no column {missing[0]!r}; it has {', '.join(table.columns)}")
    if (twice := table["drug"][table["drug"].duplicated()]).size:
        raise DataError(f"compound {twice.iloc[0]!r} occurs twice in {path}; keep one row of it")
    return dict(zip(table["drug"], table["smiles"], strict=True))
