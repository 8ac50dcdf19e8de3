"""The public bundle of the screen of Norman et al. 2019, for machines without the reshaped dataset."""

import zipfile
from pathlib import Path

import numpy as np
import torch

from surrogates.data.perturbation import Perturbation
from surrogates.data.screen import Screen
from surrogates.data.sources import PublicFile, sha256_of
from surrogates.errors import DataError

NORMAN_BUNDLE = PublicFile(
    repository="MasalaKimchi/cell-state-reachability",
    commit="9b7a2b195e5e573c9b8a465cce9e9786e033aaf8",
    path="notebooks/cache/norman_effect_bundle.npz",
    sha256="8979d2ff3ea4e110f0e48f6342d0766c90036fe9876b9de53c93a8a401ec6f12",
)


def open_norman_bundle(path: Path) -> Screen:
    """Read the public bundle of ``norman2019_expr``, which has effects and names, but no fixed folds.

    Args:
        path: An ``.npz`` file.

    Returns:
        104 singles and 130 doubles of 2,000 genes.

    Raises:
        DataError: If the file lacks one of its arrays, or holds Python objects.
    """
    try:
        with np.load(path, allow_pickle=False) as bundle:
            effects = np.concatenate([bundle["lfc_s"], bundle["lfc_d"]]).astype(np.float64)
            labels = [str(label) for key in ("sing_labels", "doub_labels") for label in bundle[key]]
            genes = [str(gene) for gene in bundle["genes_hvg"]]
    except (KeyError, ValueError, OSError, zipfile.BadZipFile) as error:
        raise DataError(f"{path.name!r} is not the known bundle of effects: {error}") from error
    return Screen.from_labels(
        torch.from_numpy(effects),
        [Perturbation.parse(label) for label in labels],
        genes,
        contexts=["K562"] * len(labels),
        provenance={
            "source": path.name,
            "sha256": sha256_of(path),
        },
    )
