"""The double knock-down screen of Laufer et al. 2013 as one screen of singles and pairs."""

from pathlib import Path

import numpy as np
import pandas as pd
import torch

from surrogates.data.perturbation import Intervention, Perturbation
from surrogates.data.screen import Screen
from surrogates.data.sources import sha256_of

PAIR = ["first", "second"]


def open_laufer(folder: Path) -> Screen:
    """Join the pairs with the authors' single effects.

    The pairs are on a scale whose origin is not the control: a pair is the sum of its single effects plus an
    offset. The offset is estimated as the mean difference between a query beside a negative control and the
    single effect of that query, and removed. Pairs measured in both roles are averaged.

    Args:
        folder: Where ``pairs.parquet`` and ``main_effects.csv.gz`` are.

    Returns:
        288 singles and 5,535 pairs of 11 features, with standard errors.
    """
    files = [folder / "pairs.parquet", folder / "main_effects.csv.gz"]
    table, singles = pd.read_parquet(files[0]), pd.read_csv(files[1])
    features = list(singles.columns[2:])
    pairs = table[table["kind"] == "pair"].reset_index(drop=True)
    spreads = pairs[[f"{feature}__sd" for feature in features]].to_numpy(np.float64)
    squared = pd.DataFrame(spreads**2 / pairs[["n_wells"]].to_numpy(), columns=features)
    alone, alone_squared = _singles(singles, pairs, squared, features)
    together = pairs[features] - _offset(table, singles, features)
    both, both_squared = _pairs(pairs, together, squared)
    done = [Perturbation((_knockdown(str(gene)),)) for gene in alone.index]
    done += [Perturbation((_knockdown(first), _knockdown(second))) for first, second in both.index]
    effects = np.concatenate([alone.to_numpy(np.float64), both.to_numpy(np.float64)])
    errors = np.sqrt(np.concatenate([alone_squared.to_numpy(np.float64), both_squared.to_numpy(np.float64)]))
    return Screen.from_labels(
        torch.from_numpy(effects),
        done,
        features,
        standard_errors=torch.from_numpy(errors),
        provenance={
            "source": ", ".join(file.name for file in files),
            "sha256": ", ".join(sha256_of(file) for file in files),
            "standard errors": "of pairs: spread over wells; of singles: that of the mean over their partners",
            "origin": "pairs: minus the mean offset between queries beside a control and single effects",
            "averaged": f"{len(pairs) - len(both)} pairs measured in both roles; 14 singles from the query role",
            "dropped rows by kind": "14 of kind 'same_gene', 20 of kind 'single_query', 7 negative controls",
        },
    )


def _knockdown(gene: str) -> Intervention:
    return Intervention(gene, "knockdown")


def _offset(table: pd.DataFrame, singles: pd.DataFrame, features: list[str]) -> pd.Series:
    beside_control = table[table["kind"] == "single_query"].set_index("query")[features]
    alone = singles[singles["role"] == "query"].set_index("gene")[features]
    return (beside_control - alone).mean()


def _singles(
    singles: pd.DataFrame, pairs: pd.DataFrame, squared: pd.DataFrame, features: list[str]
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Take the query role, averaged over most partners, where a gene has both roles."""
    measured = singles[singles["gene"] != "negctrl"].sort_values("role", kind="stable")
    chosen = measured.drop_duplicates("gene").set_index("gene")
    by_role = {}
    for role in ("query", "target"):
        grouped = squared.groupby(pairs[role])
        by_role[role] = grouped.sum().div(grouped.size() ** 2, axis=0)
    spread = pd.concat([by_role[role].loc[chosen.index[chosen["role"] == role]] for role in by_role])
    return chosen[features], spread.loc[chosen.index]


def _pairs(
    pairs: pd.DataFrame, together: pd.DataFrame, squared: pd.DataFrame
) -> tuple[pd.DataFrame, pd.DataFrame]:
    ordered = pd.DataFrame(np.sort(pairs[["target", "query"]].to_numpy(dtype=str), axis=1), columns=PAIR)
    keys = [ordered[name] for name in PAIR]
    grouped = squared.groupby(keys)
    counts = grouped.size()
    return together.groupby(keys).mean(), grouped.sum().div(counts**2, axis=0)
