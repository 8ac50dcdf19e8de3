"""What people bring to the command line is read right, or refused with the option that mends it."""

from pathlib import Path

import anndata
import numpy as np
import pandas as pd
import pytest
from strategies.worlds import command

GENES = ("GATA1", "HLA-A", "KLF1", "MYC", "TP53")
PAIRS = tuple(f"{one}_{other}" for number, one in enumerate(GENES) for other in GENES[number + 1 :])
READOUTS = tuple(f"r{number}" for number in range(6))
RNG = np.random.default_rng(2)
SINGLES = {gene: RNG.normal(size=6) for gene in GENES}
EFFECTS = (
    pd.DataFrame(
        [*SINGLES.values(), *(SINGLES[pair.split("_")[0]] + SINGLES[pair.split("_")[1]] for pair in PAIRS)],
        index=[*GENES, *PAIRS],
        columns=list(READOUTS),
    )
    + RNG.normal(size=(15, 6)) * 0.05
)


@pytest.fixture
def _screen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    EFFECTS.drop(index="KLF1_MYC").rename_axis("gene").to_csv("screen.csv")
    wanted = EFFECTS.loc["KLF1_MYC"].rename("log2FoldChange").rename_axis("gene")
    wanted.to_csv("target.csv")
    return tmp_path


def proposed(*words: object) -> list[str]:
    assert command("propose", "screen.csv", "--model", "additive", "-o", "out.csv", *words) == 0
    return list(pd.read_csv("out.csv")["perturbation"])


@pytest.mark.usefixtures("_screen")
def test_labels_are_taken_as_the_file_writes_them(capsys: pytest.CaptureFixture[str]) -> None:
    assert proposed("--target", "GATA1_MYC")[0] == "GATA1+MYC"
    assert "GATA1+MYC (a condition of the data" in capsys.readouterr().out
    pd.Series(["KLF1_MYC", "myc+klf1", "HLA-A_TP53"][::2], name="perturbation").to_csv("list.csv", index=False)
    assert (
        command("rank", "screen.csv", "--target", "target.csv", "--experiments", "list.csv", "--model", "additive")
        == 0
    )


@pytest.mark.usefixtures("_screen")
def test_lists_of_what_is_left_out_may_name_what_is_not_there(capsys: pytest.CaptureFixture[str]) -> None:
    Path("essential.txt").write_text("symbol\nTP53 (7157)\nBRCA1\nhla-a\n")
    found = proposed("--target", "target.csv", "--exclude", "essential.txt", "--measured", "keep")
    assert "essential.txt: 2 of 4 names are in the data" in capsys.readouterr().err
    assert not any("TP53" in name or "HLA-A" in name for name in found)
    Path("sets.gmt").write_text("ESSENTIAL\thttp\tTP53\tRPL3\nOTHER\thttp\tMYC\n")
    proposed("--target", "target.csv", "--exclude", "sets.gmt", "--measured", "keep")
    assert "sets.gmt: 2 of 3 names" in capsys.readouterr().err
    assert command("propose", "screen.csv", "--target", "target.csv", "--exclude", "BRCA1") == 3


@pytest.mark.usefixtures("_screen")
def test_names_left_out_are_taken_as_files_and_people_write_them(capsys: pytest.CaptureFixture[str]) -> None:
    for words in ("tp53", "TP53+ctrl", "tp53_control", "P53"):
        found = proposed("--target", "target.csv", "--exclude", words, "--measured", "keep")
        assert not any("TP53" in name for name in found)
    Path("list.csv").write_text("gene,score\nTP53,2.5\nBRCA1,1\n")
    proposed("--target", "target.csv", "--exclude", "list.csv", "--measured", "keep")
    assert "list.csv: 1 of 3 names" in capsys.readouterr().err


@pytest.mark.usefixtures("_screen")
def test_rows_of_a_target_without_a_value_are_left_out(capsys: pytest.CaptureFixture[str]) -> None:
    text = Path("target.csv").read_text()
    Path("target.csv").write_text(text + "OFF1,NA\nOFF2,\n")
    assert proposed("--target", "target.csv")[0] == "KLF1+MYC"
    assert "2 without a value left out" in capsys.readouterr().out


