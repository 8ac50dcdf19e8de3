"""Names of columns and techniques in use, and the values of columns as text."""

from collections.abc import Mapping

import numpy as np
import pandas as pd

from surrogates.data.perturbation import MODES, Mode

Columns = tuple[str, ...]

# Column names in use, lower case: scPerturb, GEARS, Arc, cell-eval, OP3, LINCS, sci-Plex, two-column tables.
TARGET_COLUMNS: tuple[Columns, ...] = (
    ("perturbation", "perturbation_2"), ("target_1", "target_2"), ("drug_1", "drug_2"), ("gene_1", "gene_2"),
    ("target", "query"), ("id1", "id2"), ("condition",), ("perturbation",), ("target_gene",), ("gene",),
    ("target",), ("sm_name",), ("pert_iname",), ("product_name",), ("drug",),
)  # fmt: skip
COMPOUND_COLUMNS = frozenset({"drug_1", "sm_name", "pert_iname", "product_name", "drug"})
DOSE_COLUMNS: tuple[Columns, ...] = (
    ("dose_1", "dose_2"), ("dose_value",), ("dose_val",), ("dose_um",), ("pert_dose",), ("dose",),
)  # fmt: skip
CONTEXT_COLUMNS: tuple[Columns, ...] = (
    ("cell_type",), ("celltype",), ("cell_line",), ("cell_id",), ("cell_iname",),
)  # fmt: skip
MODE_COLUMNS: tuple[Columns, ...] = (("perturbation_type",), ("modality",), ("pert_type",))
MODE_VALUES: Mapping[str, Mode] = {
    **{mode: mode for mode in MODES},
    **dict.fromkeys(("crispra", "overexpression", "orf"), "activation"),
    **dict.fromkeys(("crispri", "sirna", "shrna", "rnai"), "knockdown"),
    **dict.fromkeys(("crispr", "crispr-cas9", "crispr/cas9", "crispr-cas", "cas9"), "knockout"),
    **dict.fromkeys(("drug", "drugs", "small molecule", "trt_cp"), "compound"),
}


def as_text(column: pd.Series) -> tuple[str, ...]:
    """Write the values of a column out.

    Args:
        column: Any column.

    Returns:
        Its values without surrounding blanks, empty where one is missing, whole numbers without a point.
    """
    codes, distinct = pd.factorize(column)
    texts = [_text(value) for value in distinct]
    return tuple(np.array([*texts, ""], dtype=object)[codes])


def modes_of(column: pd.Series) -> tuple[Mode | None, ...]:
    """Read the modes of a column such as ``perturbation_type``.

    Args:
        column: Names of techniques, such as ``CRISPRi``.

    Returns:
        The mode of each row, ``None`` where the name is not known.
    """
    return tuple(MODE_VALUES.get(text.casefold()) for text in as_text(column))


def _text(value: object) -> str:
    text = str(value).strip()
    return text.removesuffix(".0") if isinstance(value, float | np.floating) else text
