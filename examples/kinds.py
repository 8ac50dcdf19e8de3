"""Write one small simulated file of each kind of screen: cells, effects, growth, drug doses, L1000 signatures."""

from itertools import combinations
from pathlib import Path

import anndata
import numpy as np
import pandas as pd

GENES = ("CEBPE", "GATA1", "HLA-A", "KLF1", "MYC", "TP53")
DRUGS = ("Ispinesib", "JQ1", "SAHA", "Trametinib")
RNG = np.random.default_rng(0)


def effects(names: tuple[str, ...], join: str, readouts: int = 10) -> pd.DataFrame:
    """Singles, and pairs whose effects are a little less than the sums of these; the last two are not measured."""
    alone = {name: RNG.normal(size=readouts) for name in names}
    pairs = {
        join.join(pair): 0.9 * (alone[pair[0]] + alone[pair[1]]) for pair in list(combinations(names, 2))[:-2]
    }
    table = pd.DataFrame({**alone, **pairs}).T + RNG.normal(size=(len(names) + len(pairs), readouts)) * 0.1
    return table.set_axis([f"R{number:02d}" for number in range(readouts)], axis=1)


def write() -> None:
    """Write the files into the working directory."""
    table = effects(GENES, "_")
    labels = np.repeat([*table.index, "non-targeting"], 12)
    means = np.vstack([table.to_numpy(), np.zeros((1, table.shape[1]))]).repeat(12, axis=0)
    counts = RNG.poisson(np.exp(2 + 0.4 * means) * RNG.uniform(0.5, 2, size=(len(means), 1))).astype(np.float32)
    obs = pd.DataFrame({"gene": labels}, index=[f"cell{number}" for number in range(len(labels))])
    anndata.AnnData(counts, obs=obs, var=pd.DataFrame(index=list(table.columns))).write_h5ad("cells.h5ad")

    both = [table.assign(replicate=number) + RNG.normal(size=(len(table), 1)) * 0.05 for number in (1.0, 2.0)]
    wide = pd.concat([each.assign(replicate=f"r{number}") for number, each in enumerate(both)])
    wide = wide.rename(index=lambda label: label.replace("_", "+"))
    wide.to_csv("effects.csv", index_label="condition", sep=";", decimal=",")

    growth = effects(GENES, "|", readouts=1)["R00"]
    rows = [[*label.split("|"), "non-targeting"][:2] for label in growth.index]
    pairs = pd.DataFrame(rows, columns=["gene1", "gene2"]).assign(score=growth.to_numpy())
    pairs.to_csv("growth.tsv", sep="\t", index=False)
    Path("growth.toml").write_text('kind = "scalar"\nreadout = "score"\ngoal = "minimise"\n')

    doses, curve = (0.0, 0.5, 5.0), {0.0: 0.0, 0.5: 0.6, 5.0: 1.0}
    whole = effects(DRUGS, "|", readouts=4)
    matrix = [
        {"drug_1": one, "drug_2": other, "dose_1": first, "dose_2": second}
        | dict(zip(whole.columns, curve[first] * whole.loc[one] + curve[second] * whole.loc[other], strict=True))
        for one, other in combinations(DRUGS, 2)
        for first in doses
        for second in doses
        if (first or second) and not (first and second and (one, other) == ("SAHA", "Trametinib"))
    ]
    pd.DataFrame(matrix).to_csv("drugs.csv", index=False)
    Path("drugs.toml").write_text('kind = "scalar"\nreadout = "R00"\ngoal = "maximise"\n')

    signatures = effects(GENES, "+").iloc[: len(GENES)]
    signatures.loc["DMSO"] = 0.0
    lines = ["#1.3", f"{signatures.shape[1]}\t{len(signatures)}\t0\t2"]
    lines += ["\t".join(["id", *map("sig{}".format, range(len(signatures)))])]
    lines += ["\t".join(["pert_iname", *signatures.index]), "\t".join(["cell_id", *["A375"] * len(signatures)])]
    lines += ["\t".join([name, *map(str, signatures[name].round(4))]) for name in signatures]
    Path("l1000.gct").write_text("\n".join(lines) + "\n")
    wanted = (signatures.loc["KLF1"] + signatures.loc["MYC"]).rename("value").rename_axis("readout")
    wanted.to_csv("l1000.csv")


if __name__ == "__main__":
    write()