@pytest.mark.usefixtures("_screen")
def test_ratios_are_no_differences(capsys: pytest.CaptureFixture[str]) -> None:
    ratios = (2 ** EFFECTS.loc["KLF1_MYC"]).rename("foldchange").rename_axis("gene")
    ratios.to_csv("ratios.csv")
    assert command("propose", "screen.csv", "--target", "ratios.csv", "--model", "additive") == 3
    assert "take their log2" in capsys.readouterr().err


@pytest.mark.usefixtures("_screen")
def test_a_hyphen_is_a_separator_when_stated(capsys: pytest.CaptureFixture[str]) -> None:
    EFFECTS.rename(index=lambda label: label.replace("_", "-")).rename_axis("gene").to_csv("dash.csv")
    for words in (("--sep", "-"), ("--sep=-",)):
        assert command("check", "dash.csv", *words) == 0
        assert "15: 5 singles, 10 doubles" in capsys.readouterr().out


@pytest.fixture
def _cells(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    labels = [*GENES, *PAIRS, "non-targeting", "untreated"]
    rows = [label for label in labels for _ in range(4)]
    means = [EFFECTS.loc[label].to_numpy() if label in EFFECTS.index else np.zeros(6) for label in rows]
    counts = RNG.poisson(np.exp(np.asarray(means) * 0.3 + 2))
    obs = pd.DataFrame({"gene": rows}, index=[f"c{row}" for row in range(len(rows))])
    layers = {"lognorm": np.log1p(counts / counts.sum(1, keepdims=True) * 50)}
    var = pd.DataFrame(index=list(READOUTS))
    anndata.AnnData(counts.astype(np.float32), obs=obs, var=var, layers=layers).write_h5ad("cells.h5ad")
    return tmp_path


BOTH = ("--reference-key", "non-targeting", "--reference-key", "untreated")


@pytest.mark.usefixtures("_cells")
def test_several_controls_are_pooled_when_named(capsys: pytest.CaptureFixture[str]) -> None:
    assert command("check", "cells.h5ad") == 3
    assert "--reference-key 'non-targeting' --reference-key 'untreated'" in " ".join(
        capsys.readouterr().err.split()
    )
    assert command("check", "cells.h5ad", "--reference-key", "non-targeting") == 3
    assert "looks like a control as well" in " ".join(capsys.readouterr().err.split())
    for words in (BOTH, ("--reference-key", "non-targeting,untreated")):
        assert command("check", "cells.h5ad", *words) == 0
        assert "15: 5 singles, 10 doubles" in capsys.readouterr().out


@pytest.mark.usefixtures("_cells")
def test_counts_are_said_by_check_and_refused_by_propose(capsys: pytest.CaptureFixture[str]) -> None:
    assert command("check", "cells.h5ad", *BOTH) == 0
    assert "X holds whole numbers (counts of molecules)" in " ".join(capsys.readouterr().out.split())
    asked = ("propose", "cells.h5ad", *BOTH, "--target", "KLF1_MYC", "--model", "additive")
    assert command(*asked) == 3
    said = " ".join(capsys.readouterr().err.split())
    assert all(option in said for option in ("--layer-key lognorm", "--normalise", "--no-normalise"))
    for told in (("--normalise",), ("--no-normalise",), ("--layer-key", "lognorm")):
        assert command(*asked, *told) == 0


@pytest.mark.usefixtures("_screen")
def test_two_guides_of_a_gene_are_never_proposed_together(capsys: pytest.CaptureFixture[str]) -> None:
    guides = {"GATA1": "sgKLF1-1", "HLA-A": "sgKLF1-2", "KLF1": "sgMYC-1", "MYC": "sgMYC-2"}
    named = EFFECTS.drop(index="TP53").rename(
        index=lambda label: "+".join(guides.get(p, p) for p in label.split("_"))
    )
    named = named[[("TP53" not in label) for label in named.index]]
    named.rename_axis("gene").to_csv("guides.csv")
    assert command("check", "guides.csv") == 0
    assert "two guides of one gene are never proposed together" in " ".join(capsys.readouterr().out.split())
    words = ("--target", "target.csv", "--model", "additive", "--measured", "keep", "-o", "out.csv")
    assert command("propose", "guides.csv", *words) == 0
    found = set(pd.read_csv("out.csv")["perturbation"])
    assert found == {f"sgKLF1-{one}+sgMYC-{other}" for one in "12" for other in "12"}
