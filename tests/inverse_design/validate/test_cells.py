"""The benchmark of models of cells: rows, their intervals, and the verb."""

import json
from pathlib import Path

import anndata
import numpy as np
import pandas as pd
import pytest
import torch
from strategies.cells import planted
from strategies.worlds import command

from inverse_design.validate.cells import LESS, REFERENCE, cell_losses, cell_rows, named_cell_models
from surrogates.errors import UnknownNameError
from surrogates.evaluation.cell_scorecard import SIMPLEST, judge_cells


def save(folder: Path) -> Path:
    cells, _ = planted(each=8)
    cells = cells.rows(torch.nonzero(cells.codes % 3 < 2).flatten())  # one perturbation is enough
    obs = pd.DataFrame({
        "perturbation": [cells.perturbations[code].label or "control" for code in cells.codes.tolist()],
        "cell_type": [cells.contexts[code] for code in cells.codes.tolist()],
    }, index=[f"c{number}" for number in range(len(cells))])  # fmt: skip
    path = folder / "cells.h5ad"
    values = np.log1p(cells.values.clamp(min=0).numpy()).astype(np.float32)
    anndata.AnnData(values, obs=obs, var=pd.DataFrame(index=list(cells.readouts))).write_h5ad(path)
    return path


def test_intervals_are_over_contexts_and_differences_are_paired() -> None:
    cells, _ = planted(each=8)
    report = judge_cells(cells, named_cell_models(["transport_shift"]), seed=0)
    rows = {
        (row.model, row.variant, row.metric): row for row in cell_rows(report, dataset="d", seed=0, samples=200)
    }
    mean = rows["transport_shift", "mean", "e_distance"]
    assert mean.value == pytest.approx(float(report.column("transport_shift", "e_distance").mean()))
    assert mean.low < mean.value < mean.high
    paired = rows["transport_shift", "mean", "e_distance" + LESS]
    assert paired.value == pytest.approx(mean.value - rows[REFERENCE, "mean", "e_distance"].value)
    assert not any(model in {*SIMPLEST, REFERENCE} and metric.endswith(LESS) for model, _, metric in rows)
    assert np.isnan(rows["transport_shift", "A in K", "e_distance"].low)
    worse = [row for row in cell_losses([*rows.values()]) if "e distance" in row]
    assert bool(worse) == (paired.high >= 0)
    with pytest.raises(
        UnknownNameError, match="unknown model of cells 'transport': did you mean 'transport_shift'"
    ):
        named_cell_models(["transport"])


def test_the_verb_prints_tables_and_writes_rows(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data, place = save(tmp_path), tmp_path / "rows.json"
    asked = ("benchmark", "cells", data, "--models", "two_factor_cells", "--samples", "50")
    assert command(*asked, "--mode", "compound", "-o", place) == 0
    said = capsys.readouterr().out
    assert "other_half" in said
    assert "conformal bounds for a new context at 80%, by 4 held-out ones" in said
    content = json.loads(place.read_text())
    assert content["manifest"]["settings"]["bounds"][REFERENCE]["level"] == 0.8
    assert {row["metric"] for row in content["rows"]} >= {"average_precision", "i_mae", "wasserstein"}
    assert command(*asked, "--mode", "compound", "--level", "0.9") == 0
    assert "no bounds for a new context: 4 held-out contexts support levels up to 0.8" in capsys.readouterr().out
    assert command(*asked, "--mode", "compound", "--dry-run", "--json") == 0
    assert json.loads(capsys.readouterr().out)["what"] == "cells: 64 cells on 30 readouts, 1 model"
    assert command(*asked, "--mode", "compound", "--hold-out", "combination") == 3
    assert command(*asked, "--mode", "compound", "--sums", tmp_path / "kept") == 3
    assert "--sums says nothing of single cells" in capsys.readouterr().err
    assert command("benchmark", "cells", "norman2019_expr") == 3
    assert command("benchmark", "cells", data, "--samples", "1") == 2
    assert "--samples" in capsys.readouterr().err
    assert command("benchmark", "cells", data, "--models", "transport") == 2
