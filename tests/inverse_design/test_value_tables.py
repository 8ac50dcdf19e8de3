"""Tables with a number per name, as they come from laboratories."""

from pathlib import Path

import pandas as pd
import pytest

from inverse_design.value_tables import read_value_table, text_table

TABLE = pd.DataFrame({"gene": ["G1", "G2", "G3"], "log2FoldChange": ["0.5", "-1.25", "NA"]})


@pytest.mark.parametrize("ending", ["csv", "tsv", "txt", "xlsx", "parquet", "csv.gz"])
@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
def test_any_way_to_save_it_reads_the_same(tmp_path: Path, ending: str, delimiter: str) -> None:
    path = tmp_path / f"t.{ending}"
    blank = pd.concat([TABLE.iloc[:1], pd.DataFrame({"gene": [""], "log2FoldChange": [""]}), TABLE.iloc[1:]])
    if ending == "xlsx":
        blank.to_excel(path, index=False)
    elif ending == "parquet":
        TABLE.to_parquet(path)
    else:
        blank.to_csv(path, index=False, sep=delimiter)
    assert text_table(path).to_dict("list") == TABLE.to_dict("list")
    found = read_value_table(path)
    assert (found.names, found.values) == (("G1", "G2"), (0.5, -1.25))
    assert found.origin.endswith("1 without a value left out")
