# A DataFrame in, an answer out: rows are what was done, columns are what was measured.
from pathlib import Path

import pandas as pd

from inverse_design import Screen, propose

here = Path(__file__).parent
frame = pd.read_csv(here / "screen.csv", index_col="condition").filter(regex=r"^G\d+$")
wanted = pd.read_csv(here / "target.csv", index_col="gene")["effect"]  # wanted effects by readout
answer = propose(Screen.from_frame(frame), wanted, top=5)
print(answer, answer.table[["perturbation", "distance", "lower", "upper", "probability"]], sep="\n\n")
